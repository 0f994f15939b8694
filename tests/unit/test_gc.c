/* Garbage collection: what stays, what goes, beside writers, and after interruptions. */
#include "store/gc/gc.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "store/gc/recompress.h"
#include "store/gc/verify.h"
#include "tests/unit/fs_fixture.h"

static struct gc_result collect(struct fx *f)
{
	struct gc_options opt = { .filter_bytes = 1 << 20 };
	struct gc_result res;
	struct error err = ERROR_INIT;
	if (gc_run(f->s, &opt, NULL, &res, &err) != 0)
		fail_msg("gc: %s", error_text(&err));
	return res;
}

static void say_problem(void *arg, const char *snapshot, const char *path, const char *problem)
{
	(void)arg;
	fprintf(stderr, "%s: %s: %s\n", snapshot, path, problem);
}

static void expect_sound(struct fx *f)
{
	struct verify_result res;
	struct error err = ERROR_INIT;
	if (verify_run(f->s, NULL, NULL, say_problem, NULL, &res, &err) != 0)
		fail_msg("verify: %s", error_text(&err));
	assert_int_equal(res.damaged, 0);
}

static unsigned count_keys(struct fx *f, enum kv_family family)
{
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new_heads(f->s->kv, family);
	unsigned n = 0;
	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it))
		n++;
	assert_int_equal(kv_iter_status(it), 0);
	return n;
}

static struct model *some_files(uint64_t seed, int count)
{
	struct model *m = m_new();
	for (int i = 0; i < count; i++) {
		char path[32];
		snprintf(path, sizeof(path), "file-%d", i);
		m_random_file(m, path, seed * 1000 + (uint64_t)i, 1000);
	}
	return m;
}

static void unreferenced_goes_referenced_stays(void **state)
{
	struct fx *f = *state;
	struct model *a = some_files(1, 50), *b = some_files(2, 30);
	m_snapshot(f->s, a, "kept");
	m_snapshot(f->s, b, "dropped");
	assert_int_equal(count_keys(f, KV_CHUNK), 80);
	struct gc_result res = collect(f);
	assert_int_equal(res.removed_chunks, 0);
	assert_int_equal(snapshots_delete(f->s->snapshots, "dropped", NULL), 0);
	res = collect(f);
	assert_int_equal(res.removed_chunks, 30);
	assert_int_equal(res.marked_chunks, 50);
	assert_true(res.removed_nodes > 0);
	assert_in_range(res.removed_bytes, 30 * 1000, 30 * 1010 + 10000);
	assert_int_equal(count_keys(f, KV_CHUNK), 50);
	expect_sound(f);
	assert_int_equal(snapshots_delete(f->s->snapshots, "kept", NULL), 0);
	collect(f);
	assert_int_equal(count_keys(f, KV_CHUNK), 0);
	assert_int_equal(count_keys(f, KV_NODE), 0);
	m_free(a);
	m_free(b);
}

static struct gc_result try_to_collect(struct fx *f)
{
	const struct gc_options opt = { .filter_bytes = 1 << 20, .compact = true, .dry_run = true };
	struct gc_result res;
	struct error err = ERROR_INIT;

	if (gc_run(f->s, &opt, NULL, &res, &err) != 0)
		fail_msg("gc: %s", error_text(&err));
	return res;
}

static void a_dry_run_counts_and_changes_nothing(void **state)
{
	struct fx *f = *state;
	struct model *a = some_files(1, 50), *b = some_files(2, 30), *c = some_files(3, 20);
	struct snapshot snap = { .name = "expired",
				 .status = SNAPSHOT_READY,
				 .has_root = true,
				 .created_at_ms = 1000,
				 .ttl_seconds = 60 };
	unsigned chunks, nodes;

	m_snapshot(f->s, a, "kept");
	m_snapshot(f->s, b, "dropped");
	snap.root = m_tree(f->s, c);
	assert_int_equal(snapshots_put(f->s->snapshots, &snap, NULL, NULL), 0);
	assert_int_equal(snapshots_delete(f->s->snapshots, "dropped", NULL), 0);
	chunks = count_keys(f, KV_CHUNK);
	nodes = count_keys(f, KV_NODE);
	struct gc_result would = try_to_collect(f);
	assert_int_equal(would.removed_chunks, 50);
	assert_int_equal(would.marked_chunks, 50);
	assert_int_equal(would.expired_snapshots, 1);
	assert_int_equal(count_keys(f, KV_CHUNK), chunks);
	assert_int_equal(count_keys(f, KV_NODE), nodes);
	assert_int_equal(snapshots_get(f->s->snapshots, "expired", &snap, NULL), 0);
	snapshot_fini(&snap);
	struct gc_result did = collect(f);
	assert_memory_equal(&would, &did, sizeof(would));
	assert_int_equal(count_keys(f, KV_CHUNK), 50);
	m_free(a);
	m_free(b);
	m_free(c);
}

static void shared_chunks_outlive_one_of_their_snapshots(void **state)
{
	struct fx *f = *state;
	struct model *a = some_files(1, 40), *b = m_copy(a);
	m_random_file(b, "more", 99, 5000);
	m_snapshot(f->s, a, "a");
	m_snapshot(f->s, b, "b");
	assert_int_equal(snapshots_delete(f->s->snapshots, "a", NULL), 0);
	struct gc_result res = collect(f);
	assert_int_equal(res.removed_chunks, 0);
	assert_int_equal(count_keys(f, KV_CHUNK), 41);
	expect_sound(f);
	m_free(a);
	m_free(b);
}

static void pins_and_holds_keep_what_no_snapshot_names(void **state)
{
	struct fx *f = *state;
	struct model *a = some_files(1, 10), *b = some_files(2, 10);
	struct digest pinned = m_tree(f->s, a), held = m_tree(f->s, b);
	struct chunk_put_result chunk;
	struct store_hold h;
	CLEANUP(kv_batch_free_p) struct kv_batch *batch = kv_batch_new();
	assert_int_equal(chunk_store_put(f->s->chunks, "loose", 5, &chunk), 0);
	store_pin_tree(f->s, batch, "mount", &pinned);
	store_pin_chunk(f->s, batch, "mount", &chunk.digest);
	assert_int_equal(kv_write(f->s->kv, batch, KV_SYNC), 0);
	store_hold(f->s, &held, &h);
	collect(f);
	assert_int_equal(count_keys(f, KV_CHUNK), 21);
	store_release(f->s, &h);
	collect(f);
	assert_int_equal(count_keys(f, KV_CHUNK), 11);
	kv_batch_clear(batch);
	store_unpin_all(f->s, batch, "mount");
	assert_int_equal(kv_write(f->s->kv, batch, KV_SYNC), 0);
	collect(f);
	assert_int_equal(count_keys(f, KV_CHUNK), 0);
	m_free(a);
	m_free(b);
}

static void expired_snapshots_are_removed_with_their_data(void **state)
{
	struct fx *f = *state;
	struct model *m = some_files(1, 5);
	struct snapshot snap = { .name = "old",
				 .status = SNAPSHOT_READY,
				 .has_root = true,
				 .created_at_ms = 1000,
				 .ttl_seconds = 60 };
	snap.root = m_tree(f->s, m);
	assert_int_equal(snapshots_put(f->s->snapshots, &snap, NULL, NULL), 0);
	struct gc_result res = collect(f);
	assert_int_equal(res.expired_snapshots, 1);
	assert_int_equal(res.removed_chunks, 5);
	assert_int_equal(snapshots_get(f->s->snapshots, "old", &snap, NULL), -ENOENT);
	m_free(m);
}

static void damaged_tree_ends_it_before_anything_is_removed(void **state)
{
	struct fx *f = *state;
	struct model *a = some_files(1, 20), *b = some_files(2, 20);
	struct gc_result res;
	struct error err = ERROR_INIT;
	struct digest root = m_snapshot(f->s, a, "damaged");
	m_tree(f->s, b); /* garbage */
	CLEANUP(kv_batch_free_p) struct kv_batch *batch = kv_batch_new();
	kv_batch_del(f->s->kv, batch, KV_NODE, root.b, sizeof(root.b));
	assert_int_equal(kv_write(f->s->kv, batch, KV_LOG), 0);
	fx_reopen(f);
	assert_int_equal(gc_run(f->s, NULL, NULL, &res, &err), -ENODATA);
	assert_non_null(strstr(err.msg, "damaged"));
	assert_int_equal(count_keys(f, KV_CHUNK), 40);
	assert_int_equal(snapshots_delete(f->s->snapshots, "damaged", NULL), 0);
	collect(f);
	assert_int_equal(count_keys(f, KV_CHUNK), 0);
	m_free(a);
	m_free(b);
}

static void removed_content_can_be_stored_again(void **state)
{
	struct fx *f = *state;
	struct model *m = some_files(1, 20);
	m_snapshot(f->s, m, "first");
	assert_int_equal(snapshots_delete(f->s->snapshots, "first", NULL), 0);
	collect(f);
	/* Nodes and chunks are still in the caches now. */
	m_snapshot(f->s, m, "second");
	expect_sound(f);
	fx_reopen(f);
	expect_sound(f);
	assert_int_equal(count_keys(f, KV_CHUNK), 20);
	m_free(m);
}

/* So little that RocksDB has not flushed it yet. */
static void what_was_just_stored_is_counted(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	struct store_stats st;
	struct error err = ERROR_INIT;

	m_random_file(m, "small", 1, 1 << 20);
	m_snapshot(f->s, m, "small");
	assert_int_equal(store_stats(f->s, &st, &err), 0);
	assert_true(st.stored_bytes >= 1 << 20);
	m_free(m);
}

static void compaction_gives_the_space_back(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	struct gc_options opt = { .compact = true };
	struct gc_result res;
	struct store_stats before, after;
	struct error err = ERROR_INIT;
	m_random_file(m, "big", 1, 8 << 20);
	m_snapshot(f->s, m, "big");
	fx_reopen(f);
	assert_int_equal(store_stats(f->s, &before, &err), 0);
	assert_int_equal(snapshots_delete(f->s->snapshots, "big", &err), 0);
	assert_int_equal(gc_run(f->s, &opt, NULL, &res, &err), 0);
	assert_int_equal(store_stats(f->s, &after, &err), 0);
	assert_true(before.stored_bytes > 8 << 20);
	assert_true(after.stored_bytes < 1 << 20);
	m_free(m);
}

/* ---- interrupted ---- */

struct canceller {
	unsigned after; /* steps of the sweep to allow */
	unsigned steps;
};

static bool cancel_in_sweep(void *arg)
{
	struct canceller *c = arg;
	return ++c->steps > c->after;
}

static void interrupted_sweep_goes_on_where_it_stopped(void **state)
{
	struct fx *f = *state;
	struct model *m = some_files(1, 200);
	struct gc_result res;
	struct error err = ERROR_INIT;
	m_tree(f->s, m);
	for (unsigned after = 30;; after += 30) {
		struct canceller c = { .after = 30 };
		struct progress p = { .cancelled = cancel_in_sweep, .arg = &c };
		unsigned before = count_keys(f, KV_CHUNK) + count_keys(f, KV_NODE);
		int rc = gc_run(f->s, NULL, &p, &res, &err);
		unsigned left = count_keys(f, KV_CHUNK) + count_keys(f, KV_NODE);
		if (rc == 0) {
			assert_int_equal(left, 0);
			break;
		}
		assert_int_equal(rc, -ECANCELED);
		/* Each run got as far from where the last one stopped. */
		assert_int_equal(before - left, 31);
		fx_reopen(f);
	}
	m_free(m);
}

static void cursor_in_the_middle_still_sweeps_everything(void **state)
{
	struct fx *f = *state;
	struct model *m = some_files(1, 100);
	uint8_t cursor[33] = { KV_NODE, 0x80 };
	m_tree(f->s, m);
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	for (cursor[0] = KV_CHUNK; cursor[0] <= KV_UPPER; cursor[0]++) {
		m_tree(f->s, m);
		kv_batch_clear(b);
		kv_batch_put(f->s->kv, b, KV_META, "gc/cursor", 9, cursor, sizeof(cursor));
		assert_int_equal(kv_write(f->s->kv, b, KV_LOG), 0);
		struct gc_result res = collect(f);
		assert_int_equal(res.removed_chunks, 100);
		assert_int_equal(count_keys(f, KV_CHUNK) + count_keys(f, KV_NODE), 0);
		assert_int_equal(kv_has(f->s->kv, KV_META, "gc/cursor", 9), 0);
	}
	m_free(m);
}

static void a_second_collection_is_refused(void **state)
{
	struct fx *f = *state;
	struct gc_result res;
	struct error err = ERROR_INIT;
	assert_int_equal(guard_collect_begin(f->s->guard, 1024), 0);
	assert_int_equal(gc_run(f->s, NULL, NULL, &res, &err), -EBUSY);
	guard_collect_end(f->s->guard);
	collect(f);
}

/* ---- beside writers ---- */

struct stress {
	struct fx *f;
	atomic_bool stop;
	atomic_uint written, collected;
	unsigned id;
};

/*
 * Imports, checkpoints of what was imported (tree_apply on it), deletes, and
 * imports again what was deleted a moment ago: each of it where a collection
 * may just be looking.
 */
static void *write_and_delete(void *arg)
{
	struct stress *st = arg;
	struct store *s = st->f->s;
	uint64_t seed = 1 + st->id;
	for (unsigned n = 0; !atomic_load(&st->stop); n++) {
		char name[32], old[32];
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		struct model *m = some_files((seed >> 33) % 8, 12);
		snprintf(name, sizeof(name), "w%u-%u", st->id, n);
		m_snapshot(s, m, name);
		m_random_file(m, "again", (seed >> 40) % 16, 3000);
		m_text_file(m, "text", (seed >> 44) % 16, 30000);
		m_text_file(m, "text2", (seed >> 48) % 16, 20000);
		m_remove(m, "file-3");
		snprintf(name, sizeof(name), "w%u-%u-next", st->id, n);
		m_snapshot(s, m, name);
		m_free(m);
		if (n >= 3) {
			snprintf(old, sizeof(old), "w%u-%u", st->id, n - 3);
			assert_int_equal(snapshots_delete(s->snapshots, old, NULL), 0);
			strcat(old, "-next");
			assert_int_equal(snapshots_delete(s->snapshots, old, NULL), 0);
		}
		atomic_fetch_add(&st->written, 1);
	}
	return NULL;
}

/* A checkpoint beside collections: the base is pinned first, then looked up again. */
static void *fork_and_change(void *arg)
{
	struct stress *st = arg;
	struct store *s = st->f->s;
	for (unsigned n = 0; !atomic_load(&st->stop); n++) {
		struct snapshot *list, base = { 0 };
		struct store_hold hold;
		struct guard_session session;
		size_t count;
		char text[32];
		assert_int_equal(snapshots_list(s->snapshots, &list, &count, NULL), 0);
		if (count)
			memcpy(base.id, list[n % count].id, sizeof(base.id));
		snapshots_list_free(list, count);
		if (!base.id[0] || store_hold_snapshot(s, base.id, &base, &hold, NULL) != 0)
			continue;
		guard_session_begin(s->guard, &session);
		CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
		struct key k;
		key_xattr(&k, ROOT_INO, "user.fork", 9);
		int len = snprintf(text, sizeof(text), "%u", n % 5);
		assert_int_equal(tree_batch_put(b, k.bytes, k.len, text, (size_t)len), 0);
		struct snapshot forked = { .status = SNAPSHOT_READY, .has_root = true };
		snprintf(forked.name, sizeof(forked.name), "fork-%u", n % 3);
		assert_int_equal(tree_apply(s->nodes, &base.root, b, &forked.root, NULL), 0);
		(void)!snapshots_delete(s->snapshots, forked.name, NULL);
		assert_int_equal(snapshots_put(s->snapshots, &forked, NULL, NULL), 0);
		guard_session_end(s->guard, &session);
		store_release(s, &hold);
		snapshot_fini(&base);
		atomic_fetch_add(&st->written, 1);
	}
	return NULL;
}

static void *keep_collecting(void *arg)
{
	struct stress *st = arg;
	while (!atomic_load(&st->stop)) {
		collect(st->f);
		atomic_fetch_add(&st->collected, 1);
	}
	return NULL;
}

/* Levels in turn: each notes on the chunks that it was tried, so the next goes higher. */
static void *keep_recompressing(void *arg)
{
	struct stress *st = arg;
	while (!atomic_load(&st->stop)) {
		struct recompress_options opt = { .threads = 2 };
		struct recompress_result res;
		struct error err = ERROR_INIT;
		for (opt.level = 4; opt.level <= 8; opt.level += 2) {
			if (recompress_run(st->f->s, &opt, NULL, &res, &err) != 0)
				fail_msg("%s", error_text(&err));
			assert_int_equal(res.damaged_chunks, 0);
			atomic_fetch_add(&st->written, (unsigned)res.replaced_chunks);
		}
	}
	return NULL;
}

#define STRESS_THREADS 5

static void start_stress(struct fx *f, unsigned first_id, struct stress st[STRESS_THREADS],
			 pthread_t threads[STRESS_THREADS])
{
	void *(*const run[STRESS_THREADS])(void *) = { write_and_delete, write_and_delete,
						       fork_and_change, keep_collecting,
						       keep_recompressing };
	for (unsigned i = 0; i < STRESS_THREADS; i++) {
		st[i] = (struct stress){ .f = f, .id = first_id + i };
		assert_int_equal(pthread_create(&threads[i], NULL, run[i], &st[i]), 0);
	}
}

static void gc_keeps_what_writers_rely_on(void **state)
{
	struct fx *f = *state;
	struct stress st[STRESS_THREADS];
	pthread_t threads[STRESS_THREADS];
	const char *seconds = getenv("VARVE_TEST_ROUNDS");
	struct timespec t = { .tv_sec = 3 * (seconds ? atoi(seconds) : 1) };
	start_stress(f, 0, st, threads);
	nanosleep(&t, NULL);
	for (int i = 0; i < STRESS_THREADS; i++)
		atomic_store(&st[i].stop, true);
	for (int i = 0; i < STRESS_THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_true(atomic_load(&st[0].written) > 0 && atomic_load(&st[3].collected) > 0);
	assert_true(atomic_load(&st[4].written) > 0);
	print_message("%u + %u imports, %u checkpoints, %u collections, %u chunks replaced\n",
		      st[0].written, st[1].written, st[2].written, st[3].collected, st[4].written);
	expect_sound(f);
	collect(f);
	fx_reopen(f);
	expect_sound(f);
}

/* Never returns: the process is killed from outside. */
static void run_until_killed(struct fx *f, unsigned round)
{
	struct stress st[STRESS_THREADS];
	pthread_t threads[STRESS_THREADS];
	fx_open_store(f);
	start_stress(f, (round + 1) * 10, st, threads);
	for (;;)
		pause();
}

static void kill_9_leaves_no_dangling_reference(void **state)
{
	struct fx *f = *state;
	const char *scale = getenv("VARVE_TEST_ROUNDS");
	unsigned rounds = 4 * (scale ? (unsigned)atoi(scale) : 1);
	for (unsigned round = 0; round < rounds; round++) {
		struct timespec t = { .tv_nsec = 200000000 + round * 123456789 % 500000000 };
		int status;
		store_close(STEAL(f->s));
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			run_until_killed(f, round);
		nanosleep(&t, NULL);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		fx_open_store(f);
		expect_sound(f);
		collect(f);
		expect_sound(f);
	}
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(what_was_just_stored_is_counted),
		WITH_STORE(unreferenced_goes_referenced_stays),
		WITH_STORE(a_dry_run_counts_and_changes_nothing),
		WITH_STORE(shared_chunks_outlive_one_of_their_snapshots),
		WITH_STORE(pins_and_holds_keep_what_no_snapshot_names),
		WITH_STORE(expired_snapshots_are_removed_with_their_data),
		WITH_STORE(damaged_tree_ends_it_before_anything_is_removed),
		WITH_STORE(removed_content_can_be_stored_again),
		WITH_STORE(compaction_gives_the_space_back),
		WITH_STORE(interrupted_sweep_goes_on_where_it_stopped),
		WITH_STORE(cursor_in_the_middle_still_sweeps_everything),
		WITH_STORE(a_second_collection_is_refused),
		WITH_STORE(gc_keeps_what_writers_rely_on),
		WITH_STORE(kill_9_leaves_no_dangling_reference),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
