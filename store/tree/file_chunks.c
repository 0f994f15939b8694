/*
 * Data collects in one linear buffer, block by aligned block. A block counts
 * ("is settled") once it is complete and seen not to be zero, or once its
 * segment has ended; only settled bytes are cut, so a cut never lies in a block
 * that turns out to be a hole. Cutting starts when CHUNK_MAX bytes are settled,
 * as chunker_cut() wants, or when the segment ends.
 *
 * With a pool, each chunk becomes a job with its own copy of the bytes. Jobs
 * are in a list in file order; the feeding thread emits from its head what is
 * done. The pool's queue bounds how many there are.
 */
#include "store/tree/file_chunks.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "store/chunk/chunker.h"

#define BUFFER_SIZE (1u << 20)

struct chunk_job {
	struct chunk_job *next;
	struct file_chunks *fc;
	uint64_t offset;
	uint32_t len;
	bool done;			/* guarded by fc->lock */
	int result;			/* as done */
	struct chunk_put_result stored; /* as done */
	uint8_t data[];
};

struct file_chunks {
	struct file_chunks_options opt;
	void *arg;
	int failed;		   /* first failure of this file */
	uint64_t start;		   /* of the segment, or where feeding was resumed */
	uint64_t pos;		   /* file offset of the next byte that may be fed */
	bool is_long;		   /* the segment is known to be longer than CHUNK_AVG */
	size_t head, tail;	   /* buffer[head, tail): bytes not yet in a chunk, up to pos */
	uint8_t *buffer;	   /* BUFFER_SIZE; NULL until needed */
	uint64_t new_bytes;	   /* what was stored */
	struct chunk_batch *batch; /* opt.gather */

	struct chunk_job *first, **last; /* in file order; only the feeding thread's */
	pthread_mutex_t lock;
	pthread_cond_t job_done;
};

struct file_chunks *file_chunks_new(const struct file_chunks_options *opt)
{
	struct file_chunks *fc = calloc(1, sizeof(*fc));

	if (!fc)
		return NULL;
	fc->opt = *opt;
	fc->last = &fc->first;
	if (opt->gather) {
		fc->batch = chunk_batch_new(opt->chunks);
		if (!fc->batch) {
			free(fc);
			return NULL;
		}
	}
	pthread_mutex_init(&fc->lock, NULL);
	pthread_cond_init(&fc->job_done, NULL);
	return fc;
}

static void wait_done(struct file_chunks *fc, const struct chunk_job *job)
{
	pthread_mutex_lock(&fc->lock);
	while (!job->done)
		pthread_cond_wait(&fc->job_done, &fc->lock);
	pthread_mutex_unlock(&fc->lock);
}

static bool is_done(struct file_chunks *fc, const struct chunk_job *job)
{
	pthread_mutex_lock(&fc->lock);
	bool done = job->done;
	pthread_mutex_unlock(&fc->lock);
	return done;
}

static int emit_chunk(struct file_chunks *fc, uint64_t offset, uint32_t len,
		      const struct chunk_put_result *stored)
{
	struct extent_rec e = { .kind = EXTENT_CHUNK, .len = len, .digest = stored->digest };

	fc->new_bytes += stored->stored_bytes;
	return fc->opt.emit(fc->arg, offset, &e);
}

/* Emit what is done, from the head of the list; all: wait for every job. */
static int reap(struct file_chunks *fc, bool all)
{
	while (fc->first) {
		struct chunk_job *job = fc->first;

		if (all)
			wait_done(fc, job);
		else if (!is_done(fc, job))
			break;
		fc->first = job->next;
		if (!fc->first)
			fc->last = &fc->first;
		if (!fc->failed)
			fc->failed = job->result;
		if (!fc->failed)
			fc->failed = emit_chunk(fc, job->offset, job->len, &job->stored);
		free(job);
	}
	return fc->failed;
}

static void drop(struct file_chunks *fc)
{
	if (fc->first) {
		if (!fc->failed)
			fc->failed = -ECANCELED;
		(void)reap(fc, true);
	}
	fc->head = fc->tail = 0;
}

void file_chunks_free(struct file_chunks *fc)
{
	if (!fc)
		return;
	drop(fc);
	pthread_cond_destroy(&fc->job_done);
	pthread_mutex_destroy(&fc->lock);
	chunk_batch_free(fc->batch);
	free(fc->buffer);
	free(fc);
}

int file_chunks_flush(struct file_chunks *fc)
{
	return fc->batch ? chunk_batch_write(fc->batch) : 0;
}

void file_chunks_begin(struct file_chunks *fc, void *arg)
{
	drop(fc);
	fc->arg = arg;
	fc->failed = 0;
	fc->start = fc->pos = 0;
	fc->is_long = false;
}

uint64_t file_chunks_new_bytes(const struct file_chunks *fc)
{
	return fc->new_bytes;
}

static void run_job(void *arg)
{
	struct chunk_job *job = arg;
	struct file_chunks *fc = job->fc;
	struct chunk_put_result stored = { 0 };
	int r = chunk_store_put(fc->opt.chunks, job->data, job->len, &stored);

	/* The job, and with it fc, may be gone once done is seen: signal under the lock. */
	pthread_mutex_lock(&fc->lock);
	job->stored = stored;
	job->result = r;
	job->done = true;
	pthread_cond_signal(&fc->job_done);
	pthread_mutex_unlock(&fc->lock);
}

static int submit(struct file_chunks *fc, uint64_t offset, const uint8_t *data, uint32_t len)
{
	struct chunk_job *job = malloc(sizeof(*job) + len);

	if (!job)
		return -ENOMEM;
	*job = (struct chunk_job){ .fc = fc, .offset = offset, .len = len };
	memcpy(job->data, data, len);
	*fc->last = job;
	fc->last = &job->next;
	pool_submit(fc->opt.pool, run_job, job);
	return reap(fc, false);
}

/* Take the first len bytes of the buffer as one chunk. */
static int take_chunk(struct file_chunks *fc, size_t len)
{
	const uint8_t *data = fc->buffer + fc->head;
	uint64_t offset = fc->pos - (fc->tail - fc->head);
	struct chunk_put_result stored;
	int r;

	fc->head += len;
	if (fc->opt.pool)
		return submit(fc, offset, data, (uint32_t)len);
	r = fc->batch ? chunk_batch_put(fc->batch, data, len, &stored)
		      : chunk_store_put(fc->opt.chunks, data, len, &stored);
	return r < 0 ? r : emit_chunk(fc, offset, (uint32_t)len, &stored);
}

/* Start a segment at `at`; the old one's bytes are dropped or in chunks. */
static void start_segment(struct file_chunks *fc, uint64_t at)
{
	fc->head = fc->tail = 0;
	fc->start = fc->pos = at;
	fc->is_long = false;
}

static int ask_at_cut(struct file_chunks *fc)
{
	uint64_t offset = fc->pos - (fc->tail - fc->head);

	if (!fc->opt.at_cut || !fc->opt.at_cut(fc->arg, offset))
		return 0;
	start_segment(fc, offset);
	return 1;
}

/*
 * Cut what is settled. at_end: the segment ends with the buffer. A segment that
 * may yet turn out to be short stays in the buffer.
 */
static int cut_settled(struct file_chunks *fc, bool at_end)
{
	if (fc->pos - fc->start > CHUNK_AVG)
		fc->is_long = true;
	if (at_end && !fc->is_long && fc->tail > fc->head)
		return take_chunk(fc, fc->tail - fc->head);
	while (fc->tail - fc->head >= (at_end ? 1 : CHUNK_MAX)) {
		size_t len = chunker_cut(fc->buffer + fc->head, fc->tail - fc->head);
		int r = take_chunk(fc, len);

		if (r < 0)
			return r;
		if (fc->tail > fc->head && (r = ask_at_cut(fc)) != 0)
			return r;
	}
	return 0;
}

static int end_segment(struct file_chunks *fc, uint64_t next_start)
{
	int r = cut_settled(fc, true);

	if (r == 0)
		start_segment(fc, next_start);
	return r;
}

static int reserve_block(struct file_chunks *fc)
{
	if (!fc->buffer) {
		fc->buffer = malloc(BUFFER_SIZE);
		if (!fc->buffer)
			return -ENOMEM;
	}
	if (BUFFER_SIZE - fc->tail < CHUNK_ZERO_RUN) {
		memmove(fc->buffer, fc->buffer + fc->head, fc->tail - fc->head);
		fc->tail -= fc->head;
		fc->head = 0;
	}
	return 0;
}

/* An aligned block is complete: is it a hole, or can chunks be cut? */
static int block_complete(struct file_chunks *fc)
{
	bool whole = fc->pos - fc->start >= CHUNK_ZERO_RUN;

	if (whole && chunker_is_zero(fc->buffer + fc->tail - CHUNK_ZERO_RUN, CHUNK_ZERO_RUN)) {
		uint64_t next = fc->pos;

		fc->tail -= CHUNK_ZERO_RUN;
		fc->pos -= CHUNK_ZERO_RUN;
		return end_segment(fc, next);
	}
	return cut_settled(fc, false);
}

static int feed_data(struct file_chunks *fc, const uint8_t *data, size_t len)
{
	while (len > 0) {
		size_t to_block_end = CHUNK_ZERO_RUN - (size_t)(fc->pos % CHUNK_ZERO_RUN);
		size_t n = MIN(len, to_block_end);
		int r = reserve_block(fc);

		if (r < 0)
			return r;
		memcpy(fc->buffer + fc->tail, data, n);
		fc->tail += n;
		fc->pos += n;
		data += n;
		len -= n;
		if (n == to_block_end && (r = block_complete(fc)) != 0)
			return r;
	}
	return 0;
}

static int remember(struct file_chunks *fc, int r)
{
	if (r < 0)
		fc->failed = r;
	return r;
}

static int move_to(struct file_chunks *fc, uint64_t offset)
{
	if (fc->failed)
		return fc->failed;
	if (offset < fc->pos)
		return -EINVAL;
	if (offset == fc->pos)
		return 0;
	return end_segment(fc, offset);
}

int file_chunks_resume(struct file_chunks *fc, uint64_t offset)
{
	int r = move_to(fc, offset);

	if (r == 0)
		r = end_segment(fc, offset);
	if (r < 0)
		return remember(fc, r);
	start_segment(fc, offset);
	fc->is_long = true;
	return 0;
}

int file_chunks_feed(struct file_chunks *fc, uint64_t offset, const void *data, size_t len)
{
	if (len == 0)
		return fc->failed;
	if (offset + len < offset)
		return remember(fc, -EINVAL);
	int r = move_to(fc, offset);
	if (r == 0)
		r = feed_data(fc, data, len);
	return remember(fc, r);
}

static bool fits_inline(const struct file_chunks *fc, uint64_t size)
{
	return fc->start == 0 && !fc->is_long && fc->pos == size && size > 0 && size <= INLINE_MAX;
}

int file_chunks_wait(struct file_chunks *fc)
{
	return reap(fc, true);
}

int file_chunks_end(struct file_chunks *fc, uint64_t size)
{
	int stopped = file_chunks_finish(fc, size);
	int r = stopped < 0 ? stopped : file_chunks_wait(fc);

	return r < 0 ? r : stopped;
}

int file_chunks_finish(struct file_chunks *fc, uint64_t size)
{
	int r;

	if (fc->failed)
		return fc->failed;
	if (size < fc->pos)
		return remember(fc, -EINVAL);
	if (fits_inline(fc, size)) {
		struct extent_rec e = { .kind = EXTENT_INLINE,
					.len = (uint32_t)size,
					.data = fc->buffer + fc->head };
		r = fc->opt.emit(fc->arg, 0, &e);
		start_segment(fc, size);
	} else {
		r = end_segment(fc, size);
	}
	return remember(fc, r);
}
