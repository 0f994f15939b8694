/*
 * One thread ends uses and writes what they leave. A use belongs to the list while it is under way;
 * then to the thread, and last to whoever finds it ended with no request of its own under way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/layout/vpk.h"
#include "store/lazy/far_frame.h"
#include "store/lazy/prefetch_make_internal.h"

#define WAIT_MS 5000	      /* for a hot object, from the use's begin */
#define UNREAD_MS (60 * 1000) /* how long a use waits for its first read */
#define WORTH_CHUNKS 8u	      /* fewer misses are left as they are */

static struct use *use_new(struct prefetch *p, const struct share_record *rec)
{
	struct use *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->p = p;
	u->root = rec->root;
	u->size_bytes = rec->snapshot.size_bytes;
	u->begun_ms = monotonic_ms();
	u->parent = rec->snapshot.parent;
	share_key_of_id(SHARE_KEY_HOT, &rec->id, u->key);
	share_key_of_id(SHARE_KEY_HOT, &rec->id, u->from);
	digest_set_init(&u->seen, (size_t)PREFETCH_TRACED * 64);
	if (share_packs_add_all(&u->packs, &rec->packs) < 0) {
		use_free(u);
		return NULL;
	}
	return u;
}

/* Whether the use is in the list. */
static bool enlist(struct prefetch *p, struct use *u)
{
	bool ok;

	pthread_mutex_lock(&p->lock);
	ok = !p->stopped && p->n_uses < PREFETCH_USES;
	if (ok) {
		TAILQ_INSERT_HEAD(&p->uses, u, link);
		p->n_uses++;
		u->pending = 1;
		pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->lock);
	return ok;
}

void prefetch_begin(struct prefetch *p, struct remote *r, const struct share_record *rec)
{
	struct use *u = p ? use_new(p, rec) : NULL;

	if (!u)
		return;
	snprintf(u->uuid, sizeof(u->uuid), "%s", remote_uuid(r));
	if (remotes_get(p->rs, remote_name(r), &u->remote, NULL) < 0) {
		use_free(u);
		return;
	}
	u->os = remote_objects(u->remote);
	/* The name may have been given to another bucket. */
	if (strcmp(remote_uuid(u->remote), u->uuid) == 0 && enlist(p, u)) {
		use_fetch_object(u);
		return;
	}
	remotes_release(p->rs, u->remote);
	use_free(u);
}

static bool concerns(const struct use *u, const struct prefetch_chunk *c)
{
	return strcmp(u->uuid, c->uuid) == 0 && share_packs_has(&u->packs, c->pack);
}

static void release_piece(void *piece)
{
	piece_unref(piece);
}

/* With the lock held: a chunk's frame, of the use's segments. False: it has none such. */
static bool lend(const struct use *u, const struct share_loc *at, struct source_frame *out)
{
	for (unsigned i = 0; i < u->header.n; i++) {
		const struct hot_segment *h = &u->header.segments[i];

		if (at->offset < h->offset || at->offset - h->offset >= h->len)
			continue;
		*out = (struct source_frame){ .data = segment_bytes(u, i) +
						      (at->offset - h->offset),
					      .len = at->len,
					      .pin = piece_ref(u->segments[i].piece),
					      .release = release_piece };
		return true;
	}
	return false;
}

static void note(struct use *u, const struct digest *d, size_t len, bool hit)
{
	if (u->order.len >= PREFETCH_TRACED * sizeof(*d) || !digest_set_add(&u->seen, d) ||
	    buf_append(&u->order, d, sizeof(*d)) < 0)
		return;
	if (!u->first_ms) {
		u->first_ms = monotonic_ms();
		pthread_cond_broadcast(&u->p->changed);
	}
	u->missed += !hit;
	*(hit ? &u->hit_bytes : &u->missed_bytes) += len;
}

/* With the lock held, which it may let go if it may wait. 0 and a frame, not checked yet. */
static int find_or_wait(struct prefetch *p, const struct prefetch_chunk *c, bool may_wait,
			struct source_frame *out)
{
	for (;;) {
		int64_t now = may_wait ? monotonic_ms() : INT64_MAX, until = 0;
		struct share_loc at;
		struct use *u;

		if (p->stopped)
			return -ECANCELED;
		TAILQ_FOREACH(u, &p->uses, link)
		{
			if (!concerns(u, c))
				continue;
			if (loc_map_get(&u->frames, c->digest, &at) && lend(u, &at, out))
				return 0;
			if (u->pending)
				until = MAX(until, u->begun_ms + WAIT_MS);
		}
		if (until <= now)
			return -ENODATA;
		const struct timespec t = monotonic_after_ms(until - now);

		pthread_cond_timedwait(&p->changed, &p->lock, &t);
	}
}

static void note_read(struct prefetch *p, const struct prefetch_chunk *c, size_t len, bool hit)
{
	bool counted = false;
	struct use *u;

	pthread_mutex_lock(&p->lock);
	TAILQ_FOREACH(u, &p->uses, link)
	if (concerns(u, c)) {
		note(u, c->digest, len, hit);
		counted = true;
	}
	if (counted)
		*(hit ? &p->stats.hits : &p->stats.misses) += 1;
	pthread_mutex_unlock(&p->lock);
}

static int get(struct prefetch *p, const struct prefetch_chunk *c, bool may_wait,
	       struct source_frame *out)
{
	struct source_frame f = { 0 };
	int rc;

	pthread_mutex_lock(&p->lock);
	rc = find_or_wait(p, c, may_wait, &f);
	pthread_mutex_unlock(&p->lock);
	if (rc == 0)
		rc = far_frame_check(&f, c->digest);
	if (rc < 0)
		return rc == -EBADMSG ? -ENODATA : rc;
	*out = f;
	note_read(p, c, f.len, true);
	return 0;
}

int prefetch_get(struct prefetch *p, const struct prefetch_chunk *c, struct source_frame *out)
{
	return get(p, c, true, out);
}

int prefetch_ready(struct prefetch *p, const struct prefetch_chunk *c, struct source_frame *out)
{
	return get(p, c, false, out);
}

void prefetch_missed(struct prefetch *p, const struct prefetch_chunk *c, size_t len)
{
	note_read(p, c, len, false);
}

/* ---- what a use leaves ---- */

/* A quarter of what was read had to be fetched chunk by chunk. */
static bool is_worth_it(const struct use *u)
{
	return u->missed >= WORTH_CHUNKS && u->missed_bytes * 4 > u->missed_bytes + u->hit_bytes &&
	       remote_writable(u->remote, NULL) == 0;
}

/* From the bucket's thread. */
static void put_done(struct object_request *rq)
{
	struct use *u = rq->arg;
	struct prefetch *p = u->p;

	if (rq->result < 0 && rq->result != -ECANCELED)
		log_warn("%s is not written: %s", u->key, error_text(&rq->err));
	pthread_mutex_lock(&p->lock);
	p->stats.written += rq->result == 0;
	u->pending--;
	pthread_cond_broadcast(&p->changed);
	use_free_if_over(u);
	pthread_mutex_unlock(&p->lock);
}

/* With the lock held, which it lets go meanwhile. The use has ended. */
static void leave_object(struct prefetch *p, struct use *u)
{
	int rc;

	pthread_mutex_unlock(&p->lock);
	rc = prefetch_make(u, &u->body);
	pthread_mutex_lock(&p->lock);
	if (rc < 0 || p->stopped)
		return;
	u->pending++;
	pthread_mutex_unlock(&p->lock);
	u->put = (struct object_request){ .op = OBJECT_PUT,
					  .priority = OBJECT_BACKGROUND,
					  .key = u->key,
					  .body = u->body.data,
					  .len = u->body.len,
					  .done = put_done,
					  .arg = u };
	object_submit(u->os, &u->put);
	pthread_mutex_lock(&p->lock);
}

static int64_t end_of(const struct use *u)
{
	if (u->cut_short)
		return 0;
	return u->first_ms ? u->first_ms + u->p->trace_ms : u->begun_ms + UNREAD_MS;
}

/* With the lock held: a use that is over, or until when there is none; 0: for ever. */
static struct use *find_over(struct prefetch *p, int64_t *out_ms)
{
	int64_t now = monotonic_ms();
	struct use *u;

	*out_ms = 0;
	TAILQ_FOREACH(u, &p->uses, link)
	{
		if (end_of(u) <= now)
			return u;
		*out_ms = *out_ms ? MIN(*out_ms, end_of(u)) : end_of(u);
	}
	return NULL;
}

/* With the lock held. Once it stops, nothing is waited for. */
static void wait_requests(struct prefetch *p, const struct use *u)
{
	while (u->pending && !p->stopped)
		pthread_cond_wait(&p->changed, &p->lock);
}

/* With the lock held, which it lets go meanwhile. */
static void end_use(struct prefetch *p, struct use *u)
{
	TAILQ_REMOVE(&p->uses, u, link);
	u->ended = true;
	wait_requests(p, u);
	if (!p->stopped && is_worth_it(u)) {
		leave_object(p, u);
		wait_requests(p, u);
	}
	pthread_mutex_unlock(&p->lock);
	remotes_release(p->rs, u->remote);
	pthread_mutex_lock(&p->lock);
	u->remote = NULL;
	p->stats.uses++;
	use_free_if_over(u);
}

static void *run(void *arg)
{
	struct prefetch *p = arg;

	pthread_mutex_lock(&p->lock);
	while (!p->stopped) {
		int64_t until;
		struct use *u = find_over(p, &until);

		if (u) {
			end_use(p, u);
		} else if (until) {
			const struct timespec t = monotonic_after_ms(until - monotonic_ms());

			pthread_cond_timedwait(&p->changed, &p->lock, &t);
		} else {
			pthread_cond_wait(&p->changed, &p->lock);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int prefetch_new(struct store *s, struct remotes *rs, unsigned trace_ms, struct prefetch **out)
{
	struct prefetch *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return -ENOMEM;
	p->s = s;
	p->rs = rs;
	p->trace_ms = trace_ms;
	TAILQ_INIT(&p->uses);
	pthread_mutex_init(&p->lock, NULL);
	cond_init_monotonic(&p->changed);
	rc = pthread_create(&p->thread, NULL, run, p);
	if (rc) {
		pthread_cond_destroy(&p->changed);
		pthread_mutex_destroy(&p->lock);
		free(p);
		return -rc;
	}
	pthread_setname_np(p->thread, "varve-prefetch");
	*out = p;
	return 0;
}

void prefetch_stop(struct prefetch *p)
{
	struct use *u;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopped = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	pthread_mutex_lock(&p->lock);
	while ((u = TAILQ_FIRST(&p->uses)))
		end_use(p, u);
	pthread_mutex_unlock(&p->lock);
}

void prefetch_end(struct prefetch *p)
{
	struct use *u;

	pthread_mutex_lock(&p->lock);
	TAILQ_FOREACH(u, &p->uses, link)
	u->cut_short = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

void prefetch_free(struct prefetch *p)
{
	if (!p)
		return;
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void prefetch_stats(struct prefetch *p, struct prefetch_stats *out)
{
	pthread_mutex_lock(&p->lock);
	*out = p->stats;
	pthread_mutex_unlock(&p->lock);
}
