/*
 * A ring of slots. A slot is some bytes and then one chunk; the bytes are
 * collected by the exporting thread, the chunk is fetched by a worker. Slots are
 * written in order, the oldest when the ring is full, so that up to SLOTS chunks
 * are fetched ahead of the one that is being written.
 */
#include "store/export_stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/pool.h"

#define SLOTS 64u
#define BYTES_MAX (256u << 10) /* of a slot, before it goes without a chunk */

struct slot {
	struct export_stream *es;
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
	pthread_cond_destroy(&es->fetched);
	pthread_mutex_destroy(&es->lock);
	free(es);
}

static void fetch(void *arg)
{
	struct slot *s = arg;
	struct export_stream *es = s->es;
	struct chunk *c = NULL;
	int r = chunk_store_get(es->store->chunks, &s->extent.digest, &c);

	if (r == 0 && c->len != s->extent.len)
		r = -EBADMSG;
	pthread_mutex_lock(&es->lock);
	s->chunk = c;
	s->result = r;
	s->done = true;
	pthread_cond_signal(&es->fetched);
	pthread_mutex_unlock(&es->lock);
}

static int wait_for(struct export_stream *es, struct slot *s)
{
	pthread_mutex_lock(&es->lock);
	while (!s->done)
		pthread_cond_wait(&es->fetched, &es->lock);
	pthread_mutex_unlock(&es->lock);
	return s->result;
}

static struct slot *filling(struct export_stream *es)
{
	return &es->slots[(es->oldest + es->n - 1) % SLOTS];
}

/* Write the oldest slot and make it free. */
static int write_oldest(struct export_stream *es)
{
	struct slot *s = &es->slots[es->oldest];
	int r = s->bytes.len ? es->fn(es->arg, s->bytes.data, s->bytes.len) : 0;

	if (r == 0 && s->extent.len) {
		r = wait_for(es, s);
		if (r < 0)
			es->failed_ino = s->ino;
		else
			r = es->fn(es->arg, s->chunk->data, s->chunk->len);
	}
	if (r < 0) {
		es->failed = r;
		return r; /* the slot may be at work still */
	}
	if (s->chunk)
		chunk_unref(STEAL(s->chunk));
	buf_clear(&s->bytes);
	s->extent.len = 0;
	es->oldest = (es->oldest + 1) % SLOTS;
	es->n--;
	return 0;
}

static int next_slot(struct export_stream *es)
{
	int r = es->n == SLOTS ? write_oldest(es) : 0;

	es->n++;
	return r;
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
	s->es = es;
	s->ino = ino;
	s->extent = *e;
	s->done = false;
	pool_submit(es->pool, fetch, s);
	return next_slot(es);
}

int export_stream_end(struct export_stream *es)
{
	int r = es->failed;

	while (r == 0 && es->n > 0)
		r = write_oldest(es);
	if (r == 0)
		es->n = 1;
	return r;
}

uint64_t export_stream_failed_ino(const struct export_stream *es)
{
	return es->failed_ino;
}
