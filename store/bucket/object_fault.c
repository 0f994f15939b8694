/*
 * Each request is passed on as a copy (`struct passed`) whose answer comes here first. What is
 * drawn for it is drawn when it comes. Those that are late wait in a list for one thread, which
 * looks every few milliseconds.
 */
#include "store/bucket/object_fault.h"

#include <errno.h>
#include <stdatomic.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/bucket/object_fault_internal.h"

#define LOOK_MS 5
#define FROZEN_MS 300000 /* a request waits so long by itself */

struct passed {
	struct object_request in;
	struct object_request *out;
	struct fault *fault;
	struct passed *next; /* in the list of late ones */
	int64_t due_ms, give_up_ms;
	uint64_t random;
	bool drop, lost, repeat, flip, cut, stale, hide, die_after;
	bool freezes;
	int64_t now; /* the service's clock; 0: it has none but its own */
};

struct fault {
	struct object_store base;
	struct object_store *inner;
	struct fault_plan plan;
	struct fault_old old;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	uint64_t random, n_requests; /* guarded by lock, as all below */
	struct passed *late;
	struct object_faults counts;
	bool closing, has_thread;
	pthread_t thread;
};

/* splitmix64 */
static uint64_t draw_locked(struct fault *f)
{
	uint64_t z = (f->random += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static bool chance_locked(struct fault *f, double p)
{
	return (double)(draw_locked(f) >> 11) / (double)(1ull << 53) < p;
}

static void die(void)
{
	kill(getpid(), SIGKILL);
	pause();
}

/* --- answers --- */

static void spoil_data(struct passed *p)
{
	struct buf *b = &p->in.data;
	struct object_faults *c = &p->fault->counts;

	if (p->stale && fault_old_get(&p->fault->old, p->in.key, b))
		c->stale++;
	if (p->flip && b->len) {
		b->data[p->random % b->len] ^= (uint8_t)(1u << (p->random >> 32) % 8);
		c->flipped++;
	}
	if (p->cut && b->len) {
		b->len = p->random % b->len;
		c->cut++;
	}
}

static void hide_entry(struct passed *p)
{
	struct object_request *r = &p->in;

	if (!p->hide || r->n_entries == 0)
		return;
	size_t at = p->random % r->n_entries;
	/* The last one says where the next page begins. */
	if (r->more && at == r->n_entries - 1)
		return;
	free(r->entries[at].key);
	memmove(r->entries + at, r->entries + at + 1,
		(r->n_entries - at - 1) * sizeof(*r->entries));
	r->n_entries--;
	p->fault->counts.hidden++;
}

/* Hand the answer to who asked, and end. */
static void answer(struct passed *p)
{
	struct object_request *out = p->out;
	struct fault *f = p->fault;

	object_pass_answer(out, &p->in);
	if (p->in.date && p->now)
		out->date = p->now;
	if (out->result < 0 && out->result != -ENOENT && out->result != -EEXIST)
		f->base.failed++;
	free(p);
	out->done(out);
}

static void fail(struct passed *p, int rc, const char *why)
{
	object_request_fini(&p->in);
	p->in.result = error_set(&p->in.err, rc, "%s", why);
	if (rc == -ETIMEDOUT)
		p->in.date = 0;
	answer(p);
}

static void note_body(struct passed *p)
{
	const struct object_request *r = &p->in;
	bool whole = r->op == OBJECT_GET && !r->len && !r->offset;

	if (r->result < 0 || p->fault->plan.stale <= 0)
		return;
	if (r->op == OBJECT_PUT || r->op == OBJECT_PUT_ONCE)
		fault_old_note(&p->fault->old, r->key, r->body, r->len);
	else if (whole)
		fault_old_note(&p->fault->old, r->key, r->data.data ? r->data.data : (uint8_t *)"",
			       r->data.len);
}

static void inner_done(struct object_request *r)
{
	struct passed *p = r->arg;
	struct fault *f = p->fault;

	object_pass_state(&f->base, f->inner);
	if (p->die_after)
		die();
	if (p->repeat && r->result != -ECANCELED) {
		p->repeat = false;
		object_request_fini(r);
		object_submit(f->inner, r);
		return;
	}
	note_body(p);
	pthread_mutex_lock(&f->lock);
	if (p->lost)
		f->counts.lost++;
	else if (r->result == 0 && r->op == OBJECT_GET)
		spoil_data(p);
	else if (r->result == 0 && r->op == OBJECT_LIST)
		hide_entry(p);
	pthread_mutex_unlock(&f->lock);
	if (p->lost)
		fail(p, -ETIMEDOUT, "fault: the answer is lost");
	else
		answer(p);
}

/* --- requests --- */

/* What the clock's file says, or the plan. */
static int64_t clock_offset_ms(const struct fault *f)
{
	char text[64] = "";
	int64_t ms = 0;
	int fd;

	if (!f->plan.clock_path[0])
		return f->plan.clock_ms;
	fd = open(f->plan.clock_path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 && fault_parse_time(text, &ms) == 0 ? ms : 0;
}

static bool is_too_old(const struct passed *p)
{
	const struct object_request *r = &p->in;
	bool writes = r->op == OBJECT_PUT || r->op == OBJECT_PUT_ONCE;

	return p->now && writes && r->signed_at && p->now - r->signed_at > OBJECT_DATE_MAX;
}

/* It is time for it. */
static void pass_on(struct passed *p)
{
	struct fault *f = p->fault;

	if (f->plan.has_clock)
		p->now = time(NULL) + clock_offset_ms(f) / 1000;
	if (is_too_old(p)) {
		pthread_mutex_lock(&f->lock);
		f->counts.too_old++;
		pthread_mutex_unlock(&f->lock);
		fail(p, -ESTALE, "fault: signed too long ago");
		return;
	}
	if (p->now)
		p->in.signed_at = 0; /* checked here, by another clock than the one behind */
	object_submit(f->inner, &p->in);
}

static bool concerns(const struct fault *f, const struct object_request *r)
{
	const char *key = r->op == OBJECT_DELETE ? (r->n_names ? r->names[0] : "") : r->key;

	return (f->plan.ops >> r->op & 1) &&
	       strncmp(key, f->plan.under, strlen(f->plan.under)) == 0;
}

/* All draws for one request, the same number for each. */
static void draw_faults_locked(struct fault *f, struct passed *p)
{
	const struct fault_plan *plan = &f->plan;
	bool writes = p->in.op != OBJECT_GET && p->in.op != OBJECT_LIST;
	bool on = concerns(f, &p->in);
	unsigned late_ms = 0;

	p->drop = chance_locked(f, plan->drop) && on;
	p->lost = chance_locked(f, plan->lost) && on;
	p->repeat = chance_locked(f, plan->repeat) && on && writes;
	p->flip = chance_locked(f, plan->flip) && on;
	p->cut = chance_locked(f, plan->cut) && on;
	p->stale = chance_locked(f, plan->stale) && on;
	p->hide = chance_locked(f, plan->hide) && on;
	p->random = draw_locked(f);
	if (chance_locked(f, plan->delay) && on) {
		late_ms = plan->delay_ms;
		f->counts.delayed++;
	}
	uint64_t pause_ms = 200 + draw_locked(f) % 800;
	if (chance_locked(f, plan->throttle) && on) {
		late_ms += (unsigned)pause_ms;
		f->counts.throttled++;
		f->base.throttled++;
	}
	f->counts.dropped += p->drop;
	f->counts.repeated += p->repeat;
	p->freezes = on && plan->frozen[0];
	p->due_ms = monotonic_ms() + late_ms;
	p->give_up_ms = monotonic_ms() + (p->in.timeout_ms ? p->in.timeout_ms : FROZEN_MS);
}

static bool is_frozen(const struct passed *p)
{
	return p->freezes && access(p->fault->plan.frozen, F_OK) == 0;
}

static void go(struct passed *p)
{
	if (p->drop)
		fail(p, -ETIMEDOUT, "fault: the request is dropped");
	else
		pass_on(p);
}

static void fault_submit(struct object_store *os, struct object_request *r)
{
	struct fault *f = CONTAINER_OF(os, struct fault, base);
	struct passed *p = calloc(1, sizeof(*p));

	if (!p) {
		r->result = error_set_errno(&r->err, -ENOMEM, "request");
		r->done(r);
		return;
	}
	p->in = *r;
	p->in.done = inner_done;
	p->in.arg = p;
	p->out = r;
	p->fault = f;
	os->requests[r->op]++;
	pthread_mutex_lock(&f->lock);
	uint64_t n = ++f->n_requests;
	if (n == f->plan.die)
		die();
	p->die_after = n == f->plan.die_after;
	draw_faults_locked(f, p);
	bool late = p->due_ms > monotonic_ms() || is_frozen(p);
	if (late) {
		p->next = f->late;
		f->late = p;
		pthread_cond_signal(&f->wake);
	}
	pthread_mutex_unlock(&f->lock);
	if (!late)
		go(p);
}

/* --- late ones --- */

/* Those whose time has come; all, once it was stopped. */
static struct passed *take_due_locked(struct fault *f)
{
	struct passed *due = NULL, **at = &f->late;
	const bool stopped = atomic_load(&f->base.stopped);
	int64_t now = monotonic_ms();

	while (*at) {
		struct passed *p = *at;

		if (!stopped && (p->due_ms > now || (is_frozen(p) && p->give_up_ms > now))) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		p->next = due;
		due = p;
	}
	return due;
}

static void *late_loop(void *arg)
{
	struct fault *f = arg;

	pthread_mutex_lock(&f->lock);
	while (!f->closing) {
		struct passed *due = take_due_locked(f), *next;

		pthread_mutex_unlock(&f->lock);
		for (struct passed *p = due; p; p = next) {
			next = p->next;
			if (atomic_load(&f->base.stopped))
				fail(p, -ECANCELED, "the remote is being closed");
			else if (is_frozen(p))
				fail(p, -ETIMEDOUT, "fault: the bucket is frozen");
			else
				go(p);
		}
		pthread_mutex_lock(&f->lock);
		if (f->closing)
			break;
		struct timespec t = monotonic_after_ms(f->late ? LOOK_MS : 60000);
		pthread_cond_timedwait(&f->wake, &f->lock, &t);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static void fault_close(struct object_store *os)
{
	struct fault *f = CONTAINER_OF(os, struct fault, base);

	pthread_mutex_lock(&f->lock);
	f->closing = true;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	if (f->has_thread)
		pthread_join(f->thread, NULL);
	while (f->late) {
		struct passed *p = f->late;
		f->late = p->next;
		fail(p, -ECANCELED, "the remote is being closed");
	}
	object_store_close(f->inner);
	fault_old_fini(&f->old);
	pthread_cond_destroy(&f->wake);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static const struct object_store_ops ops = { .submit = fault_submit, .close = fault_close };

int object_fault_open(struct object_store *inner, const char *plan, struct object_store **out,
		      struct error *err)
{
	struct fault *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return error_set_errno(err, -ENOMEM, "faults");
	rc = fault_plan_parse(plan, &f->plan, err);
	if (rc < 0) {
		free(f);
		return rc;
	}
	f->base.ops = &ops;
	f->base.read_only = inner->read_only;
	f->base.has_clock = inner->has_clock || f->plan.has_clock;
	f->random = f->plan.seed;
	pthread_mutex_init(&f->lock, NULL);
	cond_init_monotonic(&f->wake);
	fault_old_init(&f->old);
	rc = -pthread_create(&f->thread, NULL, late_loop, f);
	if (rc < 0) {
		fault_close(&f->base);
		return error_set_errno(err, rc, "faults");
	}
	f->has_thread = true;
	f->inner = inner;
	*out = &f->base;
	return 0;
}

int object_fault_by_env(struct object_store **os, struct error *err)
{
	static _Atomic uint64_t opened;
	const char *plan = getenv("VARVE_FAULTS");
	struct object_store *with;

	if (!plan || !*plan)
		return 0;
	int rc = object_fault_open(*os, plan, &with, err);
	if (rc < 0)
		return rc;
	/* Draws of its own: else a first request that is lost is lost at each opening. */
	CONTAINER_OF(with, struct fault, base)->random += 0xd1342543de82ef95u * opened++;
	*os = with;
	return 0;
}

void object_fault_counts(struct object_store *os, struct object_faults *out)
{
	struct fault *f = CONTAINER_OF(os, struct fault, base);

	pthread_mutex_lock(&f->lock);
	*out = f->counts;
	pthread_mutex_unlock(&f->lock);
}
