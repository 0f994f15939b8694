#include "store/lazy/prefetch_make_internal.h"

#include <errno.h>

#define HOT_SIZE_MIN ((size_t)1 << 20)

struct making {
	const struct use *u;
	struct hot_writer *w;
	size_t size, limit;
};

/* -EFBIG: no more. */
static int add_chunk(struct making *m, const struct digest *d, const void *frame, size_t len)
{
	const struct hot_item item = { HOT_CHUNK, *d, frame, len };
	int rc = m->size + len > m->limit ? -EFBIG : hot_add(m->w, &item);

	m->size += rc == 0 ? len : 0;
	return rc == -EINVAL ? 0 : rc; /* too large for a segment */
}

static int add_read(struct making *m)
{
	const struct digest *d = (const void *)m->u->order.data;
	size_t n = m->u->order.len / sizeof(*d);
	struct buf frame CLEANUP(buf_fini_p) = BUF_INIT;
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		buf_clear(&frame);
		if (chunk_store_frame(m->u->p->s->chunks, &d[i], &frame) == 0)
			rc = add_chunk(m, &d[i], frame.data, frame.len);
	}
	return rc;
}

/* What the object before had for others. */
static int add_former(struct making *m)
{
	const struct use *u = m->u;
	int rc = 0;

	for (unsigned i = 0; i < u->header.n && rc == 0; i++) {
		const struct hot_segment *h = &u->header.segments[i];
		const uint8_t *bytes = u->segments[i].good ? segment_bytes(u, i) : NULL;
		struct hot_item item;
		size_t pos = 0;

		while (rc == 0 && bytes && hot_next(bytes, h->len, &pos, &item))
			if (item.kind == HOT_CHUNK && !digest_set_has(&u->seen, &item.digest))
				rc = add_chunk(m, &item.digest, item.bytes, item.len);
	}
	return rc;
}

int prefetch_make(const struct use *u, struct buf *out)
{
	struct making m = { .u = u };
	struct share_id nonce;
	int rc = share_id_random(&nonce);

	m.limit = MIN(MAX((size_t)(u->size_bytes / 10), HOT_SIZE_MIN), HOT_SIZE_MAX / 2);
	m.w = rc == 0 ? hot_writer_new(&u->root, &nonce) : NULL;
	if (!m.w)
		return rc < 0 ? rc : -ENOMEM;
	rc = add_read(&m);
	if (rc == 0)
		rc = add_former(&m);
	if (rc == 0 || rc == -EFBIG)
		rc = hot_writer_finish(m.w, out);
	hot_writer_free(m.w);
	return rc;
}
