/* cgroup: v1 and v2, by the real files where this system has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>

#include "fs/host/freeze.h"
#include "snapshotd/container/cgroup.h"

static char dir[64]; /* with files like those of cgroups */

static void put(const char *path, const char *text)
{
	char full[256];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", dir, path);
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_cgroup.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char cmd[128];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd); /* NOLINT(bugprone-command-processor) */
}

static void load(struct cgroups *cs, const char *mountinfo)
{
	char path[128];

	put("mountinfo", mountinfo);
	snprintf(path, sizeof(path), "%s/mountinfo", dir);
	assert_int_equal(cgroups_load(path, "/sys/fs/cgroup", cs, NULL), 0);
}

static void hierarchies_are_found(void **state)
{
	struct cgroups cs;

	(void)state;
	load(&cs, "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
		  "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
		  "31 24 0:26 / /mnt/sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
	assert_int_equal(cs.n, 1);
	assert_true(cs.unified && cs.v[0].v2 && cs.v[0].freezer && cs.v[0].memory);
	cgroups_fini(&cs);

	load(&cs, "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
		  "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
		  "32 30 0:28 / /sys/fs/cgroup/freezer rw shared:9 - cgroup cgroup rw,freezer\n"
		  "33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
		  "33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
		  "34 30 0:30 / /sys/fs/cgroupish rw - cgroup cgroup rw,pids\n"
		  "35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		  "nonsense\n - \n36 x - cgroup\n");
	assert_int_equal(cs.n, 4);
	assert_false(cs.unified);
	assert_true(cs.v[1].freezer && !cs.v[1].memory && !cs.v[0].freezer);
	assert_true(cs.v[2].memory);
	cgroups_fini(&cs);

	load(&cs, "");
	assert_int_equal(cs.n, 0);
	assert_null(cgroup_freeze_dir(&cs, "x"));
	assert_int_equal(cgroup_oom_kills(&cs, "x"), 0);
	assert_int_equal(cgroup_destroy(&cs, "x", 0, NULL), 0);
	cgroups_fini(&cs);
}

static void memory_kills_are_read(void **state)
{
	char path[128], mode[128];
	struct cgroups cs = { .n = 1, .unified = true };

	(void)state;
	cs.v[0] = (struct cgroup_hierarchy){ dir, true, true, true };
	snprintf(path, sizeof(path), "%s/c", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(cgroup_oom_kills(&cs, "c"), 0);
	put("c/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 9\n");
	assert_int_equal(cgroup_oom_kills(&cs, "c"), 3);
	cs.unified = cs.v[0].v2 = false;
	put("c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 12\n");
	assert_int_equal(cgroup_oom_kills(&cs, "c"), 12);
	snprintf(mode, sizeof(mode), "%s", cgroup_freeze_dir(&cs, "none") ? "some" : "none");
	assert_string_equal(mode, "none");
}

/* ---- the system's own ---- */

/* A child that counts in shared memory would do; one that stops is seen in /proc as well. */
static pid_t spawn_in(const char *cgroup)
{
	char path[256], text[16];
	FILE *f;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(60);
		for (;;)
			usleep(1000);
	}
	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	snprintf(text, sizeof(text), "%d", (int)pid);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
	return pid;
}

/* Voluntary switches of a process: they grow while it runs its loop. */
static long switches(pid_t pid)
{
	char path[64], line[256];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (n < 0 && fgets(line, sizeof(line), f))
		(void)sscanf(line, "voluntary_ctxt_switches: %ld", &n);
	fclose(f);
	return n;
}

/* root: where a hierarchy is mounted. */
static void freeze_thaw_destroy(const char *root, bool v2)
{
	struct cgroups cs = { .n = 1, .unified = v2 };
	char name[32], path[128], root_copy[64], *found;
	struct stat st;
	pid_t pid;
	long n;

	snprintf(path, sizeof(path), "%s/%s", root, v2 ? "cgroup.procs" : "freezer");
	if (geteuid() != 0 || (stat(path, &st) < 0 && v2) || stat(root, &st) < 0) {
		print_message("needs root and %s\n", root);
		skip();
	}
	snprintf(root_copy, sizeof(root_copy), "%s", root);
	snprintf(name, sizeof(name), "varve-test-cg-%d", (int)getpid());
	snprintf(path, sizeof(path), "%s/%s", root, name);
	cs.v[0] = (struct cgroup_hierarchy){ root_copy, v2, true, false };
	assert_int_equal(mkdir(path, 0755), 0);
	pid = spawn_in(path);
	found = cgroup_freeze_dir(&cs, name);
	assert_string_equal(found, path);
	free(found);

	assert_int_equal(cgroup_freeze(path, NULL), 0);
	n = switches(pid);
	usleep(50000); /* in which it would go on */
	assert_int_equal(switches(pid), n);
	assert_int_equal(cgroup_thaw(path), 0);
	for (int i = 0; i < 10000 && switches(pid) <= n + 3; i++)
		usleep(1000);
	assert_true(switches(pid) > n + 3);

	assert_int_equal(cgroup_freeze(path, NULL), 0);
	signal(SIGCHLD, SIG_IGN); /* nobody's zombie */
	assert_int_equal(cgroup_destroy(&cs, name, 5000, NULL), 0);
	signal(SIGCHLD, SIG_DFL);
	assert_int_not_equal(stat(path, &st), 0);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(cgroup_destroy(&cs, name, 0, NULL), 0);
}

static void v1_freezes_and_ends(void **state)
{
	(void)state;
	freeze_thaw_destroy("/sys/fs/cgroup/freezer", false);
}

static void v2_freezes_and_ends(void **state)
{
	struct stat st;

	(void)state;
	freeze_thaw_destroy(stat("/sys/fs/cgroup/cgroup.procs", &st) == 0
				    ? "/sys/fs/cgroup"
				    : "/sys/fs/cgroup/unified",
			    true);
}

static void what_is_no_cgroup_does_not_freeze(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(cgroup_freeze(dir, &err), -ENOENT);
	assert_non_null(strstr(err.msg, dir));
	assert_int_equal(cgroup_thaw(dir), -ENOENT);
	assert_int_equal(cgroup_freeze("/nonexistent", NULL), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hierarchies_are_found),
		cmocka_unit_test(memory_kills_are_read),
		cmocka_unit_test(v1_freezes_and_ends),
		cmocka_unit_test(v2_freezes_and_ends),
		cmocka_unit_test(what_is_no_cgroup_does_not_freeze),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
