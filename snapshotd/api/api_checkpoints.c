#include "snapshotd/api/api.h"

#include <errno.h>
#include <string.h>

#include "snapshotd/sandbox/sandbox_checkpoints.h"
#include "snapshotd/sandbox/sandboxes.h"

#define RETENTION_MAX 10000

/* {"mode": "none"} or {"mode": "delete_oldest", "maxCount": N}. *keep 0: all. */
static int retention_parse(const json_t *policy, uint64_t *keep, struct error *err)
{
	const char *mode = NULL;
	uint64_t max_count = RETENTION_MAX_DEFAULT;
	const struct field fields[] = {
		{ "mode", FIELD_STRING, &mode, true },
		{ "maxCount", FIELD_U64, &max_count, false },
	};
	int rc;

	*keep = 0;
	if (!policy)
		return 0;
	rc = fields_parse(policy, fields, ARRAY_SIZE(fields), err);
	if (rc < 0)
		return error_prefix(err, rc, "retentionPolicy");
	if (strcmp(mode, "none") == 0)
		return 0;
	if (strcmp(mode, "delete_oldest") != 0)
		return error_set(err, -EINVAL,
				 "retentionPolicy: mode is \"none\" or \"delete_oldest\"");
	if (max_count < 1 || max_count > RETENTION_MAX)
		return error_set(err, -EINVAL, "retentionPolicy: maxCount is 1 to %d",
				 RETENTION_MAX);
	*keep = max_count;
	return 0;
}

static int checkpoint_parse(struct api_call *c, const char **name, uint64_t *keep, json_t **body,
			    struct error *err)
{
	json_t *policy = NULL;
	const char *kind = NULL;
	bool promote = false;
	const struct field fields[] = {
		{ "name", FIELD_STRING, name, true },
		{ "retentionPolicy", FIELD_OBJECT, &policy, false },
		{ "kind", FIELD_STRING, &kind, false },
		{ "promoteToFull", FIELD_BOOL, &promote, false },
	};
	int rc = api_body_known(c, fields, ARRAY_SIZE(fields), body, err);

	if (rc == 0 && ((kind && strcmp(kind, "disk_only") != 0) || promote))
		rc = error_set(err, -EINVAL,
			       "only \"disk_only\" checkpoints can be made: files "
			       "are kept, the memory of processes is not");
	return rc == 0 ? retention_parse(policy, keep, err) : rc;
}

struct made {
	const char *id;
	json_t *found; /* or NULL */
};

static int find_one(void *arg, const char *id, const json_t *j)
{
	struct made *m = arg;

	if (strcmp(id, m->id) != 0 || strcmp(json_record_text(j, "status"), "failed") == 0)
		return 0;
	m->found = json_deep_copy(j);
	return 1;
}

/* The checkpoint that a daemon which has died has taken for this call, or NULL. */
static json_t *find_made(struct api_call *c)
{
	struct made m = { .id = c->once.id };
	struct error ignored = ERROR_INIT;

	if (!c->once.again)
		return NULL;
	(void)!checkpoints_each(c->api->sandboxes, api_capture(c, 0), find_one, &m, &ignored);
	return m.found;
}

int api_checkpoint_create(struct api_call *c, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	struct sandbox_checkpoint_wish wish = { .id = api_once_id(c) };
	struct checkpoint_times times = { 0 };
	json_t *body = NULL, *j;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	if (rc == 0)
		rc = checkpoint_parse(c, &wish.name, &wish.keep, &body, err);
	if (rc == 0 && (j = find_made(c))) {
		json_decref(body);
		return api_result(c, 201, j, err);
	}
	if (rc == 0) {
		rc = sandbox_checkpoint(sb, &wish, &j, &times, err);
		metrics_work(&c->api->metrics, METRICS_CHECKPOINT, rc < 0);
	}
	json_decref(body);
	if (rc < 0)
		return rc;
	atomic_store_explicit(&c->api->metrics.checkpoint_pause_ns, times.pause_ns,
			      memory_order_relaxed);
	atomic_store_explicit(&c->api->metrics.checkpoint_frozen_ns, times.frozen_ns,
			      memory_order_relaxed);
	rc = checkpoint_times_tell(&times, j);
	if (rc == 0)
		return api_result(c, 201, j, err);
	json_decref(j);
	return error_set(err, rc, "out of memory");
}

int api_checkpoints_list(struct api_call *c, struct error *err)
{
	struct api_list l;
	int rc = api_list_begin_plain(&l, c, err);

	if (rc < 0)
		return rc;
	rc = checkpoints_each(c->api->sandboxes, api_capture(c, 0), api_list_item, &l, err);
	return api_list_end(&l, rc, err);
}

int api_checkpoint_delete(struct api_call *c, struct error *err)
{
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = checkpoint_delete(c->api->sandboxes, api_capture(c, 0), api_capture(c, 1),
				       err);
	return rc < 0 ? rc : api_no_content(c);
}

int api_checkpoint_restore(struct api_call *c, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	struct snapshot snap = { 0 };
	json_t *body = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_body(c, NULL, 0, &body, err);
	json_decref(body);
	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	if (rc == 0)
		rc = checkpoint_ready(c->api->sandboxes, api_capture(c, 0), api_capture(c, 1),
				      &snap, NULL, err);
	if (rc == 0)
		rc = sandbox_restore(sb, &snap, err);
	snapshot_fini(&snap);
	return rc < 0 ? rc : api_result(c, 200, sandbox_to_json(sb), err);
}
