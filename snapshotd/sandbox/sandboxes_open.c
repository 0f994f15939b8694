/*
 * All sandboxes together: what is read when the daemon starts, the reaper that tends them, and
 * what is stopped at the end.
 */
#include "snapshotd/sandbox/sandboxes_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "snapshotd/sandbox/sandbox_checkpoints.h"
#include "store/base/clock.h"
#include "store/base/pool.h"

#define TEND_MS 1000
#define STOP_THREADS 8

/* ---- the reaper ---- */

static bool tend_wait(struct sandboxes *ss)
{
	struct timespec until = monotonic_after_ms(TEND_MS);
	int rc = 0;

	pthread_mutex_lock(&ss->lock);
	while (!atomic_load(&ss->stopping) && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&ss->changed, &ss->lock, &until);
	pthread_mutex_unlock(&ss->lock);
	return !atomic_load(&ss->stopping);
}

static void *reaper_main(void *arg)
{
	struct sandboxes *ss = arg;

	pthread_setname_np(pthread_self(), "varve-tend");
	while (tend_wait(ss)) {
		struct sandbox **list;
		size_t n;

		if (sandboxes_list(ss, &list, &n) < 0)
			continue;
		for (size_t i = 0; i < n; i++) {
			sandbox_tend(list[i]);
			sandbox_put(list[i]);
		}
		free(list);
	}
	return NULL;
}

/* ---- opening and closing ---- */

static int dir_make(struct sandboxes *ss, struct error *err)
{
	char *dir = NULL;
	int rc = 0;

	if (asprintf(&dir, "%s/sandboxes", ss->store->dir) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		rc = error_set_errno(err, -errno, "cannot make %s", dir);
	else if (!(ss->dir = realpath(dir, NULL)))
		rc = error_set_errno(err, -errno, "%s", dir);
	free(dir);
	return rc;
}

int sandboxes_open(const struct sandboxes_options *o, struct sandboxes **out, struct error *err)
{
	struct sandboxes *ss = calloc(1, sizeof(*ss));
	int rc;

	if (!ss)
		return error_set(err, -ENOMEM, "out of memory");
	ss->store = o->store;
	ss->mounts = o->mounts;
	ss->runtime = o->runtime;
	ss->keeper = o->keeper;
	ss->network_none = o->network_none;
	ss->shared_cache = o->shared_cache;
	ss->disk_mb = o->disk_mb;
	ss->cpu_shares = o->cpu_shares;
	ss->inodes = o->inodes;
	ss->keep_s = o->keep_s;
	ss->checkpoint_limit = o->checkpoint_limit;
	ss->patch_limit = o->patch_limit;
	ss->output = o->output;
	pthread_mutex_init(&ss->lock, NULL);
	pthread_mutex_init(&ss->patch_lock, NULL);
	cond_init_monotonic(&ss->changed);
	TAILQ_INIT(&ss->list);
	rc = dir_make(ss, err);
	if (rc == 0)
		rc = checkpoints_open(ss->store, &ss->checkpoints, err);
	if (rc == 0)
		rc = sandboxes_load(ss, err);
	if (rc == 0 && pthread_create(&ss->reaper, NULL, reaper_main, ss) != 0)
		rc = error_set(err, -EAGAIN, "cannot start a thread");
	ss->has_reaper = rc == 0;
	*out = ss;
	return rc;
}

static void stop_one(void *arg)
{
	struct sandbox *sb = arg;

	pthread_mutex_lock(&sb->change);
	sandbox_note_death(sb); /* of itself: the next daemon is not to start it */
	sandbox_down(sb);
	pthread_mutex_unlock(&sb->change);
}

/* Every container, several at a time. */
static void stop_all(struct sandboxes *ss)
{
	struct pool *p = pool_new(STOP_THREADS, STOP_THREADS);
	struct sandbox *sb;

	TAILQ_FOREACH(sb, &ss->list, link)
	{
		if (p)
			pool_submit(p, stop_one, sb);
		else
			stop_one(sb);
	}
	pool_free(p);
}

/* Asynchronous execs use their sandbox until they have noted their end. */
static void wait_unused(struct sandboxes *ss, struct sandbox *sb)
{
	pthread_mutex_lock(&ss->lock);
	while (sb->users > 1)
		pthread_cond_wait(&ss->changed, &ss->lock);
	pthread_mutex_unlock(&ss->lock);
}

void sandboxes_close(struct sandboxes *ss)
{
	struct sandbox *sb;

	if (!ss)
		return;
	pthread_mutex_lock(&ss->lock);
	atomic_store(&ss->stopping, true);
	pthread_cond_broadcast(&ss->changed);
	pthread_mutex_unlock(&ss->lock);
	if (ss->has_reaper)
		pthread_join(ss->reaper, NULL);
	pool_free(ss->starters);
	stop_all(ss);
	while ((sb = TAILQ_FIRST(&ss->list))) {
		wait_unused(ss, sb);
		sandbox_unlist(sb);
		if (sb->mount)
			mounts_put(ss->mounts, sb->mount);
		sandbox_put(sb);
	}
	checkpoints_close(ss->checkpoints);
	pthread_cond_destroy(&ss->changed);
	pthread_mutex_destroy(&ss->patch_lock);
	pthread_mutex_destroy(&ss->lock);
	free(ss->dir);
	free(ss);
}
