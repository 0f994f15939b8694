/*
 * Containers are in one array under a read-write lock. A lookup asks each of them by binary search:
 * a microsecond for ten of them, where what follows is a request over a network.
 */
#include "store/remote/lazy_index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/log.h"
#include "store/base/sync_dir.h"
#include "store/base/wire.h"
#include "store/base/write_all.h"
#include "store/layout/share_key.h"
#include "store/layout/vpk.h"

#define INDEX_DIR "remote"
/* "remote/UUID/PUSH-N.new" */
#define PATH_SIZE (sizeof(INDEX_DIR) + SNAPSHOT_ID_SIZE + PACK_ID_SIZE + 8)

struct container {
	char uuid[SNAPSHOT_ID_SIZE];
	struct pack_id id;
	void *map;
	size_t len;
	struct vpk_view view;
	_Atomic bool marked; /* by the collection under way; true where there is none */
};

struct lazy_index {
	int dir_fd;
	pthread_rwlock_t lock;
	struct container **v; /* guarded by lock */
	size_t n, cap;
	_Atomic size_t unmarked;      /* 0: nothing is left to mark */
	pthread_mutex_t add_lock;     /* one writer of files at a time; held during I/O */
	unsigned holds;		      /* guarded by lock; at this moment */
	bool was_held;		      /* guarded by lock; at some moment of the collection */
	void (*on_change)(void *arg); /* NULL: nobody is told */
	void *on_change_arg;
};

static void container_free(struct container *c)
{
	if (!c)
		return;
	if (c->map)
		munmap(c->map, c->len);
	free(c);
}
DEFINE_CLEANUP(struct container *, container_free)

static void path_of(const char *uuid, const struct pack_id *id, const char *suffix,
		    char out[PATH_SIZE])
{
	char text[PACK_ID_SIZE];

	pack_id_text(id, text);
	snprintf(out, PATH_SIZE, INDEX_DIR "/%s/%s%s", uuid, text, suffix);
}

/* ---- reading ---- */

static int check(struct container *c, struct error *err)
{
	const uint8_t *tail = (const uint8_t *)c->map + c->len - VPK_TAIL_SIZE;
	struct vpk_tail t;
	int rc;

	/* The object's size: what is before the sections, and these. */
	rc = vpk_tail_parse(tail, (uint64_t)wire_get32(tail) + c->len, &t, err);
	return rc < 0 ? rc : vpk_view_init(&c->view, &t, &c->id, c->map, c->len, err);
}

static int map_file(int dir_fd, const char *path, struct container *c)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (st.st_size < (off_t)VPK_TAIL_SIZE || st.st_size > (off_t)VPK_SIZE_MAX)
		rc = -EBADMSG;
	if (rc == 0) {
		c->len = (size_t)st.st_size;
		c->map = mmap(NULL, c->len, PROT_READ, MAP_PRIVATE, fd, 0);
		if (c->map == MAP_FAILED) {
			c->map = NULL;
			rc = -errno;
		}
	}
	close(fd);
	return rc;
}

static int open_file(const struct lazy_index *ix, const char *uuid, const struct pack_id *id,
		     struct container **out, struct error *err)
{
	CLEANUP(container_free_p) struct container *c = calloc(1, sizeof(*c));
	char path[PATH_SIZE];
	int rc;

	if (!c)
		return -ENOMEM;
	snprintf(c->uuid, sizeof(c->uuid), "%s", uuid);
	c->id = *id;
	c->marked = true;
	path_of(uuid, id, "", path);
	rc = map_file(ix->dir_fd, path, c);
	if (rc < 0)
		error_set_errno(err, rc, "open");
	if (rc == 0)
		rc = check(c, err);
	if (rc < 0)
		return error_prefix(err, rc, "%s", path);
	*out = STEAL(c);
	return 0;
}

/* The caller has the lock to write, or nobody else knows ix. */
static int insert(struct lazy_index *ix, struct container *c)
{
	if (ix->n == ix->cap) {
		size_t cap = ix->cap ? 2 * ix->cap : 16;
		struct container **grown = realloc(ix->v, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		ix->v = grown;
		ix->cap = cap;
	}
	ix->v[ix->n++] = c;
	return 0;
}

static int load_one(struct lazy_index *ix, const char *uuid, const char *name)
{
	CLEANUP(container_free_p) struct container *c = NULL;
	struct error err = ERROR_INIT;
	struct pack_id id;
	int rc;

	if (pack_id_parse(name, &id) < 0)
		return 0; /* a write that was cut short */
	rc = open_file(ix, uuid, &id, &c, &err);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		log_warn("%s: what it locates cannot be fetched; pull the snapshots again",
			 error_text(&err));
		return 0;
	}
	rc = insert(ix, c);
	if (rc == 0)
		c = NULL;
	return rc;
}

/* What fn makes of each name in a directory below the store; none if there is no such directory. */
typedef int (*name_fn)(struct lazy_index *ix, const char *dir, const char *name);
static int each_name(struct lazy_index *ix, const char *path, const char *dir, name_fn fn)
{
	int fd = openat(ix->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	struct dirent *e;
	DIR *d;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while (rc == 0 && (e = readdir(d)))
		if (e->d_name[0] != '.')
			rc = fn(ix, dir, e->d_name);
	closedir(d);
	return rc;
}

static int load_bucket(struct lazy_index *ix, const char *dir, const char *uuid)
{
	char path[sizeof(INDEX_DIR) + NAME_MAX + 2];

	if (strlen(uuid) != SNAPSHOT_ID_SIZE - 1)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", dir, uuid);
	return each_name(ix, path, uuid, load_one);
}

int lazy_index_open(int dir_fd, struct lazy_index **out, struct error *err)
{
	struct lazy_index *ix = calloc(1, sizeof(*ix));
	int rc;

	if (!ix)
		return -ENOMEM;
	ix->dir_fd = dir_fd;
	pthread_rwlock_init(&ix->lock, NULL);
	pthread_mutex_init(&ix->add_lock, NULL);
	rc = each_name(ix, INDEX_DIR, INDEX_DIR, load_bucket);
	if (rc < 0) {
		lazy_index_free(ix);
		return error_set_errno(err, rc, "read " INDEX_DIR "/ of the store");
	}
	*out = ix;
	return 0;
}

void lazy_index_free(struct lazy_index *ix)
{
	if (!ix)
		return;
	for (size_t i = 0; i < ix->n; i++)
		container_free(ix->v[i]);
	free(ix->v);
	pthread_mutex_destroy(&ix->add_lock);
	pthread_rwlock_destroy(&ix->lock);
	free(ix);
}

/* ---- lookups ---- */

bool lazy_index_find(struct lazy_index *ix, const struct digest *d, unsigned i,
		     struct lazy_loc *out)
{
	bool found = false;

	pthread_rwlock_rdlock(&ix->lock);
	for (size_t k = ix->n; k-- > 0 && !found;) { /* the newest first */
		const struct container *c = ix->v[k];
		uint32_t first, n = vpk_find_loc(&c->view, d, &first);
		struct vpk_loc loc;

		if (i >= n) {
			i -= n;
			continue;
		}
		vpk_loc(&c->view, first + i, &loc);
		vpk_pack(&c->view, loc.pack, &out->at.pack);
		out->at.offset = loc.offset;
		out->at.len = loc.len;
		memcpy(out->uuid, c->uuid, sizeof(out->uuid));
		out->said_by = c->id.push;
		found = true;
	}
	pthread_rwlock_unlock(&ix->lock);
	return found;
}

/* The pack's number in the container's table, or n_packs. */
static uint32_t index_of_pack(const struct vpk_view *v, const struct pack_id *pack)
{
	struct pack_id id;
	uint32_t i = 0;

	for (; i < v->n_packs; i++) {
		vpk_pack(v, i, &id);
		if (pack_id_cmp(&id, pack) == 0)
			break;
	}
	return i;
}

void lazy_index_edges(struct lazy_index *ix, const char *uuid, const struct pack_id *pack,
		      uint32_t *from, uint32_t *to)
{
	uint32_t begin = UINT32_MAX, end = 0;

	pthread_rwlock_rdlock(&ix->lock);
	for (size_t k = 0; k < ix->n; k++) {
		const struct vpk_view *v = &ix->v[k]->view;
		uint32_t p =
			strcmp(ix->v[k]->uuid, uuid) == 0 ? index_of_pack(v, pack) : v->n_packs;

		for (uint32_t i = 0; p < v->n_packs && i < v->n_locs; i++) {
			struct vpk_loc loc;

			vpk_loc(v, i, &loc);
			if (loc.pack != p)
				continue;
			if (loc.offset >= *from)
				begin = MIN(begin, loc.offset);
			if (loc.len <= *to && loc.offset <= *to - loc.len)
				end = MAX(end, loc.offset + loc.len);
		}
	}
	pthread_rwlock_unlock(&ix->lock);
	*from = begin == UINT32_MAX ? *from : begin;
	*to = end ? end : *to;
}

size_t lazy_index_count(struct lazy_index *ix, const char *uuid)
{
	size_t n = 0;

	pthread_rwlock_rdlock(&ix->lock);
	for (size_t i = 0; i < ix->n; i++)
		n += !uuid || strcmp(ix->v[i]->uuid, uuid) == 0;
	pthread_rwlock_unlock(&ix->lock);
	return n;
}

bool lazy_index_has_push(struct lazy_index *ix, const char *uuid, const struct share_id *push)
{
	bool found = false;

	pthread_rwlock_rdlock(&ix->lock);
	for (size_t i = 0; i < ix->n && !found; i++)
		found = share_id_equal(&ix->v[i]->id.push, push) &&
			strcmp(ix->v[i]->uuid, uuid) == 0;
	pthread_rwlock_unlock(&ix->lock);
	return found;
}

int lazy_index_pushes(struct lazy_index *ix, struct buf *out)
{
	int rc = 0;

	pthread_rwlock_rdlock(&ix->lock);
	for (size_t i = 0; i < ix->n && rc == 0; i++) {
		struct lazy_push p = { .push = ix->v[i]->id.push };

		memcpy(p.uuid, ix->v[i]->uuid, sizeof(p.uuid));
		rc = buf_append(out, &p, sizeof(p));
	}
	pthread_rwlock_unlock(&ix->lock);
	return rc;
}

void lazy_index_on_change(struct lazy_index *ix, void (*fn)(void *arg), void *arg)
{
	ix->on_change = fn;
	ix->on_change_arg = arg;
}

static void changed(const struct lazy_index *ix)
{
	if (ix->on_change)
		ix->on_change(ix->on_change_arg);
}

/* ---- adding ---- */

void lazy_index_hold(struct lazy_index *ix)
{
	pthread_rwlock_wrlock(&ix->lock);
	ix->holds++;
	ix->was_held = true;
	pthread_rwlock_unlock(&ix->lock);
}

void lazy_index_release(struct lazy_index *ix)
{
	pthread_rwlock_wrlock(&ix->lock);
	ix->holds--;
	pthread_rwlock_unlock(&ix->lock);
}

bool lazy_index_has(struct lazy_index *ix, const char *uuid, const struct pack_id *id)
{
	bool found = false;

	pthread_rwlock_rdlock(&ix->lock);
	for (size_t i = 0; i < ix->n && !found; i++) {
		const struct container *c = ix->v[i];

		found = pack_id_cmp(&c->id, id) == 0 && strcmp(c->uuid, uuid) == 0;
	}
	pthread_rwlock_unlock(&ix->lock);
	return found;
}

static int make_dir(int dir_fd, const char *path)
{
	return mkdirat(dir_fd, path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int write_file(int dir_fd, const char *path, const struct buf *bytes)
{
	int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), rc = 0;

	if (fd < 0)
		return -errno;
	rc = write_all(fd, bytes->data, bytes->len);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

static int write_container(struct lazy_index *ix, const char *uuid, const struct share_meta_pack *p)
{
	char new[PATH_SIZE], path[PATH_SIZE], dir[PATH_SIZE];
	int rc;

	path_of(uuid, &p->id, ".new", new);
	path_of(uuid, &p->id, "", path);
	snprintf(dir, sizeof(dir), INDEX_DIR "/%s", uuid);
	rc = make_dir(ix->dir_fd, INDEX_DIR);
	if (rc == 0)
		rc = make_dir(ix->dir_fd, dir);
	if (rc == 0)
		rc = write_file(ix->dir_fd, new, &p->bytes);
	if (rc == 0 && renameat(ix->dir_fd, new, ix->dir_fd, path) < 0)
		rc = -errno;
	/* All of them at the end, for one commit of the disk's journal; who made a directory may
	 * have been killed before this. */
	if (rc == 0)
		rc = sync_parent_dir(ix->dir_fd, path);
	if (rc == 0)
		rc = sync_parent_dir(ix->dir_fd, dir);
	return rc < 0 ? rc : sync_parent_dir(ix->dir_fd, INDEX_DIR);
}

static int add_one(struct lazy_index *ix, const char *uuid, const struct share_meta_pack *p,
		   struct error *err)
{
	CLEANUP(container_free_p) struct container *c = NULL;
	int rc;

	if (lazy_index_has(ix, uuid, &p->id))
		return 0;
	rc = write_container(ix, uuid, p);
	if (rc < 0)
		return error_set_errno(err, rc, "write what is in the bucket to " INDEX_DIR "/");
	rc = open_file(ix, uuid, &p->id, &c, err);
	if (rc < 0)
		return rc;
	pthread_rwlock_wrlock(&ix->lock);
	rc = insert(ix, c);
	pthread_rwlock_unlock(&ix->lock);
	if (rc == 0)
		c = NULL;
	return rc;
}

int lazy_index_add(struct lazy_index *ix, const char *uuid, const struct share_meta *meta,
		   struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&ix->add_lock);
	/* The newest last, which is asked first. */
	for (unsigned i = meta->n; i-- > 0 && rc == 0;)
		rc = add_one(ix, uuid, &meta->packs[i], err);
	pthread_mutex_unlock(&ix->add_lock);
	if (rc == 0)
		changed(ix);
	return rc;
}

/* ---- collections ---- */

void lazy_index_mark_begin(struct lazy_index *ix)
{
	size_t n = 0;

	pthread_rwlock_wrlock(&ix->lock);
	for (size_t i = 0; i < ix->n; i++) {
		ix->v[i]->marked = false;
		n += ix->v[i]->view.n_locs > 0;
	}
	ix->unmarked = n;
	ix->was_held = ix->holds > 0;
	pthread_rwlock_unlock(&ix->lock);
}

void lazy_index_mark(struct lazy_index *ix, const struct digest *chunk)
{
	uint32_t first;

	if (ix->unmarked == 0)
		return;
	pthread_rwlock_rdlock(&ix->lock);
	for (size_t i = 0; i < ix->n; i++) {
		struct container *c = ix->v[i];

		if (!c->marked && vpk_find_loc(&c->view, chunk, &first) &&
		    !atomic_exchange(&c->marked, true))
			ix->unmarked--;
	}
	pthread_rwlock_unlock(&ix->lock);
}

/* Whether another container of the bucket was marked. */
static bool bucket_is_marked(const struct lazy_index *ix, const char *uuid)
{
	for (size_t i = 0; i < ix->n; i++)
		if (ix->v[i]->marked && strcmp(ix->v[i]->uuid, uuid) == 0)
			return true;
	return false;
}

static bool is_needed(const struct lazy_index *ix, const struct container *c)
{
	return c->marked || ix->was_held || (c->view.n_locs == 0 && bucket_is_marked(ix, c->uuid));
}

/* Take what is not needed out of the array and append it to *out. How many; or -ENOMEM. */
static int take_unneeded(struct lazy_index *ix, struct buf *out)
{
	size_t n = 0;
	int rc = 0;

	pthread_rwlock_wrlock(&ix->lock);
	for (size_t i = 0; i < ix->n && rc == 0; i++)
		if (!is_needed(ix, ix->v[i]))
			rc = buf_append(out, &ix->v[i], sizeof(ix->v[i]));
	for (size_t i = 0, at = 0; i < ix->n && rc == 0; i++) {
		struct container *next = NULL;

		if (at < out->len / sizeof(next))
			memcpy(&next, out->data + at * sizeof(next), sizeof(next));
		if (ix->v[i] == next)
			at++;
		else
			ix->v[n++] = ix->v[i];
	}
	if (rc == 0)
		ix->n = n;
	ix->unmarked = 0;
	pthread_rwlock_unlock(&ix->lock);
	return rc < 0 ? rc : (int)(out->len / sizeof(struct container *));
}

void lazy_index_mark_end(struct lazy_index *ix)
{
	CLEANUP(buf_fini_p) struct buf gone = BUF_INIT;
	char path[PATH_SIZE];
	int n;

	pthread_mutex_lock(&ix->add_lock); /* a file that is dropped is not written meanwhile */
	n = take_unneeded(ix, &gone);
	/* Nobody finds them any more: readers wait for no unlink. */
	for (int i = 0; i < n; i++) {
		struct container *c;

		memcpy(&c, gone.data + (size_t)i * sizeof(c), sizeof(c));
		path_of(c->uuid, &c->id, "", path);
		unlinkat(ix->dir_fd, path, 0);
		container_free(c);
	}
	pthread_mutex_unlock(&ix->add_lock);
	if (n > 0)
		changed(ix);
}
