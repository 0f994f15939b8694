/*
 * As a filesystem of a name has it, what was written at a place is there when it is mounted there
 * again. So mounting attaches the mount that was last detached from DIR, if it is of this snapshot.
 * One that nobody has changed gives way when the snapshot's name stands for another one by now.
 */
#include "tools/commands/mount_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "store/base/bytes_json.h"
#include "store/base/clock.h"
#include "tools/cli/mount_ref.h"
#include "tools/cli/remote_ref.h"

#define EXIT_WRONG 1 /* as mount(8) numbers them */
#define EXIT_SYSTEM 2
#define EXIT_MOUNT 32

#define WAIT_DEFAULT_S 10
#define WAIT_STEP_US 100000

struct helper_call {
	const char *name; /* of the program */
	const char *spec, *dir;
	struct mount_wishes wishes;
	bool sloppy, fake, verbose, lazy, force;
	int automount_fd; /* where it is to be mounted; -1: that is no automount point */
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool unmounts(const char *program)
{
	return strncmp(base_name(program), "umount.", 7) == 0;
}

bool mount_helper_is(const char *program)
{
	return strncmp(base_name(program), "mount.", 6) == 0 || unmounts(program);
}

static int fail(const struct helper_call *h, int status, int code, const struct error *err)
{
	cli_tell("%s: %s", h->name, err->msg[0] ? error_text(err) : strerror(-code));
	return status;
}

/* A daemon that has just been started, perhaps by the same boot, answers soon. */
static int wait_for_daemon(struct cli *cli, const struct helper_call *h, struct error *err)
{
	const int64_t until = monotonic_ms() + (int64_t)h->wishes.wait_s * 1000;

	for (;;) {
		json_t *j = NULL;
		int r = cli_call(cli, "GET", "/healthz", NULL, NULL, &j, err);

		json_decref(j);
		if (r != -ECONNREFUSED || monotonic_ms() >= until)
			return r;
		*err = (struct error)ERROR_INIT;
		usleep(WAIT_STEP_US);
	}
}

/* What was last detached from DIR, or is attached there: a new reference, or NULL. */
static int find_mount(struct cli *cli, const char *dir, json_t **out, struct error *err)
{
	json_t *list = NULL, *m, *best = NULL;
	size_t i;
	int r = cli_call(cli, "GET", "/api/mounts", NULL, NULL, &list, err);

	if (r < 0)
		return r;
	json_array_foreach(list, i, m) {
		CLEANUP(buf_fini_p) struct buf at = BUF_INIT;

		if (bytes_json_get(m, "mountpoint", &at) < 0 || !buf_cstr(&at) ||
		    strcmp((const char *)at.data, dir) != 0)
			continue;
		if (!best || (!cli_flag(best, "attached") &&
			      (cli_flag(m, "attached") ||
			       strcmp(cli_str(m, "detachedAt"), cli_str(best, "detachedAt")) > 0)))
			best = m;
	}
	*out = json_incref(best);
	json_decref(list);
	return 0;
}

static bool is_of(const json_t *m, const char *spec, const char *snapshot_id)
{
	return strcmp(cli_str(m, "snapshotId"), snapshot_id) == 0 ||
	       (*cli_str(m, "snapshot") && strcmp(cli_str(m, "snapshot"), spec) == 0);
}

/* What attaching a mount can change, as numbers: truth values are 0 and 1. */
static const char *const limits[] = { "quotaBytes", "quotaInodes", "allowDev", "allowSuid",
				      "noExec" };

static json_int_t limit_of(const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);

	return json_is_true(v) ? 1 : json_integer_value(v);
}

/* Those that are to change, with their values. NULL without memory. */
static json_t *limits_to_change(const json_t *m, const json_t *body)
{
	json_t *out = json_object();

	for (size_t i = 0; out && i < ARRAY_SIZE(limits); i++) {
		json_int_t want = limit_of(body, limits[i]);
		bool is_quota = i < 2;

		if (limit_of(m, limits[i]) != want &&
		    json_object_set_new(out, limits[i],
					is_quota ? json_integer(want) : json_boolean(want))) {
			json_decref(out);
			out = NULL;
		}
	}
	return out;
}

/* Whether it is as it was asked for, as far as a mount cannot change. */
static bool is_wanted(const json_t *m, const json_t *body)
{
	const char *cache = cli_str(body, "cache");

	return cli_flag(m, "readOnly") == cli_flag(body, "readOnly") &&
	       cli_flag(m, "volatile") == cli_flag(body, "volatile") &&
	       strcmp(cli_str(m, "cache"), *cache ? cache : "private") == 0;
}

static int attach(struct cli *cli, const struct helper_call *h, const char *dir, const json_t *m,
		  struct error *err)
{
	json_t *body = limits_to_change(m, h->wishes.body);
	int failed = body ? 0 : -1;

	if (!failed && h->automount_fd > 0)
		failed = json_object_set_new(body, "mountpoint", json_string(dir)) ||
			 json_object_set_new(body, "automountFD", json_integer(h->automount_fd));
	else if (!failed && cli_flag(h->wishes.body, "force"))
		failed = json_object_set_new(body, "force", json_true());
	int r = failed ? error_set(err, -ENOMEM, "out of memory")
		       : cli_call(cli, "POST", "/api/mounts/%s/attach", cli_str(m, "id"), body,
				  NULL, err);
	json_decref(body);
	return r;
}

/* It is there already: so it was to be, unless other options were asked for. */
static int check_attached(const json_t *m, const json_t *body, const char *dir, struct error *err)
{
	json_t *changes = limits_to_change(m, body);
	bool same = json_object_size(changes) == 0 && is_wanted(m, body);

	json_decref(changes);
	return same ? 0
		    : error_set(err, -EBUSY,
				"%s is mounted with other options: unmount it, then mount it again",
				dir);
}

/* 1: there is nothing to mount anew. */
static int mount_again(struct cli *cli, const struct helper_call *h, const char *dir,
		       const char *snapshot_id, struct error *err)
{
	json_t *m = NULL;
	int r = find_mount(cli, dir, &m, err);
	const char *id = m ? cli_str(m, "id") : "";

	if (r < 0 || !m)
		return r;
	bool changed = cli_num(m, "changedInodes") > 0;
	bool same_base = strcmp(cli_str(m, "snapshotId"), snapshot_id) == 0;

	if (!is_of(m, h->spec, snapshot_id)) {
		if (cli_flag(m, "attached"))
			r = error_set(err, -EBUSY, "%s is mounted at %s", cli_str(m, "snapshot"),
				      dir);
		else if (changed)
			cli_tell("%s: mount %.8s of another snapshot, which was here, is kept",
				 h->name, id);
	} else if (cli_flag(m, "attached")) {
		r = check_attached(m, h->wishes.body, dir, err);
		r = r < 0 ? r : 1;
	} else if (h->wishes.fresh || (!changed && (!same_base || !is_wanted(m, h->wishes.body)))) {
		if (!changed)
			r = cli_call(cli, "DELETE", "/api/mounts/%s?discard=1", id, NULL, NULL,
				     err);
	} else if (!is_wanted(m, h->wishes.body)) {
		r = error_set(err, -EBUSY,
			      "mount %.8s, which was here, has changes and other options (ro, "
			      "volatile, cache): discard it, or mount with 'fresh' beside it",
			      id);
	} else {
		r = attach(cli, h, dir, m, err);
		r = r < 0 ? r : 1;
	}
	if (r == 1 && h->verbose)
		cli_tell("%s: %s is mounted at %s again, as %.8s", h->name, h->spec, dir, id);
	json_decref(m);
	return r;
}

static int mount_new(struct cli *cli, const struct helper_call *h, const char *dir,
		     const char *snapshot_id, struct error *err)
{
	json_t *body = h->wishes.body, *m = NULL;
	int r = 0;

	if (json_object_set_new(body, "snapshot", json_string(snapshot_id)) ||
	    json_object_set_new(body, "fsname", bytes_json(h->spec, strlen(h->spec))) ||
	    json_object_set_new(body, "mountpoint", json_string(dir)) ||
	    (h->automount_fd > 0 &&
	     json_object_set_new(body, "automountFD", json_integer(h->automount_fd))))
		r = error_set(err, -ENOMEM, "out of memory");
	if (r == 0)
		r = cli_call(cli, "POST", "/api/mounts", NULL, body, &m, err);
	if (r == 0 && h->verbose)
		cli_tell("%s: %s is mounted at %s, as %.8s", h->name, h->spec, dir,
			 cli_str(m, "id"));
	json_decref(m);
	return r;
}

/* Whether there is an automount point at exactly that place, under what is mounted by now. */
static bool is_upon_automount(const char *dir)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	bool is = false;

	for (struct mntent *e; f && !is && (e = getmntent(f));)
		is = strcmp(e->mnt_type, "autofs") == 0 && strcmp(e->mnt_dir, dir) == 0;
	if (f)
		endmntent(f);
	return is;
}

/*
 * An automount point lets nobody but the processes of who made it, such as us, pass until something
 * is mounted there: the daemon, which is to mount it, would wait for itself. So it is given what we
 * have opened. Looking by O_PATH does not trigger it. *out -1: it is none. In an indirect map of
 * automount(8) the place is below the automount point, and the daemon could not but wait.
 */
static int open_automount(const char *dir, int *out, struct error *err)
{
	int fd = open(dir, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct statfs fs;

	*out = -1;
	if (fd >= 0 && (fstatfs(fd, &fs) < 0 || fs.f_type != AUTOFS_SUPER_MAGIC)) {
		close(fd);
		return 0;
	}
	if (fd >= 0 && !is_upon_automount(dir)) {
		close(fd);
		return error_set(
			err, -EINVAL,
			"%s is in an indirect map of an automounter, where a daemon cannot "
			"mount: have it in a direct map, or as x-systemd.automount",
			dir);
	}
	*out = fd;
	return 0;
}

static int run_mount(struct cli *cli, struct helper_call *h)
{
	struct error err = ERROR_INIT;
	char *snapshot = NULL, *real = realpath(h->dir, NULL), *dir = NULL;
	json_t *info = NULL;
	int r = real ? cli_json_path(real, &dir, &err)
		     : error_set_errno(&err, -errno, "the directory %s", h->dir);

	if (r == 0)
		r = open_automount(dir, &h->automount_fd, &err);
	if (r == 0)
		r = wait_for_daemon(cli, h, &err);
	if (r < 0) {
		free(real);
		free(dir);
		return fail(h, EXIT_SYSTEM, r, &err);
	}
	r = remote_ref_resolve(cli, h->spec, &snapshot, &err);
	if (r == 0)
		r = cli_snapshot(cli, snapshot, &info, &err);
	if (r == 0)
		r = mount_again(cli, h, dir, cli_str(info, "id"), &err);
	if (r == 0)
		r = mount_new(cli, h, dir, cli_str(info, "id"), &err);
	json_decref(info);
	free(snapshot);
	free(real);
	free(dir);
	return r < 0 ? fail(h, EXIT_MOUNT, r, &err) : 0;
}

/* What the daemon does not know, or does not answer for, umount(8) unmounts by itself. */
static int run_umount(struct cli *cli, const struct helper_call *h)
{
	char *args[] = {
		(char *)"umount", (char *)"-i", (char *)(uintptr_t)h->dir, NULL, NULL, NULL
	};
	struct error err = ERROR_INIT;
	json_t *m = NULL;
	char path[96];
	size_t n = 3;

	/* While one expires, the daemon would wait at it. It notices. */
	if (!is_upon_automount(h->dir) && mount_find(cli, h->dir, &m, &err) == 0 &&
	    cli_flag(m, "attached")) {
		snprintf(path, sizeof(path), "/api/mounts/%%s?lazy=%d&force=%d", h->lazy, h->force);
		int r = cli_call(cli, "DELETE", path, cli_str(m, "id"), NULL, NULL, &err);

		json_decref(m);
		return r < 0 ? fail(h, EXIT_MOUNT, r, &err) : 0;
	}
	json_decref(m);
	if (h->lazy)
		args[n++] = (char *)"-l";
	if (h->force)
		args[n] = (char *)"-f";
	execvp(args[0], args);
	error_set_errno(&err, -errno, "umount");
	return fail(h, EXIT_SYSTEM, err.code, &err);
}

static int parse(struct helper_call *h, int argc, char **argv, struct error *err)
{
	const bool down = unmounts(argv[0]);
	int c, r = mount_wishes_parse(&h->wishes, "", false, err);

	for (int i = 1; i < argc; i++) /* for those before it, too */
		h->sloppy |= !down && strcmp(argv[i], "-s") == 0;
	opterr = 0;
	while (r == 0 && (c = getopt(argc, argv, down ? "flnrvt:N:" : "sfnvrwt:o:N:")) != -1) {
		switch (c) {
		case 's':
			h->sloppy = true;
			break;
		case 'f':
			(down ? (h->force = true) : (h->fake = true));
			break;
		case 'l':
			h->lazy = true;
			break;
		case 'v':
			h->verbose = true;
			break;
		case 'r':
			r = down ? 0 : mount_wishes_parse(&h->wishes, "ro", false, err);
			break;
		case 'o':
			r = mount_wishes_parse(&h->wishes, optarg, h->sloppy, err);
			break;
		case 'n':
		case 'w':
		case 't':
			break;
		case 'N':
			r = error_set(err, -EINVAL, "it cannot mount in another namespace");
			break;
		default:
			r = error_set(err, -EINVAL, "unknown option, or one without its value");
			break;
		}
	}
	if (r < 0)
		return r;
	if (argc - optind != (down ? 1 : 2))
		return error_set(err, -EINVAL,
				 down ? "usage: %s DIR [-flnrv]"
				      : "usage: %s SNAPSHOT DIR [-sfnv] [-o OPTIONS]",
				 h->name);
	h->spec = argv[optind];
	h->dir = argv[argc - 1];
	return 0;
}

int mount_helper_run(struct cli *cli, int argc, char **argv)
{
	struct helper_call h = { .name = base_name(argv[0]),
				 .wishes = { .wait_s = WAIT_DEFAULT_S } };
	struct error err = ERROR_INIT;
	int status, r = parse(&h, argc, argv, &err);

	/* A mount is on this host, and so is its daemon. */
	cli->socket = r == 0 && h.wishes.socket ? h.wishes.socket : cli_environment_socket();
	if (!cli->socket)
		cli->socket = CLI_SOCKET_DEFAULT;
	if (r < 0)
		status = fail(&h, EXIT_WRONG, r, &err);
	else if (unmounts(argv[0]))
		status = run_umount(cli, &h);
	else
		status = h.fake ? 0 : run_mount(cli, &h);
	cli->socket = NULL;
	mount_wishes_fini(&h.wishes);
	return status;
}
