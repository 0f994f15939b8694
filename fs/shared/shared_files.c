/*
 * Two tables: `names` maps (tree, inode) to the key of its content, so that an
 * open need not look at the tree; `files` has the existing files, by key. A
 * name is marked when its file is queued or could not be made, and then not
 * asked for again. When there are too many names, all are dropped at once.
 *
 * The key of a file with few extents is computed when an open asks for it: a
 * fork or a new snapshot has other roots, but mostly the same files. The key of
 * a large file is left to the thread; a checkpoint carries it over to its new
 * root.
 *
 * Lock: one for all. Files are written and opened without it; a file that is
 * evicted is unlinked under it, so that no second one of its name is made before.
 */
#include "fs/shared/shared_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "fs/shared/file_content.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/wire.h"
#include "store/chunk/want.h"

#define DIR_NAME "shared"
#define QUEUE_MAX 4096u
#define NAMES_MAX 65536u
#define BUCKETS 16384u
/* Up to this size the key is computed at once: some hundred extents at most. */
#define KEY_AT_ONCE_MAX (8u << 20)
/*
 * Disk space left to others: no file is made that would leave less, and if less
 * is left, files go.
 */
#define DISK_RESERVE (256ull << 20)
/* How often the thread looks, while it has nothing else to do. */
#define DISK_LOOK_S 2

struct shared_file {
	struct digest key;
	uint64_t disk_bytes;
	unsigned refs; /* guarded, as what follows */
	struct shared_file *next;
	TAILQ_ENTRY(shared_file) lru;
};

struct file_name {
	struct digest root;
	uint64_t ino;
	struct digest key;
	bool has_key;
	bool large; /* an open does not compute its key; with has_key */
	bool asked; /* queued, or could not be made */
	struct file_name *next;
};

struct job {
	struct store_hold hold;
	uint64_t ino, size;
	STAILQ_ENTRY(job) link;
};

struct shared_files {
	struct store *store;
	int dir_fd;
	uint64_t limit_bytes;
	unsigned stacking;
	uint64_t tmp_number; /* of the thread */
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;  /* a job, or stop */
	pthread_cond_t idle;  /* nothing queued, nothing being made */
	bool stop, busy, complained;
	STAILQ_HEAD(, job) jobs;
	TAILQ_HEAD(, shared_file) lru; /* least recently used first */
	struct file_name **names;
	struct shared_file **files;
	size_t n_names, n_large;
	struct shared_files_stats stats;
	_Atomic uint64_t opens, unshared; /* not guarded */
};

/* --- tables; the lock is held --- */

static struct file_name **name_slot(struct shared_files *sf, const struct digest *root,
				    uint64_t ino)
{
	uint64_t h = (wire_get64(root->b) ^ ino) * 0x9e3779b97f4a7c15ull;
	struct file_name **p = &sf->names[h >> 50];

	while (*p && ((*p)->ino != ino || memcmp(&(*p)->root, root, sizeof(*root)) != 0))
		p = &(*p)->next;
	return p;
}

static struct shared_file **file_slot(struct shared_files *sf, const struct digest *key)
{
	struct shared_file **p = &sf->files[wire_get64(key->b) % BUCKETS];

	while (*p && memcmp(&(*p)->key, key, sizeof(*key)) != 0)
		p = &(*p)->next;
	return p;
}

static void drop_names(struct shared_files *sf)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct file_name *n; (n = sf->names[i]); free(n))
			sf->names[i] = n->next;
	}
	sf->n_names = sf->n_large = 0;
}

/* The name, made if it does not exist; NULL when out of memory. */
static struct file_name *get_name(struct shared_files *sf, const struct digest *root, uint64_t ino)
{
	struct file_name **p = name_slot(sf, root, ino);

	if (!*p && sf->n_names >= NAMES_MAX) {
		drop_names(sf);
		p = name_slot(sf, root, ino);
	}
	if (!*p && (*p = calloc(1, sizeof(**p)))) {
		(*p)->root = *root;
		(*p)->ino = ino;
		sf->n_names++;
	}
	return *p;
}

/* Store the name's key; its file may now be asked for. */
static void set_key(struct shared_files *sf, const struct digest *root, uint64_t ino, bool large,
		    const struct digest *key)
{
	struct file_name *n = get_name(sf, root, ino);

	if (!n)
		return;
	sf->n_large += (size_t)large - n->large;
	n->large = large;
	n->key = *key;
	n->has_key = true;
	n->asked = false;
}

static void remove_file(struct shared_files *sf, struct shared_file *f)
{
	struct shared_file **p = file_slot(sf, &f->key);
	char name[DIGEST_HEX_SIZE];

	*p = f->next;
	TAILQ_REMOVE(&sf->lru, f, lru);
	digest_to_hex(&f->key, name);
	if (unlinkat(sf->dir_fd, name, 0) < 0 && errno != ENOENT)
		log_warn("%s/%s/%s: %s", sf->store->dir, DIR_NAME, name, strerror(errno));
	sf->stats.files--;
	sf->stats.bytes -= f->disk_bytes;
	free(f);
}

/* Bytes that are free beyond the store's own reserve; 0 if unknown. */
static uint64_t room_on_disk(const struct shared_files *sf)
{
	const uint64_t reserve = sf->store->space.reserve_bytes;
	struct statvfs vfs;

	if (fstatvfs(sf->dir_fd, &vfs) < 0)
		return 0;
	uint64_t room = (uint64_t)vfs.f_bavail * vfs.f_frsize;

	return room - MIN(room, reserve);
}

/* Lock held. Others need the disk: remove files that are not in use, until enough is free. */
static void yield_disk(struct shared_files *sf)
{
	struct shared_file *f = TAILQ_FIRST(&sf->lru);

	while (f && room_on_disk(sf) < DISK_RESERVE) {
		struct shared_file *next = TAILQ_NEXT(f, lru);

		if (!f->refs) {
			remove_file(sf, f);
			sf->stats.evicted++;
		}
		f = next;
	}
}

/* Make room for `more` bytes. False if the files in use leave none. */
static bool evict(struct shared_files *sf, uint64_t more)
{
	struct shared_file *f = TAILQ_FIRST(&sf->lru);

	while (f && sf->stats.bytes + more > sf->limit_bytes) {
		struct shared_file *next = TAILQ_NEXT(f, lru);

		if (!f->refs) {
			remove_file(sf, f);
			sf->stats.evicted++;
		}
		f = next;
	}
	return sf->stats.bytes + more <= sf->limit_bytes;
}

static void use_file(struct shared_files *sf, struct shared_file *f)
{
	f->refs++;
	TAILQ_REMOVE(&sf->lru, f, lru);
	TAILQ_INSERT_TAIL(&sf->lru, f, lru);
}

/* --- filling --- */

/* Write the file under its key's name. */
static int write_file(struct shared_files *sf, const struct tree_fs *fs, const struct job *j,
		      const struct file_content *c)
{
	char tmp[32], name[DIGEST_HEX_SIZE];
	int fd, r;

	snprintf(tmp, sizeof(tmp), "tmp.%llu", (unsigned long long)sf->tmp_number++);
	digest_to_hex(&c->key, name);
	fd = openat(sf->dir_fd, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = file_content_write(fs, j->ino, j->size, fd);
	if (close(fd) < 0 && !r)
		r = -errno;
	if (!r && renameat(sf->dir_fd, tmp, sf->dir_fd, name) < 0)
		r = -errno;
	if (r)
		unlinkat(sf->dir_fd, tmp, 0);
	return r;
}

/* Put a file that was written into the tables. */
static int add_file(struct shared_files *sf, const struct file_content *c, const struct job *j)
{
	struct shared_file *f = calloc(1, sizeof(*f));
	char name[DIGEST_HEX_SIZE];

	if (!f) {
		digest_to_hex(&c->key, name);
		unlinkat(sf->dir_fd, name, 0);
		return -ENOMEM;
	}
	f->key = c->key;
	f->disk_bytes = c->bytes;
	pthread_mutex_lock(&sf->lock);
	*file_slot(sf, &c->key) = f; /* only the one thread adds files */
	TAILQ_INSERT_TAIL(&sf->lru, f, lru);
	sf->stats.files++;
	sf->stats.made++;
	sf->stats.bytes += c->bytes;
	set_key(sf, &j->hold.root, j->ino, j->size > KEY_AT_ONCE_MAX, &c->key);
	pthread_mutex_unlock(&sf->lock);
	return 0;
}

/* 1: write the file; 0: it exists, or there is no room for it now. */
static int make_room(struct shared_files *sf, const struct file_content *c, const struct job *j)
{
	bool fits = room_on_disk(sf) >= c->bytes + DISK_RESERVE;
	int r = 0;

	if (c->bytes > sf->limit_bytes)
		return 0; /* it stays marked as asked for */
	pthread_mutex_lock(&sf->lock);
	if (fits && !*file_slot(sf, &c->key) && evict(sf, c->bytes))
		r = 1;
	else
		set_key(sf, &j->hold.root, j->ino, j->size > KEY_AT_ONCE_MAX, &c->key);
	pthread_mutex_unlock(&sf->lock);
	return r;
}

static int do_job(struct shared_files *sf, const struct job *j)
{
	struct tree_fs fs = store_tree(sf->store, &j->hold.root);
	struct file_content c;
	int r = file_content_look(&fs, j->ino, j->size, &c);

	if (!r)
		r = make_room(sf, &c, j);
	if (r == 1) {
		r = write_file(sf, &fs, j, &c);
		if (!r)
			r = add_file(sf, &c, j);
	}
	return r;
}

/* Lock held. Looks at the disk meanwhile. */
static void wait_for_job(struct shared_files *sf)
{
	const struct timespec until = monotonic_after_ms(DISK_LOOK_S * 1000);

	if (TAILQ_EMPTY(&sf->lru)) {
		pthread_cond_wait(&sf->wake, &sf->lock);
		return;
	}
	if (pthread_cond_timedwait(&sf->wake, &sf->lock, &until) == ETIMEDOUT)
		yield_disk(sf);
}

/* Lock held. */
static void note_failure(struct shared_files *sf, const struct job *j, int r)
{
	struct file_name *n = *name_slot(sf, &j->hold.root, j->ino);

	if (r == -EINPROGRESS) { /* the next open asks again: it may be near by then */
		if (n)
			n->asked = false;
		return;
	}
	sf->stats.failed++;
	if (!sf->complained)
		log_warn("a file to be shared by mounts could not be written: %s", strerror(-r));
	sf->complained = true;
}

static void *filling_thread(void *arg)
{
	struct shared_files *sf = arg;

	pthread_setname_np(pthread_self(), "varve-share");
	pthread_mutex_lock(&sf->lock);
	while (!sf->stop) {
		struct job *j = STAILQ_FIRST(&sf->jobs);

		if (!j) {
			pthread_cond_broadcast(&sf->idle);
			wait_for_job(sf);
			continue;
		}
		STAILQ_REMOVE_HEAD(&sf->jobs, link);
		sf->stats.queued--;
		sf->busy = true;
		pthread_mutex_unlock(&sf->lock);
		want_hold(); /* the jobs of all mounts would wait for a far source */
		int r = do_job(sf, j);

		want_let_go();
		want_begin(NULL, 0);
		store_release(sf->store, &j->hold);
		pthread_mutex_lock(&sf->lock);
		sf->busy = false;
		if (r)
			note_failure(sf, j, r);
		free(j);
	}
	pthread_mutex_unlock(&sf->lock);
	return NULL;
}

/* --- from outside --- */

/* Lock held. */
static void queue_job(struct shared_files *sf, const struct tree_fs *fs, uint64_t ino,
		      uint64_t size)
{
	struct file_name *n = get_name(sf, &fs->root, ino);
	struct job *j;

	if (!n || n->asked || sf->stats.queued >= QUEUE_MAX || sf->stop)
		return;
	j = calloc(1, sizeof(*j));
	if (!j)
		return;
	n->asked = true;
	j->ino = ino;
	j->size = size;
	store_hold(sf->store, &fs->root, &j->hold);
	STAILQ_INSERT_TAIL(&sf->jobs, j, link);
	sf->stats.queued++;
	pthread_cond_signal(&sf->wake);
}

struct shared_file *shared_files_get(struct shared_files *sf, const struct tree_fs *fs,
				     uint64_t ino, uint64_t size, struct digest *out_key)
{
	struct shared_file *f = NULL;
	struct file_content c;

	memset(out_key, 0, sizeof(*out_key));
	if (size < SHARED_FILE_MIN)
		return NULL;
	pthread_mutex_lock(&sf->lock);
	struct file_name *n = *name_slot(sf, &fs->root, ino);

	if (!n && size <= KEY_AT_ONCE_MAX) {
		pthread_mutex_unlock(&sf->lock);
		want_hold(); /* a far source is not waited for */
		int r = file_content_look(fs, ino, size, &c);

		want_let_go();
		if (r == -EINPROGRESS)
			return NULL;
		pthread_mutex_lock(&sf->lock);
		n = *name_slot(sf, &fs->root, ino);
		if (!r && !n) {
			set_key(sf, &fs->root, ino, false, &c.key);
			n = *name_slot(sf, &fs->root, ino);
		}
	}
	if (n && n->has_key) {
		*out_key = n->key;
		f = *file_slot(sf, &n->key);
	}
	if (f)
		use_file(sf, f);
	else
		queue_job(sf, fs, ino, size);
	pthread_mutex_unlock(&sf->lock);
	return f;
}

void shared_files_put(struct shared_files *sf, struct shared_file *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&sf->lock);
	f->refs--;
	pthread_mutex_unlock(&sf->lock);
}

/* Lock held. Copies of the tree's large names that have a key; *n is 0 when out of memory. */
static struct file_name *large_names(const struct shared_files *sf, const struct digest *root,
				     size_t *n)
{
	struct file_name *list = sf->n_large ? calloc(sf->n_large, sizeof(*list)) : NULL;

	*n = 0;
	for (size_t i = 0; list && i < BUCKETS; i++)
		for (const struct file_name *f = sf->names[i]; f; f = f->next)
			if (f->large && memcmp(&f->root, root, sizeof(*root)) == 0)
				list[(*n)++] = *f;
	return list;
}

void shared_files_carry(struct shared_files *sf, const struct digest *from, const struct digest *to,
			bool (*changed)(void *arg, uint64_t ino), void *arg)
{
	struct file_name *list;
	size_t n, kept = 0;

	pthread_mutex_lock(&sf->lock);
	list = large_names(sf, from, &n);
	pthread_mutex_unlock(&sf->lock);
	for (size_t i = 0; i < n; i++)
		if (!changed(arg, list[i].ino))
			list[kept++] = list[i];
	pthread_mutex_lock(&sf->lock);
	for (size_t i = 0; i < kept; i++)
		set_key(sf, to, list[i].ino, true, &list[i].key);
	pthread_mutex_unlock(&sf->lock);
	free(list);
}

int shared_files_fd(struct shared_files *sf, const struct shared_file *f)
{
	char name[DIGEST_HEX_SIZE];

	digest_to_hex(&f->key, name);
	int fd = openat(sf->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

void shared_files_note(struct shared_files *sf, bool unshared)
{
	/* Relaxed: statistics. */
	atomic_fetch_add_explicit(unshared ? &sf->unshared : &sf->opens, 1, memory_order_relaxed);
}

unsigned shared_files_stacking(const struct shared_files *sf)
{
	return sf->stacking;
}

void shared_files_get_stats(struct shared_files *sf, struct shared_files_stats *out)
{
	pthread_mutex_lock(&sf->lock);
	*out = sf->stats;
	pthread_mutex_unlock(&sf->lock);
	out->limit_bytes = sf->limit_bytes;
	out->opens = atomic_load_explicit(&sf->opens, memory_order_relaxed);
	out->unshared = atomic_load_explicit(&sf->unshared, memory_order_relaxed);
}

void shared_files_settle(struct shared_files *sf)
{
	pthread_mutex_lock(&sf->lock);
	while (sf->busy || !STAILQ_EMPTY(&sf->jobs))
		pthread_cond_wait(&sf->idle, &sf->lock);
	pthread_mutex_unlock(&sf->lock);
}

/* --- begin and end --- */

static void empty_dir(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (!d && fd >= 0)
		close(fd);
	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.')
			unlinkat(dir_fd, e->d_name, 0);
	if (d)
		closedir(d);
}

static int open_dir(struct shared_files *sf, uint64_t limit_bytes)
{
	struct statvfs vfs;
	struct statfs fs;

	if (mkdirat(sf->store->dir_fd, DIR_NAME, 0700) < 0 && errno != EEXIST)
		return -errno;
	sf->dir_fd = openat(sf->store->dir_fd, DIR_NAME,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sf->dir_fd < 0)
		return -errno;
	empty_dir(sf->dir_fd);
	if (fstatvfs(sf->dir_fd, &vfs) < 0 || fstatfs(sf->dir_fd, &fs) < 0)
		return -errno;
	sf->stacking = fs.f_type == OVERLAYFS_SUPER_MAGIC;
	sf->limit_bytes = limit_bytes ? limit_bytes
				      : MIN(SHARED_FILES_DEFAULT_BYTES,
					    (uint64_t)vfs.f_bavail * vfs.f_frsize / 4);
	return 0;
}

int shared_files_open(struct store *s, uint64_t limit_bytes, struct shared_files **out,
		      struct error *err)
{
	struct shared_files *sf = calloc(1, sizeof(*sf));
	int r;

	if (!sf)
		return error_set(err, -ENOMEM, "out of memory");
	sf->store = s;
	sf->dir_fd = -1;
	pthread_mutex_init(&sf->lock, NULL);
	cond_init_monotonic(&sf->wake);
	pthread_cond_init(&sf->idle, NULL);
	STAILQ_INIT(&sf->jobs);
	TAILQ_INIT(&sf->lru);
	sf->names = calloc(BUCKETS, sizeof(struct file_name *));
	sf->files = calloc(BUCKETS, sizeof(struct shared_file *));
	r = sf->names && sf->files ? open_dir(sf, limit_bytes) : -ENOMEM;
	if (!r)
		r = -pthread_create(&sf->thread, NULL, filling_thread, sf);
	sf->has_thread = r == 0;
	if (r) {
		shared_files_close(sf);
		return error_set_errno(err, r, "cannot use %s/%s", s->dir, DIR_NAME);
	}
	*out = sf;
	return 0;
}

void shared_files_close(struct shared_files *sf)
{
	struct job *j;

	if (!sf)
		return;
	pthread_mutex_lock(&sf->lock);
	sf->stop = true;
	pthread_cond_signal(&sf->wake);
	pthread_mutex_unlock(&sf->lock);
	if (sf->has_thread)
		pthread_join(sf->thread, NULL);
	while ((j = STAILQ_FIRST(&sf->jobs))) {
		STAILQ_REMOVE_HEAD(&sf->jobs, link);
		store_release(sf->store, &j->hold);
		free(j);
	}
	while (!TAILQ_EMPTY(&sf->lru))
		remove_file(sf, TAILQ_FIRST(&sf->lru));
	if (sf->names)
		drop_names(sf);
	if (sf->dir_fd >= 0)
		close(sf->dir_fd);
	free(sf->names);
	free(sf->files);
	pthread_cond_destroy(&sf->idle);
	pthread_cond_destroy(&sf->wake);
	pthread_mutex_destroy(&sf->lock);
	free(sf);
}
