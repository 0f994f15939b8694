/*
 * I1, with real stores: processes push, pull, delete and collect on one directory, with faults, and
 * are killed at any request. At the end all that is named is whole, and nothing else stays.
 *
 * For some seconds; five minutes with VARVE_LONG=1.
 */
#include "tests/unit/share_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "store/bucket/object_fault.h"
#include "store/share/collect.h"
#include "store/remote/register.h"
#include "store/share/share_verify.h"

#define PUSHERS 3u
#define COLLECTORS 2u
#define SLOTS (PUSHERS + COLLECTORS)
#define SECONDS 5
#define LONG_SECONDS 300
#define LIVES_MIN 30 /* processes, however slow the machine is */
#define GIVE_UP_S 3
#define PUSHES 4 /* of a process */
#define COLLECTIONS 30

/* Exit statuses of a process that has found a fault. */
enum { CANNOT_OPEN = 3, WRONG_FAILURE = 4 };

static uint64_t state;
static unsigned random_below(unsigned n)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)((state >> 33) % n);
}

/* What the faults, the other hosts and a collection may bring about. */
static void expect(int rc, const char *what, const struct error *err)
{
	static const int allowed[] = {
		0, -ETIMEDOUT, -ENOENT, -EAGAIN, -ECANCELED, -ESTALE, -EEXIST
	};

	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		if (rc == allowed[i])
			return;
	print_error("%s: %d: %s\n", what, rc, error_text(err));
	_exit(WRONG_FAILURE);
}

/* ---- one process ---- */

/* Pushes are slow, so that many collections meet one. */
static struct remote *open_with_faults(const struct bucket *b, bool pusher)
{
	struct object_store *os = NULL;
	struct error err = ERROR_INIT;
	struct remote *r = NULL;
	char plan[200];

	snprintf(plan, sizeof(plan), "seed=%u,drop=0.01,lost=0.02,repeat=0.03,delay=%s,die=%u",
		 1 + random_below(1000000), pusher ? "50ms:0.5" : "1ms:0.1",
		 6 + random_below(pusher ? 100 : 600));
	if (object_dir_open(b->path, false, &os, &err) < 0 ||
	    object_fault_open(os, plan, &os, &err) < 0)
		_exit(CANNOT_OPEN);
	if (remote_open_store("main", os, &r, &err) < 0)
		_exit(0); /* a fault */
	return r;
}

static int keep_one(void *arg, const char *name, const struct share_record *rec)
{
	(void)rec;
	if (random_below(3) == 0)
		snprintf(arg, SNAPSHOT_NAME_MAX + 1, "%s", name);
	return 0;
}

static void push_and_delete(const struct hosts *h, struct host *me, unsigned slot, unsigned n)
{
	char dir[32], snap[48], name[SNAPSHOT_NAME_MAX + 1] = "";
	const struct push_options opt = { .name = snap, .hooks_from = 1 };
	const struct pull_options unnamed = { 0 };
	struct error err = ERROR_INIT;
	struct push_result res;
	struct pull_result got;
	bool deleted;

	snprintf(dir, sizeof(dir), "d%u", slot);
	snprintf(snap, sizeof(snap), "s%u-%u-%u", slot, (unsigned)getpid(), n);
	make_files(h, dir, 3, random_below(4)); /* others have the same content, sometimes */
	take(h, me, dir, snap, NULL);
	expect(push_snapshot(me->s, me->r, snap, &opt, NULL, &res, &err), "push", &err);
	expect(remote_each_name(me->r, keep_one, name, &err), "list", &err);
	if (!name[0])
		return;
	if (random_below(2)) {
		expect(remote_remove(me->r, name, &deleted, &err), "delete", &err);
	} else {
		int rc = pull_snapshot(me->s, me->r, name, &unnamed, NULL, &got, &err);

		expect(rc, "pull", &err);
		if (rc == 0)
			snapshot_fini(&got.snapshot);
	}
}

static void live(const struct hosts *h, unsigned slot)
{
	const struct collect_options opt = { .give_up_s = GIVE_UP_S, .free_s = COLLECT_FREE_S };
	struct host me = { .r = open_with_faults(&h->bucket, slot < PUSHERS) };
	struct error err = ERROR_INIT;
	struct collect_result res;
	char path[96];

	snprintf(path, sizeof(path), "%s/store%u", h->bucket.dir, slot);
	if (slot < PUSHERS && store_open(path, NULL, &me.s, &err) < 0)
		_exit(CANNOT_OPEN);
	for (unsigned n = 0; n < (slot < PUSHERS ? PUSHES : COLLECTIONS); n++) {
		if (slot < PUSHERS)
			push_and_delete(h, &me, slot, n);
		else
			expect(collect_run(me.r, &opt, NULL, &res, &err), "collect", &err);
	}
	remote_close(me.r);
	if (me.s)
		store_close(me.s);
	_exit(0);
}

/* ---- all of them ---- */

static pid_t begin(const struct hosts *h, unsigned slot, unsigned life)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		state = life * 7919u + slot;
		live(h, slot);
	}
	return pid;
}

/* Wait for one; its slot. */
static unsigned wait_for_one(const pid_t pids[SLOTS], unsigned *killed)
{
	int status;
	pid_t pid = waitpid(-1, &status, 0);

	*killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0) &&
	    !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
		fail_msg("a process ended with status %#x", (unsigned)status);
	for (unsigned i = 0; i < SLOTS; i++)
		if (pids[i] == pid)
			return i;
	fail_msg("not our child");
	return 0;
}

static void tell_problem(void *arg, const char *key, const char *problem)
{
	(void)arg;
	print_error("%s: %s\n", key, problem);
}

static int pull_one(void *arg, const char *name, const struct share_record *rec)
{
	(void)rec;
	pull(arg, name, name);
	return 0;
}

static void check_end(struct hosts *h)
{
	const struct collect_options opt = { .free_s = COLLECT_FREE_S };
	struct collect_result c;
	struct share_verify_result v;
	struct error err = ERROR_INIT;
	uint64_t rounds = 0;

	assert_int_equal(register_generation(h->bucket.os, "gc", &rounds, NULL, NULL), 0);
	assert_true(rounds > 0);
	for (int i = 0; i < 2; i++)
		if (collect_run(h->a.r, &opt, NULL, &c, &err) < 0)
			fail_msg("%s", error_text(&err));
	assert_int_equal(c.garbage_packs, 0);
	if (share_verify_run(h->a.r, true, NULL, tell_problem, NULL, &v, &err) < 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(v.damaged, 0);
	assert_int_equal(remote_each_name(h->b.r, pull_one, &h->b, NULL), 0);
	assert_whole(&h->b);
	print_message("# %llu snapshots in %llu packs are whole; %llu rounds\n",
		      (unsigned long long)v.snapshots, (unsigned long long)v.packs,
		      (unsigned long long)rounds);
}

static void what_is_named_outlives_those_who_die(void **arg)
{
	const char *l = getenv("VARVE_LONG");
	time_t end = time(NULL) + (l && *l == '1' ? LONG_SECONDS : SECONDS);
	struct hosts *h = *arg;
	unsigned lives = 0, killed = 0;
	pid_t pids[SLOTS];

	/* No threads may run where it forks. */
	host_close(&h->a);
	host_close(&h->b);
	for (unsigned i = 0; i < SLOTS; i++)
		pids[i] = begin(h, i, lives++);
	while (time(NULL) < end || lives < LIVES_MIN) {
		unsigned slot = wait_for_one(pids, &killed);

		pids[slot] = begin(h, slot, lives++);
	}
	for (unsigned i = 0; i < SLOTS; i++)
		(void)wait_for_one(pids, &killed);
	host_open(&h->a, &h->bucket, "a");
	host_open(&h->b, &h->bucket, "b");
	print_message("# %u processes, %u killed\n", lives, killed);
	assert_true(killed > 0);
	check_end(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_named_outlives_those_who_die, hosts_setup,
						hosts_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
