/*
 * codec.h - compressed frames (zstd); the only module that calls zstd.
 *
 * Format of a frame, version 1:
 *   u8  codec      0 raw, 1 zstd
 *   u32 raw_len    little-endian
 *   u8  payload[]
 * A frame is raw where zstd does not save at least 1/32. A zstd payload ends
 * with zstd's checksum of the content, which codec_decode verifies; a raw one
 * has none.
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

/* Raw length that the frame claims, or -EBADMSG for a malformed header. */
MUST_CHECK int64_t codec_raw_len(const void *frame, size_t len);
/* The same from a frame's first bytes (at least CODEC_HEADER_SIZE) and its length. */
MUST_CHECK int64_t codec_head_raw_len(const void *head, size_t head_len, size_t frame_len);

/* True where decoding the frame will verify a checksum of its content. */
bool codec_has_checksum(const void *frame, size_t len);

/*
 * Decode into out[0..out_len), out_len being exactly codec_raw_len().
 * 0, -EBADMSG (malformed, wrong length), -ENOMEM. Per-thread context.
 */
MUST_CHECK int codec_decode(const void *frame, size_t len, void *out, size_t out_len);

#endif
