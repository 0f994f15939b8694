/*
 * far_source.h - a source for tests: in front of another one, it waits, fails, lies and loses.
 * Thread-safe.
 */
#ifndef VARVE_TEST_FAR_SOURCE_H
#define VARVE_TEST_FAR_SOURCE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "store/base/clock.h"
#include "store/chunk/codec.h"
#include "store/chunk/source.h"

enum far_mode {
	FAR_WELL,
	FAR_FAILS, /* -EIO */
	FAR_LIES,  /* a sound frame of other bytes */
	FAR_CUTS,  /* half of the frame */
	FAR_LOSES, /* -ENODATA */
};

/* Threads that others need, and that must not wait. */
enum far_thread { FAR_SERVING, FAR_SHARING, FAR_THREADS };

struct far {
	struct source source;
	struct source *behind; /* borrowed */
	_Atomic enum far_mode mode;
	_Atomic unsigned delay_ms; /* of each call */
	_Atomic unsigned calls, items;
	_Atomic unsigned calls_of[FAR_THREADS]; /* of threads with such a name */
	pthread_mutex_t lock;			/* guards what follows */
	pthread_cond_t changed;
	bool held;	  /* calls wait */
	bool stopped;	  /* calls fail */
	unsigned waiting; /* calls that do */
};

static inline void far_note_thread(struct far *f)
{
	static const char *const names[FAR_THREADS] = { "varve-fuse", "varve-share" };
	char name[16];

	assert_int_equal(pthread_getname_np(pthread_self(), name, sizeof(name)), 0);
	for (int i = 0; i < FAR_THREADS; i++)
		if (strcmp(name, names[i]) == 0)
			atomic_fetch_add(&f->calls_of[i], 1);
}

/* 0, or -ECANCELED. */
static inline int far_wait_turn(struct far *f)
{
	const struct timespec end = monotonic_after_ms(f->delay_ms);
	int r = 0;

	pthread_mutex_lock(&f->lock);
	f->waiting++;
	pthread_cond_broadcast(&f->changed);
	while (f->held && !f->stopped)
		pthread_cond_wait(&f->changed, &f->lock);
	while (f->delay_ms && !f->stopped && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&f->changed, &f->lock, &end);
	f->waiting--;
	r = f->stopped ? -ECANCELED : 0;
	pthread_mutex_unlock(&f->lock);
	return r;
}

/* The frame's bytes, changed; of the frame. */
static inline void far_lie(struct source_frame *frame, bool cut)
{
	struct buf made = BUF_INIT;
	int64_t len = codec_raw_len(frame->data, frame->len);
	uint8_t *raw = len > 0 ? malloc((size_t)len) : NULL;
	int r = raw ? 0 : -ENOMEM;

	if (!r && cut)
		r = buf_append(&made, frame->data, frame->len / 2);
	else if (!r)
		r = codec_decode(frame->data, frame->len, raw, (size_t)len);
	if (!r && !cut) {
		raw[len - 1] ^= 1;
		r = codec_encode(1, raw, (size_t)len, &made);
	}
	free(raw);
	source_frame_release(frame);
	if (!r)
		*frame = (struct source_frame){
			.data = made.data, .len = made.len, .pin = made.data, .release = free
		};
}

static inline void far_get_many(struct source *src, enum source_kind kind,
				struct source_item *items, size_t n)
{
	struct far *f = CONTAINER_OF(src, struct far, source);

	atomic_fetch_add(&f->calls, 1);
	atomic_fetch_add(&f->items, (unsigned)n);
	far_note_thread(f);
	int stopped = far_wait_turn(f);
	enum far_mode mode = f->mode;

	if (stopped || mode == FAR_FAILS || mode == FAR_LOSES) {
		for (size_t i = 0; i < n; i++)
			items[i].result = stopped ? stopped : mode == FAR_FAILS ? -EIO : -ENODATA;
		return;
	}
	f->behind->ops->get_many(f->behind, kind, items, n);
	for (size_t i = 0; i < n; i++)
		if (items[i].result == 0 && mode != FAR_WELL)
			far_lie(&items[i].frame, mode == FAR_CUTS);
}

static inline void far_has_many(struct source *src, enum source_kind kind,
				struct source_item *items, size_t n)
{
	struct far *f = CONTAINER_OF(src, struct far, source);

	f->behind->ops->has_many(f->behind, kind, items, n);
}

static inline int far_put_many(struct source *src, enum source_kind kind,
			       const struct source_item *items, size_t n)
{
	(void)src, (void)kind, (void)items, (void)n;
	return -EROFS;
}

static inline void far_stop(struct source *src)
{
	struct far *f = CONTAINER_OF(src, struct far, source);

	pthread_mutex_lock(&f->lock);
	f->stopped = true;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static inline void far_free(struct source *src)
{
	struct far *f = CONTAINER_OF(src, struct far, source);

	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static inline struct far *far_new(struct source *behind)
{
	static const struct source_ops ops = { .get_many = far_get_many,
					       .has_many = far_has_many,
					       .put_many = far_put_many,
					       .stop = far_stop,
					       .free = far_free };
	struct far *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->source.ops = &ops;
	f->behind = behind;
	pthread_mutex_init(&f->lock, NULL);
	cond_init_monotonic(&f->changed);
	return f;
}

/* From now on calls wait, or no longer. */
static inline __attribute__((unused)) void far_hold(struct far *f, bool held)
{
	pthread_mutex_lock(&f->lock);
	f->held = held;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

/* Calls have no delay, nor those that have begun. */
static inline __attribute__((unused)) void far_hurry(struct far *f)
{
	pthread_mutex_lock(&f->lock);
	f->delay_ms = 0;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

/* Until so many calls wait. */
static inline __attribute__((unused)) void far_await_waiting(struct far *f, unsigned n)
{
	pthread_mutex_lock(&f->lock);
	while (f->waiting < n)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

#endif
