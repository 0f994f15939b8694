/*
 * ingest_fixture.h - a store and a scratch directory, and the ways in and out of
 * it, for the tests of import and export. Every tree that comes in is verified.
 */
#ifndef VARVE_TEST_INGEST_FIXTURE_H
#define VARVE_TEST_INGEST_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
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

#include "store/base/log.h"
#include "store/export/export.h"
#include "store/import/ingest.h"
#include "store/gc/verify.h"

struct scratch {
	char dir[64]; /* dir/store, the rest is the test's; tests run with it as their cwd */
	struct store *store;
	struct error err;
	struct ingest_result result;
};

/* Run a shell command in the scratch directory; the test fails where it does. */
static inline void __attribute__((format(printf, 1, 2))) sh(const char *fmt, ...)
{
	char cmd[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd) != 0) /* NOLINT: our own text */
		fail_msg("failed: %s", cmd);
}

static inline int scratch_setup(void **state)
{
	struct scratch *s = calloc(1, sizeof(*s));
	const char *tmp = getenv("TMPDIR");
	char path[96];

	snprintf(s->dir, sizeof(s->dir), "%s/varve-ingest-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(s->dir));
	snprintf(path, sizeof(path), "%s/store", s->dir);
	if (store_open(path, NULL, &s->store, &s->err) < 0)
		fail_msg("store_open: %s", error_text(&s->err));
	assert_int_equal(chdir(s->dir), 0);
	log_set_level(LOG_ERROR);
	*state = s;
	return 0;
}

static inline int scratch_teardown(void **state)
{
	struct scratch *s = *state;

	json_decref(s->result.config);
	store_close(s->store);
	assert_int_equal(chdir("/"), 0);
	sh("rm -rf '%s'", s->dir);
	free(s);
	return 0;
}

static inline void report_problem(void *arg, const char *snapshot, const char *path,
				  const char *problem)
{
	(void)arg;
	print_error("verify: %s:%s: %s\n", snapshot, path, problem);
}

/* Make a snapshot of the tree, verify it, and drop the snapshot again. */
static inline void verify_root(struct scratch *s, const struct digest *root)
{
	struct snapshot snap = { .name = "t", .status = SNAPSHOT_READY, .has_root = true };
	struct verify_result v = { 0 };

	snap.root = *root;
	snap.file_count = s->result.file_count;
	snap.size_bytes = s->result.size_bytes;
	assert_int_equal(snapshots_put(s->store->snapshots, &snap, NULL, &s->err), 0);
	if (verify_run(s->store, "t", NULL, report_problem, NULL, &v, &s->err) < 0)
		fail_msg("verify: %s", error_text(&s->err));
	assert_int_equal(v.damaged, 0);
	assert_int_equal(snapshots_delete(s->store->snapshots, "t", &s->err), 0);
}

static inline int reset(struct scratch *s)
{
	json_decref(s->result.config);
	memset(&s->result, 0, sizeof(s->result));
	memset(&s->err, 0, sizeof(s->err));
	return 0;
}

static inline struct digest checked(struct scratch *s, int r)
{
	if (r < 0)
		fail_msg("import: %s", error_text(&s->err));
	verify_root(s, &s->result.root);
	return s->result.root;
}

static inline struct digest import_dir(struct scratch *s, const char *dir)
{
	reset(s);
	return checked(s, ingest_dir(s->store, dir, NULL, NULL, &s->result, &s->err));
}

/* The result of an import; a failure has a message. */
static inline int try_tar(struct scratch *s, const char *file, const struct ingest_options *opt)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	reset(s);
	int r = ingest_tar(s->store, fd, opt, NULL, &s->result, &s->err);
	close(fd);
	if (r < 0) {
		assert_int_equal(s->err.code, r);
		assert_true(s->err.msg[0] != '\0');
	}
	return r;
}

static inline struct digest import_tar(struct scratch *s, const char *file)
{
	return checked(s, try_tar(s, file, NULL));
}

static inline int write_to_fd(void *arg, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(*(int *)arg, p, len);

		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static inline void export_to(struct scratch *s, const struct digest *root, const char *file)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	if (export_tar(s->store, root, write_to_fd, &fd, NULL, &s->err) < 0)
		fail_msg("export: %s", error_text(&s->err));
	close(fd);
}

#define assert_same_root(x, y) assert_true(digest_equal(&(x), &(y)))

static inline bool is_root(void)
{
	return geteuid() == 0;
}

/* The inode at path, which must be there. Its target is not kept. */
static inline uint64_t lookup(struct scratch *s, const char *path, struct inode_rec *rec)
{
	struct tree_fs fs = store_tree(s->store, &s->result.root);
	struct tree_value pin = { 0 };
	uint64_t ino;

	if (tree_fs_resolve(&fs, path, false, &ino) < 0)
		fail_msg("%s is not there", path);
	assert_int_equal(tree_fs_inode(&fs, ino, rec, &pin), 0);
	rec->target = NULL;
	tree_value_release(&pin);
	return ino;
}

static inline bool exists(struct scratch *s, const char *path)
{
	struct tree_fs fs = store_tree(s->store, &s->result.root);
	uint64_t ino;
	int r = tree_fs_resolve(&fs, path, false, &ino);

	assert_true(r == 0 || r == -ENOENT || r == -ENOTDIR);
	return r == 0;
}

/* The file at path has exactly this text. */
static inline void assert_content(struct scratch *s, const char *path, const char *text)
{
	struct tree_fs fs = store_tree(s->store, &s->result.root);
	struct inode_rec rec;
	uint64_t ino = lookup(s, path, &rec);
	char *data = malloc(rec.size + 1);

	assert_int_equal(rec.size, strlen(text));
	assert_int_equal(tree_fs_read(&fs, ino, 0, data, rec.size), 0);
	assert_memory_equal(data, text, rec.size);
	free(data);
}

#endif
