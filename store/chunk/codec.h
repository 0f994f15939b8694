/*
 * codec.h - compressed frames (zstd); the only module that calls zstd.
 *
 * Format of a frame, version 2:
 *   u8  codec      0 raw, 1 zstd, 2 zstd with a dictionary (not in version 1)
 *   u32 raw_len    little-endian
 *   u8  payload[]
 * A frame is raw if zstd does not save at least 1/32. A zstd payload ends with
 * zstd's checksum of the content, which codec_decode verifies; a raw one has
 * none. With codec 2 the zstd header has the dictionary's number (RFC 8878),
 * which is not 0.
 */
#ifndef VARVE_CODEC_H
#define VARVE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

#define CODEC_HEADER_SIZE 5
#define CODEC_LEVEL_DEFAULT 3

/* Append the frame of raw[0..len) to out. len < 2^32. 0, -ENOMEM, -EINVAL. */
MUST_CHECK int codec_encode(int level, const void *raw, size_t len, struct buf *out);

/* A dictionary that both ends have. Immutable; usable from any thread. */
struct codec_dict;
#define CODEC_DICT_MAX (1u << 20)
/*
 * Copies bytes. level 0: only to decode. -EBADMSG if they are not a zstd
 * dictionary of at most CODEC_DICT_MAX bytes with a number; -ENOMEM.
 */
MUST_CHECK int codec_dict_new(const void *bytes, size_t len, int level, struct codec_dict **out);
void codec_dict_free(struct codec_dict *d);
DEFINE_CLEANUP(struct codec_dict *, codec_dict_free)
uint32_t codec_dict_id(const struct codec_dict *d);
/*
 * Train a dictionary with this number (at least 2^15, below 2^31) on samples,
 * which lie back to back, and append it to out. -EINVAL if they are too few or
 * have nothing in common; -ENOMEM.
 */
MUST_CHECK int codec_dict_train(uint32_t id, int level, const void *samples, const size_t *sizes,
				unsigned count, struct buf *out);
/* As codec_encode with a dictionary made for that level; NULL: without. */
MUST_CHECK int codec_encode_dict(int level, const struct codec_dict *dict, const void *raw,
				 size_t len, struct buf *out);
/* The number of the dictionary that decoding the frame needs; 0: none. */
uint32_t codec_frame_dict(const void *frame, size_t len);
/* As codec_decode with the frame's dictionary; NULL: it needs none. */
MUST_CHECK int codec_decode_dict(const void *frame, size_t len, const struct codec_dict *dict,
				 void *out, size_t out_len);

/* Raw length that the frame claims, or -EBADMSG for a malformed header. */
MUST_CHECK int64_t codec_raw_len(const void *frame, size_t len);
/* The same from a frame's first bytes (at least CODEC_HEADER_SIZE) and its length. */
MUST_CHECK int64_t codec_head_raw_len(const void *head, size_t head_len, size_t frame_len);

/* True if decoding the frame will verify a checksum of its content. */
bool codec_has_checksum(const void *frame, size_t len);

/*
 * Decode into out[0..out_len), out_len being exactly codec_raw_len().
 * 0, -EBADMSG (malformed, wrong length), -ENOMEM. Per-thread context.
 */
MUST_CHECK int codec_decode(const void *frame, size_t len, void *out, size_t out_len);

#endif
