/*
 * Mark and sweep, by the protocol of guard.h.
 *
 * Mark. Roots are listed after the grace period (guard_collect_wait), snapshots
 * before pins before holds (store.h). Every node below them is visited once: an
 * exact set of digests says where we have been. The guard's Bloom filter is only
 * ever asked by the sweep; a false positive there keeps garbage, while skipping
 * a node in the mark because of one would lose what is below it.
 *
 * What the sweep may rely on. That a node or chunk exists says nothing about
 * what a node refers to. A sweep that was interrupted, a crash, or a false
 * positive can leave a node whose children are gone. So nobody relies on that:
 * writers store or touch everything below a new node themselves, or take over
 * subtrees of a tree that a record, pin or hold keeps. And presence is always
 * asked of the database, never of a cache.
 *
 * Durability of deletes. They are written like content, without asking for the
 * log. After a crash some garbage is back, whichever deletes were flushed. What
 * must not happen is that a delete takes effect on a chunk that was stored again
 * after it. Within a run the database orders them. Across a crash, the later
 * store is either lost too (then no record names it, since records are written
 * after a flush), or flushed, or in the synced log. If it was flushed, so was
 * the older delete, from the same memtable or an earlier one; and a copy of the
 * delete that the log may have (small writes are logged, see kv_write.c) is not
 * replayed, because a flush switches to a new log file and notes in the manifest
 * that this family needs nothing older. If it is in the log, then either the
 * delete is in the log before it, or the delete is lost.
 *
 * One delete, one write, under the stripe of its digest: a write without sync
 * takes a few microseconds, so a writer that wants the stripe hardly waits.
 */
#include "store/gc/gc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/wire.h"
#include "store/chunk/digest_set.h"
#include "store/gc/store_root.h"
#include "store/kv/meta.h"

#define FILTER_BYTES_DEFAULT ((size_t)16 << 20)
#define FILTER_BITS_PER_KEY 10
#define VISITED_BYTES_MAX ((size_t)64 << 20)
#define CURSOR_NAME "cursor"
/* After this many keys the sweep saves the cursor and makes a new iterator. */
#define SWEEP_RUN 65536
/* Nodes marked, or keys swept, between calls of `pace`. */
#define PACE_STEPS 64

struct gc {
	struct store *s;
	struct progress *p;
	const struct gc_options *opt; /* or NULL */
	unsigned steps;
	struct gc_result res;
	struct digest_set visited;
	struct kv_batch *batch;
};

static bool is_dry(const struct gc *gc)
{
	return gc->opt && gc->opt->dry_run;
}

static void phase(struct gc *gc, const char *name, uint64_t total)
{
	if (!gc->p)
		return;
	gc->p->phase = name;
	gc->p->done_items = gc->p->done_bytes = gc->p->total_bytes = 0;
	gc->p->total_items = total;
	progress_tick(gc->p, true);
}

/* One item is done. 0, or -ECANCELED. */
static int step(struct gc *gc)
{
	if (gc->p) {
		gc->p->done_items++;
		gc->p->done_bytes = gc->res.removed_bytes;
		progress_tick(gc->p, false);
	}
	if (gc->opt && gc->opt->pace && ++gc->steps % PACE_STEPS == 0)
		gc->opt->pace(gc->opt->arg);
	return progress_cancelled(gc->p) ? -ECANCELED : 0;
}

/* ---- mark ---- */

static int mark_leaf_entry(struct gc *gc, const uint8_t *key, size_t klen, const uint8_t *val,
			   size_t vlen)
{
	struct digest chunk;
	int rc = leaf_entry_chunk(key, klen, val, vlen, &chunk);

	if (rc > 0)
		guard_mark(gc->s->guard, &chunk);
	if (rc > 0 && gc->opt && gc->opt->chunk)
		gc->opt->chunk(gc->opt->arg, &chunk);
	return MIN(rc, 0);
}

/* level: what the parent says it must be; -1 for a root. */
static int mark_node(struct gc *gc, const struct digest *d, int level)
{
	CLEANUP(node_unref_p) struct node *n = NULL;
	if (!digest_set_add(&gc->visited, d))
		return 0;
	guard_mark(gc->s->guard, d);
	int rc = node_store_peek(gc->s->nodes, d, &n);
	if (rc != 0)
		return rc;
	if (level >= 0 && n->view.level != level)
		return -EBADMSG;
	gc->res.marked_nodes++;
	rc = step(gc);
	for (uint32_t i = 0; rc == 0 && i < n->view.count; i++) {
		const uint8_t *key, *val;
		size_t klen, vlen;
		struct digest child;
		node_entry(&n->view, i, &key, &klen, &val, &vlen);
		if (n->view.level == 0) {
			rc = mark_leaf_entry(gc, key, klen, val, vlen);
			continue;
		}
		if (vlen != DIGEST_SIZE)
			return -EBADMSG;
		memcpy(child.b, val, DIGEST_SIZE);
		rc = mark_node(gc, &child, n->view.level - 1);
	}
	return rc;
}

static int mark_chunk(void *arg, const struct digest *chunk)
{
	const struct gc *gc = arg;

	guard_mark(gc->s->guard, chunk);
	if (gc->opt && gc->opt->chunk)
		gc->opt->chunk(gc->opt->arg, chunk);
	return 0;
}

static int mark(struct gc *gc, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf roots = BUF_INIT;
	phase(gc, "marking", 0);
	int rc = store_roots(gc->s, &roots, err);
	if (rc == 0)
		rc = store_pinned_chunks(gc->s, mark_chunk, gc, err);
	const struct store_root *r = (const struct store_root *)roots.data;
	for (size_t i = 0; rc == 0 && i < roots.len / sizeof(*r); i++) {
		if (is_dry(gc) && r[i].expired)
			continue;
		rc = mark_node(gc, &r[i].root, -1);
		if (rc != 0)
			error_set_errno(err, rc, "cannot read the tree of %s", r[i].label);
	}
	return rc;
}

/* ---- sweep ---- */

/* The position of a sweep: a family and the next digest. */
struct cursor {
	enum kv_family family;
	struct digest next;
};
#define CURSOR_SIZE (1 + DIGEST_SIZE)

static struct cursor cursor_load(struct store *s)
{
	struct cursor c = { .family = KV_CHUNK };
	struct kv_value v = { 0 };
	/* Nothing is lost if it cannot be read: the sweep starts at the beginning. */
	if (meta_get(s->kv, META_GC, CURSOR_NAME, &v) == 0 && v.len == CURSOR_SIZE &&
	    (v.data[0] == KV_CHUNK || v.data[0] == KV_NODE)) {
		c.family = (enum kv_family)v.data[0];
		memcpy(c.next.b, v.data + 1, DIGEST_SIZE);
	}
	kv_value_release(&v);
	return c;
}

/* NULL: the sweep has come round. */
static int cursor_save(struct gc *gc, const struct cursor *c)
{
	int rc;

	if (is_dry(gc))
		return 0;
	kv_batch_clear(gc->batch);
	if (c) {
		uint8_t value[CURSOR_SIZE] = { (uint8_t)c->family };
		memcpy(value + 1, c->next.b, DIGEST_SIZE);
		rc = meta_batch_put(gc->s->kv, gc->batch, META_GC, CURSOR_NAME, value,
				    sizeof(value));
	} else {
		rc = meta_batch_del(gc->s->kv, gc->batch, META_GC, CURSOR_NAME);
	}
	return rc < 0 ? rc : kv_write(gc->s->kv, gc->batch, KV_LOG);
}

static int delete_one(struct gc *gc, enum kv_family f, const struct digest *d)
{
	kv_batch_clear(gc->batch);
	kv_batch_del(gc->s->kv, gc->batch, f, d->b, DIGEST_SIZE);
	return kv_write(gc->s->kv, gc->batch, KV_NO_LOG);
}

static int sweep_one(struct gc *gc, enum kv_family f, const struct digest *d, size_t stored)
{
	uint64_t *removed = f == KV_CHUNK ? &gc->res.removed_chunks : &gc->res.removed_nodes;
	if (!guard_sweep_lock(gc->s->guard, d)) {
		gc->res.marked_chunks += f == KV_CHUNK;
		return 0;
	}
	/* I/O under this lock is its purpose: a writer must see the entry or store it again. */
	int rc = is_dry(gc) ? 0 : delete_one(gc, f, d);
	guard_sweep_unlock(gc->s->guard, d);
	if (rc != 0)
		return rc;
	(*removed)++;
	gc->res.removed_bytes += stored;
	return 0;
}

/*
 * Sweep up to SWEEP_RUN keys of c's family and move c on. 1 to go on, 0 if the
 * family has ended or `end` (NULL: none) is reached, or a failure.
 */
static int sweep_run(struct gc *gc, struct cursor *c, const struct digest *end)
{
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new_heads(gc->s->kv, c->family);
	if (!it)
		return -ENOMEM;
	kv_iter_seek(it, c->next.b, DIGEST_SIZE);
	for (unsigned n = 0; kv_iter_valid(it); kv_iter_next(it), n++) {
		size_t len;
		const uint8_t *key = kv_iter_key(it, &len);
		if (len != DIGEST_SIZE)
			continue;
		memcpy(c->next.b, key, DIGEST_SIZE);
		if (end && memcmp(c->next.b, end->b, DIGEST_SIZE) >= 0)
			return 0;
		if (n >= SWEEP_RUN)
			return 1;
		int rc = sweep_one(gc, c->family, &c->next, kv_iter_value_len(it));
		if (rc == 0)
			rc = step(gc);
		if (rc != 0)
			return rc;
	}
	return kv_iter_status(it);
}

static int sweep_family(struct gc *gc, enum kv_family f, const struct digest *from,
			const struct digest *end)
{
	struct cursor c = { .family = f };
	int rc;
	if (from)
		c.next = *from;
	do {
		rc = sweep_run(gc, &c, end);
		int saved = rc == 0 ? 0 : cursor_save(gc, &c);
		rc = rc < 0 || saved == 0 ? rc : saved;
	} while (rc == 1);
	return rc;
}

/* From the cursor to the end, the other family, and round to the cursor. */
static int sweep(struct gc *gc, struct error *err)
{
	struct cursor start = cursor_load(gc->s);
	struct kv_stats st;
	kv_stats(gc->s->kv, &st);
	phase(gc, "sweeping", st.keys[KV_CHUNK] + st.keys[KV_NODE]);
	int rc = sweep_family(gc, start.family, &start.next, NULL);
	if (rc == 0)
		rc = sweep_family(gc, start.family == KV_CHUNK ? KV_NODE : KV_CHUNK, NULL, NULL);
	if (rc == 0)
		rc = sweep_family(gc, start.family, NULL, &start.next);
	if (rc == 0)
		rc = cursor_save(gc, NULL);
	return rc ? error_set_errno(err, rc, "cannot remove what is unused") : 0;
}

/* ---- the whole ---- */

/* Of a dry run, how many snapshots would be deleted. */
static int count_expired(struct gc *gc, struct error *err)
{
	const int64_t now_ms = clock_ms();
	struct snapshot *list = NULL;
	size_t n = 0;
	int rc = snapshots_list(gc->s->snapshots, &list, &n, err);

	for (size_t i = 0; i < n; i++)
		gc->res.expired_snapshots += snapshot_is_expired(&list[i], now_ms);
	snapshots_list_free(list, n);
	return rc;
}

static int collect(struct gc *gc, struct error *err)
{
	int rc = is_dry(gc) ? count_expired(gc, err)
			    : snapshots_expire(gc->s->snapshots, clock_ms(),
					       &gc->res.expired_snapshots, err);
	if (rc != 0)
		return rc;
	phase(gc, "waiting for writers", 0);
	guard_collect_wait(gc->s->guard);
	rc = mark(gc, err);
	return rc ? rc : sweep(gc, err);
}

/* Large enough that one key in 100 is kept in error, however large the store is. */
static size_t filter_size(struct store *s, const struct gc_options *opt)
{
	struct kv_stats st;
	if (opt && opt->filter_bytes)
		return opt->filter_bytes;
	kv_stats(s->kv, &st);
	uint64_t keys = st.keys[KV_CHUNK] + st.keys[KV_NODE];
	return MAX(FILTER_BYTES_DEFAULT, (size_t)(keys * FILTER_BITS_PER_KEY / 8));
}

int gc_run(struct store *s, const struct gc_options *opt, struct progress *p, struct gc_result *out,
	   struct error *err)
{
	if (store_is_read_only(s))
		return error_set(err, -EROFS, "the store is open to read only");
	CLEANUP(kv_batch_free_p) struct kv_batch *batch = kv_batch_new();
	if (!batch)
		return error_set_errno(err, -ENOMEM, "cannot collect garbage");
	struct gc gc = { .s = s, .p = p, .opt = opt, .batch = batch };
	int rc = guard_collect_begin(s->guard, filter_size(s, opt));
	if (rc == -EBUSY)
		return error_set(err, rc, "garbage is being collected already");
	if (rc == -EAGAIN)
		return error_set(err, -EBUSY,
				 "what began before the last collection (an import, a build, a "
				 "checkpoint) still writes: collect when it has ended");
	if (rc != 0)
		return error_set_errno(err, rc, "cannot collect garbage");
	digest_set_init(&gc.visited, VISITED_BYTES_MAX);
	rc = collect(&gc, err);
	digest_set_fini(&gc.visited);
	guard_collect_end(s->guard);
	if (rc != 0)
		return rc;
	*out = gc.res;
	if (opt && opt->compact && !opt->dry_run) {
		phase(&gc, "compacting", 0);
		rc = kv_compact_content(s->kv);
		if (rc != 0)
			error_set_errno(err, rc,
					"garbage is removed (%" PRIu64 " chunks), but its space "
					"cannot be given back to the disk",
					gc.res.removed_chunks);
	}
	return rc;
}
