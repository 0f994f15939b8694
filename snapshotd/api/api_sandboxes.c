#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/build/manifest.h"
#include "snapshotd/sandbox/sandbox_checkpoints.h"
#include "snapshotd/sandbox/sandboxes.h"
#include "store/base/log.h"

#define TIMEOUT_MAX_S (3650ull * 86400)
#define MEMORY_MB_MIN 16
#define MEMORY_MB_MAX (1u << 24)
#define DISK_MB_MAX (1u << 30)
#define CPUS_MAX 1024
#define METADATA_MAX (64u << 10) /* bytes of its JSON */

static int reply_sandbox(struct api_call *c, int status, struct sandbox *sb, struct error *err)
{
	return api_result(c, status, sandbox_to_json(sb), err);
}

int api_sandboxes_list(struct api_call *c, struct error *err)
{
	struct sandbox **list;
	struct api_list l;
	size_t n;
	int rc = api_list_begin_plain(&l, c, err);

	if (rc == 0 && (rc = sandboxes_list(c->api->sandboxes, &list, &n)) < 0)
		error_set(err, rc, "out of memory");
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < n; i++) {
		if (rc == 0 && api_list_wants(&l, sandbox_id(list[i])))
			rc = api_list_add(&l, sandbox_to_json(list[i]));
		sandbox_put(list[i]);
	}
	free(list);
	return api_list_end(&l, rc, err);
}

int api_sandbox_get(struct api_call *c, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	return rc < 0 ? rc : reply_sandbox(c, 200, sb, err);
}

int api_sandbox_delete(struct api_call *c, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	/* The SDK may ask for its secret store to be deleted too: there is none. */
	int rc = api_query(c, err, "deleteSecretStore", NULL);

	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	if (rc == 0)
		rc = sandbox_kill(sb, err);
	return rc < 0 ? rc : api_no_content(c);
}

static int timeout_check(uint64_t timeout_s, struct error *err)
{
	if (timeout_s > TIMEOUT_MAX_S)
		return error_set(err, -EINVAL, "timeout is at most %llu seconds", TIMEOUT_MAX_S);
	return 0;
}

int api_sandbox_timeout(struct api_call *c, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	uint64_t timeout = 0;
	const struct field fields[] = { { "timeout", FIELD_U64, &timeout, true } };
	json_t *body = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	if (rc == 0)
		rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);
	json_decref(body);
	if (rc == 0)
		rc = timeout_check(timeout, err);
	if (rc == 0)
		rc = sandbox_set_timeout(sb, timeout, err);
	return rc < 0 ? rc : api_no_content(c);
}

/* ---- making one ---- */

/* What a body says of a new sandbox; borrowed from it. */
struct create {
	struct sandbox_spec spec;
	const char *snapshot;
	json_t *image;
};

static int not_supported(const char *name, const json_t *v, struct error *err)
{
	if (!v || (json_is_array(v) && json_array_size(v) == 0))
		return 0;
	return error_set(err, -EINVAL, "%s is not supported", name);
}

static int spec_check(const struct sandbox_spec *s, struct error *err)
{
	enum mount_cache cache;
	char *text;
	size_t len = 0;

	if (s->cache && mount_cache_parse(s->cache, &cache, err) < 0)
		return -EINVAL;
	if (s->memory_mb && (s->memory_mb < MEMORY_MB_MIN || s->memory_mb > MEMORY_MB_MAX))
		return error_set(err, -EINVAL, "memoryMB is %d to %u", MEMORY_MB_MIN,
				 MEMORY_MB_MAX);
	if (s->disk_mb > DISK_MB_MAX)
		return error_set(err, -EINVAL, "diskMB is at most %u", DISK_MB_MAX);
	if (s->cpus > CPUS_MAX || (s->cpus > 0 && s->cpus < 0.01))
		return error_set(err, -EINVAL, "cpuCount is 0.01 to %d", CPUS_MAX);
	if (s->template_id && strlen(s->template_id) > SNAPSHOT_NAME_MAX)
		return error_set(err, -EINVAL, "templateID is too long");
	if (s->metadata) {
		text = json_dumps(s->metadata, JSON_COMPACT);
		len = text ? strlen(text) : 0;
		free(text);
	}
	if (len > METADATA_MAX)
		return error_set(err, -EINVAL, "metadata has more than %u bytes", METADATA_MAX);
	if (s->envs && envs_check(s->envs, err) < 0)
		return -EINVAL;
	return timeout_check(s->timeout_s, err);
}

/* with_source: else what it is made from is not in the body. *body owns the strings. */
static int create_parse(struct api_call *c, bool with_source, struct create *cr, json_t **body,
			struct error *err)
{
	struct sandbox_spec *s = &cr->spec;
	json_t *secrets = NULL, *webhooks = NULL, *preview = NULL, *ignored = NULL;
	const struct field fields[] = {
		{ "timeout", FIELD_U64, &s->timeout_s, false },
		{ "envs", FIELD_OBJECT, &s->envs, false },
		{ "metadata", FIELD_OBJECT, &s->metadata, false },
		{ "memoryMB", FIELD_U64, &s->memory_mb, false },
		{ "cpuCount", FIELD_NUMBER, &s->cpus, false },
		{ "diskMB", FIELD_U64, &s->disk_mb, false },
		{ "cache", FIELD_STRING, &s->cache, false },
		{ "secretStore", FIELD_ANY, &secrets, false },
		{ "webhooks", FIELD_ANY, &webhooks, false },
		{ "previewAuth", FIELD_ANY, &preview, false },
		{ "burst", FIELD_ANY, &ignored, false },
		{ "sandboxFamily", FIELD_ANY, &ignored, false },
		{ "templateID", FIELD_STRING, &s->template_id, false },
		{ "snapshot", FIELD_STRING, &cr->snapshot, false },
		{ "image", FIELD_IMAGE, &cr->image, false },
	};
	int rc;

	*cr = (struct create){ 0 };
	rc = api_body_known(c, fields, ARRAY_SIZE(fields), body, err);
	if (rc == 0 && !with_source && (s->template_id || cr->snapshot || cr->image))
		rc = error_set(err, -EINVAL, "a fork has no image, snapshot or templateID");
	if (rc == 0)
		rc = not_supported("secretStore", secrets, err);
	if (rc == 0)
		rc = not_supported("webhooks", webhooks, err);
	if (rc == 0)
		rc = not_supported("previewAuth", preview, err);
	if (rc == 0)
		rc = spec_check(s, err);
	if (rc == 0 && cr->snapshot && cr->image)
		rc = error_set(err, -EINVAL, "give an image or a snapshot, not both");
	return rc;
}

/* Whether a template's name means the default one. */
static bool is_default_template(const char *t)
{
	return !t || !*t || strcmp(t, "base") == 0 || strcmp(t, "default") == 0 ||
	       strcmp(t, "ubuntu") == 0;
}

static int resolve_template(struct api_call *c, const char *template_id, struct snapshot *out,
			    struct error *err)
{
	int rc;

	if (!is_default_template(template_id))
		return api_ready_snapshot(c, template_id, out, err);
	rc = builds_template(c->api->builds, out, err);
	if (rc == -ENOENT)
		c->fail_status = 422;
	return rc;
}

static int resolve_image(struct api_call *c, const json_t *image, struct snapshot *out,
			 struct error *err)
{
	struct build_outcome oc = { 0 };
	struct manifest m;
	int rc = manifest_parse(image, &m, err);

	if (rc < 0)
		return rc;
	rc = api_resolve_image(c, &m, NULL, &oc, err);
	manifest_fini(&m);
	return rc < 0 ? rc : api_ready_snapshot(c, oc.snapshot_id, out, err);
}

/* The snapshot that it is to be made from. Begins the events. */
static int resolve(struct api_call *c, struct create *cr, struct snapshot *out, struct error *err)
{
	int rc;

	if (cr->image)
		return resolve_image(c, cr->image, out, err);
	rc = cr->snapshot ? api_ready_snapshot(c, cr->snapshot, out, err)
			  : resolve_template(c, cr->spec.template_id, out, err);
	if (rc == 0 && !api_progress(c, err)) {
		snapshot_fini(out);
		rc = err->code;
	}
	return rc;
}

static bool is_cancelled(void *arg)
{
	struct api_call *c = arg;

	return http_cancelled(c->rq);
}

/* The sandbox that a daemon which has died has made for this call; false: none. */
static bool find_made(struct api_call *c, struct sandbox **out)
{
	struct error ignored = ERROR_INIT;
	char id[SANDBOX_ID_SIZE];

	if (!c->once.again)
		return false;
	sandbox_id_of(c->once.id, id);
	return sandboxes_get(c->api->sandboxes, id, out, &ignored) == 0;
}

/* Make it of a ready snapshot and reply. */
static int create_from(struct api_call *c, const struct snapshot *snap, struct sandbox_spec *spec,
		       struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	char id[SANDBOX_ID_SIZE];
	int rc;

	if (find_made(c, &sb))
		return reply_sandbox(c, 201, sb, err);
	if (*c->once_key) {
		sandbox_id_of(c->once.id, id);
		spec->id = id;
	}
	if (!spec->template_id)
		spec->template_id = "base";
	spec->cancelled = is_cancelled;
	spec->arg = c;
	rc = sandboxes_create(c->api->sandboxes, snap, spec, &sb, err);
	metrics_work(&c->api->metrics, METRICS_SANDBOX, rc < 0);
	if (rc == 0 && http_cancelled(c->rq)) {
		/* Nobody will learn its id. */
		if (sandbox_kill(sb, err) < 0)
			log_error("sandbox %s: %s", sandbox_id(sb), error_text(err));
		return error_set(err, -ECANCELED, "the client has gone");
	}
	return rc < 0 ? rc : reply_sandbox(c, 201, sb, err);
}

int api_sandbox_create(struct api_call *c, struct error *err)
{
	struct snapshot snap = { 0 };
	struct create cr = { 0 };
	json_t *body = NULL;
	/* Of builds; api_resolve_image reads them. */
	int rc = api_query(c, err, "force", "keepFailed", NULL);

	if (rc == 0)
		rc = create_parse(c, true, &cr, &body, err);
	if (rc == 0)
		rc = resolve(c, &cr, &snap, err);
	if (rc == 0)
		rc = create_from(c, &snap, &cr.spec, err);
	snapshot_fini(&snap);
	json_decref(body);
	return rc;
}

/* What the checkpoint's sandbox had, where the body says nothing else. *envs: to be decref'd. */
static int inherit(struct sandbox_spec *spec, const struct sandbox_config *config, json_t **envs)
{
	if (!spec->memory_mb)
		spec->memory_mb = config->memory_mb;
	if (!spec->disk_mb)
		spec->disk_mb = config->disk_mb;
	if (spec->cpus == 0)
		spec->cpus = config->cpus;
	if (!spec->cache)
		spec->cache = config->shared_cache ? "shared" : "private";
	if (config->template_id[0])
		spec->template_id = config->template_id;
	if (!config->envs)
		return 0;
	*envs = json_copy(config->envs);
	if (!*envs || (spec->envs && json_object_update(*envs, spec->envs) < 0))
		return -ENOMEM;
	spec->envs = *envs;
	return 0;
}

int api_sandbox_fork(struct api_call *c, struct error *err)
{
	struct sandbox_config config = { 0 };
	struct snapshot snap = { 0 };
	json_t *body = NULL, *envs = NULL;
	struct create cr = { 0 };
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = create_parse(c, false, &cr, &body, err);
	if (rc == 0)
		rc = checkpoint_ready(c->api->sandboxes, NULL, api_capture(c, 0), &snap, &config,
				      err);
	if (rc == 0 && (rc = inherit(&cr.spec, &config, &envs)) < 0)
		error_set(err, rc, "out of memory");
	if (rc == 0 && !api_progress(c, err))
		rc = err->code;
	if (rc == 0)
		rc = create_from(c, &snap, &cr.spec, err);
	snapshot_fini(&snap);
	sandbox_config_fini(&config);
	json_decref(envs);
	json_decref(body);
	return rc;
}
