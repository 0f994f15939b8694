/* cmd_backup.c - a copy of a daemon's whole state, and back. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/bytes_json.h"
#include "store/base/copy_file.h"
#include "store/base/sync_dir.h"
#include "tools/cli/progress_bar.h"
#include "tools/commands/commands.h"

#define DEPTH_MAX 4 /* of a state directory without its mounts */

const struct option_spec options_backup[] = {
	{ 0, "restore", NULL, "make a state directory from a backup; no daemon is needed" },
	{ 0 },
};

/* ---- restore ---- */

/* Not FORMAT, which is the last, and not what a daemon makes for itself. */
static bool is_left_out(const char *name, int depth)
{
	static const char *const names[] = { "FORMAT", "LOCK", "run", "shared", "reserve" };

	for (size_t i = 0; depth == 0 && i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0;
}

static bool is_directory(int dir_fd, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN) /* some filesystems do not say */
		return e->d_type == DT_DIR;
	return fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int copy_tree(int from, int to, int depth, struct progress *p, struct error *err);

static int copy_directory(int from, const char *name, int to, int depth, struct progress *p,
			  struct error *err)
{
	int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), out = -1, r;

	r = in < 0 ? -errno : mkdirat(to, name, 0700) < 0 ? -errno : 0;
	if (r == 0) {
		out = openat(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = out < 0 ? -errno : 0;
	}
	if (r < 0)
		error_set_errno(err, r, "%s", name);
	else
		r = copy_tree(in, out, depth + 1, p, err);
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return r;
}

/* Into an open, empty directory; all of it synced. */
static int copy_tree(int from, int to, int depth, struct progress *p, struct error *err)
{
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		return error_set_errno(err, -errno, "cannot list the backup");
	while (r == 0 && (e = readdir(d))) {
		if (is_left_out(e->d_name, depth))
			continue;
		if (is_directory(dirfd(d), e) && depth < DEPTH_MAX) {
			r = copy_directory(from, e->d_name, to, depth, p, err);
		} else {
			r = copy_file_at(from, e->d_name, to, e->d_name, p);
			if (r < 0)
				error_set_errno(err, r, "%s", e->d_name);
		}
	}
	closedir(d);
	if (r == 0 && fsync(to) < 0)
		r = error_set_errno(err, -errno, "cannot sync a directory");
	return r;
}

/* mkdir, or a directory with nothing in it. */
static int take_empty(const char *dir, struct error *err)
{
	DIR *d = mkdir(dir, 0700) < 0 && errno != EEXIST ? NULL : opendir(dir);
	struct dirent *e;
	int n = 0;

	if (!d)
		return error_set_errno(err, -errno, "%s", dir);
	while ((e = readdir(d)))
		n += !is_left_out(e->d_name, -1);
	if (n == 0 && fchmod(dirfd(d), 0700) < 0)
		n = -errno;
	closedir(d);
	return n < 0   ? error_set_errno(err, n, "%s", dir)
	       : n > 0 ? error_set(err, -ENOTEMPTY, "%s is not empty", dir)
		       : sync_parent_dir(AT_FDCWD, dir);
}

static void show(void *arg, const struct progress *p)
{
	struct progress_state s = { .phase = p->phase, .done_bytes = p->done_bytes };

	progress_bar_update(arg, &s);
}

static int copy_backup(int from, int to, struct progress *p, struct error *err)
{
	int r = copy_tree(from, to, 0, p, err);

	if (r < 0)
		return r;
	r = copy_file_at(from, "FORMAT", to, "FORMAT.tmp", p);
	if (r == 0)
		r = renameat(to, "FORMAT.tmp", to, "FORMAT") < 0 || fsync(to) < 0 ? -errno : 0;
	return r < 0 ? error_set_errno(err, r, "FORMAT") : 0;
}

static int restore(struct cli *cli, const char *backup, const char *state, struct error *err)
{
	int from = open(backup, O_RDONLY | O_DIRECTORY | O_CLOEXEC), to = -1, r;
	struct progress_bar bar;
	struct progress p = { .report = show, .arg = &bar, .phase = "copying" };

	r = from < 0 ? error_set_errno(err, -errno, "%s", backup) : 0;
	if (r == 0 && faccessat(from, "FORMAT", R_OK, 0) < 0)
		r = error_set(err, -EINVAL, "%s is no backup, or one that was not finished",
			      backup);
	if (r == 0)
		r = take_empty(state, err);
	if (r == 0 && (to = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		r = error_set_errno(err, -errno, "%s", state);
	if (r == 0) {
		progress_bar_init(&bar);
		r = copy_backup(from, to, &p, err);
		progress_bar_fini(&bar);
	}
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	if (r == 0 && !cli->json)
		cli_tell("%s is a state directory now; start snapshotd on it", state);
	return r < 0 ? error_prefix(err, r, "cannot restore") : 0;
}

/* ---- backup ---- */

static void backup_event(void *arg, const char *type, const json_t *data)
{
	if (strcmp(type, "progress") == 0)
		progress_bar_update_json(arg, data);
}

static int make_backup(struct cli *cli, const char *dir, struct error *err)
{
	struct client *c = cli_client(cli, err);
	char *path = NULL;
	int r = c ? cli_daemon_path(cli, dir, &path, err) : err->code;
	json_t *o = NULL, *body = r == 0 ? json_pack("{s:s}", "path", path) : NULL;
	struct progress_bar bar;
	struct client_request rq = { .method = "POST",
				     .path = "/api/backup",
				     .body = body,
				     .on_event = backup_event,
				     .arg = &bar };

	progress_bar_init(&bar);
	if (r == 0)
		r = body ? client_run(c, &rq, &o, err) : -ENOMEM;
	progress_bar_fini(&bar);
	if (r == 0)
		r = cli->json ? cli_print_json(o) : cli_print_fields(o);
	json_decref(o);
	json_decref(body);
	free(path);
	return r;
}

int cmd_backup(struct cli *cli, const struct args *args, struct error *err)
{
	if (args_has(args, "restore") != (args->count == 2))
		return cli_usage(err, args->count == 2 ? "a backup goes to one directory"
						       : "--restore wants BACKUP and STATE");
	return args->count == 2 ? restore(cli, args->words[0], args->words[1], err)
				: make_backup(cli, args->words[0], err);
}
