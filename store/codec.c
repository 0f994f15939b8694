/*
 * A zstd context is hundreds of kilobytes, so each thread keeps its own until
 * it ends. The compressor gets no more room than a frame may take before raw
 * is the better choice: incompressible input ends early and needs no bound.
 */
#include "store/codec.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "store/base/wire.h"

enum { CODEC_RAW = 0, CODEC_ZSTD = 1 };

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

	thread_contexts = NULL; /* another key's destructor may call yet */
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

/* Compressed length of raw into out[0..cap), 0 where it does not fit, or -ENOMEM. */
static int64_t compress(int level, const void *raw, size_t len, void *out, size_t cap)
{
	struct contexts *c = get_contexts();

	if (c && !c->compress)
		c->compress = ZSTD_createCCtx();
	if (!c || !c->compress)
		return -ENOMEM;
	ZSTD_CCtx_setParameter(c->compress, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(c->compress, ZSTD_c_checksumFlag, 1);
	size_t n = ZSTD_compress2(c->compress, out, cap, raw, len);
	if (!ZSTD_isError(n))
		return (int64_t)n;
	return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : 0;
}

int codec_encode(int level, const void *raw, size_t len, struct buf *out)
{
	if (len > UINT32_MAX)
		return -EINVAL;
	int r = buf_reserve(out, CODEC_HEADER_SIZE + len);
	if (r < 0)
		return r;
	uint8_t *frame = out->data + out->len;
	int64_t n = 0;
	if (len >= COMPRESS_MIN)
		n = compress(level, raw, len, frame + CODEC_HEADER_SIZE, len - len / 32);
	if (n < 0)
		return (int)n;
	frame[0] = n > 0 ? CODEC_ZSTD : CODEC_RAW;
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

	if (head_len < CODEC_HEADER_SIZE || frame_len < head_len || p[0] > CODEC_ZSTD)
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

	return len > CODEC_HEADER_SIZE + 4 && payload[-CODEC_HEADER_SIZE] == CODEC_ZSTD &&
	       payload[4] >> 2 & 1;
}

int codec_decode(const void *frame, size_t len, void *out, size_t out_len)
{
	const uint8_t *p = frame;
	int64_t raw_len = codec_raw_len(frame, len);

	if (raw_len < 0 || (uint64_t)raw_len != out_len)
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
	size_t n = ZSTD_decompressDCtx(c->decompress, out, out_len, p + CODEC_HEADER_SIZE,
				       len - CODEC_HEADER_SIZE);
	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
	return n == out_len ? 0 : -EBADMSG;
}
