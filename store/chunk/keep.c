/*
 * Chunks lie in a list in the order in which they came, and in a hash table. The thread waits
 * KEEP_MS after the first, for those who read to be done with most of their work, or until there
 * are KEEP_SOON bytes. It writes some from the list's head without the lock, and takes them out
 * after that: they are the thread's to free.
 */
#include "store/chunk/keep.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "store/base/clock.h"

#define KEEP_MS 250
#define KEEP_SOON ((size_t)8 << 20)
#define BUCKETS 1024u

struct kept {
	STAILQ_ENTRY(kept) link;
	LIST_ENTRY(kept) hashed;
	struct digest digest;
	struct source_frame frame;
};

struct keep {
	keep_write_fn write;
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* there is something to do, or something was done */
	/* guarded by lock */
	STAILQ_HEAD(, kept) list;
	LIST_HEAD(, kept) buckets[BUCKETS];
	size_t bytes;
	uint64_t added, written;
	uint64_t wanted; /* so many are waited for: at once */
	int64_t due_ms;
	bool started, stop;
	pthread_t thread;
};

struct keep *keep_new(keep_write_fn write, void *arg)
{
	struct keep *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->write = write;
	k->arg = arg;
	STAILQ_INIT(&k->list);
	for (size_t i = 0; i < BUCKETS; i++)
		LIST_INIT(&k->buckets[i]);
	pthread_mutex_init(&k->lock, NULL);
	cond_init_monotonic(&k->changed);
	return k;
}

/* With the lock held, which it lets go while it writes. */
static void write_some(struct keep *k)
{
	struct source_item items[SOURCE_ITEMS_MAX];
	size_t n = 0;
	struct kept *e;

	STAILQ_FOREACH(e, &k->list, link)
	{
		if (n == SOURCE_ITEMS_MAX)
			break;
		items[n++] = (struct source_item){ .digest = e->digest, .frame = e->frame };
	}
	pthread_mutex_unlock(&k->lock);
	k->write(k->arg, items, n);
	pthread_mutex_lock(&k->lock);
	for (size_t i = 0; i < n; i++) {
		e = STAILQ_FIRST(&k->list);
		STAILQ_REMOVE_HEAD(&k->list, link);
		LIST_REMOVE(e, hashed);
		k->bytes -= e->frame.len;
		source_frame_release(&e->frame);
		free(e);
	}
	k->written += n;
	pthread_cond_broadcast(&k->changed);
}

static bool is_due(const struct keep *k)
{
	return k->stop || k->wanted > k->written || k->bytes >= KEEP_SOON ||
	       monotonic_ms() >= k->due_ms;
}

static void *thread_main(void *arg)
{
	struct keep *k = arg;

	pthread_setname_np(pthread_self(), "varve-keep");
	pthread_mutex_lock(&k->lock);
	for (;;) {
		if (STAILQ_EMPTY(&k->list)) {
			if (k->stop)
				break;
			pthread_cond_wait(&k->changed, &k->lock);
		} else if (is_due(k)) {
			write_some(k);
		} else {
			const struct timespec t = monotonic_after_ms(k->due_ms - monotonic_ms());

			pthread_cond_timedwait(&k->changed, &k->lock, &t);
		}
	}
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

void keep_free(struct keep *k)
{
	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_broadcast(&k->changed);
	pthread_mutex_unlock(&k->lock);
	if (k->started)
		pthread_join(k->thread, NULL);
	pthread_cond_destroy(&k->changed);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

static bool add_locked(struct keep *k, struct kept *e)
{
	if (k->bytes + e->frame.len > KEEP_BYTES)
		return false;
	if (!k->started && pthread_create(&k->thread, NULL, thread_main, k) != 0)
		return false;
	k->started = true;
	if (STAILQ_EMPTY(&k->list)) {
		k->due_ms = monotonic_ms() + KEEP_MS;
		pthread_cond_broadcast(&k->changed);
	} else if (k->bytes < KEEP_SOON && k->bytes + e->frame.len >= KEEP_SOON) {
		pthread_cond_broadcast(&k->changed);
	}
	STAILQ_INSERT_TAIL(&k->list, e, link);
	LIST_INSERT_HEAD(&k->buckets[digest_prefix(&e->digest) % BUCKETS], e, hashed);
	k->bytes += e->frame.len;
	k->added++;
	return true;
}

bool keep_add(struct keep *k, const struct digest *d, struct source_frame *frame)
{
	struct kept *e = malloc(sizeof(*e));
	bool taken;

	if (!e)
		return false;
	*e = (struct kept){ .digest = *d, .frame = *frame };
	e->frame.chunk = NULL; /* stays the caller's */
	pthread_mutex_lock(&k->lock);
	taken = add_locked(k, e);
	pthread_mutex_unlock(&k->lock);
	if (taken)
		*frame = (struct source_frame){ .chunk = frame->chunk };
	else
		free(e);
	return taken;
}

bool keep_get(struct keep *k, const struct digest *d, struct source_frame *out)
{
	uint8_t *copy = NULL;
	struct kept *e;

	pthread_mutex_lock(&k->lock);
	LIST_FOREACH(e, &k->buckets[digest_prefix(d) % BUCKETS], hashed)
	if (digest_equal(&e->digest, d))
		break;
	if (e)
		copy = malloc(e->frame.len);
	if (copy) {
		memcpy(copy, e->frame.data, e->frame.len);
		*out = (struct source_frame){
			.data = copy, .len = e->frame.len, .pin = copy, .release = free
		};
	}
	pthread_mutex_unlock(&k->lock);
	return copy != NULL;
}

void keep_flush(struct keep *k)
{
	pthread_mutex_lock(&k->lock);
	uint64_t until = k->added;

	k->wanted = until;
	pthread_cond_broadcast(&k->changed);
	while (k->written < until)
		pthread_cond_wait(&k->changed, &k->lock);
	pthread_mutex_unlock(&k->lock);
}
