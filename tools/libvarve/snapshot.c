/* snapshot.c - images under a name, and the builds that make them. */
#include <errno.h>
#include <stdlib.h>

#include "tools/libvarve/connection.h"
#include "tools/libvarve/image.h"
#include "tools/libvarve/records.h"

#define S(member, name) TEXT_FIELD(struct varve_snapshot, member, name)
#define N(member, name) NUMBER_FIELD(struct varve_snapshot, member, name)
static const struct record_field fields[] = {
	S(id, "id"),
	S(name, "name"),
	S(status, "status"),
	S(content_hash, "contentHash"),
	S(checkpoint_id, "checkpointId"),
	S(created_at, "createdAt"),
	S(last_used_at, "lastUsedAt"),
	S(error, "error"),
	S(root, "root"),
	S(parent, "parent"),
	S(build_id, "buildID"),
	S(share, "share"),
	{ "manifest", offsetof(struct varve_snapshot, manifest), RECORD_JSON },
	N(size_bytes, "sizeBytes"),
	N(new_bytes, "newBytes"),
	N(file_count, "fileCount"),
};
static const struct record_type type = {
	"a snapshot",
	fields,
	ARRAY_SIZE(fields),
	sizeof(struct varve_snapshot),
	offsetof(struct varve_snapshot, json),
};

static int make_body(const char *name, const struct varve_image *image, json_t **out,
		     struct error *err)
{
	json_t *text = NULL, *manifest = NULL;
	int r = image_text(name, "the snapshot's name", &text, err);

	if (r == 0)
		r = image_manifest(image, &manifest, err);
	if (r < 0) {
		json_decref(text);
		return r;
	}
	*out = json_pack("{s:o, s:o}", "name", text, "image", manifest);
	return *out ? 0 : -ENOMEM;
}

int varve_snapshot_create(struct varve_client *c, const char *name, struct varve_image *image,
			  const struct varve_build_options *o, struct varve_snapshot **out,
			  struct varve_error *err)
{
	static const struct varve_build_options none;
	static const char *const paths[] = { "/api/snapshots", "/api/snapshots?force=true",
					     "/api/snapshots?keepFailed=true",
					     "/api/snapshots?force=true&keepFailed=true" };
	json_auto_t *body = NULL;
	struct error why = ERROR_INIT;
	void *record = NULL;
	json_t *j = NULL;
	int r = make_body(name, image, &body, &why);

	if (r < 0)
		return image_report(&why, r, err);
	o = o ? o : &none;
	struct call call = {
		.method = "POST",
		.body = body,
		.fd = -1,
		.events = true,
		.on_log = o->on_log,
		.arg = o->arg,
	};
	r = connection_run(c, &call, &j, err, paths[!!o->force + 2 * !!o->keep_failed]);
	if (r == 0)
		r = record_new(&type, j, &record, err);
	if (r == 0)
		*out = record;
	return r;
}

int varve_snapshot_list(struct varve_client *c, struct varve_snapshot ***out,
			struct varve_error *err)
{
	struct call call = { .method = "GET", .fd = -1 };
	void **list = NULL;
	json_t *j = NULL;
	int r = connection_run(c, &call, &j, err, "/api/snapshots");

	if (r == 0)
		r = records_new(&type, j, &list, err);
	if (r == 0)
		*out = (struct varve_snapshot **)list;
	return r;
}

int varve_snapshot_get(struct varve_client *c, const char *name_or_id, struct varve_snapshot **out,
		       struct varve_error *err)
{
	struct call call = { .method = "GET", .fd = -1 };
	void *record = NULL;
	json_t *j = NULL;
	int r = connection_run(c, &call, &j, err, "/api/snapshots/%s", name_or_id);

	if (r == 0)
		r = record_new(&type, j, &record, err);
	if (r == 0)
		*out = record;
	return r;
}

int varve_snapshot_delete(struct varve_client *c, const char *name_or_id, struct varve_error *err)
{
	struct call call = { .method = "DELETE", .fd = -1 };

	return connection_run(c, &call, NULL, err, "/api/snapshots/%s", name_or_id);
}

/* ---- remotes ---- */

/* An object of n pairs of member and text; pairs without a text are left out. NULL: no UTF-8. */
static json_t *texts(const char *const *pairs, size_t n)
{
	json_t *o = json_object();

	for (size_t i = 0; i < n && o; i++) {
		const char *text = pairs[2 * i + 1];

		if (text && json_object_set_new(o, pairs[2 * i], json_string(text)) < 0) {
			json_decref(o);
			o = NULL;
		}
	}
	return o;
}

static int not_text(struct varve_error *err)
{
	struct error why = ERROR_INIT;

	return image_report(&why, error_set(&why, -EINVAL, "a text is not UTF-8"), err);
}

int varve_snapshot_push(struct varve_client *c, const char *name_or_id, const char *remote,
			const char *name, struct varve_error *err)
{
	const char *const pairs[] = { "remote", remote, "name", name };

	json_auto_t *body = texts(pairs, 2);
	struct call call = { .method = "POST", .body = body, .fd = -1 };

	return body ? connection_run(c, &call, NULL, err, "/api/snapshots/%s/push", name_or_id)
		    : not_text(err);
}

int varve_snapshot_pull(struct varve_client *c, const char *remote, const char *reference,
			const char *name, struct varve_snapshot **out, struct varve_error *err)
{
	const char *const pairs[] = { "remote", remote, "snapshot", reference, "name", name };
	json_auto_t *body = texts(pairs, 3);
	struct call call = { .method = "POST", .body = body, .fd = -1 };
	void *record = NULL;
	json_t *j = NULL;
	int r = body ? connection_run(c, &call, &j, err, "/api/snapshots/pull") : not_text(err);

	if (r == 0)
		r = record_new(&type, j, &record, err);
	if (r == 0 && out)
		*out = record;
	else
		record_free(record);
	return r;
}

static bool set_flag(json_t *o, const char *name, bool on)
{
	return !on || json_object_set_new(o, name, json_true()) == 0;
}

int varve_remote_add(struct varve_client *c, const char *name, const char *url,
		     struct varve_error *err)
{
	return varve_remote_add_with(c, name, url, NULL, err);
}

int varve_remote_add_with(struct varve_client *c, const char *name, const char *url,
			  const struct varve_remote_options *o, struct varve_error *err)
{
	static const struct varve_remote_options usual;

	o = o ? o : &usual;
	const char *const pairs[] = {
		"name",	       name,	       "url",	  url,	       "endpoint",   o->endpoint,
		"region",      o->region,      "proxy",	  o->proxy,    "caFile",     o->ca_file,
		"credentials", o->credentials, "keyFile", o->key_file, "keyCommand", o->key_command,
		"alternate",   o->alternate,
	};

	json_auto_t *body = texts(pairs, sizeof(pairs) / sizeof(*pairs) / 2);
	struct call call = { .method = "POST", .body = body, .fd = -1 };
	bool whole = body && set_flag(body, "pathStyle", o->path_style) &&
		     set_flag(body, "readOnly", o->read_only) &&
		     set_flag(body, "permanent", o->permanent);

	if (whole && o->timeout_s)
		whole = json_object_set_new(body, "timeoutSeconds", json_integer(o->timeout_s)) ==
			0;
	return whole ? connection_run(c, &call, NULL, err, "/api/remotes") : not_text(err);
}

int varve_remote_remove(struct varve_client *c, const char *name, struct varve_error *err)
{
	struct call call = { .method = "DELETE", .fd = -1 };

	return connection_run(c, &call, NULL, err, "/api/remotes/%s", name);
}

void varve_snapshot_free(struct varve_snapshot *s)
{
	record_free(s);
}

void varve_snapshots_free(struct varve_snapshot **list)
{
	records_free((void **)list);
}

/* ---- builds ---- */

int varve_build_logs(struct varve_client *c, const char *build_id, varve_log_fn on_log, void *arg,
		     struct varve_error *err)
{
	struct call call = {
		.method = "GET",
		.fd = -1,
		.events = true,
		.no_result = true,
		.on_log = on_log,
		.arg = arg,
	};

	return connection_run(c, &call, NULL, err, "/api/builds/%s/logs", build_id);
}

int varve_build_cancel(struct varve_client *c, const char *build_id, struct varve_error *err)
{
	struct call call = { .method = "DELETE", .fd = -1 };

	return connection_run(c, &call, NULL, err, "/api/builds/%s", build_id);
}
