/*
 * api_dashboard.c - the dashboard's files, put into the program as they are, and
 * the figures that it plots. The page holds nothing of the store: all that it
 * shows it asks for through the API, with the key that the user gives it.
 */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/state/stats_history.h"
#include "store/base/clock.h"
#include "store/base/hash.h"

#define POINTS_DEFAULT 500
#define POINTS_MAX 5000

/* Nothing from elsewhere, nothing inline, no text that becomes markup or script. */
static const char policy[] =
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
	"require-trusted-types-for 'script'; trusted-types 'none'";

#define HTML "text/html; charset=utf-8"
#define CSS "text/css; charset=utf-8"
#define JS "text/javascript; charset=utf-8"
#define SVG "image/svg+xml"

/* name of the symbol, file, type */
#define ASSETS(X)                        \
	X(index, "index.html", HTML)     \
	X(style, "style.css", CSS)       \
	X(icon, "icon.svg", SVG)         \
	X(app, "app.js", JS)             \
	X(api, "api.js", JS)             \
	X(builds, "builds.js", JS)       \
	X(dialogs, "dialogs.js", JS)     \
	X(diff, "diff.js", JS)           \
	X(dom, "dom.js", JS)             \
	X(format, "format.js", JS)       \
	X(lineage, "lineage.js", JS)     \
	X(log, "log.js", JS)             \
	X(mounts, "mounts.js", JS)       \
	X(new, "new.js", JS)             \
	X(plot, "plot.js", JS)           \
	X(remotes, "remotes.js", JS)     \
	X(sandboxes, "sandboxes.js", JS) \
	X(snapshots, "snapshots.js", JS) \
	X(store, "store.js", JS)         \
	X(table, "table.js", JS)

#define EMBED(sym, file, type)                               \
	__asm__(".pushsection .rodata\n"                     \
		"dashboard_" #sym ":\n"                      \
		".incbin \"snapshotd/dashboard/" file "\"\n" \
		"dashboard_" #sym "_end:\n"                  \
		".byte 0\n"                                  \
		".popsection\n");                            \
	extern const char dashboard_##sym[], dashboard_##sym##_end[];
ASSETS(EMBED)

struct asset {
	const char *file, *type, *data, *end;
};
#define ROW(sym, file, type) { file, type, dashboard_##sym, dashboard_##sym##_end },
static const struct asset assets[] = { ASSETS(ROW) };

static const struct asset *asset_of(const struct api_call *c)
{
	const char *file = c->match.captures[0] ? api_capture(c, 0) : "index.html";

	for (size_t i = 0; i < ARRAY_SIZE(assets); i++)
		if (strcmp(assets[i].file, file) == 0)
			return &assets[i];
	return NULL;
}

/* '"' and hex digits and '"': of the content, so it is the same after a restart. */
static int asset_etag(const struct asset *a, char out[DIGEST_HEX_SIZE + 2])
{
	struct digest d;
	int rc = hash_bytes(a->data, (size_t)(a->end - a->data), &d);

	if (rc < 0)
		return rc;
	out[0] = '"';
	digest_to_hex(&d, out + 1);
	strcat(out, "\"");
	return 0;
}

int api_dashboard_check(struct api_call *c, struct error *err)
{
	const char *known = http_header(c->rq, "If-None-Match");
	const struct asset *a = asset_of(c);
	char etag[DIGEST_HEX_SIZE + 2];

	(void)err;
	c->not_modified = a && known && asset_etag(a, etag) == 0 && strstr(known, etag);
	return 0;
}

int api_dashboard(struct api_call *c, struct error *err)
{
	const struct asset *a = asset_of(c);
	char etag[DIGEST_HEX_SIZE + 2], *body;
	size_t len;
	int rc;

	if (!a)
		return error_set(err, -ENOENT, "the dashboard has no file %s", api_capture(c, 0));
	rc = asset_etag(a, etag);
	if (rc < 0)
		return error_set_errno(err, rc, "cannot hash %s", a->file);
	http_reply_header(c->rq, "ETag", etag);
	http_reply_header(c->rq, "Cache-Control", "no-cache"); /* ask each time; mostly 304 */
	http_reply_header(c->rq, "Content-Security-Policy", policy);
	http_reply_header(c->rq, "X-Content-Type-Options", "nosniff");
	if (c->not_modified) {
		http_reply(c->rq, 304, NULL, NULL, 0);
		return 0;
	}
	len = (size_t)(a->end - a->data);
	body = malloc(len);
	if (!body)
		return error_set(err, -ENOMEM, "out of memory");
	memcpy(body, a->data, len);
	http_reply(c->rq, 200, a->type, body, len);
	return 0;
}

static json_t *sample_to_json(const struct stats_sample *s)
{
	char time[TIME_TEXT_SIZE];

	time_to_text(s->time_ms, time);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "time", time, "snapshotCount",
			 (json_int_t)s->snapshot_count, "logicalBytes",
			 (json_int_t)s->logical_bytes, "uniqueBytes", (json_int_t)s->unique_bytes,
			 "storedBytes", (json_int_t)s->stored_bytes, "chunkCount",
			 (json_int_t)s->chunk_count, "nodeCount", (json_int_t)s->node_count);
}

/* ?seconds=N: of the last N seconds; ?points=N: at most so many. */
int api_stats_history(struct api_call *c, struct error *err)
{
	uint64_t seconds = 0, points = POINTS_DEFAULT;
	struct stats_sample *list = NULL;
	size_t n = 0;
	json_t *a;
	int rc = api_query(c, err, "seconds", "points", NULL);

	if (rc == 0)
		rc = query_u64(&c->query, "seconds", &seconds, err);
	if (rc == 0)
		rc = query_u64(&c->query, "points", &points, err);
	if (rc == 0 && (points < 2 || points > POINTS_MAX))
		rc = error_set(err, -EINVAL, "points must be 2 to %d", POINTS_MAX);
	if (rc == 0) {
		bool all = seconds == 0 || seconds > INT32_MAX;

		rc = stats_history_read(c->api->history,
					all ? 0 : clock_ms() - (int64_t)seconds * 1000,
					(size_t)points, &list, &n);
		if (rc < 0)
			error_set(err, rc, "out of memory");
	}
	if (rc < 0)
		return rc;
	a = json_array();
	for (size_t i = 0; i < n && a; i++) {
		if (json_array_append_new(a, sample_to_json(&list[i]))) {
			json_decref(a);
			a = NULL;
		}
	}
	free(list);
	return api_result(c, 200, a, err);
}
