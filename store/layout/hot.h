/*
 * hot.h - hot objects: what a first use of a snapshot reads, in the order in which it does. Pure.
 *
 * An accelerator: it may be absent, old or replaced at any time, even between two ranged reads of
 * it. So each segment is checked by itself against the header that was read, and what is in it
 * against its digests.
 *
 * Format, version 1, little-endian, at most HOT_SIZE_MAX bytes:
 *   header:
 *      0  magic "VHO1"; the digit is the version
 *      4  u32 flags: 0; an unknown one is refused
 *      8  u32 n: segments, 1 to HOT_SEGMENTS_MAX
 *     12  u32 0
 *     16  nonce, 16 bytes: another for each that is written
 *     32  digest of the snapshot's root
 *     64  n x {u32 length, SHA-256}: the segments, which follow each other after the header
 *      .  SHA-256 of all before
 *   a segment, 1 to HOT_SEGMENT_MAX bytes, the first with the header: any number of
 *     {u32 kind, u32 length, and
 *        HOT_NODE, HOT_CHUNK: digest 32, and as many bytes of its frame, none with a dictionary
 *        HOT_LOCS: as many bytes of a LOCS section (vpk.h)}
 *
 * Errors: -ENOTSUP a newer version or unknown flags; -EBADMSG all other damage; with a text in err,
 * which may be NULL.
 */
#ifndef VARVE_HOT_H
#define VARVE_HOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/layout/share_key.h"
#include "store/layout/vpk.h"

#define HOT_SIZE_MAX (32u << 20)
#define HOT_SEGMENT_MAX (1u << 20)
#define HOT_SEGMENTS_MAX 64u
#define HOT_ITEM_SIZE 8u
#define HOT_HEADER_MAX (64u + HOT_SEGMENTS_MAX * 36u + DIGEST_SIZE)

enum hot_kind { HOT_NODE = 1, HOT_CHUNK = 2, HOT_LOCS = 3 };

struct hot_item {
	enum hot_kind kind;
	struct digest digest; /* not of HOT_LOCS */
	const uint8_t *bytes; /* frame or section */
	size_t len;
};

/* ---- writing: one object in memory ---- */

struct hot_writer;
/* NULL without memory. */
struct hot_writer *hot_writer_new(const struct digest *root, const struct share_id *nonce);
void hot_writer_free(struct hot_writer *w);
DEFINE_CLEANUP(struct hot_writer *, hot_writer_free)
/*
 * Copies it. -EFBIG: the object would be too large; it is unchanged and can be finished. -EINVAL:
 * what no reader takes, or larger than a segment may be.
 */
MUST_CHECK int hot_add(struct hot_writer *w, const struct hot_item *item);
/* Append the object to out; -EINVAL if nothing was added. The writer is of no further use. */
MUST_CHECK int hot_writer_finish(struct hot_writer *w, struct buf *out);

/* ---- reading ---- */

struct hot_header {
	struct share_id nonce;
	struct digest root;
	uint32_t n;
	struct hot_segment {
		uint32_t offset, len; /* in the object */
		struct digest sum;
	} segments[HOT_SEGMENTS_MAX];
};
/* From an object's first bytes: HOT_HEADER_MAX of them, or all if it has fewer. */
MUST_CHECK int hot_header_parse(const void *bytes, size_t len, struct hot_header *out,
				struct error *err);
/* All of one segment: its sum, and that its items can be read. Frames are not decoded. */
MUST_CHECK int hot_segment_check(const struct hot_segment *s, const void *bytes, size_t len,
				 struct error *err);
/*
 * Item by item of a segment that was checked: start with *pos = 0; false at the end. The item
 * borrows the bytes. Its frame must still be compared with its digest.
 */
bool hot_next(const void *bytes, size_t len, size_t *pos, struct hot_item *out);

#endif
