/* Work on a bucket as a whole: collection and verification. */
#include "snapshotd/api/api.h"

#include <errno.h>

#include "store/share/collect.h"
#include "store/share/share_verify.h"

#define PROBLEMS_MAX 1000 /* told in words; all are counted */
#define SECONDS_MAX (10ull * 365 * 24 * 60 * 60)

/* What is asked, and of which remote: the caller releases it. */
static int read_request(struct api_call *c, const struct field *fields, size_t n,
			struct remote **out, struct error *err)
{
	json_t *body = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_body(c, fields, n, &body, err);
	json_decref(body);
	return rc < 0 ? rc : api_remote_get(c, api_capture(c, 0), out, err);
}

/* ---- collection ---- */

static json_t *collected_json(const struct remote *r, bool dry_run, const struct collect_result *c)
{
	return json_pack(
		"{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
		"s:I, s:I, s:I}",
		"remote", remote_name(r), "dryRun", dry_run, "round", (json_int_t)c->round,
		"snapshots", (json_int_t)c->snapshots, "packs", (json_int_t)c->packs, "bytes",
		(json_int_t)c->bytes, "garbagePacks", (json_int_t)c->garbage_packs, "garbageBytes",
		(json_int_t)c->garbage_bytes, "removedPacks", (json_int_t)c->deleted_packs,
		"removedBytes", (json_int_t)c->deleted_bytes, "sparsePacks",
		(json_int_t)c->repacked.sparse_packs, "sparseBytes",
		(json_int_t)c->repacked.sparse_bytes, "repackedPacks",
		(json_int_t)c->repacked.packs, "repackedBytes", (json_int_t)c->repacked.bytes,
		"rewrittenBytes", (json_int_t)c->repacked.written_bytes, "endedPushes",
		(json_int_t)c->given_up, "freedRecords", (json_int_t)c->freed);
}

static int collect(struct api_call *c, struct remote *r, const struct collect_options *opt,
		   struct error *err)
{
	struct collect_result res;
	struct progress *p;
	int rc = opt->dry_run ? 0 : api_share_failure(c, false, remote_writable(r, err));

	if (rc < 0)
		return rc;
	p = api_progress(c, err);
	if (!p)
		return err->code;
	rc = collect_run(r, opt, p, &res, err);
	metrics_work(&c->api->metrics, METRICS_REMOTE_GC, rc < 0);
	atomic_fetch_add_explicit(&c->api->metrics.repacked_bytes, res.repacked.bytes,
				  memory_order_relaxed);
	rc = api_share_failure(c, false, rc);
	return rc < 0 ? rc : api_result(c, 200, collected_json(r, opt->dry_run, &res), err);
}

int api_remote_gc(struct api_call *c, struct error *err)
{
	struct collect_options opt = COLLECT_DEFAULTS;
	uint64_t grace = COLLECT_GRACE_S, give_up = COLLECT_GIVE_UP_S;
	const struct field fields[] = {
		{ "dryRun", FIELD_BOOL, &opt.dry_run, false },
		{ "graceSeconds", FIELD_U64, &grace, false },
		{ "pushSeconds", FIELD_U64, &give_up, false },
	};
	struct remote *r = NULL;
	int rc = read_request(c, fields, ARRAY_SIZE(fields), &r, err);

	if (rc < 0)
		return rc;
	opt.grace_s = (int64_t)grace;
	opt.give_up_s = (int64_t)give_up;
	if (grace > SECONDS_MAX || give_up > SECONDS_MAX)
		rc = error_set(err, -EINVAL, "graceSeconds and pushSeconds: at most %llu",
			       SECONDS_MAX);
	if (rc == 0)
		rc = collect(c, r, &opt, err);
	remotes_release(c->api->remotes, r);
	return rc;
}

/* ---- verification ---- */

static void note_problem(void *arg, const char *key, const char *problem)
{
	json_t *problems = arg;

	if (json_array_size(problems) < PROBLEMS_MAX)
		json_array_append_new(problems, json_pack("{s:o, s:o}", "key", api_text(key),
							  "problem", api_text(problem)));
}

static json_t *verified_json(const struct remote *r, const struct share_verify_result *v,
			     json_t *problems)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "remote",
			 remote_name(r), "snapshots", (json_int_t)v->snapshots, "nodes",
			 (json_int_t)v->nodes, "chunks", (json_int_t)v->chunks, "packs",
			 (json_int_t)v->packs, "bytes", (json_int_t)v->bytes, "readPacks",
			 (json_int_t)v->read_packs, "readBytes", (json_int_t)v->read_bytes,
			 "damaged", (json_int_t)v->damaged, "unchecked", (json_int_t)v->unchecked,
			 "problems", problems);
}

static int verify(struct api_call *c, struct remote *r, bool deep, struct error *err)
{
	json_t *problems = json_array();
	struct progress *p = problems ? api_progress(c, err) : NULL;
	struct share_verify_result res;
	int rc = !problems ? -ENOMEM : !p ? err->code : 0;

	if (rc == 0) {
		rc = share_verify_run(r, deep, p, note_problem, problems, &res, err);
		metrics_work(&c->api->metrics, METRICS_REMOTE_VERIFY,
			     rc < 0 || res.damaged > 0 || res.unchecked > 0);
		rc = api_share_failure(c, false, rc);
	}
	if (rc == 0)
		rc = api_result(c, 200, verified_json(r, &res, problems), err);
	json_decref(problems);
	return rc;
}

/* What is found, or was not checked, is the result; a failure is a bucket that cannot be asked. */
int api_remote_verify(struct api_call *c, struct error *err)
{
	bool deep = false;
	const struct field fields[] = { { "deep", FIELD_BOOL, &deep, false } };
	struct remote *r = NULL;
	int rc = read_request(c, fields, ARRAY_SIZE(fields), &r, err);

	if (rc < 0)
		return rc;
	rc = verify(c, r, deep, err);
	remotes_release(c->api->remotes, r);
	return rc;
}
