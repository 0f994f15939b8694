/*
 * The facade. A store's directory becomes one by getting a FORMAT file, which
 * is written first and atomically: a crash during creation leaves a directory
 * that is still empty, or a store without a database, and both open again. A
 * directory with anything else in it and no FORMAT is left alone.
 */
#include "store/store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/log.h"
#include "store/base/sync_dir.h"
#include "store/base/wire.h"
#include "store/chunk/codec.h"
#include "store/kv/meta.h"
#include "store/base/private.h"
#include "store/base/write_all.h"
#include "store/store_internal.h"

#define FORMAT_NAME "FORMAT"
#define FORMAT_TMP "FORMAT.tmp"
#define FORMAT_WORD "varve store "
#define FORMAT_FIRST 1
#define FORMAT_LAST STORE_FORMAT_FAR
#define LOCK_NAME "LOCK"

/* store_stats looks at this many chunks at most. */
#define SAMPLE_RUNS 256u
#define SAMPLE_RUN_LEN 256u

static void close_fd_p(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* ---- directory and format ---- */

/* 1 if the directory may become a store: it has nothing in it but our own leftovers. */
static int dir_is_vacant(int dir_fd)
{
	static const char *const ours[] = { ".", "..", LOCK_NAME, FORMAT_TMP, "lost+found" };
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	if (!d) {
		int rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	bool vacant = true;
	const struct dirent *e;
	while ((e = readdir(d)) && vacant) {
		vacant = false;
		for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
			vacant |= strcmp(e->d_name, ours[i]) == 0;
	}
	closedir(d);
	return vacant;
}

static int format_write(int dir_fd, int format)
{
	char text[sizeof(FORMAT_WORD) + 16];
	CLEANUP(close_fd_p)
	int fd = openat(dir_fd, FORMAT_TMP, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	size_t len = (size_t)snprintf(text, sizeof(text), FORMAT_WORD "%d\n", format);
	int rc = write_all(fd, text, len);
	if (rc < 0)
		return rc;
	if (fsync(fd) != 0 || renameat(dir_fd, FORMAT_TMP, dir_fd, FORMAT_NAME) != 0 ||
	    fsync(dir_fd) != 0)
		return -errno;
	return 0;
}

int store_need_format(struct store *s, int format, struct error *err)
{
	int rc = 0;

	if (s->own->format >= format)
		return 0;
	pthread_mutex_lock(&s->own->format_lock);
	if (s->own->format < format)
		rc = format_write(s->dir_fd, format);
	if (rc == 0)
		s->own->format = MAX(s->own->format, format);
	pthread_mutex_unlock(&s->own->format_lock);
	return rc ? error_set_errno(err, rc, "cannot write %s/" FORMAT_NAME, s->dir) : 0;
}

/* 0, -ENOENT if there is no FORMAT, -EINVAL if it is not ours. */
static int format_check(struct store *s, struct error *err)
{
	CLEANUP(close_fd_p) int fd = openat(s->dir_fd, FORMAT_NAME, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	char text[64];
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	if (n < 0) {
		int rc = -errno;
		return error_set_errno(err, rc, "cannot read %s/" FORMAT_NAME, s->dir);
	}
	text[n] = '\0';
	for (int f = FORMAT_FIRST; f <= FORMAT_LAST; f++) {
		char known[sizeof(FORMAT_WORD) + 16];
		snprintf(known, sizeof(known), FORMAT_WORD "%d\n", f);
		if (strcmp(text, known) != 0)
			continue;
		s->own->format = f;
		return 0;
	}
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(text, FORMAT_WORD, strlen(FORMAT_WORD)) == 0)
		return error_set(err, -EINVAL,
				 "%s is a store of format %.8s, which this program does not know",
				 s->dir, text + strlen(FORMAT_WORD));
	return error_set(err, -EINVAL, "%s is not a varve store", s->dir);
}

static int open_dir(struct store *s, const char *dir, bool create, struct error *err)
{
	int rc;
	if (create) {
		rc = mkdir(dir, 0700) != 0 ? -errno : sync_parent_dir(AT_FDCWD, dir);
		if (rc != 0 && rc != -EEXIST)
			return error_set_errno(err, rc, "cannot make the store's directory %s",
					       dir);
	}
	s->dir = realpath(dir, NULL);
	if (s->dir)
		s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0) {
		rc = -errno;
		return error_set_errno(err, rc, "cannot open the store %s", dir);
	}
	rc = format_check(s, err);
	if (rc != -ENOENT)
		return rc;
	rc = dir_is_vacant(s->dir_fd);
	if (rc < 0)
		return error_set_errno(err, rc, "cannot read the directory %s", s->dir);
	if (rc == 1 && create)
		return 0;
	if (rc == 1)
		return error_set(err, -ENOENT, "%s is empty; there is no store in it", s->dir);
	/* Another process may be creating it at this moment. */
	rc = format_check(s, err);
	if (rc != -ENOENT)
		return rc;
	return error_set(err, -EINVAL, "%s is not a varve store, and not empty", s->dir);
}

/* Whether LOCK has been deleted, and so says nothing of where it was. */
static bool is_deleted(int lock_fd)
{
	struct stat st;

	return fstat(lock_fd, &st) == 0 && st.st_nlink == 0;
}

/* Is it of the store in dir? */
static int check_lock(const char *dir, int lock_fd, struct error *err)
{
	char path[PATH_MAX], link[32], other[PATH_MAX] = "";
	struct stat ours, theirs;

	if (is_deleted(lock_fd))
		return 0;
	snprintf(path, sizeof(path), "%s/" LOCK_NAME, dir);
	if (fstat(lock_fd, &theirs) != 0)
		return error_set_errno(err, -errno, "the lock that was kept");
	if (stat(path, &ours) == 0 && ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", lock_fd);
	if (readlink(link, other, sizeof(other) - 1) < 0)
		other[0] = '\0';
	char *end = strrchr(other, '/');

	if (end)
		*end = '\0';
	return error_set(err, -EXDEV, "what is to go on belongs to the store %s, not to %s", other,
			 dir);
}

static bool is_running(const char *pid)
{
	return kill((pid_t)strtol(pid, NULL, 10), 0) == 0 || errno != ESRCH;
}

static int take_lock(struct store *s, struct error *err)
{
	if (s->own->lock_fd >= 0 && is_deleted(s->own->lock_fd)) {
		log_warn("%s/" LOCK_NAME " was deleted: it is made again", s->dir);
		close_fd_p(&s->own->lock_fd);
		s->own->lock_fd = -1;
	}
	if (s->own->lock_fd < 0)
		s->own->lock_fd = openat(s->dir_fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->own->lock_fd < 0) {
		int rc = -errno;
		return error_set_errno(err, rc, "cannot open %s/" LOCK_NAME, s->dir);
	}
	while (flock(s->own->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		int rc = -errno;
		if (rc == -EINTR)
			continue;
		if (rc != -EWOULDBLOCK)
			return error_set_errno(err, rc, "cannot lock %s", s->dir);
		char pid[16] = "";
		ssize_t n = pread(s->own->lock_fd, pid, sizeof(pid) - 1, 0);
		pid[MAX(n, 0)] = '\0';
		pid[strcspn(pid, "\n")] = '\0';
		if (pid[0] && !is_running(pid))
			return error_set(err, -EBUSY,
					 "the store %s is kept for the successor of process %s",
					 s->dir, pid);
		return error_set(err, -EBUSY, "the store %s is in use by process %s", s->dir,
				 pid[0] ? pid : "(unknown)");
	}
	/* For the message above only; the lock itself is what counts. */
	char pid[16];
	int len = snprintf(pid, sizeof(pid), "%d\n", getpid());
	if (ftruncate(s->own->lock_fd, 0) != 0 ||
	    pwrite(s->own->lock_fd, pid, (size_t)len, 0) != len) {
		int rc = -errno;
		return error_set_errno(err, rc, "cannot write %s/" LOCK_NAME, s->dir);
	}
	return 0;
}

static int prepare_read_write(struct store *s, struct error *err)
{
	int rc = take_lock(s, err);
	if (rc != 0)
		return rc;
	rc = private_close(s->dir_fd);
	if (rc < 0)
		return error_set_errno(err, rc, "cannot close %s to other users", s->dir);
	if (rc > 0)
		log_info("%s was open to other users; it no longer is", s->dir);
	rc = format_check(s, err); /* again: the process before us may have made it */
	if (rc == -ENOENT) {
		s->own->format = FORMAT_FIRST;
		rc = format_write(s->dir_fd, s->own->format);
		if (rc != 0)
			return error_set_errno(err, rc, "cannot create a store in %s", s->dir);
	}
	static const char *const dirs[] = { "staging", "journal" };

	for (size_t i = 0; i < ARRAY_SIZE(dirs) && rc == 0; i++)
		if (mkdirat(s->dir_fd, dirs[i], 0700) != 0 && errno != EEXIST) {
			rc = -errno;
			error_set_errno(err, rc, "cannot make %s/%s", s->dir, dirs[i]);
		}
	return rc;
}

/* ---- the reader's scratch directory ---- */

static int scratch_make(struct store *s, struct error *err)
{
	const char *tmp = getenv("TMPDIR");
	if (!tmp || !tmp[0])
		tmp = "/tmp";
	if (asprintf(&s->own->scratch_dir, "%s/varve-reader-XXXXXX", tmp) < 0) {
		s->own->scratch_dir = NULL;
		return error_set_errno(err, -ENOMEM, "cannot open %s", s->dir);
	}
	if (!mkdtemp(s->own->scratch_dir)) {
		int rc = -errno;
		error_set_errno(err, rc, "cannot make a directory %s", s->own->scratch_dir);
		free(STEAL(s->own->scratch_dir));
		return rc;
	}
	return 0;
}

/* Remove what the database's reader wrote: a flat directory of files. */
static void scratch_remove(const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	while (d && (e = readdir(d)))
		(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	(void)rmdir(dir);
}

/* ---- open and close ---- */

static int open_parts(struct store *s, const struct store_options *opt, struct error *err)
{
	size_t memory = MAX(opt->memory_bytes ?: STORE_MEMORY_DEFAULT, STORE_MEMORY_MIN);
	size_t fifth = memory / 5;
	struct kv_options ko = {
		.mode = opt->read_only ? KV_READ_ONLY : KV_READ_WRITE,
		.block_cache_bytes = opt->block_cache_bytes ?: fifth,
		.write_buffer_bytes = fifth,
		.scratch_dir = s->own->scratch_dir,
	};
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/db", s->dir);
	if (n < 0 || (size_t)n >= sizeof(path))
		return error_set_errno(err, -ENAMETOOLONG, "cannot open the store %s", s->dir);
	int rc = kv_open(path, &ko, &s->kv, err);
	if (rc != 0)
		return error_prefix(err, rc, "cannot open the store %s", s->dir);
	int level = opt->zstd_level ?: CODEC_LEVEL_DEFAULT;
	s->guard = guard_new();
	if (s->guard) {
		s->chunks =
			chunk_store_new(s->kv, s->guard, level, opt->chunk_cache_bytes ?: fifth);
		s->nodes =
			node_store_new(s->kv, s->guard, level, opt->node_cache_bytes ?: 2 * fifth);
		s->snapshots = snapshots_new(s->kv);
	}
	if (!s->guard || !s->chunks || !s->nodes || !s->snapshots)
		return error_set_errno(err, -ENOMEM, "cannot open the store %s", s->dir);
	chunk_store_limit(s->chunks, &s->space);
	return 0;
}

/* RocksDB ends the process if it cannot write the first files of an open. */
#define OPEN_FREE_MIN (8ull << 20)

static int open_space(struct store *s, const struct store_options *opt, struct error *err)
{
	int rc = space_init(&s->space, s->dir_fd, opt->reserve_bytes);

	if (rc)
		return error_set_errno(err, rc, "cannot tell what is free below %s", s->dir);
	const uint64_t room = space_free(&s->space);

	if (room < OPEN_FREE_MIN)
		return error_set(err, -ENOSPC,
				 "the disk of %s is full: %llu KiB are free, and to open the store "
				 "takes %llu MiB",
				 s->dir, (unsigned long long)room >> 10, OPEN_FREE_MIN >> 20);
	return 0;
}

/* Without directory and parts. */
static struct store *store_new(void)
{
	struct store *s = calloc(1, sizeof(*s));
	struct store_own *own = calloc(1, sizeof(*own));
	if (!s || !own) {
		free(s);
		free(own);
		return NULL;
	}
	s->dir_fd = -1;
	s->own = own;
	own->lock_fd = -1;
	pthread_mutex_init(&own->hold_lock, NULL);
	pthread_mutex_init(&own->format_lock, NULL);
	LIST_INIT(&own->holds);
	return s;
}

int store_open(const char *dir, const struct store_options *opt, struct store **out,
	       struct error *err)
{
	static const struct store_options defaults;
	if (!opt)
		opt = &defaults;
	CLEANUP(store_close_p) struct store *s = store_new();
	if (!s) {
		if (opt->lock_fd)
			close(opt->lock_fd);
		return error_set_errno(err, -ENOMEM, "cannot open the store %s", dir);
	}
	if (opt->lock_fd)
		s->own->lock_fd = opt->lock_fd;
	int rc = opt->lock_fd ? check_lock(dir, opt->lock_fd, err) : 0;
	if (rc == 0)
		rc = open_dir(s, dir, !opt->read_only, err);
	if (rc == 0 && !opt->read_only)
		rc = open_space(s, opt, err);
	if (rc == 0)
		rc = opt->read_only ? scratch_make(s, err) : prepare_read_write(s, err);
	if (rc == 0)
		rc = open_parts(s, opt, err);
	/* Sync the names in the directory: what is synced below them must be found again. */
	if (rc == 0 && !opt->read_only && fsync(s->dir_fd) != 0) {
		rc = -errno;
		error_set_errno(err, rc, "cannot sync %s", s->dir);
	}
	if (rc == 0)
		*out = STEAL(s);
	return rc;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	snapshots_free(s->snapshots);
	node_store_free(s->nodes);
	chunk_store_free(s->chunks);
	guard_free(s->guard);
	kv_close(s->kv);
	if (s->own->scratch_dir)
		scratch_remove(s->own->scratch_dir);
	free(s->own->scratch_dir);
	close_fd_p(&s->own->lock_fd);
	close_fd_p(&s->dir_fd);
	pthread_mutex_destroy(&s->own->hold_lock);
	pthread_mutex_destroy(&s->own->format_lock);
	free(s->own);
	free(s->dir);
	free(s);
}

int store_lock_fd(const struct store *s)
{
	return s->own->lock_fd;
}

bool store_is_read_only(const struct store *s)
{
	return s->own->lock_fd < 0;
}

/* ---- pins ---- */

/*
 * Most owners have few pins of chunks, or none: delete them one by one. A range
 * deletion slows every lookup in the family, because RocksDB sorts all of them
 * again after each.
 */
#define UNPIN_SINGLY 1000

static struct meta_key pin_key(enum meta_kind kind, const char *owner, const char *suffix)
{
	char name[META_NAME_MAX + 1];
	int n = snprintf(name, sizeof(name), "%s%s", owner, suffix);

	assert(n > 0 && (size_t)n < sizeof(name));
	assert(!strchr(owner, '/'));
	return meta_key(kind, name);
}

void store_pin_tree(struct store *s, struct kv_batch *b, const char *owner,
		    const struct digest *root)
{
	struct meta_key k = pin_key(META_PIN_TREE, owner, "");
	kv_batch_put(s->kv, b, KV_META, k.text, k.len, root->b, sizeof(root->b));
}

void store_pin_chunk(struct store *s, struct kv_batch *b, const char *owner,
		     const struct digest *chunk)
{
	char hex[1 + DIGEST_HEX_SIZE] = "/";
	digest_to_hex(chunk, hex + 1);
	struct meta_key k = pin_key(META_PIN_CHUNK, owner, hex);
	kv_batch_put(s->kv, b, KV_META, k.text, k.len, "", 0);
}

void store_unpin_chunks(struct store *s, struct kv_batch *b, const char *owner)
{
	/* '0' follows '/' in ASCII. */
	struct meta_key from = pin_key(META_PIN_CHUNK, owner, "/");
	struct meta_key to = pin_key(META_PIN_CHUNK, owner, "0");
	CLEANUP(kv_iter_free_p)
	struct kv_iter *it =
		kv_iter_new_range(s->kv, KV_META, from.text, from.len, to.text, to.len);
	size_t n = 0;
	for (; it && n < UNPIN_SINGLY && kv_iter_valid(it); kv_iter_next(it), n++) {
		size_t len;
		const uint8_t *key = kv_iter_key(it, &len);
		kv_batch_del(s->kv, b, KV_META, key, len);
	}
	if (!it || n == UNPIN_SINGLY || kv_iter_status(it) != 0)
		kv_batch_del_range(s->kv, b, KV_META, from.text, from.len, to.text, to.len);
}

void store_unpin_all(struct store *s, struct kv_batch *b, const char *owner)
{
	struct meta_key k = pin_key(META_PIN_TREE, owner, "");
	kv_batch_del(s->kv, b, KV_META, k.text, k.len);
	store_unpin_chunks(s, b, owner);
}

/* ---- statistics ---- */

/* Add up the raw sizes of up to `max` chunks whose digests are at least `from`. */
static int sample_run(struct store *s, uint64_t from, size_t max, uint64_t *count, uint64_t *raw)
{
	uint8_t key[8];
	wire_set64be(key, from);
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new_heads(s->kv, KV_CHUNK);
	if (!it)
		return -ENOMEM;
	size_t n = 0;
	for (kv_iter_seek(it, key, sizeof(key)); kv_iter_valid(it) && n < max; kv_iter_next(it)) {
		size_t len;
		const uint8_t *head = kv_iter_value(it, &len);
		int64_t raw_len = codec_head_raw_len(head, len, kv_iter_value_len(it));
		if (raw_len > 0)
			*raw += (uint64_t)raw_len;
		n++;
	}
	*count += n;
	return kv_iter_status(it);
}

/* Digests are spread evenly, so runs of neighbours at even distances are a fair sample. */
static int chunk_stats(struct store *s, uint64_t estimate, struct store_stats *out)
{
	uint64_t count = 0, raw = 0;
	int rc;
	if (estimate <= SAMPLE_RUNS * SAMPLE_RUN_LEN) {
		rc = sample_run(s, 0, SIZE_MAX, &count, &raw);
		if (rc != 0)
			return rc;
		out->chunk_count = count;
		out->unique_bytes = raw;
		return 0;
	}
	for (uint64_t i = 0; i < SAMPLE_RUNS; i++) {
		rc = sample_run(s, i * (UINT64_MAX / SAMPLE_RUNS), SAMPLE_RUN_LEN, &count, &raw);
		if (rc != 0)
			return rc;
	}
	out->chunk_count = estimate;
	out->unique_bytes = count ? (uint64_t)((double)raw / (double)count * (double)estimate) : 0;
	return 0;
}

int store_stats(struct store *s, struct store_stats *out, struct error *err)
{
	struct store_stats st = { 0 };
	struct kv_stats kv;
	struct snapshot *list = NULL;
	size_t n = 0;
	int rc = snapshots_list(s->snapshots, &list, &n, err);
	if (rc != 0)
		return rc;
	st.snapshot_count = n;
	for (size_t i = 0; i < n; i++)
		st.logical_bytes += list[i].size_bytes;
	snapshots_list_free(list, n);
	kv_stats(s->kv, &kv);
	for (size_t f = 0; f < KV_FAMILY_COUNT; f++)
		st.stored_bytes += kv.live_bytes[f];
	st.node_count = kv.keys[KV_NODE];
	st.node_cache_bytes = node_store_cached_bytes(s->nodes);
	rc = chunk_stats(s, kv.keys[KV_CHUNK], &st);
	if (rc != 0)
		return error_set_errno(err, rc, "cannot read the chunks of %s", s->dir);
	*out = st;
	return 0;
}
