/* cmd_export.c - from a snapshot to a tar or an OCI image layout. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/export.h"
#include "store/store.h"
#include "tools/commands.h"
#include "tools/inspect.h"
#include "tools/progress_bar.h"
#include "tools/text.h"
#include "tools/unpack.h"

/* Where the bytes go. A regular file gets its name when it is whole. */
struct sink {
	int fd;
	const char *path; /* NULL: standard output */
	char *temporary;  /* malloc'd; NULL where fd is path itself */
	struct unpack *unpack;
	struct progress_bar bar;
	uint64_t bytes, total; /* total 0: unknown */
};

static int sink_open(struct sink *s, const char *path, struct error *err)
{
	struct stat st;

	if (strcmp(path, "-") == 0) {
		if (isatty(STDOUT_FILENO))
			return error_set(err, -EINVAL, "standard output is a terminal");
		s->fd = STDOUT_FILENO;
		return 0;
	}
	s->path = path;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) { /* a device or a pipe */
		s->fd = open(path, O_WRONLY | O_CLOEXEC);
		return s->fd < 0 ? error_set_errno(err, -errno, "%s", path) : 0;
	}
	if (asprintf(&s->temporary, "%s.XXXXXX", path) < 0) {
		s->temporary = NULL;
		return -ENOMEM;
	}
	s->fd = mkostemp(s->temporary, O_CLOEXEC);
	if (s->fd < 0) {
		int code = -errno;
		free(STEAL(s->temporary));
		return error_set_errno(err, code, "%s", path);
	}
	mode_t mask = umask(0);
	umask(mask);
	if (fchmod(s->fd, 0666 & ~mask) < 0)
		return error_set_errno(err, -errno, "%s", s->temporary);
	return 0;
}

static int sink_close(struct sink *s, int result, struct error *err)
{
	if (s->path && s->fd >= 0 && close(s->fd) < 0 && result == 0)
		result = error_set_errno(err, -errno, "%s", s->path);
	if (s->temporary && result == 0 && rename(s->temporary, s->path) < 0)
		result = error_set_errno(err, -errno, "%s", s->path);
	if (s->temporary && result != 0)
		unlink(s->temporary);
	free(s->temporary);
	return result;
}

static int sink_write(void *arg, const void *data, size_t len)
{
	struct sink *s = arg;
	const char *p = data;

	s->bytes += len;
	struct progress_state state = { .phase = "exporting",
					.done_bytes = s->bytes,
					.total_bytes = s->bytes < s->total ? s->total : 0 };
	progress_bar_update(&s->bar, &state);
	if (s->unpack)
		return unpack_write(s->unpack, data, len);
	while (len > 0) {
		ssize_t n = write(s->fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int export_by_daemon(struct cli *cli, const char *name, const char *format, struct sink *s,
			    struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct client *c = cli_client(cli, err);
	struct client_request rq = { .method = "GET", .on_data = sink_write, .arg = s };

	if (!c)
		return err->code;
	if (client_path(&path, "/api/snapshots/%s/export?format=%s", name, format) == 0)
		rq.path = buf_cstr(&path);
	return rq.path ? client_run(c, &rq, NULL, err) : -ENOMEM;
}

static int export_tar_to(struct cli *cli, const char *name, const char *path, struct error *err)
{
	struct sink s = { .fd = -1 };
	int r = sink_open(&s, path, err);

	progress_bar_init(&s.bar);
	if (r == 0 && cli->store_dir) {
		struct inspect in;
		r = inspect_open(cli, name, false, &in, err);
		if (r == 0) {
			s.total = in.snap.size_bytes;
			r = export_tar(cli->store, &in.snap.root, sink_write, &s, NULL, err);
			inspect_close(&in);
		}
	} else if (r == 0) {
		r = export_by_daemon(cli, name, "tar", &s, err);
	}
	progress_bar_fini(&s.bar);
	return sink_close(&s, r, err);
}

static int export_oci_local(struct cli *cli, const char *name, const char *path, struct error *err)
{
	struct progress_bar bar;
	struct inspect in;
	int r = inspect_open(cli, name, false, &in, err);

	if (r < 0)
		return r;
	progress_bar_init(&bar);
	struct progress p = progress_bar_hook(&bar);
	r = export_oci(cli->store, &in.snap.root, in.snap.config,
		       in.snap.name[0] ? in.snap.name : in.snap.id, path, &p, err);
	progress_bar_fini(&bar);
	inspect_close(&in);
	return r;
}

static int export_oci_remote(struct cli *cli, const char *name, const char *path, struct error *err)
{
	struct sink s = { .fd = -1 };
	struct error unpack_err = ERROR_INIT;
	json_t *o = NULL;

	/* Ask first, so that a wrong name leaves no directory behind. */
	int r = cli_call(cli, "GET", "/api/snapshots/%s", name, NULL, &o, err);
	json_decref(o);
	if (r < 0)
		return r;
	r = unpack_new(path, &s.unpack, err);
	if (r < 0)
		return r;
	progress_bar_init(&s.bar);
	r = export_by_daemon(cli, name, "oci", &s, err);
	int u = unpack_finish(s.unpack, &unpack_err);
	progress_bar_fini(&s.bar);
	if (u < 0 && (r == 0 || r == -EPIPE))
		return error_set(err, u, "unpacking into %s: %s", path, error_text(&unpack_err));
	return r;
}

int cmd_export(struct cli *cli, const struct args *args, struct error *err)
{
	const char *name = args->words[0], *kind = args->words[1], *path = args->words[2];

	if (strcmp(kind, "tar") == 0)
		return export_tar_to(cli, name, path, err);
	if (strcmp(kind, "oci") != 0)
		return cli_usage(err, "exports tar or oci, not '%s'", kind);
	if (strcmp(path, "-") == 0)
		return cli_usage(err, "an OCI image is a directory: '-' cannot be one");
	return cli->store_dir ? export_oci_local(cli, name, path, err)
			      : export_oci_remote(cli, name, path, err);
}
