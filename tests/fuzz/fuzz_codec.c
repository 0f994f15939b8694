/* Frames: any bytes decode or are refused, and what decodes was what was encoded. */
#include "store/chunk/codec.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define RAW_MAX (1u << 20) /* callers cap what a frame claims */

static void decode(const uint8_t *data, size_t size)
{
	int64_t raw_len = codec_raw_len(data, size);

	if (raw_len < 0 || raw_len > RAW_MAX)
		return;
	uint8_t *out = malloc((size_t)raw_len + 1);
	MUST(out);
	int rc = codec_decode(data, size, out, (size_t)raw_len);
	MUST(rc == 0 || rc == -EBADMSG);
	free(out);
}

static void round_trip(const uint8_t *data, size_t size)
{
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	uint8_t *out = malloc(size + 1);

	MUST(out);
	MUST(codec_encode(3, data, size, &frame) == 0);
	MUST(codec_raw_len(frame.data, frame.len) == (int64_t)size);
	MUST(codec_decode(frame.data, frame.len, out, size) == 0);
	MUST(size == 0 || memcmp(out, data, size) == 0);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	decode(data, size);
	round_trip(data, size);
	return 0;
}
