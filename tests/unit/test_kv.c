#include "store/kv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/macros.h"

struct fixture {
	char dir[64];
	char scratch[80];
	char db[80];
	struct kv *kv;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void reopen(struct fixture *fx)
{
	struct kv_options opt = { .mode = KV_READ_WRITE };
	struct error err = ERROR_INIT;

	kv_close(fx->kv);
	fx->kv = NULL;
	if (kv_open(fx->db, &opt, &fx->kv, &err) != 0)
		fail_msg("%s", error_text(&err));
}

static int setup(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	strcpy(fx->dir, "/tmp/test-kv-XXXXXX");
	assert_non_null(mkdtemp(fx->dir));
	snprintf(fx->db, sizeof(fx->db), "%s/db", fx->dir);
	snprintf(fx->scratch, sizeof(fx->scratch), "%s/scratch", fx->dir);
	assert_int_equal(mkdir(fx->scratch, 0700), 0);
	reopen(fx);
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fx = *state;

	kv_close(fx->kv);
	nftw(fx->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(fx);
	return 0;
}

static void put(struct kv *kv, enum kv_family f, const char *key, const void *val, size_t len,
		enum kv_durability d)
{
	struct kv_batch *b = kv_batch_new();

	kv_batch_put(kv, b, f, key, strlen(key), val, len);
	assert_int_equal(kv_write(kv, b, d), 0);
	kv_batch_free(b);
}

static void put_str(struct kv *kv, enum kv_family f, const char *key, const char *val)
{
	put(kv, f, key, val, strlen(val), KV_LOG);
}

static void expect(struct kv *kv, enum kv_family f, const char *key, const char *want)
{
	struct kv_value v = { 0 };
	int r = kv_get(kv, f, key, strlen(key), &v);

	assert_int_equal(kv_has(kv, f, key, strlen(key)), want != NULL);
	if (!want) {
		assert_int_equal(r, -ENOENT);
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(v.len, strlen(want));
	assert_memory_equal(v.data, want, v.len);
	kv_value_release(&v);
}

static void get_returns_what_was_put_in_each_family(void **state)
{
	struct fixture *fx = *state;
	static const char *const values[] = { "c", "n", "m", "u" };

	for (int f = 0; f < KV_FAMILY_COUNT; f++)
		put_str(fx->kv, (enum kv_family)f, "key", values[f]);
	for (int f = 0; f < KV_FAMILY_COUNT; f++) {
		expect(fx->kv, (enum kv_family)f, "key", values[f]);
		expect(fx->kv, (enum kv_family)f, "kex", NULL);
		expect(fx->kv, (enum kv_family)f, "key2", NULL);
	}
	reopen(fx);
	for (int f = 0; f < KV_FAMILY_COUNT; f++)
		expect(fx->kv, (enum kv_family)f, "key", values[f]);
}

static void batch_applies_puts_deletes_and_ranges_in_order(void **state)
{
	struct fixture *fx = *state;

	for (int i = 0; i < KV_FAMILY_COUNT; i++) {
		enum kv_family f = (enum kv_family)i;
		struct kv_batch *b = kv_batch_new();
		put_str(fx->kv, f, "a", "1");
		put_str(fx->kv, f, "b", "2");
		put_str(fx->kv, f, "c", "3");
		put_str(fx->kv, f, "d", "4");
		kv_batch_del(fx->kv, b, f, "a", 1);
		kv_batch_del_range(fx->kv, b, f, "b", 1, "d", 1);
		kv_batch_put(fx->kv, b, f, "c", 1, "5", 1);
		assert_int_equal(kv_batch_count(b), 3);
		assert_true(kv_batch_bytes(b) >= 5);
		assert_int_equal(kv_write(fx->kv, b, KV_SYNC), 0);
		kv_batch_clear(b);
		assert_int_equal(kv_batch_count(b), 0);
		assert_int_equal(kv_batch_bytes(b), 0);
		kv_batch_free(b);
		expect(fx->kv, f, "a", NULL);
		expect(fx->kv, f, "b", NULL);
		expect(fx->kv, f, "c", "5");
		expect(fx->kv, f, "d", "4");
	}
}

static void iterator_walks_keys_in_order_from_a_seek(void **state)
{
	struct fixture *fx = *state;
	static const char *const keys[] = { "a", "b", "c" };

	for (int i = 0; i < KV_FAMILY_COUNT; i++) {
		enum kv_family f = (enum kv_family)i;
		for (size_t k = ARRAY_SIZE(keys); k-- > 0;)
			put_str(fx->kv, f, keys[k], "0123456789");
		for (int heads = 0; heads < 2; heads++) {
			struct kv_iter *it =
				heads ? kv_iter_new_heads(fx->kv, f) : kv_iter_new(fx->kv, f);
			/* Written after the iterator was made: not seen. */
			put_str(fx->kv, f, "bb", "late");
			kv_iter_seek(it, "aa", 2);
			for (size_t k = 1; k < ARRAY_SIZE(keys); k++, kv_iter_next(it)) {
				size_t len;
				assert_true(kv_iter_valid(it));
				const uint8_t *key = kv_iter_key(it, &len);
				assert_int_equal(len, 1);
				assert_int_equal(key[0], keys[k][0]);
				const uint8_t *val = kv_iter_value(it, &len);
				assert_int_equal(len, heads ? KV_HEAD_SIZE : 10);
				assert_memory_equal(val, "0123456789", len);
				assert_int_equal(kv_iter_value_len(it), 10);
			}
			assert_false(kv_iter_valid(it));
			assert_int_equal(kv_iter_status(it), 0);
			kv_iter_seek(it, NULL, 0);
			assert_true(kv_iter_valid(it));
			kv_iter_free(it);
			struct kv_batch *b = kv_batch_new();
			kv_batch_del(fx->kv, b, f, "bb", 2);
			assert_int_equal(kv_write(fx->kv, b, KV_LOG), 0);
			kv_batch_free(b);
		}
	}
}

/* Sum of the sizes of the database's files. */
static uint64_t disk_bytes(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	struct stat st;
	uint64_t sum = 0;

	assert_non_null(d);
	while ((e = readdir(d))) {
		if (fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	}
	closedir(d);
	return sum;
}

#define BIG_VALUE 50000
#define BIG_COUNT 1000

static void put_big_values(struct fixture *fx)
{
	uint32_t *val = malloc(BIG_VALUE);
	char key[16];

	for (int i = 0; i < BIG_COUNT; i++) {
		for (size_t w = 0; w < BIG_VALUE / 4; w++)
			val[w] = (uint32_t)((unsigned)i * 2654435761u + w);
		snprintf(key, sizeof(key), "%06d", i);
		put(fx->kv, KV_CHUNK, key, val, BIG_VALUE, KV_NO_LOG);
	}
	free(val);
	assert_int_equal(kv_flush_content(fx->kv), 0);
}

/* Bytes that this process asked the system to read. */
static uint64_t read_so_far(void)
{
	unsigned long long rchar = 0;
	FILE *io = fopen("/proc/self/io", "r");

	if (!io)
		return 0;
	if (fscanf(io, "rchar: %llu", &rchar) != 1)
		rchar = 0;
	fclose(io);
	return rchar;
}

static void heads_and_presence_read_no_chunk(void **state)
{
	struct fixture *fx = *state;
	char key[16];
	int n = 0;

	put_big_values(fx);
	reopen(fx);
	uint64_t before = read_so_far();
	struct kv_iter *it = kv_iter_new_heads(fx->kv, KV_CHUNK);
	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it), n++)
		assert_int_equal(kv_iter_value_len(it), BIG_VALUE);
	kv_iter_free(it);
	assert_int_equal(n, BIG_COUNT);
	for (int i = 0; i < BIG_COUNT; i++) {
		snprintf(key, sizeof(key), "%06d", i);
		assert_int_equal(kv_has(fx->kv, KV_CHUNK, key, strlen(key)), 1);
	}
	assert_true(read_so_far() - before < BIG_COUNT * BIG_VALUE / 20);
}

static void compaction_gives_back_the_space_of_deleted_chunks(void **state)
{
	struct fixture *fx = *state;
	struct kv_batch *b = kv_batch_new();
	struct kv_stats stats;
	char key[16];

	put_big_values(fx);
	kv_stats(fx->kv, &stats);
	assert_true(stats.live_bytes[KV_CHUNK] >= (uint64_t)BIG_COUNT * BIG_VALUE);
	assert_true(stats.keys[KV_CHUNK] >= BIG_COUNT * 9 / 10);
	uint64_t full = disk_bytes(fx->db);
	for (int i = 0; i < BIG_COUNT; i++) {
		snprintf(key, sizeof(key), "%06d", i);
		if (i % 10 != 0)
			kv_batch_del(fx->kv, b, KV_CHUNK, key, strlen(key));
	}
	assert_int_equal(kv_write(fx->kv, b, KV_LOG), 0);
	kv_batch_free(b);
	assert_int_equal(kv_compact_content(fx->kv), 0);
	/* Obsolete files go when the database next looks; closing it looks. */
	reopen(fx);
	assert_true(disk_bytes(fx->db) < full / 5);
	for (int i = 0; i < BIG_COUNT; i++) {
		struct kv_value v = { 0 };
		snprintf(key, sizeof(key), "%06d", i);
		int r = kv_get(fx->kv, KV_CHUNK, key, strlen(key), &v);
		assert_int_equal(r, i % 10 == 0 ? 0 : -ENOENT);
		kv_value_release(&v);
	}
}

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
		execl("/proc/self/exe", "test_kv", fn_name, fx->db, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	reopen(fx);
}

static void write_small_content(struct fixture *fx)
{
	put(fx->kv, KV_CHUNK, "chunk", "small", 5, KV_NO_LOG);
	put(fx->kv, KV_NODE, "node", "small", 5, KV_NO_LOG);
	assert_int_equal(kv_flush_content(fx->kv), 0);
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

/* Content, flush, record: what a checkpoint does, until somebody kills it. Acknowledges each. */
static void write_records_forever(struct fixture *fx)
{
	unsigned seed = (unsigned)getpid();
	uint8_t *val = calloc(1, 1u << 20);
	char key[32];

	for (int i = 0;; i++) {
		unsigned n = 1 + (unsigned)rand_r(&seed) % 30;
		for (unsigned k = 0; k < n; k++) {
			snprintf(key, sizeof(key), "%d-%d-%u", getpid(), i, k);
			put(fx->kv, k % 2 ? KV_NODE : KV_CHUNK, key, val,
			    (unsigned)rand_r(&seed) % (1u << 20), KV_NO_LOG);
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
				execl("/proc/self/exe", "test_kv", "forever", fx->db, (char *)NULL);
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

static void small_flushes_leave_no_file_each(void **state)
{
	struct fixture *fx = *state;
	struct dirent *e;
	int files = 0;

	for (int i = 0; i < 20; i++)
		write_small_content(fx);
	DIR *d = opendir(fx->db);
	while ((e = readdir(d)))
		files += strstr(e->d_name, ".sst") != NULL || strstr(e->d_name, ".blob") != NULL;
	closedir(d);
	assert_int_equal(files, 0);
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

struct writer {
	struct kv *kv;
	int id;
};

static void *write_and_flush(void *arg)
{
	struct writer *w = arg;
	char key[32];
	struct kv_value v;

	for (int i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "w%d-%d", w->id, i);
		put(w->kv, i % 2 ? KV_NODE : KV_CHUNK, key, key, strlen(key), KV_NO_LOG);
		assert_int_equal(kv_flush_content(w->kv), 0);
		assert_int_equal(kv_get(w->kv, i % 2 ? KV_NODE : KV_CHUNK, key, strlen(key), &v),
				 0);
		kv_value_release(&v);
	}
	return NULL;
}

static void threads_write_and_flush_at_once(void **state)
{
	struct fixture *fx = *state;
	struct writer writers[4];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++) {
		writers[i] = (struct writer){ fx->kv, i };
		assert_int_equal(pthread_create(&threads[i], NULL, write_and_flush, &writers[i]),
				 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static void run_and_die(const char *what, const char *db)
{
	struct fixture fx = { .kv = NULL };

	snprintf(fx.db, sizeof(fx.db), "%s", db);
	reopen(&fx);
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
		TEST(get_returns_what_was_put_in_each_family),
		TEST(batch_applies_puts_deletes_and_ranges_in_order),
		TEST(iterator_walks_keys_in_order_from_a_seek),
		TEST(heads_and_presence_read_no_chunk),
		TEST(compaction_gives_back_the_space_of_deleted_chunks),
		TEST(flushed_content_survives_a_crash_small),
		TEST(flushed_content_survives_a_crash_large),
		TEST(killed_writer_leaves_no_record_without_its_content),
		TEST(small_flushes_leave_no_file_each),
		TEST(reader_sees_what_the_writer_flushed_or_logged),
		TEST(reader_survives_the_writers_compaction),
		TEST(second_writer_is_refused_as_busy),
		TEST(reader_of_nothing_gets_enoent),
		TEST(lost_current_file_is_refused_and_nothing_removed),
		TEST(damaged_manifest_is_a_clear_error),
		TEST(damaged_node_fails_alone),
		TEST(threads_write_and_flush_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
