/*
 * A table of nodes that are open. Under the node id without generation it also
 * has what is known of the inode: its generation, and since which base it is not
 * shared; such an entry stays. What a successor needs is in an open_table.
 *
 * How the kernel's counts and ours agree: we count an open before we answer it,
 * and a release after the kernel has counted it, which it does before it sends it.
 * What we have counted and not answered is noted for a successor, to which it is sent again. So the
 * kernel has at most the opens that are counted here, and a decision that suits ours suits the
 * kernel: if we know no opens of one kind, the kernel has none.
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
#include "fs/shared/open_table.h"
#include "store/base/log.h"

#define SHARDS 16u
#define BUCKETS 64u /* at first, of a shard */
#define GENERATION_SHIFT 48
#define GENERATION_MAX 0xfffeu

struct open_node {
	struct open_record *r;	  /* what a successor gets of it */
	struct shared_file *file; /* of its backing file; NULL: a former process registered that */
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
	struct open_table *opens; /* owned */
	int fuse_fd;
	_Atomic bool refused; /* the kernel refuses backing files */
	_Atomic uint64_t shared_now, unshared;
	struct shard shards[SHARDS];
};

/* What this thread has counted and not answered; NULL: nothing. */
static _Thread_local struct open_note *unanswered;

static struct shard *shard_of(struct passthrough *pt, uint64_t ino)
{
	return &pt->shards[(ino * 0x9e3779b97f4a7c15ull) >> 60];
}

/* --- the table; its lock is held --- */

static struct open_node **slot(struct shard *s, uint64_t id)
{
	struct open_node **p = &s->buckets[(id * 0x9e3779b97f4a7c15ull >> 16) % s->n_buckets];

	while (*p && (*p)->r->id != id)
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
			struct open_node **p = slot(&bigger, n->r->id);

			next = n->next;
			n->next = NULL;
			*p = n;
		}
	}
	free(s->buckets);
	s->buckets = bigger.buckets;
	s->n_buckets = bigger.n_buckets;
}

/* Of a record that is in no entry yet; NULL: out of memory. */
static struct open_node *add(struct shard *s, struct open_record *r)
{
	struct open_node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	if (s->count >= 2 * s->n_buckets)
		grow(s);
	n->r = r;
	*slot(s, r->id) = n;
	s->count++;
	return n;
}

static struct open_node *get(struct passthrough *pt, struct shard *s, uint64_t id)
{
	struct open_node *n = *slot(s, id);

	if (n)
		return n;
	struct open_record *r = open_table_get(pt->opens, id);

	n = r ? add(s, r) : NULL;
	if (r && !n)
		open_table_put(pt->opens, r);
	return n;
}

static struct open_node *find(struct shard *s, uint64_t id)
{
	return *slot(s, id);
}

/* Remove an entry that says nothing. */
static void tidy(struct passthrough *pt, struct shard *s, uint64_t id)
{
	struct open_node **p = slot(s, id), *n = *p;

	if (!n || n->r->cached || n->r->shared || n->r->generation || n->r->is_unshared)
		return;
	*p = n->next;
	s->count--;
	open_table_put(pt->opens, n->r);
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

/* What an open asks for, and what it is compared with. */
struct wish {
	uint64_t request; /* its number; 0: none */
	struct view_base_file is;
	bool is_base;	   /* its content is the base's */
	struct digest key; /* of its content; zeros: unknown */
	/* With the inode's content; NULL: none, or it is written to. */
	struct shared_file *file;
	bool reads;
};

/* Register the file for the node; takes over the caller's use of it. */
static int set_backing(struct passthrough *pt, struct open_node *n, const struct wish *w)
{
	struct shared_file *f = w->file;
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
	n->r->backing_key = w->key;
	n->r->backing_base = w->is.base.root;
	n->r->backing_id = id;
	n->file = f;
	return 0;
}

static void drop_backing(struct passthrough *pt, struct open_node *n)
{
	backing_close(pt->fuse_fd, n->r->backing_id);
	shared_files_put(pt->files, n->file);
	n->r->backing_id = 0;
	n->file = NULL;
}

static int count_shared(struct passthrough *pt, struct open_node *n, const struct wish *w,
			struct passthrough_open *out)
{
	n->r->shared++;
	n->r->last_open = w->request;
	atomic_fetch_add(&pt->shared_now, 1);
	out->kind = PASSTHROUGH_SHARED;
	out->backing_id = n->r->backing_id;
	return 0;
}

static int count_cached(struct open_node *n, const struct wish *w, struct passthrough_open *out)
{
	n->r->cached++;
	n->r->last_open = w->request;
	out->kind = PASSTHROUGH_CACHED;
	return 0;
}

/* The inode gets another node. */
static int give_up(struct passthrough *pt, struct open_node *root, const struct wish *w)
{
	root->r->stale_open = w->request;
	root->r->unshared_base = w->is.base.root;
	if (root->r->generation < GENERATION_MAX)
		root->r->generation++;
	root->r->is_unshared = true;
	atomic_fetch_add(&pt->unshared, 1);
	return -ESTALE;
}

/* Open a node that lookups no longer find. */
static int open_old(struct passthrough *pt, const struct open_node *root, struct open_node *n,
		    const struct wish *w, struct passthrough_open *out)
{
	if (!w->reads || (w->request && w->request == root->r->stale_open))
		return -ESTALE;
	if (n->r->shared)
		return count_shared(pt, n, w, out);
	out->kind = PASSTHROUGH_DIRECT;
	return 0;
}

/* Does the backing file have what the inode has? */
static bool is_same(const struct open_node *n, const struct wish *w)
{
	static const struct digest unknown;

	if (!w->reads || !w->is_base)
		return false;
	return digest_equal(&n->r->backing_base, &w->is.base.root) ||
	       (!digest_equal(&w->key, &unknown) && digest_equal(&n->r->backing_key, &w->key));
}

/* A former process has counted this open, and not answered it. One of an older program says so
 * only of the node's last one. */
static bool was_counted(struct passthrough *pt, const struct open_node *n, const struct wish *w,
			struct passthrough_open *out)
{
	struct open_note *note = w->request ? open_table_find_note(pt->opens, w->request) : NULL;

	if (!w->request || (!note && n->r->last_open != w->request) ||
	    !(n->r->cached || n->r->shared))
		return false;
	unanswered = note;
	out->kind = n->r->shared ? PASSTHROUGH_SHARED : PASSTHROUGH_CACHED;
	out->backing_id = n->r->shared ? n->r->backing_id : 0;
	return true;
}

/* Lock held. Sets w->file to NULL if it was taken over. */
static int decide(struct passthrough *pt, struct open_node *root, struct open_node *n,
		  struct wish *w, struct passthrough_open *out)
{
	if (was_counted(pt, n, w, out))
		return 0;
	if (generation_of(n->r->id) != root->r->generation)
		return open_old(pt, root, n, w, out);
	if (root->r->is_unshared && !digest_equal(&root->r->unshared_base, &w->is.base.root))
		root->r->is_unshared = root->r->generation == GENERATION_MAX;
	/* Without a name nobody can look it up again: it is what is open. */
	if (n->r->shared && (is_same(n, w) || (w->reads && !w->is.has_name)))
		return count_shared(pt, n, w, out);
	if (n->r->shared)
		return give_up(pt, root, w);
	if (n->r->cached || !w->file || root->r->is_unshared || set_backing(pt, n, w))
		return count_cached(n, w, out);
	w->file = NULL;
	return count_shared(pt, n, w, out);
}

int passthrough_open(struct passthrough *pt, uint64_t node, unsigned flags, uint64_t request,
		     struct passthrough_open *out)
{
	uint64_t ino = passthrough_ino(node);
	struct shard *s = shard_of(pt, ino);
	struct wish w = { .request = request,
			  .reads = (flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC) };
	int r = view_base_file(pt->view, ino, &w.is);

	memset(out, 0, sizeof(*out));
	unanswered = NULL;
	if (r == -EINPROGRESS)
		return r;
	w.is_base = r == 1;
	if (r < 0) /* reading it will tell why */
		w.reads = false;
	else if (r && w.reads && !atomic_load(&pt->refused))
		w.file = shared_files_get(pt->files, &w.is.base, ino, w.is.size, &w.key);
	if (want_count()) /* what names the file's content is far away */
		return -EINPROGRESS;
	pthread_mutex_lock(&s->lock);
	struct open_node *root = get(pt, s, ino), *n = root ? get(pt, s, node) : NULL;

	r = n ? decide(pt, root, n, &w, out) : -ENOMEM;
	if (!r && request && out->kind != PASSTHROUGH_DIRECT && !unanswered)
		unanswered = open_table_note(pt->opens, request);
	tidy(pt, s, node);
	tidy(pt, s, ino);
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

/* Lock held. */
static void count_release(struct passthrough *pt, struct open_node *n, enum passthrough_kind kind)
{
	if (kind == PASSTHROUGH_CACHED && n->r->cached)
		n->r->cached--;
	if (kind == PASSTHROUGH_SHARED && n->r->shared) {
		atomic_fetch_sub(&pt->shared_now, 1);
		if (--n->r->shared == 0)
			drop_backing(pt, n);
	}
}

void passthrough_release(struct passthrough *pt, uint64_t node, enum passthrough_kind kind)
{
	struct shard *s = shard_of(pt, passthrough_ino(node));

	pthread_mutex_lock(&s->lock);
	struct open_node *n = find(s, node);

	if (n)
		count_release(pt, n, kind);
	tidy(pt, s, node);
	pthread_mutex_unlock(&s->lock);
}

bool passthrough_release_request(struct passthrough *pt, uint64_t node, enum passthrough_kind kind,
				 uint64_t request)
{
	/* Before it is counted: rather one too many. */
	unanswered = open_table_find_note(pt->opens, request);
	if (unanswered)
		return true;
	unanswered = open_table_note(pt->opens, request);
	if (!unanswered)
		return false;
	passthrough_release(pt, node, kind);
	return true;
}

void passthrough_answered(void)
{
	if (unanswered)
		open_note_drop(unanswered);
	unanswered = NULL;
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
		generation = root->r->generation;
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

/* Takes the table over. */
static struct passthrough *make(struct view *v, struct shared_files *sf, int fuse_fd,
				struct open_table *opens)
{
	struct passthrough *pt = calloc(1, sizeof(*pt));

	if (!pt) {
		open_table_free(opens);
		return NULL;
	}
	pt->view = v;
	pt->files = sf;
	pt->fuse_fd = fuse_fd;
	pt->opens = opens;
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

struct passthrough *passthrough_new(struct view *v, struct shared_files *sf, int fuse_fd)
{
	struct open_table *opens = open_table_new();

	return opens ? make(v, sf, fuse_fd, opens) : NULL;
}

/* The process may have died between any two stores. */
static int adopt_record(void *arg, struct open_record *r)
{
	struct passthrough *pt = arg;
	struct shard *s = shard_of(pt, passthrough_ino(r->id));

	if (r->backing_id <= 0)
		r->shared = 0; /* not answered */
	if (r->backing_id > 0 && !r->shared) {
		backing_close(pt->fuse_fd, r->backing_id);
		r->backing_id = 0;
	}
	if (*slot(s, r->id))
		return -EPROTO;
	if (!add(s, r))
		return -ENOMEM;
	atomic_fetch_add(&pt->shared_now, r->shared);
	atomic_fetch_add(&pt->unshared, r->generation);
	return 0;
}

int passthrough_adopt(struct view *v, struct shared_files *sf, int fuse_fd, int opens_fd,
		      struct passthrough **out)
{
	struct open_table *opens;
	struct passthrough *pt;
	int r = open_table_adopt(opens_fd, &opens);

	if (r) {
		close(opens_fd);
		return r;
	}
	pt = make(v, sf, fuse_fd, opens);
	if (!pt)
		return -ENOMEM;
	r = open_table_each(opens, adopt_record, pt);
	if (r)
		passthrough_free(pt);
	else
		*out = pt;
	return r;
}

void passthrough_forget_answered(struct passthrough *pt, const uint64_t *waiting, size_t n)
{
	open_table_forget_answered(pt->opens, waiting, n);
}

int passthrough_opens_fd(const struct passthrough *pt)
{
	return open_table_fd(pt->opens);
}

void passthrough_set_negotiated(struct passthrough *pt)
{
	open_table_set_negotiated(pt->opens);
}

bool passthrough_is_negotiated(const struct passthrough *pt)
{
	return open_table_is_negotiated(pt->opens);
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
				if (n->r->shared)
					drop_backing(pt, n);
			}
		}
		free(s->buckets);
		if (s->n_buckets)
			pthread_mutex_destroy(&s->lock);
	}
	open_table_free(pt->opens);
	free(pt);
}
