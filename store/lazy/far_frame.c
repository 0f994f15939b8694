#include "store/lazy/far_frame.h"

#include <errno.h>

#include "store/chunk/chunker.h"
#include "store/chunk/codec.h"
#include "store/layout/vpk.h"

/* To the chunk's bytes. */
static int decode(const uint8_t *frame, size_t len, const struct digest *d, uint8_t *to, size_t n)
{
	struct digest found;
	int rc = codec_decode(frame, len, to, n);

	if (rc == 0)
		rc = hash_bytes(to, n, &found);
	if (rc == 0 && !digest_equal(&found, d))
		rc = -EBADMSG;
	return rc;
}

int far_frame_check(struct source_frame *f, const struct digest *d)
{
	CLEANUP(chunk_unref_p) struct chunk *c = NULL;
	int rc = vpk_frame_is_valid(f->data, f->len, CHUNK_MAX) ? 0 : -EBADMSG;
	uint8_t *bytes;

	if (rc == 0) {
		size_t n = (size_t)codec_raw_len(f->data, f->len);

		c = chunk_new(d, n, &bytes);
		rc = c ? decode(f->data, f->len, d, bytes, n) : -ENOMEM;
	}
	if (rc < 0)
		source_frame_release(f);
	else
		f->chunk = STEAL(c);
	return rc;
}
