/* First uses of a snapshot: noted on one host, fetched at once on the next. */
#include "tests/unit/share_fixture.h"

#include <poll.h>
#include <sys/stat.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/layout/hot.h"
#include "store/lazy/far.h"
#include "store/lazy/prefetch.h"
#include "store/remote/remotes.h"

#define FILES 120u /* of 20 KiB that do not compress, one chunk each */

/* A host as a daemon has it, with nothing in its store. */
struct cold {
	struct host host;
	struct remotes *rs;
	struct lazy_index *ix;
	struct prefetch *pf;
	struct source *far;
};

static void cold_open(struct cold *c, const struct hosts *h, const char *name, unsigned trace_ms)
{
	struct remote_config rc = bucket_config(&h->bucket);
	struct error err = ERROR_INIT;

	host_open(&c->host, &h->bucket, name);
	if (lazy_index_open(c->host.s->dir_fd, &c->ix, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(remotes_open(c->host.s->kv, &c->rs, &err), 0);
	if (remotes_add(c->rs, &rc, &err) != 0)
		fail_msg("%s", error_text(&err));
	remote_config_fini(&rc);
	assert_int_equal(prefetch_new(c->host.s, c->rs, trace_ms, &c->pf), 0);
	c->far = far_new(c->ix, c->rs);
	assert_non_null(c->far);
	far_set_prefetch(c->far, c->pf);
	store_set_far(c->host.s, c->far);
}

static void cold_close(struct cold *c)
{
	store_stop_far(c->host.s);
	prefetch_stop(c->pf);
	remotes_close(c->rs);
	host_close(&c->host);
	source_free(c->far);
	prefetch_free(c->pf);
	lazy_index_free(c->ix);
}

static void begin_use_of(struct cold *c, const char *reference)
{
	const struct pull_options opt = {
		.name = "s", .index = c->ix, .prefetch = c->pf, .lazy = true
	};
	struct pull_result res;
	struct error err = ERROR_INIT;

	if (pull_snapshot(c->host.s, c->host.r, reference, &opt, NULL, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	snapshot_fini(&res.snapshot);
}

static void begin_use(struct cold *c)
{
	begin_use_of(c, "s");
}

/* Read a whole file of both hosts, and compare. */
static void read_file(const struct hosts *h, const struct cold *c, unsigned number)
{
	const struct digest ra = root_of(&h->a, "s"), rb = root_of(&c->host, "s");
	struct tree_fs fa = store_tree(h->a.s, &ra), fb = store_tree(c->host.s, &rb);
	static _Thread_local uint8_t x[32768], y[32768];
	struct tree_value pin = { 0 };
	struct inode_rec rec;
	char path[32];
	uint64_t ino;

	snprintf(path, sizeof(path), "f%u", number);
	assert_int_equal(tree_fs_resolve(&fa, path, false, &ino), 0);
	assert_int_equal(tree_fs_inode(&fa, ino, &rec, &pin), 0);
	tree_value_release(&pin);
	assert_in_range(rec.size, 20000, sizeof(x));
	assert_int_equal(tree_fs_read(&fa, ino, 0, x, rec.size), 0);
	assert_int_equal(tree_fs_resolve(&fb, path, false, &ino), 0);
	assert_int_equal(tree_fs_read(&fb, ino, 0, y, rec.size), 0);
	assert_memory_equal(x, y, rec.size);
}

/* Every third file, backwards: another order than the bucket's. */
static void use_some(const struct hosts *h, const struct cold *c)
{
	for (unsigned i = FILES; i-- > 0;)
		if (i % 3 == 0)
			read_file(h, c, i);
}

static struct prefetch_stats stats_of(const struct cold *c)
{
	struct prefetch_stats st;

	prefetch_stats(c->pf, &st);
	return st;
}

static uint64_t far_requests(const struct cold *c)
{
	struct far_stats st;

	far_stats(c->far, &st);
	return st.requests;
}

/* End the use; how many objects it has left. */
static uint64_t end_use(const struct cold *c)
{
	uint64_t written = stats_of(c).written, uses = stats_of(c).uses;

	prefetch_end(c->pf);
	alarm(300);
	while (stats_of(c).uses == uses)
		poll(NULL, 0, 10);
	alarm(0);
	return stats_of(c).written - written;
}

/* hot/ID of the bucket's only snapshot. */
static void hot_path(const struct hosts *h, char *out, size_t size)
{
	struct share_record rec;
	struct error err = ERROR_INIT;
	char key[SHARE_KEY_SIZE];

	assert_int_equal(remote_resolve(h->a.r, "s", &rec, &err), 0);
	share_key_of_id(SHARE_KEY_HOT, &rec.id, key);
	share_record_fini(&rec);
	snprintf(out, size, "%s/%s", h->bucket.path, key);
}

static int setup(void **state)
{
	struct hosts *h;

	hosts_setup(state);
	h = *state;
	make_files(h, "d", FILES, 1);
	take(h, &h->a, "d", "s", NULL);
	push(&h->a, "s", "s");
	return 0;
}

static int encrypted_setup(void **state)
{
	bucket_encrypted = true;
	return setup(state);
}

static void first_use(const struct hosts *h)
{
	struct cold c;

	cold_open(&c, h, "first", PREFETCH_TRACE_MS);
	begin_use(&c);
	use_some(h, &c);
	assert_int_equal(stats_of(&c).hits, 0);
	assert_int_equal(stats_of(&c).misses, FILES / 3);
	assert_int_equal(end_use(&c), 1);
	cold_close(&c);
}

static void a_use_is_fetched_at_once_by_the_next(void **state)
{
	const struct hosts *h = *state;
	struct cold c;

	first_use(h);
	cold_open(&c, h, "second", PREFETCH_TRACE_MS);
	begin_use(&c);
	use_some(h, &c);
	assert_int_equal(stats_of(&c).hits, FILES / 3);
	assert_int_equal(stats_of(&c).misses, 0);
	assert_int_equal(far_requests(&c), 0);
	read_file(h, &c, 1); /* what was not noted is fetched alone */
	assert_int_equal(stats_of(&c).misses, 1);
	assert_true(far_requests(&c) > 0);
	cold_close(&c);
}

static void a_use_like_the_former_writes_nothing(void **state)
{
	const struct hosts *h = *state;
	struct cold c;
	char path[640];
	struct stat before, after;

	first_use(h);
	hot_path(h, path, sizeof(path));
	assert_int_equal(stat(path, &before), 0);
	cold_open(&c, h, "second", PREFETCH_TRACE_MS);
	begin_use(&c);
	use_some(h, &c);
	read_file(h, &c, 1);
	assert_int_equal(end_use(&c), 0);
	cold_close(&c);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
}

static void another_use_is_added(void **state)
{
	const struct hosts *h = *state;
	struct cold c;

	first_use(h);
	cold_open(&c, h, "second", PREFETCH_TRACE_MS);
	begin_use(&c);
	for (unsigned i = 1; i < FILES; i += 3)
		read_file(h, &c, i);
	assert_int_equal(end_use(&c), 1);
	cold_close(&c);
	/* 40 + 40 chunks of 20 KiB are 1.6 MB, more than the 1 MiB that a small snapshot may have.
	 */
	cold_open(&c, h, "third", PREFETCH_TRACE_MS);
	begin_use(&c);
	for (unsigned i = 1; i < FILES; i += 3)
		read_file(h, &c, i);
	assert_int_equal(stats_of(&c).misses, 0);
	use_some(h, &c);
	assert_in_range(stats_of(&c).misses, 1, FILES / 3 - 1);
	cold_close(&c);
}

/* A snapshot that has none yet, with the tree of its parent and some more. */
static void a_child_uses_its_parents(void **state)
{
	struct hosts *h = *state;
	struct cold c;

	first_use(h);
	make_files(h, "d/more", 3, 2);
	take(h, &h->a, "d", "child", "s");
	push(&h->a, "child", "child");
	cold_open(&c, h, "second", PREFETCH_TRACE_MS);
	begin_use_of(&c, "child");
	use_some(h, &c);
	assert_int_equal(stats_of(&c).hits, FILES / 3);
	assert_int_equal(stats_of(&c).misses, 0);
	cold_close(&c);
}

static void it_goes_with_its_snapshot(void **state)
{
	struct hosts *h = *state;
	struct error err = ERROR_INIT;
	bool deleted = false;
	char path[640];

	first_use(h);
	hot_path(h, path, sizeof(path));
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(remote_remove(h->a.r, "s", &deleted, &err), 0);
	assert_true(deleted);
	assert_int_equal(access(path, F_OK), -1);
}

/* Whatever is in the object, the files are right. */
static void a_damaged_object_harms_nobody(void **state)
{
	const struct hosts *h = *state;
	static const long places[] = { 0, 9, 70, 100, 5000, 400000 };
	char path[640], name[16];
	struct cold c;

	first_use(h);
	hot_path(h, path, sizeof(path));
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		FILE *f = fopen(path, "r+");
		int byte;

		assert_non_null(f);
		assert_int_equal(fseek(f, places[i], SEEK_SET), 0);
		byte = fgetc(f);
		assert_int_equal(fseek(f, places[i], SEEK_SET), 0);
		assert_int_equal(fputc(byte ^ 0x10, f), byte ^ 0x10);
		assert_int_equal(fclose(f), 0);
		snprintf(name, sizeof(name), "c%zu", i);
		cold_open(&c, h, name, PREFETCH_TRACE_MS);
		begin_use(&c);
		use_some(h, &c);
		assert_int_equal(stats_of(&c).hits, 0);
		cold_close(&c);
	}
	assert_int_equal(truncate(path, 3000), 0);
	cold_open(&c, h, "cut", PREFETCH_TRACE_MS);
	begin_use(&c);
	use_some(h, &c);
	cold_close(&c);
}

/* Each file is one chunk. */
static void digest_of_file(const char *path, struct digest *out)
{
	uint8_t bytes[32768];
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	assert_int_equal(hash_bytes(bytes, n, out), 0);
}

/* An object of several segments, made by hand: each file's chunk, the last first. */
static void large_objects_come_in_parts(void **state)
{
	const struct hosts *h = *state;
	const struct digest root = root_of(&h->a, "s");
	struct share_id nonce;
	struct hot_writer *w;
	struct buf body CLEANUP(buf_fini_p) = BUF_INIT;
	struct cold c;
	char path[640];

	assert_int_equal(share_id_random(&nonce), 0);
	w = hot_writer_new(&root, &nonce);
	assert_non_null(w);
	for (unsigned i = FILES; i-- > 0;) {
		struct buf frame CLEANUP(buf_fini_p) = BUF_INIT;
		struct digest d;

		snprintf(path, sizeof(path), "%s/d/f%u", h->bucket.dir, i);
		digest_of_file(path, &d);
		assert_int_equal(chunk_store_frame(h->a.s->chunks, &d, &frame), 0);
		assert_int_equal(
			hot_add(w, &(struct hot_item){ HOT_CHUNK, d, frame.data, frame.len }), 0);
	}
	assert_int_equal(hot_writer_finish(w, &body), 0);
	hot_writer_free(w);
	assert_true(body.len > 2 * HOT_SEGMENT_MAX);
	hot_path(h, path, sizeof(path));
	assert_int_equal(object_put(remote_objects(h->a.r), OBJECT_PUSH,
				    path + strlen(h->bucket.path) + 1, body.data, body.len, NULL),
			 0);

	cold_open(&c, h, "second", PREFETCH_TRACE_MS);
	begin_use(&c);
	for (unsigned i = 0; i < FILES; i++)
		read_file(h, &c, i);
	assert_int_equal(stats_of(&c).hits, FILES);
	assert_int_equal(far_requests(&c), 0);
	cold_close(&c);
}

/* More uses than there is room for; and the end in the middle of them. */
static void uses_are_bounded_and_end_at_any_time(void **state)
{
	struct hosts *h = *state;
	struct share_record rec;
	struct error err = ERROR_INIT;
	struct cold c;

	first_use(h);
	assert_int_equal(remote_resolve(h->a.r, "s", &rec, &err), 0);
	cold_open(&c, h, "second", PREFETCH_TRACE_MS);
	for (unsigned i = 0; i < 3 * PREFETCH_USES; i++)
		prefetch_begin(c.pf, c.host.r, &rec);
	begin_use(&c);
	use_some(h, &c);
	assert_int_equal(stats_of(&c).misses, 0);
	assert_in_range(stats_of(&c).bytes, 1, (PREFETCH_USES + 1) * (1u << 20));
	prefetch_begin(c.pf, c.host.r, &rec);
	cold_close(&c);
	cold_open(&c, h, "third", 50);
	for (unsigned i = 0; i < PREFETCH_USES; i++)
		prefetch_begin(c.pf, c.host.r, &rec);
	cold_close(&c);
	share_record_fini(&rec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, hosts_teardown)
		T(a_use_is_fetched_at_once_by_the_next),
		T(a_use_like_the_former_writes_nothing),
		T(another_use_is_added),
		T(it_goes_with_its_snapshot),
		T(a_child_uses_its_parents),
		T(a_damaged_object_harms_nobody),
		T(large_objects_come_in_parts),
		T(uses_are_bounded_and_end_at_any_time),
#undef T
		ENCRYPTED(a_use_is_fetched_at_once_by_the_next, setup, hosts_teardown),
		ENCRYPTED(large_objects_come_in_parts, setup, hosts_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
