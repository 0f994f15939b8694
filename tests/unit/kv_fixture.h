/* kv_fixture.h - a database in a directory of its own; for the tests of kv. */
#ifndef VARVE_TESTS_KV_FIXTURE_H
#define VARVE_TESTS_KV_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/macros.h"
#include "store/kv/kv.h"

struct fixture {
	char dir[64];
	char scratch[80];
	char db[80];
	struct kv *kv;
};

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline void reopen_with(struct fixture *fx, size_t write_buffer_bytes)
{
	struct kv_options opt = { .mode = KV_READ_WRITE, .write_buffer_bytes = write_buffer_bytes };
	struct error err = ERROR_INIT;

	kv_close(fx->kv);
	fx->kv = NULL;
	if (kv_open(fx->db, &opt, &fx->kv, &err) != 0)
		fail_msg("%s", error_text(&err));
}

static inline void reopen(struct fixture *fx)
{
	reopen_with(fx, 0);
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
	struct fixture *fx = *state;

	kv_close(fx->kv);
	nftw(fx->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(fx);
	return 0;
}

static inline void put(struct kv *kv, enum kv_family f, const char *key, const void *val,
		       size_t len, enum kv_durability d)
{
	struct kv_batch *b = kv_batch_new();

	kv_batch_put(kv, b, f, key, strlen(key), val, len);
	assert_int_equal(kv_write(kv, b, d), 0);
	kv_batch_free(b);
}

static inline void put_str(struct kv *kv, enum kv_family f, const char *key, const char *val)
{
	put(kv, f, key, val, strlen(val), KV_LOG);
}

static inline void expect(struct kv *kv, enum kv_family f, const char *key, const char *want)
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

/* Sum of the sizes of the database's files. */
static inline uint64_t disk_bytes(const char *dir)
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

static inline void put_big_values(struct fixture *fx)
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

static inline void write_small_content(struct fixture *fx)
{
	put(fx->kv, KV_CHUNK, "chunk", "small", 5, KV_NO_LOG);
	put(fx->kv, KV_NODE, "node", "small", 5, KV_NO_LOG);
	assert_int_equal(kv_flush_content(fx->kv), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
