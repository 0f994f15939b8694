/*
 * File data: pieces of three layers.
 *
 * An upper's extents hide what is below them; elsewhere the layer below shows,
 * the base last. Invariant: no layer has extents beyond the size that the inode
 * has in it. A truncation covers what the layers below have beyond the new size
 * with a HOLE extent, so it stays gone when the file grows again.
 *
 * A write into an extent of the current epoch goes in place. Any other write
 * takes new space in the staging file: what a sealed epoch or the base refers
 * to never changes.
 *
 * A write takes its times from the coarse clock, so of many writes in one tick
 * only the first changes the record.
 */
#include "fs/view/view_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

struct walk {
	struct view *v;
	uint64_t ino;
	uint64_t at, end;
	piece_fn fn;
	void *arg;
};

static int emit_hole(struct walk *w, uint64_t upto)
{
	struct piece p = { .kind = PIECE_HOLE, .off = w->at, .len = upto - w->at };
	int r = upto > w->at ? w->fn(w->arg, &p) : 0;

	w->at = MAX(w->at, upto);
	return r;
}

static int base_extent(void *arg, uint64_t off, const struct extent_rec *e)
{
	struct walk *w = arg;
	uint64_t from = MAX(off, w->at), to = MIN(off + e->len, w->end);
	struct piece p = { .off = from, .len = to - from, .chunk_off = (uint32_t)(from - off) };
	int r;

	if (from >= to)
		return 0;
	r = emit_hole(w, from);
	if (r)
		return r;
	p.kind = e->kind == EXTENT_INLINE ? PIECE_INLINE : PIECE_CHUNK;
	p.digest = e->digest;
	p.data = e->data;
	w->at = to;
	return w->fn(w->arg, &p);
}

static int walk_base(struct walk *w, uint64_t to)
{
	struct walk sub = *w;
	int r;

	sub.end = to;
	r = tree_fs_extents(&w->v->base, w->ino, w->at, to, base_extent, &sub);
	if (!r)
		r = emit_hole(&sub, to);
	w->at = to;
	return r;
}

/* Pieces of [w->at, to) as layer `depth` and those below it show them. */
static int walk_layer(struct walk *w, unsigned depth, uint64_t to)
{
	struct upper *layers[2] = { w->v->cur, w->v->sealed };
	struct unode *u = depth < 2 && layers[depth] ? upper_find(layers[depth], w->ino) : NULL;
	struct upper_extent x;
	struct omap_entry *e;
	int r = 0;

	if (depth >= 2)
		return walk_base(w, to);
	if (!u)
		return walk_layer(w, depth + 1, to);
	if (u->gone)
		return emit_hole(w, to);
	for (e = upper_extent_seek(u, w->at, &x); w->at < to && !r;
	     e = e ? upper_extent_next(u, &x, &x) : NULL) {
		uint64_t gap_end = e ? MIN(MAX(x.off, w->at), to) : to;

		if (gap_end > w->at)
			r = u->fresh ? emit_hole(w, gap_end) : walk_layer(w, depth + 1, gap_end);
		if (r || !e || w->at >= to)
			continue;
		uint64_t end = MIN(x.off + x.len, to), skip = w->at - x.off;
		struct piece p = { .off = w->at, .len = end - w->at, .digest = x.digest };

		p.kind = x.kind == UPPER_DATA	 ? PIECE_STAGED
			 : x.kind == UPPER_CHUNK ? PIECE_CHUNK
						 : PIECE_HOLE;
		p.pos = x.pos + skip;
		p.chunk_off = x.chunk_off + (uint32_t)skip;
		w->at = end;
		r = w->fn(w->arg, &p);
	}
	return r;
}

int view_pieces_locked(struct view *v, unsigned depth, uint64_t ino, uint64_t from, uint64_t to,
		       piece_fn fn, void *arg)
{
	struct walk w = { v, ino, from, to, fn, arg };

	return from < to ? walk_layer(&w, depth, to) : 0;
}

static int sum_alloc(void *arg, const struct piece *p)
{
	*(uint64_t *)arg += p->kind == PIECE_HOLE ? 0 : p->len;
	return 0;
}

/* Bytes of [from, to) that are not holes. */
static int allocated(struct view *v, uint64_t ino, uint64_t from, uint64_t to, uint64_t *out)
{
	*out = 0;
	return view_pieces_locked(v, 0, ino, from, to, sum_alloc, out);
}

/* Write what of [off, off + len) lies in extents of the current epoch; the
 * end of the covered run from off on goes to *out_end. */
static int write_in_place(struct view *v, struct unode *u, uint64_t off, const uint8_t *data,
			  uint64_t end, uint64_t *out_end)
{
	struct upper_extent x;
	struct omap_entry *e = upper_extent_seek(u, off, &x);
	uint64_t at = off;

	while (e && at < end && x.off <= at && x.kind == UPPER_DATA) {
		uint64_t upto = MIN(x.off + x.len, end);
		int r = staging_overwrite(v->staging, x.pos + (at - x.off), data + (at - off),
					  upto - at);

		if (r == -EBUSY) /* it is being copied: see gap_end */
			break;
		if (r)
			return r;
		at = upto;
		e = upper_extent_next(u, &x, &x);
	}
	*out_end = at;
	return 0;
}

/*
 * Where what is written anew from `at` on ends, at `end` at most: where own data begins, which is
 * written in place. *out_copied: there is own data at `at`, but it is being copied; then it ends
 * where that does, or what is not copied begins.
 */
static uint64_t gap_end(struct view *v, const struct unode *u, uint64_t at, uint64_t end,
			bool *out_copied)
{
	struct upper_extent x;
	uint64_t to = at;

	*out_copied = false;
	for (struct omap_entry *e = upper_extent_seek(u, at, &x); e && x.off < end;
	     e = upper_extent_next(u, &x, &x)) {
		if (x.kind != UPPER_DATA)
			continue;
		if (x.off > to || (x.off > at && !staging_is_frozen(v->staging, x.pos)))
			return *out_copied ? to : x.off;
		*out_copied = true;
		to = x.off + x.len;
	}
	return *out_copied ? MIN(to, end) : end;
}

/* Checked first, so that nothing is written in vain: the commit checks again, in full. */
static int check_quota(struct view *v, uint64_t want)
{
	uint64_t used = upper_bytes(v->cur) + upper_bytes(v->sealed), quota = view_quota(v);

	return quota && used + want > quota ? -EDQUOT : 0;
}

/* What a backup may cost a mount, in metadata that stays until the next checkpoint, or its file
 * goes. */
#define COPY_BUDGET_MIN (16u << 20)
static uint64_t copy_budget(const struct view *v)
{
	return v->metadata_bytes ? v->metadata_bytes / 8 + 1 : COPY_BUDGET_MIN;
}

/*
 * New space for [at, upto), written, and its extent and the record committed. copied: own data is
 * there, which is not written in place because it is being copied.
 */
static int write_new(struct view *v, struct unode *u, struct inode_rec *rec, uint64_t at,
		     uint64_t upto, const uint8_t *data, bool copied)
{
	struct upper_extent x = { .off = at, .len = upto - at, .kind = UPPER_DATA };
	uint64_t had = 0, size = rec->size, alloc = rec->alloc_bytes;
	struct upper_tx tx;
	int r = copied ? 0 : check_quota(v, x.len);

	if (!r)
		r = allocated(v, u->ino, at, MIN(upto, MAX(rec->size, at)), &had);
	if (!r)
		r = staging_alloc(v->staging, x.len, &x.pos);
	if (!r)
		r = staging_write(v->staging, x.pos, data, x.len);
	if (!copied && (r == -EDQUOT || r == -ENOSPC))
		atomic_fetch_add_explicit(&v->no_space, 1, memory_order_relaxed);
	if (r)
		return r;
	rec->size = MAX(rec->size, upto);
	rec->alloc_bytes += x.len - had;
	view_tx_begin(v, &tx);
	tx.repeatable = true;
	tx.copy_budget = copied ? copy_budget(v) : 0;
	tx.copy_number = staging_copies(v->staging);
	view_kill_caps_tx(v, &tx, u);
	upper_tx_extent(&tx, u, &x);
	upper_tx_rec(&tx, u, rec);
	r = upper_tx_commit(&tx);
	upper_tx_end(&tx);
	if (r) {
		staging_free(v->staging, x.pos, x.len);
		rec->size = size;
		rec->alloc_bytes = alloc;
	}
	return r;
}

/* The record alone: size or times changed, data went in place. */
static int commit_rec(struct view *v, struct unode *u, const struct inode_rec *rec)
{
	struct upper_tx tx;
	int r;

	view_tx_begin(v, &tx);
	tx.repeatable = true;
	view_kill_caps_tx(v, &tx, u);
	upper_tx_rec(&tx, u, rec);
	r = upper_tx_commit(&tx);
	upper_tx_end(&tx);
	return r;
}

/* True if that changed the times. */
static bool stamp_write(struct inode_rec *rec)
{
	struct timespec now = view_now();
	bool same = rec->mtime.tv_sec == now.tv_sec && rec->mtime.tv_nsec == now.tv_nsec &&
		    rec->ctime.tv_sec == now.tv_sec && rec->ctime.tv_nsec == now.tv_nsec;

	rec->mtime = rec->ctime = now;
	return !same;
}

static int64_t write_locked(struct view *v, struct unode *u, struct inode_rec *rec, uint64_t off,
			    const uint8_t *data, size_t len, unsigned flags)
{
	uint64_t at = off, end = off + len;
	bool rec_dirty = stamp_write(rec) || (flags & VIEW_WRITE_KILL) || !u->caps_checked;
	int r = 0;

	if (flags & VIEW_WRITE_KILL)
		rec->mode = mode_without_suid(rec->mode, flags & VIEW_WRITE_KILL_SGID);
	while (at < end && !r) {
		uint64_t upto;
		bool copied;

		r = write_in_place(v, u, at, data + (at - off), end, &upto);
		if (r || upto == end) {
			at = r ? at : end;
			break;
		}
		at = upto;
		upto = gap_end(v, u, at, end, &copied);
		r = write_new(v, u, rec, at, upto, data + (at - off), copied);
		if (copied && (r == -EDQUOT || r == -ENOSPC)) {
			staging_spoil(v->staging); /* the backup fails, not the write */
			r = 0;
		} else if (!r) {
			at = upto;
			rec_dirty = false;
		}
	}
	if (r == -EINPROGRESS) { /* what is written so far is written again, to the same place */
		want_here.partial |= at > off;
		return r;
	}
	if (at > rec->size) {
		rec->size = at;
		rec_dirty = true;
	}
	if (rec_dirty && at > off) {
		int r2 = commit_rec(v, u, rec);

		want_here.partial |= r2 == -EINPROGRESS;
		if (r2)
			return r2;
	}
	return at > off ? (int64_t)(at - off) : r;
}

static int64_t write_once(struct view *v, uint64_t ino, uint64_t off, const void *data, size_t len,
			  unsigned flags)
{
	struct view_lock l;
	struct view_rec rec;
	int64_t n;

	view_lock(v, &l, true, 1, &ino);
	n = view_rec_locked(v, ino, &rec);
	if (!n && !S_ISREG(rec.rec.mode))
		n = -EINVAL;
	struct unode *u = n ? NULL : upper_get(v->cur, ino);

	if (!n)
		n = u ? write_locked(v, u, &rec.rec, off, data, len, flags) : -ENOMEM;
	view_rec_fini(&rec);
	view_unlock(v, &l);
	return n;
}

int64_t view_write(struct view *v, uint64_t ino, uint64_t off, const void *data, size_t len,
		   unsigned flags)
{
	unsigned looks = 0;
	int64_t n;

	if (off + len > INT64_MAX)
		return -EFBIG;
	do {
		view_look(looks);
		n = write_once(v, ino, off, data, len, flags);
	} while (view_look_again(v, &looks, n));
	/* What fails in writing a mapping's pages back is EIO to fsync(2), unless it is ENOSPC. */
	return n == -EDQUOT && (flags & VIEW_WRITE_CACHED) ? -ENOSPC : n;
}

/* Size of the inode below the current epoch; 0 if it does not exist there. */
static int size_below(struct view *v, uint64_t ino, uint64_t *out)
{
	struct view_rec rec;
	int r = view_rec_below_locked(v, ino, &rec);

	*out = r ? 0 : rec.rec.size;
	view_rec_fini(&rec);
	return r == -ENOENT ? 0 : r;
}

/* [from, to) becomes zeros; rec->alloc_bytes is kept. One call a transaction. */
static int make_hole(struct view *v, struct upper_tx *tx, struct unode *u, struct inode_rec *rec,
		     uint64_t from, uint64_t to)
{
	struct upper_extent hole = { .off = from, .kind = UPPER_HOLE };
	uint64_t below, had;
	int r = size_below(v, u->ino, &below);

	if (!r)
		r = allocated(v, u->ino, from, MIN(to, MAX(rec->size, from)), &had);
	if (r)
		return r;
	rec->alloc_bytes -= MIN(had, rec->alloc_bytes);
	upper_tx_uncover(tx, u, from, to);
	if (below > from) {
		hole.len = MIN(to, below) - from;
		upper_tx_place(tx, u, &hole);
	}
	return 0;
}

void view_truncate_tx(struct view *v, struct upper_tx *tx, struct unode *u, struct inode_rec *rec,
		      uint64_t size)
{
	if (size <= rec->size)
		tx->unlimited = true;
	if (size < rec->size) {
		int r = make_hole(v, tx, u, rec, size, UINT64_MAX / 2);

		if (r)
			tx->error = r;
	}
	rec->size = size;
}

/*
 * Is there room for the holes in [off, off + len)? The room is not reserved:
 * holes read as zeros, and a write takes the space when it comes.
 */
static int check_room(struct view *v, uint64_t ino, uint64_t off, uint64_t len)
{
	uint64_t had;
	int r = allocated(v, ino, off, off + len, &had);

	if (!r)
		r = check_quota(v, len - had);
	return !r && staging_room(v->staging) < len - had ? -ENOSPC : r;
}

static int allocate_once(struct view *v, uint64_t ino, int mode, uint64_t off, uint64_t len,
			 unsigned kill)
{
	bool zero = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	struct view_lock l;
	struct view_rec rec;
	struct upper_tx tx;
	int r;

	view_lock(v, &l, true, 1, &ino);
	r = view_rec_locked(v, ino, &rec);
	if (!r && !S_ISREG(rec.rec.mode))
		r = S_ISDIR(rec.rec.mode) ? -EISDIR : -ENODEV;
	if (!r && !(mode & FALLOC_FL_PUNCH_HOLE))
		r = check_room(v, ino, off, len);
	struct unode *u = r ? NULL : upper_get(v->cur, ino);

	if (!r && !u)
		r = -ENOMEM;
	if (!r) {
		view_tx_begin(v, &tx);
		if (zero && off < rec.rec.size)
			r = make_hole(v, &tx, u, &rec.rec, off, MIN(off + len, rec.rec.size));
		if (!(mode & FALLOC_FL_KEEP_SIZE))
			rec.rec.size = MAX(rec.rec.size, off + len);
		stamp_write(&rec.rec);
		if (kill)
			rec.rec.mode = mode_without_suid(rec.rec.mode, kill & VIEW_WRITE_KILL_SGID);
		if (!r) {
			view_kill_caps_tx(v, &tx, u);
			upper_tx_rec(&tx, u, &rec.rec);
			r = upper_tx_commit(&tx);
		}
		upper_tx_end(&tx);
	}
	view_rec_fini(&rec);
	view_unlock(v, &l);
	return r;
}

int view_fallocate(struct view *v, uint64_t ino, int mode, uint64_t off, uint64_t len,
		   unsigned kill)
{
	const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	unsigned looks = 0;
	int r;

	if (mode & ~known)
		return -EOPNOTSUPP;
	if (!len || off + len > INT64_MAX)
		return len ? -EFBIG : -EINVAL;
	do {
		view_look(looks);
		r = allocate_once(v, ino, mode, off, len, kill);
	} while (view_look_again(v, &looks, r));
	return r;
}

struct seek_ctx {
	bool want_hole;
	uint64_t found;
};

static int seek_piece(void *arg, const struct piece *p)
{
	struct seek_ctx *c = arg;

	if ((p->kind == PIECE_HOLE) != c->want_hole)
		return 0;
	c->found = p->off;
	return 1;
}

static int64_t seek(struct view *v, uint64_t ino, uint64_t off, int whence)
{
	struct seek_ctx c = { whence == SEEK_HOLE, 0 };
	struct view_lock l;
	struct view_rec rec;
	int r;

	view_lock(v, &l, false, 1, &ino);
	r = view_rec_locked(v, ino, &rec);
	if (!r && off >= rec.rec.size)
		r = -ENXIO;
	if (!r)
		r = view_pieces_locked(v, 0, ino, off, rec.rec.size, seek_piece, &c);
	if (r == 0) {
		/* The end of a file counts as a hole. */
		c.found = rec.rec.size;
		r = c.want_hole ? 1 : -ENXIO;
	}
	view_rec_fini(&rec);
	view_unlock(v, &l);
	return r < 0 ? r : (int64_t)c.found;
}

int64_t view_seek(struct view *v, uint64_t ino, uint64_t off, int whence)
{
	unsigned looks = 0;
	int64_t r;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	do {
		view_look(looks);
		r = seek(v, ino, off, whence);
	} while (view_look_again(v, &looks, r));
	return r;
}

int view_sync(struct view *v)
{
	uint64_t records = atomic_load(&v->records);
	int r;

	if (v->is_volatile)
		return 0;
	/* Data first: what the journal names must be there. */
	r = staging_sync(v->staging);
	if (!r && records != atomic_load(&v->records_synced)) {
		r = kv_sync_log(v->store->kv);
		if (!r)
			atomic_store(&v->records_synced, records);
	}
	return r ? r : journal_sync(v->journal);
}

/* What the base has, and what is over it. */
struct sums {
	struct super_rec sup;
	uint64_t used, made, quota, quota_inodes;
};

static int look_at_sums(struct view *v, struct sums *out)
{
	struct view_lock l;

	view_lock(v, &l, false, 0, NULL);
	int r = tree_fs_super(&v->base, &out->sup);

	out->used = upper_bytes(v->cur) + upper_bytes(v->sealed);
	out->made = view_new_inodes(v);
	out->quota = view_quota(v);
	out->quota_inodes = atomic_load_explicit(&v->quota_inodes, memory_order_relaxed);
	view_unlock(v, &l);
	return r;
}

int view_statfs(struct view *v, struct statvfs *out)
{
	uint64_t avail, inodes = 1ull << 32;
	unsigned looks = 0;
	struct sums s;
	int r;

	if (fstatvfs(v->store->dir_fd, out) < 0)
		return -errno;
	avail = MIN(staging_room(v->staging), (uint64_t)out->f_bavail * out->f_frsize);
	do {
		view_look(looks);
		r = look_at_sums(v, &s);
	} while (view_look_again(v, &looks, r));
	if (r)
		return r == -ENOENT ? -EBADMSG : r;
	if (s.quota)
		avail = MIN(avail, s.quota - MIN(s.used, s.quota));
	out->f_bsize = out->f_frsize = 4096;
	out->f_bfree = out->f_bavail = avail / 4096;
	out->f_blocks = out->f_bfree + (s.sup.data_bytes + s.used) / 4096;
	if (s.quota_inodes)
		inodes = s.quota_inodes - MIN(s.made, s.quota_inodes);
	out->f_ffree = out->f_favail = inodes;
	out->f_files = s.sup.inode_count + s.made + inodes;
	out->f_namemax = NAME_LEN_MAX;
	return 0;
}
