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
#include "store/lazy/prefetch_make_internal.h"

#define WAIT_MS 5000	      /* for a hot object, from the use's begin */
#define UNREAD_MS (60 * 1000) /* how long a use waits for its first read */
#define WORTH_CHUNKS 8u	      /* fewer misses are left as they are */

static void use_free(struct use *u)
{
	for (unsigned i = 0; i < HOT_SEGMENTS_MAX; i++)
		object_request_fini(&u->segments[i].rq);
	object_request_fini(&u->own);
	object_request_fini(&u->put);
	buf_fini(&u->body);
	share_packs_fini(&u->packs);
	place_map_fini(&u->frames);
	digest_set_fini(&u->seen);
	buf_fini(&u->order);
	free(u);
}

/* With the lock held. */
static void free_if_over(struct use *u)
{
	if (!u->ended || u->pending || u->remote)
		return;
	u->p->n_uses--;
	use_free(u);
}

/* ---- the hot object ---- */

static void segment_came(struct use *u, unsigned i);

/* From the bucket's thread. */
static void segment_done(struct object_request *rq)
{
	struct segment *s = rq->arg;

	segment_came(s->use, (unsigned)(s - s->use->segments));
}

static void submit_segment(struct use *u, unsigned i, uint64_t offset, size_t len)
{
	struct segment *s = &u->segments[i];

	s->use = u;
	s->rq = (struct object_request){ .op = OBJECT_GET,
					 .priority = i ? OBJECT_READAHEAD : OBJECT_DEMAND,
					 .immutable = !s->past,
					 .key = u->from,
					 .offset = offset,
					 .len = len,
					 .done = segment_done,
					 .arg = s };
	object_submit(u->os, &s->rq);
}

static bool header_is_good(struct use *u)
{
	const struct object_request *rq = &u->segments[0].rq;

	return rq->result == 0 &&
	       hot_header_parse(rq->data.data, rq->data.len, &u->header, NULL) == 0 &&
	       (strcmp(u->from, u->key) != 0 || digest_equal(&u->header.root, &u->root));
}

/* With the lock held. Out of memory: some are not found, and fetched alone. */
static void index_segment(struct use *u, unsigned i, const uint8_t *bytes)
{
	const struct hot_segment *h = &u->header.segments[i];
	struct hot_item item;
	size_t pos = 0;

	while (hot_next(bytes, h->len, &pos, &item)) {
		const struct share_place at = {
			.offset = (uint32_t)(h->offset + (size_t)(item.bytes - bytes)),
			.len = (uint32_t)item.len,
		};

		if (item.kind == HOT_CHUNK && place_map_add(&u->frames, &item.digest, &at) < 0)
			return;
	}
	u->segments[i].good = true;
}

/* NULL: it is not what the header says. */
static const uint8_t *checked_bytes(const struct use *u, unsigned i)
{
	const struct hot_segment *h = &u->header.segments[i];
	const uint8_t *bytes = i < u->header.n ? segment_bytes(u, i) : NULL;

	return bytes && hot_segment_check(h, bytes, h->len, NULL) == 0 ? bytes : NULL;
}

/* What came is wrong: a cache may have spoilt it, or have a part of another version. */
static bool fetch_past_cache(struct use *u, unsigned i)
{
	struct segment *s = &u->segments[i];
	uint64_t offset = s->rq.offset;
	size_t len = s->rq.len;

	if (s->past || s->rq.result < 0)
		return false;
	s->past = true;
	object_request_fini(&s->rq);
	submit_segment(u, i, offset, len);
	return true;
}

static void segment_came(struct use *u, unsigned i)
{
	const struct object_request *rq = &u->segments[i].rq;
	struct prefetch *p = u->p;
	const uint8_t *bytes;
	unsigned more = 0;

	if (i == 0 && !header_is_good(u))
		u->header = (struct hot_header){ 0 };
	bytes = checked_bytes(u, i);
	if (!bytes && fetch_past_cache(u, i))
		return;
	pthread_mutex_lock(&p->lock);
	p->stats.bytes += rq->data.len;
	if (bytes)
		index_segment(u, i, bytes);
	if (i == 0 && u->header.n && !u->ended)
		more = u->header.n - 1;
	u->pending += more;
	pthread_mutex_unlock(&p->lock);

	for (unsigned k = 1; k <= more; k++)
		submit_segment(u, k, u->header.segments[k].offset, u->header.segments[k].len);

	pthread_mutex_lock(&p->lock);
	u->pending--;
	pthread_cond_broadcast(&p->changed);
	free_if_over(u);
	pthread_mutex_unlock(&p->lock);
}

/* From the bucket's thread: there is an object of the snapshot's own, or one looks at its parent's.
 */
static void own_done(struct object_request *rq)
{
	struct use *u = rq->arg;

	if (rq->result == -ENOENT && !share_id_is_none(&u->parent)) {
		share_key_of_id(SHARE_KEY_HOT, &u->parent, u->from);
		submit_segment(u, 0, 0, HOT_SEGMENT_MAX);
		return;
	}
	u->segments[0].rq = *rq;
	*rq = (struct object_request){ 0 };
	segment_came(u, 0);
}

static void submit_own(struct use *u)
{
	u->own = (struct object_request){ .op = OBJECT_GET,
					  .priority = OBJECT_DEMAND,
					  .immutable = true,
					  .key = u->from,
					  .len = HOT_SEGMENT_MAX,
					  .done = own_done,
					  .arg = u };
	object_submit(u->os, &u->own);
}

/* ---- uses ---- */

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
		submit_own(u);
		return;
	}
	remotes_release(p->rs, u->remote);
	use_free(u);
}

static bool concerns(const struct use *u, const struct prefetch_chunk *c)
{
	return strcmp(u->uuid, c->uuid) == 0 && share_packs_has(&u->packs, c->pack);
}

/* With the lock held: a copy of a chunk's frame, of the use's segments. */
static uint8_t *copy_of(const struct use *u, const struct share_place *at)
{
	uint8_t *copy = malloc(at->len);

	for (unsigned i = 0; copy && i < u->header.n; i++) {
		const struct hot_segment *h = &u->header.segments[i];

		if (at->offset >= h->offset && at->offset - h->offset < h->len) {
			memcpy(copy, segment_bytes(u, i) + (at->offset - h->offset), at->len);
			return copy;
		}
	}
	free(copy);
	return NULL;
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

/* With the lock held, which it may let go. 0 and a copy, not checked yet. */
static int find_or_wait(struct prefetch *p, const struct prefetch_chunk *c, uint8_t **out,
			size_t *out_len)
{
	for (;;) {
		int64_t now = monotonic_ms(), until = 0;
		struct share_place at;
		struct use *u;

		if (p->stopped)
			return -ECANCELED;
		TAILQ_FOREACH(u, &p->uses, link)
		{
			if (!concerns(u, c))
				continue;
			if (place_map_get(&u->frames, c->digest, &at)) {
				*out = copy_of(u, &at);
				*out_len = at.len;
				return *out ? 0 : -ENOMEM;
			}
			if (u->pending)
				until = MAX(until, u->begun_ms + WAIT_MS);
		}
		if (until <= now)
			return -ENODATA;
		const struct timespec t = monotonic_after_ms(until - now);

		pthread_cond_timedwait(&p->changed, &p->lock, &t);
	}
}

static void frame_free(void *pin)
{
	free(pin);
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

int prefetch_get(struct prefetch *p, const struct prefetch_chunk *c, struct source_frame *out)
{
	uint8_t *frame = NULL;
	size_t len = 0;
	int rc;

	pthread_mutex_lock(&p->lock);
	rc = find_or_wait(p, c, &frame, &len);
	pthread_mutex_unlock(&p->lock);
	if (rc < 0)
		return rc;
	rc = vpk_chunk_check(frame, len, c->digest, NULL);
	if (rc < 0) {
		free(frame);
		return rc == -EBADMSG ? -ENODATA : rc;
	}
	*out = (struct source_frame){ frame, len, frame, frame_free };
	note_read(p, c, len, true);
	return 0;
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
	free_if_over(u);
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
	free_if_over(u);
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
