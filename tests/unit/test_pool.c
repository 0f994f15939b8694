#include "store/base/pool.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/progress.h"

static void add_one(void *arg)
{
	atomic_fetch_add((_Atomic int *)arg, 1);
}

static void every_job_runs_once(void **state)
{
	_Atomic int count = 0;
	struct pool *p = pool_new(3, 4);
	(void)state;

	assert_non_null(p);
	for (int i = 0; i < 1000; i++)
		pool_submit(p, add_one, &count);
	pool_drain(p);
	assert_int_equal(atomic_load(&count), 1000);
	for (int i = 0; i < 10; i++)
		pool_submit(p, add_one, &count);
	/* What is queued still runs. */
	pool_free(p);
	assert_int_equal(atomic_load(&count), 1010);
	pool_free(NULL);
}

static void *submit_many(void *arg)
{
	void **args = arg;

	for (int i = 0; i < 500; i++)
		pool_submit(args[0], add_one, args[1]);
	return NULL;
}

static void several_threads_may_submit(void **state)
{
	CLEANUP(pool_free_p) struct pool *p = pool_new(2, 1);
	_Atomic int count = 0;
	void *args[] = { p, &count };
	pthread_t threads[4];
	(void)state;

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, submit_many, args), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	pool_drain(p);
	assert_int_equal(atomic_load(&count), 2000);
}

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool open;
	_Atomic int submitted;
	struct pool *pool;
};

static void wait_at_gate(void *arg)
{
	struct gate *g = arg;

	pthread_mutex_lock(&g->lock);
	while (!g->open)
		pthread_cond_wait(&g->cond, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

static void *submit_to_gate(void *arg)
{
	struct gate *g = arg;

	for (int i = 0; i < 10; i++) {
		pool_submit(g->pool, wait_at_gate, g);
		atomic_fetch_add(&g->submitted, 1);
	}
	return NULL;
}

static void submit_blocks_while_the_queue_is_full(void **state)
{
	struct gate g = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
	pthread_t thread;
	(void)state;

	g.pool = pool_new(1, 3);
	assert_int_equal(pthread_create(&thread, NULL, submit_to_gate, &g), 0);
	usleep(50000);
	/* One runs, three wait, the fifth submission has not returned. */
	assert_in_range(atomic_load(&g.submitted), 0, 4);
	pthread_mutex_lock(&g.lock);
	g.open = true;
	pthread_cond_broadcast(&g.cond);
	pthread_mutex_unlock(&g.lock);
	pthread_join(thread, NULL);
	assert_int_equal(atomic_load(&g.submitted), 10);
	pool_free(g.pool);
}

struct sequence {
	int next;
	int seen[100];
};

struct step {
	struct sequence *seq;
	int number;
};

static void record_step(void *arg)
{
	struct step *s = arg;

	s->seq->seen[s->seq->next++] = s->number;
}

static void one_worker_keeps_the_order(void **state)
{
	struct sequence seq = { .next = 0 };
	struct step steps[100];
	struct pool *p = pool_new(1, 7);
	(void)state;

	for (int i = 0; i < 100; i++) {
		steps[i] = (struct step){ &seq, i };
		pool_submit(p, record_step, &steps[i]);
	}
	pool_drain(p);
	for (int i = 0; i < 100; i++)
		assert_int_equal(seq.seen[i], i);
	pool_free(p);
}

static void look_at_thread(void *arg)
{
	_Atomic int *bad = arg;
	char name[16];
	sigset_t set;

	pthread_sigmask(SIG_SETMASK, NULL, &set);
	if (!sigismember(&set, SIGTERM) || !sigismember(&set, SIGINT) || !sigismember(&set, SIGHUP))
		atomic_fetch_add(bad, 1);
	pthread_getname_np(pthread_self(), name, sizeof(name));
	if (strcmp(name, "varve-worker") != 0)
		atomic_fetch_add(bad, 1);
}

static void workers_are_named_and_block_signals(void **state)
{
	_Atomic int bad = 0;
	sigset_t before, after;
	(void)state;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	struct pool *p = pool_new(2, 2);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
	for (int i = 0; i < 4; i++)
		pool_submit(p, look_at_thread, &bad);
	pool_free(p);
	assert_int_equal(atomic_load(&bad), 0);
}

static void count_report(void *arg, const struct progress *p)
{
	(void)p;
	(*(int *)arg)++;
}

static bool say_stop(void *arg)
{
	(void)arg;
	return true;
}

static void progress_reports_ten_times_a_second_or_when_forced(void **state)
{
	int reports = 0;
	struct progress p = { .report = count_report, .arg = &reports };
	(void)state;

	for (int i = 0; i < 1000; i++)
		progress_tick(&p, false);
	assert_in_range(reports, 1, 5);
	int before = reports;
	progress_tick(&p, true);
	assert_int_equal(reports, before + 1);
	usleep(150000);
	progress_tick(&p, false);
	assert_int_equal(reports, before + 2);
	progress_tick(NULL, true);
	assert_false(progress_cancelled(NULL));
	assert_false(progress_cancelled(&p));
	p.cancelled = say_stop;
	assert_true(progress_cancelled(&p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_job_runs_once),
		cmocka_unit_test(several_threads_may_submit),
		cmocka_unit_test(submit_blocks_while_the_queue_is_full),
		cmocka_unit_test(one_worker_keeps_the_order),
		cmocka_unit_test(workers_are_named_and_block_signals),
		cmocka_unit_test(progress_reports_ten_times_a_second_or_when_forced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
