#include "snapshotd/sandbox/sandbox_exec.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "snapshotd/http/budget.h"
#include "snapshotd/sandbox/exec_control.h"
#include "snapshotd/sandbox/sandboxes_internal.h"
#include "store/base/clock.h"

struct async_exec {
	char id[SNAPSHOT_ID_SIZE];
	struct sandbox_execs *owner;
	struct sandbox *sb;	      /* in use until it has ended */
	struct exec_control *control; /* held until it has ended */
	/* What it runs; owned. */
	char **argv;
	json_t *envs;
	char *cwd;
	int64_t timeout_ms, linger_ms;

	TAILQ_ENTRY(async_exec) link; /* guarded by owner->lock, as all that follows */
	unsigned users;		      /* the list and the thread are one each */
	bool ended;
	int64_t ended_ms; /* CLOCK_MONOTONIC */
	/* Constant once ended. */
	int rc;
	struct error error;
	struct exec_output out;
};
TAILQ_HEAD(exec_list, async_exec);

struct sandbox_execs {
	struct exec_controls controls; /* of all that run */
	pthread_mutex_t lock;
	pthread_cond_t some_ended;
	/* Guarded by lock. */
	struct exec_list running, ended; /* ended: the oldest end first */
	size_t n_running, n_ended, kept_bytes;

	struct budget budget; /* of all output, in results and of what runs */
};

void exec_output_fini(struct exec_output *o)
{
	budget_release(o->budget, o->charged);
	o->charged = 0;
	buf_fini(&o->out);
	buf_fini(&o->err);
}

int exec_code_of_failure(int rc)
{
	switch (rc) {
	case -ENOENT:
		return 127;
	case -EACCES:
	case -EPERM:
	case -ENOEXEC:
	case -ENOTDIR:
	case -EISDIR:
	case -ELOOP:
	case -E2BIG:
	case -ENAMETOOLONG:
	case -ETXTBSY:
	case -EINVAL: /* an unknown user, a foreign binary */
		return 126;
	default:
		return 0;
	}
}

/* ---- running one ---- */

struct run {
	struct sandbox *sb;
	const struct exec_spec *spec;
	struct exec_output *out;
	int failure;	 /* of spec->on_output */
	bool in_line[2]; /* what was passed on has not ended its line */
	bool cut[2];

	bool no_memory;
	bool (*cancelled)(void *arg);
	void *arg;
};

static bool forget_a_result(struct sandbox *sb);

/* Results that nobody has fetched go before what comes now. */
static bool take_room(struct run *r, size_t len)
{
	struct budget *b = r->out->budget;

	while (!budget_charge(b, len))
		if (!forget_a_result(r->sb))
			return false;
	r->out->charged += len;
	return true;
}

static void run_output(void *arg, int stream, const void *data, size_t len)
{
	struct run *r = arg;
	struct buf *b = stream == 1 ? &r->out->out : &r->out->err;
	size_t room = EXEC_OUTPUT_MAX - b->len;

	if (r->spec->on_output) {
		if (!r->failure && len)
			r->failure = r->spec->on_output(r->spec->output_arg, stream, data, len);
		if (len)
			r->in_line[stream - 1] = ((const char *)data)[len - 1] != '\n';
		return;
	}
	if (r->cut[stream - 1]) /* no more of it, or there would be a gap */
		return;
	if (len > room)
		r->cut[stream - 1] = true;
	len = MIN(len, room);
	if (!take_room(r, len))
		r->cut[stream - 1] = true;
	else if (buf_append(b, data, len) < 0)
		r->no_memory = true;
}

static bool run_is_cancelled(void *arg)
{
	struct run *r = arg;

	return r->no_memory || r->failure || sandbox_is_closing(r->sb) ||
	       (r->cancelled && r->cancelled(r->arg));
}

/* A line of our own begins on a line of its own. */
static int begin_note(const struct run *r, int stream)
{
	struct buf *b = stream == 1 ? &r->out->out : &r->out->err;
	bool in_line = b->len ? b->data[b->len - 1] != '\n' : r->in_line[stream - 1];

	return buf_append_str(b, in_line ? "\nvarve: " : "varve: ");
}

static int note_cuts(const struct run *r)
{
	struct buf *streams[] = { &r->out->out, &r->out->err };
	int rc = 0;

	for (int i = 0; i < 2 && rc == 0; i++) {
		size_t kept = streams[i]->len;

		if (!r->cut[i])
			continue;
		rc = begin_note(r, i + 1);
		if (rc == 0)
			rc = buf_printf(streams[i], "output cut after %zu bytes%s\n", kept,
					kept < EXEC_OUTPUT_MAX ? ": the daemon has no room for "
								 "more (requestMemoryBytes)"
							       : "");
	}
	return rc;
}

static int note_end(struct run *r, const struct exec_spec *spec, const struct exec_result *res)
{
	struct buf *b = &r->out->err;
	int rc = note_cuts(r);

	r->out->truncated = res->output_open || r->cut[0] || r->cut[1];
	r->out->exit_code = res->timed_out ? 124 : res->exit_code;
	if (rc < 0 || (!res->timed_out && !res->oom_killed))
		return rc;
	rc = begin_note(r, 2);
	if (rc < 0)
		return rc;
	if (res->timed_out)
		return buf_printf(b, "killed after its %.3g s\n", (double)spec->timeout_ms / 1000);
	return buf_printf(b, "killed for want of memory (the sandbox has %llu MB)\n",
			  (unsigned long long)r->sb->rec.config.memory_mb);
}

/* It has not run to an end of its own. */
static int note_failure(struct run *r, int rc, struct error *err)
{
	int code = exec_code_of_failure(rc);

	if (r->no_memory)
		return error_set(err, -ENOMEM, "out of memory for the program's output");
	if (rc == -ESRCH || sandbox_is_closing(r->sb))
		return error_set(err, -ENOTCONN, "sandbox %s has been stopped meanwhile",
				 r->sb->id);
	if (r->failure)
		return error_set_errno(err, r->failure, "passing on the program's output");
	if (!code)
		return rc;
	r->out->exit_code = code;
	rc = begin_note(r, 2);
	if (rc == 0)
		rc = buf_printf(&r->out->err, "%s\n", error_text(err));
	return rc < 0 ? error_set(err, -ENOMEM, "out of memory") : 0;
}

/* The caller is inside. */
static int run_inside(struct sandbox *sb, struct container *c, const struct exec_spec *spec,
		      struct run *r, struct error *err)
{
	CLEANUP(strv_free_p) char **env = sandbox_environ(sb, spec->envs);
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct exec_result res = { 0 };
	int rc;

	if (!env)
		return error_set(err, -ENOMEM, "out of memory");
	rq.argv = spec->argv;
	rq.env = env;
	rq.cwd = spec->cwd ? spec->cwd : sandbox_workdir(sb);
	rq.make_cwd = !spec->cwd;
	rq.user = sandbox_user(sb);
	rq.user_env = true;
	rq.timeout_ms = spec->timeout_ms;
	rq.linger_ms = spec->linger_ms;
	rq.on_output = run_output;
	rq.cancelled = run_is_cancelled;
	rq.arg = r;
	if (spec->control) {
		rq.stdin_fd = exec_control_stdin_fd(spec->control);
		rq.signal_fd = exec_control_signal_fd(spec->control);
	}
	rc = container_exec(c, &rq, &res, err);
	if (rc == 0 && res.cancelled)
		rc = error_set(err, -ECANCELED, "cancelled");
	if (rc == 0 && !r->no_memory && !r->failure)
		return note_end(r, spec, &res) < 0 ? error_set(err, -ENOMEM, "out of memory") : 0;
	return note_failure(r, rc, err);
}

int sandbox_exec(struct sandbox *sb, const struct exec_spec *spec, bool (*cancelled)(void *arg),
		 void *arg, struct exec_output *out, struct error *err)
{
	struct run r = { .sb = sb, .spec = spec, .out = out, .cancelled = cancelled, .arg = arg };
	struct container *c;
	int rc = sandbox_enter(sb, &c, err);

	if (rc < 0)
		return rc;
	*out = (struct exec_output){ .budget = &sb->execs->budget };
	rc = run_inside(sb, c, spec, &r, err);
	sandbox_leave(sb);
	if (rc < 0)
		exec_output_fini(out);
	return rc;
}

/* ---- asynchronous ones ---- */

struct sandbox_execs *sandbox_execs_new(struct budget *output)
{
	struct sandbox_execs *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	pthread_mutex_init(&x->lock, NULL);
	cond_init_monotonic(&x->some_ended);
	budget_init(&x->budget, output, output->max);
	x->budget.fair = true;
	exec_controls_init(&x->controls);
	TAILQ_INIT(&x->running);
	TAILQ_INIT(&x->ended);
	return x;
}

static void async_exec_free(struct async_exec *e)
{
	strv_free(e->argv);
	json_decref(e->envs);
	free(e->cwd);
	exec_control_put(e->control);
	exec_output_fini(&e->out);
	free(e);
}

static void put_locked(struct async_exec *e)
{
	if (--e->users == 0)
		async_exec_free(e);
}

void async_exec_put(struct async_exec *e)
{
	struct sandbox_execs *x = e->owner;

	pthread_mutex_lock(&x->lock);
	put_locked(e);
	pthread_mutex_unlock(&x->lock);
}

static size_t output_bytes(const struct async_exec *e)
{
	return e->out.out.len + e->out.err.len;
}

static void forget_oldest_locked(struct sandbox_execs *x)
{
	struct async_exec *e = TAILQ_FIRST(&x->ended);

	TAILQ_REMOVE(&x->ended, e, link);
	x->n_ended--;
	x->kept_bytes -= output_bytes(e);
	put_locked(e);
}

/* False: there is none. */
static bool forget_oldest(struct sandbox_execs *x)
{
	bool any;

	pthread_mutex_lock(&x->lock);
	any = !TAILQ_EMPTY(&x->ended);
	if (any)
		forget_oldest_locked(x);
	pthread_mutex_unlock(&x->lock);
	return any;
}

/*
 * Make room for output of sb: the oldest result goes of the sandbox that keeps the
 * most, if it keeps more than sb has; else of sb itself. False: there is none.
 */
static bool forget_a_result(struct sandbox *sb)
{
	struct sandboxes *ss = sb->owner;
	struct sandbox *other, *most = sb;
	size_t bytes = budget_used(&sb->execs->budget);
	bool done;

	pthread_mutex_lock(&ss->lock); /* they stay in the list */
	TAILQ_FOREACH(other, &ss->list, link)
	{
		size_t kept;

		pthread_mutex_lock(&other->execs->lock);
		kept = other->execs->kept_bytes;
		pthread_mutex_unlock(&other->execs->lock);
		if (kept > bytes) {
			bytes = kept;
			most = other;
		}
	}
	done = forget_oldest(most->execs);
	pthread_mutex_unlock(&ss->lock);
	return done;
}

void sandbox_execs_free(struct sandbox_execs *x)
{
	if (!x)
		return;
	while (!TAILQ_EMPTY(&x->ended))
		forget_oldest_locked(x);
	exec_controls_fini(&x->controls);
	pthread_cond_destroy(&x->some_ended);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

void sandbox_execs_expire(struct sandbox_execs *x)
{
	int64_t before = monotonic_ms() - EXEC_KEEP_S * 1000;
	struct async_exec *e;

	pthread_mutex_lock(&x->lock);
	while ((e = TAILQ_FIRST(&x->ended)) && e->ended_ms < before)
		forget_oldest_locked(x);
	pthread_mutex_unlock(&x->lock);
}

static void async_exec_end(struct async_exec *e, int rc)
{
	struct sandbox_execs *x = e->owner;

	pthread_mutex_lock(&x->lock);
	e->rc = rc;
	e->ended = true;
	e->ended_ms = monotonic_ms();
	TAILQ_REMOVE(&x->running, e, link);
	TAILQ_INSERT_TAIL(&x->ended, e, link);
	x->n_running--;
	x->n_ended++;
	x->kept_bytes += output_bytes(e);
	while (x->n_ended > 1 && (x->n_ended > EXEC_KEEP_COUNT || x->kept_bytes > EXEC_KEEP_BYTES))
		forget_oldest_locked(x);
	pthread_cond_broadcast(&x->some_ended);
	put_locked(e);
	pthread_mutex_unlock(&x->lock);
}

static void *async_exec_main(void *arg)
{
	struct async_exec *e = arg;
	struct sandbox *sb = e->sb;
	struct exec_spec spec = { .argv = e->argv,
				  .envs = e->envs,
				  .cwd = e->cwd,
				  .timeout_ms = e->timeout_ms,
				  .linger_ms = e->linger_ms,
				  .control = e->control };
	int rc;

	pthread_setname_np(pthread_self(), "varve-exec");
	rc = sandbox_exec(sb, &spec, NULL, NULL, &e->out, &e->error);
	sandbox_exec_unshare(sb, e->control);
	async_exec_end(e, rc);
	sandbox_put(sb);
	return NULL;
}

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

static struct async_exec *async_exec_new(struct sandbox *sb, const struct exec_spec *spec)
{
	struct async_exec *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	memcpy(e->id, exec_control_id(spec->control), sizeof(e->id));
	e->control = spec->control;
	exec_control_hold(e->control);
	e->owner = sb->execs;
	e->sb = sb;
	e->argv = strv_copy(spec->argv);
	e->envs = json_incref((json_t *)spec->envs);
	e->cwd = spec->cwd ? strdup(spec->cwd) : NULL;
	e->timeout_ms = spec->timeout_ms;
	e->linger_ms = spec->linger_ms;
	e->users = 2;
	if (!e->argv || (spec->cwd && !e->cwd)) {
		async_exec_free(e);
		return NULL;
	}
	return e;
}

static int thread_start(void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return -rc;
}

int sandbox_exec_start(struct sandbox *sb, const struct exec_spec *spec, char id[SNAPSHOT_ID_SIZE],
		       struct error *err)
{
	struct sandbox_execs *x = sb->execs;
	struct async_exec *e = async_exec_new(sb, spec);
	int rc = 0;

	if (!e)
		return error_set(err, -ENOMEM, "out of memory");
	memcpy(id, e->id, SNAPSHOT_ID_SIZE);
	sandbox_hold(sb); /* before the thread may let it go */
	sandbox_exec_share(sb, e->control);
	pthread_mutex_lock(&x->lock);
	if (x->n_running >= EXEC_RUNNING_MAX)
		rc = error_set(err, -EAGAIN, "%d programs are running in the sandbox already",
			       EXEC_RUNNING_MAX);
	else if ((rc = thread_start(async_exec_main, e)) < 0)
		error_set_errno(err, rc, "cannot start a thread");
	if (rc == 0) { /* its end waits for the lock */
		TAILQ_INSERT_TAIL(&x->running, e, link);
		x->n_running++;
	}
	pthread_mutex_unlock(&x->lock);
	if (rc < 0) {
		sandbox_exec_unshare(sb, e->control);
		async_exec_free(e);
		sandbox_put(sb);
	}
	return rc;
}

int sandbox_exec_get(struct sandbox *sb, const char *id, struct async_exec **out, struct error *err)
{
	struct sandbox_execs *x = sb->execs;
	struct exec_list *lists[] = { &x->running, &x->ended };
	struct async_exec *e = NULL;

	pthread_mutex_lock(&x->lock);
	for (int i = 0; i < 2 && !e; i++)
		TAILQ_FOREACH(e, lists[i], link)
	if (strcmp(e->id, id) == 0)
		break;
	if (e)
		e->users++;
	pthread_mutex_unlock(&x->lock);
	if (!e)
		return error_set(err, -ENOENT, "there is no exec \"%.60s\" in sandbox %s", id,
				 sb->id);
	*out = e;
	return 0;
}

void sandbox_exec_share(struct sandbox *sb, struct exec_control *ec)
{
	exec_controls_add(&sb->execs->controls, ec);
}

void sandbox_exec_unshare(struct sandbox *sb, struct exec_control *ec)
{
	exec_controls_remove(&sb->execs->controls, ec);
	exec_control_end(ec);
}

int sandbox_exec_control(struct sandbox *sb, const char *id, struct exec_control **out,
			 struct error *err)
{
	struct async_exec *e;
	int rc;

	*out = exec_controls_find(&sb->execs->controls, id);
	if (*out)
		return 0;
	rc = sandbox_exec_get(sb, id, &e, err);
	if (rc < 0)
		return rc;
	async_exec_put(e);
	return error_set(err, -ENOTCONN, "exec %.60s has ended", id);
}

bool async_exec_wait(struct async_exec *e, int timeout_ms)
{
	struct sandbox_execs *x = e->owner;
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

int async_exec_outcome(struct async_exec *e, const struct exec_output **out,
		       const struct error **err)
{
	*out = &e->out;
	*err = &e->error;
	return e->rc;
}
