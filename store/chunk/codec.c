/*
 * A zstd context is hundreds of kilobytes, so each thread keeps its own until
 * it ends. The compressor gets no more room than a frame may take before raw
 * is the better choice: incompressible input ends early and needs no bound.
 */
#include "store/chunk/codec.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#define ZDICT_STATIC_LINKING_ONLY /* the fast trainer; since 1.3.6 */
#include <zdict.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "store/base/wire.h"

enum { CODEC_RAW = 0, CODEC_ZSTD = 1, CODEC_ZSTD_DICT = 2 };

/* For the trainer; measured on programs and documents. */
#define DICT_BYTES (112u << 10)
#define DICT_SEGMENT 1024
#define DICT_HASH_BITS 20

/* Below this zstd's own header eats what it could save. */
#define COMPRESS_MIN 64

struct contexts {
	ZSTD_CCtx *compress;
	ZSTD_DCtx *decompress;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t contexts_key;
static bool have_key;
static __thread struct contexts *thread_contexts;

static void free_contexts(void *arg)
{
	struct contexts *c = arg;

	thread_contexts = NULL; /* another key's destructor may still call us */
	ZSTD_freeCCtx(c->compress);
	ZSTD_freeDCtx(c->decompress);
	free(c);
}

static void init_once(void)
{
	have_key = pthread_key_create(&contexts_key, free_contexts) == 0;
}

static struct contexts *get_contexts(void)
{
	if (thread_contexts)
		return thread_contexts;
	pthread_once(&once, init_once);
	struct contexts *c = have_key ? calloc(1, sizeof(*c)) : NULL;
	if (c && pthread_setspecific(contexts_key, c) != 0) {
		free(c);
		c = NULL;
	}
	thread_contexts = c;
	return c;
}

/* ---- dictionaries ---- */

struct codec_dict {
	uint32_t id;
	ZSTD_CDict *compress; /* NULL: only to decode */
	ZSTD_DDict *decompress;
};

int codec_dict_new(const void *bytes, size_t len, int level, struct codec_dict **out)
{
	uint32_t id = ZSTD_getDictID_fromDict(bytes, len);

	if (id == 0 || len > CODEC_DICT_MAX)
		return -EBADMSG;
	struct codec_dict *d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->id = id;
	d->decompress = ZSTD_createDDict(bytes, len);
	d->compress = level ? ZSTD_createCDict(bytes, len, level) : NULL;
	if (!d->decompress || (level && !d->compress)) {
		/* zstd does not say why; the header of a damaged dictionary does not decode. */
		codec_dict_free(d);
		return ZDICT_isError(ZDICT_getDictHeaderSize(bytes, len)) ? -EBADMSG : -ENOMEM;
	}
	*out = d;
	return 0;
}

void codec_dict_free(struct codec_dict *d)
{
	if (!d)
		return;
	ZSTD_freeCDict(d->compress);
	ZSTD_freeDDict(d->decompress);
	free(d);
}

uint32_t codec_dict_id(const struct codec_dict *d)
{
	return d->id;
}

int codec_dict_train(uint32_t id, int level, const void *samples, const size_t *sizes,
		     unsigned count, struct buf *out)
{
	ZDICT_fastCover_params_t p = {
		.k = DICT_SEGMENT,
		.d = 8,
		.f = DICT_HASH_BITS,
		.steps = 1,
		.splitPoint = 1.0,
		.accel = 1,
		.zParams = { .compressionLevel = level, .dictID = id },
	};
	int r = buf_reserve(out, DICT_BYTES);

	if (r < 0)
		return r;
	size_t n = ZDICT_trainFromBuffer_fastCover(out->data + out->len, DICT_BYTES, samples, sizes,
						   count, p);
	if (ZDICT_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : -EINVAL;
	out->len += n;
	return 0;
}

/* ---- frames ---- */

/* Compress raw into out[0..cap): the length, 0 if it does not fit, or -ENOMEM. */
static int64_t compress(int level, const struct codec_dict *dict, const void *raw, size_t len,
			void *out, size_t cap)
{
	struct contexts *c = get_contexts();

	if (c && !c->compress)
		c->compress = ZSTD_createCCtx();
	if (!c || !c->compress)
		return -ENOMEM;
	ZSTD_CCtx_setParameter(c->compress, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(c->compress, ZSTD_c_checksumFlag, 1);
	ZSTD_CCtx_refCDict(c->compress, dict ? dict->compress : NULL);
	size_t n = ZSTD_compress2(c->compress, out, cap, raw, len);
	if (!ZSTD_isError(n))
		return (int64_t)n;
	return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : 0;
}

int codec_encode(int level, const void *raw, size_t len, struct buf *out)
{
	return codec_encode_dict(level, NULL, raw, len, out);
}

int codec_encode_dict(int level, const struct codec_dict *dict, const void *raw, size_t len,
		      struct buf *out)
{
	if (len > UINT32_MAX)
		return -EINVAL;
	int r = buf_reserve(out, CODEC_HEADER_SIZE + len);
	if (r < 0)
		return r;
	uint8_t *frame = out->data + out->len;
	int64_t n = 0;
	if (len >= COMPRESS_MIN)
		n = compress(level, dict, raw, len, frame + CODEC_HEADER_SIZE, len - len / 32);
	if (n < 0)
		return (int)n;
	frame[0] = n == 0 ? CODEC_RAW : dict ? CODEC_ZSTD_DICT : CODEC_ZSTD;
	wire_set32(frame + 1, (uint32_t)len);
	if (n == 0) {
		if (len > 0)
			memcpy(frame + CODEC_HEADER_SIZE, raw, len);
		n = (int64_t)len;
	}
	out->len += CODEC_HEADER_SIZE + (size_t)n;
	return 0;
}

int64_t codec_head_raw_len(const void *head, size_t head_len, size_t frame_len)
{
	const uint8_t *p = head;

	if (head_len < CODEC_HEADER_SIZE || frame_len < head_len || p[0] > CODEC_ZSTD_DICT)
		return -EBADMSG;
	uint32_t raw_len = wire_get32(p + 1);
	if (p[0] == CODEC_RAW && raw_len != frame_len - CODEC_HEADER_SIZE)
		return -EBADMSG;
	return raw_len;
}

int64_t codec_raw_len(const void *frame, size_t len)
{
	return codec_head_raw_len(frame, len, len);
}

/* The fifth byte of a zstd frame describes it; bit 2 says that a checksum follows (RFC 8878). */
bool codec_has_checksum(const void *frame, size_t len)
{
	const uint8_t *payload = (const uint8_t *)frame + CODEC_HEADER_SIZE;

	return len > CODEC_HEADER_SIZE + 4 && payload[-CODEC_HEADER_SIZE] != CODEC_RAW &&
	       payload[4] >> 2 & 1;
}

uint32_t codec_frame_dict(const void *frame, size_t len)
{
	const uint8_t *p = frame;

	if (len <= CODEC_HEADER_SIZE || p[0] != CODEC_ZSTD_DICT)
		return 0;
	return ZSTD_getDictID_fromFrame(p + CODEC_HEADER_SIZE, len - CODEC_HEADER_SIZE);
}

int codec_decode(const void *frame, size_t len, void *out, size_t out_len)
{
	return codec_decode_dict(frame, len, NULL, out, out_len);
}

int codec_decode_dict(const void *frame, size_t len, const struct codec_dict *dict, void *out,
		      size_t out_len)
{
	const uint8_t *p = frame;
	int64_t raw_len = codec_raw_len(frame, len);

	if (raw_len < 0 || (uint64_t)raw_len != out_len)
		return -EBADMSG;
	if (codec_frame_dict(frame, len) != (dict ? dict->id : 0))
		return -EBADMSG;
	if (p[0] == CODEC_RAW) {
		if (out_len > 0)
			memcpy(out, p + CODEC_HEADER_SIZE, out_len);
		return 0;
	}
	struct contexts *c = get_contexts();
	if (c && !c->decompress)
		c->decompress = ZSTD_createDCtx();
	if (!c || !c->decompress)
		return -ENOMEM;
	size_t n =
		ZSTD_decompress_usingDDict(c->decompress, out, out_len, p + CODEC_HEADER_SIZE,
					   len - CODEC_HEADER_SIZE, dict ? dict->decompress : NULL);
	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
	return n == out_len ? 0 : -EBADMSG;
}
