/*
 * Containers: whatever the bytes, sections that pass the check can be walked and looked up, and
 * written again they are the same. The input's sum is mended first, or nothing would pass. Then the
 * same bytes as a move (share_moved.h).
 */
#include "store/layout/vpk.h"

#include <string.h>

#include "store/base/wire.h"
#include "store/layout/share_moved.h"
#include "tests/fuzz/fuzz.h"

static const struct pack_id id = { { { 1, 2, 3 } }, 4 };

/* Give the bytes the header and the sum that they need. */
static void seal(uint8_t *b, size_t size)
{
	static const uint8_t head[] = {
		'V', 'P', 'K', '1', 0, 0, 0, 0, 1, 2, 3, [24] = 4, [63] = 0
	};
	struct hasher *h = hasher_new();
	struct digest sum;

	memcpy(b, head, sizeof(head));
	memcpy(b + size - 4, "VPK1", 4);
	uint32_t nodes = wire_get32(b + size - VPK_TAIL_SIZE);
	MUST(h);
	if (nodes <= size - VPK_TAIL_SIZE) {
		MUST(hasher_update(h, b, VPK_HEADER_SIZE) == 0);
		MUST(hasher_update(h, b + nodes, size - 36 - nodes) == 0);
		MUST(hasher_final(h, &sum) == 0);
		memcpy(b + size - 36, sum.b, sizeof(sum.b));
	}
	hasher_free(h);
}

static void write_locs(const struct vpk_view *v, struct vpk_writer *w)
{
	uint32_t index, first;

	for (uint32_t i = 0; i < v->n_packs; i++) {
		struct pack_id p;
		vpk_pack(v, i, &p);
		MUST(vpk_add_pack(w, &p, &index) == 0);
	}
	for (uint32_t i = 0; i < v->n_locs; i++) {
		struct digest d = { { 0 } };
		struct vpk_loc l;
		struct pack_id p;
		vpk_loc(v, i, &l);
		memcpy(d.b, l.prefix, sizeof(l.prefix));
		uint32_t n = vpk_find_loc(v, &d, &first);
		MUST(n > 0 && first <= i && i < first + n);
		vpk_pack(v, l.pack, &p);
		MUST(vpk_add_pack(w, &p, &index) == 0 && index <= l.pack);
		MUST(vpk_add_loc(w, &d, index, l.offset, l.len) == 0);
	}
}

/* The sections alone, as meta/PUSH-N has them, show the same. */
static void check_sections(const struct vpk_view *v, const uint8_t *bytes, size_t size)
{
	const uint8_t *tail = bytes + size - VPK_TAIL_SIZE;
	const uint32_t nodes = wire_get32(tail);
	struct vpk_tail t;
	struct vpk_view alone;

	MUST(vpk_sections_tail(tail, size - nodes, &t, NULL) == 0 && t.size == size);
	MUST(vpk_view_init(&alone, &t, &id, bytes + nodes, size - nodes, NULL) == 0);
	MUST(alone.nodes == v->nodes && alone.locs == v->locs && alone.n_locs == v->n_locs &&
	     alone.n_frames == v->n_frames);
}

/* False if the frames, which the sections do not vouch for, are no frames. */
static bool write_frames(const struct vpk_view *v, const uint8_t *bytes, struct vpk_writer *w)
{
	for (uint32_t i = 0; i < v->n_frames; i++) {
		struct vpk_frame f;
		uint32_t offset;
		vpk_frame(v, i, &f);
		if (vpk_add_frame(w, &f.digest, bytes + f.offset, f.len, &offset) != 0)
			return false;
		MUST(offset == f.offset);
	}
	return true;
}

static void check(const uint8_t *bytes, size_t size)
{
	CLEANUP(buf_fini_p) struct buf again = BUF_INIT;
	struct vpk_view v, v2;
	const uint8_t *frame;
	size_t pos = 0, len;
	uint32_t n = 0;

	if (vpk_view_whole(&v, &id, bytes, size, NULL) != 0)
		return;
	check_sections(&v, bytes, size);
	struct vpk_writer *w = vpk_writer_new(&id);
	MUST(w);
	for (; vpk_next_node(&v, &pos, &frame, &len); n++)
		MUST(vpk_add_node(w, frame, len) == 0);
	MUST(n == v.n_nodes);
	write_locs(&v, w);
	bool whole = write_frames(&v, bytes, w);
	MUST(whole || vpk_check_frames(&v, bytes, NULL) != 0);
	if (whole) {
		MUST(vpk_writer_finish(w, &again) == 0);
		MUST(vpk_view_whole(&v2, &id, again.data, again.len, NULL) == 0);
		MUST(v2.n_frames == v.n_frames && v2.n_nodes == v.n_nodes);
		if (v2.n_packs == v.n_packs) /* the input did not list one twice */
			MUST(again.len == size && memcmp(again.data, bytes, size) == 0);
		MUST(vpk_check_frames(&v, bytes, NULL) == vpk_check_frames(&v2, again.data, NULL));
	}
	vpk_writer_free(w);
}

/* What is accepted has each of its chunks, and is the same when it is written again. */
static void check_moved(uint8_t *b, size_t size)
{
	CLEANUP(buf_fini_p) struct buf again = BUF_INIT;
	struct share_moved_chunk c[16];
	struct share_moved m;
	struct digest sum;

	memcpy(b, "VMV1", 4);
	memset(b + 4, 0, 4);
	memcpy(b + 8, id.push.b, SHARE_ID_BYTES);
	wire_set32(b + 24, id.number);
	MUST(hash_bytes(b, 48, &sum) == 0);
	memcpy(b + 48, sum.b, sizeof(sum.b));
	if (share_moved_decode(b, size, &id, &m, NULL) != 0 || m.n > 16)
		return;
	for (size_t i = 0; i < m.n; i++) {
		struct digest d;

		memcpy(d.b, m.chunks + i * SHARE_MOVED_ENTRY, sizeof(d.b));
		MUST(share_moved_find(&m, &d, &c[i]));
	}
	MUST(share_moved_encode(&m.head, c, m.n, &again) == 0);
	MUST(again.len == size && memcmp(again.data, b, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *b = malloc(size + 1);
	struct vpk_view v;
	struct vpk_tail t;

	MUST(b);
	(void)vpk_view_whole(&v, &id, data, size, NULL);
	if (size >= VPK_TAIL_SIZE &&
	    vpk_sections_tail(data + size - VPK_TAIL_SIZE, size, &t, NULL) == 0 &&
	    t.size - t.nodes == size)
		(void)vpk_view_init(&v, &t, &id, data, size, NULL);
	memcpy(b, data, size);
	if (size >= VPK_HEADER_SIZE + VPK_TAIL_SIZE)
		seal(b, size);
	check(b, size);
	if (size >= SHARE_MOVED_HEADER)
		check_moved(b, size);
	free(b);
	return 0;
}
