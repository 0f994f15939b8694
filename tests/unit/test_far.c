/*
 * Snapshots that are pulled lazily: what is read comes, and nothing else.
 * wrap: fsync
 */
#include "tests/unit/lazy_fixture.h"

#include <dirent.h>
#include <pthread.h>

#include "store/base/log.h"
#include "store/export/export.h"

static void __attribute__((format(printf, 1, 2))) sh(const char *fmt, ...)
{
	char cmd[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	assert_int_equal(system(cmd), 0); /* NOLINT: our own text */
}

static ino_t synced[64];
static unsigned n_synced;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && n_synced < ARRAY_SIZE(synced))
		synced[n_synced++] = st.st_ino;
	return __real_fsync(fd);
}

/* Also where a process that was killed has made the directories. */
static void where_chunks_are_is_permanent(void **state)
{
	struct lazy_host *l = *state;
	int fd = l->h->b.s->dir_fd;
	bool found = false;
	struct stat st;
	char dir[64];

	push_files(l, 5);
	snprintf(dir, sizeof(dir), "remote/%s", remote_uuid(l->h->b.r));
	assert_int_equal(mkdirat(fd, "remote", 0700), 0);
	assert_int_equal(mkdirat(fd, dir, 0700), 0);
	assert_int_equal(fstatat(fd, "remote", &st, 0), 0);
	n_synced = 0;
	pull_lazily(l, "base");
	for (unsigned i = 0; i < n_synced; i++)
		found |= synced[i] == st.st_ino;
	assert_true(found);
}

static void what_is_read_comes(void **state)
{
	struct lazy_host *l = *state;
	struct pull_result p;
	struct far_stats st;

	push_files(l, 200);
	p = pull_lazily(l, "base");
	assert_int_equal(p.chunks, 0);
	assert_in_range(p.bytes, 1, 200000);
	assert_same_tree(&l->h->a, "base", &l->h->b, "base");
	assert_true(far_chunks(l) >= 200);
	assert_int_equal(read_file(l, "base", "base", 7), 0);
	st = stats_of(l);
	assert_int_equal(st.requests, 1);
	assert_in_range(st.bytes, 20000, FAR_WINDOW_MIN + (48u << 10));
	assert_int_equal(st.failed, 0);
	/* Near from now on. */
	assert_int_equal(read_file(l, "base", "base", 7), 0);
	assert_int_equal(stats_of(l).chunks, st.chunks);
	assert_in_range(far_chunks(l), 1, 199);
	collect(l);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(read_file(l, "base", "base", i), 0);
	assert_int_equal(far_chunks(l), 0);
	/* 4 MB, in no order of theirs, and hardly anything twice. */
	assert_in_range(stats_of(l).requests, 2, 80);
	assert_in_range(stats_of(l).bytes, 1, 4600000);
}

static void a_whole_pull_completes_a_lazy_one(void **state)
{
	struct lazy_host *l = *state;
	const struct pull_options whole = { .name = "base", .index = l->ix };
	struct pull_result res;

	push_files(l, 20);
	pull_lazily(l, "base");
	assert_int_equal(read_file(l, "base", "base", 3), 0);
	assert_in_range(far_chunks(l), 1, 40);
	assert_int_equal(pull_snapshot(l->h->b.s, l->h->b.r, "base", &whole, NULL, &res, NULL), 0);
	assert_true(res.existed);
	assert_in_range(res.chunks, 1, 40);
	snapshot_fini(&res.snapshot);
	assert_int_equal(far_chunks(l), 0);
}

static void a_restart_knows_where_it_is(void **state)
{
	struct lazy_host *l = *state;

	push_files(l, 20);
	pull_lazily(l, "base");
	lazy_restart(l);
	assert_int_equal(lazy_index_count(l->ix, NULL), 1);
	assert_true(far_chunks(l) >= 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(read_file(l, "base", "base", i), 0);
}

static void without_its_remote_a_read_fails(void **state)
{
	struct lazy_host *l = *state;
	struct remote_config c;

	push_files(l, 20);
	pull_lazily(l, "base");
	assert_int_equal(read_file(l, "base", "base", 0), 0);
	assert_int_equal(remotes_config(l->rs, "main", &c, NULL), 0);
	assert_int_equal(remotes_remove(l->rs, "main", true, NULL), 0);
	lazy_restart(l);
	log_set_level(LOG_ERROR);
	assert_int_equal(read_file(l, "base", "base", 0), 0); /* it is here */
	assert_int_equal(read_file(l, "base", "base", 19), -EIO);
	strcpy(c.name, "other");
	assert_int_equal(remotes_add(l->rs, &c, NULL), 0);
	remote_config_fini(&c);
	assert_int_equal(read_file(l, "base", "base", 19), 0);
	/* Packs that are gone, too. */
	sh("mv %s/pack %s/away", l->h->bucket.path, l->h->bucket.path);
	lazy_restart(l);
	assert_int_equal(read_file(l, "base", "base", 10), -ENODATA);
	sh("mv %s/away %s/pack", l->h->bucket.path, l->h->bucket.path);
	assert_int_equal(read_file(l, "base", "base", 10), 0);
}

static int drop_bytes(void *arg, const void *data, size_t len)
{
	(void)arg, (void)data, (void)len;
	return 0;
}

static void an_export_says_what_a_bucket_has_lost(void **state)
{
	struct lazy_host *l = *state;
	struct store *s = l->h->b.s;
	struct error err = ERROR_INIT;
	struct snapshot snap;

	push_files(l, 3);
	pull_lazily(l, "base");
	assert_int_equal(snapshots_get(s->snapshots, "base", &snap, NULL), 0);
	sh("mv %s/pack %s/away", l->h->bucket.path, l->h->bucket.path);
	log_set_level(LOG_ERROR);
	assert_int_equal(export_tar(s, &snap.root, drop_bytes, NULL, NULL, &err), -EREMOTEIO);
	assert_non_null(strstr(err.msg, ": chunk "));
	assert_non_null(strstr(err.msg, ", container "));
	assert_non_null(strstr(err.msg, " of remote main, is not there"));
	sh("mv %s/away %s/pack", l->h->bucket.path, l->h->bucket.path);
	assert_int_equal(export_tar(s, &snap.root, drop_bytes, NULL, NULL, &err), 0);
	snapshot_fini(&snap);
}

/* One that fails is opened anew: with other credentials, say. */
static void a_remote_that_fails_is_opened_anew(void **state)
{
	struct lazy_host *l = *state;
	struct remote *r;

	push_files(l, 20);
	pull_lazily(l, "base");
	remotes_reopen(l->rs, "main");
	setenv("VARVE_FAULTS", "drop=1,under=pack/", 1);
	assert_int_equal(remotes_get(l->rs, "main", &r, NULL), 0);
	remotes_release(l->rs, r);
	log_set_level(LOG_ERROR);
	assert_int_equal(read_file(l, "base", "base", 0), -EIO); /* nor can the next one */
	remotes_reopen(l->rs, "main");
	assert_int_equal(remotes_get(l->rs, "main", &r, NULL), 0);
	remotes_release(l->rs, r);
	unsetenv("VARVE_FAULTS");
	assert_int_equal(read_file(l, "base", "base", 0), 0);
}

static unsigned threads(void)
{
	DIR *d = opendir("/proc/self/task");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* One that was joined may be shown for a moment. */
static void assert_threads(unsigned n)
{
	for (int i = 0; i < 1000 && threads() != n; i++)
		usleep(10000);
	assert_int_equal(threads(), n);
}

static void a_remote_that_is_removed_is_closed(void **state)
{
	struct lazy_host *l = *state;
	unsigned before;

	push_files(l, 20);
	pull_lazily(l, "base");
	remotes_reopen(l->rs, "main");
	do { /* until those of the one that was open have gone */
		before = threads();
		usleep(50000);
	} while (threads() != before);
	assert_int_equal(read_file(l, "base", "base", 0), 0);
	assert_threads(before + 2); /* the bucket's, and one that keeps what was read */
	assert_int_equal(remotes_remove(l->rs, "main", true, NULL), 0);
	assert_threads(before + 1);
}

static void damage_reaches_no_reader(void **state)
{
	struct lazy_host *l = *state;
	char find[200], path[200] = "";
	uint8_t bytes[20000];
	FILE *f;

	push_files(l, 1);
	pull_lazily(l, "base");
	snprintf(find, sizeof(find), "find %s/pack -type f", l->h->bucket.path);
	f = popen(find, "r"); /* NOLINT: our own text */
	assert_non_null(f);
	assert_non_null(fgets(path, sizeof(path), f));
	pclose(f);
	path[strcspn(path, "\n")] = '\0';
	f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fseek(f, 5000, SEEK_SET), 0);
	assert_int_equal(fread(bytes, 1, 100, f), 100);
	bytes[50] ^= 1;
	assert_int_equal(fseek(f, 5000, SEEK_SET), 0);
	assert_int_equal(fwrite(bytes, 1, 100, f), 100);
	fflush(f);
	assert_int_equal(read_file(l, "base", "base", 0), -EBADMSG);
	assert_true(stats_of(l).failed > 0);
	assert_int_equal(far_chunks(l), 1);
	bytes[50] ^= 1;
	assert_int_equal(fseek(f, 5000, SEEK_SET), 0);
	assert_int_equal(fwrite(bytes, 1, 100, f), 100);
	fclose(f);
	lazy_restart(l); /* forgets what is in memory */
	assert_int_equal(read_file(l, "base", "base", 0), 0);
}

/* What a child refers to stays known after its base is gone. */
static void places_go_with_the_last_tree_that_needs_them(void **state)
{
	struct lazy_host *l = *state;
	struct snapshot child = { .name = "child", .status = SNAPSHOT_READY, .has_root = true };
	struct store *s = l->h->b.s;

	push_files(l, 20);
	pull_lazily(l, "base");
	child.root = root_of(&l->h->b, "base");
	assert_int_equal(snapshots_put(s->snapshots, &child, NULL, NULL), 0);
	assert_int_equal(snapshots_delete(s->snapshots, "base", NULL), 0);
	collect(l);
	assert_int_equal(lazy_index_count(l->ix, NULL), 1);
	assert_int_equal(read_file(l, "base", "child", 3), 0);
	assert_int_equal(snapshots_delete(s->snapshots, "child", NULL), 0);
	collect(l);
	assert_int_equal(lazy_index_count(l->ix, NULL), 0);
	lazy_restart(l);
	assert_int_equal(lazy_index_count(l->ix, NULL), 0);
	/* Whoever pulls right now is waited for. */
	lazy_index_hold(l->ix);
	pull_lazily(l, "base");
	assert_int_equal(snapshots_delete(l->h->b.s->snapshots, "base", NULL), 0);
	collect(l);
	assert_int_equal(lazy_index_count(l->ix, NULL), 1);
	lazy_index_release(l->ix);
	collect(l);
	assert_int_equal(lazy_index_count(l->ix, NULL), 0);
}

#define READERS 8
static void *read_all(void *arg)
{
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(read_file(arg, "base", "base", i), 0);
	return NULL;
}

static void many_readers_share_requests(void **state)
{
	struct lazy_host *l = *state;
	pthread_t threads[READERS];

	push_files(l, 100);
	pull_lazily(l, "base");
	for (int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_all, l), 0);
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	assert_in_range(stats_of(l).requests, 2, 60);
	assert_in_range(stats_of(l).bytes, 1, 2500000);
}

/* An older program must not take far chunks for damage. */
static void the_format_says_so(void **state)
{
	struct lazy_host *l = *state;
	char path[128], text[40] = "";
	FILE *f;

	push_files(l, 1);
	pull_lazily(l, "base");
	snprintf(path, sizeof(path), "%s/b/FORMAT", l->h->bucket.dir);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	assert_string_equal(text, "varve store 4\n");
}

/* What was deleted in the bucket before it was read cannot be pushed again. */
static void a_push_names_what_is_gone(void **state)
{
	struct lazy_host *l = *state;
	const struct push_options opt = { .name = "again" };
	struct error err = ERROR_INIT;
	struct push_result res;
	bool deleted;

	push_files(l, 5);
	pull_lazily(l, "base");
	assert_int_equal(remote_remove(l->h->a.r, "base", &deleted, &err), 0);
	sh("rm -r %s/pack", l->h->bucket.path);
	assert_int_equal(push_snapshot(l->h->b.s, l->h->b.r, "base", &opt, NULL, &res, &err),
			 -ENODATA);
	assert_non_null(strstr(err.msg, "chunk "));
	assert_non_null(strstr(err.msg, "neither in this store nor in a bucket"));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, lazy_setup, lazy_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(where_chunks_are_is_permanent),
		TEST(what_is_read_comes),
		TEST(a_whole_pull_completes_a_lazy_one),
		TEST(a_restart_knows_where_it_is),
		TEST(without_its_remote_a_read_fails),
		TEST(an_export_says_what_a_bucket_has_lost),
		TEST(a_remote_that_fails_is_opened_anew),
		TEST(a_remote_that_is_removed_is_closed),
		TEST(damage_reaches_no_reader),
		TEST(places_go_with_the_last_tree_that_needs_them),
		TEST(many_readers_share_requests),
		TEST(the_format_says_so),
		TEST(a_push_names_what_is_gone),
		ENCRYPTED(what_is_read_comes, lazy_setup, lazy_teardown),
		ENCRYPTED(damage_reaches_no_reader, lazy_setup, lazy_teardown),
		ENCRYPTED(many_readers_share_requests, lazy_setup, lazy_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
