/* share_fixture.h - two hosts, each with a store, and a bucket that both have as a remote. */
#ifndef VARVE_TESTS_SHARE_FIXTURE_H
#define VARVE_TESTS_SHARE_FIXTURE_H

#include "tests/unit/bucket_fixture.h"

#include "store/gc/gc.h"
#include "store/gc/verify.h"
#include "store/import/ingest.h"
#include "store/share/pull.h"
#include "store/share/push.h"
#include "store/remote/remote.h"

struct host {
	struct store *s;
	struct remote *r;
};

struct hosts {
	struct bucket bucket;
	struct host a, b;
};

/* The bucket of the present test is encrypted: set before it is made, by ENCRYPTED. */
static bool bucket_encrypted;
/* ... and a permanent one. */
static bool bucket_permanent;

/* As a remote; remote_config_fini. */
static inline struct remote_config bucket_config(const struct bucket *b)
{
	struct remote_config c = { .name = "main", .permanent = bucket_permanent };

	assert_true(asprintf(&c.url, "file://%s", b->path) > 0);
	if (bucket_encrypted) {
		c.key_command = strdup("echo 000102030405060708090a0b0c0d0e0f"
				       "101112131415161718191a1b1c1d1e1f");
		assert_non_null(c.key_command);
	}
	return c;
}

static inline void host_open(struct host *h, const struct bucket *b, const char *name)
{
	struct error err = ERROR_INIT;
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	if (store_open(path, NULL, &h->s, &err) != 0)
		fail_msg("%s", error_text(&err));
	struct remote_config c = bucket_config(b);
	if (remote_open(&c, true, &h->r, &err) != 0)
		fail_msg("%s", error_text(&err));
	remote_config_fini(&c);
}

static inline void host_close(struct host *h)
{
	remote_close(h->r);
	store_close(h->s);
}

static inline int hosts_setup(void **state)
{
	struct hosts *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	bucket_init(&h->bucket);
	host_open(&h->a, &h->bucket, "a");
	host_open(&h->b, &h->bucket, "b");
	*state = h;
	return 0;
}

/* A test, run once more on an encrypted bucket. */
#define ENCRYPTED(fn, setup, teardown)                                     \
	{                                                                  \
#fn " (encrypted)", fn, encrypted_##setup, teardown, NULL, \
	}
static inline int encrypted_hosts_setup(void **state)
{
	bucket_encrypted = true;
	return hosts_setup(state);
}

static inline int hosts_teardown(void **state)
{
	struct hosts *h = *state;

	bucket_encrypted = bucket_permanent = false;
	host_close(&h->a);
	host_close(&h->b);
	bucket_fini(&h->bucket);
	free(h);
	return 0;
}

/* A directory of `n` files of about 20 KiB, whose bytes depend on seed and number. */
static inline void make_files(const struct hosts *h, const char *name, unsigned n, unsigned seed)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", h->bucket.dir, name);
	assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
	for (unsigned i = 0; i < n; i++) {
		unsigned x = seed * 7919 + i;
		FILE *f;

		snprintf(path, sizeof(path), "%s/%s/f%u", h->bucket.dir, name, i);
		f = fopen(path, "w");
		assert_non_null(f);
		for (unsigned k = 0; k < 5000 + i % 100; k++) {
			x = x * 1664525 + 1013904223;
			assert_int_equal(fwrite(&x, 4, 1, f), 1);
		}
		assert_int_equal(fclose(f), 0);
	}
}

/* Import that directory as a snapshot. *out: snapshot_fini; parent may be NULL. */
static inline void take(const struct hosts *h, struct host *at, const char *dir, const char *name,
			const char *parent)
{
	struct ingest_result res = { 0 };
	struct error err = ERROR_INIT;
	struct snapshot s = { .status = SNAPSHOT_READY, .has_root = true, .source = "dir" };
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", h->bucket.dir, dir);
	if (ingest_dir(at->s, path, NULL, NULL, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	snprintf(s.name, sizeof(s.name), "%s", name);
	if (parent) {
		struct snapshot p;

		assert_int_equal(snapshots_get(at->s->snapshots, parent, &p, NULL), 0);
		strcpy(s.parent, p.id);
		snapshot_fini(&p);
	}
	s.root = res.root;
	s.file_count = res.file_count;
	s.size_bytes = res.size_bytes;
	s.config = res.config;
	assert_int_equal(snapshots_put(at->s->snapshots, &s, NULL, &err), 0);
	snapshot_fini(&s);
}

static inline struct push_result push(struct host *h, const char *snapshot, const char *name)
{
	const struct push_options opt = { .name = name };
	struct push_result res = { 0 };
	struct error err = ERROR_INIT;

	if (push_snapshot(h->s, h->r, snapshot, &opt, NULL, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	return res;
}

/* Pull and drop the result but for its numbers. */
static inline struct pull_result pull(struct host *h, const char *reference, const char *name)
{
	const struct pull_options opt = { .name = name };
	struct pull_result res = { 0 };
	struct error err = ERROR_INIT;

	if (pull_snapshot(h->s, h->r, reference, &opt, NULL, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	snapshot_fini(&res.snapshot);
	res.snapshot.config = NULL;
	return res;
}

static inline struct digest root_of(const struct host *h, const char *name)
{
	struct snapshot s;

	assert_int_equal(snapshots_get(h->s->snapshots, name, &s, NULL), 0);
	snapshot_fini(&s);
	return s.root;
}

static inline void note_problem(void *arg, const char *snapshot, const char *path,
				const char *problem)
{
	(void)arg;
	print_error("verify: %s:%s: %s\n", snapshot, path, problem);
}

/* Each snapshot of the host is whole, also after a collection. */
static inline void assert_whole(struct host *h)
{
	struct verify_result v = { 0 };
	struct error err = ERROR_INIT;
	struct gc_result g;

	if (gc_run(h->s, NULL, NULL, &g, &err) != 0)
		fail_msg("%s", error_text(&err));
	if (verify_run(h->s, NULL, NULL, note_problem, NULL, &v, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(v.damaged, 0);
}

static inline void assert_same_tree(const struct host *a, const char *name_a, const struct host *b,
				    const char *name_b)
{
	const struct digest x = root_of(a, name_a), y = root_of(b, name_b);

	assert_true(digest_equal(&x, &y));
}

static inline int count_object(void *arg, const struct object_entry *e)
{
	(void)e;
	++*(unsigned *)arg;
	return 0;
}

/* Objects of the bucket whose keys begin so. */
static inline unsigned count_objects(const struct hosts *h, const char *prefix)
{
	unsigned n = 0;

	assert_int_equal(object_each(h->bucket.os, OBJECT_CONTROL, prefix, count_object, &n, NULL),
			 0);
	return n;
}

/* The record of a snapshot as the bucket has it, deleted: by a host that looked for no names. */
static inline void bury(struct host *h, const struct share_id *id)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	struct share_record rec;
	char key[SHARE_KEY_SIZE];

	assert_int_equal(remote_read_record(h->r, id, &rec, NULL), 0);
	rec.state = SHARE_DELETED;
	assert_int_equal(share_record_encode(&rec, &text, NULL), 0);
	share_key_of_id(SHARE_KEY_SNAP, id, key);
	assert_int_equal(
		object_put(remote_objects(h->r), OBJECT_CONTROL, key, text.data, text.len, NULL),
		0);
	share_record_fini(&rec);
}

#endif
