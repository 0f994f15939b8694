/*
 * Order. Trees are walked in the order of their keys, which is about the order in
 * which an import stored their chunks. So chunks are replaced blob file by blob
 * file, and a whole file soon becomes garbage and is simply removed
 * (kv_compact_replaced). In the order of digests, a part of every file would stay
 * and have to be copied. The walk needs no hold on a tree: it passes over what is
 * gone.
 *
 * Threads. The calling thread reads and writes; workers only decode, hash and
 * compress. A worker of the lowest priority may not run for a long time, so it
 * must hold no lock that others need, and the database has many. When the run
 * has to end, the worker gets an ordinary priority, so that nobody waits long
 * for it (this needs CAP_SYS_NICE).
 *
 * Replacing. It happens under the guard's stripe of the digest, so that no
 * sweep comes between finding the chunk and writing it. Nobody waits for the
 * write to become permanent (KV_REPLACE): until then the old frame stays. A new
 * frame is decoded once and the content hashed before it replaces anything.
 */
#include "store/gc/recompress.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/pool.h"
#include "store/chunk/chunker.h"
#include "store/chunk/codec.h"
#include "store/gc/dict_train.h"
#include "store/chunk/digest_set.h"
#include "store/gc/store_root.h"

#define THREADS_MAX 64u
/* Read, compressed and written together, for each thread. */
#define GROUP_PER_THREAD 4u
#define VISITED_BYTES_MAX ((size_t)32 << 20)
#define BUSY_WAIT_MS 200
#define POLL_MS 20
/* After this many bytes of replaced frames, files that have become garbage are removed. */
#define COMPACT_BYTES_MIN ((uint64_t)256 << 20)
#define COMPACT_FRACTION 8
/* If less than this was replaced at the end, it is left to RocksDB's own compactions. */
#define WORTH_BYTES ((uint64_t)64 << 20)
#define WORTH_FRACTION 16

struct item {
	struct recompress *run;
	struct digest digest;
	struct kv_value frame; /* as it is stored */
	struct buf better;     /* empty: there is none */
	int rc;		       /* of the worker */
};

struct recompress {
	struct store *s;
	struct recompress_options opt;
	struct progress *p;
	struct recompress_result res;
	struct digest_set visited; /* nodes */
	struct codec_dict *dict;   /* or NULL */
	uint8_t note;		   /* of what is tried now */
	struct pool *pool;
	struct kv_batch *batch;
	struct item *items;
	unsigned count, capacity;
	uint64_t compact_bytes; /* garbage that is a reason to compact */
	uint64_t garbage_bytes; /* replaced since the last time */
	int64_t group_began_ms;
	/* For is_idle: the worker, 0 before it has begun; and the jobs that are not done. */
	_Atomic pid_t idle_tid;
	_Atomic unsigned pending;
};

/* Something long for a worker. */
struct job {
	struct recompress *run;
	void (*fn)(void *arg);
	void *arg;
};

/* ---- workers ---- */

/* Called in the worker: take the lowest priority. If that fails, no harm is done. */
static void become_idle(struct recompress *run)
{
	const struct sched_param none = { 0 };

	if (!run->opt.is_idle || atomic_load(&run->idle_tid) != 0)
		return;
	if (sched_setscheduler(0, SCHED_IDLE, &none) != 0)
		(void)!setpriority(PRIO_PROCESS, 0, 19); /* 0: this thread */
	atomic_store(&run->idle_tid, gettid());
}

/* Give the worker an ordinary priority again, from another thread. */
static void end_idling(struct recompress *run)
{
	const struct sched_param none = { 0 };
	pid_t tid = atomic_load(&run->idle_tid);

	if (tid == 0)
		return;
	(void)!sched_setscheduler(tid, SCHED_OTHER, &none);
	(void)!setpriority(PRIO_PROCESS, (id_t)tid, 0);
}

static void sleep_ms(int64_t ms)
{
	usleep((useconds_t)(ms * 1000));
}

/* Wait for the workers. */
static void wait_jobs(struct recompress *run)
{
	while (run->opt.is_idle && atomic_load(&run->pending) > 0) {
		if (progress_cancelled(run->p))
			end_idling(run);
		sleep_ms(POLL_MS);
	}
	pool_drain(run->pool);
}

static int decode_checked(struct chunk_store *cs, const void *frame, size_t len,
			  const struct digest *d, struct buf *out)
{
	int64_t raw_len = codec_raw_len(frame, len);
	struct digest actual;

	if (raw_len < 1 || raw_len > (int64_t)CHUNK_MAX)
		return -EBADMSG;
	buf_clear(out);
	int r = buf_reserve(out, (size_t)raw_len);
	if (r == 0)
		r = chunk_store_decode(cs, frame, len, out->data, (size_t)raw_len);
	if (r == 0)
		r = hash_bytes(out->data, (size_t)raw_len, &actual);
	if (r < 0)
		return r;
	out->len = (size_t)raw_len;
	return digest_equal(&actual, d) ? 0 : -EBADMSG;
}

static int compress_item(struct item *it)
{
	CLEANUP(buf_fini_p) struct buf raw = BUF_INIT;
	const struct recompress *run = it->run;
	struct chunk_store *cs = run->s->chunks;
	int r = decode_checked(cs, it->frame.data, it->frame.len, &it->digest, &raw);

	if (r == 0)
		r = codec_encode_dict(run->opt.level, run->dict, raw.data, raw.len, &it->better);
	if (r < 0)
		return r;
	if (it->better.len >= it->frame.len) {
		buf_clear(&it->better);
		return 0;
	}
	/* A bit that flipped in memory must not get into the store. */
	return decode_checked(cs, it->better.data, it->better.len, &it->digest, &raw);
}

static void compress_job(void *arg)
{
	struct item *it = arg;

	become_idle(it->run);
	it->rc = compress_item(it);
	atomic_fetch_sub(&it->run->pending, 1);
}

static void run_job(void *arg)
{
	const struct job *job = arg;

	become_idle(job->run);
	job->fn(job->arg);
	atomic_fetch_sub(&job->run->pending, 1);
}

/* dict_run_fn */
static void run_aside(void *arg, void (*fn)(void *fn_arg), void *fn_arg)
{
	struct recompress *run = arg;
	struct job job = { run, fn, fn_arg };

	atomic_fetch_add(&run->pending, 1);
	pool_submit(run->pool, run_job, &job);
	wait_jobs(run);
}

/* ---- a group of chunks ---- */

/* Wait until the run may go on: 0, or -ECANCELED. */
static int wait_turn(struct recompress *run)
{
	while (!progress_cancelled(run->p)) {
		if (!run->opt.is_busy || !run->opt.is_busy(run->opt.arg))
			return 0;
		sleep_ms(BUSY_WAIT_MS);
	}
	return -ECANCELED;
}

static bool was_tried(const struct recompress *run, uint8_t note)
{
	bool with_dict = note & RECOMPRESS_WITH_DICT;

	return (note & ~RECOMPRESS_WITH_DICT) >= run->opt.level && (with_dict || !run->dict);
}

/* Whether it is still the frame that was read, and this run has not tried it. */
static bool is_still(const struct item *it, const struct kv_head *head)
{
	return head->value_len == it->frame.len && !was_tried(it->run, head->note) &&
	       memcmp(head->bytes, it->frame.data, head->len) == 0;
}

static int replace_locked(struct recompress *run, const struct item *it)
{
	struct kv *kv = run->s->kv;
	const uint8_t *key = it->digest.b;
	struct kv_head head;
	int r = kv_get_head(kv, key, DIGEST_SIZE, &head);

	if (r < 0)
		return r;
	if (!is_still(it, &head))
		return -ESTALE;
	kv_batch_clear(run->batch);
	if (it->better.len > 0)
		kv_batch_put_noted(kv, run->batch, key, DIGEST_SIZE, it->better.data,
				   it->better.len, run->note);
	else
		kv_batch_note(kv, run->batch, key, DIGEST_SIZE, &head, run->note);
	return kv_write(kv, run->batch, KV_REPLACE);
}

/* Replace a chunk's frame by what the worker made of it. 0 or a failure. */
static int finish_item(struct recompress *run, const struct item *it)
{
	if (it->rc == -EBADMSG) {
		run->res.damaged_chunks++;
		return 0;
	}
	if (it->rc < 0)
		return it->rc;
	/* I/O under this lock is its purpose: no sweep may come between. */
	guard_touch_lock(run->s->guard, &it->digest);
	int r = replace_locked(run, it);
	guard_touch_unlock(run->s->guard, &it->digest);
	if (r == -ENOENT || r == -ESTALE) /* collected, or somebody else was quicker */
		return 0;
	if (r < 0)
		return r;
	run->res.tried_chunks++;
	if (it->better.len > 0) {
		run->res.replaced_chunks++;
		run->res.before_bytes += it->frame.len;
		run->res.after_bytes += it->better.len;
		run->garbage_bytes += it->frame.len;
	}
	return 0;
}

static void report(struct recompress *run, bool force)
{
	if (!run->p)
		return;
	run->p->done_bytes = run->res.before_bytes - run->res.after_bytes;
	progress_tick(run->p, force);
}

static int run_group(struct recompress *run)
{
	int r = 0;

	if (run->count == 0)
		return wait_turn(run);
	atomic_fetch_add(&run->pending, run->count);
	for (unsigned i = 0; i < run->count; i++)
		pool_submit(run->pool, compress_job, &run->items[i]);
	wait_jobs(run);
	kv_throttle(run->s->kv);
	for (unsigned i = 0; i < run->count; i++) {
		struct item *it = &run->items[i];
		if (r == 0)
			r = finish_item(run, it);
		kv_value_release(&it->frame);
		buf_clear(&it->better);
	}
	run->count = 0;
	if (r == 0 && run->garbage_bytes >= run->compact_bytes) {
		run->garbage_bytes = 0;
		r = kv_compact_replaced(run->s->kv);
	}
	report(run, false);
	if (run->opt.is_idle)
		sleep_ms(monotonic_ms() - run->group_began_ms);
	return r ? r : wait_turn(run);
}

static int add_chunk(struct recompress *run, const struct digest *d)
{
	struct item *it = &run->items[run->count];
	struct kv_head head;

	if (run->p)
		run->p->done_items++;
	int r = kv_get_head(run->s->kv, d->b, DIGEST_SIZE, &head);
	if (r == 0 && was_tried(run, head.note))
		return 0;
	if (r == 0)
		r = kv_get(run->s->kv, KV_CHUNK, d->b, DIGEST_SIZE, &it->frame);
	if (r == -ENOENT || r == -EBADMSG)
		return 0; /* collected, or damage that verify reports */
	if (r < 0)
		return r;
	if (run->count == 0)
		run->group_began_ms = monotonic_ms();
	it->digest = *d;
	return ++run->count == run->capacity ? run_group(run) : 0;
}

/* ---- the walk ---- */

static int walk_node(struct recompress *run, const struct digest *d)
{
	CLEANUP(node_unref_p) struct node *n = NULL;

	if (!digest_set_add(&run->visited, d))
		return 0;
	int r = node_store_peek(run->s->nodes, d, &n);
	if (r == -ENODATA || r == -EBADMSG)
		return 0; /* deleted meanwhile, or damage that verify reports */
	for (uint32_t i = 0; r == 0 && i < n->view.count; i++) {
		const uint8_t *key, *val;
		size_t klen, vlen;
		struct digest child;

		node_entry(&n->view, i, &key, &klen, &val, &vlen);
		if (n->view.level > 0) {
			if (vlen != DIGEST_SIZE)
				continue;
			memcpy(child.b, val, DIGEST_SIZE);
			r = walk_node(run, &child);
		} else if (leaf_entry_chunk(key, klen, val, vlen, &child) == 1) {
			r = add_chunk(run, &child);
		}
	}
	report(run, false);
	return r == 0 && progress_cancelled(run->p) ? -ECANCELED : r;
}

static int walk_all(struct recompress *run, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf roots = BUF_INIT;
	int r = store_roots(run->s, &roots, err);
	const struct store_root *root = (const struct store_root *)roots.data;

	for (size_t i = 0; r == 0 && i < roots.len / sizeof(*root); i++)
		r = walk_node(run, &root[i].root);
	return r ? r : run_group(run);
}

/* ---- the whole ---- */

static void begin_phase(struct recompress *run, const char *name, uint64_t total)
{
	if (!run->p)
		return;
	run->p->phase = name;
	run->p->done_items = run->p->done_bytes = run->p->total_bytes = 0;
	run->p->total_items = total;
	report(run, true);
}

static int work(struct recompress *run, struct error *err)
{
	struct kv_stats st;

	kv_stats(run->s->kv, &st);
	uint64_t stored = st.live_bytes[KV_CHUNK];
	begin_phase(run, "looking for what is common", 0);
	int r = dict_newest(run->s, run->opt.level, run_aside, run, &run->dict, err);
	if (r == 0 && progress_cancelled(run->p))
		r = -ECANCELED;
	if (r < 0)
		return r;
	run->note = (uint8_t)(run->opt.level | (run->dict ? RECOMPRESS_WITH_DICT : 0));
	run->compact_bytes = MAX(COMPACT_BYTES_MIN, stored / COMPACT_FRACTION);
	begin_phase(run, "recompressing", st.keys[KV_CHUNK]);
	r = walk_all(run, err);
	if (r == 0 && run->res.before_bytes > MIN(WORTH_BYTES, stored / WORTH_FRACTION)) {
		begin_phase(run, "compacting", 0);
		r = kv_compact_content(run->s->kv);
	}
	return r;
}

static int init(struct recompress *run)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned threads = run->opt.threads ? run->opt.threads : cores > 0 ? (unsigned)cores : 1;

	threads = run->opt.is_idle ? 1 : MIN(threads, THREADS_MAX);
	digest_set_init(&run->visited, VISITED_BYTES_MAX);
	run->capacity = threads * GROUP_PER_THREAD;
	run->items = calloc(run->capacity, sizeof(*run->items));
	run->pool = pool_new(threads, run->capacity);
	run->batch = kv_batch_new();
	if (!run->items || !run->pool || !run->batch)
		return -ENOMEM;
	for (unsigned i = 0; i < run->capacity; i++)
		run->items[i] = (struct item){ .run = run, .better = BUF_INIT };
	return 0;
}

static void fini(struct recompress *run)
{
	pool_free(run->pool);
	for (unsigned i = 0; run->items && i < run->capacity; i++) {
		kv_value_release(&run->items[i].frame);
		buf_fini(&run->items[i].better);
	}
	free(run->items);
	kv_batch_free(run->batch);
	codec_dict_free(run->dict);
	digest_set_fini(&run->visited);
}

int recompress_run(struct store *s, const struct recompress_options *opt, struct progress *p,
		   struct recompress_result *out, struct error *err)
{
	struct recompress run = { .s = s, .p = p };

	*out = run.res;
	if (store_is_read_only(s))
		return error_set(err, -EROFS, "the store is open to read only");
	if (opt)
		run.opt = *opt;
	if (run.opt.level == 0)
		run.opt.level = RECOMPRESS_LEVEL_DEFAULT;
	if (run.opt.level < 1 || run.opt.level > RECOMPRESS_LEVEL_MAX)
		return error_set(err, -EINVAL, "the level must be 1 to %d", RECOMPRESS_LEVEL_MAX);
	int r = space_check(&s->space, SPACE_GROWTH, 0, err);
	if (r)
		return r;
	r = init(&run);
	if (r == 0)
		r = work(&run, err);
	fini(&run);
	*out = run.res;
	return r ? error_prefix(err, r, "cannot recompress") : 0;
}
