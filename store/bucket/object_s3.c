/*
 * The thread and its jobs.
 *
 * A job is in one place at a time: `incoming` (under the lock), a queue by priority, `waiting` (for
 * its next attempt), or under way with one attempt or two. Only submit and close touch `incoming`;
 * all else is the thread's, so nothing but that list is locked, and `done` is called by the thread
 * with no lock held.
 */
#include "store/bucket/object_s3.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "store/base/clock.h"
#include "store/bucket/object_s3_reply_internal.h"
#include "store/bucket/object_s3_send_internal.h"

#define SWEEP_MS 100 /* between looks at all deadlines */
#define IDLE_MS 60000
#define HEDGE_LEN_MAX (256u << 10) /* reads up to this are small */
#define NONSENSE_TRIES 4u	   /* for replies that make no sense */
#define RETRY_LOOK_MS 250	   /* between looks whether the budget has a retry */
#define EXPIRED_MS 1000		   /* least wait for later credentials */

static void add(_Atomic uint64_t *count, uint64_t n)
{
	atomic_fetch_add_explicit(count, n, memory_order_relaxed);
}

/* --- jobs and where they are --- */

static unsigned queue_of(const struct s3_job *j)
{
	return MIN((unsigned)j->r->priority, S3_PRIORITIES - 1);
}

static void enqueue(struct s3 *s, struct s3_job *j)
{
	unsigned p = queue_of(j);

	j->next = NULL;
	*s->queue[p].end = j;
	s->queue[p].end = &j->next;
}

static struct s3_job *dequeue(struct s3 *s, unsigned p)
{
	struct s3_job *j = s->queue[p].first;

	s->queue[p].first = j->next;
	if (!j->next)
		s->queue[p].end = &s->queue[p].first;
	return j;
}

static void drop_attempt(struct s3 *s, struct s3_attempt *a)
{
	struct s3_attempt **at = &s->in_flight;

	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	s->n_in_flight--;
	a->job->attempts[a->job->attempts[1] == a] = NULL;
	curl_multi_remove_handle(s->multi, a->easy);
	s3_attempt_free(a);
}

static void drop_attempts(struct s3 *s, struct s3_job *j)
{
	for (size_t i = 0; i < 2; i++)
		if (j->attempts[i])
			drop_attempt(s, j->attempts[i]);
}

/* The end of a job that is in no list. Its result is set. */
static void finish(struct s3 *s, struct s3_job *j)
{
	struct object_request *r = j->r;

	drop_attempts(s, j);
	if (r->result < 0)
		r->err = j->last;
	if (r->result < 0 && r->result != -ENOENT && r->result != -EEXIST)
		add(&s->base.failed, 1);
	if (r->op == OBJECT_GET)
		add(&s->base.bytes_in, r->data.len);
	free(j->after);
	buf_fini(&j->body);
	free(j);
	if (r->result == -EACCES)
		s->base.refused = true;
	r->done(r);
}

static void finish_with(struct s3 *s, struct s3_job *j, int result, const char *why)
{
	char name[300];

	s3_job_name(s, j, name, sizeof(name));
	j->r->result = result;
	error_set(&j->last, result, "%s: %s", name, why);
	finish(s, j);
}

/* Its time is up. The last failure tells more than that. */
static void finish_late(struct s3 *s, struct s3_job *j)
{
	int result = -ETIMEDOUT;

	if (j->last.code == -EACCES || j->last.code == -EBADMSG || j->last.code == -ENOMEM)
		result = j->last.code;
	if (!j->last.msg[0]) {
		finish_with(s, j, result, j->tries ? "no answer in time" : "not sent in time");
		return;
	}
	j->r->result = result;
	j->last.code = result;
	if (j->tries > 1)
		error_prefix(&j->last, result, "after %u attempts", j->tries);
	finish(s, j);
}

/* Those who wait for one request have its time counted from when they asked; for those of a crowd,
 * it counts from the first attempt. */
static void begin_clock(const struct s3 *s, struct s3_job *j, int64_t now, bool asked)
{
	if (!j->deadline_ms && (!asked || j->r->priority <= OBJECT_READAHEAD))
		j->deadline_ms = now + (j->r->timeout_ms ? j->r->timeout_ms : s->timeout_ms);
}

static bool is_late(const struct s3_job *j, int64_t now)
{
	return j->deadline_ms && now >= j->deadline_ms;
}

/* --- attempts --- */

static int launch(struct s3 *s, struct s3_job *j, size_t slot, struct error *err)
{
	struct s3_attempt *a;
	int rc = s3_attempt_new(s, j, &a, err);

	if (rc < 0)
		return rc;
	if (curl_multi_add_handle(s->multi, a->easy) != CURLM_OK) {
		s3_attempt_free(a);
		return error_set_errno(err, -ENOMEM, "request");
	}
	a->next = s->in_flight;
	s->in_flight = a;
	s->n_in_flight++;
	j->attempts[slot] = a;
	j->tries++;
	add(&s->base.requests[j->r->op], 1);
	if (a->send_len)
		add(&s->base.bytes_out, a->send_len);
	return 0;
}

static bool is_small_read(const struct s3_job *j)
{
	const struct object_request *r = j->r;
	size_t len = r->len ? r->len : r->max_len;

	return r->op == OBJECT_GET && r->priority <= OBJECT_CONTROL && len && len <= HEDGE_LEN_MAX;
}

/* The next job that may go: the last quarter of the window is for readers. */
static struct s3_job *next_job(struct s3 *s, unsigned window)
{
	unsigned busy = s->n_in_flight;

	for (unsigned p = 0; p < S3_PRIORITIES; p++) {
		unsigned limit = p < OBJECT_PUSH ? window : MAX(window - window / 4, 1u);
		if (s->queue[p].first && busy < limit)
			return dequeue(s, p);
	}
	return NULL;
}

static void put_back(struct s3 *s, struct s3_job *j)
{
	unsigned p = queue_of(j);

	j->next = s->queue[p].first;
	s->queue[p].first = j;
	if (!j->next)
		s->queue[p].end = &j->next;
}

static void start_jobs(struct s3 *s, int64_t now)
{
	struct error err = ERROR_INIT;
	struct s3_job *j;

	while ((j = next_job(s, s3_pace_window(&s->pace, now)))) {
		begin_clock(s, j, now, false);
		int rc = launch(s, j, 0, &err);
		if (rc == -EAGAIN) { /* all wait for credentials */
			put_back(s, j);
			return;
		}
		if (rc < 0)
			finish_with(s, j, rc, error_text(&err));
		else if (is_small_read(j) && j->tries == 1)
			s3_pace_earn_hedge(&s->pace);
	}
}

/* When the attempt is to be asked a second time; INT64_MAX: never. */
static int64_t hedge_at(const struct s3 *s, const struct s3_attempt *a)
{
	if (a->job->hedged || !is_small_read(a->job))
		return INT64_MAX;
	return a->started_us / 1000 + s3_pace_hedge_after_ms(&s->pace);
}

static void start_hedges(struct s3 *s, int64_t now)
{
	for (struct s3_attempt *a = s->in_flight, *next; a; a = next) {
		struct s3_job *j = a->job;

		next = a->next;
		if (hedge_at(s, a) > now)
			continue;
		j->hedged = true;
		if (s->n_in_flight < s->max_in_flight && s3_pace_take_hedge(&s->pace) &&
		    launch(s, j, j->attempts[0] ? 1 : 0, NULL) == 0)
			add(&s->base.hedged, 1);
	}
}

/* --- after an attempt --- */

static void wait_until(struct s3 *s, struct s3_job *j, int64_t due_ms)
{
	j->due_ms = due_ms;
	j->next = s->waiting;
	s->waiting = j;
}

static void retry_later(struct s3 *s, struct s3_job *j, int64_t now, bool throttled,
			unsigned least_ms)
{
	if (j->r->result == -EBADMSG && j->tries >= NONSENSE_TRIES) {
		finish(s, j);
		return;
	}
	add(&s->base.retried, 1);
	j->paid = false;
	j->backoff_ms = s3_pace_backoff(&s->pace, j->backoff_ms, throttled);
	wait_until(s, j, now + MAX(j->backoff_ms, least_ms));
}

/* The credentials were refused. */
static void renew(struct s3 *s, struct s3_job *j, uint64_t keys, bool expired, int64_t now)
{
	bool may_change = s3_cred_refused(s->cred, keys);
	bool again = j->refused_keys == keys;

	j->refused_keys = keys;
	if (!may_change || (again && !expired))
		finish(s, j);
	else if (again)
		retry_later(s, j, now, false, EXPIRED_MS);
	else
		enqueue(s, j);
}

static void settle(struct s3 *s, struct s3_attempt *a, CURLcode rc)
{
	struct s3_job *j = a->job;
	int64_t now = monotonic_ms(), took_us = monotonic_us() - a->started_us;
	int64_t started_ms = a->started_us / 1000;
	uint64_t keys = a->keys;
	enum s3_verdict v = s3_reply_judge(s, a, rc);

	if (v == S3_FINAL && j->r->result == 0) {
		if (is_small_read(j))
			s3_pace_latency(&s->pace, took_us);
		s3_pace_succeeded(&s->pace, j->retries);
	}
	if (v == S3_THROTTLED) {
		add(&s->base.throttled, 1);
		s3_pace_throttled(&s->pace, started_ms, now);
	}
	drop_attempt(s, a);
	/* Of a pair, the other may still succeed. */
	if (v >= S3_RETRY && (j->attempts[0] || j->attempts[1]))
		return;
	drop_attempts(s, j);
	if (v != S3_FINAL && is_late(j, now)) {
		finish_late(s, j);
		return;
	}
	switch (v) {
	case S3_FINAL:
		finish(s, j);
		return;
	case S3_AGAIN:
		enqueue(s, j);
		return;
	case S3_RENEW:
	case S3_EXPIRED:
		renew(s, j, keys, v == S3_EXPIRED, now);
		return;
	default:
		retry_later(s, j, now, v == S3_THROTTLED, 0);
	}
}

static void take_replies(struct s3 *s)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(s->multi, &left))) {
		struct s3_attempt *a = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode rc = m->data.result;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&a);
		settle(s, a, rc);
	}
}

/* --- time --- */

/* Put what is due into its queue, as far as the budget goes; the rest is looked at again soon. */
static void take_due(struct s3 *s, int64_t now)
{
	struct s3_job *list = STEAL(s->waiting), *next;

	for (struct s3_job *j = list; j; j = next) {
		next = j->next;
		if (is_late(j, now)) {
			finish_late(s, j);
		} else if (j->due_ms > now) {
			wait_until(s, j, j->due_ms);
		} else if (s3_pace_take_retry(&s->pace, now)) {
			j->retries++;
			enqueue(s, j);
		} else {
			wait_until(s, j, now + RETRY_LOOK_MS);
		}
	}
}

static void end_late_queued(struct s3 *s, int64_t now)
{
	for (unsigned p = 0; p < S3_PRIORITIES; p++) {
		struct s3_job *list = s->queue[p].first, *next;

		s->queue[p].first = NULL;
		s->queue[p].end = &s->queue[p].first;
		for (struct s3_job *j = list; j; j = next) {
			next = j->next;
			if (is_late(j, now))
				finish_late(s, j);
			else
				enqueue(s, j);
		}
	}
}

static void end_late_in_flight(struct s3 *s, int64_t now)
{
	for (struct s3_attempt *a = s->in_flight; a;) {
		struct s3_job *j = a->job;

		if (!is_late(j, now)) {
			a = a->next;
			continue;
		}
		drop_attempts(s, j);
		finish_late(s, j);
		a = s->in_flight; /* one or two are gone from the list */
	}
}

static void sweep(struct s3 *s, int64_t now)
{
	if (now - s->swept_ms < SWEEP_MS)
		return;
	s->swept_ms = now;
	end_late_queued(s, now);
	end_late_in_flight(s, now);
}

/* Milliseconds until there is something to do but for what the sockets tell. */
static int until_next(const struct s3 *s, int64_t now)
{
	int64_t at = now + IDLE_MS;
	bool busy = s->n_in_flight > 0;

	for (const struct s3_job *j = s->waiting; j; j = j->next)
		at = MIN(at, j->due_ms);
	for (const struct s3_attempt *a = s->in_flight; a; a = a->next)
		at = MIN(at, hedge_at(s, a));
	for (unsigned p = 0; p < S3_PRIORITIES; p++)
		busy = busy || s->queue[p].first;
	if (busy || s->waiting)
		at = MIN(at, now + SWEEP_MS);
	return (int)MAX(at - now, (int64_t)0);
}

/* --- the thread --- */

static bool take_incoming(struct s3 *s)
{
	pthread_mutex_lock(&s->lock);
	struct s3_job *list = STEAL(s->incoming), *next;
	bool closing = s->closing;

	s->incoming_end = &s->incoming;
	pthread_mutex_unlock(&s->lock);
	int64_t now = monotonic_ms();
	for (struct s3_job *j = list; j; j = next) {
		next = j->next;
		begin_clock(s, j, now, true);
		enqueue(s, j);
	}
	return !closing;
}

static void cancel_all(struct s3 *s)
{
	static const char why[] = "the remote is being closed";

	while (s->in_flight) {
		struct s3_job *j = s->in_flight->job;
		drop_attempts(s, j);
		finish_with(s, j, -ECANCELED, why);
	}
	while (s->waiting) {
		struct s3_job *j = s->waiting;
		s->waiting = j->next;
		finish_with(s, j, -ECANCELED, why);
	}
	for (unsigned p = 0; p < S3_PRIORITIES; p++)
		while (s->queue[p].first)
			finish_with(s, dequeue(s, p), -ECANCELED, why);
}

static void *serve(void *arg)
{
	struct s3 *s = arg;

	pthread_setname_np(pthread_self(), "s3");
	while (take_incoming(s)) {
		int running, now_ms;
		int64_t now = monotonic_ms();

		if (atomic_load(&s->base.stopped))
			cancel_all(s);
		take_due(s, now);
		sweep(s, now);
		start_hedges(s, now);
		start_jobs(s, now);
		curl_multi_perform(s->multi, &running);
		take_replies(s);
		now_ms = until_next(s, monotonic_ms());
		curl_multi_poll(s->multi, NULL, 0, now_ms, NULL);
	}
	cancel_all(s);
	return NULL;
}

static void s3_submit(struct object_store *os, struct object_request *r)
{
	struct s3 *s = CONTAINER_OF(os, struct s3, base);
	struct s3_job *j = calloc(1, sizeof(*j));
	struct digest d;

	bool empty = r->op == OBJECT_DELETE && r->n_names == 0;
	int rc = j ? 0 : -ENOMEM;
	if (rc == 0 && (r->op == OBJECT_PUT || r->op == OBJECT_PUT_ONCE))
		rc = hash_bytes(r->body, r->len, &d);
	if (rc < 0 || empty) {
		free(j);
		r->result = rc < 0 ? error_set_errno(&r->err, rc, "request") : 0;
		r->done(r);
		return;
	}
	if (r->op == OBJECT_PUT || r->op == OBJECT_PUT_ONCE)
		digest_to_hex(&d, j->payload);
	j->r = r;
	pthread_mutex_lock(&s->lock);
	*s->incoming_end = j;
	s->incoming_end = &j->next;
	pthread_mutex_unlock(&s->lock);
	curl_multi_wakeup(s->multi);
}

static void wake_up(void *arg)
{
	struct s3 *s = arg;

	curl_multi_wakeup(s->multi);
}

/* --- open and close --- */

static void s3_free(struct s3 *s)
{
	s3_cred_close(s->cred);
	curl_multi_cleanup(s->multi);
	curl_share_cleanup(s->share);
	curl_slist_free_all(s->proxy);
	pthread_mutex_destroy(&s->lock);
	free(s->host);
	free(s->base_path);
	free(s->bucket);
	free(s->region);
	free(s->ca_file);
	free(s->root);
	free(s);
}

static void s3_close(struct object_store *os)
{
	struct s3 *s = CONTAINER_OF(os, struct s3, base);

	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_mutex_unlock(&s->lock);
	curl_multi_wakeup(s->multi);
	pthread_join(s->thread, NULL);
	s3_free(s);
}

static const struct object_store_ops ops = { .submit = s3_submit, .close = s3_close };

static void curl_init(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int start(struct s3 *s, const struct object_s3_options *o, struct error *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct s3_cred_options cred = { .source = o->credentials,
					.profile = o->profile,
					.http = s3_fetch,
					.changed = wake_up,
					.arg = s };
	uint64_t seed;

	pthread_once(&once, curl_init);
	s->multi = curl_multi_init();
	s->share = curl_share_init();
	if (!s->multi || !s->share)
		return error_set_errno(err, -ENOMEM, "HTTP client");
	curl_share_setopt(s->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	curl_multi_setopt(s->multi, CURLMOPT_MAXCONNECTS, (long)s->max_in_flight + 8);
	int rc = s3_cred_open(&cred, &s->cred, err);
	if (rc < 0)
		return rc;
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
		seed = (uint64_t)monotonic_ns();
	s3_pace_init(&s->pace, s->max_in_flight, seed, monotonic_ms());
	rc = -pthread_create(&s->thread, NULL, serve, s);
	return rc < 0 ? error_set_errno(err, rc, "thread") : 0;
}

int object_s3_open(const struct object_s3_options *o, struct object_store **out, struct error *err)
{
	struct s3 *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set_errno(err, -ENOMEM, "remote");
	s->base.ops = &ops;
	s->base.read_only = o->read_only;
	s->base.has_clock = true;
	s->timeout_ms = o->timeout_ms ? o->timeout_ms : 300000;
	s->max_in_flight = o->max_in_flight ? o->max_in_flight : 64;
	pthread_mutex_init(&s->lock, NULL);
	s->incoming_end = &s->incoming;
	for (unsigned p = 0; p < S3_PRIORITIES; p++)
		s->queue[p].end = &s->queue[p].first;
	int rc = s3_address_set(s, o, err);
	if (rc == 0)
		rc = start(s, o, err);
	if (rc < 0) {
		s3_free(s);
		return rc;
	}
	*out = &s->base;
	return 0;
}
