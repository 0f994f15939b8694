#include "snapshotd/http/byte_queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/base/clock.h"

struct byte_queue {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* all below: guarded by lock */
	size_t cap, start, len; /* ring: len bytes from start */
	const uint8_t *offered; /* after those: a waiting writer's own memory */
	size_t offered_len;
	bool ended, failed, abandoned;
	uint8_t data[];
};

struct byte_queue *byte_queue_new(size_t capacity)
{
	struct byte_queue *q = malloc(sizeof(*q) + capacity);

	if (!q)
		return NULL;
	memset(q, 0, sizeof(*q));
	q->cap = capacity;
	pthread_mutex_init(&q->lock, NULL);
	cond_init_monotonic(&q->changed);
	return q;
}

void byte_queue_free(struct byte_queue *q)
{
	if (!q)
		return;
	pthread_cond_destroy(&q->changed);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

/* Copies what fits; returns how much. */
static size_t put_locked(struct byte_queue *q, const uint8_t *data, size_t len)
{
	size_t done = 0;

	while (done < len && q->len < q->cap) {
		size_t at = (q->start + q->len) % q->cap;
		size_t run = MIN(q->cap - q->len, q->cap - at);

		run = MIN(run, len - done);
		memcpy(q->data + at, data + done, run);
		q->len += run;
		done += run;
	}
	return done;
}

/* The reader gets it from where it is: a ring would cost another copy and many turns. */
static int offer_locked(struct byte_queue *q, const uint8_t *data, size_t len)
{
	q->offered = data;
	q->offered_len = len;
	pthread_cond_broadcast(&q->changed);
	while (q->offered_len > 0 && !q->abandoned && !q->ended)
		pthread_cond_wait(&q->changed, &q->lock);
	int rc = q->offered_len > 0 ? -EPIPE : 0;

	q->offered = NULL;
	q->offered_len = 0;
	return rc;
}

int byte_queue_write(struct byte_queue *q, const void *data, size_t len)
{
	int rc = 0;

	pthread_mutex_lock(&q->lock);
	if (q->abandoned || q->ended) {
		rc = -EPIPE;
	} else if (len > q->cap - q->len) {
		rc = offer_locked(q, data, len);
	} else {
		put_locked(q, data, len);
		pthread_cond_broadcast(&q->changed);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

ssize_t byte_queue_write_some(struct byte_queue *q, const void *data, size_t len, int timeout_ms)
{
	struct timespec until = monotonic_after_ms(timeout_ms);
	ssize_t rc = 0;

	pthread_mutex_lock(&q->lock);
	while (rc == 0) {
		if (q->abandoned || q->ended)
			rc = -EPIPE;
		else if (q->len < q->cap)
			rc = (ssize_t)put_locked(q, data, len);
		else if (pthread_cond_timedwait(&q->changed, &q->lock, &until) == ETIMEDOUT &&
			 q->len == q->cap)
			rc = -EAGAIN;
	}
	if (rc > 0)
		pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

int byte_queue_try_write(struct byte_queue *q, const void *data, size_t len)
{
	int rc = 0;

	pthread_mutex_lock(&q->lock);
	if (q->abandoned || q->ended) {
		rc = -EPIPE;
	} else if (q->len + len > q->cap / 2) {
		rc = -EAGAIN;
	} else {
		put_locked(q, data, len);
		pthread_cond_broadcast(&q->changed);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

void byte_queue_end(struct byte_queue *q, bool failed)
{
	pthread_mutex_lock(&q->lock);
	if (!q->ended) {
		q->ended = true;
		q->failed = failed;
		pthread_cond_broadcast(&q->changed);
	}
	pthread_mutex_unlock(&q->lock);
}

static size_t take_locked(struct byte_queue *q, uint8_t *out, size_t max)
{
	size_t done = 0;

	while (done < max && q->len > 0) {
		size_t run = MIN(q->len, q->cap - q->start);

		run = MIN(run, max - done);
		memcpy(out + done, q->data + q->start, run);
		q->start = (q->start + run) % q->cap;
		q->len -= run;
		done += run;
	}
	size_t run = MIN(q->offered_len, max - done);

	if (run > 0) {
		memcpy(out + done, q->offered, run);
		q->offered += run;
		q->offered_len -= run;
		done += run;
	}
	return done;
}

ssize_t byte_queue_read(struct byte_queue *q, void *out, size_t max, int timeout_ms)
{
	struct timespec until = monotonic_after_ms(timeout_ms);
	ssize_t rc = -EAGAIN;

	pthread_mutex_lock(&q->lock);
	for (;;) {
		if (q->len + q->offered_len > 0) {
			rc = (ssize_t)take_locked(q, out, max);
			if (q->offered_len == 0) /* else its writer has to wait on */
				pthread_cond_broadcast(&q->changed);
			break;
		}
		if (q->ended) {
			rc = q->failed ? -EIO : 0;
			break;
		}
		if (pthread_cond_timedwait(&q->changed, &q->lock, &until) == ETIMEDOUT &&
		    q->len + q->offered_len == 0 && !q->ended)
			break;
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

void byte_queue_abandon(struct byte_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->abandoned = true;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
}
