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
#define KEPT_NAME "reaper"

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

/* The one whose pipe the keeper has, if it lives: it holds the lock. */
static bool adopt(const struct reaper_options *o, struct reaper *out)
{
	int life = keeper_take(o->keeper, KEPT_NAME);
	int lock = life < 0 ? -1 : open(o->lock, O_RDWR | O_CLOEXEC);
	bool lives = lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;

	if (lock >= 0)
		close(lock);
	if (lives)
		out->life = life;
	else if (life >= 0)
		close(life);
	return lives;
}

int reaper_start(const struct reaper_options *o, struct reaper *out, bool *adopted,
		 struct error *err)
{
	int pair[2], lock = -1, rc;

	*out = (struct reaper){ -1, -1, o->keeper, strdup(o->lock) };
	if (!out->lock)
		return error_set(err, -ENOMEM, "out of memory");
	*adopted = adopt(o, out);
	if (*adopted)
		return 0;
	keeper_drop(o->keeper, KEPT_NAME);
	rc = take_lock(o->lock, &lock, err);
	if (rc < 0)
		return rc;
	if (pipe2(pair, O_CLOEXEC) < 0) {
		close(lock);
		return error_set_errno(err, -errno, "cannot make a pipe");
	}
	rc = spawn(o, pair[0], lock, &out->pid);
	close(pair[0]);
	close(lock);
	if (rc < 0) {
		close(pair[1]);
		return error_set_errno(err, rc, "cannot start %s", o->agent);
	}
	out->life = pair[1];
	(void)!keeper_put(o->keeper, KEPT_NAME, out->life);
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
