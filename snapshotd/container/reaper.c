#include "snapshotd/container/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/log.h"

#define LOCK_TIMEOUT_MS 25000 /* longer than a reaper has patience */
#define LOCK_FD 3
#define KEPT_NAME REAPER_KEPT_NAME

extern char **environ;

static int take_lock(const char *path, int *out_fd, struct error *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_set_errno(err, -errno, "%s", path);
	for (int ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; ms++) {
		int rc = errno == EWOULDBLOCK ? -EBUSY : -errno;

		if (ms < LOCK_TIMEOUT_MS && (rc == -EBUSY || rc == -EINTR)) {
			usleep(1000);
			continue;
		}
		close(fd);
		return error_set_errno(err, rc, "a former daemon's containers do not end: %s",
				       path);
	}
	*out_fd = fd;
	return 0;
}

static int fill_files(posix_spawn_file_actions_t *files, int life, int lock)
{
	int rc = posix_spawn_file_actions_adddup2(files, life, STDIN_FILENO);

	if (!rc)
		rc = posix_spawn_file_actions_addopen(files, STDOUT_FILENO, "/dev/null", O_RDWR, 0);
	/* Last: `life` may be it. A descriptor onto itself loses its CLOEXEC. */
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(files, lock, LOCK_FD);
	return -rc;
}

static int spawn(const struct reaper_options *o, int life, int lock, pid_t *out_pid)
{
	char *argv[] = { "varve-init", "reap", (char *)o->bundles_dir, (char *)o->oci_dir, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none;
	int rc;

	sigemptyset(&none);
	rc = -posix_spawn_file_actions_init(&files);
	if (rc)
		return rc;
	rc = -posix_spawnattr_init(&attr);
	if (rc) {
		posix_spawn_file_actions_destroy(&files);
		return rc;
	}
	rc = fill_files(&files, life, lock);
	if (!rc)
		rc = -posix_spawnattr_setsigmask(&attr, &none);
	if (!rc)
		rc = -posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
	if (!rc)
		rc = -posix_spawn(out_pid, o->agent, &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return rc;
}

/* 1: a reaper holds the lock; 0: none does; -errno. */
static int is_locked(const char *path)
{
	int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int rc = lock < 0 ? -errno : 0;

	if (rc == 0 && flock(lock, LOCK_EX | LOCK_NB) < 0)
		rc = errno == EWOULDBLOCK ? 1 : -errno;
	if (lock >= 0)
		close(lock);
	return rc;
}

int reaper_start(const struct reaper_options *o, struct reaper *out, bool *out_kept,
		 struct error *err)
{
	int life = keeper_take(o->keeper, KEPT_NAME);
	int pair[2], lock = -1, rc = life < 0 ? 0 : is_locked(o->lock);

	*out = (struct reaper){ -1, -1, o->keeper, strdup(o->lock) };
	if (!out->lock)
		rc = -ENOMEM;
	/* As long as the keeper has the pipe, no reaper has begun. */
	*out_kept = life >= 0;
	if (rc == 1) {
		out->life = life;
		return 0;
	}
	if (life >= 0)
		close(life);
	if (rc < 0)
		return error_set_errno(err, rc, "%s", o->lock);
	rc = take_lock(o->lock, &lock, err);
	if (rc < 0)
		return rc;
	if (pipe2(pair, O_CLOEXEC) < 0) {
		close(lock);
		return error_set_errno(err, -errno, "cannot make a pipe");
	}
	/* First, or it would begin if we died next. In the place of a dead one's. */
	(void)!keeper_put(o->keeper, KEPT_NAME, pair[1]);
	rc = spawn(o, pair[0], lock, &out->pid);
	close(pair[0]);
	close(lock);
	if (rc < 0) {
		close(pair[1]);
		return error_set_errno(err, rc, "cannot start %s", o->agent);
	}
	out->life = pair[1];
	return 0;
}

void reaper_stop(struct reaper *r)
{
	struct error err = ERROR_INIT;
	int lock = -1;

	if (r->life >= 0) {
		close(r->life);
		keeper_drop(r->keeper, KEPT_NAME);
		while (r->pid > 0 && waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
			;
		if (r->pid < 0 && take_lock(r->lock, &lock, &err) < 0)
			log_warn("%s", error_text(&err));
		if (lock >= 0)
			close(lock);
	}
	free(r->lock);
	*r = (struct reaper)REAPER_NONE;
}
