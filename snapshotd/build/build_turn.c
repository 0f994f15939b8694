/* Which builds of this host run: at most max_concurrent, in order. */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <string.h>

static void begin_locked(struct build *bd)
{
	bd->has_turn = true;
	bd->owner->n_running++;
}

void build_turn_end_locked(struct build *bd)
{
	bd->owner->n_running -= bd->has_turn;
	bd->has_turn = false;
}

/* Of two builds of one key, the older goes first, and alone. */
static bool is_blocked_locked(const struct build *bd)
{
	const struct build *o;

	LIST_FOREACH(o, &bd->owner->active, link)
	if (o != bd && strcmp(o->m.key, bd->m.key) == 0 &&
	    (o->state != BUILD_QUEUED || o->number < bd->number))
		return true;
	return false;
}

/* First come, first served. */
static bool has_turn_locked(const struct build *bd)
{
	const struct builds *b = bd->owner;
	const struct build *o;

	if (b->n_running >= b->opt.max_concurrent || is_blocked_locked(bd))
		return false;
	LIST_FOREACH(o, &b->active, link)
	if (o->state == BUILD_QUEUED && o->number < bd->number && !is_blocked_locked(o))
		return false;
	return true;
}

int build_turn_wait(struct build *bd)
{
	struct builds *b = bd->owner;
	int rc = 0;

	pthread_mutex_lock(&b->lock);
	while (!build_is_cancelled(bd) && !has_turn_locked(bd))
		pthread_cond_wait(&b->changed, &b->lock);
	if (build_is_cancelled(bd)) {
		rc = -ECANCELED;
	} else {
		begin_locked(bd);
		bd->state = BUILD_PREPARING;
		pthread_cond_broadcast(&b->changed); /* it may have been another's turn to look */
	}
	pthread_mutex_unlock(&b->lock);
	return rc;
}

void build_turn_lend(struct build *bd)
{
	struct builds *b = bd->owner;

	pthread_mutex_lock(&b->lock);
	build_turn_end_locked(bd);
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

bool build_turn_try(struct build *bd)
{
	struct builds *b = bd->owner;
	bool has;

	pthread_mutex_lock(&b->lock);
	if (!bd->has_turn && b->n_running < b->opt.max_concurrent)
		begin_locked(bd);
	has = bd->has_turn;
	pthread_mutex_unlock(&b->lock);
	return has;
}

int build_turn_back(struct build *bd)
{
	struct builds *b = bd->owner;
	int rc = 0;

	pthread_mutex_lock(&b->lock);
	while (!bd->has_turn && b->n_running >= b->opt.max_concurrent && !build_is_cancelled(bd))
		pthread_cond_wait(&b->changed, &b->lock);
	if (build_is_cancelled(bd))
		rc = -ECANCELED;
	else if (!bd->has_turn)
		begin_locked(bd);
	pthread_mutex_unlock(&b->lock);
	return rc;
}

void builds_count(struct builds *b, size_t *queued, size_t *running)
{
	const struct build *bd;

	*queued = *running = 0;
	pthread_mutex_lock(&b->lock);
	LIST_FOREACH(bd, &b->active, link)
	*(bd->has_turn ? running : queued) += 1;
	pthread_mutex_unlock(&b->lock);
}
