/*
 * Files of a sandbox. Every call is a command of the agent that runs inside the
 * container as the image's user (snapshotd/container/init/files.c): a path, with all the
 * symlinks in it, means what it means there, and nothing outside can be meant.
 * What comes back is taken for what a process of the sandbox says: it may lie.
 */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/http/json_items.h"
#include "snapshotd/sandbox/sandboxes.h"
#include "snapshotd/http/upload.h"
#include "store/base/clock.h"
#include "store/base/buf.h"

#define LIST_MAX (64u << 20) /* bytes of a directory's list */
#define LIST_ITEM_MAX (64u << 10)
#define SAID_MAX 1024 /* bytes of what went wrong */

/* How long an upload whose client has gone, or whose daemon ends, may take before it is killed. */
#define UPLOAD_GRACE_MS 5000
#define UPLOAD_STOP_MS 1000

struct file_call {
	struct api_call *c;
	struct sandbox *sb;
	bool stream;	 /* stdout is the reply, else it is collected */
	int failure;	 /* -errno: the output cannot be passed on */
	struct buf out;	 /* collected */
	struct buf said; /* stderr */
	bool uploads;
	int64_t gone_ms; /* since when nobody waits for the upload; 0: somebody does */
};

static int check_path(struct api_call *c, const char **out, struct error *err)
{
	const char *path = query_get(&c->query, "path");

	if (!path || !*path)
		return error_set(err, -EINVAL, "query parameter \"path\" is missing");
	if (path[0] != '/')
		return error_set(err, -EINVAL, "path \"%.200s\" is not absolute", path);
	if (strlen(path) >= PATH_MAX)
		return error_set(err, -EINVAL, "the path is too long");
	*out = path;
	return 0;
}

static bool is_closing(void *arg)
{
	return sandbox_is_closing(arg);
}

/* A client that is slow must not keep the sandbox from being stopped. */
static int pass_on(struct file_call *f, const void *data, size_t len)
{
	struct http_request *rq = f->c->rq;
	int rc = 0;

	if (!http_stream_begun(rq))
		rc = http_stream_begin(rq, 200, "application/octet-stream");
	return rc == 0 ? api_stream_write(f->c, data, len, is_closing, f->sb) : rc;
}

/* Charged to what the request holds. */
static int collect(struct file_call *f, const void *data, size_t len)
{
	int rc = len > LIST_MAX - f->out.len ? -EFBIG : http_hold(f->c->rq, len);

	return rc < 0 ? rc : buf_append(&f->out, data, len);
}

static void on_output(void *arg, int stream, const void *data, size_t len)
{
	struct file_call *f = arg;
	int rc;

	if (f->failure)
		return;
	if (stream == 2)
		rc = buf_append(&f->said, data, MIN(len, SAID_MAX - f->said.len));
	else if (f->stream)
		rc = pass_on(f, data, len);
	else
		rc = collect(f, data, len);
	f->failure = rc;
}

static bool is_cancelled(void *arg)
{
	struct file_call *f = arg;

	if (f->failure || sandbox_is_closing(f->sb))
		return true;
	if (!http_cancelled(f->c->rq))
		return false;
	/* An upload then ends short, and the agent takes away what it has written: if it may. */
	if (!f->uploads)
		return true;
	if (!f->gone_ms)
		f->gone_ms = monotonic_ms();
	return monotonic_ms() - f->gone_ms >=
	       (http_stopping(f->c->rq) ? UPLOAD_STOP_MS : UPLOAD_GRACE_MS);
}

static int status_of_errno(int code)
{
	switch (code) {
	case ENOENT:
		return 404;
	case EINVAL:
	case ENOTDIR:
	case ELOOP:
	case ENAMETOOLONG:
		return 400;
	case EACCES:
	case EPERM:
		return 403;
	case ENOSPC:
	case EDQUOT:
		return 507;
	default: /* EISDIR, EROFS, EBUSY, ... */
		return 409;
	}
}

/* "2 /x: No such file or directory", as the agent says it. */
static int agent_failed(struct file_call *f, const struct exec_result *res, struct error *err)
{
	const char *text = buf_cstr(&f->said);
	char *end;
	long code = text ? strtol(text, &end, 10) : 0;

	if (code <= 0 || code > 4095 || *end != ' ') {
		f->c->fail_status = 409;
		return error_set(err, -EIO,
				 "the agent has failed in the sandbox (exit code %d)%s%s",
				 res->exit_code, text && *text ? ": " : "", text ? text : "");
	}
	f->c->fail_status = status_of_errno((int)code);
	end[strcspn(end, "\n")] = '\0';
	return error_set(err, -(int)code, "%s", end + 1);
}

/* Why it was given up, or what the agent's end means. */
static int outcome(struct file_call *f, int rc, const struct exec_result *res, struct error *err)
{
	if (rc == -ESRCH || (rc == 0 && res->cancelled && sandbox_is_closing(f->sb)))
		return error_set(err, -ENOTCONN, "sandbox %s has been stopped meanwhile",
				 sandbox_id(f->sb));
	if (rc < 0)
		return rc;
	if (f->failure)
		return error_set_errno(err, f->failure, "the reply");
	if (res->cancelled || f->gone_ms)
		return error_set(err, -ECANCELED, "cancelled");
	return res->exit_code ? agent_failed(f, res, err) : 0;
}

/* Run a command of the agent. stdin_fd may be -1. */
static int agent(struct file_call *f, const char *command, const char *path, int stdin_fd,
		 struct error *err)
{
	char *argv[] = { CONTAINER_AGENT, (char *)command, (char *)path, NULL };
	char *env[] = { NULL };
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct exec_result res = { 0 };
	struct container *container;
	int rc = sandbox_enter(f->sb, &container, err);

	if (rc < 0)
		return rc;
	rq.argv = argv;
	rq.env = env;
	rq.user = sandbox_user(f->sb);
	f->uploads = stdin_fd >= 0;
	rq.stdin_fd = stdin_fd;
	rq.on_output = on_output;
	rq.cancelled = is_cancelled;
	rq.arg = f;
	rc = container_exec(container, &rq, &res, err);
	rc = outcome(f, rc, &res, err);
	sandbox_leave(f->sb);
	return rc;
}

/* The query's names have been checked. */
static int file_call_open(struct file_call *f, struct api_call *c, const char **path,
			  struct error *err)
{
	int rc = check_path(c, path, err);

	*f = (struct file_call){ .c = c };
	return rc == 0 ? sandboxes_get(c->api->sandboxes, api_capture(c, 0), &f->sb, err) : rc;
}

static int file_call_begin(struct file_call *f, struct api_call *c, const char **path,
			   struct error *err)
{
	int rc = api_query(c, err, "path", NULL);

	*f = (struct file_call){ .c = c };
	return rc == 0 ? file_call_open(f, c, path, err) : rc;
}

static void file_call_end(struct file_call *f)
{
	buf_fini(&f->out);
	buf_fini(&f->said);
	if (f->sb)
		sandbox_put(f->sb);
}

/* A command without input or output. */
static int simple(struct api_call *c, const char *command, struct error *err)
{
	struct file_call f;
	const char *path;
	int rc = file_call_begin(&f, c, &path, err);

	if (rc == 0)
		rc = agent(&f, command, path, -1, err);
	file_call_end(&f);
	return rc < 0 ? rc : api_no_content(c);
}

/* What is not there is removed already. */
int api_file_delete(struct api_call *c, struct error *err)
{
	struct file_call f;
	const char *path;
	int rc = file_call_begin(&f, c, &path, err);

	if (rc == 0 && (rc = agent(&f, "file-remove", path, -1, err)) == -ENOENT &&
	    c->fail_status == 404)
		rc = 0;
	file_call_end(&f);
	return rc < 0 ? rc : api_no_content(c);
}

int api_file_mkdir(struct api_call *c, struct error *err)
{
	return simple(c, "file-mkdir", err);
}

int api_file_get(struct api_call *c, struct error *err)
{
	struct file_call f;
	const char *path;
	int rc = file_call_begin(&f, c, &path, err);

	f.stream = true;
	if (rc == 0)
		rc = agent(&f, "file-read", path, -1, err);
	file_call_end(&f);
	if (rc == 0 && !http_stream_begun(c->rq))
		http_reply(c->rq, 200, "application/octet-stream", NULL, 0);
	return rc;
}

/* A file's id in the list: its name, or a '/' and its nameBase64, which is no name. */
static int list_item(void *arg, const json_t *item)
{
	const char *base64 = json_string_value(json_object_get(item, "nameBase64"));
	const char *name = json_string_value(json_object_get(item, "name"));
	char id[NAME_MAX * 2];

	if (!base64)
		return api_list_item(arg, name ? name : "", item);
	snprintf(id, sizeof(id), "/%s", base64);
	return api_list_item(arg, id, item);
}

/* Its text may be long, and a tree of it much longer. */
static int list_send(struct file_call *f, struct api_list *l, struct error *err)
{
	int rc =
		json_items_each((const char *)f->out.data, f->out.len, LIST_ITEM_MAX, list_item, l);

	if (rc == -EBADMSG) {
		f->c->fail_status = 409;
		error_set(err, rc, "the sandbox's agent gave no list");
	} else if (rc < 0) {
		error_set_errno(err, rc, "the reply");
	}
	return api_list_end(l, rc, err);
}

int api_file_list(struct api_call *c, struct error *err)
{
	struct file_call f = { .c = c };
	struct api_list l;
	const char *path;
	int rc = api_query(c, err, "path", API_LIST_QUERY, NULL);

	if (rc == 0)
		rc = api_list_begin(&l, c, err);
	if (rc == 0)
		rc = file_call_open(&f, c, &path, err);
	if (rc == 0)
		rc = agent(&f, "file-list", path, -1, err);
	if (rc == 0)
		rc = list_send(&f, &l, err);
	file_call_end(&f);
	return rc;
}

/* Before the body is read: whether there is a sandbox to take it. */
int api_file_put_check(struct api_call *c, struct error *err)
{
	struct file_call f;
	const char *path;
	int rc = file_call_begin(&f, c, &path, err);

	file_call_end(&f);
	return rc;
}

int api_file_put(struct api_call *c, struct error *err)
{
	struct upload *upload = NULL;
	struct file_call f;
	const char *path;
	int fd = -1, rc = file_call_begin(&f, c, &path, err);

	if (rc == 0)
		rc = upload_start(c->rq, &upload, &fd, err);
	if (rc == 0)
		rc = agent(&f, "file-put", path, fd, err);
	if (upload && !upload_finish(upload) && rc == 0)
		rc = error_set(err, -ECANCELED, "the body did not come whole");
	file_call_end(&f);
	return rc < 0 ? rc : api_no_content(c);
}
