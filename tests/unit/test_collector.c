/*
 * The thread that collects garbage: when it does, what it tells of that, and how it goes
 * beside a request.
 * wrap: kv_compact_content
 */
#include "snapshotd/state/collector.h"

#include <stdatomic.h>
#include <time.h>

#include "fs/fuse/session_pool.h"
#include "store/base/clock.h"
#include "tests/unit/fs_fixture.h"

#define WAIT_MS 60000 /* of a busy host */

static atomic_bool compaction_fails;

int __real_kv_compact_content(struct kv *kv);
int __wrap_kv_compact_content(struct kv *kv);
int __wrap_kv_compact_content(struct kv *kv)
{
	return atomic_load(&compaction_fails) ? -EIO : __real_kv_compact_content(kv);
}

struct cf {
	struct fx fx;
	struct session_pool *pool;
	struct mounts *mounts;
	struct metrics metrics;
	struct collector *c;
};

static int setup(void **state)
{
	struct cf *f = calloc(1, sizeof(*f));
	struct error err = ERROR_INIT;

	assert_non_null(f);
	atomic_store(&compaction_fails, false);
	fx_open(&f->fx);
	f->pool = session_pool_new(1, &err);
	assert_non_null(f->pool);
	assert_int_equal(mounts_open(f->fx.s, f->pool, &f->mounts, &err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct cf *f = *state;

	collector_close(f->c);
	mounts_close(f->mounts);
	session_pool_free(f->pool);
	fx_close(&f->fx);
	free(f);
	return 0;
}

/* The members of opt that a test is about. */
static void open_collector(struct cf *f, struct collector_options opt)
{
	struct error err = ERROR_INIT;

	opt.store = f->fx.s;
	opt.pool = f->pool;
	opt.mounts = f->mounts;
	opt.metrics = &f->metrics;
	assert_int_equal(collector_open(&opt, &f->c, &err), 0);
}

/* A tree that nothing refers to; one chunk a file. */
static void make_garbage(struct cf *f, int files)
{
	struct model *m = m_new();

	for (int i = 0; i < files; i++) {
		char path[32];

		snprintf(path, sizeof(path), "file-%d", i);
		m_random_file(m, path, 7000 + (uint64_t)i, 1000);
	}
	m_tree(f->fx.s, m);
	m_free(m);
}

static struct collector_stats stats_of(struct cf *f)
{
	struct collector_stats st;

	collector_get_stats(f->c, &st);
	return st;
}

static void wait_for_runs(struct cf *f, uint64_t n)
{
	const int64_t until = monotonic_ms() + WAIT_MS;

	while (stats_of(f).runs < n && monotonic_ms() < until)
		usleep(10000);
	assert_true(stats_of(f).runs >= n);
}

static void a_request_collects_and_is_told_of(void **state)
{
	struct cf *f = *state;
	struct gc_options opt = { .compact = true };
	struct error err = ERROR_INIT;
	struct gc_result r;
	int64_t last;

	open_collector(f, (struct collector_options){ 0 });
	assert_int_equal(stats_of(f).runs, 0);
	assert_int_equal(stats_of(f).last_ms, 0);
	make_garbage(f, 10);
	assert_int_equal(collector_run(f->c, &opt, NULL, &r, &err), 0);
	assert_int_equal(r.removed_chunks, 10);
	assert_int_equal(stats_of(f).runs, 1);
	assert_int_equal(stats_of(f).removed_bytes, r.removed_bytes);
	assert_string_equal(stats_of(f).last_reason, "request");
	assert_int_equal(stats_of(f).next_ms, 0);
	last = stats_of(f).last_ms;
	assert_true(last > 0);
	/* The next daemon knows when that was. */
	collector_close(f->c);
	open_collector(f, (struct collector_options){ .reasons.interval_s = 1000 });
	assert_int_equal(stats_of(f).last_ms, last);
	assert_int_equal(stats_of(f).next_ms, last + 1000 * 1000);
}

static void what_was_removed_is_told_though_compaction_fails(void **state)
{
	struct cf *f = *state;
	struct gc_options opt = { .compact = true };
	struct error err = ERROR_INIT;
	struct gc_result r;

	open_collector(f, (struct collector_options){ 0 });
	make_garbage(f, 10);
	atomic_store(&compaction_fails, true);
	assert_int_equal(collector_run(f->c, &opt, NULL, &r, &err), -EIO);
	assert_int_equal(r.removed_chunks, 10);
	assert_non_null(strstr(error_text(&err), "10 chunks"));
	assert_int_equal(stats_of(f).runs, 1);
	assert_int_equal(stats_of(f).removed_bytes, r.removed_bytes);
	assert_true(r.removed_bytes > 0);
	assert_int_equal(atomic_load(&f->metrics.gc_removed_chunks), 10);
	/* Nothing is left for the next. */
	atomic_store(&compaction_fails, false);
	assert_int_equal(collector_run(f->c, &opt, NULL, &r, &err), 0);
	assert_int_equal(r.removed_chunks, 0);
}

static void it_collects_when_enough_was_deleted(void **state)
{
	struct cf *f = *state;

	open_collector(f, (struct collector_options){ .reasons.garbage_bytes = 1000 });
	make_garbage(f, 10);
	snapshots_note_garbage(f->fx.s->snapshots, 999);
	usleep(1500000); /* it looks every second */
	assert_int_equal(stats_of(f).runs, 0);
	snapshots_note_garbage(f->fx.s->snapshots, 1);
	wait_for_runs(f, 1);
	assert_string_equal(stats_of(f).last_reason, "deleted");
	assert_true(stats_of(f).removed_bytes > 0);
}

/* The disk counts as full, so each of its collections compacts. */
static void one_that_fails_is_not_tried_again_at_once(void **state)
{
	struct cf *f = *state;

	atomic_store(&compaction_fails, true);
	make_garbage(f, 10);
	snapshots_note_garbage(f->fx.s->snapshots, 1000);
	open_collector(f, (struct collector_options){ .reasons.garbage_bytes = 1000,
						      .reasons.free_bytes = UINT64_MAX });
	wait_for_runs(f, 1);
	assert_true(stats_of(f).removed_bytes > 0);
	snapshots_note_garbage(f->fx.s->snapshots, 1000);
	wait_for_runs(f, 2);
	assert_string_equal(stats_of(f).last_reason, "deleted");
	usleep(1500000); /* in which it would try again */
	assert_int_equal(stats_of(f).runs, 2);
}

static atomic_int tidied;

static int tidy(struct store *s, struct error *err)
{
	(void)s;
	atomic_fetch_add(&tidied, 1);
	return error_set(err, -EIO,
			 "what fails before a collection does not keep it from going on");
}

static void it_collects_by_the_clock(void **state)
{
	struct cf *f = *state;

	atomic_store(&tidied, 0);
	open_collector(f, (struct collector_options){ .reasons.interval_s = 1, .tidy = tidy });
	wait_for_runs(f, 2);
	assert_true(atomic_load(&tidied) >= 2);
	assert_string_equal(stats_of(f).last_reason, "interval");
	assert_int_equal(stats_of(f).next_ms, stats_of(f).last_ms + 1000);
}

struct nested {
	struct cf *f;
	unsigned refused;
};

static void ask_for_another(void *arg, const struct progress *p)
{
	struct nested *n = arg;
	struct error err = ERROR_INIT;
	struct gc_result r;

	(void)p;
	n->refused += collector_run(n->f->c, NULL, NULL, &r, &err) == -EBUSY;
}

static void a_second_request_is_refused(void **state)
{
	struct nested n = { .f = *state };
	struct progress p = { .report = ask_for_another, .arg = &n };
	struct error err = ERROR_INIT;
	struct gc_result r;

	atomic_store(&tidied, 0);
	open_collector(n.f, (struct collector_options){ .tidy = tidy });
	make_garbage(n.f, 10);
	assert_int_equal(collector_run(n.f->c, NULL, &p, &r, &err), 0);
	assert_int_equal(atomic_load(&tidied), 1);
	assert_true(n.refused > 0);
	assert_int_equal(stats_of(n.f).runs, 1);
}

static void detached_mounts_have_their_time(void **state)
{
	const struct {
		struct mount_info info;
		int64_t at; /* ms */
	} cases[] = {
		{ { .attached = true, .mountpoint = "/m" }, 0 },
		{ { .held = true, .detached_at_ms = 5, .mountpoint = "/m" }, 0 },
		{ { .mountpoint = "/m" }, 0 },
		{ { .detached_at_ms = 5, .mountpoint = "/m" }, 10005 },
		{ { .detached_at_ms = 5, .changed_inodes = 1, .mountpoint = "/m" }, 20005 },
		{ { .detached_at_ms = 5, .upper_bytes = 1, .mountpoint = "/m" }, 20005 },
		{ { .detached_at_ms = 5, .sealing = true, .mountpoint = "/m" }, 20005 },
	};
	struct cf *f = *state;
	struct mount_info own = { .detached_at_ms = 5 };

	open_collector(
		f, (struct collector_options){ .reasons.detached_s = 10, .reasons.changed_s = 20 });
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(collector_discards_at_ms(f->c, &cases[i].info), cases[i].at);
	snprintf(own.mountpoint, sizeof(own.mountpoint), "%s/sandboxes/x", f->fx.s->dir);
	assert_int_equal(collector_discards_at_ms(f->c, &own), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_request_collects_and_is_told_of),
		T(what_was_removed_is_told_though_compaction_fails),
		T(it_collects_when_enough_was_deleted),
		T(one_that_fails_is_not_tried_again_at_once),
		T(it_collects_by_the_clock),
		T(a_second_request_is_refused),
		T(detached_mounts_have_their_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
