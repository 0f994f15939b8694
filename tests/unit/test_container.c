/* container: how real containers begin and end, and what is left of them. */
#include "tests/unit/container_fixture.h"

#include "fs/host/freeze.h"
#include "snapshotd/container/container.h"
#include "snapshotd/container/container_names.h"
#include "snapshotd/container/leftovers.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void *exec_sleep(void *arg)
{
	struct cf *f = arg;
	const struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;

	cf_run(f, &rq, "sleep 1000", &o);
	return (void *)(intptr_t)o.rc;
}

static void wait_for_execs(struct cf *f, unsigned n)
{
	unsigned found = 0;

	for (int i = 0; i < 10000 && found < n; i++) {
		usleep(1000);
		pthread_mutex_lock(&f->c->lock);
		found = f->c->execs;
		pthread_mutex_unlock(&f->c->lock);
	}
	assert_int_equal(found, n);
}

static void stop_ends_execs_under_way(void **state)
{
	pthread_t t[5];
	struct cf f;

	(void)state;
	cf_open_started(&f);
	for (int i = 0; i < 5; i++)
		assert_int_equal(pthread_create(&t[i], NULL, exec_sleep, &f), 0);
	wait_for_execs(&f, 5);
	container_stop(f.c);
	f.c = NULL;
	for (int i = 0; i < 5; i++) {
		void *rc;

		pthread_join(t[i], &rc);
		assert_int_equal((intptr_t)rc, -ESRCH);
	}
	cf_close(&f);
}

static void nothing_is_left_of_a_container(void **state)
{
	char name[128];
	struct cf f;

	(void)state;
	cf_open_started(&f);
	snprintf(name, sizeof(name), "%s", f.c->name);
	cf_expect(&f, cf_marked("setsid sleep 1009 & setsid sleep 1009 ID &"), "");
	cf_sh("find /sys/fs/cgroup -maxdepth 3 -not -path '*/unified/*' -name %s | grep -q .",
	      name);
	container_stop(f.c);
	f.c = NULL;
	cf_sh("! pgrep -f 'sleep [1]009 %d$'", (int)getpid());
	cf_sh("! find /sys/fs/cgroup -maxdepth 3 -not -path '*/unified/*' -name %s | grep .", name);
	cf_sh("! ls %s/run/oci %s/run/bundles | grep %s", f.dir, f.dir, name);
	cf_sh("! grep %s /proc/mounts", f.root);
	cf_close(&f);
}

static void a_dead_container_is_noticed(void **state)
{
	const struct exec_request rq = EXEC_REQUEST_INIT;
	pthread_t t;
	struct cf_output o;
	void *rc;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	assert_true(container_is_running(f.c));
	assert_int_equal(pthread_create(&t, NULL, exec_sleep, &f), 0);
	wait_for_execs(&f, 1);
	assert_int_equal(kill(f.c->pid, SIGKILL), 0);
	pthread_join(t, &rc);
	assert_int_equal((intptr_t)rc, -ESRCH);
	for (int i = 0; i < 2000 && container_is_running(f.c); i++)
		usleep(1000);
	assert_false(container_is_running(f.c));
	cf_run(&f, &rq, "true", &o);
	assert_int_equal(o.rc, -ESRCH);
	cf_close(&f);
}

/* As when the daemon dies. */
static void the_agent_ends_with_its_socket(void **state)
{
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_expect(&f, cf_marked("setsid sleep 1008 ID &"), "");
	close(f.c->control);
	f.c->control = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 5000 && container_is_running(f.c); i++)
		usleep(1000);
	assert_false(container_is_running(f.c));
	cf_sh("! pgrep -f 'sleep [1]008 %d$'", (int)getpid());
	cf_close(&f);
}

static void a_former_daemons_containers_are_removed(void **state)
{
	struct container *c, *other;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_expect(&f, cf_marked("setsid sleep 1007 ID &"), "");
	cf_start(&f, &(struct container_options){ .id = "b" }, &other);
	/* What a daemon that is killed does not do. */
	c = f.c;
	f.c = NULL;
	runtime_close(f.rt);
	cf_open_runtime(&f);
	assert_false(container_is_running(c));
	assert_false(container_is_running(other));
	cf_sh("! pgrep -f 'sleep [1]007 %d$'", (int)getpid());
	cf_sh("! find /sys/fs/cgroup -maxdepth 3 -not -path '*/unified/*' -name 'varve-test-%d*' | "
	      "grep .",
	      (int)getpid());
	cf_sh("! find %s/run/oci %s/run/bundles -mindepth 1 | grep .", f.dir, f.dir);
	c->rt = other->rt = f.rt;
	container_stop(c);
	container_stop(other);
	cf_start(&f, &(struct container_options){ 0 }, &f.c);
	cf_expect(&f, "echo again", "again\n");
	cf_close(&f);
}

/* What looks like a call of the runtime, and is there again whenever it is killed. */
static pid_t start_endless_call(const char *oci_dir)
{
	pid_t pid = fork(), child;

	if (pid == 0) /* the reaper waits for the end of all who have its pipe */
		(void)!syscall(SYS_close_range, 3, ~0u, 0);
	while (pid == 0) { /* NOLINT(bugprone-infinite-loop): until it is killed */
		child = fork();
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			execl("/bin/busybox", "sh", "-c", "sleep 100; :", "x", "--root", oci_dir,
			      NULL);
		}
		waitpid(child, NULL, 0);
	}
	return pid;
}

static void a_call_that_hangs_does_not_save_containers(void **state)
{
	struct container *c;
	struct cf f;
	pid_t pid;

	(void)state;
	if (strcmp(cf_program(), "runc") != 0)
		skip(); /* it takes the reaper's patience */
	cf_open_started(&f);
	c = f.c;
	f.c = NULL;
	pid = start_endless_call(f.rt->oci_dir);
	cf_sh("for i in $(seq 1000); do pgrep -f '^sh -c sleep 100.* %s$' && exit; sleep .01; done;"
	      "exit 1",
	      f.rt->oci_dir);
	runtime_close(f.rt);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_false(container_is_running(c));
	cf_open_runtime(&f);
	c->rt = f.rt;
	container_stop(c);
	cf_close(&f);
}

static void bad_starts_say_why_and_leave_nothing(void **state)
{
	const struct runtime_options missing = { .program = "no-such-runtime" };
	struct container_options o = { .id = "x", .rootfs = "/proc/nonexistent" };
	struct runtime_options ro = missing;
	struct error err = ERROR_INIT;
	struct container *c;
	struct runtime *rt;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	assert_int_equal(container_start(f.rt, &o, &c, &err), -EIO);
	assert_non_null(strstr(err.msg, "/proc/nonexistent"));
	o.id = "../x";
	assert_int_equal(container_start(f.rt, &o, &c, &err), -EINVAL);
	o.id = "";
	assert_int_equal(container_start(f.rt, &o, &c, &err), -EINVAL);
	o.id = f.c->name + strlen(CONTAINER_PREFIX);
	assert_int_equal(container_start(f.rt, &o, &c, &err), -EEXIST);
	cf_expect(&f, "echo alive", "alive\n");
	cf_sh("[ `ls %s/run/bundles | wc -l` = 1 ]", f.dir);
	cf_sh("! find /sys/fs/cgroup -maxdepth 3 -not -path '*/unified/*' -name varve-x | grep .");
	container_stop(f.c);
	f.c = NULL;

	runtime_close(f.rt);
	f.rt = NULL;
	ro.state_dir = f.dir;
	assert_int_equal(runtime_open(&ro, &rt, &err), 0);
	o.id = "x";
	assert_int_equal(container_start(rt, &o, &c, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "no-such-runtime"));
	assert_non_null(strstr(err.msg, "--runtime"));
	runtime_close(rt);
	cf_close(&f);
}

static void hosts_files_get_what_they_lack(void **state)
{
#define LOCAL "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	static const struct {
		const char *has, *then;
	} cases[] = {
		{ "", LOCAL "127.0.1.1\tbox\n" },
		{ "10.0.0.1 box", "10.0.0.1 box\n" LOCAL },
		{ "127.0.0.1 a localhost # box\n",
		  "127.0.0.1 a localhost # box\n127.0.1.1\tbox\n" },
		{ "#127.0.0.1 localhost\n1 box.x localhost.x\n",
		  "#127.0.0.1 localhost\n1 box.x localhost.x\n" LOCAL "127.0.1.1\tbox\n" },
		{ "localhost box\r\n::1\tlocalhost\r\n", "localhost box\r\n::1\tlocalhost\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

		assert_int_equal(buf_append_str(&b, cases[i].has), 0);
		assert_int_equal(container_names_complete(&b, "box"), 0);
		assert_string_equal(buf_cstr(&b), cases[i].then);
	}
}

/* The image's own lines, and ours; what is changed there is not in the image. */
static void names_are_the_containers_own(void **state)
{
	const struct container_options o = { .hostname = "box", .names = true };
	struct cf f;

	(void)state;
	cf_open(&f);
	cf_sh("echo 'the host' >%s/outside; ln -s %s/outside %s/etc/hosts", f.dir, f.dir, f.root);
	cf_start(&f, &o, &f.c);
	cf_expect(&f, "cat /etc/hosts /etc/hostname", LOCAL "127.0.1.1\tbox\nbox\n");
	container_stop(f.c);
	cf_sh("grep -q 'the host' %s/outside", f.dir);
	cf_sh("rm %s/etc/hosts; echo '10.0.0.1 db' >%s/etc/hosts", f.root, f.root);
	cf_start(&f, &o, &f.c);
	cf_expect(&f, "echo '10.0.0.2 new' >>/etc/hosts; cat /etc/hosts",
		  "10.0.0.1 db\n" LOCAL "127.0.1.1\tbox\n10.0.0.2 new\n");
	cf_expect(&f, "head -c 100000000 /dev/zero 2>/dev/null >/etc/hosts || echo full", "full\n");
	cf_sh("! grep %s/run /proc/mounts", f.dir);
	container_stop(f.c);
	f.c = NULL;
	cf_sh("[ `cat %s/etc/hosts | wc -l` = 1 ]", f.root);
	cf_sh("! ls %s/run/bundles | grep .", f.dir);
	cf_close(&f);
}

static void a_root_that_leads_out_is_refused(void **state)
{
	static const char *const names[] = { "dev", "proc", "sys" };
	struct error err = ERROR_INIT;
	struct container *c;
	struct cf f;

	(void)state;
	cf_open(&f);
	cf_sh("mkdir %s/victim && touch %s/victim/ptmx", f.dir, f.dir);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const struct container_options o = { .id = "out", .rootfs = f.root };

		cf_sh("cd %s && rmdir %s && ln -s %s/victim %s", f.root, names[i], f.dir, names[i]);
		assert_int_equal(container_start(f.rt, &o, &c, &err), -EINVAL);
		assert_non_null(strstr(err.msg, names[i]));
		cf_sh("cd %s && rm %s && mkdir %s", f.root, names[i], names[i]);
	}
	cf_sh("[ `ls %s/victim` = ptmx ] && [ -f %s/victim/ptmx ]", f.dir, f.dir);
	cf_close(&f);
}

static void a_frozen_container_stops(void **state)
{
	char path[4200];
	struct cf f;

	(void)state;
	cf_open_started(&f);
	assert_non_null(container_cgroup(f.c));
	assert_int_equal(cgroup_freeze(container_cgroup(f.c), NULL), 0);
	snprintf(path, sizeof(path), "%s", container_cgroup(f.c));
	container_stop(f.c);
	f.c = NULL;
	assert_int_not_equal(access(path, F_OK), 0);
	cf_close(&f);
}

static int count_fds(void)
{
	struct dirent **names;
	int n = scandir("/proc/self/fd", &names, NULL, NULL);

	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return n;
}

/* The agent's. It closes those of a program a moment after we know of its end. */
static int count_agent_fds(struct cf *f)
{
	const struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	int n;

	cf_run(f, &rq, "ls /proc/1/fd | wc -l", &o);
	n = atoi(cf_out(&o));
	cf_output_fini(&o);
	return n;
}

static void descriptors_do_not_leak(void **state)
{
	const char *const missing[] = { "nosuch", NULL };
	struct exec_request rq = EXEC_REQUEST_INIT;
	int before, inside;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open(&f);
	before = count_fds();
	cf_start(&f, &(struct container_options){ 0 }, &f.c);
	inside = count_agent_fds(&f);
	for (int i = 0; i < 20; i++) {
		rq = (struct exec_request)EXEC_REQUEST_INIT;
		rq.argv = (char *const *)missing;
		cf_run(&f, &rq, NULL, &o);
		assert_int_equal(o.rc, -ENOENT);
		rq = (struct exec_request)EXEC_REQUEST_INIT;
		rq.timeout_ms = 1;
		cf_run(&f, &rq, "sleep 10", &o);
		assert_true(o.result.timed_out);
	}
	for (int i = 0; i < 100 && count_agent_fds(&f) != inside; i++)
		usleep(10000);
	assert_int_equal(count_agent_fds(&f), inside);
	container_stop(f.c);
	f.c = NULL;
	assert_int_equal(count_fds(), before);
	cf_close(&f);
}

/* In any moment of a start or an end; the next daemon cleans up. */
static void a_killed_daemon_leaves_nothing(void **state)
{
	struct cf f;

	(void)state;
	cf_open(&f);
	for (unsigned round = 1; round <= 12; round++) {
		pid_t pid = fork();

		if (pid == 0) {
			for (;;) {
				cf_start(&f, &(struct container_options){ .id = "k" }, &f.c);
				container_stop(f.c);
			}
		}
		usleep(7000 * round);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		runtime_close(f.rt);
		cf_open_runtime(&f);
		cf_sh("! find /sys/fs/cgroup -maxdepth 3 -not -path '*/unified/*' "
		      "-name 'varve-test-%d-k' | grep .",
		      (int)pid);
		cf_sh("! find %s/run/oci %s/run/bundles -mindepth 1 | grep .", f.dir, f.dir);
	}
	cf_close(&f);
}

static void times_are_short(void **state)
{
	const struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	int64_t begun;
	struct cf f;

	(void)state;
	cf_open(&f);
	begun = cf_now_ms();
	cf_start(&f, &(struct container_options){ 0 }, &f.c);
	print_message("start: %d ms\n", (int)(cf_now_ms() - begun));
	begun = cf_now_ms();
	for (int i = 0; i < 100; i++) {
		cf_run(&f, &rq, "echo x", &o);
		cf_output_fini(&o);
	}
	print_message("100 execs: %d ms\n", (int)(cf_now_ms() - begun));
	assert_true(cf_now_ms() - begun < 5000); /* far above what it should be: a few ms each */
	begun = cf_now_ms();
	container_stop(f.c);
	f.c = NULL;
	print_message("stop: %d ms\n", (int)(cf_now_ms() - begun));
	cf_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stop_ends_execs_under_way),
		cmocka_unit_test(nothing_is_left_of_a_container),
		cmocka_unit_test(a_dead_container_is_noticed),
		cmocka_unit_test(the_agent_ends_with_its_socket),
		cmocka_unit_test(a_former_daemons_containers_are_removed),
		cmocka_unit_test(a_call_that_hangs_does_not_save_containers),
		cmocka_unit_test(bad_starts_say_why_and_leave_nothing),
		cmocka_unit_test(hosts_files_get_what_they_lack),
		cmocka_unit_test(names_are_the_containers_own),
		cmocka_unit_test(a_root_that_leads_out_is_refused),
		cmocka_unit_test(a_frozen_container_stops),
		cmocka_unit_test(descriptors_do_not_leak),
		cmocka_unit_test(a_killed_daemon_leaves_nothing),
		cmocka_unit_test(times_are_short),
	};

	return cf_run_group(tests);
}
