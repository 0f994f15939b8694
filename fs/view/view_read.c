/*
 * Reading a file's data.
 *
 * A read must not hold up the mount while the disk is slow, so it takes neither chunks nor nodes
 * out of the database under the locks. It goes in turns:
 *
 *   1. Under the locks: copy what is staged, inline or cached. From the first chunk on that is in
 *      no cache nothing is copied, but chunks are listed.
 *      At a node that is in no cache the turn ends.
 *   2. Without: get the listed ones, and keep them; or read the node.
 *   3. Go on where the copying ended.
 *
 * A turn looks at the layers as they are then, and takes nothing over from the one before but
 * bytes and chunks, which never change. So it does not matter what happened in between: a write, a
 * truncation, a checkpoint. A read that needs more than one turn is not atomic beside a write.
 *
 * Once the locks are released nothing pins the base, and a collection may take a chunk or node
 * away. So a failure to get one decides nothing: the next turn is the last one, and gets what it
 * needs under the locks, where all that the base refers to is there. Staged data is read there
 * too: once its extent is gone it may be punched.
 */
#include "fs/view/view_internal.h"

#include <errno.h>
#include <string.h>

#include "store/base/log.h"

/* Listed in one turn; the rest of a longer read is left to the next. */
#define LISTED_MAX 64

struct listed {
	struct digest digest;
	struct chunk *chunk; /* owned; NULL: to be got */
};

struct reading {
	struct view *v;
	uint8_t *out;  /* of the byte at off */
	uint64_t off;  /* in the file */
	uint64_t done; /* copied up to here */
	size_t n;      /* listed in this turn, or got for it */
	bool listing;  /* the copying has ended */
	bool last;     /* turn: get chunks under the locks */
	bool wants;    /* some of the chunks are far away: all of these are noted */
	struct listed *list;
};

static int copy_chunk(const struct piece *p, const struct chunk *c, uint64_t off, void *out,
		      size_t len)
{
	uint64_t from = p->chunk_off + (off - p->off);

	if (from + len > c->len)
		return -EBADMSG;
	memcpy(out, c->data + from, len);
	return 0;
}

static int get_chunk(struct view *v, const struct digest *d, struct chunk **out)
{
	char hex[DIGEST_HEX_SIZE];
	int r;

	if (v->before_wait)
		v->before_wait();
	r = chunk_store_get(v->base.chunks, d, out);
	if (r && r != -EINPROGRESS) {
		digest_to_hex(d, hex);
		log_error("chunk %s cannot be read: %s", hex, strerror(-r));
	}
	return r;
}

int view_read_piece(struct view *v, const struct piece *p, uint64_t off, void *out, size_t len)
{
	struct chunk *c CLEANUP(chunk_unref_p) = NULL;
	uint64_t skip = off - p->off;
	int r;

	switch (p->kind) {
	case PIECE_HOLE:
		memset(out, 0, len);
		return 0;
	case PIECE_STAGED:
		return staging_read(v->staging, p->pos + skip, out, len);
	case PIECE_INLINE:
		memcpy(out, p->data + p->chunk_off + skip, len);
		return 0;
	case PIECE_CHUNK:
		c = chunk_store_cached(v->base.chunks, &p->digest);
		r = c ? 0 : get_chunk(v, &p->digest, &c);
		return r ? r : copy_chunk(p, c, off, out, len);
	}
	return -EBADMSG;
}

/* ---- a turn, under the locks ---- */

static struct listed *find_listed(const struct reading *x, const struct digest *d)
{
	/* Mostly the last one: the pieces of a chunk lie together. */
	for (size_t i = x->n; i-- > 0;)
		if (digest_equal(&x->list[i].digest, d))
			return &x->list[i];
	return NULL;
}

static void drop_listed(struct reading *x)
{
	while (x->n > 0)
		chunk_unref(x->list[--x->n].chunk);
}

/* The copying has ended. 1: the list is full. */
static int list_chunk(struct reading *x, const struct digest *d)
{
	if (find_listed(x, d))
		return 0;
	if (x->n == LISTED_MAX)
		return 1;
	x->list[x->n++] = (struct listed){ *d, chunk_store_cached(x->v->base.chunks, d) };
	return 0;
}

static int read_chunk(struct reading *x, const struct piece *p)
{
	uint8_t *out = x->out + (p->off - x->off);
	const struct listed *l = x->n ? find_listed(x, &p->digest) : NULL;

	if (l && l->chunk)
		return copy_chunk(p, l->chunk, p->off, out, p->len);
	struct chunk *c CLEANUP(chunk_unref_p) = chunk_store_cached(x->v->base.chunks, &p->digest);

	if (c)
		return copy_chunk(p, c, p->off, out, p->len);
	if (x->last) {
		int r = view_read_piece(x->v, p, p->off, out, p->len);

		x->wants |= r == -EINPROGRESS;
		return r == -EINPROGRESS ? 0 : r;
	}
	x->listing = true;
	drop_listed(x);
	return list_chunk(x, &p->digest);
}

static int read_piece(void *arg, const struct piece *p)
{
	struct reading *x = arg;

	if (x->listing)
		return p->kind == PIECE_CHUNK ? list_chunk(x, &p->digest) : 0;
	int r = p->kind == PIECE_CHUNK
			? read_chunk(x, p)
			: view_read_piece(x->v, p, p->off, x->out + (p->off - x->off), p->len);

	if (!r && !x->listing)
		x->done = p->off + p->len;
	return r;
}

/* What the read returns, if nothing was listed. */
static int64_t take_turn(struct reading *x, uint64_t ino, size_t len)
{
	struct view_lock l;
	struct view_rec rec;
	int r;

	x->listing = false;
	view_lock(x->v, &l, false, 1, &ino);
	r = view_rec_locked(x->v, ino, &rec);
	if (!r && !S_ISREG(rec.rec.mode))
		r = -EISDIR;
	if (!r) {
		uint64_t size = rec.rec.size;

		len = x->off >= size ? 0 : (size_t)MIN((uint64_t)len, size - x->off);
		r = view_pieces_locked(x->v, 0, ino, x->done, x->off + len, read_piece, x);
		r = r >= 0 && x->wants ? -EINPROGRESS : MIN(r, 0);
	}
	view_rec_fini(&rec);
	view_unlock(x->v, &l);
	return r ? r : (int64_t)len;
}

/* ---- between turns ---- */

/* 0; -EINPROGRESS: some are far away, and all of these are noted; or another failure. */
static int get_listed(struct reading *x)
{
	int result = 0;

	if (x->v->before_wait)
		x->v->before_wait();
	want_hold(); /* a far source is not waited for */
	for (struct listed *l = x->list; l < x->list + x->n; l++) {
		int r = l->chunk ? 0 : chunk_store_get(x->v->store->chunks, &l->digest, &l->chunk);

		if (r && result != -EINPROGRESS)
			result = r;
	}
	want_let_go();
	return result;
}

int64_t view_read(struct view *v, uint64_t ino, uint64_t off, void *out, size_t len)
{
	struct listed list[LISTED_MAX]; /* set as far as it is used */
	struct reading x = { .v = v, .out = out, .off = off, .done = off, .list = list };
	unsigned looks = 0;
	int64_t n;
	bool again;

	do {
		view_look(looks);
		x.last = looks == VIEW_LOOKS_MAX;
		n = take_turn(&x, ino, len);
		again = view_look_again(v, &looks, n);
		if (n >= 0 && x.listing) {
			int r = get_listed(&x);

			looks = r ? VIEW_LOOKS_MAX : looks + 1;
			again = r != -EINPROGRESS;
			n = r;
		}
	} while (again);
	drop_listed(&x);
	return n;
}
