/*
 * Two mounts and the threads that serve both: neither has all of them.
 * wrap: view_getxattr
 */
#include "tests/unit/mount_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/xattr.h>

#include "fs/fuse/session_internal.h"

#define CLIENTS 8
/* Many times what any of these takes. */
#define WAIT_MS 20000

struct served {
	struct mf mf;
	struct session *s;
	char dir[64];
	atomic_uint asked; /* requests for an attribute that were begun */
};

struct pair {
	struct session_pool *sp;
	struct served busy, other;
	pthread_t clients[CLIENTS];
	unsigned n_clients;
	atomic_uint answered; /* calls of them */
};

/* What requests for attributes of the busy mount do. */
static atomic_bool gate_is_shut;  /* wait for it to open */
static atomic_bool other_is_shut; /* the other mount's do */
static atomic_bool queue_is_kept; /* wait for another request to be queued */
static struct pair *now;
/*
 * Requests of the busy mount in a row while one of the other was queued, and the most so far.
 * The other's may be of the kernel's own (attributes of the root), which count as its turn.
 */
static atomic_uint in_a_row, most_in_a_row;
static uint64_t others_seen; /* by the one thread that serves both */

int __real_view_getxattr(struct view *v, uint64_t ino, const char *name, struct buf *out);
int __wrap_view_getxattr(struct view *v, uint64_t ino, const char *name, struct buf *out);

static bool is_queued(const struct served *m, int wait_ms)
{
	struct pollfd p = { .fd = m->s->fd, .events = POLLIN };

	return poll(&p, 1, wait_ms) == 1;
}

static void keep_queue(void)
{
	uint64_t others = atomic_load(&now->other.s->requests);
	bool had_turn = others != others_seen;

	others_seen = others;
	if (had_turn || !is_queued(&now->other, 0))
		atomic_store(&in_a_row, 0);
	unsigned n = is_queued(&now->other, 0) ? atomic_fetch_add(&in_a_row, 1) + 1 : 0;

	if (n > atomic_load(&most_in_a_row))
		atomic_store(&most_in_a_row, n);
	(void)!is_queued(&now->busy, 100);
}

int __wrap_view_getxattr(struct view *v, uint64_t ino, const char *name, struct buf *out)
{
	bool busy = v == now->busy.mf.v;

	if (strcmp(name, "user.ask") != 0) /* the kernel's own */
		return __real_view_getxattr(v, ino, name, out);
	atomic_fetch_add(busy ? &now->busy.asked : &now->other.asked, 1);
	while (atomic_load(busy ? &gate_is_shut : &other_is_shut))
		usleep(100);
	if (busy && atomic_load(&queue_is_kept))
		keep_queue();
	return -ENODATA;
}

static void ask(const struct served *m)
{
	char value[8];

	assert_int_equal(getxattr(m->dir, "user.ask", value, sizeof(value)), -1);
	assert_int_equal(errno, ENODATA);
}

static void begin(struct session_pool *sp, struct served *m)
{
	const struct session_options opt = { .mountpoint = m->dir, .fsname = "test" };
	struct error err = ERROR_INIT;

	mf_open(&m->mf);
	snprintf(m->dir, sizeof(m->dir), "/tmp/varve-turns-XXXXXX");
	assert_non_null(mkdtemp(m->dir));
	if (session_start(sp, m->mf.v, &opt, &m->s, &err))
		fail_msg("session_start: %s", error_text(&err));
}

static void end(struct served *m)
{
	assert_int_equal(umount2(m->dir, MNT_DETACH), 0);
	session_stop(m->s);
	assert_int_equal(rmdir(m->dir), 0);
	mf_close(&m->mf);
}

static struct pair *new_pair(unsigned threads)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct error err = ERROR_INIT;

	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0) {
		free(p);
		skip();
	}
	assert_non_null(p);
	now = p;
	p->sp = session_pool_new(threads, &err);
	if (!p->sp)
		fail_msg("session_pool_new: %s", error_text(&err));
	begin(p->sp, &p->busy);
	begin(p->sp, &p->other);
	return p;
}

static void free_pair(struct pair *p)
{
	atomic_store(&gate_is_shut, false);
	for (unsigned i = 0; i < p->n_clients; i++)
		pthread_join(p->clients[i], NULL);
	end(&p->busy);
	end(&p->other);
	session_pool_free(p->sp);
	free(p);
}

static void start_clients(struct pair *p, void *(*run)(void *pair))
{
	for (; p->n_clients < CLIENTS; p->n_clients++)
		assert_int_equal(pthread_create(&p->clients[p->n_clients], NULL, run, p), 0);
}

static bool reaches(atomic_uint *n, unsigned value)
{
	for (unsigned i = 0; i < WAIT_MS && atomic_load(n) < value; i++)
		usleep(1000);
	return atomic_load(n) >= value;
}

/* ---- requests that wait ---- */

static void *ask_once(void *pair)
{
	struct pair *p = pair;

	ask(&p->busy);
	atomic_fetch_add(&p->answered, 1);
	return NULL;
}

static void *ask_other(void *pair)
{
	struct pair *p = pair;

	ask(&p->other);
	return NULL;
}

static void requests_that_wait_leave_threads_to_other_mounts(void **state)
{
	struct pair *p = new_pair(4);
	pthread_t client;

	(void)state;
	atomic_store(&gate_is_shut, true);
	start_clients(p, ask_once);
	bool begun = reaches(&p->busy.asked, 2);

	usleep(50000); /* for more of them, which there are not to be */
	unsigned asked = atomic_load(&p->busy.asked);

	assert_int_equal(pthread_create(&client, NULL, ask_other, p), 0);
	bool served = reaches(&p->other.asked, 1);

	atomic_store(&gate_is_shut, false);
	pthread_join(client, NULL);
	bool all = reaches(&p->answered, CLIENTS);

	free_pair(p);
	assert_true(begun);
	assert_int_equal(asked, 2); /* half of the threads */
	assert_true(served);
	assert_true(all); /* those that were held as well */
}

static void a_share_grows_when_others_leave(void **state)
{
	struct pair *p = new_pair(4);
	pthread_t others[2];

	(void)state;
	atomic_store(&p->sp->polled, UINT64_MAX); /* neither: what is polled is armed anyway */
	atomic_store(&gate_is_shut, true);
	atomic_store(&other_is_shut, true);
	assert_int_equal(pthread_create(&p->clients[p->n_clients++], NULL, ask_once, p), 0);
	bool one = reaches(&p->busy.asked, 1);

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&others[i], NULL, ask_other, p), 0);
	bool three = reaches(&p->other.asked, 2);

	start_clients(p, ask_once); /* one thread is free, and one is their share */
	usleep(50000);
	unsigned before = atomic_load(&p->busy.asked);

	atomic_store(&other_is_shut, false);
	bool more = reaches(&p->busy.asked, 2); /* while the first waits */

	for (unsigned i = 0; i < 2; i++)
		pthread_join(others[i], NULL);
	atomic_store(&p->sp->polled, 0);
	free_pair(p);
	assert_true(one);
	assert_true(three);
	assert_int_equal(before, 1);
	assert_true(more);
}

/* ---- requests without an end ---- */

static atomic_bool enough;

static void *ask_on(void *pair)
{
	struct pair *p = pair;

	for (unsigned i = 0; i < 5000 && !atomic_load(&enough); i++)
		ask(&p->busy);
	return NULL;
}

static void requests_without_an_end_let_others_have_their_turn(void **state)
{
	struct pair *p = new_pair(1);

	(void)state;
	atomic_store(&enough, false);
	atomic_store(&queue_is_kept, true);
	start_clients(p, ask_on);
	bool begun = reaches(&p->busy.asked, CLIENTS);

	for (unsigned i = 0; i < 20; i++)
		ask(&p->other);
	atomic_store(&enough, true);
	atomic_store(&queue_is_kept, false);
	free_pair(p);
	assert_true(begun);
	assert_in_range(atomic_load(&most_in_a_row), 1, VISIT_COST);
}

/* ---- waiting for writes ---- */

static void *drain(void *arg)
{
	struct served *m = arg;

	assert_int_equal(session_drain(m->s, SESSION_DRAIN_MS), 0);
	atomic_fetch_add(&m->asked, 1);
	return NULL;
}

/* Waits until m's writes are handled, while a request of the busy mount is not. */
static bool drains(struct pair *p, struct served *m)
{
	pthread_t client, drainer;

	atomic_store(&gate_is_shut, true);
	assert_int_equal(pthread_create(&client, NULL, ask_once, p), 0);
	bool begun = reaches(&p->busy.asked, 1);
	unsigned before = atomic_load(&m->asked);

	assert_int_equal(pthread_create(&drainer, NULL, drain, m), 0);
	bool drained = reaches(&m->asked, before + 1);

	atomic_store(&gate_is_shut, false);
	pthread_join(client, NULL);
	pthread_join(drainer, NULL);
	return begun && drained;
}

static void a_drain_waits_for_writes_of_its_mount_alone(void **state)
{
	struct pair *p = new_pair(4);

	(void)state;
	bool other = drains(p, &p->other);

	atomic_store(&p->busy.asked, 0);
	bool same = drains(p, &p->busy);

	free_pair(p);
	assert_true(other);
	assert_true(same);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_that_wait_leave_threads_to_other_mounts),
		cmocka_unit_test(a_share_grows_when_others_leave),
		cmocka_unit_test(requests_without_an_end_let_others_have_their_turn),
		cmocka_unit_test(a_drain_waits_for_writes_of_its_mount_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
