/*
 * `work` is held while pins are made, written and confirmed, requests included: by the thread, or
 * by who evicts: pins_buckets.c does that. `lock` is a leaf, and what others wait for.
 */
#include "store/lazy/pins.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/lazy/pins_internal.h"

#define AGAIN_MIN_MS 5000
#define AGAIN_MAX_MS 60000

bool pins_hold(struct pins *p, const struct pins_held *h)
{
	const struct pinned_bucket *b;
	bool holds;

	pthread_mutex_lock(&p->lock);
	b = pins_bucket_locked(p, h->uuid);
	holds = b && b->acked_ms && b->epoch == h->epoch &&
		boottime_ms() - b->acked_ms < p->opt.valid_ms;
	pthread_mutex_unlock(&p->lock);
	return holds;
}

/* ---- the thread ---- */

/* Whether it is time to write, by what the bucket has acknowledged. */
static bool is_due(struct pins *p, const struct pinned_bucket *b)
{
	pthread_mutex_lock(&p->lock);
	int64_t every = b->pushes ? PINS_PUSHING_MS : PINS_EVERY_MS;
	/* A second early: the next look is a whole period from now. */
	bool due = b->pushes > 0 || b->n
			   ? !b->acked_ms || boottime_ms() - b->acked_ms >= every - 1000
			   : false;
	pthread_mutex_unlock(&p->lock);
	return due || (b->changed && (b->n || b->acked_ms));
}

static bool is_stopping(struct pins *p)
{
	pthread_mutex_lock(&p->lock);
	bool stopping = p->stopping;
	pthread_mutex_unlock(&p->lock);
	return stopping;
}

/* Whether all was written that had to be. */
static bool write_due(struct pins *p)
{
	struct pinned_bucket *b;
	bool all = true;

	pthread_mutex_lock(&p->work);
	all = pins_renew(p) == 0;
	for (size_t i = 0; !is_stopping(p) && (b = pins_bucket_at(p, i)); i++) {
		struct error err = ERROR_INIT;
		int rc = is_due(p, b) ? pins_write(p, b, &err) : 0;

		if (rc < 0 && rc != -EROFS) {
			if (all && p->again_ms == 0 && rc != -ECANCELED)
				log_warn("a bucket does not know what this host needs of it: %s",
					 error_text(&err));
			all = false;
		}
	}
	pthread_mutex_unlock(&p->work);
	return all;
}

/* The time of the next look; the caller has lock. */
static int64_t next_ms_locked(const struct pins *p, bool all)
{
	int64_t ms = PINS_EVERY_MS;

	for (size_t i = 0; i < p->n_buckets; i++)
		if (p->buckets[i]->pushes)
			ms = PINS_PUSHING_MS;
	return all ? ms : MIN(ms, p->again_ms);
}

static void *worker(void *arg)
{
	struct pins *p = arg;
	bool all;

	pthread_setname_np(pthread_self(), "varve-pins");
	pthread_mutex_lock(&p->lock);
	while (!p->stopping) {
		p->changed = false;
		pthread_mutex_unlock(&p->lock);
		all = write_due(p);
		p->again_ms = all ? 0 : MIN(MAX(2 * p->again_ms, AGAIN_MIN_MS), AGAIN_MAX_MS);
		pthread_mutex_lock(&p->lock);
		struct timespec until = monotonic_after_ms(next_ms_locked(p, all));

		while (!p->stopping && !p->changed &&
		       pthread_cond_timedwait(&p->wake, &p->lock, &until) == 0)
			;
		/* What changes together is written together. */
		until = monotonic_after_ms(p->opt.settle_ms);
		while (!p->stopping && p->changed &&
		       pthread_cond_timedwait(&p->wake, &p->lock, &until) == 0)
			;
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void note_change(void *arg)
{
	struct pins *p = arg;

	pthread_mutex_lock(&p->lock);
	p->changed = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

int pins_push_begin(struct pins *p, const char *uuid, struct share_id *out_node)
{
	struct pinned_bucket *b;

	if (!p)
		return share_id_random(out_node);
	b = pins_bucket(p, uuid);
	if (!b)
		return -ENOMEM;
	pthread_mutex_lock(&p->lock);
	*out_node = b->node;
	b->pushes++;
	p->changed = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

void pins_push_end(struct pins *p, const char *uuid)
{
	struct pinned_bucket *b = p ? pins_bucket(p, uuid) : NULL;

	if (!b)
		return;
	pthread_mutex_lock(&p->lock);
	b->pushes--;
	pthread_mutex_unlock(&p->lock);
}

int pins_open(const struct pins_options *opt, struct pins **out, struct error *err)
{
	struct pins *p = calloc(1, sizeof(*p));
	int rc = 0;

	if (!p)
		return error_set(err, -ENOMEM, "out of memory");
	p->opt = *opt;
	p->opt.settle_ms = opt->settle_ms ?: PINS_SETTLE_MS;
	p->opt.valid_ms = opt->valid_ms ?: PINS_VALID_MS;
	pthread_mutex_init(&p->work, NULL);
	pthread_mutex_init(&p->lock, NULL);
	cond_init_monotonic(&p->wake);
	if (!opt->no_thread) {
		lazy_index_on_change(opt->index, note_change, p);
		rc = pthread_create(&p->thread, NULL, worker, p);
		p->started = rc == 0;
	}
	if (rc) {
		pins_close(p);
		return error_set_errno(err, -rc, "cannot start the thread that writes pins");
	}
	*out = p;
	return 0;
}

void pins_close(struct pins *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	if (p->started)
		pthread_join(p->thread, NULL);
	if (!p->opt.no_thread)
		lazy_index_on_change(p->opt.index, NULL, NULL);
	for (size_t i = 0; i < p->n_buckets; i++) {
		pins_drop(p->buckets[i]->v, p->buckets[i]->n);
		free(p->buckets[i]);
	}
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	pthread_mutex_destroy(&p->work);
	free(p);
}

void pins_get_stats(struct pins *p, struct pins_stats *out)
{
	const int64_t now = boottime_ms();

	pthread_mutex_lock(&p->lock);
	*out = p->stats;
	for (size_t i = 0; i < p->n_buckets; i++) {
		const struct pinned_bucket *b = p->buckets[i];

		out->pins += b->n_pins;
		out->outdated +=
			b->n_pins && (!b->acked_ms || now - b->acked_ms >= p->opt.valid_ms);
	}
	pthread_mutex_unlock(&p->lock);
}
