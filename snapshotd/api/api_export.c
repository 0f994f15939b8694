/*
 * The bytes are sent as they are made: a failure before the first has a status,
 * a later one breaks the connection off. The tree is held: the snapshot may be
 * deleted meanwhile.
 */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/base/log.h"
#include "store/export/export.h"

struct export_reply {
	struct api_call *c;
	char disposition[256];
};

static int export_write(void *arg, const void *data, size_t len)
{
	struct export_reply *r = arg;
	struct http_request *rq = r->c->rq;

	if (!http_stream_begun(rq)) {
		int rc;

		http_reply_header(rq, "Content-Disposition", r->disposition);
		rc = http_stream_begin(rq, 200, "application/x-tar");
		if (rc < 0)
			return rc;
	}
	return http_stream_write(rq, data, len);
}

/* ?check=1: only what would be left out, or why it is refused. */
static int export_answer_check(struct api_call *c, const struct digest *root,
			       enum export_format format, struct error *err)
{
	struct remarks remarks;
	int rc = export_check(c->api->store, root, format, &remarks, err);

	if (rc < 0)
		return rc;
	return api_result(c, 200, json_pack("{s:o}", "remarks", remarks_to_json(&remarks)), err);
}

static int export_send(struct export_reply *r, const struct snapshot *s, enum export_format format,
		       struct error *err)
{
	struct store *store = r->c->api->store;
	struct progress *p = api_cancellation(r->c);
	const struct export_image img = { &s->root, s->config, s->name[0] ? s->name : s->id };

	if (format == EXPORT_OCI)
		return export_oci_stream(store, &img, export_write, r, p, err);
	return export_tar(store, &s->root, export_write, r, p, err);
}

int api_export(struct api_call *c, struct error *err)
{
	struct export_reply r = { .c = c };
	struct store *store = c->api->store;
	const char *name = api_capture(c, 0), *format;
	struct snapshot s = { 0 };
	struct store_hold hold;
	bool oci, check = false;
	int rc = api_query(c, err, "format", "check", NULL);

	if (rc == 0)
		rc = query_bool(&c->query, "check", &check, err);

	if (rc < 0)
		return rc;
	format = query_get(&c->query, "format");
	oci = format && strcmp(format, "oci") == 0;
	if (format && !oci && strcmp(format, "tar") != 0)
		return error_set(err, -EINVAL, "format \"%s\" is not tar or oci", format);
	rc = api_hold_snapshot(c, name, &s, &hold, err);
	if (rc < 0)
		return rc;
	if (snapshots_touch(store->snapshots, s.id) < 0)
		log_debug("snapshot %s is not marked as used", s.id);
	/* Names are of letters that need no quoting (snapshot_name_check). */
	snprintf(r.disposition, sizeof(r.disposition), "attachment; filename=\"%s%s.tar\"",
		 s.name[0] ? s.name : s.id, oci ? ".oci" : "");
	enum export_format kind = oci ? EXPORT_OCI : EXPORT_TAR;
	rc = check ? export_answer_check(c, &s.root, kind, err) : export_send(&r, &s, kind, err);
	if (rc == -EREMOTEIO)
		c->fail_status = 502;
	if (!check)
		metrics_work(&c->api->metrics, METRICS_EXPORT, rc < 0);
	store_release(store, &hold);
	snapshot_fini(&s);
	return rc;
}
