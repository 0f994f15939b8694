/*
 * A ring of slots. A slot is some bytes and then one chunk; the bytes are
 * collected by the exporting thread, the chunk is fetched by a worker. Slots go
 * to the workers in groups, for small chunks are many. They are written in
 * order, the oldest when the ring is full, so that up to SLOTS chunks or
 * AHEAD_BYTES are fetched ahead of the one that is being written.
 */
#include "store/export_stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/pool.h"

#define SLOTS 256u
#define AHEAD_BYTES (16u << 20)
#define GROUP_BYTES (256u << 10)
#define GROUP_SLOTS 32u
#define OUT_SIZE (256u << 10)
#define OUT_DIRECT (64u << 10)
#define BYTES_MAX (256u << 10) /* of a slot, before it goes without a chunk */

struct slot {
	struct export_stream *es;
	unsigned group; /* of the first slot of a group: how many there are */
	struct buf bytes;
	uint64_t ino;
	struct extent_rec extent; /* len 0: no chunk */
	bool done;		  /* guarded by es->lock, as the next two */
	int result;
	struct chunk *chunk;
};

struct export_stream {
	struct store *store;
	export_write_fn fn;
	void *arg;
	struct pool *pool;
	unsigned oldest, n; /* slots in use: [oldest, oldest + n), the last is being filled */
	unsigned unsent;    /* of those, before the last: not yet given to a worker */
	size_t unsent_bytes, ahead_bytes;
	struct buf out;	      /* not yet written */
	struct slot *awaited; /* guarded by lock: what the exporting thread sleeps for */
	int failed;
	uint64_t failed_ino;
	pthread_mutex_t lock;
	pthread_cond_t fetched;
	struct slot slots[SLOTS];
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
	es->n = 1;
	pthread_mutex_init(&es->lock, NULL);
	pthread_cond_init(&es->fetched, NULL);
	es->pool = pool_new(cores > 0 ? (unsigned)cores : 1, SLOTS);
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
	for (unsigned i = 0; i < SLOTS; i++) {
		if (es->slots[i].chunk)
			chunk_unref(es->slots[i].chunk);
		buf_fini(&es->slots[i].bytes);
	}
	buf_fini(&es->out);
	pthread_cond_destroy(&es->fetched);
	pthread_mutex_destroy(&es->lock);
	free(es);
}

static int fetch_one(struct slot *s)
{
	int r = chunk_store_get(s->es->store->chunks, &s->extent.digest, &s->chunk);

	return r == 0 && s->chunk->len != s->extent.len ? -EBADMSG : r;
}

static void fetch_group(void *arg)
{
	struct slot *first = arg;
	struct export_stream *es = first->es;
	unsigned at = (unsigned)(first - es->slots), n = first->group;

	for (unsigned i = 0; i < n; i++) {
		struct slot *s = &es->slots[(at + i) % SLOTS];

		if (s->extent.len)
			s->result = fetch_one(s);
	}
	/* The group's slots, and then es itself, may be gone once done is seen. */
	pthread_mutex_lock(&es->lock);
	for (unsigned i = 0; i < n; i++) {
		struct slot *s = &es->slots[(at + i) % SLOTS];

		s->done = true;
		if (s == es->awaited)
			pthread_cond_signal(&es->fetched);
	}
	pthread_mutex_unlock(&es->lock);
}

/* Give the slots that are filled to a worker. */
static void send_group(struct export_stream *es)
{
	if (!es->unsent)
		return;
	struct slot *first = &es->slots[(es->oldest + es->n - 1 - es->unsent) % SLOTS];

	first->group = es->unsent;
	es->unsent = 0;
	es->unsent_bytes = 0;
	pool_submit(es->pool, fetch_group, first);
}

static int wait_for(struct export_stream *es, struct slot *s)
{
	pthread_mutex_lock(&es->lock);
	es->awaited = s;
	while (!s->done)
		pthread_cond_wait(&es->fetched, &es->lock);
	es->awaited = NULL;
	pthread_mutex_unlock(&es->lock);
	return s->result;
}

static struct slot *filling(struct export_stream *es)
{
	return &es->slots[(es->oldest + es->n - 1) % SLOTS];
}

static int flush_out(struct export_stream *es)
{
	int r = es->out.len ? es->fn(es->arg, es->out.data, es->out.len) : 0;

	buf_clear(&es->out);
	return r;
}

/* Small pieces are joined, large ones go as they are. */
static int put_out(struct export_stream *es, const void *data, size_t len)
{
	int r = 0;

	if (es->out.len + len > OUT_SIZE)
		r = flush_out(es);
	if (r < 0 || len == 0)
		return r;
	return len >= OUT_DIRECT && es->out.len == 0 ? es->fn(es->arg, data, len)
						     : buf_append(&es->out, data, len);
}

/* Write the oldest slot, which is not the one being filled, and make it free. */
static int write_oldest(struct export_stream *es)
{
	struct slot *s = &es->slots[es->oldest];
	int r;

	if (es->unsent == es->n - 1)
		send_group(es);
	r = wait_for(es, s);
	if (r < 0)
		es->failed_ino = s->ino;
	if (r == 0)
		r = put_out(es, s->bytes.data, s->bytes.len);
	if (r == 0 && s->extent.len)
		r = put_out(es, s->chunk->data, s->chunk->len);
	es->failed = r < 0 ? r : 0;
	if (s->chunk)
		chunk_unref(STEAL(s->chunk));
	es->ahead_bytes -= s->extent.len;
	s->extent.len = 0;
	buf_clear(&s->bytes);
	es->oldest = (es->oldest + 1) % SLOTS;
	es->n--;
	return es->failed;
}

/* The slot that was being filled is complete: go on to the next one. */
static int next_slot(struct export_stream *es)
{
	struct slot *s = filling(es);

	s->es = es;
	s->done = false;
	s->result = 0;
	es->n++;
	es->unsent++;
	es->unsent_bytes += s->extent.len;
	es->ahead_bytes += s->extent.len;
	if (es->unsent_bytes >= GROUP_BYTES || es->unsent == GROUP_SLOTS)
		send_group(es);
	while (es->n == SLOTS || (es->ahead_bytes > AHEAD_BYTES && es->n > 1)) {
		int r = write_oldest(es);

		if (r < 0)
			return r;
	}
	return 0;
}

struct buf *export_stream_buf(struct export_stream *es)
{
	return &filling(es)->bytes;
}

int export_stream_flow(struct export_stream *es)
{
	if (es->failed)
		return es->failed;
	return filling(es)->bytes.len < BYTES_MAX ? 0 : next_slot(es);
}

int export_stream_extent(struct export_stream *es, uint64_t ino, const struct extent_rec *e)
{
	struct slot *s = filling(es);

	if (es->failed)
		return es->failed;
	if (e->kind == EXTENT_INLINE) {
		int r = buf_append(&s->bytes, e->data, e->len);

		return r < 0 ? r : export_stream_flow(es);
	}
	s->ino = ino;
	s->extent = *e;
	return next_slot(es);
}

int export_stream_end(struct export_stream *es)
{
	int r = es->failed ? es->failed : next_slot(es);

	while (r == 0 && es->n > 1)
		r = write_oldest(es);
	return r < 0 ? r : flush_out(es);
}

uint64_t export_stream_failed_ino(const struct export_stream *es)
{
	return es->failed_ino;
}
