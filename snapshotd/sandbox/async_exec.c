#include "snapshotd/sandbox/async_exec.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <time.h>

#include "snapshotd/build/image_config.h"
#include "store/base/clock.h"

struct async_exec {
	char id[SNAPSHOT_ID_SIZE];
	struct async_execs *owner;
	/* What it runs; its control is held. The strings are those that follow, owned. */
	struct exec_spec spec;
	char **argv;
	json_t *envs;
	char *cwd;

	TAILQ_ENTRY(async_exec) link; /* guarded by owner->lock, as all that follows */
	unsigned users;		      /* whoever runs it and the list are one each */
	bool ended;
	int64_t ended_ms; /* CLOCK_MONOTONIC */
	bool kept;	  /* in a list of results */
	bool killed, told;
	bool lost;	      /* a follower that did not leave himself */
	const char *unwanted; /* why it is to be killed, for good; NULL: it is not */
	unsigned followers;
	int64_t left_ms; /* when the last of them left, or none was there yet */
	/* Constant once ended. */
	int rc;
	struct error error;
	struct exec_output out;
};
TAILQ_HEAD(exec_list, async_exec);

struct async_execs {
	struct exec_controls controls; /* of all that run */
	pthread_mutex_t lock;
	pthread_cond_t some_ended;
	/* Guarded by lock. */
	struct exec_list running, ended; /* ended: the oldest end first */
	struct exec_list left;		 /* of attached ones; whoever is told moves to its tail */
	size_t n_running, n_ended, kept_bytes;
	size_t n_attached; /* that run or are in left */
	int64_t passed_ms; /* of async_execs_set_passed */

	struct budget budget; /* of all output, in results and of what runs */
};

void exec_output_fini(struct exec_output *o)
{
	budget_release(o->budget, o->charged);
	o->charged = 0;
	if (o->out_mapped)
		(void)munmap(o->out.data, o->out.len);
	else
		buf_fini(&o->out);
	if (o->err_mapped)
		(void)munmap(o->err.data, o->err.len);
	else
		buf_fini(&o->err);
	o->out = o->err = (struct buf)BUF_INIT;
	o->out_mapped = o->err_mapped = false;
}

void exec_output_trimmed(struct exec_output *o, const struct exec_keep *k)
{
	size_t held = exec_keep_held(k);

	if (o->charged <= held)
		return;
	budget_release(o->budget, o->charged - held);
	o->charged = held;
}

/* ---- those of a sandbox ---- */

struct async_execs *async_execs_new(struct budget *output)
{
	struct async_execs *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	pthread_mutex_init(&x->lock, NULL);
	cond_init_monotonic(&x->some_ended);
	budget_init(&x->budget, output, output->max);
	x->budget.fair = true;
	exec_controls_init(&x->controls);
	TAILQ_INIT(&x->running);
	TAILQ_INIT(&x->ended);
	TAILQ_INIT(&x->left);
	return x;
}

static void async_exec_free(struct async_exec *e)
{
	strv_free(e->argv);
	json_decref(e->envs);
	free(e->cwd);
	exec_control_put(e->spec.control);
	exec_output_fini(&e->out);
	exec_keep_free(e->spec.keep);
	free(e);
}

static void put_locked(struct async_exec *e)
{
	if (--e->users == 0)
		async_exec_free(e);
}

void async_exec_put(struct async_exec *e)
{
	struct async_execs *x = e->owner;

	pthread_mutex_lock(&x->lock);
	put_locked(e);
	pthread_mutex_unlock(&x->lock);
}

static size_t output_bytes(const struct async_exec *e)
{
	return e->out.out.len + e->out.err.len;
}

static int64_t now_locked(const struct async_execs *x)
{
	return monotonic_ms() + x->passed_ms;
}

/* It is kept. */
static void forget_locked(struct async_exec *e)
{
	struct async_execs *x = e->owner;

	e->kept = false;
	if (e->spec.attached) {
		TAILQ_REMOVE(&x->left, e, link);
		x->n_attached--;
	} else {
		TAILQ_REMOVE(&x->ended, e, link);
		x->n_ended--;
		x->kept_bytes -= output_bytes(e);
	}
	put_locked(e);
}

static bool is_forsaken_locked(const struct async_exec *e)
{
	return e->spec.attached && e->followers == 0 &&
	       now_locked(e->owner) - e->left_ms >= (e->lost ? EXEC_LOST_GRACE_MS : EXEC_GRACE_MS);
}

static bool was_told_locked(const struct async_exec *e)
{
	return e->told && e->followers == 0;
}

/* Of those who have been told only the last may ask once more. */
static void forget_told_locked(struct async_execs *x)
{
	struct async_exec *e, *before;
	size_t told = 0;

	for (e = TAILQ_LAST(&x->left, exec_list); e; e = before) {
		before = TAILQ_PREV(e, exec_list, link);
		if (was_told_locked(e) && ++told > EXEC_TOLD_COUNT)
			forget_locked(e);
	}
}

static void forget_oldest_locked(struct async_execs *x)
{
	forget_locked(TAILQ_FIRST(&x->ended));
}

bool async_execs_forget_oldest(struct async_execs *x)
{
	bool any;

	pthread_mutex_lock(&x->lock);
	any = !TAILQ_EMPTY(&x->ended);
	if (any)
		forget_oldest_locked(x);
	pthread_mutex_unlock(&x->lock);
	return any;
}

bool async_execs_forget_told(struct async_execs *x)
{
	struct async_exec *e;

	pthread_mutex_lock(&x->lock);
	TAILQ_FOREACH(e, &x->left, link)
	if (was_told_locked(e))
		break;
	if (e)
		forget_locked(e);
	pthread_mutex_unlock(&x->lock);
	return e != NULL;
}

static struct async_exec *find_kept_locked(struct async_execs *x, bool told)
{
	struct async_exec *e;

	TAILQ_FOREACH(e, told ? &x->left : &x->ended, link)
	if (e->spec.keep && e->spec.keep->is_kept && (!told || was_told_locked(e)))
		break;
	return e;
}

int64_t async_execs_oldest_kept(struct async_execs *x, bool told)
{
	const struct async_exec *e;
	int64_t ended_ms;

	pthread_mutex_lock(&x->lock);
	e = find_kept_locked(x, told);
	ended_ms = e ? e->ended_ms : INT64_MAX;
	pthread_mutex_unlock(&x->lock);
	return ended_ms;
}

bool async_execs_let_go(struct async_execs *x, bool told)
{
	struct async_exec *e;

	pthread_mutex_lock(&x->lock);
	e = find_kept_locked(x, told);
	if (e)
		exec_keep_let_go(e->spec.keep);
	pthread_mutex_unlock(&x->lock);
	return e != NULL;
}

void async_execs_free(struct async_execs *x)
{
	if (!x)
		return;
	while (!TAILQ_EMPTY(&x->ended))
		forget_oldest_locked(x);
	while (!TAILQ_EMPTY(&x->left))
		forget_locked(TAILQ_FIRST(&x->left));
	exec_controls_fini(&x->controls);
	pthread_cond_destroy(&x->some_ended);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

void async_execs_expire(struct async_execs *x)
{
	int64_t before = monotonic_ms() - EXEC_KEEP_S * 1000;
	struct async_exec *e, *next;

	pthread_mutex_lock(&x->lock);
	while ((e = TAILQ_FIRST(&x->ended)) && e->ended_ms < before)
		forget_oldest_locked(x);
	for (e = TAILQ_FIRST(&x->left); e; e = next) {
		next = TAILQ_NEXT(e, link);
		if (is_forsaken_locked(e))
			forget_locked(e);
	}
	pthread_mutex_unlock(&x->lock);
}

size_t async_execs_kept(struct async_execs *x)
{
	size_t kept;

	pthread_mutex_lock(&x->lock);
	kept = x->kept_bytes;
	pthread_mutex_unlock(&x->lock);
	return kept;
}

struct budget *async_execs_budget(struct async_execs *x)
{
	return &x->budget;
}

bool async_execs_is_tight(struct async_execs *x)
{
	const struct budget *all = x->budget.parent;

	return budget_used(&x->budget) + budget_used(all) > all->max / 8 * 7;
}

struct exec_controls *async_execs_controls(struct async_execs *x)
{
	return &x->controls;
}

/* ---- one of them ---- */

static char **strv_copy(char *const *v)
{
	size_t n = 0;
	char **copy;

	while (v[n])
		n++;
	copy = calloc(n + 1, sizeof(char *));
	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = strdup(v[i]);
		if (!copy[i]) {
			strv_free(copy);
			return NULL;
		}
	}
	return copy;
}

struct async_exec *async_exec_new(struct async_execs *x, const struct exec_spec *spec)
{
	struct async_exec *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	memcpy(e->id, exec_control_id(spec->control), sizeof(e->id));
	exec_control_hold(spec->control);
	e->owner = x;
	e->users = 1;
	e->argv = strv_copy(spec->argv);
	e->envs = json_incref((json_t *)spec->envs);
	e->cwd = spec->cwd ? strdup(spec->cwd) : NULL;
	e->left_ms = monotonic_ms();
	e->spec = (struct exec_spec){ .argv = e->argv,
				      .envs = e->envs,
				      .cwd = e->cwd,
				      .timeout_ms = spec->timeout_ms,
				      .linger_ms = spec->linger_ms,
				      .attached = spec->attached,
				      .control = spec->control };
	if (!e->argv || (spec->cwd && !e->cwd)) {
		async_exec_free(e);
		return NULL;
	}
	return e;
}

static void grew(void *arg)
{
	struct async_exec *e = arg;

	pthread_mutex_lock(&e->owner->lock);
	pthread_cond_broadcast(&e->owner->some_ended);
	pthread_mutex_unlock(&e->owner->lock);
}

void async_exec_set_keep(struct async_exec *e, struct exec_keep *k)
{
	e->spec.keep = k;
	e->spec.on_grow = grew;
	e->spec.grow_arg = e;
	/* Of a predecessor's; else nothing has become of it. */
	e->killed = k->state->killed;
	e->lost = e->spec.attached && k->state->followed;
}

/* Those that run are counted there. */
static size_t *count_of(struct async_exec *e)
{
	return e->spec.attached ? &e->owner->n_attached : &e->owner->n_running;
}

int async_exec_begin(struct async_exec *e, struct error *err)
{
	struct async_execs *x = e->owner;
	size_t *n = count_of(e);
	int max = e->spec.attached ? EXEC_ATTACHED_MAX : EXEC_RUNNING_MAX;
	int rc = 0;

	pthread_mutex_lock(&x->lock);
	if (*n >= (size_t)max) {
		rc = error_set(err, -EAGAIN, "%d programs are running in the sandbox already", max);
	} else {
		TAILQ_INSERT_TAIL(&x->running, e, link);
		++*n;
		e->users++;
	}
	pthread_mutex_unlock(&x->lock);
	return rc;
}

void async_exec_abandon(struct async_exec *e)
{
	struct async_execs *x = e->owner;

	pthread_mutex_lock(&x->lock);
	TAILQ_REMOVE(&x->running, e, link);
	--*count_of(e);
	put_locked(e);
	pthread_mutex_unlock(&x->lock);
}

const struct exec_spec *async_exec_spec(const struct async_exec *e)
{
	return &e->spec;
}

/* By their ends: a predecessor's come in any order. */
static void insert_ended_locked(struct async_execs *x, struct async_exec *e)
{
	struct async_exec *before;

	TAILQ_FOREACH_REVERSE(before, &x->ended, exec_list, link)
	if (before->ended_ms <= e->ended_ms)
		break;
	if (before)
		TAILQ_INSERT_AFTER(&x->ended, before, e, link);
	else
		TAILQ_INSERT_HEAD(&x->ended, e, link);
	x->n_ended++;
	x->kept_bytes += output_bytes(e);
}

/* It is in no list; the list of those that have ended uses it from now on. */
static void end_locked(struct async_exec *e, int rc, struct exec_output *out,
		       const struct error *err)
{
	struct async_execs *x = e->owner;

	e->rc = rc;
	e->out = *out;
	*out = (struct exec_output){ 0 };
	e->error = *err;
	e->ended = true;
	e->ended_ms = monotonic_ms();
	if (e->spec.keep)
		e->ended_ms = e->spec.keep->state->done_ms;
	e->kept = true;
	if (e->spec.attached) {
		TAILQ_INSERT_TAIL(&x->left, e, link);
		x->n_attached++;
		return;
	}
	if (e->spec.keep)
		exec_keep_close(e->spec.keep);
	insert_ended_locked(x, e);
	while (x->n_ended > 1 && (x->n_ended > EXEC_KEEP_COUNT || x->kept_bytes > EXEC_KEEP_BYTES))
		forget_oldest_locked(x);
}

void async_exec_end(struct async_exec *e, int rc, struct exec_output *out, const struct error *err)
{
	struct async_execs *x = e->owner;

	pthread_mutex_lock(&x->lock);
	TAILQ_REMOVE(&x->running, e, link);
	--*count_of(e);
	end_locked(e, rc, out, err);
	if (e->killed && e->kept)
		forget_locked(e);
	pthread_cond_broadcast(&x->some_ended);
	put_locked(e);
	pthread_mutex_unlock(&x->lock);
}

void async_exec_adopt_ended(struct async_exec *e, int rc, struct exec_output *out,
			    const struct error *err)
{
	struct async_execs *x = e->owner;

	pthread_mutex_lock(&x->lock);
	end_locked(e, rc, out, err);
	if (e->killed && e->kept)
		forget_locked(e);
	pthread_mutex_unlock(&x->lock);
}

struct async_exec *async_exec_find(struct async_execs *x, const char *id)
{
	struct exec_list *lists[] = { &x->running, &x->ended, &x->left };
	struct async_exec *e = NULL;

	pthread_mutex_lock(&x->lock);
	for (int i = 0; i < 3 && !e; i++)
		TAILQ_FOREACH(e, lists[i], link)
	if (strcmp(e->id, id) == 0)
		break;
	if (e)
		e->users++;
	pthread_mutex_unlock(&x->lock);
	return e;
}

bool async_exec_wait(struct async_exec *e, int timeout_ms)
{
	struct async_execs *x = e->owner;
	struct timespec until = monotonic_after_ms(timeout_ms);
	bool ended;
	int rc = 0;

	pthread_mutex_lock(&x->lock);
	while (!e->ended && rc == 0)
		rc = pthread_cond_timedwait(&x->some_ended, &x->lock, &until);
	ended = e->ended;
	pthread_mutex_unlock(&x->lock);
	return ended;
}

static ssize_t read_buf(const struct buf *b, uint64_t at, void *room, size_t len)
{
	if (at >= b->len)
		return 0;
	len = MIN(len, b->len - at);
	memcpy(room, b->data + at, len);
	return (ssize_t)len;
}

/* Under the lock, which its end takes: it is memory that is read. */
ssize_t async_exec_read(struct async_exec *e, int stream, uint64_t at, void *room, size_t len)
{
	ssize_t n = -ENOTSUP;

	pthread_mutex_lock(&e->owner->lock);
	if (e->ended && !e->spec.attached)
		n = read_buf(stream == 1 ? &e->out.out : &e->out.err, at, room, len);
	else if (e->spec.keep)
		n = exec_keep_read(e->spec.keep, stream, at, room, len);
	pthread_mutex_unlock(&e->owner->lock);
	return n;
}

static bool has_more_locked(const struct async_exec *e, const uint64_t at[2])
{
	return e->spec.keep &&
	       (exec_keep_len(e->spec.keep, 1) > at[0] || exec_keep_len(e->spec.keep, 2) > at[1]);
}

bool async_exec_wait_more(struct async_exec *e, const uint64_t at[2], int timeout_ms)
{
	struct async_execs *x = e->owner;
	struct timespec until = monotonic_after_ms(timeout_ms);
	bool ended;
	int rc = 0;

	pthread_mutex_lock(&x->lock);
	while (!e->ended && !has_more_locked(e, at) && rc == 0)
		rc = pthread_cond_timedwait(&x->some_ended, &x->lock, &until);
	ended = e->ended;
	pthread_mutex_unlock(&x->lock);
	return ended;
}

int async_exec_outcome(struct async_exec *e, const struct exec_output **out,
		       const struct error **err)
{
	*out = &e->out;
	*err = &e->error;
	return e->rc;
}

/* ---- followers ---- */

bool async_exec_is_attached(const struct async_exec *e)
{
	return e->spec.attached;
}

/* As a successor has to know it. */
static void note_followed_locked(struct async_exec *e)
{
	if (e->spec.attached && e->spec.keep)
		e->spec.keep->state->followed = e->followers > 0 || e->lost;
}

/* Who asks once more wants the end, or a little that was on its way. */
static void told_locked(struct async_exec *e)
{
	struct async_execs *x = e->owner;
	struct exec_keep *k = e->spec.keep;

	if (e->kept) {
		TAILQ_REMOVE(&x->left, e, link);
		TAILQ_INSERT_TAIL(&x->left, e, link);
	}
	if (k && e->ended && e->followers == 0) {
		exec_keep_trim(k, 1, EXEC_TOLD_BYTES);
		exec_keep_trim(k, 2, EXEC_TOLD_BYTES);
		exec_output_trimmed(&e->out, k);
	}
	forget_told_locked(x);
}

void async_exec_follow(struct async_exec *e)
{
	pthread_mutex_lock(&e->owner->lock);
	e->followers++;
	e->told = e->lost = false;
	note_followed_locked(e);
	pthread_mutex_unlock(&e->owner->lock);
}

void async_exec_note_sent(struct async_exec *e, int stream, uint64_t at)
{
	if (e->spec.attached && exec_keep_note_sent(e->spec.keep, stream, at))
		exec_control_wake(e->spec.control);
}

void async_exec_unfollow(struct async_exec *e, enum follower_end how)
{
	struct async_execs *x = e->owner;

	pthread_mutex_lock(&x->lock);
	e->followers--;
	e->left_ms = now_locked(x);
	e->told |= how == FOLLOWER_TOLD;
	e->lost = !e->told && (e->lost || how == FOLLOWER_LOST);
	note_followed_locked(e);
	if (how == FOLLOWER_TOLD && e->spec.attached)
		told_locked(e);
	pthread_mutex_unlock(&x->lock);
}

void async_exec_kill(struct async_exec *e)
{
	struct async_execs *x = e->owner;

	pthread_mutex_lock(&x->lock);
	if (e->spec.keep && e->spec.keep->state)
		e->spec.keep->state->killed = true;
	if (e->kept)
		forget_locked(e);
	e->killed = true;
	pthread_mutex_unlock(&x->lock);
	exec_control_wake(e->spec.control);
}

bool async_exec_is_unwanted(struct async_exec *e, const char **why)
{
	const char *unwanted;

	pthread_mutex_lock(&e->owner->lock);
	if (!e->unwanted && e->killed)
		e->unwanted = "it was asked for";
	else if (!e->unwanted && is_forsaken_locked(e))
		e->unwanted = "nobody followed it any more";
	unwanted = e->unwanted;
	pthread_mutex_unlock(&e->owner->lock);
	if (why)
		*why = unwanted;
	return unwanted != NULL;
}

void async_execs_set_passed(struct async_execs *x, int64_t ms)
{
	pthread_mutex_lock(&x->lock);
	x->passed_ms = ms;
	pthread_mutex_unlock(&x->lock);
}
