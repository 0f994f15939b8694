#include "fs/host/freezing.h"

#include <errno.h>
#include <time.h>

#include "fs/host/freeze.h"
#include "store/base/clock.h"
#include "store/base/log.h"

static void thaw_locked(struct freezing *f)
{
	if (cgroup_thaw(f->cgroup))
		log_error("cannot thaw cgroup %s", f->cgroup);
	f->thawed_ns = (uint64_t)monotonic_ns();
}

static void *watch_main(void *arg)
{
	struct freezing *f = arg;
	const struct timespec until = { .tv_sec = (time_t)(f->until_ns / 1000000000u),
					.tv_nsec = (long)(f->until_ns % 1000000000u) };
	int r = 0;

	pthread_mutex_lock(&f->lock);
	while (!f->ended && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&f->ended_cond, &f->lock, &until);
	if (!f->ended) {
		f->late = true;
		thaw_locked(f);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

int freezing_begin(struct freezing *f, const char *cgroup, unsigned max_ms, struct error *err)
{
	int r;

	*f = (struct freezing){ .cgroup = cgroup, .begin_ns = (uint64_t)monotonic_ns() };
	r = cgroup_freeze(cgroup, err);
	if (r)
		return r;
	f->until_ns = (uint64_t)monotonic_ns() + max_ms * 1000000ull;
	pthread_mutex_init(&f->lock, NULL);
	cond_init_monotonic(&f->ended_cond);
	r = -pthread_create(&f->thread, NULL, watch_main, f);
	if (!r)
		return 0;
	thaw_locked(f);
	pthread_cond_destroy(&f->ended_cond);
	pthread_mutex_destroy(&f->lock);
	return error_set_errno(err, r, "no thread to let the cgroup go in time");
}

bool freezing_is_late(struct freezing *f)
{
	pthread_mutex_lock(&f->lock);
	const bool late = f->late;

	pthread_mutex_unlock(&f->lock);
	return late;
}

bool freezing_end(struct freezing *f, uint64_t *out_ns)
{
	pthread_mutex_lock(&f->lock);
	f->ended = true;
	if (!f->late)
		thaw_locked(f);
	pthread_cond_signal(&f->ended_cond);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	pthread_cond_destroy(&f->ended_cond);
	pthread_mutex_destroy(&f->lock);
	*out_ns = f->thawed_ns - f->begin_ns;
	return !f->late;
}
