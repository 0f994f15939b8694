/* Opening stores, pins and holds, statistics. */
#include "store/store_internal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "store/gc/store_root.h"
#include "tests/unit/fs_fixture.h"

static void write_file(const struct fx *f, const char *name, const char *text)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void remove_in(const struct fx *f, const char *name)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	assert_int_equal(nftw(path, fx_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static int try_open(const char *dir, bool read_only, struct error *err)
{
	struct store_options opt = { .read_only = read_only };
	struct store *s = NULL;
	*err = (struct error)ERROR_INIT;
	int rc = store_open(dir, &opt, &s, err);
	store_close(s);
	return rc;
}

static void second_writer_is_told_who_has_it(void **state)
{
	struct fx *f = *state;
	struct error err;
	char want[600];
	assert_int_equal(try_open(f->dir, false, &err), -EBUSY);
	snprintf(want, sizeof(want), "the store %s is in use by process %d", f->dir, getpid());
	assert_string_equal(err.msg, want);
}

/* Whoever keeps the descriptor keeps the store, for who takes it over. */
static void a_lock_outlives_the_store_that_took_it(void **state)
{
	struct fx *f = *state;
	struct store_options opt = { 0 };
	struct store *s = NULL;
	struct error err;
	char other[600];
	int kept = fcntl(store_lock_fd(f->s), F_DUPFD_CLOEXEC, 3);

	assert_true(kept >= 0);
	store_close(f->s);
	f->s = NULL;
	assert_int_equal(try_open(f->dir, false, &err), -EBUSY);

	snprintf(other, sizeof(other), "%s-other", f->dir);
	opt.lock_fd = fcntl(kept, F_DUPFD_CLOEXEC, 3);
	assert_int_equal(store_open(other, &opt, &s, &err), -EXDEV);
	assert_int_equal(access(other, F_OK), -1);
	assert_int_equal(fcntl(opt.lock_fd, F_GETFD), -1);

	opt.lock_fd = kept;
	err = (struct error)ERROR_INIT;
	assert_int_equal(store_open(f->dir, &opt, &f->s, &err), 0);
	assert_int_equal(store_lock_fd(f->s), kept);
	assert_int_equal(try_open(f->dir, false, &err), -EBUSY);
	store_close(f->s);
	f->s = NULL;
	assert_int_equal(try_open(f->dir, false, &err), 0);
}

#define DIE_HOLDING "--die-holding"

static int die_holding(const char *dir)
{
	struct error err = ERROR_INIT;
	struct store *s;
	if (store_open(dir, NULL, &s, &err) != 0) {
		fprintf(stderr, "%s\n", error_text(&err));
		return 1;
	}
	raise(SIGKILL);
	return 1;
}

static void store_opens_again_after_its_process_died(void **state)
{
	struct fx *f = *state;
	store_close(STEAL(f->s));
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) { /* a new program: the database's threads do not survive fork */
		execl("/proc/self/exe", "test_store", DIE_HOLDING, f->dir, (char *)NULL);
		_exit(127);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	fx_open_store(f);
}

static void reader_works_beside_the_writer(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct store_options opt = { .read_only = true };
	struct model *m = m_new();
	struct store *reader;
	struct snapshot snap;
	char text[6] = "";
	m_file(m, "f", "hello");
	m_snapshot(f->s, m, "seen");
	if (store_open(f->dir, &opt, &reader, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(snapshots_get(reader->snapshots, "seen", &snap, &err), 0);
	struct tree_fs fs = store_tree(reader, &snap.root);
	assert_int_equal(tree_fs_read(&fs, m_ino(m, "f"), 0, text, 5), 0);
	assert_string_equal(text, "hello");
	char *scratch = strdup(reader->own->scratch_dir);
	assert_int_equal(access(scratch, F_OK), 0);
	store_close(reader);
	assert_int_equal(access(scratch, F_OK), -1);
	free(scratch);
	m_free(m);
}

static void reader_creates_nothing(void **state)
{
	struct fx *f = *state;
	struct error err;
	char path[512];
	snprintf(path, sizeof(path), "%s/none", f->dir);
	assert_int_equal(try_open(path, true, &err), -ENOENT);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(try_open(path, true, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "there is no store in it"));
}

static void other_directories_are_left_alone(void **state)
{
	struct fx *f = *state;
	struct error err;
	char path[512];
	snprintf(path, sizeof(path), "%s/other", f->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	write_file(f, "other/precious", "data");
	assert_int_equal(try_open(path, false, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "is not a varve store"));
	assert_int_equal(try_open(path, true, &err), -EINVAL);
	strcat(path, "/LOCK");
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/other/precious", f->dir);
	assert_int_equal(try_open(path, false, &err), -ENOTDIR);
	snprintf(path, sizeof(path), "%s/no/such/parent", f->dir);
	assert_int_equal(try_open(path, false, &err), -ENOENT);
}

static mode_t mode_in(const struct fx *f, const char *name)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

/* Of whatever age: the database makes files that everybody may read. */
static void a_store_closes_itself_to_others(void **state)
{
	static const char *const names[] = { ".",	    "FORMAT",	    "db",
					     "db/IDENTITY", "journal/open", "staging" };
	struct fx *f = *state;
	struct error err;
	char path[512];

	store_close(STEAL(f->s));
	write_file(f, "journal/open", "x");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
		assert_int_equal(chmod(path, i == 0 || i == 2 || i == 5 ? 0755 : 0644), 0);
	}
	assert_int_equal(try_open(f->dir, false, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (mode_in(f, names[i]) & 077)
			fail_msg("%s: %o", names[i], mode_in(f, names[i]));
	assert_int_equal(mode_in(f, "db"), 0700);
	remove_in(f, "journal/open");
	fx_open_store(f);
}

static void newer_or_foreign_formats_are_refused(void **state)
{
	struct fx *f = *state;
	struct error err;
	store_close(STEAL(f->s));
	write_file(f, "FORMAT", "varve store 5\n");
	assert_int_equal(try_open(f->dir, false, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "format 5"));
	write_file(f, "FORMAT", "something else\n");
	assert_int_equal(try_open(f->dir, false, &err), -EINVAL);
	write_file(f, "FORMAT", "");
	assert_int_equal(try_open(f->dir, false, &err), -EINVAL);
	write_file(f, "FORMAT", "varve store 1\n");
	assert_int_equal(try_open(f->dir, false, &err), 0);
}

/* What a crash leaves at each step of creation. */
static void half_created_stores_open(void **state)
{
	struct fx *f = *state;
	struct error err;
	store_close(STEAL(f->s));
	remove_in(f, "db");
	assert_int_equal(try_open(f->dir, false, &err), 0);
	remove_in(f, "db");
	remove_in(f, "staging");
	remove_in(f, "journal");
	assert_int_equal(try_open(f->dir, false, &err), 0);
	remove_in(f, "db");
	remove_in(f, "staging");
	remove_in(f, "journal");
	remove_in(f, "FORMAT");
	write_file(f, "FORMAT.tmp", "varve st");
	assert_int_equal(try_open(f->dir, false, &err), 0);
	fx_open_store(f);
}

/* ---- pins and holds ---- */

static unsigned count_roots(struct fx *f, enum root_kind kind)
{
	CLEANUP(buf_fini_p) struct buf roots = BUF_INIT;
	unsigned n = 0;
	assert_int_equal(store_roots(f->s, &roots, NULL), 0);
	const struct store_root *r = (struct store_root *)roots.data;
	for (size_t i = 0; i < roots.len / sizeof(*r); i++)
		n += r[i].kind == kind;
	return n;
}

static int count_chunk(void *arg, const struct digest *chunk)
{
	(void)chunk;
	(*(unsigned *)arg)++;
	return 0;
}

static unsigned count_chunks(struct fx *f)
{
	unsigned n = 0;
	assert_int_equal(store_pinned_chunks(f->s, count_chunk, &n, NULL), 0);
	return n;
}

static void pins_of_one_owner_are_dropped_together(void **state)
{
	struct fx *f = *state;
	static const char *const owners[] = { "a", "a0", "ab" };
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	struct digest d = { { 1 } };
	for (size_t i = 0; i < ARRAY_SIZE(owners); i++) {
		store_pin_tree(f->s, b, owners[i], &d);
		for (d.b[1] = 0; d.b[1] < 3; d.b[1]++)
			store_pin_chunk(f->s, b, owners[i], &d);
	}
	assert_int_equal(kv_write(f->s->kv, b, KV_SYNC), 0);
	assert_int_equal(count_roots(f, ROOT_PIN), 3);
	assert_int_equal(count_chunks(f), 9);
	kv_batch_clear(b);
	store_unpin_chunks(f->s, b, "a");
	assert_int_equal(kv_write(f->s->kv, b, KV_SYNC), 0);
	assert_int_equal(count_roots(f, ROOT_PIN), 3);
	assert_int_equal(count_chunks(f), 6);
	kv_batch_clear(b);
	store_unpin_all(f->s, b, "ab");
	assert_int_equal(kv_write(f->s->kv, b, KV_SYNC), 0);
	assert_int_equal(count_roots(f, ROOT_PIN), 2);
	assert_int_equal(count_chunks(f), 3);

	/* So many that they go as a range. */
	kv_batch_clear(b);
	for (unsigned i = 0; i < 5000; i++) {
		d.b[2] = (uint8_t)i;
		d.b[3] = (uint8_t)(i >> 8);
		store_pin_chunk(f->s, b, "b", &d);
	}
	assert_int_equal(kv_write(f->s->kv, b, KV_SYNC), 0);
	assert_int_equal(count_chunks(f), 5003);
	kv_batch_clear(b);
	store_unpin_all(f->s, b, "b");
	assert_int_equal(kv_write(f->s->kv, b, KV_SYNC), 0);
	assert_int_equal(count_chunks(f), 3);
}

static void damaged_pins_are_an_error(void **state)
{
	struct fx *f = *state;
	CLEANUP(buf_fini_p) struct buf roots = BUF_INIT;
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	struct error err = ERROR_INIT;
	unsigned n = 0;
	kv_batch_put(f->s->kv, b, KV_META, "pin/tree/x", 10, "short", 5);
	kv_batch_put(f->s->kv, b, KV_META, "pin/chunk/x/zz", 14, "", 0);
	assert_int_equal(kv_write(f->s->kv, b, KV_LOG), 0);
	assert_int_equal(store_roots(f->s, &roots, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "pin/tree/x"));
	assert_int_equal(store_pinned_chunks(f->s, count_chunk, &n, &err), -EBADMSG);
}

static void held_snapshots_stay_roots_when_deleted(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct store_hold h;
	struct snapshot snap, building = { .name = "building" };
	struct model *m = m_new();
	m_snapshot(f->s, m, "held");
	assert_int_equal(store_hold_snapshot(f->s, "held", &snap, &h, &err), 0);
	assert_int_equal(snapshots_delete(f->s->snapshots, "held", &err), 0);
	assert_int_equal(count_roots(f, ROOT_SNAPSHOT), 0);
	assert_int_equal(count_roots(f, ROOT_HOLD), 1);
	store_release(f->s, &h);
	snapshot_fini(&snap);
	assert_int_equal(count_roots(f, ROOT_HOLD), 0);
	assert_int_equal(store_hold_snapshot(f->s, "held", &snap, &h, &err), -ENOENT);
	assert_int_equal(snapshots_put(f->s->snapshots, &building, NULL, &err), 0);
	assert_int_equal(store_hold_snapshot(f->s, "building", &snap, &h, &err), -EINVAL);
	assert_string_equal(err.msg, "snapshot \"building\" is not ready yet");
	assert_int_equal(count_roots(f, ROOT_HOLD), 0);
	m_free(m);
}

static void statistics_count_what_is_there(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	struct store_stats st;
	struct error err = ERROR_INIT;
	m_random_file(m, "a", 1, 60000);
	m_random_file(m, "b", 2, 30000);
	m_random_file(m, "same", 1, 60000);
	m_snapshot(f->s, m, "one");
	assert_int_equal(store_stats(f->s, &st, &err), 0);
	assert_int_equal(st.snapshot_count, 1);
	assert_int_equal(st.chunk_count, 2);
	assert_int_equal(st.unique_bytes, 90000);
	fx_reopen(f);
	assert_int_equal(store_stats(f->s, &st, &err), 0);
	assert_int_equal(st.chunk_count, 2);
	assert_int_equal(st.unique_bytes, 90000);
	assert_true(st.stored_bytes >= 90000);
	m_free(m);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], DIE_HOLDING) == 0)
		return die_holding(argv[2]);
	const struct CMUnitTest tests[] = {
		WITH_STORE(second_writer_is_told_who_has_it),
		WITH_STORE(a_lock_outlives_the_store_that_took_it),
		WITH_STORE(store_opens_again_after_its_process_died),
		WITH_STORE(reader_works_beside_the_writer),
		WITH_STORE(reader_creates_nothing),
		WITH_STORE(other_directories_are_left_alone),
		WITH_STORE(a_store_closes_itself_to_others),
		WITH_STORE(newer_or_foreign_formats_are_refused),
		WITH_STORE(half_created_stores_open),
		WITH_STORE(pins_of_one_owner_are_dropped_together),
		WITH_STORE(damaged_pins_are_an_error),
		WITH_STORE(held_snapshots_stay_roots_when_deleted),
		WITH_STORE(statistics_count_what_is_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
