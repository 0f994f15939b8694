/*
 * Looking through the layers.
 *
 * For one inode the question is always the same: does the current epoch say
 * something (an entry, a tombstone, that the inode is gone or new)? If not, the
 * epoch being sealed; if not, the base tree. `fresh` and `gone` end the search.
 */
#include "fs/view/view_internal.h"

#include <errno.h>
#include <string.h>
#include <time.h>

void view_init(struct view *v, struct store *s, const struct digest *base, struct journal *j,
	       struct staging *st)
{
	pthread_rwlockattr_t attr;

	memset(v, 0, sizeof(*v));
	v->store = s;
	v->journal = j;
	v->staging = st;
	v->base = store_tree(s, base);
	/* A checkpoint must not have to wait for a gap between readers. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&v->layers, &attr);
	pthread_rwlockattr_destroy(&attr);
	for (unsigned i = 0; i < UPPER_SHARDS; i++)
		pthread_rwlock_init(&v->stripes[i], NULL);
}

void view_fini(struct view *v)
{
	upper_free(v->cur);
	upper_free(v->sealed);
	v->cur = v->sealed = NULL;
	pthread_rwlock_destroy(&v->layers);
	for (unsigned i = 0; i < UPPER_SHARDS; i++)
		pthread_rwlock_destroy(&v->stripes[i]);
}

struct timespec view_now(void)
{
	struct timespec t;

	/* The clock that the kernel's own filesystems stamp with. */
	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return t;
}

static uint64_t new_inodes(struct upper *up)
{
	return up ? atomic_load_explicit(&up->new_inodes, memory_order_relaxed) : 0;
}

static uint64_t metadata(struct upper *up)
{
	return up ? atomic_load_explicit(&up->meta_bytes, memory_order_relaxed) : 0;
}

uint64_t view_new_inodes(struct view *v)
{
	return new_inodes(v->cur) + new_inodes(v->sealed);
}

/* What a backup has cost is not the mount's to pay. */
static uint64_t copy_bytes(const struct view *v)
{
	return atomic_load_explicit(&v->cur->copy_bytes, memory_order_relaxed) +
	       (v->sealed ? atomic_load_explicit(&v->sealed->copy_bytes, memory_order_relaxed) : 0);
}

uint64_t view_quota(const struct view *v)
{
	const uint64_t quota = atomic_load_explicit(&v->quota_bytes, memory_order_relaxed);

	return quota ? quota + copy_bytes(v) : 0;
}

void view_tx_begin(struct view *v, struct upper_tx *tx)
{
	upper_tx_begin(tx, v->cur, v->journal, v->staging);
	const uint64_t quota = view_quota(v), most = v->metadata_bytes + copy_bytes(v);
	const uint64_t inodes = atomic_load_explicit(&v->quota_inodes, memory_order_relaxed);

	if (quota)
		tx->max_bytes = quota - MIN(quota, upper_bytes(v->sealed));
	if (inodes)
		tx->max_inodes = inodes - MIN(inodes, new_inodes(v->sealed));
	if (v->metadata_bytes)
		tx->max_meta = most - MIN(most, metadata(v->sealed));
	tx->refused = &v->no_space;
	tx->space = &v->store->space;
}

static void lock_one(struct view *v, pthread_rwlock_t *lock, bool write)
{
	if ((write ? pthread_rwlock_trywrlock(lock) : pthread_rwlock_tryrdlock(lock)) == 0)
		return;
	if (v->before_wait) /* its holder may be waiting for a disk */
		v->before_wait();
	if (write)
		pthread_rwlock_wrlock(lock);
	else
		pthread_rwlock_rdlock(lock);
}

void view_lock(struct view *v, struct view_lock *l, bool write, unsigned n, const uint64_t *inos)
{
	l->n = 0;
	for (unsigned i = 0; i < n; i++) {
		uint8_t s = (uint8_t)upper_shard(inos[i]);
		unsigned at = l->n;

		while (at > 0 && l->stripe[at - 1] > s)
			at--;
		if (at > 0 && l->stripe[at - 1] == s)
			continue;
		memmove(l->stripe + at + 1, l->stripe + at, l->n - at);
		l->stripe[at] = s;
		l->n++;
	}
	want_hold();
	lock_one(v, &v->layers, false);
	for (unsigned i = 0; i < l->n; i++)
		lock_one(v, &v->stripes[l->stripe[i]], write);
}

void view_unlock(struct view *v, struct view_lock *l)
{
	while (l->n > 0)
		pthread_rwlock_unlock(&v->stripes[l->stripe[--l->n]]);
	pthread_rwlock_unlock(&v->layers);
	want_let_go();
}

bool view_look_again(struct view *v, unsigned *looks, int64_t r)
{
	struct node *n CLEANUP(node_unref_p) = NULL;
	bool missed = want_here.missed && r == -EINPROGRESS;
	struct digest d = want_here.missed_node;

	want_later(false);
	if (!missed)
		return false;
	if (v->before_wait)
		v->before_wait();
	want_hold(); /* a far source is not waited for */
	int got = node_store_get(v->store->nodes, &d, &n);

	want_let_go();
	*looks = got ? VIEW_LOOKS_MAX : *looks + 1;
	return got != -EINPROGRESS;
}

/* The layers of one inode, from `depth` on. */
struct stack {
	struct unode *u[2];
	unsigned n; /* uppers that say something about the inode */
	bool base;  /* the base counts */
	bool gone;
};

static void stack_init(struct view *v, unsigned depth, uint64_t ino, struct stack *s)
{
	struct upper *layers[2] = { v->cur, v->sealed };

	s->n = 0;
	s->base = true;
	s->gone = false;
	for (unsigned i = depth; i < 2 && s->base; i++) {
		struct unode *u = layers[i] ? upper_find(layers[i], ino) : NULL;

		if (!u)
			continue;
		if (u->gone) {
			s->base = false;
			s->gone = s->n == 0;
			return;
		}
		s->u[s->n++] = u;
		if (u->fresh)
			s->base = false;
	}
}

int view_rec_at(struct view *v, unsigned depth, uint64_t ino, struct view_rec *out)
{
	struct stack s;

	memset(&out->pin, 0, sizeof(out->pin));
	stack_init(v, depth, ino, &s);
	for (unsigned i = 0; i < s.n; i++) {
		if (s.u[i]->has_rec) {
			out->rec = s.u[i]->rec;
			return 0;
		}
	}
	return s.base ? tree_fs_inode(&v->base, ino, &out->rec, &out->pin) : -ENOENT;
}

int view_rec_locked(struct view *v, uint64_t ino, struct view_rec *out)
{
	return view_rec_at(v, 0, ino, out);
}

int view_rec_below_locked(struct view *v, uint64_t ino, struct view_rec *out)
{
	struct unode *u = upper_find(v->cur, ino);

	memset(&out->pin, 0, sizeof(out->pin));
	if (u && (u->fresh || u->gone))
		return -ENOENT;
	return view_rec_at(v, 1, ino, out);
}

static int base_get(struct view *v, uint64_t ino, const struct subkey *k, struct view_value *out)
{
	uint8_t key[8 + sizeof(k->bytes)];
	int r;

	wire_set64be(key, ino);
	memcpy(key + 8, k->bytes, k->len);
	r = tree_get(v->base.nodes, &v->base.root, key, 8u + k->len, &out->pin);
	if (!r) {
		out->data = out->pin.data;
		out->len = out->pin.len;
	}
	return r;
}

static int value_from(struct view *v, unsigned depth, uint64_t ino, const struct subkey *k,
		      struct view_value *out)
{
	struct stack s;

	memset(out, 0, sizeof(*out));
	stack_init(v, depth, ino, &s);
	for (unsigned i = 0; i < s.n; i++) {
		struct omap_entry *e = omap_find(&s.u[i]->entries, k->bytes, k->len);

		if (!e)
			continue;
		if (e->tombstone)
			return -ENOENT;
		out->data = omap_value(e);
		out->len = e->value_len;
		return 0;
	}
	return s.base ? base_get(v, ino, k, out) : -ENOENT;
}

int view_value_locked(struct view *v, uint64_t ino, const struct subkey *k, struct view_value *out)
{
	return value_from(v, 0, ino, k, out);
}

int view_below_has_locked(struct view *v, uint64_t ino, const struct subkey *k)
{
	struct unode *u = upper_find(v->cur, ino);
	struct view_value x;
	int r;

	if (u && (u->fresh || u->gone))
		return 0;
	r = value_from(v, 1, ino, k, &x);
	view_value_fini(&x);
	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

/* One source of the merge: an upper's entries, or the base's. */
struct merge_source {
	struct unode *u; /* NULL: the base */
	struct omap_entry *e;
	struct tree_iter *it;
	const uint8_t *key; /* sub-key; NULL: at its end */
	size_t key_len;
};

static int source_load(struct merge_source *s, uint64_t ino, enum key_kind kind, int base_state)
{
	s->key = NULL;
	if (s->u) {
		if (s->e && omap_key(s->e)[0] == kind) {
			s->key = omap_key(s->e);
			s->key_len = s->e->key_len;
		}
		return 0;
	}
	if (base_state <= 0)
		return base_state;
	size_t len;
	const uint8_t *k = tree_iter_key(s->it, &len);

	if (len > 8 && wire_get64be(k) == ino && k[8] == kind) {
		s->key = k + 8;
		s->key_len = len - 8;
	}
	return 0;
}

static int source_start(struct view *v, struct merge_source *s, uint64_t ino, enum key_kind kind,
			const struct subkey *after)
{
	uint8_t key[8 + sizeof(after->bytes) + 1];
	uint8_t first = (uint8_t)kind;
	size_t n = 9;
	int r;

	if (s->u) {
		s->e = after ? omap_seek_gt(&s->u->entries, after->bytes, after->len)
			     : omap_seek_ge(&s->u->entries, &first, 1);
		return source_load(s, ino, kind, 0);
	}
	s->it = tree_iter_new(v->base.nodes, &v->base.root);
	if (!s->it)
		return -ENOMEM;
	wire_set64be(key, ino);
	key[8] = first;
	if (after) {
		/* The least key above `after`: `after` with a zero byte behind it. */
		memcpy(key + 8, after->bytes, after->len);
		key[8 + after->len] = 0;
		n = 9u + after->len;
	}
	r = tree_iter_seek(s->it, key, n);
	return source_load(s, ino, kind, r);
}

static int source_advance(struct merge_source *s, uint64_t ino, enum key_kind kind)
{
	if (s->u) {
		s->e = omap_seek_gt(&s->u->entries, omap_key(s->e), s->e->key_len);
		return source_load(s, ino, kind, 0);
	}
	return source_load(s, ino, kind, tree_iter_next(s->it));
}

/* Give the entry under the least key to fn, and move every source past it. */
static int merge_step(struct merge_source *src, unsigned n, uint64_t ino, enum key_kind kind,
		      view_entry_fn fn, void *arg, bool *done)
{
	struct merge_source *best = NULL;
	bool equal[3] = { false, false, false };
	int r = 0;

	for (unsigned i = 0; i < n; i++) {
		if (!src[i].key)
			continue;
		int c = best ? node_key_cmp(src[i].key, src[i].key_len, best->key, best->key_len)
			     : -1;

		if (c < 0) {
			best = &src[i];
			memset(equal, 0, sizeof(equal));
		}
		if (c <= 0)
			equal[i] = true;
	}
	*done = !best;
	if (!best)
		return 0;
	if (best->u && !best->e->tombstone) {
		r = fn(arg, best->key, best->key_len, omap_value(best->e), best->e->value_len);
	} else if (!best->u) {
		size_t len;
		const uint8_t *val = tree_iter_value(best->it, &len);

		r = fn(arg, best->key, best->key_len, val, len);
	}
	for (unsigned i = 0; i < n && !r; i++)
		if (equal[i])
			r = source_advance(&src[i], ino, kind);
	return r;
}

int view_entries_at(struct view *v, unsigned depth, uint64_t ino, enum key_kind kind,
		    const struct subkey *after, view_entry_fn fn, void *arg)
{
	struct merge_source src[3];
	struct stack s;
	unsigned n = 0;
	bool done = false;
	int r = 0;

	memset(src, 0, sizeof(src));
	stack_init(v, depth, ino, &s);
	for (unsigned i = 0; i < s.n; i++)
		src[n++].u = s.u[i];
	if (s.base)
		n++;
	for (unsigned i = 0; i < n && !r; i++)
		r = source_start(v, &src[i], ino, kind, after);
	while (!r && !done)
		r = merge_step(src, n, ino, kind, fn, arg, &done);
	if (s.base)
		tree_iter_free(src[n - 1].it);
	return r;
}

int view_entries_locked(struct view *v, uint64_t ino, enum key_kind kind,
			const struct subkey *after, view_entry_fn fn, void *arg)
{
	return view_entries_at(v, 0, ino, kind, after, fn, arg);
}
