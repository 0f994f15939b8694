/* The table of remotes: what this daemon knows buckets by. */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshotd/api/host_place.h"
#include "store/base/log.h"
#include "store/bucket/object_probe.h"

#define ADD_ROUNDS 10 /* of the checks that a service must pass to be added */
#define ROUNDS_MAX 1000u

/* With "bucket", its uuid, once it is known. */
static json_t *remote_json(struct api_call *c, const struct remote_config *rc)
{
	char bucket[SNAPSHOT_ID_SIZE];
	json_t *j = remote_config_json(rc);

	remotes_bucket(c->api->remotes, rc->name, bucket);
	if (j &&
	    json_object_set_new(j, "bucket", *bucket ? json_string(bucket) : json_null()) < 0) {
		json_decref(j);
		return NULL;
	}
	return j;
}

static int list_remote(void *arg, const struct remote_config *rc)
{
	struct api_list *l = arg;

	return api_list_wants(l, rc->name) ? api_list_add(l, remote_json(l->c, rc)) : 0;
}

int api_remotes_list(struct api_call *c, struct error *err)
{
	struct api_list l;
	int rc = api_query(c, err, API_LIST_QUERY, NULL);

	if (rc == 0)
		rc = api_list_begin(&l, c, err);
	if (rc < 0)
		return rc;
	rc = remotes_each(c->api->remotes, list_remote, &l, err);
	return api_list_end(&l, rc, err);
}

static int reply_remote(struct api_call *c, int status, const char *name, struct error *err)
{
	struct remote_config config;
	int rc = remotes_config(c->api->remotes, name, &config, err);

	if (rc < 0)
		return rc;
	rc = api_result(c, status, remote_json(c, &config), err);
	remote_config_fini(&config);
	return rc;
}

int api_remote_show(struct api_call *c, struct error *err)
{
	int rc = api_query(c, err, NULL);

	return rc < 0 ? rc : reply_remote(c, 200, api_capture(c, 0), err);
}

int api_remote_delete(struct api_call *c, struct error *err)
{
	bool force = false;
	int rc = api_query(c, err, "force", NULL);

	if (rc == 0)
		rc = query_bool(&c->query, "force", &force, err);
	if (rc == 0)
		rc = remotes_remove(c->api->remotes, api_capture(c, 0), force, err);
	return rc < 0 ? rc : api_no_content(c);
}

/* ---- adding ---- */

/* A path that `prefix` stands before in a member: only where the client may name it. */
static int check_place(struct api_call *c, const char *member, const char *prefix, char **text,
		       struct error *err)
{
	size_t skip = strlen(prefix);
	char *real = NULL, *whole = NULL;
	int fd, rc;

	if (!*text || strncmp(*text, prefix, skip) != 0)
		return 0;
	rc = api_host_place(c, member, *text + skip, &fd, err);
	if (rc < 0 || fd < 0)
		return rc;
	rc = host_place_path(fd, &real);
	close(fd);
	if (rc == 0 && asprintf(&whole, "%s%s", prefix, real) < 0)
		rc = -ENOMEM;
	free(real);
	if (rc < 0)
		return error_set_errno(err, rc, "%s", member);
	free(*text);
	*text = whole;
	return 0;
}

/* What a remote has the daemon read or run on this host. */
static int check_places(struct api_call *c, struct remote_config *rc, struct error *err)
{
	static const char process[] = "process:";
	bool limited = http_needs_key(c->rq) || c->api->socket_host_roots;
	int r;

	if (limited && rc->credentials && strncmp(rc->credentials, process, strlen(process)) == 0)
		return error_set(err, -EACCES,
				 "credentials: a command is run by the daemon: name it in its "
				 "config file");
	if (limited && rc->key_command)
		return error_set(err, -EACCES,
				 "keyCommand: a command is run by the daemon: name it in its "
				 "config file");
	r = check_place(c, "url", "file://", &rc->url, err);
	if (r == 0)
		r = check_place(c, "keyFile", "", &rc->key_file, err);
	if (r == 0)
		r = check_place(c, "caFile", "", &rc->ca_file, err);
	if (r == 0)
		r = check_place(c, "credentials", "file:", &rc->credentials, err);
	return r;
}

/* The first check that failed. */
static const struct object_check *failed_check(const struct object_probe *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->checks[i].result == CHECK_FAILED)
			return &p->checks[i];
	return NULL;
}

/* A service that does not do what it says would lose snapshots: it is not taken. */
static int refuse_liars(struct api_call *c, const struct remote_config *config, struct error *err)
{
	const struct object_check *failed;
	struct object_probe probe;
	struct remote *r;
	int rc;

	if (config->read_only || remote_config_dir(config))
		return 0;
	rc = api_remote_get(c, config->name, &r, err);
	if (rc < 0)
		return rc;
	rc = api_share_failure(c, true, object_probe(remote_objects(r), ADD_ROUNDS, &probe, err));
	remotes_release(c->api->remotes, r);
	failed = rc == 0 ? failed_check(&probe) : NULL;
	if (failed) {
		c->fail_status = 422;
		rc = error_set(err, -EINVAL, "the service cannot be used: %s: %s", failed->name,
			       failed->text);
	}
	if (rc < 0 && remotes_remove(c->api->remotes, config->name, true, NULL) < 0)
		log_warn("remote %s stays, although it cannot be used", config->name);
	return rc;
}

int api_remote_add(struct api_call *c, struct error *err)
{
	const char *text;
	bool flag;
	uint64_t number;
	const struct field fields[] = {
		{ "name", FIELD_STRING, &text, true },
		{ "url", FIELD_STRING, &text, true },
		{ "endpoint", FIELD_STRING, &text, false },
		{ "region", FIELD_STRING, &text, false },
		{ "proxy", FIELD_STRING, &text, false },
		{ "caFile", FIELD_STRING, &text, false },
		{ "credentials", FIELD_STRING, &text, false },
		{ "keyFile", FIELD_STRING, &text, false },
		{ "keyCommand", FIELD_STRING, &text, false },
		{ "alternate", FIELD_STRING, &text, false },
		{ "pathStyle", FIELD_BOOL, &flag, false },
		{ "readOnly", FIELD_BOOL, &flag, false },
		{ "permanent", FIELD_BOOL, &flag, false },
		{ "timeoutSeconds", FIELD_U64, &number, false },
	};
	struct remote_config config = { 0 };
	json_t *body = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);
	if (rc == 0)
		rc = remote_config_parse(body, &config, err);
	if (rc == 0)
		rc = check_places(c, &config, err);
	if (rc == 0 && (rc = remotes_add(c->api->remotes, &config, err)) < 0) {
		/* A place that is not there, or no bucket, is what the client named. */
		if (rc == -ENOENT || rc == -ENOTDIR)
			c->fail_status = 400;
		else
			rc = api_share_failure(c, true, rc);
	}
	if (rc == 0)
		rc = refuse_liars(c, &config, err);
	if (rc == 0)
		rc = reply_remote(c, 201, config.name, err);
	remote_config_fini(&config);
	json_decref(body);
	return rc;
}

/* ---- another key ---- */

/* The places of a key, as a remote that has nothing else. */
static int parse_key_places(struct api_call *c, struct remote_config *out, bool *keep,
			    struct error *err)
{
	const char *file = NULL, *command = NULL;
	const struct field fields[] = {
		{ "keyFile", FIELD_STRING, &file, false },
		{ "keyCommand", FIELD_STRING, &command, false },
		{ "keepOld", FIELD_BOOL, keep, false },
	};
	json_t *body = NULL;
	int rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);

	if (rc == 0 && !file == !command)
		rc = error_set(err, -EINVAL, "one of keyFile and keyCommand is needed");
	if (rc == 0 && file && file[0] != '/')
		rc = error_set(err, -EINVAL, "keyFile: an absolute path is needed");
	if (rc == 0) {
		out->key_file = file ? strdup(file) : NULL;
		out->key_command = command ? strdup(command) : NULL;
		rc = out->key_file || out->key_command ? check_places(c, out, err) : -ENOMEM;
	}
	json_decref(body);
	return rc;
}

int api_remote_rekey(struct api_call *c, struct error *err)
{
	struct remote_config now = { 0 };
	bool keep = false;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = parse_key_places(c, &now, &keep, err);
	if (rc == 0)
		rc = api_share_failure(
			c, true,
			remotes_rekey(c->api->remotes, api_capture(c, 0), &now, keep, err));
	if (rc == 0)
		rc = reply_remote(c, 200, api_capture(c, 0), err);
	remote_config_fini(&now);
	return rc;
}

/* ---- checks ---- */

static json_t *checks_json(const struct object_probe *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->n && list; i++) {
		const struct object_check *k = &p->checks[i];

		if (json_array_append_new(list,
					  json_pack("{s:s, s:s, s:o}", "name", k->name, "result",
						    object_check_result_text(k->result), "text",
						    api_text(k->text))) == 0)
			continue;
		json_decref(list);
		list = NULL;
	}
	return list;
}

/* What it borrows of: {"name", "bucket": its uuid or null, "error": why it cannot be used, or
 * null}; null: nothing. */
static json_t *alternate_json(struct api_call *c, struct remote *r)
{
	struct remote_config config = { 0 };
	struct error why = ERROR_INIT;
	const struct remote *other;
	bool lacks;
	json_t *j;

	if (remotes_config(c->api->remotes, remote_name(r), &config, NULL) < 0 ||
	    !config.alternate) {
		remote_config_fini(&config);
		return json_null();
	}
	lacks = remote_lacks_alternate(r, &why);
	other = remote_alternate(r);
	j = json_pack("{s:s, s:s?, s:o}", "name", config.alternate, "bucket",
		      other ? remote_uuid(other) : NULL, "error",
		      lacks ? api_text(error_text(&why)) : json_null());
	remote_config_fini(&config);
	return j;
}

static json_t *probe_json(struct api_call *c, struct remote *r, const struct object_probe *p)
{
	return json_pack("{s:s, s:s, s:b, s:b, s:b, s:o, s:b, s:f, s:f, s:o}", "remote",
			 remote_name(r), "bucket", remote_uuid(r), "readOnly",
			 remote_objects(r)->read_only, "encrypted", remote_is_encrypted(r),
			 "permanent", remote_is_permanent(r), "alternate", alternate_json(c, r),
			 "usable", p->usable, "readMs", (double)p->get_us / 1000, "writeMs",
			 (double)p->put_us / 1000, "checks", checks_json(p));
}

/* What is found is the result; a failure is a bucket that cannot be asked. Opens it anew. */
int api_remote_check(struct api_call *c, struct error *err)
{
	struct object_probe probe;
	struct remote *r;
	uint64_t rounds = 0;
	int rc = api_query(c, err, "rounds", NULL);

	if (rc == 0)
		rc = query_u64(&c->query, "rounds", &rounds, err);
	if (rc == 0 && rounds > ROUNDS_MAX)
		rc = error_set(err, -EINVAL, "query parameter \"rounds\": at most %u", ROUNDS_MAX);
	if (rc < 0)
		return rc;
	remotes_reopen(c->api->remotes, api_capture(c, 0));
	rc = api_remote_get(c, api_capture(c, 0), &r, err);
	if (rc < 0)
		return rc;
	rc = object_probe(remote_objects(r), (unsigned)rounds, &probe, err);
	if (rc == 0)
		rc = api_result(c, 200, probe_json(c, r, &probe), err);
	else
		api_share_failure(c, true, rc);
	remotes_release(c->api->remotes, r);
	return rc;
}
