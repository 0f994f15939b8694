/*
 * record_fs.c - record_fs [-m] LOG BACKING MOUNTPOINT: a filesystem that shows the
 * directory BACKING and appends to the file LOG whatever changes it or makes a
 * change durable, in the order in which it happened. Runs until it is unmounted,
 * or SIGTERM.
 *
 * For replaying power cuts (tests/model/power/): the record of a call is in the
 * log before the call returns, as nothing is cached on the way (direct_io) and
 * calls are done one at a time. Only a sync takes a while, as on a disk, in which
 * others go on: what they do is not synced by it. Inodes have numbers of their own,
 * which are not used twice, so that what is done to an open file that has been
 * renamed or removed is known. What is written to /.mark, which no listing shows,
 * becomes a record, too: so a load says what it has been promised up to here.
 *
 * A record, in the host's byte order: struct record_head, a name, another name,
 * data. Not recorded: modes, owners, times. Not there: xattrs, symlinks, devices,
 * ioctls (no reflinks), O_TMPFILE, and syncfs, which the kernel keeps to itself.
 * Shared mappings are there with -m alone: what is stored in one is recorded when
 * the kernel writes the page, which may be long after (see load.py).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <fuse.h>

#define MARK_PATH "/.mark"
#define MARK_HANDLE UINT64_MAX
#define ROOT_ID 1
#define SYNC_MS 1
#define SLOW_SYNC_MS 20
#define SLOW_SYNC_EVERY 2
#define ENDED_BY_SIGNAL 8 /* of fuse_main(): its loop failed or a signal ended it */

struct record_head {
	uint64_t inode, dir, other_dir; /* inode: what is changed or synced, named, moved */
	/* Of the range; truncate: length is the new size; sync: length is how many records there
	 * were when it began. */
	uint64_t offset, length;
	uint32_t data_size;
	uint16_t name_size, other_name_size;
	char type;
	char pad[7];
};

static int backing;
static FILE *record_log;
static bool mappable;
static uint64_t record_count;
static unsigned syncs;					 /* one in SLOW_SYNC_EVERY is slow */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all but `backing` */

static void let_go(pthread_mutex_t **held)
{
	pthread_mutex_unlock(*held);
}

static pthread_mutex_t *take(void)
{
	pthread_mutex_lock(&lock);
	return &lock;
}

/* Until the end of the function. */
#define ONE_AT_A_TIME __attribute__((cleanup(let_go), unused)) pthread_mutex_t *held = take()

static uint64_t next_id = ROOT_ID + 1;

/* Numbers of inodes, by the backing filesystem's, which come again: makers replace them. */
static struct known {
	uint64_t ino, id;
} * known;
static size_t known_count, known_room;

static void *must(void *p)
{
	if (!p) {
		perror("record_fs");
		abort();
	}
	return p;
}

static struct known *know(uint64_t ino)
{
	for (size_t i = known_count; i-- > 0;)
		if (known[i].ino == ino)
			return &known[i];
	if (known_count == known_room) {
		known_room = known_room ? 2 * known_room : 256;
		known = must(realloc(known, known_room * sizeof(*known)));
	}
	known[known_count] = (struct known){ .ino = ino, .id = next_id++ };
	return &known[known_count++];
}

/* ---- the log ---- */

static void append(struct record_head *h, const char *name, const char *other_name,
		   const void *data)
{
	h->name_size = (uint16_t)(name ? strlen(name) : 0);
	h->other_name_size = (uint16_t)(other_name ? strlen(other_name) : 0);
	if (!data)
		h->data_size = 0;
	record_count++;
	fwrite(h, sizeof(*h), 1, record_log);
	fwrite(name, 1, h->name_size, record_log);
	fwrite(other_name, 1, h->other_name_size, record_log);
	fwrite(data, 1, h->data_size, record_log);
	if (ferror(record_log)) {
		perror("record_fs: log");
		abort();
	}
}

static const char *below(const char *path)
{
	return path[1] ? path + 1 : ".";
}

static const char *name_of(const char *path)
{
	return strrchr(path, '/') + 1;
}

static uint64_t id_of(const char *path)
{
	struct stat st;

	if (!path[0] || !path[1])
		return ROOT_ID;
	if (fstatat(backing, below(path), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return know(st.st_ino)->id;
}

static uint64_t id_of_dir(const char *path)
{
	char dir[4096];

	snprintf(dir, sizeof(dir), "%.*s", (int)(name_of(path) - path - 1), path);
	return id_of(dir);
}

static uint64_t id_of_fd(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : know(st.st_ino)->id;
}

/* A new inode has come to path. */
static void append_made(char type, const char *path)
{
	struct record_head h = { .type = type, .dir = id_of_dir(path) };
	struct stat st;

	if (fstatat(backing, below(path), &st, AT_SYMLINK_NOFOLLOW) < 0)
		abort();
	know(st.st_ino)->id = next_id;
	h.inode = next_id++;
	append(&h, name_of(path), NULL, NULL);
}

static void append_name(char type, const char *path, uint64_t inode)
{
	struct record_head h = { .type = type, .dir = id_of_dir(path), .inode = inode };

	append(&h, name_of(path), NULL, NULL);
}

static void append_range(char type, uint64_t inode, off_t offset, off_t length)
{
	struct record_head h = {
		.type = type, .inode = inode, .offset = (uint64_t)offset, .length = (uint64_t)length
	};

	append(&h, NULL, NULL, NULL);
}

/* ---- operations ---- */

static int fd_of(const struct fuse_file_info *fi)
{
	return (int)fi->fh;
}

static int do_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	if (strcmp(path, MARK_PATH) == 0) {
		*st = (struct stat){ .st_mode = S_IFREG | 0600, .st_nlink = 1 };
		return 0;
	}
	if (fi)
		return fstat(fd_of(fi), st) < 0 ? -errno : 0;
	return fstatat(backing, below(path), st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int do_mkdir(const char *path, mode_t mode)
{
	ONE_AT_A_TIME;
	if (mkdirat(backing, below(path), mode) < 0)
		return -errno;
	append_made('D', path);
	return 0;
}

/* FIFOs and sockets, which OCI runtimes make. */
static int do_mknod(const char *path, mode_t mode, dev_t rdev)
{
	ONE_AT_A_TIME;
	if (!S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EPERM;
	if (mknodat(backing, below(path), mode, rdev) < 0)
		return -errno;
	append_made('P', path);
	return 0;
}

static int do_unlink(const char *path)
{
	ONE_AT_A_TIME;
	uint64_t id = id_of(path);

	if (unlinkat(backing, below(path), 0) < 0)
		return -errno;
	append_name('u', path, id);
	return 0;
}

static int do_rmdir(const char *path)
{
	ONE_AT_A_TIME;
	uint64_t id = id_of(path);

	if (unlinkat(backing, below(path), AT_REMOVEDIR) < 0)
		return -errno;
	append_name('u', path, id);
	return 0;
}

static int do_rename(const char *from, const char *to, unsigned flags)
{
	ONE_AT_A_TIME;
	struct record_head h = { .type = 'r',
				 .inode = id_of(from),
				 .dir = id_of_dir(from),
				 .other_dir = id_of_dir(to) };

	if (flags & ~1u) /* RENAME_NOREPLACE */
		return -EINVAL;
	if (renameat2(backing, below(from), backing, below(to), flags) < 0)
		return -errno;
	append(&h, name_of(from), name_of(to), NULL);
	return 0;
}

static int do_link(const char *from, const char *to)
{
	ONE_AT_A_TIME;
	if (linkat(backing, below(from), backing, below(to), 0) < 0)
		return -errno;
	append_name('l', to, id_of(to));
	return 0;
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	(void)fi;
	return fchmodat(backing, below(path), mode, 0) < 0 ? -errno : 0;
}

static int do_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	(void)fi;
	return fchownat(backing, below(path), uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int do_utimens(const char *path, const struct timespec tv[2], struct fuse_file_info *fi)
{
	(void)fi;
	return utimensat(backing, below(path), tv, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	ONE_AT_A_TIME;
	int fd = fi ? fd_of(fi) : openat(backing, below(path), O_WRONLY | O_CLOEXEC), r;

	if (strcmp(path, MARK_PATH) == 0)
		return 0;
	if (fd < 0)
		return -errno;
	r = ftruncate(fd, size) < 0 ? -errno : 0;
	if (r == 0)
		append_range('t', id_of_fd(fd), 0, size);
	if (!fi)
		close(fd);
	return r;
}

static void opened(struct fuse_file_info *fi, int fd)
{
	fi->fh = (uint64_t)fd;
	fi->direct_io = !mappable;
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	ONE_AT_A_TIME;
	int fd = openat(backing, below(path),
			(fi->flags & ~(O_DIRECT | O_APPEND)) | O_CREAT | O_EXCL, mode);

	if (fd < 0)
		return -errno;
	append_made('F', path);
	opened(fi, fd);
	return 0;
}

static int do_open(const char *path, struct fuse_file_info *fi)
{
	ONE_AT_A_TIME;
	int fd;

	if (strcmp(path, MARK_PATH) == 0) {
		fi->fh = MARK_HANDLE;
		fi->direct_io = 1;
		return 0;
	}
	fd = openat(backing, below(path), fi->flags & ~(O_DIRECT | O_APPEND | O_CREAT | O_EXCL));
	if (fd < 0)
		return -errno;
	if ((fi->flags & O_TRUNC) && (fi->flags & O_ACCMODE) != O_RDONLY)
		append_range('t', id_of_fd(fd), 0, 0);
	opened(fi, fd);
	return 0;
}

static int do_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	if (fi->fh != MARK_HANDLE)
		close(fd_of(fi));
	return 0;
}

static int do_read(const char *path, char *buf, size_t size, off_t offset,
		   struct fuse_file_info *fi)
{
	ssize_t n = pread(fd_of(fi), buf, size, offset);

	(void)path;
	return n < 0 ? -errno : (int)n;
}

static int do_write(const char *path, const char *buf, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	ONE_AT_A_TIME;
	struct record_head h = { .type = 'w', .offset = (uint64_t)offset };
	ssize_t n;

	(void)path;
	if (fi->fh == MARK_HANDLE) {
		h = (struct record_head){ .type = 'M', .data_size = (uint32_t)size };
		append(&h, NULL, NULL, buf);
		return (int)size;
	}
	n = pwrite(fd_of(fi), buf, size, offset);
	if (n < 0)
		return -errno;
	h.inode = id_of_fd(fd_of(fi));
	h.data_size = (uint32_t)n;
	append(&h, NULL, NULL, buf);
	return (int)n;
}

static int do_fallocate(const char *path, int mode, off_t offset, off_t length,
			struct fuse_file_info *fi)
{
	ONE_AT_A_TIME;
	struct stat st;
	int fd = fd_of(fi);

	(void)path;
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
		return -EOPNOTSUPP;
	if (fstat(fd, &st) < 0 || fallocate(fd, mode, offset, length) < 0)
		return -errno;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		append_range('p', know(st.st_ino)->id, offset, length);
	else if (!(mode & FALLOC_FL_KEEP_SIZE) && offset + length > st.st_size)
		append_range('t', know(st.st_ino)->id, 0, offset + length);
	return 0;
}

/*
 * A sync's record comes at its end: until then nothing of it is promised. The
 * backing filesystem need not sync, only the record counts.
 */
static void sync_inode(char type, uint64_t inode)
{
	uint64_t begun;
	long ms;

	{
		ONE_AT_A_TIME;
		begun = record_count;
		ms = ++syncs % SLOW_SYNC_EVERY ? SYNC_MS : SLOW_SYNC_MS;
	}
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
	ONE_AT_A_TIME;
	append_range(type, inode, 0, (off_t)begun);
}

static uint64_t locked_id_of_fd(int fd)
{
	ONE_AT_A_TIME;
	return id_of_fd(fd);
}

static uint64_t locked_id_of(const char *path)
{
	ONE_AT_A_TIME;
	return id_of(path);
}

static int do_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	(void)path;
	if (fi->fh != MARK_HANDLE)
		sync_inode(datasync ? 'd' : 's', locked_id_of_fd(fd_of(fi)));
	return 0;
}

static int do_fsyncdir(const char *path, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	(void)fi;
	sync_inode('s', locked_id_of(path));
	return 0;
}

static off_t do_lseek(const char *path, off_t offset, int whence, struct fuse_file_info *fi)
{
	off_t at = lseek(fd_of(fi), offset, whence);

	(void)path;
	return at < 0 ? -errno : at;
}

static int do_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset,
		      struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	int fd = openat(backing, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	(void)offset;
	(void)fi;
	(void)flags;
	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		struct stat st = { .st_ino = e->d_ino, .st_mode = (mode_t)DTTOIF(e->d_type) };

		fill(buf, e->d_name, &st, 0, 0);
	}
	closedir(d);
	return 0;
}

static int do_statfs(const char *path, struct statvfs *st)
{
	(void)path;
	return fstatvfs(backing, st) < 0 ? -errno : 0;
}

static void *do_init(struct fuse_conn_info *conn, struct fuse_config *cfg)
{
	(void)conn;
	cfg->hard_remove = 1; /* not another name for an open file, which nobody asked for */
	cfg->use_ino = 1;
	cfg->entry_timeout = 3600; /* nobody else changes the backing directory */
	cfg->attr_timeout = 3600;
	return NULL;
}

static const struct fuse_operations operations = {
	.init = do_init,
	.getattr = do_getattr,
	.mkdir = do_mkdir,
	.mknod = do_mknod,
	.unlink = do_unlink,
	.rmdir = do_rmdir,
	.rename = do_rename,
	.link = do_link,
	.chmod = do_chmod,
	.chown = do_chown,
	.utimens = do_utimens,
	.truncate = do_truncate,
	.create = do_create,
	.open = do_open,
	.release = do_release,
	.read = do_read,
	.write = do_write,
	.fallocate = do_fallocate,
	.fsync = do_fsync,
	.fsyncdir = do_fsyncdir,
	.lseek = do_lseek,
	.readdir = do_readdir,
	.statfs = do_statfs,
};

int main(int argc, char **argv)
{
	char *args[] = { argv[0], "-f", argv[argc - 1], NULL };
	int r;

	mappable = argc > 1 && strcmp(argv[1], "-m") == 0;
	if (argc != 4 + mappable) {
		fprintf(stderr, "usage: record_fs [-m] LOG BACKING MOUNTPOINT\n");
		return 2;
	}
	backing = open(argv[argc - 2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	record_log = fopen(argv[argc - 3], "wbe");
	if (backing < 0 || !record_log) {
		perror("record_fs");
		return 1;
	}
	umask(0);
	r = fuse_main(3, args, &operations, NULL);
	free(known);
	if (fclose(record_log) != 0)
		return 1;
	return r == ENDED_BY_SIGNAL ? 0 : r;
}
