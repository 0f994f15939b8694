/*
 * What there is to do. Chunks note what was tried, so looking at all of them is
 * enough, but not nothing. The store counts the chunks that it stores: while the
 * count is what it was when the last complete run began, there is nothing new.
 *
 * Both who runs and who may not are said by `turn`, under `lock`: the thread
 * gives way when a request wants to run, and a second request is refused.
 */
#include "snapshotd/state/recompressor.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "fs/fuse/session_pool.h"
#include "store/base/clock.h"
#include "store/base/log.h"

#define TICK_MS 1000
/* Requests to mounts in a second that are no more than a shell that sits there. */
#define QUIET_REQUESTS 50

struct recompressor {
	struct recompressor_options opt;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* of what lock guards */
	/* guarded by lock: */
	bool stopping, thread_runs, request_runs;
	_Atomic bool give_way; /* stopping, or a request wants to run */
	/* The thread's own: */
	uint64_t seen_requests; /* at seen_ms */
	int64_t seen_ms, busy_ms;
};

/* Look what goes on, once a tick. True: something did at the last look. */
static bool is_busy(void *arg)
{
	struct recompressor *r = arg;
	int64_t now = monotonic_ms(), since = now - r->seen_ms;
	uint64_t requests = r->opt.pool ? session_pool_requests(r->opt.pool) : 0;

	if (guard_is_busy(r->opt.store->guard))
		r->busy_ms = now;
	if (since >= TICK_MS) {
		if ((requests - r->seen_requests) * 1000 > (uint64_t)since * QUIET_REQUESTS)
			r->busy_ms = now;
		r->seen_ms = now;
		r->seen_requests = requests;
	}
	return now - r->busy_ms < 2 * TICK_MS;
}

static bool gives_way(void *arg)
{
	const struct recompressor *r = arg;

	return atomic_load_explicit(&r->give_way, memory_order_relaxed);
}

/* A run in the background; true where it came to the end. */
static bool run_quietly(struct recompressor *r)
{
	const struct recompress_options opt = {
		.level = r->opt.level, .threads = 1, .is_idle = true, .is_busy = is_busy, .arg = r
	};
	struct progress p = { .cancelled = gives_way, .arg = r };
	struct recompress_result res;
	struct error err = ERROR_INIT;
	int rc = recompress_run(r->opt.store, &opt, &p, &res, &err);

	if (res.replaced_chunks > 0)
		log_info("recompressed %" PRIu64 " chunks in the background: %" PRIu64
			 " KiB less in the store",
			 res.replaced_chunks, (res.before_bytes - res.after_bytes) >> 10);
	if (res.damaged_chunks > 0)
		log_warn("%" PRIu64 " chunks cannot be read; see varve verify", res.damaged_chunks);
	if (rc < 0 && rc != -ECANCELED)
		log_warn("in the background: %s", error_text(&err));
	return rc == 0;
}

/* A tick, or until something changes. False once it is to end. */
static bool wait_tick(struct recompressor *r)
{
	struct timespec until = monotonic_after_ms(TICK_MS);

	pthread_mutex_lock(&r->lock);
	while (!r->stopping && pthread_cond_timedwait(&r->changed, &r->lock, &until) == 0)
		;
	bool stopping = r->stopping;
	pthread_mutex_unlock(&r->lock);
	return !stopping;
}

static bool take_turn(struct recompressor *r)
{
	pthread_mutex_lock(&r->lock);
	r->thread_runs = !r->stopping && !r->request_runs;
	bool taken = r->thread_runs;
	pthread_mutex_unlock(&r->lock);
	return taken;
}

static void end_turn(struct recompressor *r)
{
	pthread_mutex_lock(&r->lock);
	r->thread_runs = false;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static void *worker(void *arg)
{
	struct recompressor *r = arg;
	uint64_t done = UINT64_MAX; /* chunks stored, at the last complete run's begin */

	r->busy_ms = r->seen_ms = monotonic_ms();
	while (wait_tick(r)) {
		uint64_t stored = chunk_store_stored(r->opt.store->chunks);
		(void)is_busy(r);
		if (stored == done || monotonic_ms() - r->busy_ms < (int64_t)r->opt.quiet_s * 1000)
			continue;
		if (!take_turn(r))
			continue;
		if (run_quietly(r))
			done = stored;
		else
			r->busy_ms = monotonic_ms();
		end_turn(r);
	}
	return NULL;
}

int recompressor_open(const struct recompressor_options *opt, struct recompressor **out,
		      struct error *err)
{
	struct recompressor *r = calloc(1, sizeof(*r));
	int rc = 0;

	if (!r)
		return error_set(err, -ENOMEM, "out of memory");
	r->opt = *opt;
	pthread_mutex_init(&r->lock, NULL);
	cond_init_monotonic(&r->changed);
	if (opt->level > 0)
		rc = pthread_create(&r->thread, NULL, worker, r);
	if (rc) {
		recompressor_close(r);
		return error_set_errno(err, -rc, "cannot start the thread that recompresses");
	}
	r->started = opt->level > 0;
	*out = r;
	return 0;
}

void recompressor_close(struct recompressor *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stopping = true;
	atomic_store_explicit(&r->give_way, true, memory_order_relaxed);
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (r->started)
		pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* Waits until the thread has given way. -EBUSY where another request runs. */
static int begin_request(struct recompressor *r)
{
	int rc = 0;

	pthread_mutex_lock(&r->lock);
	if (r->request_runs)
		rc = -EBUSY;
	else
		r->request_runs = true;
	if (rc == 0)
		atomic_store_explicit(&r->give_way, true, memory_order_relaxed);
	while (rc == 0 && r->thread_runs)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

static void end_request(struct recompressor *r)
{
	pthread_mutex_lock(&r->lock);
	r->request_runs = false;
	atomic_store_explicit(&r->give_way, r->stopping, memory_order_relaxed);
	pthread_mutex_unlock(&r->lock);
}

int recompressor_run(struct recompressor *r, struct progress *p, struct recompress_result *out,
		     struct error *err)
{
	const struct recompress_options opt = { .level = r->opt.level };
	int rc = begin_request(r);

	if (rc < 0)
		return error_set(err, rc, "chunks are being recompressed already");
	rc = recompress_run(r->opt.store, &opt, p, out, err);
	end_request(r);
	return rc;
}
