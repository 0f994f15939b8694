/*
 * Requests that wait for the far source.
 *
 * 1. A view's operation runs under its locks. What the database does not have is noted
 *    (store/chunk/want.h; view_lock marks the thread), and it returns -EINPROGRESS.
 * 2. ops_reply_err parks a copy of the request, and the serving thread goes on.
 * 3. A thread of this pool fetches what was noted into the database, without any lock. What
 *    daemons may have died of (suspects.h) it fetches for one request at a time.
 * 4. It runs the request again from its start. That may want more, and is parked again.
 *
 * Nothing is pinned meanwhile: a run looks at the layers as they are then, so it never follows a
 * base that was exchanged. Whoever finds a cached chunk or node pays nothing for all of this.
 * Threads that wait in the middle of an operation would be no simpler: they would hold its locks,
 * or every operation would need places where it can let go of them and look again.
 *
 *   - An operation changes nothing before its last read. upper_tx_commit says that it has, and to
 *     note a want after that fails an assertion. A write may: it puts the same bytes in the same
 *     place again.
 *   - A run that wants something is never answered with success; asserted where replies are
 *     written. A listing with attributes ends before the first name that is far away, and is
 *     parked only if that is the first one.
 *   - What the source fails with becomes the request's failure. The next request asks again. One
 *     for which content is fetched and gone again, eight times, gets EIO.
 *   - An interrupt ends a request with EINTR. Who waits for a page can be killed, and gets none.
 * For asynchronous direct requests the kernel sends no interrupt and waits until they are answered:
 *     a mount of a store that knows a remote does not agree on them (session_wire.c).
 *   - A drain waits for parked writes, so a flush before a checkpoint has what was written.
 */
#include "fs/fuse/session_internal.h"

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/log.h"

struct parked {
	TAILQ_ENTRY(parked) link; /* in the queue, or a worker's list; guarded by the lock */
	struct session *session;  /* guarded by the lock; NULL: to be dropped */
	struct store *store;
	unsigned again; /* runs that found gone what was fetched */
	bool partial;	/* a write that has begun */
	bool is_write;
	size_t n_wants;
	struct want wants[WANTS_MAX];
	size_t len;
	uint8_t request[];
};

/* What this thread runs again; NULL: nothing, or it is parked again and others have it. */
static _Thread_local struct parked *running;

void parked_init(struct parked_pool *p, void (*run)(struct session *s, void *request, size_t n))
{
	memset(p, 0, sizeof(*p));
	p->run = run;
	TAILQ_INIT(&p->queue);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->cond, NULL);
}

static uint64_t unique_of(const struct parked *q)
{
	return ((const struct fuse_in_header *)(const void *)q->request)->unique;
}

/* q is waited for no longer. lock held, and its session lives. */
static void uncount_locked(struct parked *q)
{
	struct parked_session *ps = &q->session->parked;

	ps->n--;
	ps->bytes -= q->len;
	ps->writes -= q->is_write;
	q->session = NULL;
}

/* ---- taking ---- */

static unsigned threads_of_locked(const struct parked_pool *p, const struct session *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->n_started; i++)
		n += p->workers[i].serving == s;
	return n;
}

/* The session that has waited longest and may have another thread; NULL: none. */
static struct session *next_locked(struct parked_pool *p)
{
	const struct session *full = NULL;
	struct parked *q;

	TAILQ_FOREACH(q, &p->queue, link)
	{
		if (q->session == full)
			continue;
		if (threads_of_locked(p, q->session) < PARKED_THREADS - p->busy)
			return q->session;
		full = q->session;
	}
	return NULL;
}

static bool was_resent(const struct parked *q)
{
	return ((const struct fuse_in_header *)(const void *)q->request)->unique & SESSION_RESENT;
}

/* Move what is queued of s to the worker, as much as one call fetches. */
static void take_locked(struct parked_worker *w, struct session *s)
{
	struct parked_pool *p = w->owner;
	struct parked *q, *next;
	size_t wants = 0;

	w->serving = s;
	w->suspects = s->pool->suspects;
	snprintf(w->connection, sizeof(w->connection), "%s", s->kept_as ? s->kept_as : "");
	p->busy++;
	for (q = TAILQ_FIRST(&p->queue); q; q = next) {
		next = TAILQ_NEXT(q, link);
		if (q->session != s)
			continue;
		wants += q->n_wants;
		const struct parked *first = TAILQ_FIRST(&w->fetching);

		if (first && (wants > WANTS_MAX || was_resent(q) || was_resent(first)))
			break;
		TAILQ_REMOVE(&p->queue, q, link);
		TAILQ_INSERT_TAIL(&w->fetching, q, link);
	}
}

/* ---- fetching and running again ---- */

/* It is alone: daemons have died of it. */
static void fail_all(const struct parked_worker *w, struct want *wants, size_t n)
{
	log_error("mount %s: a request is answered with EIO: three daemons have died when they had "
		  "begun to fetch for it",
		  w->connection);
	for (size_t i = 0; i < n; i++)
		wants[i].result = -EIO;
}

/* Only the worker takes requests out of its list, so it may go through it without the lock. */
static void fetch(struct parked_worker *w)
{
	const struct parked *first = TAILQ_FIRST(&w->fetching);
	struct want wants[WANTS_MAX];
	struct parked *q;
	size_t n = 0;

	TAILQ_FOREACH(q, &w->fetching, link)
	for (size_t i = 0; i < q->n_wants; i++)
		wants[n++] = q->wants[i];
	/* Of several that are new the first is as good as any: they come again one at a time. */
	if (suspects_begin_fetch(w->suspects, w->connection[0] ? w->connection : NULL,
				 unique_of(first) & ~SESSION_RESENT, was_resent(first)))
		store_fetch(first->store, wants, n);
	else
		fail_all(w, wants, n);
	suspects_defer(w->suspects); /* it is run again */
	suspects_end(w->suspects);
	n = 0;
	TAILQ_FOREACH(q, &w->fetching, link)
	for (size_t i = 0; i < q->n_wants; i++)
		q->wants[i] = wants[n++];
}

/* q is not in a list; the session is used. */
static void run_again(struct parked_pool *p, struct parked *q)
{
	struct session *s = q->session;
	struct want answers[WANTS_MAX];

	memcpy(answers, q->wants, q->n_wants * sizeof(*answers));
	running = q;
	want_begin(answers, q->n_wants);
	p->run(s, q->request, q->len);
	want_begin(NULL, 0);
	if (running) {
		running = NULL;
		pthread_mutex_lock(&p->lock);
		uncount_locked(q);
		pthread_mutex_unlock(&p->lock);
		free(q);
	}
	session_release(s);
}

/* Run what was fetched and is still wanted; lock held, but while a request runs. */
static void run_list_locked(struct parked_worker *w)
{
	struct parked_pool *p = w->owner;
	struct parked *q;

	while ((q = TAILQ_FIRST(&w->fetching))) {
		TAILQ_REMOVE(&w->fetching, q, link);
		if (q->session && session_ended(q->session))
			uncount_locked(q);
		if (!q->session) {
			free(q);
			continue;
		}
		session_use(q->session);
		pthread_mutex_unlock(&p->lock);
		run_again(p, q);
		pthread_mutex_lock(&p->lock);
	}
	w->serving = NULL;
	p->busy--;
	pthread_cond_signal(&p->cond); /* its session may have another thread now */
}

static void *thread_main(void *arg)
{
	struct parked_worker *w = arg;
	struct parked_pool *p = w->owner;

	pthread_setname_np(pthread_self(), "varve-parked");
	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		struct session *s = next_locked(p);

		if (!s) {
			pthread_cond_wait(&p->cond, &p->lock);
			continue;
		}
		take_locked(w, s);
		pthread_mutex_unlock(&p->lock);
		fetch(w);
		pthread_mutex_lock(&p->lock);
		run_list_locked(w);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void parked_fini(struct parked_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_started; i++)
		pthread_join(p->workers[i].thread, NULL);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
}

/* ---- parking ---- */

/* A thread more, if all that have started are busy. False: there is none at all. */
static bool start_locked(struct parked_pool *p)
{
	struct parked_worker *w = &p->workers[p->n_started];

	if (p->n_started > p->busy || p->n_started == PARKED_THREADS)
		return true;
	w->owner = p;
	w->serving = NULL;
	TAILQ_INIT(&w->fetching);
	if (pthread_create(&w->thread, NULL, thread_main, w) == 0)
		p->n_started++;
	return p->n_started > 0;
}

static bool was_interrupted_locked(const struct parked_session *ps, uint64_t unique)
{
	for (unsigned i = 0; i < PARKED_INTERRUPTS; i++)
		if (ps->interrupted[i] == unique)
			return true;
	return false;
}

/* lock held. 0, or what to answer; -ECANCELED: nobody waits for an answer. */
static int admit_locked(struct session *s, const struct parked *q)
{
	const struct parked_session *ps = &s->parked;

	if (session_ended(s))
		return -ECANCELED;
	assert(q->n_wants > 0);
	if (!q->partial && was_interrupted_locked(ps, unique_of(q)))
		return -EINTR;
	if (q->again > PARKED_AGAIN_MAX)
		return -EIO;
	if (!running && (ps->n >= PARKED_MAX || ps->bytes + q->len > PARKED_BYTES))
		return -ENOMEM;
	return start_locked(&s->pool->parked) ? 0 : -ENOMEM;
}

static void queue_locked(struct session *s, struct parked *q)
{
	struct parked_pool *p = &s->pool->parked;

	if (q == running) { /* counted, and its session is set */
		running = NULL;
	} else {
		q->session = s;
		s->parked.n++;
		s->parked.bytes += q->len;
		s->parked.writes += q->is_write;
	}
	TAILQ_INSERT_TAIL(&p->queue, q, link);
	pthread_cond_signal(&p->cond);
}

bool parked_add(struct session *s, const void *request, size_t n, int *error)
{
	struct parked_pool *p = &s->pool->parked;
	struct parked *q = running ? running : calloc(1, sizeof(*q) + n);

	*error = -ENOMEM;
	if (!q)
		return false;
	if (q != running) {
		memcpy(q->request, request, n);
		q->len = n;
		q->store = session_view(s)->store;
		q->is_write = request_is_write(request, n);
	}
	const bool anew = q != running;

	q->again += want_here.again;
	q->partial |= want_here.partial;
	q->n_wants = want_count();
	memcpy(q->wants, want_here.list, q->n_wants * sizeof(*q->wants));
	pthread_mutex_lock(&p->lock);
	*error = admit_locked(s, q);
	if (!*error)
		queue_locked(s, q);
	pthread_mutex_unlock(&p->lock);
	if (!*error)
		suspects_defer(s->pool->suspects);
	else if (anew)
		free(q);
	return !*error || *error == -ECANCELED;
}

/* ---- interrupts, and the end ---- */

/* The parked request of that number which may be given up; NULL. */
static struct parked *find_locked(struct parked_list *l, const struct session *s, uint64_t unique)
{
	struct parked *q;

	TAILQ_FOREACH(q, l, link)
	if (q->session == s && unique_of(q) == unique)
		return q;
	return NULL;
}

/* Of those being fetched. */
static struct parked *find_fetching_locked(struct parked_pool *p, const struct session *s,
					   uint64_t unique)
{
	struct parked *q = NULL;

	for (unsigned i = 0; i < p->n_started && !q; i++)
		q = find_locked(&p->workers[i].fetching, s, unique);
	return q;
}

bool parked_interrupt(struct session *s, uint64_t unique)
{
	struct parked_pool *p = &s->pool->parked;
	struct parked_session *ps = &s->parked;
	bool found = false;

	pthread_mutex_lock(&p->lock);
	struct parked *queued = find_locked(&p->queue, s, unique);
	struct parked *q = queued ? queued : find_fetching_locked(p, s, unique);

	if (q && !q->partial) {
		found = true;
		uncount_locked(q);
		if (queued) {
			TAILQ_REMOVE(&p->queue, q, link);
			free(q);
		}
	} else if (!q) {
		ps->interrupted[ps->n_interrupted++ % PARKED_INTERRUPTS] = unique;
	}
	pthread_mutex_unlock(&p->lock);
	return found;
}

static void drop_locked(struct parked_list *l, const struct session *s, bool queued)
{
	struct parked *q, *next;

	for (q = TAILQ_FIRST(l); q; q = next) {
		next = TAILQ_NEXT(q, link);
		if (q->session != s)
			continue;
		uncount_locked(q);
		if (queued) {
			TAILQ_REMOVE(l, q, link);
			free(q);
		}
	}
}

void parked_end(struct session *s)
{
	struct parked_pool *p = &s->pool->parked;

	pthread_mutex_lock(&p->lock);
	drop_locked(&p->queue, s, true);
	for (unsigned i = 0; i < p->n_started; i++) {
		drop_locked(&p->workers[i].fetching, s, false);
		if (p->workers[i].serving == s)
			p->workers[i].serving = NULL;
	}
	pthread_mutex_unlock(&p->lock);
}

unsigned parked_writes(struct session *s)
{
	unsigned n;

	pthread_mutex_lock(&s->pool->parked.lock);
	n = s->parked.writes;
	pthread_mutex_unlock(&s->pool->parked.lock);
	return n;
}
