/*
 * A table of nodes that are open. Under the node id without generation it also
 * has what is known of the inode: its generation, and since which base it is not
 * shared; such an entry stays.
 *
 * How the kernel's counts and ours agree: we count an open before we answer it,
 * and a release after the kernel has counted it. So the kernel has at most the
 * opens that are counted here, and a decision that suits ours suits the kernel:
 * if we know no opens of one kind, the kernel has none.
 *
 * We ask whether the content is the base's before we take the lock. Only two
 * things can change it meanwhile. A write needs an open file, which was counted
 * before as an open of the other kind. A truncation by path may as well have
 * come after this open.
 *
 * Locks: one mutex per shard of the table, innermost. A backing file is
 * registered under it, so each node has one; that opens a file of the host and
 * waits for nothing of ours.
 */
#include "fs/shared/passthrough.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/shared/backing.h"
#include "store/base/log.h"

#define SHARDS 16u
#define BUCKETS 64u /* at first, of a shard */
#define GENERATION_SHIFT 48
#define GENERATION_MAX 0xfffeu

struct open_node {
	uint64_t id;
	uint32_t cached, shared; /* open files; only one is not 0 */
	int backing_id;		 /* shared: */
	struct shared_file *file;
	/* Of the entry of generation 0 alone: */
	uint32_t generation;
	bool unshared;		     /* not to be shared ... */
	struct digest unshared_base; /* ... as long as this is the base */
	struct open_node *next;
};

struct shard {
	pthread_mutex_t lock;
	struct open_node **buckets;
	size_t n_buckets, count;
};

struct passthrough {
	struct view *view;
	struct shared_files *files;
	int fuse_fd;
	_Atomic bool refused; /* the kernel refuses backing files */
	_Atomic uint64_t shared_now, unshared;
	struct shard shards[SHARDS];
};

static struct shard *shard_of(struct passthrough *pt, uint64_t ino)
{
	return &pt->shards[(ino * 0x9e3779b97f4a7c15ull) >> 60];
}

/* --- the table; its lock is held --- */

static struct open_node **slot(struct shard *s, uint64_t id)
{
	struct open_node **p = &s->buckets[(id * 0x9e3779b97f4a7c15ull >> 16) % s->n_buckets];

	while (*p && (*p)->id != id)
		p = &(*p)->next;
	return p;
}

/* Double the buckets; if there is no memory, keep them. */
static void grow(struct shard *s)
{
	struct shard bigger = { .n_buckets = 2 * s->n_buckets };

	bigger.buckets = calloc(bigger.n_buckets, sizeof(struct open_node *));
	if (!bigger.buckets)
		return;
	for (size_t i = 0; i < s->n_buckets; i++) {
		for (struct open_node *n, *next = s->buckets[i]; (n = next);) {
			struct open_node **p = slot(&bigger, n->id);

			next = n->next;
			n->next = NULL;
			*p = n;
		}
	}
	free(s->buckets);
	s->buckets = bigger.buckets;
	s->n_buckets = bigger.n_buckets;
}

static struct open_node *get(struct shard *s, uint64_t id)
{
	struct open_node **p = slot(s, id);

	if (*p)
		return *p;
	if (s->count >= 2 * s->n_buckets) {
		grow(s);
		p = slot(s, id);
	}
	*p = calloc(1, sizeof(**p));
	if (*p) {
		(*p)->id = id;
		s->count++;
	}
	return *p;
}

static struct open_node *find(struct shard *s, uint64_t id)
{
	return *slot(s, id);
}

/* Remove an entry that says nothing. */
static void tidy(struct shard *s, uint64_t id)
{
	struct open_node **p = slot(s, id), *n = *p;

	if (!n || n->cached || n->shared || n->generation || n->unshared)
		return;
	*p = n->next;
	s->count--;
	free(n);
}

static uint32_t generation_of(uint64_t node)
{
	return node >> GENERATION_SHIFT == 0xffff ? 0 : (uint32_t)(node >> GENERATION_SHIFT);
}

/* --- opens --- */

static bool no_passthrough(int r)
{
	return r == -ENOTTY || r == -EPERM || r == -EOPNOTSUPP || r == -ELOOP || r == -EINVAL;
}

/* Register the file for the node; takes over the caller's use of it. */
static int set_backing(struct passthrough *pt, struct open_node *n, struct shared_file *f)
{
	int fd = shared_files_fd(pt->files, f);
	int id = fd < 0 ? fd : backing_open(pt->fuse_fd, fd);

	if (fd >= 0)
		close(fd);
	if (id < 0) {
		if (fd >= 0 && no_passthrough(id) && !atomic_exchange(&pt->refused, true))
			log_warn("the kernel passes no files through (%s): mounts of cache mode "
				 "\"shared\" share nothing",
				 strerror(-id));
		return id;
	}
	n->backing_id = id;
	n->file = f;
	return 0;
}

static void drop_backing(struct passthrough *pt, struct open_node *n)
{
	backing_close(pt->fuse_fd, n->backing_id);
	shared_files_put(pt->files, n->file);
	n->backing_id = 0;
	n->file = NULL;
}

static int count_shared(struct passthrough *pt, struct open_node *n, struct passthrough_open *out)
{
	n->shared++;
	atomic_fetch_add(&pt->shared_now, 1);
	out->kind = PASSTHROUGH_SHARED;
	out->backing_id = n->backing_id;
	return 0;
}

static int count_cached(struct open_node *n, struct passthrough_open *out)
{
	n->cached++;
	out->kind = PASSTHROUGH_CACHED;
	return 0;
}

/* The inode gets another node. */
static int give_up(struct passthrough *pt, struct open_node *root, const struct tree_fs *base)
{
	if (root->generation < GENERATION_MAX)
		root->generation++;
	root->unshared = true;
	root->unshared_base = base->root;
	atomic_fetch_add(&pt->unshared, 1);
	return -ESTALE;
}

/* Open a node that lookups no longer find. */
static int open_old(struct passthrough *pt, struct open_node *n, bool reads,
		    struct passthrough_open *out)
{
	if (!reads)
		return -ESTALE;
	if (n->shared)
		return count_shared(pt, n, out);
	out->kind = PASSTHROUGH_DIRECT;
	return 0;
}

/* What an open asks for, and what it is compared with. */
struct wish {
	struct view_base_file is;
	struct shared_file *file; /* with the inode's content; NULL: none, or it is written to */
	bool reads;
};

/* Lock held. Sets w->file to NULL if it was taken over. */
static int decide(struct passthrough *pt, struct open_node *root, struct open_node *n,
		  struct wish *w, struct passthrough_open *out)
{
	if (generation_of(n->id) != root->generation)
		return open_old(pt, n, w->reads, out);
	if (root->unshared && memcmp(&root->unshared_base, &w->is.base.root, DIGEST_SIZE) != 0)
		root->unshared = root->generation == GENERATION_MAX;
	/* Without a name nobody can look it up again: it is what is open. */
	if (n->shared && (w->file == n->file || (w->reads && !w->is.has_name)))
		return count_shared(pt, n, out);
	if (n->shared)
		return give_up(pt, root, &w->is.base);
	if (n->cached || !w->file || root->unshared || set_backing(pt, n, w->file))
		return count_cached(n, out);
	w->file = NULL;
	return count_shared(pt, n, out);
}

int passthrough_open(struct passthrough *pt, uint64_t node, unsigned flags,
		     struct passthrough_open *out)
{
	uint64_t ino = passthrough_ino(node);
	struct shard *s = shard_of(pt, ino);
	struct wish w = { .reads = (flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC) };
	int r = view_base_file(pt->view, ino, &w.is);

	memset(out, 0, sizeof(*out));
	if (r == -EINPROGRESS)
		return r;
	if (r < 0) /* reading it will tell why */
		w.reads = false;
	else if (r && w.reads && !atomic_load(&pt->refused))
		w.file = shared_files_get(pt->files, &w.is.base, ino, w.is.size);
	if (want_count()) /* what names the file's content is far away */
		return -EINPROGRESS;
	pthread_mutex_lock(&s->lock);
	struct open_node *root = get(s, ino), *n = root ? get(s, node) : NULL;

	r = n ? decide(pt, root, n, &w, out) : -ENOMEM;
	tidy(s, node);
	tidy(s, ino);
	pthread_mutex_unlock(&s->lock);
	shared_files_put(pt->files, w.file);
	if (!r && out->kind == PASSTHROUGH_SHARED)
		shared_files_note(pt->files, false);
	if (r == -ESTALE)
		shared_files_note(pt->files, true);
	/* Relaxed: statistics. */
	if (!r && out->kind == PASSTHROUGH_SHARED)
		atomic_fetch_add_explicit(&pt->view->shared_opens, 1, memory_order_relaxed);
	else if (!r)
		atomic_fetch_add_explicit(&pt->view->other_opens, 1, memory_order_relaxed);
	return r;
}

void passthrough_release(struct passthrough *pt, uint64_t node, enum passthrough_kind kind)
{
	uint64_t ino = passthrough_ino(node);
	struct shard *s = shard_of(pt, ino);

	pthread_mutex_lock(&s->lock);
	struct open_node *n = find(s, node);

	if (n && kind == PASSTHROUGH_CACHED && n->cached)
		n->cached--;
	if (n && kind == PASSTHROUGH_SHARED && n->shared) {
		atomic_fetch_sub(&pt->shared_now, 1);
		if (--n->shared == 0)
			drop_backing(pt, n);
	}
	tidy(s, node);
	pthread_mutex_unlock(&s->lock);
}

/* --- nodes --- */

uint64_t passthrough_node(struct passthrough *pt, uint64_t ino)
{
	struct shard *s = shard_of(pt, ino);
	uint64_t generation = 0;

	if (!atomic_load(&pt->unshared))
		return ino;
	pthread_mutex_lock(&s->lock);
	struct open_node *root = find(s, ino);

	if (root)
		generation = root->generation;
	pthread_mutex_unlock(&s->lock);
	return ino | generation << GENERATION_SHIFT;
}

void passthrough_each_node(struct passthrough *pt, uint64_t ino,
			   void (*fn)(void *arg, uint64_t node), void *arg)
{
	uint64_t last = generation_of(passthrough_node(pt, ino));

	for (uint64_t g = 0; last && g <= last; g++)
		fn(arg, ino | g << GENERATION_SHIFT);
}

void passthrough_get_stats(struct passthrough *pt, struct passthrough_stats *out)
{
	out->shared_now = atomic_load(&pt->shared_now);
	out->unshared = atomic_load(&pt->unshared);
}

/* --- begin and end --- */

struct passthrough *passthrough_new(struct view *v, struct shared_files *sf, int fuse_fd)
{
	struct passthrough *pt = calloc(1, sizeof(*pt));

	if (!pt)
		return NULL;
	pt->view = v;
	pt->files = sf;
	pt->fuse_fd = fuse_fd;
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *s = &pt->shards[i];

		pthread_mutex_init(&s->lock, NULL);
		s->n_buckets = BUCKETS;
		s->buckets = calloc(BUCKETS, sizeof(struct open_node *));
		if (!s->buckets) {
			s->n_buckets = 0;
			passthrough_free(pt);
			return NULL;
		}
	}
	return pt;
}

void passthrough_free(struct passthrough *pt)
{
	if (!pt)
		return;
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *s = &pt->shards[i];

		for (size_t b = 0; b < s->n_buckets; b++) {
			for (struct open_node *n; (n = s->buckets[b]); free(n)) {
				s->buckets[b] = n->next;
				if (n->shared)
					drop_backing(pt, n);
			}
		}
		free(s->buckets);
		if (s->n_buckets)
			pthread_mutex_destroy(&s->lock);
	}
	free(pt);
}
