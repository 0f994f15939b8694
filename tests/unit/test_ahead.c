/* ahead: who reads in order is told apart from who does not; what a job names is loaded. */
#include "tests/unit/mount_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "fs/fuse/ahead.h"

#define KIB 1024ull

static struct ahead_streams streams;

static int setup_streams(void **state)
{
	(void)state;
	ahead_init(&streams);
	return 0;
}

static int teardown_streams(void **state)
{
	(void)state;
	ahead_fini(&streams);
	return 0;
}

static void files_in_order_ask_for_those_that_follow(void **state)
{
	struct ahead_job job;
	uint64_t upto = 0;
	unsigned jobs = 0;

	(void)state;
	for (uint64_t ino = 1000; ino < 3000; ino += 1 + ino % 3) {
		/* A second reader goes elsewhere meanwhile. */
		if (ahead_note(&streams, 500000 + ino, 0, 4 * KIB, &job))
			assert_true(job.from > 500000);
		if (!ahead_note(&streams, ino, 0, 4 * KIB, &job)) {
			assert_true(ino < 1010 || ino < upto); /* it is loaded, or just began */
			continue;
		}
		jobs++;
		assert_int_equal(job.ino, 0);
		assert_true(job.from > ino && job.from >= upto && job.to > job.from);
		upto = job.to;
	}
	assert_true(jobs > 10 && jobs < 100);
}

static void files_in_no_order_ask_for_nothing(void **state)
{
	uint64_t random = mf_seed();
	struct ahead_job job;

	(void)state;
	for (unsigned i = 0; i < 5000; i++)
		assert_false(
			ahead_note(&streams, 2 + mf_below(&random, 1u << 30), 0, 4 * KIB, &job));
	/* The same file again and again. */
	for (unsigned i = 0; i < 10; i++)
		assert_false(ahead_note(&streams, 77, 0, 0, &job));
}

static void a_file_in_order_asks_for_what_follows(void **state)
{
	struct ahead_job job;
	uint64_t upto = 0, asked = 0;

	(void)state;
	for (uint64_t off = 0; off < 64 * KIB * KIB; off += 128 * KIB) {
		/* The kernel's requests overtake each other. */
		uint64_t at = off ^ 128 * KIB;

		if (!ahead_note(&streams, 9, at, 128 * KIB, &job))
			continue;
		assert_int_equal(job.ino, 9);
		assert_true(job.from >= upto && job.to > at + 128 * KIB);
		asked += job.to - job.from;
		upto = job.to;
	}
	assert_true(asked > 60 * KIB * KIB && asked < 70 * KIB * KIB);
	for (uint64_t i = 1; i < 100; i++)
		assert_false(ahead_note(&streams, 10, (i * 7919 % 1000) * KIB * KIB, 4096, &job));
}

static bool is_cached(struct mf *f, uint64_t ino, uint64_t at)
{
	struct tree_fs *base = &f->v->base;
	struct key k;
	CLEANUP(tree_value_release_p) struct tree_value v = { 0 };
	struct extent_rec e;

	key_extent(&k, ino, at);
	assert_int_equal(tree_get(base->nodes, &base->root, k.bytes, k.len, &v), 0);
	assert_int_equal(extent_decode(v.data, v.len, &e), 0);
	assert_int_equal(e.kind, EXTENT_CHUNK);
	struct chunk *c = chunk_store_cached(base->chunks, &e.digest);

	chunk_unref(c);
	return c != NULL;
}

static void a_job_loads_the_chunks_that_it_names(void **state)
{
	struct model *m = m_new();
	struct mf *f = calloc(1, sizeof(*f));
	uint64_t ino[10];

	(void)state;
	for (unsigned i = 0; i < 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		m_random_file(m, name, i + 1, 20000);
		ino[i] = m_ino(m, name);
	}
	mf_open_on(f, m);
	mf_restart(f); /* with nothing in the cache */
	for (unsigned i = 0; i < 10; i++)
		assert_false(is_cached(f, ino[i], 0));
	ahead_run(f->v, &(struct ahead_job){ 0, ino[2], ino[5] });
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(is_cached(f, ino[i], 0), i >= 2 && i < 5);
	ahead_run(f->v, &(struct ahead_job){ ino[8], 0, 100 });
	assert_true(is_cached(f, ino[8], 0));
	assert_false(is_cached(f, ino[9], 0));
	/* What is not there is no error. */
	ahead_run(f->v, &(struct ahead_job){ 123456, 0, 1 << 20 });
	ahead_run(f->v, &(struct ahead_job){ 0, 123456, 1 << 20 });
	mf_close(f);
	m_free(m);
	free(f);
}

#define DIRS 40u
#define FILES_EACH 90u

/* A tree of more nodes than one job loads. */
static struct model *many_directories(void)
{
	struct model *m = m_new();
	char path[64];

	for (unsigned d = 0; d < DIRS; d++) {
		snprintf(path, sizeof(path), "d%u", d);
		m_dir(m, path);
		for (unsigned i = 0; i < FILES_EACH; i++) {
			snprintf(path, sizeof(path), "d%u/%u.a-name-as-long-as-this-one", d, i);
			m_random_file(m, path, d * FILES_EACH + i + 1, 200);
		}
	}
	return m;
}

struct seen {
	uint64_t ino[DIRS];
	unsigned n;
};

static int note_dir(void *arg, uint64_t hash, const struct dirent_rec *e)
{
	struct seen *seen = arg;

	(void)hash;
	seen->ino[seen->n++] = e->ino;
	return 0;
}

static int note_inode(void *arg, uint64_t hash, const struct dirent_rec *e)
{
	struct view_attr a;

	(void)hash;
	return view_getattr(arg, e->ino, &a);
}

/* Nodes that are read for a listing of dir with all attributes. */
static uint64_t loads_of_listing(struct mf *f, uint64_t dir)
{
	uint64_t before = node_store_loads_here();

	assert_int_equal(tree_fs_readdir(&f->v->base, dir, 0, note_inode, f->v), 0);
	return node_store_loads_here() - before;
}

static void a_job_loads_the_nodes_of_a_walk(void **state)
{
	struct model *m = many_directories();
	struct mf *f = calloc(1, sizeof(*f));
	struct seen seen = { .n = 0 };
	uint64_t loads, all = 0;

	(void)state;
	mf_open_on(f, m);
	mf_restart(f);
	loads = node_store_loads_here();
	ahead_run(f->v, &(struct ahead_job){ ROOT_INO, 0, 0 });
	loads = node_store_loads_here() - loads;
	assert_true(loads >= 32 && loads <= 72); /* the bound, and a path down more */
	assert_int_equal(tree_fs_readdir(&f->v->base, ROOT_INO, 0, note_dir, &seen), 0);
	assert_int_equal(seen.n, DIRS);
	/* In the order of a walk: first those of which nothing is left to read. */
	assert_int_equal(loads_of_listing(f, seen.ino[0]), 0);
	assert_int_equal(loads_of_listing(f, seen.ino[1]), 0);
	for (unsigned d = 0; d < DIRS; d++)
		all += loads_of_listing(f, seen.ino[d]);
	assert_true(all > 0);
	/* Of a file, and of nothing. */
	ahead_run(f->v, &(struct ahead_job){ m_ino(m, "d3/3.a-name-as-long-as-this-one"), 0, 0 });
	ahead_run(f->v, &(struct ahead_job){ 123456, 0, 0 });
	mf_close(f);
	m_free(m);
	free(f);
}

/* ---- threads that mounts share ---- */

/* Many times what any of these takes. */
#define WAIT_MS 20000

static const char busy_mount, other_mount; /* places that stand for sessions */
static atomic_bool gate_is_shut;	   /* the busy mount's first jobs wait for it to open */
static atomic_uint begun;		   /* jobs */
static atomic_uint other_was;		   /* the other mount's first job; 0: not yet */

static void run_job(struct session *s, const struct ahead_job *job)
{
	const unsigned number = atomic_fetch_add(&begun, 1) + 1;
	unsigned none = 0;

	(void)job;
	if ((const void *)s == &other_mount)
		atomic_compare_exchange_strong(&other_was, &none, number);
	for (unsigned i = 0; i < WAIT_MS && number <= AHEAD_THREADS && atomic_load(&gate_is_shut);
	     i++)
		usleep(1000);
}

static unsigned push_many(struct ahead_pool *p, const void *mount)
{
	const struct ahead_job job = { 1, 0, 1 };
	unsigned pushed = 0;

	while (pushed < 2 * AHEAD_QUEUE && ahead_pool_push(p, (struct session *)mount, &job))
		pushed++;
	return pushed;
}

static void a_mount_leaves_room_and_threads_to_others(void **state)
{
	const struct ahead_job job = { 1, 0, 1 };
	struct ahead_pool p;

	(void)state;
	atomic_store(&gate_is_shut, true);
	assert_int_equal(ahead_pool_start(&p, run_job), 0);
	/* Nobody else wants them: it has all threads. */
	for (unsigned n = 1; n <= AHEAD_THREADS; n++) {
		assert_true(ahead_pool_push(&p, (struct session *)&busy_mount, &job));
		for (unsigned i = 0; i < WAIT_MS && atomic_load(&begun) < n; i++)
			usleep(1000);
	}
	unsigned busy = push_many(&p, &busy_mount), other = push_many(&p, &other_mount);

	atomic_store(&gate_is_shut, false);
	ahead_pool_stop(&p);
	assert_int_equal(busy, AHEAD_QUEUE_MOUNT);
	assert_int_equal(other, AHEAD_QUEUE_MOUNT);
	/* The first threads that came free were for it, though the busy mount's jobs are older. */
	assert_in_range(atomic_load(&other_was), AHEAD_THREADS + 1, 2 * AHEAD_THREADS);
	assert_int_equal(atomic_load(&begun), AHEAD_THREADS + busy + other);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup_streams, teardown_streams)
	const struct CMUnitTest tests[] = {
		T(files_in_order_ask_for_those_that_follow),
		T(files_in_no_order_ask_for_nothing),
		T(a_file_in_order_asks_for_what_follows),
		T(a_job_loads_the_chunks_that_it_names),
		T(a_job_loads_the_nodes_of_a_walk),
		cmocka_unit_test(a_mount_leaves_room_and_threads_to_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
