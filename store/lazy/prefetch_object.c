/*
 * The first range has the header, which says how long the object is and where its segments are. The
 * others are asked for then, side by side. A segment is looked at when its last byte has come: what
 * is before a range was there when that was asked for, or is another range's.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "store/lazy/prefetch_use_internal.h"

/* ---- pieces ---- */

struct piece *piece_new(struct buf *bytes)
{
	struct piece *p = malloc(sizeof(*p));

	if (!p) {
		buf_fini(bytes);
		return NULL;
	}
	p->refs = 1;
	p->bytes = *bytes;
	*bytes = (struct buf)BUF_INIT;
	return p;
}

struct piece *piece_ref(struct piece *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void piece_unref(struct piece *p)
{
	/* acq_rel: everybody's reads come before the end. */
	if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return;
	buf_fini(&p->bytes);
	free(p);
}

/* ---- the end of a use ---- */

void use_free(struct use *u)
{
	for (unsigned i = 0; i < HOT_SEGMENTS_MAX; i++) {
		object_request_fini(&u->segments[i].rq);
		piece_unref(u->segments[i].piece);
	}
	for (unsigned i = 0; i < USE_RANGES; i++)
		object_request_fini(&u->ranges[i].rq);
	object_request_fini(&u->first);
	piece_unref(u->head);
	object_request_fini(&u->put);
	buf_fini(&u->body);
	share_packs_fini(&u->packs);
	loc_map_fini(&u->frames);
	digest_set_fini(&u->seen);
	buf_fini(&u->order);
	free(u);
}

void use_free_if_over(struct use *u)
{
	if (!u->ended || u->pending || u->remote)
		return;
	u->p->n_uses--;
	use_free(u);
}

/* ---- segments ---- */

static void request_over(struct use *u, struct object_request *rq, size_t came)
{
	struct prefetch *p = u->p;

	buf_fini(&rq->data);
	pthread_mutex_lock(&p->lock);
	p->stats.bytes += came;
	u->pending--;
	pthread_cond_broadcast(&p->changed);
	use_free_if_over(u);
	pthread_mutex_unlock(&p->lock);
}

/* Out of memory: some are not found, and fetched alone. */
static void index_segment(struct use *u, unsigned i)
{
	const struct hot_segment *h = &u->header.segments[i];
	const uint8_t *bytes = segment_bytes(u, i);
	struct hot_item item;
	size_t pos = 0;
	int rc = 0;

	pthread_mutex_lock(&u->p->lock);
	while (rc >= 0 && hot_next(bytes, h->len, &pos, &item)) {
		const struct share_loc at = {
			.offset = (uint32_t)(h->offset + (size_t)(item.bytes - bytes)),
			.len = (uint32_t)item.len,
		};

		if (item.kind == HOT_CHUNK)
			rc = loc_map_add(&u->frames, &item.digest, &at);
	}
	u->segments[i].good = rc >= 0;
	pthread_cond_broadcast(&u->p->changed);
	pthread_mutex_unlock(&u->p->lock);
}

static bool is_good(const struct use *u, unsigned i)
{
	const struct hot_segment *h = &u->header.segments[i];

	return u->segments[i].piece && hot_segment_check(h, segment_bytes(u, i), h->len, NULL) == 0;
}

/* `from` is where the piece begins. */
static void set_piece(struct use *u, unsigned i, struct piece *piece, uint64_t from)
{
	struct segment *s = &u->segments[i];

	piece_unref(s->piece);
	s->piece = piece ? piece_ref(piece) : NULL;
	s->at = (size_t)(u->header.segments[i].offset - from);
}

/* The segment's beginning came at the end of the first range, and its end with this piece. */
static void join_pieces(struct use *u, unsigned i, const struct piece *piece, uint64_t from)
{
	const struct hot_segment *h = &u->header.segments[i];
	size_t first = (size_t)(from - h->offset);
	struct buf both = BUF_INIT;
	struct piece *joined;

	if (!u->head || from != u->head->bytes.len ||
	    buf_append(&both, u->head->bytes.data + h->offset, first) < 0 ||
	    buf_append(&both, piece->bytes.data, h->len - first) < 0) {
		buf_fini(&both);
		return;
	}
	joined = piece_new(&both);
	set_piece(u, i, joined, h->offset);
	piece_unref(joined);
}

/* From the bucket's thread, as the next two. */
static void segment_done(struct object_request *rq)
{
	struct segment *s = rq->arg;
	struct use *u = s->use;
	unsigned i = (unsigned)(s - u->segments);
	size_t came = rq->data.len;

	if (rq->result == 0 && came == rq->len) {
		struct piece *piece = piece_new(&rq->data);

		set_piece(u, i, piece, rq->offset);
		piece_unref(piece);
		if (is_good(u, i))
			index_segment(u, i);
	}
	request_over(u, rq, came);
}

/* It is wrong: a cache may have spoilt it, or have a part of another version. */
static void fetch_past_cache(struct use *u, unsigned i)
{
	struct segment *s = &u->segments[i];

	s->use = u;
	s->past = true;
	s->rq = (struct object_request){ .op = OBJECT_GET,
					 .priority = OBJECT_READAHEAD,
					 .key = u->from,
					 .offset = u->header.segments[i].offset,
					 .len = u->header.segments[i].len,
					 .done = segment_done,
					 .arg = s };
	pthread_mutex_lock(&u->p->lock);
	u->pending++;
	pthread_mutex_unlock(&u->p->lock);
	object_submit(u->os, &s->rq);
}

/* The piece is the object's from there on; up to `to` it was asked for. */
static void take_piece(struct use *u, struct piece *piece, uint64_t from, uint64_t to)
{
	uint64_t came = from + piece->bytes.len;

	for (unsigned i = 0; i < u->header.n; i++) {
		const struct hot_segment *h = &u->header.segments[i];
		uint64_t end = (uint64_t)h->offset + h->len;

		if (end <= from || end > to)
			continue;
		if (end <= came && h->offset >= from)
			set_piece(u, i, piece, from);
		else if (end <= came)
			join_pieces(u, i, piece, from);
		if (is_good(u, i))
			index_segment(u, i);
		else if (!u->segments[i].past)
			fetch_past_cache(u, i);
	}
}

static void range_done(struct object_request *rq)
{
	struct range *r = rq->arg;
	struct use *u = r->use;
	size_t came = rq->data.len;
	struct piece *piece = rq->result == 0 ? piece_new(&rq->data) : NULL;

	if (piece)
		take_piece(u, piece, rq->offset, rq->offset + rq->len);
	piece_unref(piece);
	request_over(u, rq, came);
}

static uint32_t size_of_object(const struct hot_header *h)
{
	return h->segments[h->n - 1].offset + h->segments[h->n - 1].len;
}

/* Where the range that begins at `at` ends: with a segment. */
static uint32_t range_end(const struct hot_header *h, uint32_t at)
{
	uint32_t end = at;

	for (unsigned i = 0; i < h->n; i++) {
		uint32_t next = h->segments[i].offset + h->segments[i].len;

		if (next > at && (end == at || next - at <= USE_RANGE_MAX))
			end = next;
	}
	return end;
}

/* All after the first `at` bytes. */
static void fetch_rest(struct use *u, uint32_t at)
{
	unsigned n = 0;

	for (uint32_t end; n < USE_RANGES && at < size_of_object(&u->header); at = end) {
		struct range *r = &u->ranges[n++];

		end = range_end(&u->header, at);
		r->use = u;
		r->rq = (struct object_request){ .op = OBJECT_GET,
						 .priority = OBJECT_READAHEAD,
						 .immutable = true,
						 .key = u->from,
						 .offset = at,
						 .len = end - at,
						 .done = range_done,
						 .arg = r };
	}
	pthread_mutex_lock(&u->p->lock);
	n = u->ended ? 0 : n;
	u->pending += n;
	pthread_mutex_unlock(&u->p->lock);
	for (unsigned i = 0; i < n; i++)
		object_submit(u->os, &u->ranges[i].rq);
}

/* To u->header and u->head. */
static bool take_header(struct use *u)
{
	struct buf *data = &u->first.data;
	struct hot_header h;

	if (hot_header_parse(data->data, data->len, &h, NULL) < 0 ||
	    (strcmp(u->from, u->key) == 0 && !digest_equal(&h.root, &u->root)))
		return false;
	u->head = piece_new(data);
	if (u->head)
		u->header = h;
	return u->head != NULL;
}

/* From the bucket's thread. */
static void first_done(struct object_request *rq)
{
	struct use *u = rq->arg;
	size_t came = rq->data.len;

	if (rq->result == -ENOENT && !share_id_is_none(&u->parent)) {
		share_key_of_id(SHARE_KEY_HOT, &u->parent, u->from);
		u->parent = (struct share_id){ 0 };
		use_fetch_object(u);
		return;
	}
	if (rq->result == 0 && take_header(u)) {
		fetch_rest(u, (uint32_t)came);
		take_piece(u, u->head, 0, came);
	} else if (rq->result == 0 && !u->first_past) {
		u->first_past = true;
		use_fetch_object(u);
		return;
	}
	request_over(u, rq, came);
}

void use_fetch_object(struct use *u)
{
	object_request_fini(&u->first);
	u->first = (struct object_request){ .op = OBJECT_GET,
					    .priority = OBJECT_DEMAND,
					    .immutable = !u->first_past,
					    .key = u->from,
					    .len = USE_RANGE,
					    .done = first_done,
					    .arg = u };
	object_submit(u->os, &u->first);
}
