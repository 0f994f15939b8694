/*
 * Sealing an epoch.
 *
 * The changed inodes, in order of their numbers, are given to a few threads (seal_turns.h).
 * Each rechunks its files' changed places and then, under one lock, stages the
 * inode's keys in a batch; a batch that has grown large is applied to the tree
 * (the root depends on the content alone, so slices give the same root as one
 * batch). The super record is staged last.
 */
#include "fs/mount/seal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fs/mount/seal_turns.h"
#include "store/base/pool.h"
#include "store/base/wire.h"

#define BATCH_MAX (32u << 20)
/* Changed files larger than this spread their chunks over a pool. */
#define BIG_FILE (4u << 20)
#define SEAL_THREADS_MAX 8

struct seal {
	struct view *v;
	struct unode **unodes;
	size_t n, cap;
	_Atomic size_t next;
	struct pool *pool;    /* of big files' chunks; shared; got when one turns up */
	pthread_mutex_t lock; /* guards all below */
	struct tree_batch *batch;
	struct digest root;
	struct super_rec super;
	uint64_t new_bytes;
	int failed;
};

/* Who has the lock may wait for a far source: who waits for him lends his turn as well. */
static void lock_seal(struct seal *s)
{
	bool lends = store_has_far(s->v->store) && pthread_mutex_trylock(&s->lock) != 0;

	if (lends)
		seal_turn_lend(true);
	if (lends || !store_has_far(s->v->store))
		pthread_mutex_lock(&s->lock);
	if (lends)
		seal_turn_lend(false);
}

/* --- staging an inode's keys; seal->lock held --- */
struct staged_key {
	uint8_t bytes[8 + sizeof(((struct subkey *)0)->bytes)];
	size_t len;
};

static void full_key(struct staged_key *k, uint64_t ino, const uint8_t *sub, size_t sub_len)
{
	wire_set64be(k->bytes, ino);
	memcpy(k->bytes + 8, sub, sub_len);
	k->len = 8 + sub_len;
}

/* Delete every key that an inode has in the base. */
static int stage_removal(struct seal *s, uint64_t ino)
{
	struct tree_iter *it CLEANUP(tree_iter_free_p) =
		tree_iter_new(s->v->base.nodes, &s->v->base.root);
	struct key from;
	int r;

	if (!it)
		return -ENOMEM;
	key_inode(&from, ino);
	for (r = tree_iter_seek(it, from.bytes, from.len); r == 1; r = tree_iter_next(it)) {
		size_t len;
		const uint8_t *key = tree_iter_key(it, &len);

		if (len < 8 || wire_get64be(key) != ino)
			return 0;
		r = tree_batch_del(s->batch, key, len);
		if (r)
			return r;
	}
	return r;
}

static int stage_entries(struct seal *s, struct unode *u)
{
	struct staged_key k;
	int r = 0;

	for (struct omap_entry *e = omap_seek_ge(&u->entries, "", 0); e && !r;
	     e = omap_seek_gt(&u->entries, omap_key(e), e->key_len)) {
		if (omap_key(e)[0] == KEY_EXTENT)
			continue;
		full_key(&k, u->ino, omap_key(e), e->key_len);
		r = e->tombstone
			    ? tree_batch_del(s->batch, k.bytes, k.len)
			    : tree_batch_put(s->batch, k.bytes, k.len, omap_value(e), e->value_len);
	}
	return r;
}

static int stage_extent_puts(struct seal *s, uint64_t ino, const struct buf *put)
{
	struct buf value CLEANUP(buf_fini_p) = BUF_INIT;
	struct key k;
	int r = 0;

	for (size_t at = 0; at < put->len && !r;) {
		struct seal_put_head h;
		struct extent_rec e;

		memcpy(&h, put->data + at, sizeof(h));
		at += sizeof(h);
		e = (struct extent_rec){ .kind = (enum extent_kind)h.kind,
					 .len = h.len,
					 .digest = h.digest,
					 .data = put->data + at };
		at += h.kind == EXTENT_INLINE ? h.len : 0;
		key_extent(&k, ino, h.off);
		buf_clear(&value);
		r = extent_encode(&e, &value);
		if (!r)
			r = tree_batch_put(s->batch, k.bytes, k.len, value.data, value.len);
	}
	return r;
}

static int stage_extents(struct seal *s, uint64_t ino, const struct seal_file_result *f)
{
	struct key k;
	int r = 0;

	for (size_t at = 0; at < f->del.len && !r; at += sizeof(uint64_t)) {
		uint64_t off;

		memcpy(&off, f->del.data + at, sizeof(off));
		key_extent(&k, ino, off);
		r = tree_batch_del(s->batch, k.bytes, k.len);
	}
	return r ? r : stage_extent_puts(s, ino, &f->put);
}

static int stage_rec(struct seal *s, uint64_t ino, const struct inode_rec *rec)
{
	struct buf value CLEANUP(buf_fini_p) = BUF_INIT;
	struct key k;
	int r = inode_encode(rec, &value);

	key_inode(&k, ino);
	return r ? r : tree_batch_put(s->batch, k.bytes, k.len, value.data, value.len);
}

static int apply_batch(struct seal *s)
{
	int r = space_take(&s->v->store->space, SPACE_OWN, tree_batch_bytes(s->batch));

	if (!r)
		r = tree_apply(s->v->base.nodes, &s->root, s->batch, &s->root, &s->new_bytes);

	tree_batch_clear(s->batch);
	return r;
}

static void count(struct seal *s, const struct inode_rec *was, const struct inode_rec *is)
{
	s->super.inode_count += (uint64_t)(is != NULL) - (uint64_t)(was != NULL);
	s->super.data_bytes += (is && S_ISREG(is->mode) ? is->size : 0) -
			       (was && S_ISREG(was->mode) ? was->size : 0);
}

/* --- one inode --- */
static bool has_extents(const struct unode *u)
{
	struct upper_extent x;

	return upper_extent_seek(u, 0, &x) != NULL;
}

static int seal_data(struct seal *s, struct file_chunks *small, struct unode *u,
		     const struct inode_rec *was, struct inode_rec *rec, struct seal_file_result *f)
{
	uint64_t base_size = was ? was->size : 0, before;
	struct file_chunks *fc = small;
	struct file_chunks *big CLEANUP(file_chunks_free_p) = NULL;
	int r;

	if (!S_ISREG(rec->mode))
		return 0;
	/*
	 * The view still counts zeros that an earlier seal turned into holes,
	 * if it had the record by then.
	 */
	rec->alloc_bytes = was ? was->alloc_bytes : 0;
	if (!has_extents(u) && base_size == rec->size)
		return 0;
	if (rec->size > BIG_FILE) {
		struct file_chunks_options opt = { .chunks = s->v->base.chunks,
						   .pool = s->pool,
						   .emit = seal_file_emit,
						   .at_cut = seal_file_at_cut };

		fc = big = file_chunks_new(&opt);
		if (!big)
			return -ENOMEM;
	}
	before = file_chunks_new_bytes(fc);
	r = seal_file(s->v, fc, u, base_size, rec->size, f);
	lock_seal(s);
	s->new_bytes += file_chunks_new_bytes(fc) - before;
	pthread_mutex_unlock(&s->lock);
	rec->alloc_bytes += (uint64_t)f->alloc_delta;
	return r;
}

static int stage_all(struct seal *s, struct unode *u, const struct inode_rec *was,
		     const struct inode_rec *rec, const struct seal_file_result *f)
{
	int r;

	lock_seal(s);
	if (rec) {
		r = stage_rec(s, u->ino, rec);
		if (!r)
			r = stage_entries(s, u);
		if (!r)
			r = stage_extents(s, u->ino, f);
	} else {
		r = was ? stage_removal(s, u->ino) : 0;
	}
	count(s, was, rec);
	/* I/O under the lock: without it the other threads would only make the batch grow. */
	if (!r && tree_batch_bytes(s->batch) > BATCH_MAX)
		r = apply_batch(s);
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int seal_unode(struct seal *s, struct file_chunks *small, struct unode *u)
{
	struct seal_file_result f = { 0 };
	struct view_rec was = { 0 };
	struct inode_rec rec;
	bool in_base;
	int r = tree_fs_inode(&s->v->base, u->ino, &was.rec, &was.pin);

	if (r && r != -ENOENT)
		return r;
	in_base = r == 0 && !u->fresh;
	rec = u->has_rec ? u->rec : was.rec;
	if (u->gone || (u->has_rec && rec.nlink == 0)) {
		r = stage_all(s, u, in_base ? &was.rec : NULL, NULL, &f);
	} else if (!u->has_rec && !in_base) {
		r = 0; /* what is left of an inode without a name */
	} else {
		r = seal_data(s, small, u, in_base ? &was.rec : NULL, &rec, &f);
		if (!r)
			r = stage_all(s, u, in_base ? &was.rec : NULL, &rec, &f);
	}
	seal_file_result_fini(&f);
	view_rec_fini(&was);
	return r;
}

/* A helper ends early if another seal waits for its turn. */
static void seal_unodes(struct seal *s, bool helps)
{
	struct file_chunks_options opt = { .chunks = s->v->base.chunks,
					   .emit = seal_file_emit,
					   .at_cut = seal_file_at_cut,
					   .gather = true };
	struct file_chunks *small CLEANUP(file_chunks_free_p) = file_chunks_new(&opt);
	int r = small ? 0 : -ENOMEM;

	while (!r && !(helps && seal_turn_is_wanted())) {
		size_t i = atomic_fetch_add(&s->next, 1);

		if (i >= s->n)
			break;
		r = seal_unode(s, small, s->unodes[i]);
	}
	if (!r)
		r = file_chunks_flush(small);
	if (r) {
		lock_seal(s);
		s->failed = s->failed ? s->failed : r;
		pthread_mutex_unlock(&s->lock);
		atomic_store(&s->next, s->n); /* the others need not go on */
	}
}

static void *helper_thread(void *arg)
{
	want_on_wait(seal_turn_lend);
	seal_unodes(arg, true);
	seal_turn_give();
	return NULL;
}

static int collect(void *arg, struct unode *u)
{
	struct seal *s = arg;

	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 256;
		struct unode **p = realloc(s->unodes, cap * sizeof(struct unode *));

		if (!p)
			return -ENOMEM;
		s->unodes = p;
		s->cap = cap;
	}
	s->unodes[s->n++] = u;
	return 0;
}

static int by_ino(const void *a, const void *b)
{
	const struct unode *x = *(struct unode *const *)a, *y = *(struct unode *const *)b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void run_threads(struct seal *s)
{
	pthread_t threads[SEAL_THREADS_MAX];
	size_t want = MIN(s->n / 8 + 1, (size_t)SEAL_THREADS_MAX), started = 0;

	while (started + 1 < want && seal_turn_try()) {
		if (pthread_create(&threads[started], NULL, helper_thread, s) != 0) {
			seal_turn_give();
			break;
		}
		started++;
	}
	seal_unodes(s, false);
	while (started > 0)
		pthread_join(threads[--started], NULL);
}

static int stage_super(struct seal *s)
{
	struct buf value CLEANUP(buf_fini_p) = BUF_INIT;
	struct key k;
	int r = super_encode(&s->super, &value);

	key_super(&k);
	return r ? r : tree_batch_put(s->batch, k.bytes, k.len, value.data, value.len);
}

static bool any_big(const struct seal *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->unodes[i]->has_rec && s->unodes[i]->rec.size > BIG_FILE)
			return true;
	return false;
}

int seal_run(struct view *v, uint64_t next_ino, struct seal_result *out, struct error *err)
{
	struct seal s = { .v = v, .root = v->base.root };
	int r;

	pthread_mutex_init(&s.lock, NULL);
	s.batch = tree_batch_new();
	r = s.batch ? tree_fs_super(&v->base, &s.super) : -ENOMEM;
	if (!r)
		r = upper_each(v->sealed, collect, &s);
	if (!r) {
		if (s.n)
			qsort(s.unodes, s.n, sizeof(struct unode *), by_ino);
		if (any_big(&s))
			s.pool = seal_workers_get();
		run_threads(&s);
		r = s.failed;
	}
	s.super.next_ino = MAX(s.super.next_ino, next_ino);
	if (!r)
		r = stage_super(&s);
	if (!r)
		r = apply_batch(&s);
	seal_workers_put(s.pool);
	tree_batch_free(s.batch);
	free(s.unodes);
	pthread_mutex_destroy(&s.lock);
	if (r)
		return error_prefix(err, r, "cannot seal the changes");
	out->root = s.root;
	out->super = s.super;
	out->new_bytes = s.new_bytes;
	return 0;
}
