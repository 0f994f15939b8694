/*
 * dict.h - the dictionaries with which a store's chunks are compressed again
 * (recompress.h). Small chunks have much in common.
 *
 * A dictionary is trained (dict_train.h) on chunks of the store once there are DICT_CHUNKS_MIN,
 * and another one whenever the store has grown eightfold since, for later chunks. Dictionaries
 * are never removed, because chunks name them: at most DICT_COUNT_MAX, of some 100 KiB each.
 *
 * Each is in the meta family, twice, because many chunks depend on it:
 *   "dict/" number as 8 hex digits "/0" or "/1" ->
 *   u8 version (1), u64 chunks in the store when it was made, its SHA-256, its bytes
 */
#ifndef VARVE_DICT_H
#define VARVE_DICT_H

#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"
#include "store/chunk/codec.h"
#include "store/kv/kv.h"

#define DICT_CHUNKS_MIN 1024
#define DICT_COUNT_MAX 8
#define DICT_FIRST_ID 32768u /* lower ones are reserved (RFC 8878); later ones count up */

/*
 * level as for codec_dict_new. *out_chunks (may be NULL): how many chunks the store had
 * when the dictionary was made. -ENOENT; -EBADMSG if both copies are damaged.
 */
MUST_CHECK int dict_load(struct kv *kv, uint32_t id, int level, uint64_t *out_chunks,
			 struct codec_dict **out);
/* Synced. */
MUST_CHECK int dict_save(struct kv *kv, uint32_t id, uint64_t chunks, const struct buf *dict);

#endif
