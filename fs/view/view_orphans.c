/* Inodes without a name: they go when the kernel forgets them, or at the next load. */
#include "fs/view/view_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Nodes that are read to see who has a name, one at a time. What is not known then, or is far away,
 * stays for the next load: nobody waits for a few bytes that are not needed.
 */
#define ORPHAN_LOOKS_MAX 256

void view_forget(struct view *v, uint64_t ino, uint64_t n)
{
	struct view_lock l;
	struct view_rec rec;
	struct upper_tx tx;

	if (n && live_sub(v->live, ino, n) > 0)
		return;
	view_lock(v, &l, false, 1, &ino);
	struct unode *u = upper_find(v->cur, ino);
	bool orphan = u && u->has_rec && u->rec.nlink == 0;

	/* An orphan of the sealed epoch has no record in the current one yet. */
	if (!orphan && v->sealed) {
		struct unode *s = upper_find(v->sealed, ino);

		orphan = !(u && (u->has_rec || u->gone)) && s && s->has_rec && s->rec.nlink == 0;
	}
	view_unlock(v, &l);
	if (!orphan)
		return;
	view_lock(v, &l, true, 1, &ino);
	u = upper_get(v->cur, ino);
	memset(&rec, 0, sizeof(rec));
	want_later(true); /* if it is the base that knows, it has a name */
	if (u && live_count(v->live, ino) == 0 && view_rec_locked(v, ino, &rec) == 0 &&
	    rec.rec.nlink == 0) {
		view_tx_begin(v, &tx);
		upper_tx_drop(&tx, u);
		/* A failure leaves it for the next load to drop. */
		(void)!upper_tx_commit(&tx);
		upper_tx_end(&tx);
	}
	want_later(false);
	view_rec_fini(&rec);
	view_unlock(v, &l);
}

struct ino_list {
	struct view *v;
	uint64_t *inos;
	size_t n, cap;
	int unknown; /* how the first inode failed of which nobody knows whether it has a name */
};

static int add_ino(struct ino_list *l, uint64_t ino)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		uint64_t *p = realloc(l->inos, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->inos = p;
		l->cap = cap;
	}
	l->inos[l->n++] = ino;
	return 0;
}

/* The current epoch may have something of an inode, but no record: then the layers below say. */
static int collect_nameless(void *arg, struct unode *u)
{
	struct ino_list *l = arg;
	struct view_rec rec = { .rec = u->rec };
	int r = 0;

	if (u->gone)
		return 0;
	if (!u->has_rec)
		r = view_rec_at(l->v, 0, u->ino, &rec);
	const bool named = !r && rec.rec.nlink > 0;

	if (!u->has_rec)
		view_rec_fini(&rec);
	if (r && r != -ENOENT) {
		l->unknown = l->unknown ? l->unknown : r;
		return 0;
	}
	return named ? 0 : add_ino(l, u->ino);
}

/* -EINPROGRESS or another failure: there may be more of them. */
static int drop_orphans(struct view *v, view_keep_fn keep, void *arg)
{
	struct ino_list l = { .v = v };
	struct upper_tx tx;
	int r;

	/* Exclusive, because what is being sealed may be adopted at any time. */
	want_hold();
	pthread_rwlock_wrlock(&v->layers);
	r = upper_each(v->cur, collect_nameless, &l);
	for (size_t i = 0; i < l.n && !r; i++) {
		if (keep && keep(arg, l.inos[i]))
			continue;
		view_tx_begin(v, &tx);
		upper_tx_drop(&tx, upper_find(v->cur, l.inos[i]));
		r = upper_tx_commit(&tx);
		upper_tx_end(&tx);
	}
	pthread_rwlock_unlock(&v->layers);
	want_let_go();
	free(l.inos);
	return r ? r : l.unknown;
}

int view_drop_orphans(struct view *v)
{
	return view_drop_orphans_but(v, NULL, NULL);
}

int view_drop_orphans_but(struct view *v, view_keep_fn keep, void *arg)
{
	unsigned looks;
	bool again;
	int r;

	for (unsigned i = 0; i < ORPHAN_LOOKS_MAX; i++) {
		want_later(true); /* nothing is read under the lock, whatever comes of it */
		r = drop_orphans(v, keep, arg);
		want_begin(NULL, 0); /* it may be done again */
		looks = 0;
		again = view_look_again(v, &looks, r);
		if (!again)
			break;
		if (looks == VIEW_LOOKS_MAX) /* the node cannot be read */
			return -EIO;
	}
	want_begin(NULL, 0);
	return r == -EINPROGRESS ? 0 : r;
}
