/* sandbox.c - sandboxes and their checkpoints. */
#include <errno.h>
#include <stdlib.h>

#include "tools/libvarve/connection.h"
#include "tools/libvarve/image.h"
#include "tools/libvarve/records.h"

#define S(member, name) TEXT_FIELD(struct varve_sandbox, member, name)
static const struct record_field sandbox_fields[] = {
	S(id, "sandboxID"),	      S(status, "status"),
	S(template_id, "templateID"), S(from_checkpoint_id, "fromCheckpointId"),
	S(started_at, "startedAt"),
};
static const struct record_type sandbox_type = {
	"a sandbox",
	sandbox_fields,
	ARRAY_SIZE(sandbox_fields),
	sizeof(struct varve_sandbox),
	offsetof(struct varve_sandbox, json),
};

#define C(member, name) TEXT_FIELD(struct varve_checkpoint, member, name)
static const struct record_field checkpoint_fields[] = {
	C(id, "id"),
	C(sandbox_id, "sandboxId"),
	C(name, "name"),
	C(status, "status"),
	C(created_at, "createdAt"),
	C(error, "errorMsg"),
	NUMBER_FIELD(struct varve_checkpoint, size_bytes, "sizeBytes"),
};
static const struct record_type checkpoint_type = {
	"a checkpoint",
	checkpoint_fields,
	ARRAY_SIZE(checkpoint_fields),
	sizeof(struct varve_checkpoint),
	offsetof(struct varve_checkpoint, json),
};

/* ---- what a new sandbox is to be, as JSON ---- */

static int put(json_t *o, const char *name, json_t *value)
{
	return json_object_set_new(o, name, value) < 0 ? -ENOMEM : 0;
}

static int put_pairs(json_t *o, const char *name, const char *const *list, const char *what,
		     struct error *err)
{
	json_t *pairs = NULL;
	int r = list ? image_pairs(list, what, &pairs, err) : 0;

	return r == 0 && pairs ? put(o, name, pairs) : r;
}

static int put_numbers(json_t *o, const struct varve_sandbox_options *opt)
{
	double cpus = opt->cpus;
	int whole = (int)(cpus < 1e6 ? cpus : 0);
	int r = put(o, "timeout", json_integer((json_int_t)opt->timeout_s));

	if (r == 0 && opt->memory_mb)
		r = put(o, "memoryMB", json_integer((json_int_t)opt->memory_mb));
	if (r == 0 && opt->disk_mb)
		r = put(o, "diskMB", json_integer((json_int_t)opt->disk_mb));
	if (r == 0 && cpus != 0)
		r = put(o, "cpuCount",
			(double)whole == cpus ? json_integer(whole) : json_real(cpus));
	return r;
}

static int put_source(json_t *o, const struct varve_sandbox_options *opt, struct error *err)
{
	json_t *v = NULL;
	int r = 0;

	if (opt->image && opt->snapshot)
		return error_set(err, -EINVAL, "a sandbox is of an image or of a snapshot");
	if (opt->image)
		r = image_manifest(opt->image, &v, err);
	else if (opt->snapshot)
		r = image_text(opt->snapshot, "the snapshot's name", &v, err);
	return r == 0 && v ? put(o, opt->image ? "image" : "snapshot", v) : r;
}

static int make_body(const struct varve_sandbox_options *opt, bool with_source, json_t **out,
		     struct error *err)
{
	json_auto_t *o = json_object();
	int r = o ? put_numbers(o, opt) : -ENOMEM;

	if (r == 0)
		r = put_pairs(o, "envs", opt->envs, "a variable", err);
	if (r == 0)
		r = put_pairs(o, "metadata", opt->metadata, "an item of metadata", err);
	if (r == 0 && with_source)
		r = put_source(o, opt, err);
	if (r == 0)
		*out = STEAL(o);
	return r;
}

/* ---- sandboxes ---- */

static const struct varve_sandbox_options no_options;

static int create(struct varve_client *c, const char *path, const char *arg,
		  const struct varve_sandbox_options *o, struct varve_sandbox **out,
		  struct varve_error *err)
{
	json_auto_t *body = NULL;
	struct error why = ERROR_INIT;
	json_t *j = NULL;
	void *record = NULL;
	int r = make_body(o, !arg, &body, &why);

	if (r < 0)
		return image_report(&why, r, err);
	struct call call = {
		.method = "POST",
		.body = body,
		.fd = -1,
		.events = !arg && (o->image || o->snapshot),
		.on_log = o->on_log,
		.arg = o->arg,
	};
	r = connection_run(c, &call, &j, err, path, arg);
	if (r == 0)
		r = record_new(&sandbox_type, j, &record, err);
	if (r == 0)
		*out = record;
	return r;
}

int varve_sandbox_create(struct varve_client *c, const struct varve_sandbox_options *o,
			 struct varve_sandbox **out, struct varve_error *err)
{
	return create(c, "/api/sandboxes", NULL, o ? o : &no_options, out, err);
}

int varve_sandbox_fork(struct varve_client *c, const char *checkpoint_id,
		       const struct varve_sandbox_options *o, struct varve_sandbox **out,
		       struct varve_error *err)
{
	return create(c, "/api/sandboxes/from-checkpoint/%s", checkpoint_id ? checkpoint_id : "",
		      o ? o : &no_options, out, err);
}

int varve_sandbox_get(struct varve_client *c, const char *id, struct varve_sandbox **out,
		      struct varve_error *err)
{
	struct call call = { .method = "GET", .fd = -1 };
	void *record = NULL;
	json_t *j = NULL;
	int r = connection_run(c, &call, &j, err, "/api/sandboxes/%s", id);

	if (r == 0)
		r = record_new(&sandbox_type, j, &record, err);
	if (r == 0)
		*out = record;
	return r;
}

int varve_sandbox_list(struct varve_client *c, struct varve_sandbox ***out, struct varve_error *err)
{
	struct call call = { .method = "GET", .fd = -1 };
	void **list = NULL;
	json_t *j = NULL;
	int r = connection_run(c, &call, &j, err, "/api/sandboxes");

	if (r == 0)
		r = records_new(&sandbox_type, j, &list, err);
	if (r == 0)
		*out = (struct varve_sandbox **)list;
	return r;
}

int varve_sandbox_kill(struct varve_client *c, const char *id, struct varve_error *err)
{
	struct call call = { .method = "DELETE", .fd = -1 };

	return connection_run(c, &call, NULL, err, "/api/sandboxes/%s", id);
}

int varve_sandbox_set_timeout(struct varve_client *c, const char *id, unsigned timeout_s,
			      struct varve_error *err)
{
	json_auto_t *body = json_pack("{s:I}", "timeout", (json_int_t)timeout_s);
	struct call call = { .method = "POST", .body = body, .fd = -1 };

	if (!body)
		return image_report(NULL, -ENOMEM, err);
	return connection_run(c, &call, NULL, err, "/api/sandboxes/%s/timeout", id);
}

void varve_sandbox_free(struct varve_sandbox *sb)
{
	record_free(sb);
}

void varve_sandboxes_free(struct varve_sandbox **list)
{
	records_free((void **)list);
}

/* ---- checkpoints ---- */

static json_t *checkpoint_body(const char *name, unsigned max_count, struct error *err)
{
	json_t *text = NULL;

	if (image_text(name, "the checkpoint's name", &text, err) < 0)
		return NULL;
	json_t *o = json_pack("{s:o}", "name", text);
	if (o && max_count > 0 &&
	    json_object_set_new(o, "retentionPolicy",
				json_pack("{s:s, s:I}", "mode", "delete_oldest", "maxCount",
					  (json_int_t)max_count)) < 0) {
		json_decref(o);
		o = NULL;
	}
	return o;
}

int varve_checkpoint_create(struct varve_client *c, const char *sandbox_id, const char *name,
			    unsigned max_count, struct varve_checkpoint **out,
			    struct varve_error *err)
{
	struct error why = ERROR_INIT;
	json_auto_t *body = checkpoint_body(name, max_count, &why);
	struct call call = { .method = "POST", .body = body, .fd = -1 };
	void *record = NULL;
	json_t *j = NULL;

	if (!body)
		return image_report(&why, why.code ? why.code : -ENOMEM, err);
	int r = connection_run(c, &call, &j, err, "/api/sandboxes/%s/checkpoints", sandbox_id);
	if (r == 0)
		r = record_new(&checkpoint_type, j, &record, err);
	if (r == 0)
		*out = record;
	return r;
}

int varve_checkpoint_list(struct varve_client *c, const char *sandbox_id,
			  struct varve_checkpoint ***out, struct varve_error *err)
{
	struct call call = { .method = "GET", .fd = -1 };
	void **list = NULL;
	json_t *j = NULL;
	int r = connection_run(c, &call, &j, err, "/api/sandboxes/%s/checkpoints", sandbox_id);

	if (r == 0)
		r = records_new(&checkpoint_type, j, &list, err);
	if (r == 0)
		*out = (struct varve_checkpoint **)list;
	return r;
}

int varve_checkpoint_delete(struct varve_client *c, const char *sandbox_id, const char *id,
			    struct varve_error *err)
{
	struct call call = { .method = "DELETE", .fd = -1 };

	return connection_run(c, &call, NULL, err, "/api/sandboxes/%s/checkpoints/%s", sandbox_id,
			      id);
}

int varve_checkpoint_restore(struct varve_client *c, const char *sandbox_id, const char *id,
			     struct varve_error *err)
{
	struct call call = { .method = "POST", .fd = -1 };

	return connection_run(c, &call, NULL, err, "/api/sandboxes/%s/checkpoints/%s/restore",
			      sandbox_id, id);
}

void varve_checkpoint_free(struct varve_checkpoint *cp)
{
	record_free(cp);
}

void varve_checkpoints_free(struct varve_checkpoint **list)
{
	records_free((void **)list);
}
