/*
 * vpk.h - containers: frames of chunks, frames of nodes, and where chunks lie, in one object. Pure.
 *
 * Format, version 1, little-endian, at most VPK_SIZE_MAX bytes:
 *   header, 64 bytes:
 *      0  magic "VPK1"; the digit is the version
 *      4  u32 flags: 0; an unknown one is refused
 *      8  push id, 16 bytes
 *     24  u32 number
 *     28  zero[36]
 *   frames: chunks' frames (codec.h, none with a dictionary), one after another
 *   NODES:  any number of {u32 length, a node's frame}
 *   LOCS:   u32 n_packs, n_packs x {push id 16, u32 number}, then to the section's end
 *           {first 8 bytes of a chunk's digest, u32 pack (index into that table), u32 offset,
 *           u32 length}, ascending by (prefix as bytes, pack, offset, length), none twice
 *   FOOTER: to the section's end {digest 32, u32 offset, u32 length}: each frame of `frames`, in
 *           order, without gaps
 *   tail, 48 bytes: u32 start of NODES, of LOCS, of FOOTER, SHA-256, magic
 * The SHA-256 is of the header, and of everything from the start of NODES to the three offsets,
 * these included. A reader who has only an object's end rebuilds the header from the pack's id, so
 * that one container in another's place is noticed too. Frames of chunks are not in the sum: each
 * hashes to its digest. Nor does a node have a digest here: it must hash to what its parent or the
 * record says.
 *
 * A reader takes what the network brings: all of it is checked, every count and offset, before the
 * views below show any. Errors: -ENOTSUP a newer version or unknown flags; -EBADMSG all other
 * damage; both with a text in err, which may be NULL.
 */
#ifndef VARVE_VPK_H
#define VARVE_VPK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/chunk/chunker.h"
#include "store/chunk/codec.h"
#include "store/layout/share_key.h"
#include "store/tree/node.h"

#define VPK_HEADER_SIZE 64u
#define VPK_TAIL_SIZE 48u
#define VPK_SIZE_MAX (64u << 20)
#define VPK_CHUNK_FRAME_MAX (CODEC_HEADER_SIZE + CHUNK_MAX)
#define VPK_NODE_FRAME_MAX (CODEC_HEADER_SIZE + NODE_ENCODED_MAX)

/* ---- writing: one container in memory ---- */

struct vpk_writer;
/* NULL: no memory, or not a pack's id. */
struct vpk_writer *vpk_writer_new(const struct pack_id *id);
void vpk_writer_free(struct vpk_writer *w);
DEFINE_CLEANUP(struct vpk_writer *, vpk_writer_free)

/*
 * Each copies what it is given. In any order, but nodes are read in the order in which they were
 * added. -EFBIG if the container would pass VPK_SIZE_MAX: it is unchanged and can be finished.
 * -EINVAL for a frame that no reader takes: malformed, with a dictionary, or too large.
 */
MUST_CHECK int vpk_add_frame(struct vpk_writer *w, const struct digest *digest, const void *frame,
			     size_t len, uint32_t *out_offset);
MUST_CHECK int vpk_add_node(struct vpk_writer *w, const void *frame, size_t len);
/* The index of that pack in LOCS, the same for the same pack. The container itself is no exception.
 */
MUST_CHECK int vpk_add_pack(struct vpk_writer *w, const struct pack_id *pack, uint32_t *out_index);
/* -EINVAL also for an index that vpk_add_pack has not given. Saying the same twice is harmless. */
MUST_CHECK int vpk_add_loc(struct vpk_writer *w, const struct digest *digest, uint32_t pack,
			   uint32_t offset, uint32_t len);
/* Of the container if it were finished now, at most; bytes. */
size_t vpk_writer_size(const struct vpk_writer *w);
/* Neither frames, nor nodes, nor locations. */
bool vpk_writer_is_empty(const struct vpk_writer *w);
/* Append the container to out. The writer is of no further use. */
MUST_CHECK int vpk_writer_finish(struct vpk_writer *w, struct buf *out);
/* Append a LOCS section alone, for a hot object. The writer goes on. */
MUST_CHECK int vpk_writer_locs(struct vpk_writer *w, struct buf *out);

/* ---- reading ---- */

/* Where the sections are; from the last VPK_TAIL_SIZE bytes of an object of `size` bytes. */
struct vpk_tail {
	uint32_t size;
	uint32_t nodes, locs, footer; /* offsets in the container */
	struct digest sum;
};
MUST_CHECK int vpk_tail_parse(const uint8_t tail[VPK_TAIL_SIZE], uint64_t size,
			      struct vpk_tail *out, struct error *err);

/* The same of an object of `len` bytes that has only the sections, and the tail: meta/PUSH-N. */
MUST_CHECK int vpk_sections_tail(const uint8_t tail[VPK_TAIL_SIZE], uint64_t len,
				 struct vpk_tail *out, struct error *err);

/* Checked sections; borrows the bytes. Indices below are trusted: the caller keeps to the counts.
 */
struct vpk_view {
	const uint8_t *nodes;
	size_t nodes_len;
	const uint8_t *packs, *locs, *footer;
	uint32_t n_nodes, n_packs, n_locs, n_frames;
};
/*
 * bytes: from tail->nodes to the object's end, so tail->size - tail->nodes of them. `id` is the
 * pack that was asked for.
 */
MUST_CHECK int vpk_view_init(struct vpk_view *v, const struct vpk_tail *tail,
			     const struct pack_id *id, const void *bytes, size_t len,
			     struct error *err);
/* A whole container: header, tail and sections; not the chunks' frames (vpk_check_frames). */
MUST_CHECK int vpk_view_whole(struct vpk_view *v, const struct pack_id *id, const void *bytes,
			      size_t len, struct error *err);

/* Locations alone, as vpk_writer_locs makes them; all else of the view is empty. -EBADMSG. */
MUST_CHECK int vpk_view_locs(struct vpk_view *v, const void *bytes, size_t len);

/* Node by node: start with *pos = 0; false at the end. The frame is not decoded yet. */
bool vpk_next_node(const struct vpk_view *v, size_t *pos, const uint8_t **frame, size_t *len);

void vpk_pack(const struct vpk_view *v, uint32_t index, struct pack_id *out);

/* Where a chunk with such a digest is said to be. What lies there must still hash to it. */
#define VPK_PREFIX_SIZE 8
struct vpk_loc {
	uint8_t prefix[VPK_PREFIX_SIZE];
	uint32_t pack; /* index: vpk_pack */
	uint32_t offset, len;
};
void vpk_loc(const struct vpk_view *v, uint32_t index, struct vpk_loc *out);
/* How many locations have the digest's prefix; *out_first is the first one's index. */
uint32_t vpk_find_loc(const struct vpk_view *v, const struct digest *digest, uint32_t *out_first);

struct vpk_frame {
	struct digest digest;
	uint32_t offset, len; /* in the container */
};
void vpk_frame(const struct vpk_view *v, uint32_t index, struct vpk_frame *out);
/* Whether the footer has a frame of that chunk just there. */
bool vpk_has_frame(const struct vpk_view *v, const struct digest *digest, uint32_t offset,
		   uint32_t len);

/* Its header is well-formed, it holds 1 to raw_max bytes, and needs no dictionary. */
bool vpk_frame_is_valid(const void *frame, size_t len, uint32_t raw_max);
/*
 * A frame as it came from the network: decodes it and compares with the digest. -EBADMSG, -ENOMEM.
 * raw may be NULL; else what it decodes to is appended.
 */
MUST_CHECK int vpk_chunk_check(const void *frame, size_t len, const struct digest *digest,
			       struct buf *raw);
/* That for each frame of a container that vpk_view_whole has accepted. */
MUST_CHECK int vpk_check_frames(const struct vpk_view *v, const void *bytes, struct error *err);

#endif
