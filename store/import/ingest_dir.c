/*
 * Import of a directory. One thread walks: it lists directories depth first,
 * reads what statx tells, and hands files to the workers, a directory's small
 * files in groups. Everything is opened relative to an open directory, so
 * neither the depth nor the length of a path matters, and no symlink is
 * followed. Of the directories above the current one only the nearest
 * OPEN_LEVELS stay open; the way back up goes through "..", checked against
 * device and inode. A group of files keeps its directory open until it is read,
 * so open files are bounded by OPEN_LEVELS and the pool's queue.
 */
#include "store/import/ingest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/base/log.h"
#include "store/import/ingest_dir_internal.h"

#define OPEN_LEVELS 32u
#define GROUP_FILES 32u
#define GROUP_BYTES (512u << 10)
#define BIG_FILE (1u << 20) /* from here on chunks, not files, are spread over the workers */

/* An open directory; the walk and each group of its files hold a reference. */
struct dir_handle {
	int fd;
	_Atomic unsigned refs;
};

struct dir_group {
	struct ingest *in;
	struct dir_handle *dir;
	unsigned n;
	uint64_t bytes;
	struct ingest_inode *files[GROUP_FILES];
};

struct dir_level {
	struct ingest_inode *inode;
	struct dir_handle *handle; /* NULL: closed to save descriptors */
	dev_t dev;
	ino_t ino;
	uint64_t mount;
	uint32_t next_child;
};

struct dir_walk {
	struct ingest *in;
	struct link_table links;
	struct dir_level *levels;
	size_t depth, cap;
	struct dir_group *group; /* being filled, of the directory being listed */
	dev_t store_dev;
	ino_t store_ino;
};

static struct dir_handle *handle_new(int fd)
{
	struct dir_handle *h = malloc(sizeof(*h));

	if (h) {
		h->fd = fd;
		h->refs = 1;
	}
	return h;
}

static void handle_unref(struct dir_handle *h)
{
	if (h && atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) == 1) {
		close(h->fd);
		free(h);
	}
}

static void run_group(void *arg)
{
	struct dir_group *g = arg;
	struct ingest *in = g->in;
	struct ingest_scratch *sc = ingest_scratch_get(in);

	if (!sc)
		ingest_fail(in, -ENOMEM, "out of memory");
	for (unsigned k = 0; sc && k < g->n && !atomic_load(&in->failed); k++) {
		struct file_source src = { in, g->files[k], sc->buffer, sc->chunks, NULL };

		file_chunks_begin(sc->chunks, g->files[k]);
		if (ingest_dir_file(&src, g->dir->fd, NULL) < 0)
			break;
	}
	if (sc) {
		file_chunks_begin(sc->chunks, NULL);
		ingest_scratch_put(in, sc);
	}
	handle_unref(g->dir);
	free(g);
}

static void submit_group(struct dir_walk *w)
{
	if (w->group)
		pool_submit(w->in->pool, run_group, STEAL(w->group));
}

static int add_to_group(struct dir_walk *w, struct dir_handle *dir, struct ingest_inode *i,
			uint64_t size)
{
	if (!w->group) {
		w->group = calloc(1, sizeof(*w->group));
		if (!w->group)
			return ingest_fail(w->in, -ENOMEM, "out of memory");
		w->group->in = w->in;
		w->group->dir = dir;
		atomic_fetch_add(&dir->refs, 1);
	}
	w->group->files[w->group->n++] = i;
	w->group->bytes += size;
	if (w->group->n == GROUP_FILES || w->group->bytes >= GROUP_BYTES)
		submit_group(w);
	return 0;
}

/* This thread reads the file, the workers chunk it. *ino as of ingest_dir_file. */
static int read_now(struct dir_walk *w, struct dir_handle *dir, struct ingest_inode *i,
		    uint64_t size, ino_t *ino)
{
	struct ingest_scratch *sc = ingest_scratch_get(w->in);
	struct ingest_file f;
	int r;

	if (!sc)
		return ingest_fail(w->in, -ENOMEM, "out of memory");
	r = ingest_file_begin(&f, w->in, i, size);
	if (r == 0) {
		struct file_source src = { w->in, i, sc->buffer, NULL, &f };

		r = ingest_dir_file(&src, dir->fd, ino);
	}
	ingest_scratch_put(w->in, sc);
	return r;
}

static void set_attributes(struct ingest_inode *i, const struct statx *st)
{
	i->mode = st->stx_mode;
	i->uid = st->stx_uid;
	i->gid = st->stx_gid;
	if (S_ISCHR(i->mode) || S_ISBLK(i->mode))
		i->rdev = makedev(st->stx_rdev_major, st->stx_rdev_minor);
	i->mtime.tv_sec = st->stx_mtime.tv_sec;
	i->mtime.tv_nsec = st->stx_mtime.tv_nsec;
}

static int read_symlink(struct dir_walk *w, int dirfd, struct ingest_inode *i)
{
	char target[SYMLINK_MAX + 2];
	ssize_t n = readlinkat(dirfd, i->name->bytes, target, sizeof(target));

	if (n < 0)
		return -errno;
	if (n == 0 || (size_t)n > SYMLINK_MAX)
		return -ENAMETOOLONG;
	return ingest_inode_set_target(w->in->tree, i, target, (size_t)n);
}

/* Symlinks, devices, sockets, pipes: they cannot be opened, so they are read by name. */
static int read_special(struct dir_walk *w, int dirfd, struct ingest_inode *i)
{
	char path[64 + NAME_LEN_MAX];
	int r = S_ISLNK(i->mode) ? read_symlink(w, dirfd, i) : 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dirfd, i->name->bytes);
	if (r == 0)
		r = ingest_dir_xattrs(w->in, i, -1, path);
	if (r == -ENOENT) {
		ingest_remark_at(w->in, REMARK_VANISHED, i);
		i->gone = true;
		return 0;
	}
	return r < 0 ? ingest_fail_at(w->in, r, i, "cannot read") : 0;
}

static int read_entry(struct dir_walk *w, struct dir_level *at, struct ingest_inode *i,
		      const struct statx *st, ino_t *ino)
{
	*ino = st->stx_ino;
	if (!S_ISREG(st->stx_mode))
		return read_special(w, at->handle->fd, i);
	/*
	 * A big file keeps all workers busy by itself. Of one with more names it must be known
	 * now what this name has become, because the others get what is read here.
	 */
	if (st->stx_size > BIG_FILE || st->stx_nlink > 1)
		return read_now(w, at->handle, i, st->stx_size, ino);
	return add_to_group(w, at->handle, i, st->stx_size);
}

/*
 * A file is mounted over this name, and -x leaves it out: the name becomes an
 * empty file. The inode seen here is another filesystem's, or has its own name in
 * the tree.
 */
static int add_mounted(struct dir_walk *w, struct dir_level *at, const char *name,
		       const struct statx *st)
{
	struct ingest_name *n;
	int r = ingest_tree_add(w->in->tree, at->inode, name, strlen(name),
				S_IFREG | (st->stx_mode & 0777), NULL, &n);

	if (r < 0)
		return ingest_fail_at(w->in, r, at->inode, "cannot read");
	set_attributes(n->inode, st);
	n->inode->mode = S_IFREG | (st->stx_mode & 0777);
	n->inode->rdev = 0;
	ingest_remark_at(w->in, REMARK_MOUNT, n->inode);
	return 0;
}

static int add_entry(struct dir_walk *w, struct dir_level *at, const char *name,
		     const struct statx *st)
{
	dev_t dev = makedev(st->stx_dev_major, st->stx_dev_minor);
	bool linked = !S_ISDIR(st->stx_mode) && st->stx_nlink > 1;
	struct ingest_inode **known = NULL;
	struct ingest_name *n;
	ino_t ino;
	int r;

	if (w->in->one_file_system && !S_ISDIR(st->stx_mode) && st->stx_mnt_id != at->mount)
		return add_mounted(w, at, name, st);
	if (linked) {
		known = link_table_at(&w->links, dev, st->stx_ino);
		if (!known)
			return ingest_fail(w->in, -ENOMEM, "out of memory");
	}
	r = ingest_tree_add(w->in->tree, at->inode, name, strlen(name), st->stx_mode,
			    known ? *known : NULL, &n);
	if (r < 0)
		return ingest_fail_at(w->in, r, at->inode, "cannot read");
	if (known && *known)
		return 0;
	set_attributes(n->inode, st);
	if (S_ISDIR(st->stx_mode))
		return 0;
	r = read_entry(w, at, n->inode, st, &ino);
	if (known && !n->inode->gone && ino == st->stx_ino)
		*known = n->inode; /* else the next name is read as a file of its own */
	return r;
}

static int stat_entry(struct dir_walk *w, struct dir_level *at, const char *name)
{
	struct statx st;

	if (statx(at->handle->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		  STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0) {
		if (errno == ENOENT) {
			ingest_remark(w->in, REMARK_VANISHED, name);
			return 0;
		}
		int r = -errno;
		struct buf dir CLEANUP(buf_fini_p) = BUF_INIT;
		bool ok = ingest_inode_path(at->inode, &dir) == 0 && buf_cstr(&dir);

		return ingest_fail(w->in, r, "cannot stat %.200s/%s: %s",
				   ok ? (char *)dir.data : "?", name, strerror(-r));
	}
	int r = ingest_count_entry(w->in);
	return r < 0 ? r : add_entry(w, at, name, &st);
}

static bool is_store(const struct dir_walk *w, const struct dir_level *at)
{
	return at->dev == w->store_dev && at->ino == w->store_ino;
}

static int list_entries(struct dir_walk *w, struct dir_level *at, DIR *d)
{
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(d);

		if (!e)
			return errno ? ingest_fail_at(w->in, -errno, at->inode, "cannot list") : 0;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		int r = stat_entry(w, at, e->d_name);
		if (r < 0)
			return r;
	}
}

/* List everything in the top level's directory, except its subdirectories' contents. */
static int list_directory(struct dir_walk *w)
{
	struct dir_level *at = &w->levels[w->depth - 1];
	int fd, r = ingest_dir_xattrs(w->in, at->inode, at->handle->fd, NULL);

	if (r < 0)
		return ingest_fail_at(w->in, r, at->inode, "cannot read the attributes of");
	if (is_store(w, at)) {
		log_warn("import: the store itself is left out");
		return 0;
	}
	fd = openat(at->handle->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return ingest_fail_at(w->in, r, at->inode, "cannot list");
	}
	r = list_entries(w, at, d);
	closedir(d);
	submit_group(w);
	return r;
}

static int push_level(struct dir_walk *w, struct ingest_inode *inode, int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0) {
		int r = -errno;
		close(fd);
		return ingest_fail_at(w->in, r, inode, "cannot stat");
	}
	if (w->depth == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 64;
		struct dir_level *p = realloc(w->levels, cap * sizeof(*p));

		if (!p) {
			close(fd);
			return ingest_fail(w->in, -ENOMEM, "out of memory");
		}
		w->levels = p;
		w->cap = cap;
	}
	struct dir_handle *h = handle_new(fd);
	if (!h) {
		close(fd);
		return ingest_fail(w->in, -ENOMEM, "out of memory");
	}
	set_attributes(inode, &st);
	w->levels[w->depth++] = (struct dir_level){
		.inode = inode,
		.handle = h,
		.dev = makedev(st.stx_dev_major, st.stx_dev_minor),
		.ino = st.stx_ino,
		.mount = st.stx_mnt_id,
	};
	if (w->depth > OPEN_LEVELS + 1) /* the root's stays open for reopen_by_name */
		handle_unref(STEAL(w->levels[w->depth - OPEN_LEVELS - 1].handle));
	return 0;
}

static bool is_level(int fd, const struct dir_level *at)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_dev == at->dev && st.st_ino == at->ino;
}

/* Reopen, from the root by name, a directory to which ".." no longer leads. */
static int reopen_by_name(struct dir_walk *w, size_t level)
{
	int fd = fcntl(w->levels[0].handle->fd, F_DUPFD_CLOEXEC, 0);

	for (size_t k = 1; k <= level && fd >= 0; k++) {
		int next = openat(fd, w->levels[k].inode->name->bytes,
				  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		int saved = errno;

		close(fd);
		errno = saved;
		fd = next;
	}
	return fd;
}

/* Leave the top level; the one below it must be open again if it has more to do. */
static int pop_level(struct dir_walk *w)
{
	struct dir_level *from = &w->levels[--w->depth];
	struct dir_level *to = w->depth > 0 ? from - 1 : NULL;
	int r = 0;

	if (to && !to->handle) {
		int fd = openat(from->handle->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0 && !is_level(fd, to)) {
			close(fd);
			fd = reopen_by_name(w, w->depth - 1);
		}
		if (fd < 0)
			r = ingest_fail_at(w->in, -errno, to->inode, "cannot go back to");
		else if (!(to->handle = handle_new(fd))) {
			close(fd);
			r = ingest_fail(w->in, -ENOMEM, "out of memory");
		}
	}
	handle_unref(STEAL(from->handle));
	return r;
}

/* Open and list the next subdirectory of the top level, or leave it. */
static int step(struct dir_walk *w)
{
	struct dir_level *at = &w->levels[w->depth - 1];

	while (at->next_child < at->inode->n_children) {
		struct ingest_name *name = at->inode->children[at->next_child++];
		struct ingest_inode *child = name->inode;

		if (!name->is_dir)
			continue;
		int fd = openat(at->handle->fd, child->name->bytes,
				O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
			ingest_remark_at(w->in, REMARK_VANISHED, child);
			child->gone = true;
			continue;
		}
		if (fd < 0)
			return ingest_fail_at(w->in, -errno, child, "cannot open");
		uint64_t mount = at->mount;
		int r = push_level(w, child, fd);
		if (r < 0)
			return r;
		if (w->in->one_file_system && w->levels[w->depth - 1].mount != mount) {
			ingest_remark_at(w->in, REMARK_MOUNT, child);
			return pop_level(w);
		}
		return list_directory(w);
	}
	return pop_level(w);
}

static int walk(struct dir_walk *w, const char *dir)
{
	struct stat st;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		int r = -errno;
		return ingest_fail(w->in, r, "cannot open %.300s: %s", dir, strerror(-r));
	}
	if (fstat(w->in->store->dir_fd, &st) == 0) {
		w->store_dev = st.st_dev;
		w->store_ino = st.st_ino;
	}
	int r = push_level(w, ingest_tree_root(w->in->tree), fd);
	if (r == 0)
		r = ingest_count_entry(w->in);
	if (r == 0)
		r = list_directory(w);
	while (r == 0 && w->depth > 0)
		r = step(w);
	return r;
}

static void walk_fini(struct dir_walk *w)
{
	while (w->depth > 0)
		handle_unref(w->levels[--w->depth].handle);
	free(w->levels);
	free(w->links.slots);
	if (w->group) {
		handle_unref(w->group->dir);
		free(w->group);
	}
}

int ingest_dir(struct store *s, const char *dir, const struct ingest_options *opt,
	       struct progress *p, struct ingest_result *out, struct error *err)
{
	struct ingest in;
	struct dir_walk w = { .in = &in };
	int r = ingest_init(&in, s, opt, false, p, err);

	if (r == 0) {
		r = walk(&w, dir);
		r = ingest_finish(&in, r, out, err);
	}
	walk_fini(&w);
	ingest_fini(&in);
	return r;
}
