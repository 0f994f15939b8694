/*
 * Calls of the OCI runtime. It is started by our agent's program (`launch`),
 * so that a call dies with the daemon; what such a call has left, the reaper
 * and the next daemon find by the container's bundle, which is made before and
 * removed after everything else.
 */
#include "snapshotd/container/container_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshotd/container/agent_protocol.h"
#include "snapshotd/container/container_names.h"
#include "snapshotd/container/leftovers.h"
#include "snapshotd/container/runtime_agent.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/write_all.h"

#define ARGS_MAX 24
#define CALL_TIMEOUT_MS 60000
#define SAID_MAX (64u << 10)
#define DESTROY_TIMEOUT_MS 10000
#define NOT_INSTALLED 127 /* exit status of `launch` */

extern char **environ;

/* --- calls --- */

static int spawn_call(struct runtime *rt, char *const *argv, int control, int stderr_fd,
		      pid_t *out_pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, defaults;
	int rc;

	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	sigaddset(&defaults, SIGHUP);
	rc = posix_spawn_file_actions_init(&files);
	if (rc)
		return -rc;
	rc = posix_spawnattr_init(&attr);
	if (rc) {
		posix_spawn_file_actions_destroy(&files);
		return -rc;
	}
	/* 3 last: stderr_fd may be it. A descriptor onto itself loses its CLOEXEC. */
	rc = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDOUT_FILENO);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&files, stderr_fd, STDERR_FILENO);
	if (!rc && control >= 0)
		rc = posix_spawn_file_actions_adddup2(&files, control, INIT_CONTROL_FD);
	if (!rc)
		rc = posix_spawnattr_setsigmask(&attr, &none);
	if (!rc)
		rc = posix_spawnattr_setsigdefault(&attr, &defaults);
	if (!rc)
		rc = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
							     POSIX_SPAWN_SETSIGDEF |
							     POSIX_SPAWN_SETPGROUP);
	if (!rc)
		rc = posix_spawn(out_pid, rt->agent, &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -rc;
}

/*
 * Gather what it says until it has ended, and its status. Not until EOF: the
 * container has the pipe, too, until the agent closes it.
 */
static int wait_call(pid_t pid, int from, struct buf *said, int *out_status)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd fds[] = { { .fd = pidfd, .events = POLLIN },
				{ .fd = from, .events = POLLIN } };
	int64_t until = monotonic_ms() + CALL_TIMEOUT_MS;
	int rc = pidfd < 0 ? -errno : 0, waited = 0;

	while (rc == 0 && !fds[0].revents) {
		char room[4096];
		ssize_t n;

		int64_t left = until - monotonic_ms();

		waited = poll(fds, ARRAY_SIZE(fds), (int)MAX(left, (int64_t)0));
		if (waited < 0 && errno != EINTR)
			rc = -errno;
		if (waited == 0)
			rc = -ETIMEDOUT;
		if (waited <= 0 || !fds[1].revents)
			continue;
		while ((n = read(from, room, sizeof(room))) > 0)
			if (said->len < SAID_MAX && rc == 0)
				rc = buf_append(said, room, (size_t)n);
		if (n == 0)
			fds[1].fd = -1;
	}
	if (rc < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, out_status, 0) < 0 && errno == EINTR)
		;
	if (pidfd >= 0)
		close(pidfd);
	return rc;
}

/* The last line of what it said, without what runc puts around it. */
static const char *reason(struct buf *said)
{
	char *text, *msg;

	while (said->len > 0 && said->data[said->len - 1] == '\n')
		said->len--;
	text = (char *)buf_cstr(said);
	if (!text || !*text)
		return "it did not say why";
	if (strrchr(text, '\n'))
		text = strrchr(text, '\n') + 1;
	msg = strstr(text, " msg=\"");
	if (msg) {
		text = msg + strlen(" msg=\"");
		if (strrchr(text, '"'))
			*strrchr(text, '"') = 0;
	}
	return text;
}

static int call_outcome(const struct runtime *rt, const char *verb, int status, struct buf *said,
			struct error *err)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_INSTALLED)
		return error_set(err, -ENOENT,
				 "the OCI runtime \"%s\" is not installed (see --runtime)",
				 rt->program);
	return error_set(err, -EIO, "%s %s: %s", rt->program, verb, reason(said));
}

/* argv[2] becomes our process's id. */
static int run_agent(struct runtime *rt, const char **argv, int control, struct buf *said,
		     int *out_status)
{
	char parent[16];
	int fds[2], rc;
	pid_t pid;

	snprintf(parent, sizeof(parent), "%d", (int)getpid());
	argv[2] = parent;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	/* Its end of the pipe blocks, as a program expects. */
	(void)!fcntl(fds[1], F_SETFL, 0);
	rc = spawn_call(rt, (char *const *)argv, control, fds[1], &pid);
	close(fds[1]);
	if (rc == 0)
		rc = wait_call(pid, fds[0], said, out_status);
	close(fds[0]);
	return rc;
}

int runtime_call(struct runtime *rt, const char *const *args, int control, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf said = BUF_INIT;
	const char *argv[ARGS_MAX] = { "varve-init", "launch", NULL,
				       rt->program,  "--root", rt->oci_dir };
	size_t n = 6;
	int rc, status = 0;

	for (size_t i = 0; args[i] && n + 1 < ARGS_MAX; i++)
		argv[n++] = args[i];
	rc = run_agent(rt, argv, control, &said, &status);
	if (rc < 0)
		return error_set_errno(err, rc, "cannot run %s", rt->program);
	return call_outcome(rt, args[0], status, &said, err);
}

/* --- files --- */

static char *join(const char *dir, const char *name)
{
	char *s;

	return asprintf(&s, "%s/%s", dir, name) < 0 ? NULL : s;
}

char *runtime_bundle_path(const struct runtime *rt, const char *name, const char *file)
{
	char *s;

	return asprintf(&s, "%s/%s/%s", rt->bundles_dir, name, file) < 0 ? NULL : s;
}

static int write_agent(const struct runtime *rt, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	int fd, rc = buf_printf(&path, "%s.new", rt->agent);
	const char *temporary = rc < 0 ? NULL : buf_cstr(&path);

	if (!temporary)
		return error_set(err, -ENOMEM, "out of memory");
	(void)!unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (fd < 0)
		return error_set_errno(err, -errno, "%s", temporary);
	rc = write_all(fd, runtime_agent, runtime_agent_size);
	if (rc == 0 && fchmod(fd, 0755) < 0)
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	/* A container that a former daemon left has the old one open: a new file. */
	if (rc == 0 && rename(temporary, rt->agent) < 0)
		rc = -errno;
	return rc < 0 ? error_set_errno(err, rc, "%s", rt->agent) : 0;
}

static void remove_files(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			(void)!unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	if (rmdir(dir) < 0 && errno != ENOENT)
		log_warn("cannot remove %s: %s", dir, strerror(errno));
}

/* --- the end of a container --- */

void runtime_remove(struct runtime *rt, const char *name)
{
	const char *const args[] = { "delete", "--force", name, NULL };
	char *bundle = join(rt->bundles_dir, name), *state = join(rt->oci_dir, name), *names;
	struct error err = ERROR_INIT;
	struct stat st;
	int rc = cgroup_destroy(&rt->cgroups, name, DESTROY_TIMEOUT_MS, &err);

	if (rc < 0)
		log_error("container %s: %s", name, error_text(&err));
	/* What the runtime itself keeps, it removes; it may be of another kind than ours. */
	if (state && stat(state, &st) == 0) {
		rc = runtime_call(rt, args, -1, &err);
		if (rc < 0)
			log_warn("container %s: %s", name, error_text(&err));
		if (stat(state, &st) == 0)
			remove_files(state);
	}
	if (cgroup_destroy(&rt->cgroups, name, DESTROY_TIMEOUT_MS, &err) < 0)
		log_error("container %s: %s", name, error_text(&err));
	names = bundle ? join(bundle, RUNTIME_NAMES_DIR) : NULL;
	if (names)
		container_names_release(names);
	if (bundle)
		remove_files(bundle);
	free(names);
	free(bundle);
	free(state);
}

static bool is_kept(const struct runtime *rt, const char *name)
{
	const struct kept *c = rt->kept;

	while (c && strcmp(c->name, name) != 0)
		c = c->next;
	return c;
}

/* Of the bundles, those whose containers the keeper has: they go on. */
static void find_kept(struct runtime *rt)
{
	struct dirent **names;
	int n = rt->keeper ? scandir(rt->bundles_dir, &names, NULL, NULL) : -1;

	for (int i = 0; i < n; i++) {
		struct kept *c = kept_take(rt->keeper, names[i]->d_name);

		if (c) {
			c->next = rt->kept;
			rt->kept = c;
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

void runtime_drop_kept(struct runtime *rt)
{
	struct kept *c;

	while ((c = rt->kept)) {
		rt->kept = c->next;
		log_info("container %s is nobody's: removed", c->name);
		kept_drop(rt->keeper, c->name);
		runtime_remove(rt, c->name);
		kept_free(c);
	}
}

static void remove_leftovers(struct runtime *rt, const char *dir)
{
	struct dirent **names;
	int n = scandir(dir, &names, NULL, NULL);

	for (int i = 0; i < n; i++) {
		if (strncmp(names[i]->d_name, CONTAINER_PREFIX, strlen(CONTAINER_PREFIX)) == 0 &&
		    !is_kept(rt, names[i]->d_name)) {
			log_info("removing container %s of a former daemon", names[i]->d_name);
			runtime_remove(rt, names[i]->d_name);
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

/* --- open and close --- */

static int make_dir(const char *path, mode_t mode, struct error *err)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return error_set_errno(err, -errno, "%s", path);
	return 0;
}

static int make_dirs(const char *run, const struct runtime *rt, struct error *err)
{
	int rc = make_dir(run, 0711, err);

	if (rc == 0)
		rc = make_dir(rt->oci_dir, 0700, err);
	if (rc == 0)
		rc = make_dir(rt->bundles_dir, 0700, err);
	return rc;
}

/* What it may give to containers. */
static void look_at_ourselves(struct runtime *rt)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	struct rlimit files = { 0 };

	if (syscall(SYS_capget, &head, data) == 0)
		rt->sys_resource = data[0].effective & (1u << CAP_SYS_RESOURCE);
	(void)!getrlimit(RLIMIT_NOFILE, &files);
	rt->open_files_max = rt->sys_resource ? UINT64_MAX : files.rlim_max;
}

static int start_reaper(struct runtime *rt, const char *lock, struct error *err)
{
	const struct reaper_options o = { .agent = rt->agent,
					  .lock = lock,
					  .bundles_dir = rt->bundles_dir,
					  .oci_dir = rt->oci_dir,
					  .keeper = rt->keeper };
	bool kept = false;
	int rc = reaper_start(&o, &rt->reaper, &kept, err);

	/* Else the old reaper has killed them all. */
	if (rc == 0 && kept)
		find_kept(rt);
	return rc;
}

int runtime_open(const struct runtime_options *o, struct runtime **out, struct error *err)
{
	struct runtime *rt = calloc(1, sizeof(*rt));
	char *run = join(o->state_dir, "run"), *lock = run ? join(run, "reaper.lock") : NULL;
	int rc = -ENOMEM;

	if (rt) {
		rt->reaper = (struct reaper)REAPER_NONE;
		rt->keeper = o->keeper;
	}
	if (rt && lock) {
		rt->program = strdup(o->program);
		rt->oci_dir = join(run, "oci");
		rt->bundles_dir = join(run, "bundles");
		rt->agent = join(run, "varve-init");
	}
	if (!rt || !rt->program || !rt->oci_dir || !rt->bundles_dir || !rt->agent)
		error_set(err, rc, "out of memory");
	else
		rc = make_dirs(run, rt, err);
	if (rc == 0)
		rc = write_agent(rt, err);
	if (rc == 0)
		rc = cgroups_load("/proc/self/mountinfo", "/sys/fs/cgroup", &rt->cgroups, err);
	if (rc == 0) /* last: from then on what is kept would end with rt */
		rc = start_reaper(rt, lock, err);
	free(run);
	free(lock);
	if (rc < 0) {
		runtime_close(rt);
		return rc;
	}
	/* One that hangs is no reason to leave what runs. */
	if (leftovers_end_calls(rt->oci_dir, err) < 0)
		log_warn("%s", error_text(err));
	look_at_ourselves(rt);
	remove_leftovers(rt, rt->bundles_dir);
	remove_leftovers(rt, rt->oci_dir);
	*out = rt;
	return 0;
}

void runtime_close(struct runtime *rt)
{
	if (!rt)
		return;
	runtime_drop_kept(rt);
	reaper_stop(&rt->reaper);
	cgroups_fini(&rt->cgroups);
	free(rt->program);
	free(rt->oci_dir);
	free(rt->bundles_dir);
	free(rt->agent);
	free(rt);
}
