/*
 * Rechunking the changed places of a file.
 *
 * What was written, cut off or appended gives ranges. A region is what is fed
 * for a range. It begins at a cut of the base at or before the range's first
 * aligned block. It ends where the new cuts meet an old one behind the range
 * (file_chunks.h says why both are right), where a hole of the base ends, or at
 * the file's end. The base's extents in a region are replaced; none of them
 * crosses its ends. Then the same happens for the next range. A region that runs
 * into further ranges takes them over: it ends behind them. So the result is
 * what an import of the file would give, at a cost that follows the size of the
 * change.
 */
#include "fs/mount/seal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_BLOCK (1u << 20)

struct range {
	uint64_t from, to;
};

struct file_seal {
	struct view *v;
	struct file_chunks *fc;
	struct unode *u;
	uint64_t base_size, new_size;
	struct seal_file_result *out;
	struct range *ranges; /* ascending, merged */
	size_t n_ranges;
	size_t range; /* the first one that no region has taken over */
	uint64_t fed; /* everything below it is fed or settled; no extent of the base crosses it */
	bool fed_to_hole; /* and a hole ends there */
	/* the region being fed */
	uint64_t start;
	uint64_t settle; /* the ranges it took over end below; it may end from here on */
	uint8_t *block;
	size_t block_size;
};

void seal_file_result_fini(struct seal_file_result *r)
{
	buf_fini(&r->del);
	buf_fini(&r->put);
}

static uint64_t floor_block(uint64_t x)
{
	return x - x % CHUNK_ZERO_RUN;
}

static uint64_t ceil_block(uint64_t x)
{
	return floor_block(x + CHUNK_ZERO_RUN - 1);
}

/* --- the base's extents --- */
struct found {
	bool there;
	uint64_t off, len;
	bool is_inline;
};

static int first_extent(void *arg, uint64_t off, const struct extent_rec *e)
{
	struct found *f = arg;

	*f = (struct found){ true, off, e->len, e->kind == EXTENT_INLINE };
	return 1;
}

/* The extent of the base that covers `off`. */
static int base_extent_at(struct file_seal *s, uint64_t off, struct found *f)
{
	int r;

	f->there = false;
	if (off >= s->base_size)
		return 0;
	r = tree_fs_extents(&s->v->base, s->u->ino, off, off + 1, first_extent, f);
	return r < 0 ? r : 0;
}

/*
 * Where to begin for a change at `from`; *out_resume: it is a cut inside a
 * segment that is known to be long before it. It does not look at what has been
 * fed: the base may differ from the file there.
 */
static int region_start(struct file_seal *s, uint64_t from, uint64_t *out_start, bool *out_resume)
{
	uint64_t cut = MAX(floor_block(from), s->fed), back;
	struct found f;
	int r;

	*out_resume = false;
	*out_start = cut;
	if (cut == s->fed) {
		/* A sync is a cut of a long segment; a hole's end begins a new one. */
		*out_resume = cut > 0 && !s->fed_to_hole;
		return 0;
	}
	r = base_extent_at(s, cut - 1, &f);
	if (r || !f.there)
		return r;
	back = f.is_inline ? 0 : f.off;
	*out_start = back;
	/* Is there at least CHUNK_AVG of one segment before the cut? */
	while (back > s->fed && *out_start - back < CHUNK_AVG) {
		r = base_extent_at(s, back - 1, &f);
		if (r)
			return r;
		if (!f.there) { /* the segment's start is near: begin there */
			*out_start = back;
			return 0;
		}
		back = f.off;
	}
	if (back <= s->fed && *out_start - back < CHUNK_AVG) {
		*out_start = s->fed;
		*out_resume = s->fed > 0 && !s->fed_to_hole;
	} else {
		*out_resume = true;
	}
	return 0;
}

/* --- ranges --- */
static int range_cmp(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

static int collect_ranges(struct file_seal *s)
{
	struct upper_extent x;
	size_t n = 1, cap;

	for (struct omap_entry *e = upper_extent_seek(s->u, 0, &x); e;
	     e = upper_extent_next(s->u, &x, &x))
		n++;
	cap = n;
	s->ranges = malloc(cap * sizeof(*s->ranges));
	if (!s->ranges)
		return -ENOMEM;
	n = 0;
	for (struct omap_entry *e = upper_extent_seek(s->u, 0, &x); e;
	     e = upper_extent_next(s->u, &x, &x))
		s->ranges[n++] = (struct range){ x.off, x.off + x.len };
	if (s->base_size != s->new_size)
		s->ranges[n++] = (struct range){ MIN(s->base_size, s->new_size),
						 MAX(s->base_size, s->new_size) };
	qsort(s->ranges, n, sizeof(*s->ranges), range_cmp);
	for (size_t i = 0; i < n; i++) {
		struct range *last = s->n_ranges ? &s->ranges[s->n_ranges - 1] : NULL;

		if (last && s->ranges[i].from <= last->to)
			last->to = MAX(last->to, s->ranges[i].to);
		else
			s->ranges[s->n_ranges++] = s->ranges[i];
	}
	return 0;
}

/* --- feeding --- */
int seal_file_emit(void *arg, uint64_t offset, const struct extent_rec *e)
{
	struct file_seal *s = arg;
	struct seal_put_head h;
	int r;

	memset(&h, 0, sizeof(h));
	h.off = offset;
	h.len = e->len;
	h.kind = e->kind;
	if (e->kind == EXTENT_CHUNK)
		h.digest = e->digest;
	s->out->alloc_delta += e->len;
	r = buf_append(&s->out->put, &h, sizeof(h));
	if (!r && e->kind == EXTENT_INLINE)
		r = buf_append(&s->out->put, e->data, e->len);
	return r;
}

/* The region goes up to `upto`: the changes whose first block begins below are its own. */
static void take_ranges(struct file_seal *s, uint64_t upto)
{
	for (; s->range < s->n_ranges && floor_block(s->ranges[s->range].from) < upto; s->range++)
		s->settle = MAX(s->settle, ceil_block(s->ranges[s->range].to));
}

/* Would feeding for the next range begin above `offset`, if this region ended there? */
static bool pays_to_end_at(struct file_seal *s, uint64_t offset)
{
	struct file_seal then = *s;
	uint64_t start;
	bool resume;

	if (s->range == s->n_ranges)
		return true;
	then.fed = offset;
	then.fed_to_hole = false;
	return region_start(&then, s->ranges[s->range].from, &start, &resume) == 0 &&
	       start > offset;
}

int seal_file_at_cut(void *arg, uint64_t offset)
{
	struct file_seal *s = arg;
	struct found here, before;

	if (offset <= s->start) /* what is left of the region before this one */
		return 0;
	take_ranges(s, offset);
	if (offset < s->settle)
		return 0;
	/* An old cut inside an old segment: an extent ends and one begins here. */
	if (base_extent_at(s, offset, &here) || !here.there || here.off != offset ||
	    base_extent_at(s, offset - 1, &before) || !before.there || !pays_to_end_at(s, offset))
		return 0;
	s->fed = offset;
	s->fed_to_hole = false;
	return 1;
}

/* 1 if the region ends. */
static int feed_piece(void *arg, const struct piece *p)
{
	struct file_seal *s = arg;
	uint64_t at = p->off, end = p->off + p->len;

	if (p->kind == PIECE_HOLE) {
		take_ranges(s, end);
		if (end <= s->settle)
			return 0;
		/* Its last byte is unchanged, so the base has a hole there as well. */
		s->fed = end;
		s->fed_to_hole = true;
		return 1;
	}
	while (at < end) {
		size_t n = (size_t)MIN(end - at, (uint64_t)s->block_size);
		int r = view_read_piece(s->v, p, at, s->block, n);

		if (!r)
			r = file_chunks_feed(s->fc, at, s->block, n);
		if (r)
			return r;
		at += n;
	}
	return 0;
}

static int note_deleted(void *arg, uint64_t off, const struct extent_rec *e)
{
	struct file_seal *s = arg;

	s->out->alloc_delta -= e->len;
	return buf_append(&s->out->del, &off, sizeof(off));
}

/* Delete the base's extents that begin in [from, to). */
static int replace_base(struct file_seal *s, uint64_t from, uint64_t to)
{
	to = MIN(to, s->base_size);
	return from < to ? tree_fs_extents(&s->v->base, s->u->ino, from, to, note_deleted, s) : 0;
}

/* Feed from `start` until the region ends, and delete the base's extents in it. */
static int feed_region(struct file_seal *s, uint64_t start, bool resume)
{
	int r = 0;

	s->start = start;
	if (resume)
		r = file_chunks_resume(s->fc, start);
	if (!r)
		r = view_pieces_locked(s->v, 1, s->u->ino, start, s->new_size, feed_piece, s);
	if (r < 0)
		return r;
	if (r == 0) { /* to the end */
		s->range = s->n_ranges;
		s->fed = MAX(s->new_size, s->base_size);
	}
	return replace_base(s, start, s->fed);
}

static int feed_all(struct file_seal *s)
{
	struct found f = { 0 };
	int r = base_extent_at(s, 0, &f);

	if (!r && (s->new_size <= INLINE_MAX || (f.there && f.is_inline))) {
		s->settle = UINT64_MAX; /* whole */
		s->range = s->n_ranges;
		return feed_region(s, 0, false);
	}
	while (!r && s->range < s->n_ranges) {
		const struct range *first = &s->ranges[s->range++];
		uint64_t start;
		bool resume;

		s->settle = ceil_block(first->to);
		r = region_start(s, first->from, &start, &resume);
		if (!r)
			r = feed_region(s, start, resume);
	}
	return r;
}

int seal_file(struct view *v, struct file_chunks *fc, struct unode *u, uint64_t base_size,
	      uint64_t new_size, struct seal_file_result *out)
{
	struct file_seal s = {
		.v = v, .fc = fc, .u = u, .base_size = base_size, .new_size = new_size, .out = out
	};
	int r;

	memset(out, 0, sizeof(*out));
	/* Most files are small: a megabyte for each of them costs more than to seal it. */
	s.block_size = (size_t)MIN(MAX(new_size, (uint64_t)1), (uint64_t)READ_BLOCK);
	s.block = malloc(s.block_size);
	r = s.block ? collect_ranges(&s) : -ENOMEM;
	file_chunks_begin(fc, &s);
	if (!r)
		r = feed_all(&s);
	if (!r) {
		s.start = UINT64_MAX; /* the extents left in the buffer replace the base's */
		r = file_chunks_finish(fc, new_size);
		if (r >= 0)
			r = file_chunks_wait(fc);
		r = r > 0 ? 0 : r;
	}
	free(s.block);
	free(s.ranges);
	return r;
}
