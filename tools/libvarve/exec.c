/* exec.c - commands in a sandbox, and its files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/base64.h"
#include "store/base/buf.h"
#include "tools/libvarve/connection.h"
#include "tools/libvarve/image.h"
#include "tools/libvarve/records.h"

/* ---- commands ---- */

#define R(member, name) TEXT_FIELD(struct varve_exec_result, member, name)
static const struct record_field result_fields[] = {
	FLAG_FIELD(struct varve_exec_result, running, "running"),
	R(out, "stdout"),
	R(err, "stderr"),
	R(error, "error"),
};
static const struct record_type result_type = {
	"the result of a command",	  result_fields, ARRAY_SIZE(result_fields),
	sizeof(struct varve_exec_result), NO_JSON,
};

static int put(json_t *o, const char *name, json_t *value)
{
	return json_object_set_new(o, name, value) < 0 ? -ENOMEM : 0;
}

static int put_text(json_t *o, const char *name, const char *s, const char *what, struct error *err)
{
	json_t *text = NULL;
	int r = image_text(s, what, &text, err);

	return r < 0 ? r : put(o, name, text);
}

static int put_args(json_t *o, const char *const *argv, struct error *err)
{
	json_t *args = json_array();
	int r = put(o, "args", args);

	for (; r == 0 && *argv; argv++) {
		json_t *text = NULL;
		r = image_text(*argv, "an argument", &text, err);
		if (r == 0 && json_array_append_new(args, text) < 0)
			r = -ENOMEM;
	}
	return r;
}

/* What it reads may be any bytes. */
static int put_stdin(json_t *o, const void *data, size_t len)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	int r = base64_encode(data, len, &text);

	return r < 0 ? r
		     : put(o, "stdinBase64",
			   json_stringn(text.len ? (const char *)text.data : "", text.len));
}

static int exec_body(const struct varve_exec_options *opt, json_t **out, struct error *err)
{
	json_auto_t *o = json_object();
	json_t *envs = NULL;
	int r = o ? 0 : -ENOMEM;

	if (!opt->argv || !opt->argv[0])
		return error_set(err, -EINVAL, "there is no command");
	if (r == 0)
		r = put_text(o, "cmd", opt->argv[0], "the command", err);
	if (r == 0)
		r = put_args(o, opt->argv + 1, err);
	if (r == 0)
		r = put(o, "timeout", json_integer((json_int_t)opt->timeout_s));
	if (r == 0 && opt->cwd)
		r = put_text(o, "cwd", opt->cwd, "the directory", err);
	if (r == 0 && opt->envs)
		r = image_pairs(opt->envs, "a variable", &envs, err);
	if (r == 0 && envs)
		r = put(o, "envs", envs);
	if (r == 0 && opt->stdin_data)
		r = put_stdin(o, opt->stdin_data, opt->stdin_len);
	if (r == 0)
		*out = STEAL(o);
	return r;
}

static int exec_post(struct varve_client *c, const char *path, const char *sandbox_id,
		     const struct varve_exec_options *o, json_t **out, struct varve_error *err)
{
	json_auto_t *body = NULL;
	struct error why = ERROR_INIT;
	int r = exec_body(o, &body, &why);
	struct call call = { .method = "POST", .body = body, .fd = -1 };

	if (r < 0)
		return image_report(&why, r, err);
	return connection_run(c, &call, out, err, path, sandbox_id);
}

static int result_new(json_t *j, struct varve_exec_result **out, struct varve_error *err)
{
	struct varve_exec_result *result;
	void *record = NULL;
	int r = record_new(&result_type, j, &record, err);

	if (r < 0)
		return r;
	result = record;
	j = (json_t *)record_json(record);
	result->exit_code = (int)json_integer_value(json_object_get(j, "exitCode"));
	result->out_len = json_string_length(json_object_get(j, "stdout"));
	result->err_len = json_string_length(json_object_get(j, "stderr"));
	*out = result;
	return 0;
}

int varve_exec_run(struct varve_client *c, const char *sandbox_id,
		   const struct varve_exec_options *o, struct varve_exec_result **out,
		   struct varve_error *err)
{
	json_t *j = NULL;
	int r = exec_post(c, "/api/sandboxes/%s/exec/run", sandbox_id, o, &j, err);

	return r < 0 ? r : result_new(j, out, err);
}

int varve_exec_start(struct varve_client *c, const char *sandbox_id,
		     const struct varve_exec_options *o, char **exec_id, struct varve_error *err)
{
	json_auto_t *j = NULL;
	struct error why = ERROR_INIT;
	int r = exec_post(c, "/api/sandboxes/%s/exec/run-async", sandbox_id, o, &j, err);

	if (r < 0)
		return r;
	const char *id = json_string_value(json_object_get(j, "execId"));
	if (!id) {
		error_set(&why, -EBADMSG, "snapshotd's answer has no \"execId\"");
		return image_report(&why, -EBADMSG, err);
	}
	char *copy = strdup(id);
	if (!copy)
		return image_report(NULL, -ENOMEM, err);
	*exec_id = copy;
	return 0;
}

int varve_exec_get(struct varve_client *c, const char *sandbox_id, const char *exec_id,
		   struct varve_exec_result **out, struct varve_error *err)
{
	struct call call = { .method = "GET", .fd = -1 };
	json_t *j = NULL;
	int r = connection_run(c, &call, &j, err, "/api/sandboxes/%s/exec/%s/result", sandbox_id,
			       exec_id);

	return r < 0 ? r : result_new(j, out, err);
}

void varve_exec_result_free(struct varve_exec_result *r)
{
	record_free(r);
}

/* ---- files ---- */

#define FILES "/api/sandboxes/%s/files"

static const struct record_field file_fields[] = {
	TEXT_FIELD(struct varve_file, name, "name"),
	TEXT_FIELD(struct varve_file, path, "path"),
	FLAG_FIELD(struct varve_file, is_dir, "isDir"),
	NUMBER_FIELD(struct varve_file, size_bytes, "size"),
};
static const struct record_type file_type = {
	"a file", file_fields, ARRAY_SIZE(file_fields), sizeof(struct varve_file), NO_JSON,
};

int varve_file_read(struct varve_client *c, const char *sandbox_id, const char *path,
		    int (*on_data)(void *arg, const void *data, size_t len), void *arg,
		    struct varve_error *err)
{
	struct call call = { .method = "GET", .on_data = on_data, .arg = arg, .fd = -1 };

	return connection_run(c, &call, NULL, err, FILES "?path=%s", sandbox_id, path);
}

static int append_to_buf(void *arg, const void *data, size_t len)
{
	return buf_append(arg, data, len);
}

int varve_file_read_all(struct varve_client *c, const char *sandbox_id, const char *path,
			char **out, size_t *out_len, struct varve_error *err)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int r = varve_file_read(c, sandbox_id, path, append_to_buf, &b, err);

	if (r < 0)
		return r;
	if (!buf_cstr(&b))
		return image_report(NULL, -ENOMEM, err);
	if (out_len)
		*out_len = b.len;
	*out = (char *)STEAL(b.data);
	return 0;
}

int varve_file_write(struct varve_client *c, const char *sandbox_id, const char *path,
		     const void *data, size_t len, struct varve_error *err)
{
	struct call call = { .method = "PUT", .upload = true, .data = data, .len = len, .fd = -1 };

	return connection_run(c, &call, NULL, err, FILES "?path=%s", sandbox_id, path);
}

int varve_file_write_fd(struct varve_client *c, const char *sandbox_id, const char *path, int fd,
			struct varve_error *err)
{
	struct call call = { .method = "PUT", .upload = true, .fd = fd };

	if (fd < 0)
		return image_report(NULL, -EBADF, err);
	return connection_run(c, &call, NULL, err, FILES "?path=%s", sandbox_id, path);
}

int varve_file_list(struct varve_client *c, const char *sandbox_id, const char *path,
		    struct varve_file ***out, struct varve_error *err)
{
	struct call call = { .method = "GET", .fd = -1 };
	void **list = NULL;
	json_t *j = NULL;
	int r = connection_run(c, &call, &j, err, FILES "/list?path=%s", sandbox_id, path);

	if (r == 0)
		r = records_new(&file_type, j, &list, err);
	if (r == 0)
		*out = (struct varve_file **)list;
	return r;
}

void varve_files_free(struct varve_file **list)
{
	records_free((void **)list);
}

int varve_file_mkdir(struct varve_client *c, const char *sandbox_id, const char *path,
		     struct varve_error *err)
{
	struct call call = { .method = "POST", .fd = -1 };

	return connection_run(c, &call, NULL, err, FILES "/mkdir?path=%s", sandbox_id, path);
}

int varve_file_remove(struct varve_client *c, const char *sandbox_id, const char *path,
		      struct varve_error *err)
{
	struct call call = { .method = "DELETE", .fd = -1 };

	return connection_run(c, &call, NULL, err, FILES "?path=%s", sandbox_id, path);
}
