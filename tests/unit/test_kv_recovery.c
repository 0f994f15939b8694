/* Crashes, damage, and readers beside a writer. */
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "tests/unit/kv_fixture.h"

/*
 * Runs fn in a process that dies without closing the database: this program
 * again, as RocksDB's threads do not outlive a fork.
 */
static void in_killed_process(struct fixture *fx, const char *fn_name)
{
	int status;

	kv_close(fx->kv);
	fx->kv = NULL;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		execl("/proc/self/exe", "test_kv_recovery", fn_name, fx->db, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	reopen(fx);
}

static void write_large_content(struct fixture *fx)
{
	put_big_values(fx);
	put(fx->kv, KV_NODE, "node", "after", 5, KV_NO_LOG);
	assert_int_equal(kv_flush_content(fx->kv), 0);
	put_str(fx->kv, KV_META, "record", "written");
}

static void flushed_content_survives_a_crash_small(void **state)
{
	struct fixture *fx = *state;

	in_killed_process(fx, "small");
	expect(fx->kv, KV_CHUNK, "chunk", "small");
	expect(fx->kv, KV_NODE, "node", "small");
}

static void flushed_content_survives_a_crash_large(void **state)
{
	struct fixture *fx = *state;
	char key[16];

	in_killed_process(fx, "large");
	expect(fx->kv, KV_NODE, "node", "after");
	expect(fx->kv, KV_META, "record", "written");
	for (int i = 0; i < BIG_COUNT; i++) {
		struct kv_value v = { 0 };
		snprintf(key, sizeof(key), "%06d", i);
		assert_int_equal(kv_get(fx->kv, KV_CHUNK, key, strlen(key), &v), 0);
		kv_value_release(&v);
	}
}

#define ACK_FD 3

/* Such buffers fill up after some records, as the usual ones do of values of a MiB. */
#define SMALL_BUFFERS (8u << 20)
#define SMALL_VALUE_MAX (128u << 10)

/* Content, flush, record: what a checkpoint does, until somebody kills it. Acknowledges each. */
static void write_records_forever(struct fixture *fx)
{
	unsigned seed = (unsigned)getpid();
	uint8_t *val = calloc(1, SMALL_VALUE_MAX);
	char key[32];

	for (int i = 0;; i++) {
		unsigned n = 1 + (unsigned)rand_r(&seed) % 30;
		for (unsigned k = 0; k < n; k++) {
			snprintf(key, sizeof(key), "%d-%d-%u", getpid(), i, k);
			put(fx->kv, k % 2 ? KV_NODE : KV_CHUNK, key, val,
			    (unsigned)rand_r(&seed) % SMALL_VALUE_MAX, KV_NO_LOG);
		}
		assert_int_equal(kv_flush_content(fx->kv), 0);
		snprintf(key, sizeof(key), "%d-%d", getpid(), i);
		put(fx->kv, KV_META, key, &n, sizeof(n), KV_SYNC);
		assert_int_equal(write(ACK_FD, "r", 1), 1);
	}
}

/* Every record's content is there; returns the number of records. */
static int check_records(struct kv *kv)
{
	struct kv_iter *it = kv_iter_new(kv, KV_META);
	int count = 0;

	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it), count++) {
		char key[64];
		size_t klen, vlen;
		unsigned n;
		const uint8_t *record = kv_iter_key(it, &klen);
		memcpy(&n, kv_iter_value(it, &vlen), sizeof(n));
		for (unsigned k = 0; k < n; k++) {
			struct kv_value v = { 0 };
			enum kv_family f = k % 2 ? KV_NODE : KV_CHUNK;
			snprintf(key, sizeof(key), "%.*s-%u", (int)klen, (const char *)record, k);
			assert_int_equal(kv_get(kv, f, key, strlen(key), &v), 0);
			kv_value_release(&v);
			assert_int_equal(kv_has(kv, f, key, strlen(key)), 1);
		}
	}
	assert_int_equal(kv_iter_status(it), 0);
	kv_iter_free(it);
	return count;
}

static void killed_writer_leaves_no_record_without_its_content(void **state)
{
	struct fixture *fx = *state;
	int status, acknowledged = 0;

	for (int round = 0; round < 6; round++) {
		int fds[2];
		char ack;
		kv_close(fx->kv);
		fx->kv = NULL;
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			if (dup2(fds[1], ACK_FD) == ACK_FD && fcntl(ACK_FD, F_SETFD, 0) == 0)
				execl("/proc/self/exe", "test_kv_recovery", "forever", fx->db,
				      (char *)NULL);
			_exit(127);
		}
		close(fds[1]);
		for (int i = 0; i < 3; i++, acknowledged++)
			assert_int_equal(read(fds[0], &ack, 1), 1);
		usleep((useconds_t)round * 17000);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		while (read(fds[0], &ack, 1) == 1)
			acknowledged++;
		close(fds[0]);
		reopen(fx);
		assert_true(check_records(fx->kv) >= acknowledged);
	}
}

static void reader_sees_what_the_writer_flushed_or_logged(void **state)
{
	struct fixture *fx = *state;
	struct kv_options opt = { .mode = KV_READ_ONLY, .scratch_dir = fx->scratch };
	struct error err = ERROR_INIT;
	struct kv *reader = NULL;
	struct kv_value v = { 0 };
	int n = 0;

	put_big_values(fx);
	put_str(fx->kv, KV_META, "name", "value");
	if (kv_open(fx->db, &opt, &reader, &err) != 0)
		fail_msg("%s", error_text(&err));
	expect(reader, KV_META, "name", "value");
	assert_int_equal(kv_get(reader, KV_CHUNK, "000007", 6, &v), 0);
	assert_int_equal(v.len, BIG_VALUE);
	kv_value_release(&v);
	struct kv_iter *it = kv_iter_new_heads(reader, KV_CHUNK);
	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it))
		n++;
	assert_int_equal(kv_iter_status(it), 0);
	kv_iter_free(it);
	assert_int_equal(n, BIG_COUNT);
	struct kv_batch *b = kv_batch_new();
	assert_int_equal(kv_write(reader, b, KV_LOG), -EROFS);
	kv_batch_free(b);
	assert_int_equal(kv_flush_content(reader), -EROFS);
	kv_close(reader);
}

static void reader_survives_the_writers_compaction(void **state)
{
	struct fixture *fx = *state;
	struct kv_options opt = { .mode = KV_READ_ONLY, .scratch_dir = fx->scratch };
	struct kv_batch *b = kv_batch_new();
	struct kv *reader = NULL;
	char key[16];

	put_big_values(fx);
	assert_int_equal(kv_open(fx->db, &opt, &reader, NULL), 0);
	for (int i = 0; i < BIG_COUNT; i++) {
		snprintf(key, sizeof(key), "%06d", i);
		if (i % 10 != 0)
			kv_batch_del(fx->kv, b, KV_CHUNK, key, strlen(key));
	}
	assert_int_equal(kv_write(fx->kv, b, KV_LOG), 0);
	kv_batch_free(b);
	assert_int_equal(kv_compact_content(fx->kv), 0);
	for (int i = 0; i < BIG_COUNT; i += 10) {
		struct kv_value v = { 0 };
		snprintf(key, sizeof(key), "%06d", i);
		assert_int_equal(kv_get(reader, KV_CHUNK, key, strlen(key), &v), 0);
		kv_value_release(&v);
	}
	kv_close(reader);
}

static void second_writer_is_refused_as_busy(void **state)
{
	struct fixture *fx = *state;
	struct kv_options opt = { .mode = KV_READ_WRITE };
	struct error err = ERROR_INIT;
	struct kv *other = NULL;

	assert_int_equal(kv_open(fx->db, &opt, &other, &err), -EBUSY);
	assert_non_null(strstr(error_text(&err), "in use"));
	assert_null(other);
}

static void reader_of_nothing_gets_enoent(void **state)
{
	struct fixture *fx = *state;
	struct kv_options opt = { .mode = KV_READ_ONLY, .scratch_dir = fx->scratch };
	struct error err = ERROR_INIT;
	struct kv *kv = NULL;

	assert_int_equal(kv_open(fx->scratch, &opt, &kv, &err), -ENOENT);
	assert_int_equal(kv_open("/nonexistent/db", &opt, &kv, &err), -ENOENT);
	opt.scratch_dir = NULL;
	assert_int_equal(kv_open(fx->db, &opt, &kv, &err), -EINVAL);
}

/* Applies fn to the first file whose name holds `part`. */
static void damage_file(struct fixture *fx, const char *part, off_t at)
{
	DIR *d = opendir(fx->db);
	struct dirent *e;
	bool done = false;

	while (!done && (e = readdir(d))) {
		if (!strstr(e->d_name, part))
			continue;
		if (at < 0) {
			assert_int_equal(unlinkat(dirfd(d), e->d_name, 0), 0);
		} else {
			int fd = openat(dirfd(d), e->d_name, O_WRONLY | O_CLOEXEC);
			assert_true(fd >= 0);
			assert_int_equal(pwrite(fd, "DAMAGED!", 8, at), 8);
			close(fd);
		}
		done = true;
	}
	closedir(d);
	assert_true(done);
}

static void lost_current_file_is_refused_and_nothing_removed(void **state)
{
	struct fixture *fx = *state;
	struct kv_options opt = { .mode = KV_READ_WRITE };
	struct error err = ERROR_INIT;
	struct kv *kv = NULL;

	put_big_values(fx);
	kv_close(fx->kv);
	fx->kv = NULL;
	damage_file(fx, "CURRENT", -1);
	uint64_t bytes = disk_bytes(fx->db);
	assert_int_equal(kv_open(fx->db, &opt, &kv, &err), -EBADMSG);
	assert_non_null(strstr(error_text(&err), "CURRENT"));
	assert_int_equal(disk_bytes(fx->db), bytes);
}

static void damaged_manifest_is_a_clear_error(void **state)
{
	struct fixture *fx = *state;
	struct kv_options opt = { .mode = KV_READ_WRITE };
	struct error err = ERROR_INIT;
	struct kv *kv = NULL;

	kv_close(fx->kv);
	fx->kv = NULL;
	damage_file(fx, "MANIFEST", 8);
	assert_int_equal(kv_open(fx->db, &opt, &kv, &err), -EBADMSG);
	assert_non_null(strstr(error_text(&err), "Corruption"));
}

static void damaged_node_fails_alone(void **state)
{
	struct fixture *fx = *state;
	char key[16], val[2000];
	int bad = 0;

	memset(val, 'v', sizeof(val));
	for (int i = 0; i < BIG_COUNT; i++) {
		snprintf(key, sizeof(key), "%06d", i);
		put(fx->kv, KV_NODE, key, val, sizeof(val), KV_LOG);
	}
	assert_int_equal(kv_compact_content(fx->kv), 0); /* which moves them to a file */
	kv_close(fx->kv);
	fx->kv = NULL;
	damage_file(fx, ".sst", 5 * sizeof(val));
	reopen(fx);
	for (int i = 0; i < BIG_COUNT; i++) {
		struct kv_value v = { 0 };
		snprintf(key, sizeof(key), "%06d", i);
		int r = kv_get(fx->kv, KV_NODE, key, strlen(key), &v);
		if (r != 0) {
			assert_int_equal(r, -EBADMSG);
			bad++;
		}
		kv_value_release(&v);
	}
	assert_in_range(bad, 1, 4);
}

/* Write until the disk has no room for the log. */
static void fill_disk(struct fixture *fx)
{
	static char val[32 << 10];
	struct kv_batch *b;
	char key[16];
	int rc = 0;

	for (int i = 0; i < 10000 && rc == 0; i++) {
		snprintf(key, sizeof(key), "%06d", i);
		b = kv_batch_new();
		kv_batch_put(fx->kv, b, KV_META, key, strlen(key), val, sizeof(val));
		rc = kv_write(fx->kv, b, KV_LOG);
		kv_batch_free(b);
	}
	assert_int_equal(rc, -ENOSPC);
}

/* RocksDB would end the process, sooner or later, after a write to its log that failed. */
static void a_full_disk_is_found_before_its_log_is_broken(void **state)
{
	struct fixture *fx = *state;

	kv_close(fx->kv);
	fx->kv = NULL;
	nftw(fx->db, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (mkdir(fx->db, 0700) < 0 || mount("varve-test", fx->db, "tmpfs", 0, "size=8m") < 0)
		skip();
	reopen(fx);
	put(fx->kv, KV_META, "before", "x", 1, KV_LOG);
	fill_disk(fx);
	for (int i = 0; i < 10; i++)
		fill_disk(fx); /* fails at once */
	assert_int_equal(kv_sync_log(fx->kv), 0);
	assert_true(kv_flush_content(fx->kv) <= 0);
	assert_int_equal(mount("varve-test", fx->db, "tmpfs", MS_REMOUNT, "size=64m"), 0);
	put(fx->kv, KV_META, "after", "x", 1, KV_SYNC);
	reopen(fx);
	expect(fx->kv, KV_META, "before", "x");
	expect(fx->kv, KV_META, "after", "x");
	kv_close(fx->kv);
	fx->kv = NULL;
	umount(fx->db);
}

static void run_and_die(const char *what, const char *db)
{
	struct fixture fx = { .kv = NULL };

	snprintf(fx.db, sizeof(fx.db), "%s", db);
	reopen_with(&fx, strcmp(what, "forever") == 0 ? SMALL_BUFFERS : 0);
	if (strcmp(what, "small") == 0)
		write_small_content(&fx);
	else if (strcmp(what, "large") == 0)
		write_large_content(&fx);
	else
		write_records_forever(&fx);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc == 3)
		run_and_die(argv[1], argv[2]);
	const struct CMUnitTest tests[] = {
		TEST(flushed_content_survives_a_crash_small),
		TEST(flushed_content_survives_a_crash_large),
		TEST(killed_writer_leaves_no_record_without_its_content),
		TEST(reader_sees_what_the_writer_flushed_or_logged),
		TEST(reader_survives_the_writers_compaction),
		TEST(second_writer_is_refused_as_busy),
		TEST(reader_of_nothing_gets_enoent),
		TEST(lost_current_file_is_refused_and_nothing_removed),
		TEST(damaged_manifest_is_a_clear_error),
		TEST(damaged_node_fails_alone),
		TEST(a_full_disk_is_found_before_its_log_is_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
