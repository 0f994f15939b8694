/*
 * Once a second the thread looks whether there is a reason to collect. When the
 * last collection was is kept in the store, so that a daemon that is restarted
 * often collects all the same.
 *
 * Who collects is said by thread_runs and request_runs under `lock`: the thread
 * gives way to a request, and a second request is refused.
 */
#include "snapshotd/state/collector.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/host/mountinfo.h"
#include "fs/fuse/session_pool.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/wire.h"
#include "store/kv/meta.h"

#define LAST_NAME "last" /* milliseconds since 1970, u64 little-endian */
#define RESERVE_FILE "reserve"
/* Snapshots and mounts whose time is up are looked for this often. */
#define EXPIRE_S 60
/*
 * After a collection, a nearly full disk is no reason for another before this. Where
 * nothing was deleted since, that doubles with each that finds nothing, up to an hour.
 */
#define DISK_AGAIN_S 10
#define DISK_AGAIN_MAX_S 3600
/* Requests to mounts in a second from which on they count as busy. */
#define BUSY_REQUESTS 50
/* For each moment of work, so many of sleep: while mounts are busy, and else. */
#define SLEEP_BUSY 6
#define SLEEP_IDLE 1
#define SLEEP_MAX_US 200000

struct collector {
	struct collector_options opt; /* but for its reasons, which change: */
	struct {
		_Atomic unsigned interval_s, detached_s, changed_s;
		_Atomic uint64_t garbage_bytes, free_bytes;
	} when;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* of what lock guards */
	/* guarded by lock: */
	bool stopping, thread_runs, request_runs;
	struct collector_stats stats;
	_Atomic bool give_way; /* stopping, or a request wants to run */
	/* Of whoever runs: */
	uint64_t seen_deleted; /* at the begin of the last collection */
	/* The thread's own: */
	uint64_t seen_requests;
	int64_t seen_ms, worked_us, disk_ms, expired_ms;
	unsigned disk_wait_s;
	bool busy, hurry;
};

/* ---- the time of the last one ---- */

static int64_t load_last(struct store *s)
{
	struct kv_value v = { 0 };
	int64_t ms = 0;

	if (meta_get(s->kv, META_GC, LAST_NAME, &v) == 0 && v.len == 8)
		ms = (int64_t)wire_get64(v.data);
	kv_value_release(&v);
	return ms;
}

static void save_last(struct store *s, int64_t ms)
{
	uint8_t value[8];

	wire_set64(value, (uint64_t)ms);
	if (meta_put(s->kv, META_GC, LAST_NAME, value, sizeof(value), KV_LOG))
		log_debug("when garbage was collected is not recorded");
}

static int64_t next_ms(const struct collector *c, int64_t last)
{
	const unsigned interval_s = c->when.interval_s;

	return interval_s ? last + (int64_t)interval_s * 1000 : 0;
}

static void store_reasons(struct collector *c, const struct collector_reasons *r)
{
	c->when.interval_s = r->interval_s;
	c->when.garbage_bytes = r->garbage_bytes;
	c->when.free_bytes = r->free_bytes;
	c->when.detached_s = r->detached_s;
	c->when.changed_s = r->changed_s;
}

void collector_set_reasons(struct collector *c, const struct collector_reasons *r)
{
	pthread_mutex_lock(&c->lock);
	store_reasons(c, r);
	c->stats.next_ms = next_ms(c, c->stats.last_ms ? c->stats.last_ms : clock_ms());
	pthread_mutex_unlock(&c->lock);
}

/* ---- the disk ---- */

static bool is_low(struct collector *c)
{
	return space_free(&c->opt.store->space) < c->when.free_bytes;
}

/* It is put by as the disk gets full, while there is room for it many times over. */
static void keep_reserve(struct collector *c)
{
	struct store *s = c->opt.store;
	const uint64_t room = space_free(&s->space);
	struct stat st;
	int fd;

	if (!c->opt.reserve_bytes || room > 2 * c->when.free_bytes ||
	    room < 8 * c->opt.reserve_bytes || fstatat(s->dir_fd, RESERVE_FILE, &st, 0) == 0)
		return;
	fd = openat(s->dir_fd, RESERVE_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (posix_fallocate(fd, 0, (off_t)c->opt.reserve_bytes))
		unlinkat(s->dir_fd, RESERVE_FILE, 0);
	close(fd);
}

static void use_reserve(struct collector *c)
{
	struct store *s = c->opt.store;

	if (space_free(&s->space) < c->opt.reserve_bytes &&
	    unlinkat(s->dir_fd, RESERVE_FILE, 0) == 0)
		log_warn("the disk is full: the reserve is used to collect garbage");
}

/* ---- one collection, whoever asks for it ---- */

/* What gc_run calls back: both users of its arg. */
struct collection {
	struct lazy_index *index;
	const struct gc_options *asked;
};

static void collection_pace(void *arg)
{
	const struct collection *x = arg;

	x->asked->pace(x->asked->arg);
}

static void collection_chunk(void *arg, const struct digest *d)
{
	const struct collection *x = arg;

	lazy_index_mark(x->index, d);
}

/* As gc_run; and where far chunks are is forgotten of those that nothing refers to. */
static int collect_once(struct collector *c, const struct gc_options *asked, struct progress *p,
			struct gc_result *out, struct error *err)
{
	struct collection x = { c->opt.index, asked };
	struct gc_options opt = asked ? *asked : (struct gc_options){ 0 };
	int rc;

	if (!c->opt.index || (asked && asked->dry_run) || lazy_index_count(c->opt.index, NULL) == 0)
		return gc_run(c->opt.store, asked, p, out, err);
	opt.arg = &x;
	opt.chunk = collection_chunk;
	if (asked && asked->pace)
		opt.pace = collection_pace;
	lazy_index_mark_begin(c->opt.index);
	rc = gc_run(c->opt.store, &opt, p, out, err);
	if (rc == 0)
		lazy_index_mark_end(c->opt.index);
	return rc;
}

/* ---- mounts that nobody came back for ---- */

int64_t collector_discards_at_ms(const struct collector *c, const struct mount_info *info)
{
	const bool changed = info->changed_inodes || info->upper_bytes || info->sealing;
	const unsigned age_s = changed ? c->when.changed_s : c->when.detached_s;

	/* What is mounted in the store's directory is the daemon's own to keep or to end. */
	if (info->attached || info->held || !info->detached_at_ms || !age_s ||
	    path_is_within(info->mountpoint, c->opt.store->dir))
		return 0;
	return info->detached_at_ms + (int64_t)age_s * 1000;
}

static uint64_t discard_old_mounts(struct collector *c)
{
	struct mount_entry **list;
	struct mount_info info;
	uint64_t count = 0;
	size_t n;

	if (mounts_list(c->opt.mounts, &list, &n) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		struct error err = ERROR_INIT;

		mount_get_info(mount_entry_mount(list[i]), &info);
		int64_t at = collector_discards_at_ms(c, &info);

		if (!at || at > clock_ms()) {
			mounts_put(c->opt.mounts, list[i]);
			continue;
		}
		if (mounts_discard(c->opt.mounts, list[i], &err) < 0) {
			log_warn("mount %s stays: %s", info.id, error_text(&err));
			mounts_put(c->opt.mounts, list[i]);
			continue;
		}
		count++;
		log_info("discarded mount %s of %s, detached long since from %s (%" PRIu64
			 " changed files)",
			 info.id, info.snapshot_name, info.mountpoint, info.changed_inodes);
	}
	free(list);
	return count;
}

/* What the clock ends, every minute or, with a short interval, as often. */
static void expire(struct collector *c)
{
	const unsigned interval_s = c->when.interval_s;
	const int64_t every_ms =
		(int64_t)MIN(interval_s ? interval_s : EXPIRE_S, (unsigned)EXPIRE_S) * 1000;
	struct error err = ERROR_INIT;
	uint64_t mounts, snapshots = 0;

	if (monotonic_ms() - c->expired_ms < every_ms)
		return;
	c->expired_ms = monotonic_ms();
	mounts = discard_old_mounts(c);
	if (snapshots_expire(c->opt.store->snapshots, clock_ms(), &snapshots, &err) < 0)
		log_warn("snapshots whose time is up stay: %s", error_text(&err));
	if (snapshots)
		log_info("removed %" PRIu64 " snapshots whose time was up", snapshots);
	pthread_mutex_lock(&c->lock);
	c->stats.discarded_mounts += mounts;
	c->stats.expired_snapshots += snapshots;
	pthread_mutex_unlock(&c->lock);
}

/* ---- collecting ---- */

/* Sleep in proportion to the work done since. */
static void pace(void *arg)
{
	struct collector *c = arg;
	int64_t now = monotonic_us(), sleep_us;
	uint64_t requests = session_pool_requests(c->opt.pool);

	if (now / 1000 - c->seen_ms >= 100) {
		c->busy = (requests - c->seen_requests) * 1000 >
			  (uint64_t)(now / 1000 - c->seen_ms) * BUSY_REQUESTS;
		c->seen_ms = now / 1000;
		c->seen_requests = requests;
	}
	sleep_us = (now - c->worked_us) * (c->hurry ? 0 : c->busy ? SLEEP_BUSY : SLEEP_IDLE);
	if (sleep_us > 0 && !atomic_load(&c->give_way))
		usleep((useconds_t)MIN(sleep_us, (int64_t)SLEEP_MAX_US));
	c->worked_us = monotonic_us();
}

static bool gives_way(void *arg)
{
	return atomic_load(&((struct collector *)arg)->give_way);
}

/* What fails is tried again with the next collection. */
static void tidy(struct collector *c)
{
	struct error err = ERROR_INIT;

	if (c->opt.tidy && c->opt.tidy(c->opt.store, &err) < 0)
		log_warn("%s", error_text(&err));
}

static void note_run(struct collector *c, const char *reason, const struct gc_result *r)
{
	const int64_t now = clock_ms();
	struct metrics *m = c->opt.metrics;

	save_last(c->opt.store, now);
	atomic_fetch_add_explicit(&m->gc_removed_bytes, r->removed_bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&m->gc_removed_chunks, r->removed_chunks, memory_order_relaxed);
	pthread_mutex_lock(&c->lock);
	c->stats.runs++;
	c->stats.removed_bytes += r->removed_bytes;
	c->stats.expired_snapshots += r->expired_snapshots;
	c->stats.last_ms = now;
	c->stats.next_ms = next_ms(c, now);
	c->stats.last_reason = reason;
	pthread_mutex_unlock(&c->lock);
}

/* A reason to collect, or NULL. */
static const char *reason_to_collect(struct collector *c)
{
	const uint64_t deleted = snapshots_deleted_bytes(c->opt.store->snapshots) - c->seen_deleted;
	const uint64_t garbage_bytes = c->when.garbage_bytes;
	const int64_t interval_ms = (int64_t)c->when.interval_s * 1000, now = clock_ms();

	/* A clock that was set back is no reason to wait for it. */
	if (interval_ms) {
		struct collector_stats st;

		collector_get_stats(c, &st);
		if (now >= st.next_ms || st.next_ms - now > interval_ms)
			return "interval";
	}
	if (garbage_bytes && deleted >= garbage_bytes)
		return "deleted";
	if (!c->when.free_bytes || !is_low(c))
		c->disk_wait_s = DISK_AGAIN_S;
	else if (monotonic_ms() - c->disk_ms >= (deleted ? DISK_AGAIN_S : c->disk_wait_s) * 1000ll)
		return "disk";
	return NULL;
}

static void collect(struct collector *c, const char *reason)
{
	const uint64_t deleted = snapshots_deleted_bytes(c->opt.store->snapshots);
	struct gc_options opt = { .pace = pace, .arg = c };
	struct progress p = { .cancelled = gives_way, .arg = c };
	struct gc_result r = { 0 };
	struct error err = ERROR_INIT;
	int rc;

	/* Rewriting files gives space back at once, and needs some: where the disk is wanted. */
	c->hurry = is_low(c);
	opt.compact = c->hurry;
	use_reserve(c);
	tidy(c);
	c->worked_us = monotonic_us();
	rc = collect_once(c, &opt, &p, &r, &err);
	c->disk_ms = monotonic_ms();
	if (rc == -ECANCELED || rc == -EBUSY)
		return;
	metrics_work(c->opt.metrics, METRICS_GC, rc < 0);
	if (rc < 0)
		log_warn("a collection of garbage has failed: %s", error_text(&err));
	if (c->hurry)
		c->disk_wait_s = r.removed_bytes
					 ? DISK_AGAIN_S
					 : MIN(c->disk_wait_s * 2, (unsigned)DISK_AGAIN_MAX_S);
	/* One that fails is not tried again at once, either, for whatever reason it was. */
	c->seen_deleted = deleted;
	note_run(c, reason, &r);
	if (r.removed_chunks || r.removed_nodes)
		log_info("collected garbage (%s): %" PRIu64 " chunks and %" PRIu64
			 " nodes, %" PRIu64 " KiB",
			 reason, r.removed_chunks, r.removed_nodes, r.removed_bytes >> 10);
}

static void evict(struct collector *c)
{
	struct progress p = { .cancelled = gives_way, .arg = c };
	const struct evict_options opt = { .pace = pace, .arg = c, .p = &p };
	struct evict_result r = { 0 };
	struct error err = ERROR_INIT;
	int rc;

	c->hurry = is_low(c);
	c->worked_us = monotonic_us();
	rc = evictor_run(c->opt.evictor, &opt, &r, &err);
	if (rc < 0 && rc != -ECANCELED && rc != -EBUSY)
		log_warn("the store stays larger than it should be: %s", error_text(&err));
	if (r.chunks)
		log_info("evicted %" PRIu64 " chunks, %" PRIu64 " KiB, that a bucket has", r.chunks,
			 r.bytes >> 10);
}

/* A second, or until it is to end: false. */
static bool wait_tick(struct collector *c)
{
	struct timespec until = monotonic_after_ms(1000);

	pthread_mutex_lock(&c->lock);
	while (!c->stopping && pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0)
		;
	bool stopping = c->stopping;
	pthread_mutex_unlock(&c->lock);
	return !stopping;
}

static bool take_turn(struct collector *c)
{
	pthread_mutex_lock(&c->lock);
	c->thread_runs = !c->stopping && !c->request_runs;
	bool taken = c->thread_runs;
	pthread_mutex_unlock(&c->lock);
	return taken;
}

static void end_turn(struct collector *c)
{
	pthread_mutex_lock(&c->lock);
	c->thread_runs = false;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

static void *worker(void *arg)
{
	struct collector *c = arg;

	pthread_setname_np(pthread_self(), "varve-collect");
	c->disk_ms = c->expired_ms = monotonic_ms() - EXPIRE_S * 1000;
	c->disk_wait_s = DISK_AGAIN_S;
	while (wait_tick(c)) {
		if (!take_turn(c))
			continue;
		keep_reserve(c);
		expire(c);
		const char *reason = reason_to_collect(c);

		if (reason)
			collect(c, reason);
		else if (c->opt.evictor && evictor_is_due(c->opt.evictor))
			evict(c);
		end_turn(c);
	}
	return NULL;
}

int collector_open(const struct collector_options *opt, struct collector **out, struct error *err)
{
	struct collector *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	c->opt = *opt;
	store_reasons(c, &opt->reasons);
	c->stats.last_reason = "";
	c->stats.last_ms = load_last(opt->store);
	c->stats.next_ms = next_ms(c, c->stats.last_ms ? c->stats.last_ms : clock_ms());
	if (!c->stats.last_ms)
		save_last(opt->store, clock_ms());
	pthread_mutex_init(&c->lock, NULL);
	cond_init_monotonic(&c->changed);
	rc = pthread_create(&c->thread, NULL, worker, c);
	c->started = rc == 0;
	if (rc) {
		collector_close(c);
		return error_set_errno(err, -rc, "cannot start the thread that collects garbage");
	}
	*out = c;
	return 0;
}

void collector_close(struct collector *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	atomic_store(&c->give_way, true);
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (c->started)
		pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Waits until the thread has given way. -EBUSY where another request runs. */
static int begin_request(struct collector *c)
{
	int rc = 0;

	pthread_mutex_lock(&c->lock);
	if (c->request_runs)
		rc = -EBUSY;
	else
		c->request_runs = true;
	if (rc == 0)
		atomic_store(&c->give_way, true);
	while (rc == 0 && c->thread_runs)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

static void end_request(struct collector *c)
{
	pthread_mutex_lock(&c->lock);
	c->request_runs = false;
	atomic_store(&c->give_way, c->stopping);
	pthread_mutex_unlock(&c->lock);
}

int collector_run(struct collector *c, const struct gc_options *opt, struct progress *p,
		  struct gc_result *out, struct error *err)
{
	const uint64_t deleted = snapshots_deleted_bytes(c->opt.store->snapshots);
	int rc = begin_request(c);

	if (rc < 0)
		return error_set(err, rc, "garbage is being collected already");
	*out = (struct gc_result){ 0 };
	if (opt && opt->dry_run) {
		rc = collect_once(c, opt, p, out, err);
		end_request(c);
		return rc;
	}
	use_reserve(c);
	tidy(c);
	rc = collect_once(c, opt, p, out, err);
	metrics_work(c->opt.metrics, METRICS_GC, rc < 0);
	/* It may have removed all and failed to give the space back. */
	if (rc == 0 || out->removed_bytes) {
		c->seen_deleted = deleted;
		note_run(c, "request", out);
	}
	end_request(c);
	return rc;
}

void collector_get_stats(struct collector *c, struct collector_stats *out)
{
	pthread_mutex_lock(&c->lock);
	*out = c->stats;
	pthread_mutex_unlock(&c->lock);
}
