/*
 * A container is checked as a whole before anything is shown of it, so that the functions which
 * read a view need no results. The writer collects each section in its encoded form; only LOCS is
 * sorted, at the end.
 */
#include "store/layout/vpk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"

#define MAGIC_SIZE 4u
#define PACK_SIZE (SHARE_ID_BYTES + 4u)
#define LOC_SIZE (VPK_PREFIX_SIZE + 12u)
#define FOOTER_SIZE (DIGEST_SIZE + 8u)
#define NODE_HEAD_SIZE 4u
#define OFFSETS_SIZE 12u
#define LOCS_HEAD_SIZE 4u
/* What a container without any content has. */
#define FIXED_SIZE (VPK_HEADER_SIZE + LOCS_HEAD_SIZE + VPK_TAIL_SIZE)

static const uint8_t magic[MAGIC_SIZE] = { 'V', 'P', 'K', '1' };

static bool pack_is_valid(const struct pack_id *p)
{
	return !share_id_is_none(&p->push) && p->number <= PACK_NUMBER_MAX;
}

static void put_pack(const struct pack_id *p, uint8_t out[PACK_SIZE])
{
	memcpy(out, p->push.b, SHARE_ID_BYTES);
	wire_set32(out + SHARE_ID_BYTES, p->number);
}

static void get_pack(const uint8_t *b, struct pack_id *out)
{
	memcpy(out->push.b, b, SHARE_ID_BYTES);
	out->number = wire_get32(b + SHARE_ID_BYTES);
}

static void make_header(const struct pack_id *id, uint8_t out[VPK_HEADER_SIZE])
{
	memset(out, 0, VPK_HEADER_SIZE);
	memcpy(out, magic, MAGIC_SIZE);
	put_pack(id, out + 8);
}

/* Of the header and of what lies from NODES to the tail's offsets. */
static int sum_up(const struct pack_id *id, const void *sections, size_t len, struct digest *out)
{
	uint8_t header[VPK_HEADER_SIZE];
	CLEANUP(hasher_free_p) struct hasher *h = hasher_new();
	if (!h)
		return -ENOMEM;
	make_header(id, header);
	int r = hasher_update(h, header, sizeof(header));
	if (r == 0)
		r = hasher_update(h, sections, len);
	return r == 0 ? hasher_final(h, out) : r;
}

bool vpk_frame_is_valid(const void *frame, size_t len, uint32_t raw_max)
{
	if (len > (size_t)CODEC_HEADER_SIZE + raw_max || codec_frame_dict(frame, len) != 0)
		return false;
	int64_t raw = codec_raw_len(frame, len);
	return raw > 0 && raw <= (int64_t)raw_max;
}

static bool place_is_valid(uint32_t offset, uint32_t len, uint32_t end)
{
	return offset >= VPK_HEADER_SIZE && len > CODEC_HEADER_SIZE && len <= VPK_CHUNK_FRAME_MAX &&
	       offset <= end && len <= end - offset;
}

/* (prefix, pack, offset, length) */
static int loc_cmp(const void *a, const void *b)
{
	const uint8_t *x = a, *y = b;
	int c = memcmp(x, y, VPK_PREFIX_SIZE);
	for (size_t at = VPK_PREFIX_SIZE; c == 0 && at < LOC_SIZE; at += 4) {
		uint32_t m = wire_get32(x + at), n = wire_get32(y + at);
		c = (m > n) - (m < n);
	}
	return c;
}

/* ---- writing ---- */

struct vpk_writer {
	struct pack_id id;
	struct buf frames; /* with the header before them */
	struct buf nodes, packs, locs, footer;
	uint32_t *slots; /* hash table of packs: index + 1, or 0; n_slots is 0 or a power of two */
	size_t n_slots;
};

struct vpk_writer *vpk_writer_new(const struct pack_id *id)
{
	uint8_t header[VPK_HEADER_SIZE];
	struct vpk_writer *w = pack_is_valid(id) ? calloc(1, sizeof(*w)) : NULL;
	if (!w)
		return NULL;
	w->id = *id;
	make_header(id, header);
	if (buf_append(&w->frames, header, sizeof(header)) != 0) {
		vpk_writer_free(w);
		return NULL;
	}
	return w;
}

void vpk_writer_free(struct vpk_writer *w)
{
	if (!w)
		return;
	buf_fini(&w->frames);
	buf_fini(&w->nodes);
	buf_fini(&w->packs);
	buf_fini(&w->locs);
	buf_fini(&w->footer);
	free(w->slots);
	free(w);
}

size_t vpk_writer_size(const struct vpk_writer *w)
{
	return w->frames.len + w->nodes.len + LOCS_HEAD_SIZE + w->packs.len + w->locs.len +
	       w->footer.len + VPK_TAIL_SIZE;
}

bool vpk_writer_is_empty(const struct vpk_writer *w)
{
	return w->footer.len == 0 && w->nodes.len == 0 && w->locs.len == 0;
}

static bool has_room(const struct vpk_writer *w, size_t extra)
{
	size_t size = vpk_writer_size(w);
	return size <= VPK_SIZE_MAX && extra <= VPK_SIZE_MAX - size;
}

int vpk_add_frame(struct vpk_writer *w, const struct digest *digest, const void *frame, size_t len,
		  uint32_t *out_offset)
{
	uint8_t entry[FOOTER_SIZE];
	uint32_t offset = (uint32_t)w->frames.len;

	if (!vpk_frame_is_valid(frame, len, CHUNK_MAX))
		return -EINVAL;
	if (!has_room(w, len + FOOTER_SIZE))
		return -EFBIG;
	memcpy(entry, digest->b, DIGEST_SIZE);
	wire_set32(entry + DIGEST_SIZE, offset);
	wire_set32(entry + DIGEST_SIZE + 4, (uint32_t)len);
	int r = buf_reserve(&w->footer, FOOTER_SIZE);
	if (r == 0)
		r = buf_append(&w->frames, frame, len);
	if (r == 0)
		r = buf_append(&w->footer, entry, sizeof(entry));
	if (r == 0 && out_offset)
		*out_offset = offset;
	return r;
}

int vpk_add_node(struct vpk_writer *w, const void *frame, size_t len)
{
	if (!vpk_frame_is_valid(frame, len, NODE_ENCODED_MAX))
		return -EINVAL;
	if (!has_room(w, NODE_HEAD_SIZE + len))
		return -EFBIG;
	int r = buf_reserve(&w->nodes, NODE_HEAD_SIZE + len);
	if (r == 0)
		r = wire_put_u32(&w->nodes, (uint32_t)len);
	return r == 0 ? buf_append(&w->nodes, frame, len) : r;
}

/* The slot of that pack, or the free one where it belongs. */
static uint32_t *pack_slot(const struct vpk_writer *w, const uint8_t pack[PACK_SIZE])
{
	size_t i = wire_get32(pack) + (size_t)wire_get32(pack + SHARE_ID_BYTES) * 0x9e3779b1u;
	for (;; i++) {
		uint32_t *slot = &w->slots[i & (w->n_slots - 1)];
		if (!*slot || memcmp(w->packs.data + (*slot - 1) * PACK_SIZE, pack, PACK_SIZE) == 0)
			return slot;
	}
}

/* Room for one more pack, at most half full. */
static int grow_slots(struct vpk_writer *w)
{
	size_t count = w->packs.len / PACK_SIZE;
	if (2 * (count + 1) <= w->n_slots)
		return 0;
	size_t n = w->n_slots ? 2 * w->n_slots : 64;
	uint32_t *slots = calloc(n, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	free(w->slots);
	w->slots = slots;
	w->n_slots = n;
	for (size_t i = 0; i < count; i++)
		*pack_slot(w, w->packs.data + i * PACK_SIZE) = (uint32_t)i + 1;
	return 0;
}

int vpk_add_pack(struct vpk_writer *w, const struct pack_id *pack, uint32_t *out_index)
{
	uint8_t bytes[PACK_SIZE];

	if (!pack_is_valid(pack))
		return -EINVAL;
	put_pack(pack, bytes);
	int r = grow_slots(w);
	if (r != 0)
		return r;
	uint32_t *slot = pack_slot(w, bytes);
	if (!*slot) {
		if (!has_room(w, PACK_SIZE))
			return -EFBIG;
		r = buf_append(&w->packs, bytes, sizeof(bytes));
		if (r != 0)
			return r;
		*slot = (uint32_t)(w->packs.len / PACK_SIZE);
	}
	*out_index = *slot - 1;
	return 0;
}

int vpk_add_loc(struct vpk_writer *w, const struct digest *digest, uint32_t pack, uint32_t offset,
		uint32_t len)
{
	uint8_t entry[LOC_SIZE];

	if (pack >= w->packs.len / PACK_SIZE ||
	    !place_is_valid(offset, len, VPK_SIZE_MAX - VPK_TAIL_SIZE))
		return -EINVAL;
	if (!has_room(w, LOC_SIZE))
		return -EFBIG;
	memcpy(entry, digest->b, VPK_PREFIX_SIZE);
	wire_set32(entry + VPK_PREFIX_SIZE, pack);
	wire_set32(entry + VPK_PREFIX_SIZE + 4, offset);
	wire_set32(entry + VPK_PREFIX_SIZE + 8, len);
	return buf_append(&w->locs, entry, sizeof(entry));
}

static void sort_locs(struct buf *locs)
{
	size_t n = locs->len / LOC_SIZE, kept = 0;
	if (n == 0)
		return;
	qsort(locs->data, n, LOC_SIZE, loc_cmp);
	for (size_t i = 1; i < n; i++) {
		const uint8_t *at = locs->data + i * LOC_SIZE;
		if (loc_cmp(locs->data + kept * LOC_SIZE, at) != 0)
			memmove(locs->data + ++kept * LOC_SIZE, at, LOC_SIZE);
	}
	locs->len = (kept + 1) * LOC_SIZE;
}

/* A location in this very container must lie in its frames. */
static bool own_locs_fit(const struct vpk_writer *w)
{
	for (size_t at = 0; at < w->locs.len; at += LOC_SIZE) {
		const uint8_t *e = w->locs.data + at + VPK_PREFIX_SIZE;
		struct pack_id pack;
		get_pack(w->packs.data + (size_t)wire_get32(e) * PACK_SIZE, &pack);
		if (pack_id_cmp(&pack, &w->id) == 0 &&
		    !place_is_valid(wire_get32(e + 4), wire_get32(e + 8), (uint32_t)w->frames.len))
			return false;
	}
	return true;
}

int vpk_writer_locs(struct vpk_writer *w, struct buf *out)
{
	sort_locs(&w->locs);
	int r = buf_reserve(out, LOCS_HEAD_SIZE + w->packs.len + w->locs.len);
	if (r == 0)
		r = wire_put_u32(out, (uint32_t)(w->packs.len / PACK_SIZE));
	if (r == 0)
		r = buf_append(out, w->packs.data, w->packs.len);
	return r == 0 ? buf_append(out, w->locs.data, w->locs.len) : r;
}

int vpk_writer_finish(struct vpk_writer *w, struct buf *out)
{
	uint32_t nodes = (uint32_t)w->frames.len, locs = nodes + (uint32_t)w->nodes.len;
	struct digest sum;

	if (!own_locs_fit(w))
		return -EINVAL;
	int r = buf_reserve(out, vpk_writer_size(w));
	if (r != 0)
		return r;
	size_t start = out->len;
	r |= buf_append(out, w->frames.data, w->frames.len);
	r |= buf_append(out, w->nodes.data, w->nodes.len);
	r |= vpk_writer_locs(w, out);
	uint32_t footer = (uint32_t)(out->len - start);
	r |= buf_append(out, w->footer.data, w->footer.len);
	r |= wire_put_u32(out, nodes);
	r |= wire_put_u32(out, locs);
	r |= wire_put_u32(out, footer);
	if (r == 0)
		r = sum_up(&w->id, out->data + start + nodes, out->len - start - nodes, &sum);
	if (r == 0)
		r = buf_append(out, sum.b, DIGEST_SIZE);
	return r == 0 ? buf_append(out, magic, MAGIC_SIZE) : r;
}

/* ---- reading ---- */

static int check_magic(const uint8_t *b, struct error *err)
{
	if (memcmp(b, magic, MAGIC_SIZE) == 0)
		return 0;
	if (memcmp(b, magic, MAGIC_SIZE - 1) == 0 && b[3] > '1' && b[3] <= '9')
		return error_set(err, -ENOTSUP,
				 "container of version %c, this program reads version 1", b[3]);
	return error_set(err, -EBADMSG, "not a container");
}

int vpk_tail_parse(const uint8_t tail[VPK_TAIL_SIZE], uint64_t size, struct vpk_tail *out,
		   struct error *err)
{
	int r = check_magic(tail + VPK_TAIL_SIZE - MAGIC_SIZE, err);
	if (r != 0)
		return r;
	if (size < FIXED_SIZE || size > VPK_SIZE_MAX)
		return error_set(err, -EBADMSG, "a container cannot have %llu bytes",
				 (unsigned long long)size);
	struct vpk_tail t = {
		.size = (uint32_t)size,
		.nodes = wire_get32(tail),
		.locs = wire_get32(tail + 4),
		.footer = wire_get32(tail + 8),
	};
	uint32_t end = t.size - VPK_TAIL_SIZE;
	memcpy(t.sum.b, tail + OFFSETS_SIZE, DIGEST_SIZE);
	if (t.nodes < VPK_HEADER_SIZE || t.nodes > t.locs || t.locs > t.footer || t.footer > end ||
	    t.footer - t.locs < LOCS_HEAD_SIZE || (end - t.footer) % FOOTER_SIZE != 0)
		return error_set(err, -EBADMSG, "sections of the container overlap");
	*out = t;
	return 0;
}

int vpk_sections_tail(const uint8_t tail[VPK_TAIL_SIZE], uint64_t len, struct vpk_tail *out,
		      struct error *err)
{
	return vpk_tail_parse(tail, len + wire_get32(tail), out, err);
}

static bool take_nodes(struct vpk_view *v, const uint8_t *bytes, size_t len)
{
	const uint8_t *frame;
	struct wire_reader r;

	wire_reader_init(&r, bytes, len);
	v->nodes = bytes;
	v->nodes_len = len;
	for (v->n_nodes = 0; wire_left(&r) > 0; v->n_nodes++) {
		size_t n = wire_u32(&r);
		frame = wire_bytes(&r, n);
		if (!frame || !vpk_frame_is_valid(frame, n, NODE_ENCODED_MAX))
			return false;
	}
	return wire_done(&r);
}

/* frames_end: where the frames of the container itself end, whose id this is; NULL: of none. */
static bool take_locs(struct vpk_view *v, const uint8_t *bytes, size_t len,
		      const struct pack_id *id, uint32_t frames_end)
{
	struct pack_id pack;

	if (len < LOCS_HEAD_SIZE)
		return false;
	v->n_packs = wire_get32(bytes);
	len -= LOCS_HEAD_SIZE;
	if (v->n_packs > len / PACK_SIZE || (len - v->n_packs * PACK_SIZE) % LOC_SIZE != 0)
		return false;
	v->packs = bytes + LOCS_HEAD_SIZE;
	v->locs = v->packs + v->n_packs * PACK_SIZE;
	v->n_locs = (uint32_t)((len - v->n_packs * PACK_SIZE) / LOC_SIZE);
	for (uint32_t i = 0; i < v->n_packs; i++) {
		vpk_pack(v, i, &pack);
		if (!pack_is_valid(&pack))
			return false;
	}
	for (uint32_t i = 0; i < v->n_locs; i++) {
		const uint8_t *at = v->locs + (size_t)i * LOC_SIZE;
		struct vpk_loc l;
		vpk_loc(v, i, &l);
		if (l.pack >= v->n_packs || (i > 0 && loc_cmp(at - LOC_SIZE, at) >= 0))
			return false;
		vpk_pack(v, l.pack, &pack);
		bool own = id && pack_id_cmp(&pack, id) == 0;
		uint32_t end = own ? frames_end : VPK_SIZE_MAX - VPK_TAIL_SIZE;
		if (!place_is_valid(l.offset, l.len, end))
			return false;
	}
	return true;
}

static bool take_footer(struct vpk_view *v, const uint8_t *bytes, size_t len, uint32_t frames_end)
{
	uint32_t at = VPK_HEADER_SIZE;

	v->footer = bytes;
	v->n_frames = (uint32_t)(len / FOOTER_SIZE);
	for (uint32_t i = 0; i < v->n_frames; i++) {
		struct vpk_frame f;
		vpk_frame(v, i, &f);
		if (f.offset != at || !place_is_valid(f.offset, f.len, frames_end))
			return false;
		at += f.len;
	}
	return at == frames_end;
}

int vpk_view_init(struct vpk_view *v, const struct vpk_tail *tail, const struct pack_id *id,
		  const void *bytes, size_t len, struct error *err)
{
	const uint8_t *b = bytes;
	struct digest sum;
	struct vpk_view view = { 0 };

	if (len != tail->size - tail->nodes)
		return error_set(err, -EBADMSG, "container has %zu bytes of sections, not %u", len,
				 tail->size - tail->nodes);
	int r = sum_up(id, b, len - VPK_TAIL_SIZE + OFFSETS_SIZE, &sum);
	if (r != 0)
		return error_set_errno(err, r, "container");
	if (!digest_equal(&sum, &tail->sum))
		return error_set(err, -EBADMSG, "container is damaged, or not the one asked for");
	uint32_t locs = tail->locs - tail->nodes, footer = tail->footer - tail->nodes;
	if (!take_nodes(&view, b, locs) ||
	    !take_locs(&view, b + locs, footer - locs, id, tail->nodes) ||
	    !take_footer(&view, b + footer, len - VPK_TAIL_SIZE - footer, tail->nodes))
		return error_set(err, -EBADMSG, "container breaks its own format");
	*v = view;
	return 0;
}

static int check_header(const uint8_t *b, const struct pack_id *id, struct error *err)
{
	uint8_t expected[VPK_HEADER_SIZE];
	int r = check_magic(b, err);
	if (r != 0)
		return r;
	if (wire_get32(b + 4) != 0)
		return error_set(err, -ENOTSUP, "container with unknown flags %#x",
				 wire_get32(b + 4));
	make_header(id, expected);
	if (memcmp(b, expected, sizeof(expected)) != 0)
		return error_set(err, -EBADMSG, "not the container that was asked for");
	return 0;
}

int vpk_view_whole(struct vpk_view *v, const struct pack_id *id, const void *bytes, size_t len,
		   struct error *err)
{
	const uint8_t *b = bytes;
	struct vpk_tail tail;

	if (len < FIXED_SIZE)
		return error_set(err, -EBADMSG, "a container cannot have %zu bytes", len);
	int r = check_header(b, id, err);
	if (r == 0)
		r = vpk_tail_parse(b + len - VPK_TAIL_SIZE, len, &tail, err);
	return r == 0 ? vpk_view_init(v, &tail, id, b + tail.nodes, len - tail.nodes, err) : r;
}

int vpk_view_locs(struct vpk_view *v, const void *bytes, size_t len)
{
	struct vpk_view view = { 0 };
	if (len > VPK_SIZE_MAX || !take_locs(&view, bytes, len, NULL, 0))
		return -EBADMSG;
	*v = view;
	return 0;
}

bool vpk_next_node(const struct vpk_view *v, size_t *pos, const uint8_t **frame, size_t *len)
{
	if (*pos >= v->nodes_len)
		return false;
	*len = wire_get32(v->nodes + *pos);
	*frame = v->nodes + *pos + NODE_HEAD_SIZE;
	*pos += NODE_HEAD_SIZE + *len;
	return true;
}

void vpk_pack(const struct vpk_view *v, uint32_t index, struct pack_id *out)
{
	get_pack(v->packs + (size_t)index * PACK_SIZE, out);
}

void vpk_loc(const struct vpk_view *v, uint32_t index, struct vpk_loc *out)
{
	const uint8_t *e = v->locs + (size_t)index * LOC_SIZE;
	memcpy(out->prefix, e, VPK_PREFIX_SIZE);
	out->pack = wire_get32(e + VPK_PREFIX_SIZE);
	out->offset = wire_get32(e + VPK_PREFIX_SIZE + 4);
	out->len = wire_get32(e + VPK_PREFIX_SIZE + 8);
}

uint32_t vpk_find_loc(const struct vpk_view *v, const struct digest *digest, uint32_t *out_first)
{
	uint32_t low = 0, high = v->n_locs, n = 0;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const uint8_t *e = v->locs + (size_t)middle * LOC_SIZE;
		if (memcmp(e, digest->b, VPK_PREFIX_SIZE) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	while (low + n < v->n_locs &&
	       memcmp(v->locs + (size_t)(low + n) * LOC_SIZE, digest->b, VPK_PREFIX_SIZE) == 0)
		n++;
	*out_first = low;
	return n;
}

void vpk_frame(const struct vpk_view *v, uint32_t index, struct vpk_frame *out)
{
	const uint8_t *e = v->footer + (size_t)index * FOOTER_SIZE;
	memcpy(out->digest.b, e, DIGEST_SIZE);
	out->offset = wire_get32(e + DIGEST_SIZE);
	out->len = wire_get32(e + DIGEST_SIZE + 4);
}

bool vpk_has_frame(const struct vpk_view *v, const struct digest *digest, uint32_t offset,
		   uint32_t len)
{
	uint32_t low = 0, high = v->n_frames;
	struct vpk_frame f;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		vpk_frame(v, middle, &f);
		if (f.offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == v->n_frames)
		return false;
	vpk_frame(v, low, &f);
	return f.offset == offset && f.len == len && digest_equal(&f.digest, digest);
}

int vpk_chunk_check(const void *frame, size_t len, const struct digest *digest, struct buf *raw)
{
	CLEANUP(buf_fini_p) struct buf own = BUF_INIT;
	struct digest found;

	if (!vpk_frame_is_valid(frame, len, CHUNK_MAX))
		return -EBADMSG;
	size_t n = (size_t)codec_raw_len(frame, len);
	struct buf *to = raw ? raw : &own;
	int r = buf_reserve(to, n);
	if (r == 0)
		r = codec_decode(frame, len, to->data + to->len, n);
	if (r == 0)
		r = hash_bytes(to->data + to->len, n, &found);
	if (r != 0)
		return r;
	if (!digest_equal(&found, digest))
		return -EBADMSG;
	to->len += n;
	return 0;
}

int vpk_check_frames(const struct vpk_view *v, const void *bytes, struct error *err)
{
	for (uint32_t i = 0; i < v->n_frames; i++) {
		struct vpk_frame f;
		char hex[DIGEST_HEX_SIZE];
		vpk_frame(v, i, &f);
		int r = vpk_chunk_check((const uint8_t *)bytes + f.offset, f.len, &f.digest, NULL);
		if (r == 0)
			continue;
		digest_to_hex(&f.digest, hex);
		return error_set_errno(err, r, "chunk %s in a container", hex);
	}
	return 0;
}
