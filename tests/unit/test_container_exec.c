/* container: the programs that run in real containers. */
#include "tests/unit/container_fixture.h"

#include "fs/host/freeze.h"
#include "snapshotd/container/container.h"
#include "snapshotd/container/exec_keep.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

/* ---- programs ---- */

static void output_and_exit_status_come_back(void **state)
{
	const struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_run(&f, &rq, "echo out; echo err >&2; exit 7", &o);
	assert_int_equal(o.rc, 0);
	assert_int_equal(o.result.exit_code, 7);
	assert_int_equal(o.result.signal, 0);
	assert_string_equal(cf_out(&o), "out\n");
	assert_string_equal(cf_err(&o), "err\n");
	cf_output_fini(&o);

	cf_run(&f, &rq, "kill -TERM $$", &o);
	assert_int_equal(o.rc, 0);
	assert_int_equal(o.result.exit_code, 128 + SIGTERM);
	assert_int_equal(o.result.signal, SIGTERM);
	assert_false(o.result.timed_out || o.result.cancelled || o.result.oom_killed);
	cf_output_fini(&o);
	cf_close(&f);
}

static void directory_environment_and_arguments_are_as_told(void **state)
{
	const char *const argv[] = { "printf", "[%s]", "", "a b", "$HOME;x\n", "\xff", NULL };
	const char *const env[] = { "PATH=/nowhere:/bin", "A=1 2", "B=", "=odd", NULL };
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	rq.argv = (char *const *)argv;
	cf_run(&f, &rq, NULL, &o);
	assert_string_equal(cf_out(&o), "[][a b][$HOME;x\n][\xff]");
	cf_output_fini(&o);

	rq = (struct exec_request)EXEC_REQUEST_INIT;
	rq.env = (char *const *)env;
	rq.cwd = "/etc";
	cf_run(&f, &rq, "pwd; env | grep -v -e SHLVL -e PWD -e _= | sort", &o);
	assert_string_equal(cf_out(&o), "/etc\nA=1 2\nB=\nPATH=/nowhere:/bin\n");
	cf_output_fini(&o);
	cf_close(&f);
}

static void users_are_those_of_the_container(void **state)
{
	static const struct {
		const char *user, *is; /* NULL: refused */
	} cases[] = {
		{ "", "0:0 0" },
		{ "root", "0:0 0" },
		{ "bob", "1000:1001 1001 10" },
		{ "1000", "1000:1001 1001 10" },
		{ "bob:wheel", "1000:10 10" },
		{ "bob:5", "1000:5 5" },
		{ ":wheel", "0:10 10" },
		{ "4242", "4242:0 0" },
		{ "4242:4243", "4242:4243 4243" },
		{ "alice", NULL },
		{ "bob:nogroup", NULL },
		{ "-1", NULL },
		{ "4294967295", NULL },
		{ "99999999999999999999", NULL },
		{ "root\nx", NULL },
	};
	struct cf f;

	(void)state;
	cf_open_started(&f);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct exec_request rq = EXEC_REQUEST_INIT;
		struct cf_output o;

		rq.user = cases[i].user;
		cf_run(&f, &rq, "echo -n `id -u`:`id -g` `id -G`", &o);
		if (o.rc != (cases[i].is ? 0 : -EINVAL) ||
		    strcmp(cf_out(&o), cases[i].is ? cases[i].is : "") != 0)
			fail_msg("%s: %d %s \"%s\"", cases[i].user, o.rc, o.err.msg, cf_out(&o));
		cf_output_fini(&o);
	}
	cf_close(&f);
}

/* What a login would set, but not over what the caller says. */
static void users_have_their_variables(void **state)
{
	static const struct {
		const char *user, *env, *is;
	} cases[] = {
		{ "", "X=1", "/root root root" },	  { "bob", "X=1", "/home/bob bob bob" },
		{ "1000:5", "X=1", "/home/bob bob bob" }, { "bob", "HOME=/x", "/x bob bob" },
		{ "bob", "LOGNAME=", "/home/bob bob " },  { "4242", "X=1", "/  " },
	};
	struct cf f;

	(void)state;
	cf_open_started(&f);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *const env[] = { "PATH=/bin", cases[i].env, NULL };
		struct exec_request rq = EXEC_REQUEST_INIT;
		struct cf_output o;

		rq.user = cases[i].user;
		rq.user_env = true;
		rq.env = (char *const *)env;
		cf_run(&f, &rq, "echo -n \"$HOME $USER $LOGNAME\"", &o);
		if (o.rc || strcmp(cf_out(&o), cases[i].is) != 0)
			fail_msg("%s: %d \"%s\"", cases[i].user, o.rc, cf_out(&o));
		cf_output_fini(&o);
	}
	cf_close(&f);
}

static void a_directory_is_made_where_it_is_asked_for(void **state)
{
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	rq.cwd = "/srv/not/there";
	rq.user = "bob";
	cf_run(&f, &rq, "pwd", &o);
	assert_int_equal(o.rc, -ENOENT);
	cf_output_fini(&o);
	rq.make_cwd = true;
	cf_run(&f, &rq, "pwd; stat -c '%u %a' .", &o);
	assert_string_equal(cf_out(&o), "/srv/not/there\n0 755\n");
	cf_output_fini(&o);
	rq.cwd = "/etc/passwd";
	cf_run(&f, &rq, "pwd", &o);
	assert_int_equal(o.rc, -ENOTDIR);
	cf_output_fini(&o);
	cf_close(&f);
}

static void hostile_user_tables_are_survived(void **state)
{
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	rq.user = "bob";
	cf_sh("cd %s/etc && { printf '\\n:::\\nbob\\nbob:x\\nbob:x:-5:x\\n'; "
	      "head -c 1000000 /dev/zero | tr '\\0' a; echo; cat passwd; } >p && mv p passwd",
	      f.root);
	cf_run(&f, &rq, "id -u", &o);
	assert_string_equal(cf_out(&o), "1000\n");
	cf_output_fini(&o);
	cf_sh("rm %s/etc/passwd && mkfifo %s/etc/passwd", f.root, f.root);
	cf_run(&f, &rq, "id -u", &o);
	assert_int_equal(o.rc, -EINVAL);
	cf_output_fini(&o);
	cf_close(&f);
}

static void what_cannot_be_started_is_told(void **state)
{
	static const struct {
		const char *program, *cwd;
		int rc;
		const char *says;
	} cases[] = {
		{ "nosuch", NULL, -ENOENT, "cannot run nosuch: No such file" },
		{ "/nosuch/x", NULL, -ENOENT, "/nosuch/x" },
		{ "", NULL, -ENOENT, "" },
		{ "/etc/passwd", NULL, -EACCES, "/etc/passwd" },
		{ "/etc", NULL, -EACCES, "/etc" },
		{ "true", "/nosuch", -ENOENT, "cannot enter directory /nosuch" },
		{ "true", "/etc/passwd", -ENOTDIR, "/etc/passwd" },
		{ "/tmp/script", NULL, 0, "" },
	};
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_sh("echo 'exit $#' >%s/tmp/script; chmod 755 %s/tmp/script", f.root, f.root);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *const argv[] = { cases[i].program, "x", NULL };
		struct exec_request rq = EXEC_REQUEST_INIT;
		struct cf_output o;

		rq.argv = (char *const *)argv;
		rq.cwd = cases[i].cwd;
		cf_run(&f, &rq, NULL, &o);
		if (o.rc != cases[i].rc || !strstr(o.err.msg, cases[i].says) ||
		    (o.rc == 0 && o.result.exit_code != 1))
			fail_msg("%s: %d %s", cases[i].program, o.rc, o.err.msg);
		cf_output_fini(&o);
	}
	cf_close(&f);
}

static void too_long_arguments_are_refused(void **state)
{
	char *big = malloc((2u << 20) + 1);
	const char *argv[] = { "true", big, NULL };
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	memset(big, 'x', 2u << 20);
	big[2u << 20] = 0;
	rq.argv = (char *const *)argv;
	cf_open_started(&f);
	cf_run(&f, &rq, NULL, &o);
	assert_int_equal(o.rc, -E2BIG);
	big[200u << 10] = 0; /* more than the kernel takes for one, but the agent does */
	cf_run(&f, &rq, NULL, &o);
	assert_int_equal(o.rc, -E2BIG);
	cf_expect(&f, "echo fine", "fine\n");
	free(big);
	cf_close(&f);
}

static void streams_can_be_the_callers(void **state)
{
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	char text[16] = "";
	int in[2], out[2];
	struct cf f;

	(void)state;
	cf_open_started(&f);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(write(in[1], "hello", 5), 5);
	close(in[1]);
	rq.stdin_fd = in[0];
	rq.stdout_fd = out[1];
	cf_run(&f, &rq, "cat; echo e >&2", &o);
	assert_int_equal(o.rc, 0);
	assert_string_equal(cf_err(&o), "e\n");
	assert_int_equal(read(out[0], text, sizeof(text)), 5);
	assert_string_equal(text, "hello");
	close(in[0]);
	close(out[0]);
	close(out[1]);
	cf_output_fini(&o);
	cf_expect(&f, "cat; echo end", "end\n"); /* nothing given: empty */
	cf_close(&f);
}

/* A program gets its three descriptors, a session and an empty signal mask, and no more. */
static void programs_begin_clean(void **state)
{
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_expect(&f, "ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3 "); /* 3 is ls's own */
	cf_expect(&f, "grep -e SigBlk -e SigIgn /proc/self/status | tr -d '\\t'",
		  "SigBlk:0000000000000000\nSigIgn:0000000000000000\n");
	cf_expect(&f, "set -- `cat /proc/self/stat`; [ $5 = $6 ] && echo own session",
		  "own session\n");
	cf_expect(&f, "cat /proc/self/oom_score_adj", "0\n");
	/* Docker's without CAP_NET_RAW */
	cf_expect(&f, "grep CapBnd /proc/self/status | cut -f 2", "00000000a80405fb\n");
	cf_expect(&f, "umask", "0022\n");
	cf_close(&f);
}

static void drop(void *arg, int stream, const void *data, size_t len)
{
	atomic_size_t *n = arg;

	(void)stream;
	(void)data;
	atomic_fetch_add(n, len);
	usleep(200);
}

static void much_output_comes_whole(void **state)
{
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	atomic_size_t n = 0;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	rq.on_output = drop;
	rq.arg = &n;
	cf_run(&f, &rq, "head -c 20000000 /dev/zero; head -c 10000000 /dev/zero >&2", &o);
	assert_int_equal(o.rc, 0);
	assert_int_equal(atomic_load(&n), 30000000);
	cf_close(&f);
}

struct slow {
	size_t len;
	int naps;
};

/* Slower than any quiet time, at first. */
static void take_slowly(void *arg, int stream, const void *data, size_t len)
{
	struct slow *s = arg;

	(void)stream;
	(void)data;
	s->len += len;
	if (s->naps-- > 0)
		usleep(1300000);
}

/* What is in the pipe at the program's end, and what its children have still to put there. */
static void a_slow_taker_gets_all_output(void **state)
{
	static const char *const scripts[] = {
		"head -c 400000 /dev/zero",
		"head -c 400000 /dev/zero &",
		"(sleep 0.4; head -c 200000 /dev/zero; sleep 0.4; head -c 200000 /dev/zero) &",
	};
	struct cf f;

	(void)state;
	cf_open_started(&f);
	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		struct exec_request rq = EXEC_REQUEST_INIT;
		struct slow s = { .naps = 1 };
		struct cf_output o;

		rq.on_output = take_slowly;
		rq.arg = &s;
		cf_run(&f, &rq, scripts[i], &o);
		assert_int_equal(o.rc, 0);
		assert_int_equal(s.len, 400000);
		assert_false(o.result.output_open);
	}
	cf_close(&f);
}

struct late {
	int64_t from_ms; /* there is room */
	int asked;
};

static size_t room_later(void *arg, int stream, size_t len)
{
	struct late *l = arg;

	(void)stream;
	l->asked++;
	return cf_now_ms() < l->from_ms ? EXEC_ROOM_LATER : len;
}

/* Also where nothing else is waited for: it has ended, and is not lingered for. */
static void who_has_no_room_is_asked_now_and_then(void **state)
{
	const char *const argv[] = { "echo", "out", NULL };
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct error err = ERROR_INIT;
	struct exec_result result;
	struct late l = { 0 };
	char text[8] = "";
	struct cf f;

	(void)state;
	cf_open_started(&f);
	assert_int_equal(exec_keep_new(NULL, "late", "sb-1", &rq.keep, &err), 0);
	rq.argv = (char *const *)argv;
	rq.env = (char *const *)cf_env;
	rq.linger_ms = 0;
	rq.on_room = room_later;
	rq.arg = &l;
	assert_int_equal(container_exec_begin(f.c, &rq, &err), 0);
	l.from_ms = cf_now_ms() + 600;
	assert_int_equal(container_exec(f.c, &rq, &result, &err), 0);
	assert_int_equal(result.exit_code, 0);
	assert_false(result.output_open);
	assert_int_equal(exec_keep_read(rq.keep, 1, 0, text, sizeof(text)), 4);
	assert_string_equal(text, "out\n");
	assert_in_range(l.asked, 2, 20);
	exec_keep_free(rq.keep);
	cf_close(&f);
}

/* Its own end is what an exec waits for, not that of what it leaves running. */
static void background_processes_do_not_hold_it_up(void **state)
{
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	int64_t begun;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	rq.linger_ms = 300;
	begun = cf_now_ms();
	cf_run(&f, &rq, "sleep 1000 & echo started", &o);
	assert_string_equal(cf_out(&o), "started\n");
	assert_true(o.result.output_open);
	assert_true(cf_now_ms() - begun < 5000);
	cf_output_fini(&o);
	cf_run(&f, &rq, "(while :; do echo more; sleep 0.1; done) & echo started", &o);
	assert_int_equal(o.rc, 0);
	assert_true(o.result.output_open);
	assert_true(cf_now_ms() - begun < 20000);
	cf_output_fini(&o);
	rq.linger_ms = 0;
	cf_run(&f, &rq, "yes & echo started >&2", &o);
	assert_int_equal(o.rc, 0);
	assert_string_equal(cf_err(&o), "started\n");
	assert_true(o.result.output_open);
	assert_true(cf_now_ms() - begun < 20000);
	cf_output_fini(&o);
	rq.linger_ms = 3600000; /* its time is over before */
	rq.timeout_ms = 1000;
	cf_run(&f, &rq, "sleep 1000 & echo started", &o);
	assert_int_equal(o.rc, 0);
	assert_int_equal(o.result.exit_code, 0);
	assert_false(o.result.timed_out);
	assert_true(o.result.output_open);
	assert_true(cf_now_ms() - begun < 20000);
	cf_output_fini(&o);
	cf_expect(&f, "pidof sleep | wc -w", "2\n");
	cf_close(&f);
}

/* As a shell's $(...) would have it: up to EOF, however quiet they are until then. */
static void output_of_children_that_live_longer_comes(void **state)
{
	const struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_run(&f, &rq, "(sleep 2.5; echo late; echo error >&2) & echo now", &o);
	assert_int_equal(o.rc, 0);
	assert_string_equal(cf_out(&o), "now\nlate\n");
	assert_string_equal(cf_err(&o), "error\n");
	assert_false(o.result.output_open);
	cf_output_fini(&o);
	cf_close(&f);
}

/* ---- the end of programs ---- */

static void timeouts_kill_all_of_it(void **state)
{
	struct exec_request rq = EXEC_REQUEST_INIT;
	int64_t begun;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	rq.timeout_ms = 300;
	begun = cf_now_ms();
	/* one that will not hear, one of another session, one of another group */
	cf_run(&f, &rq,
	       "trap '' TERM INT; echo begun; setsid sleep 1001 & (set -m; sleep 1002 & wait) & "
	       "sleep 1003; sleep 1004",
	       &o);
	assert_int_equal(o.rc, 0);
	assert_true(o.result.timed_out);
	assert_int_equal(o.result.exit_code, 137);
	assert_string_equal(cf_out(&o), "begun\n");
	assert_in_range(cf_now_ms() - begun, 300, 3000);
	cf_output_fini(&o);
	cf_expect(&f, "pidof sleep || echo none", "none\n");
	cf_close(&f);
}

static bool after_some(void *arg)
{
	atomic_int *n = arg;

	return atomic_fetch_add(n, 1) > 3;
}

static void cancelling_kills(void **state)
{
	struct exec_request rq = EXEC_REQUEST_INIT;
	atomic_int n = 0;
	struct exec_result result;
	const char *const argv[] = { "sleep", "1000", NULL };
	struct cf f;

	(void)state;
	cf_open_started(&f);
	rq.argv = (char *const *)argv;
	rq.env = (char *const *)cf_env;
	rq.cancelled = after_some;
	rq.arg = &n;
	assert_int_equal(container_exec(f.c, &rq, &result, NULL), 0);
	assert_true(result.cancelled);
	assert_false(result.timed_out);
	assert_int_equal(result.signal, SIGKILL);
	cf_expect(&f, "pidof sleep || echo none", "none\n");
	cf_close(&f);
}

static void memory_kills_are_told(void **state)
{
	const struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open(&f);
	cf_start(&f, &(struct container_options){ .memory_bytes = 64u << 20 }, &f.c);
	cf_run(&f, &rq, "tail /dev/zero", &o);
	assert_int_equal(o.rc, 0);
	assert_int_equal(o.result.exit_code, 137);
	assert_true(o.result.oom_killed);
	assert_true(container_oom_kills(f.c) > 0);
	assert_true(container_is_running(f.c));
	cf_output_fini(&o);
	cf_run(&f, &rq, "exit 1", &o); /* not this one's */
	assert_false(o.result.oom_killed);
	cf_output_fini(&o);
	cf_close(&f);
}

static void fork_bombs_meet_the_limit(void **state)
{
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open(&f);
	cf_start(&f, &(struct container_options){ .pids = 60 }, &f.c);
	rq.timeout_ms = 1000;
	cf_run(&f, &rq, "b() { b | b & b; }; b 2>/dev/null; setsid sh -c 'b() { b | b & b; }; b'",
	       &o);
	assert_int_equal(o.rc, 0);
	cf_output_fini(&o);
	/* in sessions of their own, so that nothing but the container's end ends them */
	cf_run(&f, &rq,
	       cf_marked("trap '' HUP; f() { while :; do setsid sh -c 'sleep 100 ID' & done; }; "
			 "f 2>/dev/null"),
	       &o);
	assert_true(o.rc == 0 || o.rc == -EAGAIN); /* where the first has left many */
	cf_output_fini(&o);
	assert_true(container_is_running(f.c));
	cf_close(&f);
	cf_sh("! pgrep -f 'sleep [1]00 %d$'", (int)getpid());
}

/* ---- many ---- */

struct worker {
	struct cf *f;
	int n;
	char says[32];
};

static void *work(void *arg)
{
	struct worker *w = arg;
	const struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	char script[64];

	for (int i = 0; i < 5; i++) {
		snprintf(script, sizeof(script), "sleep 0.1; echo %d.%d; exit %d", w->n, i, w->n);
		cf_run(w->f, &rq, script, &o);
		snprintf(w->says, sizeof(w->says), "%d.%d\n", w->n, i);
		if (o.rc || o.result.exit_code != w->n || strcmp(cf_out(&o), w->says) != 0)
			return o.rc ? "rc" : "output";
		cf_output_fini(&o);
	}
	return NULL;
}

static void many_execs_run_at_once(void **state)
{
	struct worker w[20];
	pthread_t t[20];
	int64_t begun;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	begun = cf_now_ms();
	for (int i = 0; i < 20; i++) {
		w[i] = (struct worker){ &f, i + 1, "" };
		assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
	}
	for (int i = 0; i < 20; i++) {
		void *failed;

		pthread_join(t[i], &failed);
		if (failed)
			fail_msg("worker %d: %s", i, (char *)failed);
	}
	assert_true(cf_now_ms() - begun < 9000); /* one after the other: above 10 s */
	/* what they leave: no zombie, no descriptor of the agent */
	cf_expect(&f, "ps -o stat | grep Z || echo none", "none\n");
	cf_close(&f);
}

/* ---- in a frozen container ---- */

static void execs_wait_for_the_thaw(void **state)
{
	pthread_t t;
	struct worker w;
	void *failed;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	assert_int_equal(cgroup_freeze(container_cgroup(f.c), NULL), 0);
	w = (struct worker){ &f, 3, "" };
	assert_int_equal(pthread_create(&t, NULL, work, &w), 0);
	usleep(100000); /* in which it would begin */
	assert_string_equal(w.says, "");
	assert_int_equal(cgroup_thaw(container_cgroup(f.c)), 0);
	pthread_join(t, &failed);
	assert_null(failed);
	cf_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_and_exit_status_come_back),
		cmocka_unit_test(directory_environment_and_arguments_are_as_told),
		cmocka_unit_test(users_are_those_of_the_container),
		cmocka_unit_test(users_have_their_variables),
		cmocka_unit_test(a_directory_is_made_where_it_is_asked_for),
		cmocka_unit_test(hostile_user_tables_are_survived),
		cmocka_unit_test(what_cannot_be_started_is_told),
		cmocka_unit_test(too_long_arguments_are_refused),
		cmocka_unit_test(streams_can_be_the_callers),
		cmocka_unit_test(programs_begin_clean),
		cmocka_unit_test(much_output_comes_whole),
		cmocka_unit_test(a_slow_taker_gets_all_output),
		cmocka_unit_test(who_has_no_room_is_asked_now_and_then),
		cmocka_unit_test(background_processes_do_not_hold_it_up),
		cmocka_unit_test(output_of_children_that_live_longer_comes),
		cmocka_unit_test(timeouts_kill_all_of_it),
		cmocka_unit_test(cancelling_kills),
		cmocka_unit_test(memory_kills_are_told),
		cmocka_unit_test(fork_bombs_meet_the_limit),
		cmocka_unit_test(many_execs_run_at_once),
		cmocka_unit_test(execs_wait_for_the_thaw),
	};

	return cf_run_group(tests);
}
