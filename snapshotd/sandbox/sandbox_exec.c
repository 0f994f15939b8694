#include "snapshotd/sandbox/sandbox_exec.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/sandbox/kept_exec.h"
#include "snapshotd/sandbox/sandboxes_internal.h"
#include "store/base/log.h"

/* What is kept of an attached program's stream. A connection holds 500 KiB; by TCP, 4 MiB. */
#define WINDOW_BEHIND (4u << 20)
#define WINDOW_BEHIND_MIN (1u << 20)
#define WINDOW_AHEAD (1u << 20)
#define WINDOW_AHEAD_MIN (64u << 10)

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
	bool unwanted; /* an attached one: its output is dropped */
	bool (*cancelled)(void *arg);
	void *arg;
};

/*
 * Make room for output of sb: first results of attached programs go that were told; then the oldest
 * result of the sandbox that keeps the most, if it keeps more than sb has; else of sb itself.
 * False: there is none.
 */
static bool forget_a_result(struct sandbox *sb)
{
	struct sandboxes *ss = sb->owner;
	struct sandbox *other, *most = sb;
	size_t bytes = budget_used(async_execs_budget(sb->execs));
	bool done = false;

	pthread_mutex_lock(&ss->lock); /* they stay in the list */
	TAILQ_FOREACH(other, &ss->list, link)
	{
		size_t kept = async_execs_kept(other->execs);

		done = done || async_execs_forget_told(other->execs);
		if (kept > bytes) {
			bytes = kept;
			most = other;
		}
	}
	done = done || async_execs_forget_oldest(most->execs);
	pthread_mutex_unlock(&ss->lock);
	return done;
}

static bool charge(struct run *r, size_t len)
{
	bool ok = budget_charge(r->out->budget, len);

	r->out->charged += ok ? len : 0;
	return ok;
}

/* Results that nobody has fetched go before what comes now. */
static bool take_room(struct run *r, size_t len)
{
	while (!charge(r, len))
		if (!forget_a_result(r->sb))
			return false;
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

/* Nobody is to ask again for what is so far behind. */
static void trim(struct run *r, size_t behind)
{
	exec_keep_trim(r->spec->keep, 1, behind);
	exec_keep_trim(r->spec->keep, 2, behind);
	exec_output_trimmed(r->out, r->spec->keep);
}

/* It goes on with little where the budget is nearly used up, also beyond that. */
static size_t window_room(struct run *r, int stream, size_t len)
{
	bool tight = async_execs_is_tight(r->sb->execs);
	size_t most = tight ? WINDOW_AHEAD_MIN : WINDOW_AHEAD;
	size_t ahead;

	trim(r, tight ? WINDOW_BEHIND_MIN : WINDOW_BEHIND);
	ahead = exec_keep_ahead(r->spec->keep, stream);
	if (ahead >= most)
		return 0;
	len = MIN(len, most - ahead);
	if (charge(r, len))
		return len;
	trim(r, WINDOW_BEHIND_MIN);
	len = ahead < WINDOW_AHEAD_MIN ? MIN(len, WINDOW_AHEAD_MIN - ahead) : 0;
	(void)charge(r, len);
	return len;
}

static size_t attached_room(struct run *r, int stream, size_t len)
{
	atomic_bool *stalled = &r->spec->keep->stalled;
	size_t room;

	if (r->unwanted)
		return 0;
	room = window_room(r, stream, len);
	if (!room) { /* who sends now wakes us, who has sent meanwhile is seen */
		atomic_store(stalled, true);
		room = window_room(r, stream, len);
	}
	return room ? room : EXEC_ROOM_LATER;
}

/* Of output that is kept. */
static size_t run_room(void *arg, int stream, size_t len)
{
	struct run *r = arg;

	if (r->spec->attached)
		return attached_room(r, stream, len);
	len = MIN(len, EXEC_OUTPUT_MAX - exec_keep_len(r->spec->keep, stream));
	return len && take_room(r, len) ? len : 0;
}

static void run_grown(void *arg, int stream, const void *data, size_t len)
{
	struct run *r = arg;

	(void)stream;
	(void)data;
	(void)len;
	r->spec->on_grow(r->spec->grow_arg);
}

static bool run_is_cancelled(void *arg)
{
	struct run *r = arg;

	r->unwanted = r->unwanted || r->no_memory || r->failure || sandbox_is_closing(r->sb) ||
		      (r->cancelled && r->cancelled(r->arg));
	return r->unwanted;
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
	const struct exec_keep *k = r->spec->keep;
	int rc = 0;

	for (int i = 0; i < 2 && rc == 0; i++) {
		size_t kept = k ? exec_keep_len(k, i + 1) : streams[i]->len;

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

/* How the output ends that is kept, as if it had been passed on. */
static void look_at_kept(struct run *r)
{
	const struct exec_keep *k = r->spec->keep;

	for (int i = 0; k && i < 2; i++) {
		size_t len = exec_keep_len(k, i + 1);
		char last = '\n';

		if (len)
			(void)!exec_keep_read(k, i + 1, len - 1, &last, 1);
		r->in_line[i] = last != '\n';
		r->cut[i] = k->state->cut[i];
	}
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

static struct exec_request request_of(struct sandbox *sb, const struct exec_spec *spec, char **env)
{
	struct exec_request rq = EXEC_REQUEST_INIT;

	rq.argv = spec->argv;
	rq.env = env;
	rq.cwd = spec->cwd ? spec->cwd : sandbox_workdir(sb);
	rq.make_cwd = !spec->cwd;
	rq.user = sandbox_user(sb);
	rq.user_env = true;
	rq.timeout_ms = spec->timeout_ms;
	rq.linger_ms = spec->linger_ms;
	rq.keep = spec->keep;
	if (spec->control) {
		rq.stdin_fd = exec_control_stdin_fd(spec->control);
		rq.signal_fd = exec_control_signal_fd(spec->control);
	}
	return rq;
}

/* The caller is inside. */
static int run_inside(struct sandbox *sb, struct container *c, const struct exec_spec *spec,
		      struct run *r, struct error *err)
{
	CLEANUP(strv_free_p) char **env = sandbox_environ(sb, spec->envs);
	struct exec_request rq = request_of(sb, spec, env);
	struct exec_result res = { 0 };
	int rc;

	if (!env)
		return error_set(err, -ENOMEM, "out of memory");
	rq.on_room = run_room;
	rq.on_output = spec->keep ? run_grown : run_output;
	rq.cancelled = run_is_cancelled;
	rq.arg = r;
	if (spec->started)
		*spec->started = true;
	rc = container_exec(c, &rq, &res, err);
	look_at_kept(r);
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
	*out = (struct exec_output){ .budget = async_execs_budget(sb->execs) };
	if (spec->keep && spec->attached && budget_charge(out->budget, exec_keep_held(spec->keep)))
		out->charged = exec_keep_held(spec->keep);
	else if (spec->keep && !spec->attached) /* it is there, whatever the budget says */
		(void)take_room(&r, exec_keep_len(spec->keep, 1) + exec_keep_len(spec->keep, 2));
	rc = run_inside(sb, c, spec, &r, err);
	sandbox_leave(sb);
	if (rc < 0)
		exec_output_fini(out);
	return rc;
}

/* ---- asynchronous ones ---- */

struct job {
	struct sandbox *sb; /* in use until its end */
	struct async_exec *e;
	sem_t begun;
};

static bool is_unwanted(void *arg)
{
	return async_exec_is_unwanted(arg, NULL);
}

/* A predecessor may have seen that nobody followed it. */
static int say_why_killed(struct async_exec *e, int rc, struct error *err)
{
	const char *why;

	if (rc != -ECANCELED)
		return rc;
	if (!async_exec_is_unwanted(e, &why))
		why = "nobody followed it any more";
	return error_set(err, -ENOTCONN, "the program was killed: %s", why);
}

static void *job_main(void *arg)
{
	struct job *j = arg;
	const struct exec_spec *spec = async_exec_spec(j->e);
	struct exec_output out = { 0 };
	struct error err = ERROR_INIT;
	int rc;

	pthread_setname_np(pthread_self(), "varve-exec");
	while (sem_wait(&j->begun) < 0) /* EINTR */
		;
	rc = sandbox_exec(j->sb, spec, is_unwanted, j->e, &out, &err);
	rc = say_why_killed(j->e, rc, &err);
	rc = kept_exec_end(spec->keep, rc, &out, &err);
	if (rc < 0)
		exec_output_fini(&out);
	sandbox_exec_unshare(j->sb, spec->control);
	async_exec_end(j->e, rc, &out, &err);
	sandbox_put(j->sb);
	sem_destroy(&j->begun);
	free(j);
	return NULL;
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

/*
 * Make room for a name of a program: the oldest result is not kept beyond this daemon any more,
 * first of those that were told. False: there is none.
 */
static bool let_go_a_result(struct sandbox *sb)
{
	struct sandboxes *ss = sb->owner;
	bool done = false;

	pthread_mutex_lock(&ss->lock); /* they stay in the list */
	for (int told = 1; told >= 0 && !done; told--) {
		struct sandbox *other, *oldest = NULL;
		int64_t before = INT64_MAX;

		TAILQ_FOREACH(other, &ss->list, link)
		{
			int64_t end = async_execs_oldest_kept(other->execs, told);

			if (end < before) {
				before = end;
				oldest = other;
			}
		}
		done = oldest && async_execs_let_go(oldest->execs, told);
	}
	pthread_mutex_unlock(&ss->lock);
	return done;
}

/* Whoever is told its id finds it, in this daemon or the next. What fails, the job tells. */
static void begin_kept(struct sandbox *sb, struct container *c, const struct exec_spec *spec)
{
	CLEANUP(strv_free_p) char **env = sandbox_environ(sb, spec->envs);
	struct exec_request rq = request_of(sb, spec, env);
	struct error err = ERROR_INIT;

	while (!exec_keep_reserve(spec->keep) && let_go_a_result(sb))
		;
	if (!env || container_exec_begin(c, &rq, &err) < 0 || !spec->keep->is_kept)
		return;
	while (!exec_control_keep(spec->control, sb->owner->keeper) && let_go_a_result(sb))
		;
}

/* What may be refused comes first: whoever is told so starts it again. */
static int job_start(struct sandbox *sb, struct container *c, struct async_exec *e,
		     struct error *err)
{
	struct job *j = malloc(sizeof(*j));
	int rc = j ? async_exec_begin(e, err) : error_set(err, -ENOMEM, "out of memory");

	if (rc == 0) {
		*j = (struct job){ .sb = sb, .e = e };
		sem_init(&j->begun, 0, 0);
		rc = thread_start(job_main, j);
		if (rc == 0) {
			if (c)
				begin_kept(sb, c, async_exec_spec(e));
			sem_post(&j->begun);
			return 0;
		}
		error_set_errno(err, rc, "cannot start a thread");
		sem_destroy(&j->begun);
		async_exec_abandon(e);
	}
	free(j);
	return rc;
}

/* e is the job's; not where it fails. c: to begin it in; NULL: a predecessor has. */
static int job_begin(struct sandbox *sb, struct container *c, struct async_exec *e,
		     struct error *err)
{
	struct exec_control *ec = async_exec_spec(e)->control;
	int rc;

	sandbox_hold(sb); /* before the thread may let it go */
	sandbox_exec_share(sb, ec);
	rc = job_start(sb, c, e, err);
	if (rc < 0) {
		sandbox_exec_unshare(sb, ec);
		async_exec_put(e);
		sandbox_put(sb);
	}
	return rc;
}

int sandbox_exec_start(struct sandbox *sb, struct container *c, const struct exec_spec *spec,
		       char id[SNAPSHOT_ID_SIZE], struct error *err)
{
	struct exec_keep *k = NULL;
	struct async_exec *e;
	int rc = exec_keep_new(sb->owner->keeper, exec_control_id(spec->control), sb->id, &k, err);

	if (rc < 0)
		return rc;
	if (spec->attached)
		rc = exec_keep_attach(k, err);
	e = rc == 0 ? async_exec_new(sb->execs, spec) : NULL;
	if (rc < 0 || !e) {
		exec_keep_free(k);
		return rc < 0 ? rc : error_set(err, -ENOMEM, "out of memory");
	}
	async_exec_set_keep(e, k);
	memcpy(id, exec_control_id(spec->control), SNAPSHOT_ID_SIZE);
	return job_begin(sb, c, e, err);
}

/* A predecessor has seen its end. */
static void adopt_ended(struct sandbox *sb, struct async_exec *e)
{
	struct exec_output out = { .budget = async_execs_budget(sb->execs) };
	struct error err = ERROR_INIT;
	int rc;

	exec_control_end(async_exec_spec(e)->control);
	rc = kept_exec_load(async_exec_spec(e)->keep, &out, &err);
	async_exec_adopt_ended(e, rc, &out, &err);
}

void sandbox_exec_adopt(struct sandbox *sb, struct exec_keep *k)
{
	const struct exec_state *s = k->state;
	char *argv[] = { (char *)s->program, NULL };
	struct exec_spec spec = { .argv = argv,
				  .cwd = *s->cwd ? s->cwd : NULL,
				  .timeout_ms = s->timeout_ms,
				  .linger_ms = s->linger_ms,
				  .attached = s->attached };
	struct error err = ERROR_INIT;
	struct async_exec *e = NULL;

	if (exec_control_revive(sb->owner->keeper, s->id, &spec.control, &err) == 0)
		e = async_exec_new(sb->execs, &spec);
	if (!e) {
		log_error("exec %s: out of memory", s->id);
		exec_control_put(spec.control);
		exec_keep_free(k);
		return;
	}
	exec_control_put(spec.control);
	async_exec_set_keep(e, k);
	if (s->done)
		adopt_ended(sb, e);
	else if (job_begin(sb, NULL, e, &err) < 0)
		log_error("exec: %s", error_text(&err));
}

int sandbox_exec_get(struct sandbox *sb, const char *id, struct async_exec **out, struct error *err)
{
	struct async_exec *e = async_exec_find(sb->execs, id);

	if (!e)
		return error_set(err, -ENOENT, "there is no exec \"%.60s\" in sandbox %s", id,
				 sb->id);
	*out = e;
	return 0;
}

void sandbox_exec_share(struct sandbox *sb, struct exec_control *ec)
{
	exec_controls_add(async_execs_controls(sb->execs), ec);
}

void sandbox_exec_unshare(struct sandbox *sb, struct exec_control *ec)
{
	exec_controls_remove(async_execs_controls(sb->execs), ec);
	exec_control_end(ec);
}

int sandbox_exec_control(struct sandbox *sb, const char *id, struct exec_control **out,
			 struct error *err)
{
	struct async_exec *e = NULL;
	int rc;

	*out = exec_controls_find(async_execs_controls(sb->execs), id);
	if (*out)
		return 0;
	rc = sandbox_exec_get(sb, id, &e, err);
	if (rc < 0)
		return rc;
	async_exec_put(e);
	return error_set(err, -ENOTCONN, "exec %.60s has ended", id);
}
