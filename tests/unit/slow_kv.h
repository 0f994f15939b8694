/*
 * slow_kv.h - a mount (mount_fixture.h) on a database that is slow for one thread. A test that
 * includes it has the line "wrap: kv_get".
 */
#ifndef VARVE_TEST_SLOW_KV_H
#define VARVE_TEST_SLOW_KV_H

#include "tests/unit/mount_fixture.h"

#include <pthread.h>

#include "store/base/clock.h"

/* So long at most: who waits for that reader does not hang for ever, and the test tells it. */
#define SLOW_S 60

static struct {
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	enum kv_family family; /* what of the database is slow: chunks or nodes */
	bool held;	       /* they come when it is false */
	bool gave_up;	       /* one came before */
	bool waiting;	       /* for one */
	unsigned asked;
	struct view *watched;	/* NULL: none */
	unsigned reads, locked; /* of the family; while the watched view's layers were locked */
} slow = { .lock = PTHREAD_MUTEX_INITIALIZER };

static _Thread_local bool is_slow;

int __real_kv_get(struct kv *kv, enum kv_family f, const void *key, size_t klen,
		  struct kv_value *out);
int __wrap_kv_get(struct kv *kv, enum kv_family f, const void *key, size_t klen,
		  struct kv_value *out);

static inline void wait_for_the_disk(void)
{
	const struct timespec end = monotonic_after_ms(SLOW_S * 1000);

	pthread_mutex_lock(&slow.lock);
	slow.asked++;
	slow.waiting = true;
	pthread_cond_broadcast(&slow.changed);
	while (slow.held && !slow.gave_up)
		slow.gave_up = pthread_cond_timedwait(&slow.changed, &slow.lock, &end) == ETIMEDOUT;
	slow.waiting = false;
	pthread_mutex_unlock(&slow.lock);
}

static inline void watch_the_locks(void)
{
	slow.reads++;
	if (pthread_rwlock_trywrlock(&slow.watched->layers))
		slow.locked++;
	else
		pthread_rwlock_unlock(&slow.watched->layers);
}

int __wrap_kv_get(struct kv *kv, enum kv_family f, const void *key, size_t klen,
		  struct kv_value *out)
{
	if (slow.watched && f == slow.family)
		watch_the_locks();
	if (is_slow && f == slow.family)
		wait_for_the_disk();
	return __real_kv_get(kv, f, key, klen, out);
}

/* fn(arg), which says that it is slow, waits for its first chunk or node. */
static inline pthread_t start_slowly(enum kv_family family, void *(*fn)(void *), void *arg)
{
	const struct timespec end = monotonic_after_ms(SLOW_S * 1000);
	pthread_t thread;

	cond_init_monotonic(&slow.changed);
	slow.family = family;
	slow.held = true;
	slow.gave_up = slow.waiting = false;
	slow.asked = 0;
	assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
	pthread_mutex_lock(&slow.lock);
	while (!slow.waiting)
		assert_int_equal(pthread_cond_timedwait(&slow.changed, &slow.lock, &end), 0);
	pthread_mutex_unlock(&slow.lock);
	return thread;
}

/* What it asks for comes; nobody has waited for it. */
static inline void end_slowly(pthread_t thread)
{
	pthread_mutex_lock(&slow.lock);
	slow.held = false;
	pthread_cond_broadcast(&slow.changed);
	pthread_mutex_unlock(&slow.lock);
	pthread_join(thread, NULL);
	pthread_cond_destroy(&slow.changed);
	assert_false(slow.gave_up);
}

/* From now on count what is read for this view, by one thread. NULL: no longer. */
static inline __attribute__((unused)) void slow_kv_watch(enum kv_family family, struct view *v)
{
	slow.family = family;
	slow.watched = v;
	slow.reads = slow.locked = 0;
}

/* Everything of a family goes. */
static inline void slow_kv_drop(struct mf *f, enum kv_family family)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new_heads(f->fx.s->kv, family);
	size_t len;

	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it)) {
		const void *key = kv_iter_key(it, &len);

		kv_batch_del(f->fx.s->kv, b, family, key, len);
	}
	assert_int_equal(kv_write(f->fx.s->kv, b, KV_NO_LOG), 0);
}

#endif
