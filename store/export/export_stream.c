/*
 * A ring of blocks, each a piece of the output. The exporting thread copies in
 * what comes between chunks and leaves room for each chunk; workers decode the
 * chunks right into their places, in groups, because small ones are many. A
 * chunk lies in one block. Blocks are written in order, the oldest when all are
 * in use, so up to BLOCKS * BLOCK_BYTES are fetched ahead of what is being
 * written. They are small enough that what a worker has just decoded is still
 * in the processor's cache when it is written.
 */
#include "store/export/export_stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/pool.h"

#define BLOCKS 8u
#define BLOCK_BYTES (512u << 10)
#define BLOCK_PLACES 512u
#define GROUP_BYTES (128u << 10)
#define GROUP_PLACES 32u
#define BYTES_MAX (64u << 10) /* collected bytes that go out even without a chunk */

/* Where in a block a chunk belongs. */
struct place {
	struct block *block;
	uint8_t *to;
	unsigned group; /* in the first place of a group: how many places it has */
	int result;	/* set by the worker */
	uint64_t ino;
	struct extent_rec extent;
};

struct block {
	struct export_stream *es;
	uint8_t *data; /* BLOCK_BYTES; NULL before it is first used */
	size_t len;
	unsigned n_places;
	unsigned pending; /* groups under way; guarded by es->lock, as the next one */
	bool failed;	  /* a place has a result below 0 */
	struct place places[BLOCK_PLACES];
};

struct export_stream {
	struct store *store;
	export_write_fn fn;
	void *arg;
	struct pool *pool;
	struct buf bytes;   /* not yet in a block */
	unsigned oldest, n; /* blocks in use: [oldest, oldest + n), the last is being filled */
	unsigned unsent;    /* its last places, not yet given to a worker */
	size_t unsent_bytes;
	struct block *awaited; /* guarded by lock: what the exporting thread sleeps for */
	int failed;
	uint64_t failed_ino;
	struct digest failed_chunk;
	pthread_mutex_t lock;
	pthread_cond_t fetched;
	struct block blocks[BLOCKS];
};

struct export_stream *export_stream_new(struct store *s, export_write_fn fn, void *arg)
{
	struct export_stream *es = calloc(1, sizeof(*es));
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (!es)
		return NULL;
	es->store = s;
	es->fn = fn;
	es->arg = arg;
	pthread_mutex_init(&es->lock, NULL);
	pthread_cond_init(&es->fetched, NULL);
	for (unsigned i = 0; i < BLOCKS; i++)
		es->blocks[i].es = es;
	es->pool = pool_new(cores > 0 ? (unsigned)cores : 1, BLOCKS * (BLOCK_BYTES / GROUP_BYTES));
	if (!es->pool) {
		export_stream_free(es);
		return NULL;
	}
	return es;
}

void export_stream_free(struct export_stream *es)
{
	if (!es)
		return;
	pool_free(es->pool);
	for (unsigned i = 0; i < BLOCKS; i++)
		free(es->blocks[i].data);
	buf_fini(&es->bytes);
	pthread_cond_destroy(&es->fetched);
	pthread_mutex_destroy(&es->lock);
	free(es);
}

static void fetch_group(void *arg)
{
	struct place *first = arg;
	struct block *b = first->block;
	struct export_stream *es = b->es;
	bool failed = false;

	for (struct place *p = first; p < first + first->group; p++) {
		p->result = chunk_store_read(es->store->chunks, &p->extent.digest, p->to,
					     p->extent.len);
		failed |= p->result < 0;
	}
	/* Once somebody sees that none is pending, the block may be reused, and es may be gone. */
	pthread_mutex_lock(&es->lock);
	b->failed |= failed;
	if (--b->pending == 0 && b == es->awaited)
		pthread_cond_signal(&es->fetched);
	pthread_mutex_unlock(&es->lock);
}

static struct block *filling(struct export_stream *es)
{
	return &es->blocks[(es->oldest + es->n - 1) % BLOCKS];
}

/* Give the places that are complete to a worker. */
static void send_group(struct export_stream *es)
{
	if (!es->unsent)
		return;
	struct block *b = filling(es);
	struct place *first = &b->places[b->n_places - es->unsent];

	first->group = es->unsent;
	es->unsent = 0;
	es->unsent_bytes = 0;
	pthread_mutex_lock(&es->lock);
	b->pending++;
	pthread_mutex_unlock(&es->lock);
	pool_submit(es->pool, fetch_group, first);
}

/* Wait for all that was sent of a block. 0, or the failure of the first chunk that failed. */
static int wait_for(struct export_stream *es, struct block *b)
{
	pthread_mutex_lock(&es->lock);
	es->awaited = b;
	while (b->pending)
		pthread_cond_wait(&es->fetched, &es->lock);
	es->awaited = NULL;
	pthread_mutex_unlock(&es->lock);
	for (struct place *p = b->places; b->failed && p < b->places + b->n_places; p++) {
		if (p->result < 0) {
			es->failed_ino = p->ino;
			es->failed_chunk = p->extent.digest;
			return p->result;
		}
	}
	return 0;
}

/* Write the oldest block, all of which was sent, and make it free. */
static int write_oldest(struct export_stream *es)
{
	struct block *b = &es->blocks[es->oldest];
	int r = wait_for(es, b);

	if (r == 0 && b->len)
		r = es->fn(es->arg, b->data, b->len);
	es->oldest = (es->oldest + 1) % BLOCKS;
	es->n--;
	return r < 0 ? (es->failed = r) : 0;
}

/* The block that was being filled is complete: go on to the next one. */
static int next_block(struct export_stream *es)
{
	int r = 0;

	send_group(es);
	if (es->n == BLOCKS)
		r = write_oldest(es);
	if (r < 0)
		return r;
	es->n++;
	struct block *b = filling(es);
	b->len = 0;
	b->n_places = 0;
	b->failed = false;
	if (!b->data)
		b->data = malloc(BLOCK_BYTES);
	return b->data ? 0 : (es->failed = -ENOMEM);
}

/* Make room for a piece, or at least its first byte, in the block that is being filled. */
static int make_room(struct export_stream *es, size_t len)
{
	if (es->failed)
		return es->failed;
	return es->n == 0 || BLOCK_BYTES - filling(es)->len < len ? next_block(es) : 0;
}

/* Move what was collected into blocks. */
static int put_bytes(struct export_stream *es)
{
	size_t done = 0;

	while (done < es->bytes.len) {
		int r = make_room(es, 1);

		if (r < 0)
			return r;
		struct block *b = filling(es);
		size_t n = MIN(BLOCK_BYTES - b->len, es->bytes.len - done);
		memcpy(b->data + b->len, es->bytes.data + done, n);
		b->len += n;
		done += n;
	}
	buf_clear(&es->bytes);
	return es->failed;
}

struct buf *export_stream_buf(struct export_stream *es)
{
	return &es->bytes;
}

int export_stream_flow(struct export_stream *es)
{
	return es->failed || es->bytes.len < BYTES_MAX ? es->failed : put_bytes(es);
}

int export_stream_extent(struct export_stream *es, uint64_t ino, const struct extent_rec *e)
{
	int r;

	if (e->kind == EXTENT_INLINE) {
		r = buf_append(&es->bytes, e->data, e->len);
		return r < 0 ? r : export_stream_flow(es);
	}
	if (e->len > BLOCK_BYTES)
		return -EBADMSG;
	r = put_bytes(es);
	if (r == 0)
		r = make_room(es, e->len);
	if (r == 0 && filling(es)->n_places == BLOCK_PLACES)
		r = next_block(es);
	if (r < 0)
		return r;
	struct block *b = filling(es);
	b->places[b->n_places++] =
		(struct place){ .block = b, .to = b->data + b->len, .ino = ino, .extent = *e };
	b->len += e->len;
	es->unsent_bytes += e->len;
	if (++es->unsent == GROUP_PLACES || es->unsent_bytes >= GROUP_BYTES)
		send_group(es);
	return 0;
}

int export_stream_end(struct export_stream *es)
{
	int r = put_bytes(es);

	if (r == 0)
		send_group(es);
	while (r == 0 && es->n > 0)
		r = write_oldest(es);
	return r;
}

uint64_t export_stream_failed_ino(const struct export_stream *es, struct digest *out_chunk)
{
	if (out_chunk && es->failed_ino)
		*out_chunk = es->failed_chunk;
	return es->failed_ino;
}
