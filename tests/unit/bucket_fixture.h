/* bucket_fixture.h - a directory as a bucket, empty for each test. */
#ifndef VARVE_TESTS_BUCKET_FIXTURE_H
#define VARVE_TESTS_BUCKET_FIXTURE_H

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

#include "store/bucket/object_dir.h"

struct bucket {
	char dir[64];
	char path[80]; /* dir/bucket */
	struct object_store *os;
};

static inline int bucket_remove_one(const char *path, const struct stat *st, int type,
				    struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline struct object_store *bucket_open(const char *path, bool read_only)
{
	struct object_store *os = NULL;
	struct error err = ERROR_INIT;

	if (object_dir_open(path, read_only, &os, &err) != 0)
		fail_msg("%s", error_text(&err));
	return os;
}

static inline void bucket_init(struct bucket *b)
{
	strcpy(b->dir, "/tmp/test-bucket-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	snprintf(b->path, sizeof(b->path), "%s/bucket", b->dir);
	b->os = bucket_open(b->path, false);
}

static inline void bucket_fini(struct bucket *b)
{
	object_store_close(b->os);
	assert_int_equal(nftw(b->dir, bucket_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static inline int bucket_setup(void **state)
{
	struct bucket *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	bucket_init(b);
	*state = b;
	return 0;
}

static inline int bucket_teardown(void **state)
{
	bucket_fini(*state);
	free(*state);
	return 0;
}

static inline void bucket_put(struct object_store *os, const char *key, const char *text)
{
	struct error err = ERROR_INIT;

	if (object_put(os, OBJECT_CONTROL, key, text, strlen(text), &err) != 0)
		fail_msg("%s: %s", key, error_text(&err));
}

static inline int bucket_put_once(struct object_store *os, const char *key, const char *text)
{
	return object_put_once(os, OBJECT_CONTROL, key, text, strlen(text), 0, NULL);
}

/* The bytes of a key, or NULL if there is none; free it. */
static inline char *bucket_get(struct object_store *os, const char *key)
{
	struct buf CLEANUP(buf_fini_p) b = BUF_INIT;
	int rc = object_get(os, OBJECT_DEMAND, key, 0, &b, NULL, NULL);

	if (rc == -ENOENT)
		return NULL;
	assert_int_equal(rc, 0);
	return strndup(b.len ? (const char *)b.data : "", b.len);
}

static inline void assert_object(struct object_store *os, const char *key, const char *text)
{
	char *got = bucket_get(os, key);

	if (!text) {
		assert_null(got);
		return;
	}
	assert_non_null(got);
	assert_string_equal(got, text);
	free(got);
}

#endif
