#include "store/share/claim.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/pool.h"
#include "store/remote/register.h"

#define POLL_MIN_MS 50u
#define POLL_MAX_MS 2000u
#define NAP_MS 50u /* how soon a waiter sees that it is cancelled */
#define KEEP_GENERATIONS 16u
#define TRIES 5

struct claim {
	struct object_store *os;
	char path[SHARE_KEY_SIZE];
	struct share_id holder; /* ourselves */
	unsigned beat_ms;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ending; /* guarded by lock */
	_Atomic bool lost;
};

/* The newest entry, and what an append to it needs. */
struct seen {
	struct register_value value;
	struct share_claim claim; /* zeroed if there is none */
};

/* -ENOENT: it was trimmed between two requests. */
static int look(struct object_store *os, const char *path, struct seen *out, struct error *err)
{
	int rc = register_newest(os, path, SHARE_CLAIM_MAX, &out->value, err);

	out->claim = (struct share_claim){ 0 };
	if (rc == 0 && out->value.generation)
		rc = share_claim_decode(out->value.body.data, out->value.body.len, &out->claim,
					err);
	buf_fini(&out->value.body);
	return rc < 0 ? error_prefix(err, rc, "%s", path) : 0;
}

static int append(const struct claim *c, const struct seen *on, enum share_claim_state state,
		  const char *why, struct error *err)
{
	struct share_claim next = { .generation = on->value.generation + 1,
				    .prev = on->claim.nonce,
				    .holder = c->holder,
				    .state = state,
				    .beat_ms = c->beat_ms };
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	int rc = share_id_random(&next.nonce);

	snprintf(next.error, sizeof(next.error), "%s", why ? why : "");
	if (rc == 0)
		rc = share_claim_encode(&next, &text, err);
	return rc < 0 ? rc : register_append(c->os, c->path, &on->value, text.data, text.len, err);
}

static bool is_ours(const struct claim *c, const struct seen *s)
{
	return s->value.generation && s->claim.state == SHARE_HELD &&
	       share_id_equal(&s->claim.holder, &c->holder);
}

/* ---- holding it ---- */

/*
 * The next entry, if the newest is still ours. Whatever became of the last attempt, the register
 * says it.
 */
static int beat(struct claim *c, enum share_claim_state state, const char *why, struct error *err)
{
	struct seen now;
	int rc = look(c->os, c->path, &now, err);

	if (rc < 0)
		return rc;
	if (!is_ours(c, &now)) {
		atomic_store(&c->lost, true);
		return 0;
	}
	rc = append(c, &now, state, why, err);
	if (rc == 0 && now.value.generation % KEEP_GENERATIONS == 0)
		(void)!register_trim(c->os, c->path, now.value.generation + 1, KEEP_GENERATIONS,
				     NULL);
	return rc;
}

/* A beat's time. False: it ends. */
static bool wait_beat(struct claim *c)
{
	struct timespec until = monotonic_after_ms(c->beat_ms);
	bool ending;

	pthread_mutex_lock(&c->lock);
	while (!c->ending && pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0)
		;
	ending = c->ending;
	pthread_mutex_unlock(&c->lock);
	return !ending;
}

static void *keep(void *arg)
{
	struct claim *c = arg;
	struct error err = ERROR_INIT;

	while (wait_beat(c) && !atomic_load(&c->lost))
		if (beat(c, SHARE_HELD, NULL, &err) < 0)
			log_debug("%s: %s", c->path, error_text(&err));
	return NULL;
}

bool claim_is_lost(const struct claim *c)
{
	return atomic_load(&c->lost);
}

static void claim_free(struct claim *c)
{
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void claim_end(struct claim *c, const char *failure)
{
	enum share_claim_state to = failure ? SHARE_FAILED : SHARE_FREE;
	struct error err = ERROR_INIT;
	int rc = -EAGAIN;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->ending = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	/* Where a reply was lost, the entry that it was about is not "held" any more: that ends it.
	 */
	for (int i = 0; i < TRIES && rc < 0 && !atomic_load(&c->lost); i++)
		rc = beat(c, to, failure, &err);
	if (rc < 0 && !atomic_load(&c->lost))
		log_info("%s is left to those who wait for it: %s", c->path, error_text(&err));
	claim_free(c);
}

/* ---- taking it ---- */

static struct claim *claim_new(struct object_store *os, const char *path,
			       const struct claim_options *o)
{
	struct claim *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->os = os;
	snprintf(c->path, sizeof(c->path), "%s", path);
	c->beat_ms = o->beat_ms ? o->beat_ms : CLAIM_BEAT_MS;
	pthread_mutex_init(&c->lock, NULL);
	cond_init_monotonic(&c->changed);
	atomic_init(&c->lost, false);
	if (share_id_random(&c->holder) == 0)
		return c;
	claim_free(c);
	return NULL;
}

/* What a waiter remembers. */
struct watch {
	uint64_t generation; /* the newest, first seen at moved_ms */
	int64_t moved_ms;
	unsigned poll_ms;
	bool waited; /* another held it since we came */
};

static bool is_cancelled(const struct claim_options *o)
{
	return o->cancelled && o->cancelled(o->arg);
}

static void nap(const struct claim_options *o, unsigned ms)
{
	const struct timespec t = { .tv_nsec = NAP_MS * 1000000L };

	for (unsigned slept = 0; slept < ms && !is_cancelled(o); slept += NAP_MS)
		nanosleep(&t, NULL);
}

static bool is_alive(struct watch *w, const struct seen *s)
{
	int64_t now = monotonic_ms();

	if (s->claim.state != SHARE_HELD)
		return false;
	if (w->moved_ms == 0 || s->value.generation != w->generation) {
		w->generation = s->value.generation;
		w->moved_ms = now;
	}
	return now - w->moved_ms < (int64_t)s->claim.beat_ms * CLAIM_PATIENCE;
}

/* One look at it, and what follows. As claim_take; -EAGAIN: again. */
static int try_take(struct claim *c, const struct claim_options *o, struct watch *w,
		    struct error *err)
{
	struct seen s;
	int rc = look(c->os, c->path, &s, err);

	if (rc < 0)
		return rc == -ENOENT ? -EAGAIN : rc;
	if (is_ours(c, &s)) /* the reply to our append was lost */
		return 0;
	if (s.value.generation && is_alive(w, &s)) {
		if (!w->waited && o->waiting)
			o->waiting(o->arg);
		w->waited = true;
		nap(o, w->poll_ms);
		w->poll_ms = MIN(w->poll_ms * 2, MIN(POLL_MAX_MS, s.claim.beat_ms));
		return -EAGAIN;
	}
	if (w->waited && s.claim.state == SHARE_FAILED)
		return error_set(err, -ECHILD, "%s", s.claim.error);
	if (w->waited && s.claim.state == SHARE_FREE)
		return 1;
	rc = append(c, &s, SHARE_HELD, NULL, err);
	return rc == -EEXIST || rc == -ESTALE ? -EAGAIN : rc;
}

int claim_take(struct object_store *os, const char *path, const struct claim_options *o,
	       struct claim **out, struct error *err)
{
	struct watch w = { .poll_ms = POLL_MIN_MS };
	struct claim *c = claim_new(os, path, o);
	int rc = -EAGAIN, unanswered = 0;

	if (!c)
		return error_set(err, -ENOMEM, "out of memory");
	while (rc == -EAGAIN && !is_cancelled(o)) {
		rc = try_take(c, o, &w, err);
		if (rc == -ETIMEDOUT && ++unanswered < TRIES)
			rc = -EAGAIN;
	}
	if (rc == -EAGAIN)
		rc = error_set(err, -ECANCELED, "cancelled");
	if (rc == 0 && (rc = -pthread_create(&c->thread, NULL, keep, c)) < 0)
		error_set_errno(err, rc, "cannot start a thread");
	if (rc != 0) {
		claim_free(c);
		return rc;
	}
	*out = c;
	return 0;
}
