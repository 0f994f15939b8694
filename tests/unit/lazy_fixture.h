/* lazy_fixture.h - two hosts; the second has remotes, an index and a far source, as a daemon has.
 */
#ifndef VARVE_TESTS_LAZY_FIXTURE_H
#define VARVE_TESTS_LAZY_FIXTURE_H

#include "tests/unit/share_fixture.h"

#include "store/lazy/far.h"
#include "store/remote/remotes.h"

/* Host b as a daemon has it: with remotes, an index and a far source. */
struct lazy_host {
	struct hosts *h;
	struct remotes *rs;
	struct lazy_index *ix;
	struct source *far;
};

static inline void lazy_open(struct lazy_host *l)
{
	struct error err = ERROR_INIT;
	struct store *s = l->h->b.s;

	if (lazy_index_open(s->dir_fd, &l->ix, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(remotes_open(s->kv, &l->rs, &err), 0);
	l->far = far_new(l->ix, l->rs);
	assert_non_null(l->far);
	store_set_far(s, l->far);
}

static inline void lazy_close(struct lazy_host *l)
{
	store_stop_far(l->h->b.s);
	remotes_close(l->rs);
	host_close(&l->h->b);
	source_free(l->far);
	lazy_index_free(l->ix);
}

static inline void lazy_restart(struct lazy_host *l)
{
	lazy_close(l);
	host_open(&l->h->b, &l->h->bucket, "b");
	lazy_open(l);
}

static inline int lazy_setup(void **state)
{
	struct lazy_host *l = calloc(1, sizeof(*l));
	struct remote_config c;
	struct error err = ERROR_INIT;
	void *hosts;

	assert_non_null(l);
	hosts_setup(&hosts);
	l->h = hosts;
	lazy_open(l);
	c = bucket_config(&l->h->bucket);
	if (remotes_add(l->rs, &c, &err) != 0)
		fail_msg("%s", error_text(&err));
	remote_config_fini(&c);
	*state = l;
	return 0;
}

static inline __attribute__((unused)) int encrypted_lazy_setup(void **state)
{
	bucket_encrypted = true;
	return lazy_setup(state);
}

static inline int lazy_teardown(void **state)
{
	struct lazy_host *l = *state;

	bucket_encrypted = false;
	lazy_close(l);
	host_close(&l->h->a);
	bucket_fini(&l->h->bucket);
	free(l->h);
	free(l);
	return 0;
}

static inline struct pull_result pull_lazily(struct lazy_host *l, const char *reference)
{
	const struct pull_options opt = { .name = reference, .index = l->ix, .lazy = true };
	struct pull_result res;
	struct error err = ERROR_INIT;

	if (pull_snapshot(l->h->b.s, l->h->b.r, reference, &opt, NULL, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	snapshot_fini(&res.snapshot);
	return res;
}

/* Read a whole file of the directory from both stores, and compare. The result of b's read. */
static inline int read_file(struct lazy_host *l, const char *a, const char *b, unsigned number)
{
	const struct digest ra = root_of(&l->h->a, a), rb = root_of(&l->h->b, b);
	struct tree_fs fa = store_tree(l->h->a.s, &ra), fb = store_tree(l->h->b.s, &rb);
	static _Thread_local uint8_t x[32768], y[32768];
	struct tree_value pin = { 0 };
	struct inode_rec rec;
	char path[32];
	uint64_t ino;
	int rc;

	snprintf(path, sizeof(path), "f%u", number);
	assert_int_equal(tree_fs_resolve(&fa, path, false, &ino), 0);
	assert_int_equal(tree_fs_inode(&fa, ino, &rec, &pin), 0);
	tree_value_release(&pin);
	assert_in_range(rec.size, 20000, sizeof(x));
	assert_int_equal(tree_fs_read(&fa, ino, 0, x, rec.size), 0);
	rc = tree_fs_read(&fb, ino, 0, y, rec.size);
	if (rc == 0)
		assert_memory_equal(x, y, rec.size);
	return rc;
}

static inline struct far_stats stats_of(const struct lazy_host *l)
{
	struct far_stats st;

	far_stats(l->far, &st);
	return st;
}

/* Nothing is damaged; so many chunks are still far. */
static inline uint64_t far_chunks(struct lazy_host *l)
{
	struct verify_result v = { 0 };
	struct error err = ERROR_INIT;

	if (verify_run(l->h->b.s, NULL, NULL, note_problem, NULL, &v, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(v.damaged, 0);
	return v.far_chunks;
}

static inline void mark_chunk(void *arg, const struct digest *d)
{
	lazy_index_mark(arg, d);
}

static inline void collect(struct lazy_host *l)
{
	const struct gc_options opt = { .chunk = mark_chunk, .arg = l->ix };
	struct error err = ERROR_INIT;
	struct gc_result res;

	lazy_index_mark_begin(l->ix);
	if (gc_run(l->h->b.s, &opt, NULL, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	lazy_index_mark_end(l->ix);
}

static inline void push_files(struct lazy_host *l, unsigned n)
{
	make_files(l->h, "d", n, 1);
	take(l->h, &l->h->a, "d", "base", NULL);
	push(&l->h->a, "base", "base");
}

#endif
