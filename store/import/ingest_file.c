/*
 * File data from the importing thread to the workers. A batch is a buffer of
 * bytes and a list of operations on inodes, which a worker replays through a
 * synchronous file_chunks writer. A stream is a file_chunks writer that spreads
 * its chunks over the pool; four of them take turns, so that the end of one file
 * need not be waited for before the next begins.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/import/ingest_internal.h"

#define BATCH_BYTES (256u << 10)
#define BATCH_OPS 256u
#define EXTENT_MEMORY 64u   /* of one extent, about */
#define FEED_END UINT32_MAX /* an operation's length: the file ends, `at` is its size */

struct batch_op {
	struct ingest_inode *inode;
	uint64_t at; /* file offset or size */
	uint32_t len;
};

struct ingest_batch {
	struct ingest *in;
	unsigned n_ops, cap_ops;
	struct batch_op *ops;
	struct buf data;
};

static void batch_free(struct ingest_batch *b)
{
	if (!b)
		return;
	buf_fini(&b->data);
	free(b->ops);
	free(b);
}

void ingest_file_drop_batch(struct ingest *in)
{
	batch_free(STEAL(in->batch));
}

static int replay(struct ingest_batch *b, struct file_chunks *fc)
{
	const uint8_t *data = b->data.data;
	struct ingest_inode *current = NULL;
	int r = 0;

	for (unsigned k = 0; k < b->n_ops && r >= 0; k++) {
		const struct batch_op *op = &b->ops[k];

		if (op->inode != current)
			file_chunks_begin(fc, op->inode);
		current = op->inode;
		if (op->len == FEED_END) {
			op->inode->size = op->at;
			r = file_chunks_end(fc, op->at);
			current = NULL;
		} else {
			r = file_chunks_feed(fc, op->at, data, op->len);
			data += op->len;
		}
		if (r < 0)
			ingest_fail_at(b->in, r, op->inode, "cannot store");
	}
	return r;
}

static void run_batch(void *arg)
{
	struct ingest_batch *b = arg;
	struct ingest *in = b->in;

	if (!atomic_load(&in->failed)) {
		struct ingest_scratch *sc = ingest_scratch_get(in);

		if (!sc)
			ingest_fail(in, -ENOMEM, "out of memory");
		else if (replay(b, sc->chunks) < 0)
			file_chunks_begin(sc->chunks, NULL);
		if (sc)
			ingest_scratch_put(in, sc);
	}
	batch_free(b);
}

int ingest_file_flush(struct ingest *in)
{
	if (in->batch && in->batch->n_ops)
		pool_submit(in->pool, run_batch, STEAL(in->batch));
	return 0;
}

static int batch_op(struct ingest *in, const struct batch_op *op, const void *data)
{
	struct ingest_batch *b = in->batch;

	if (!b) {
		b = calloc(1, sizeof(*b));
		if (!b)
			return -ENOMEM;
		b->in = in;
		in->batch = b;
	}
	if (b->n_ops == b->cap_ops) {
		unsigned cap = b->cap_ops ? b->cap_ops * 2 : 32;
		struct batch_op *p = realloc(b->ops, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		b->ops = p;
		b->cap_ops = cap;
	}
	int r = op->len == FEED_END ? 0 : buf_append(&b->data, data, op->len);
	if (r == 0)
		b->ops[b->n_ops++] = *op;
	return r;
}

static int stream_wait(struct ingest *in, struct ingest_stream *st)
{
	if (!st->inode)
		return 0;
	struct ingest_inode *i = STEAL(st->inode);
	int r = file_chunks_wait(st->chunks);

	return r < 0 ? ingest_fail_at(in, r, i, "cannot store") : 0;
}

int ingest_file_wait(struct ingest *in)
{
	int r = ingest_file_flush(in);

	for (unsigned k = 0; k < INGEST_STREAMS && r == 0; k++)
		r = stream_wait(in, &in->streams[k]);
	pool_drain(in->pool);
	return r;
}

int ingest_file_begin(struct ingest_file *f, struct ingest *in, struct ingest_inode *i,
		      uint64_t size_hint)
{
	*f = (struct ingest_file){ .in = in, .inode = i };
	if (size_hint <= INGEST_SMALL_MAX)
		return 0;
	struct ingest_stream *st = &in->streams[in->next_stream];
	in->next_stream = (in->next_stream + 1) % INGEST_STREAMS;
	int r = stream_wait(in, st);
	if (r < 0)
		return r;
	file_chunks_begin(st->chunks, i);
	st->inode = i;
	f->stream = st;
	return 0;
}

int ingest_file_feed(struct ingest_file *f, uint64_t offset, const void *data, size_t len)
{
	int r = ingest_count_bytes(f->in, len);

	if (r == 0)
		r = ingest_count_meta(f->in, (1 + len / CHUNK_MIN) * EXTENT_MEMORY);
	if (r < 0)
		return r;
	ingest_tick(f->in);
	if (f->stream) {
		r = file_chunks_feed(f->stream->chunks, offset, data, len);
	} else {
		struct batch_op op = { f->inode, offset, (uint32_t)len };

		r = len > INGEST_SMALL_MAX ? -EINVAL : batch_op(f->in, &op, data);
	}
	return r < 0 ? ingest_fail_at(f->in, r, f->inode, "cannot store") : 0;
}

int ingest_file_end(struct ingest_file *f, uint64_t size)
{
	int r;

	if (f->stream) {
		f->inode->size = size;
		r = file_chunks_finish(f->stream->chunks, size);
	} else {
		struct batch_op op = { f->inode, size, FEED_END };

		r = batch_op(f->in, &op, NULL);
		if (r == 0 &&
		    (f->in->batch->data.len >= BATCH_BYTES || f->in->batch->n_ops >= BATCH_OPS))
			r = ingest_file_flush(f->in);
	}
	return r < 0 ? ingest_fail_at(f->in, r, f->inode, "cannot store") : 0;
}
