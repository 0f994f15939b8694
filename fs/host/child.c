/*
 * The child shares our memory (CLONE_VM) while the calling thread waits for its
 * end (CLONE_VFORK), as posix_spawn(3) does it, so it costs no copy of the page
 * tables; but the child touches no memory that a lock protects, and makes only
 * bare system calls. Its table of descriptors is its own, and is emptied first.
 */
#include "fs/host/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/openat2.h>

#define STACK_BYTES (64u << 10)
#define OPEN_TRIES 1000
/* linux/exportfs.h: FILEID_INO64_GEN, which FUSE makes of node id and generation. */
#define HANDLE_TYPE 0x81

struct fuse_handle {
	struct file_handle head;
	uint32_t id[3]; /* node id, high and low half; generation */
};

struct task {
	int (*run)(const struct task *t);
	const char *mountpoint; /* or another path */
	const char *other;
	int flags;
	int fd; /* that the child keeps; -1: none */
	dev_t dev;
	uint64_t ino, mount_id;
	void *room;
	size_t room_len;
	int result; /* written by the child */
};

/* The child runs on a stack of its own: no sanitizer and no code that sets errno may run in it. */
#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined"), noinline))

IN_CHILD static int call(long r)
{
	return r < 0 ? -errno : (int)r;
}

IN_CHILD static int run_umount(const struct task *t)
{
	struct statx stx;
	int r = call(syscall(SYS_statx, AT_FDCWD, t->mountpoint,
			     AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC,
			     STATX_MNT_ID, &stx));

	if (r)
		return r;
	if (stx.stx_mnt_id != t->mount_id || stx.stx_dev_major != major(t->dev) ||
	    stx.stx_dev_minor != minor(t->dev))
		return -EXDEV;
	return call(syscall(SYS_umount2, t->mountpoint, t->flags));
}

IN_CHILD static int open_root(const struct task *t)
{
	return call(
		syscall(SYS_openat, AT_FDCWD, t->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

/* Does not ask the filesystem for attributes. */
IN_CHILD static bool is_on(int fd, dev_t dev)
{
	struct statx stx;
	int r = call(syscall(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx));

	return !r && stx.stx_dev_major == major(dev) && stx.stx_dev_minor == minor(dev);
}

IN_CHILD static int run_syncfs(const struct task *t)
{
	int fd = open_root(t);

	if (fd >= 0 && !is_on(fd, t->dev))
		return -ENODEV;
	return fd < 0 ? fd : call(syscall(SYS_syncfs, fd));
}

IN_CHILD static int run_syncfs_fd(const struct task *t)
{
	int fd = call(syscall(SYS_openat, t->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	return fd < 0 ? fd : call(syscall(SYS_syncfs, fd));
}

IN_CHILD static int run_same_file(const struct task *t)
{
	struct statx a, b;
	int r = call(
		syscall(SYS_statx, AT_FDCWD, t->mountpoint, AT_STATX_DONT_SYNC, STATX_INO, &a));

	if (!r)
		r = call(syscall(SYS_statx, AT_FDCWD, t->other, AT_STATX_DONT_SYNC, STATX_INO, &b));
	if (r)
		return r;
	return a.stx_dev_major == b.stx_dev_major && a.stx_dev_minor == b.stx_dev_minor &&
			       a.stx_ino == b.stx_ino
		       ? 0
		       : -EXDEV;
}

IN_CHILD static int run_file_type(const struct task *t)
{
	struct statx stx;
	int r = call(
		syscall(SYS_statx, AT_FDCWD, t->mountpoint, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stx));

	return r ? r : stx.stx_mode & S_IFMT;
}

IN_CHILD static int run_write_back(const struct task *t)
{
	struct fuse_handle h = { .id = { (uint32_t)(t->ino >> 32), (uint32_t)t->ino, 1 } };
	struct stat st;
	int root = open_root(t), fd;

	if (root < 0)
		return root;
	fd = call(syscall(SYS_newfstatat, root, "", &st, AT_EMPTY_PATH));
	if (fd < 0)
		return fd;
	if (st.st_dev != t->dev)
		return -ENODEV;
	h.head.handle_bytes = sizeof(h.id);
	h.head.handle_type = HANDLE_TYPE;
	fd = call(syscall(SYS_open_by_handle_at, root, &h, O_RDONLY | O_CLOEXEC));
	if (fd < 0)
		return fd;
	return call(syscall(SYS_sync_file_range, fd, 0, 0,
			    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				    SYNC_FILE_RANGE_WAIT_AFTER));
}

/* The kernel gives up where something is renamed while it walks: tried again, not for ever. */
IN_CHILD static int open_in_root(const struct task *t)
{
	struct open_how how = { .flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	int root = open_root(t), fd = root;

	for (int i = 0; root >= 0 && i < OPEN_TRIES && (fd == root || fd == -EAGAIN); i++)
		fd = call(syscall(SYS_openat2, root, t->other, &how, sizeof(how)));
	return fd;
}

IN_CHILD static int run_read(const struct task *t)
{
	struct statx stx;
	int fd = open_in_root(t), r, n = 0;

	if (fd < 0)
		return fd;
	r = call(syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &stx));
	if (!r && (stx.stx_mode & S_IFMT) != S_IFREG)
		r = -EINVAL;
	while (!r && (size_t)n < t->room_len) {
		r = call(syscall(SYS_read, fd, (char *)t->room + n, t->room_len - (size_t)n));
		if (r <= 0)
			break;
		n += r;
		r = 0;
	}
	return r < 0 ? r : n;
}

IN_CHILD static int child_main(void *arg)
{
	struct task *t = arg;

	t->result = t->fd > 0 ? call(syscall(SYS_close_range, 0, t->fd - 1, 0)) : 0;
	if (!t->result)
		t->result = call(syscall(SYS_close_range, t->fd + 1, ~0u, 0));
	if (!t->result)
		t->result = t->run(t);
	syscall(SYS_exit_group, 0);
	return 0;
}

/*
 * clone(2) by glibc's other name: ThreadSanitizer intercepts clone() and takes
 * the child for a fork with its own memory.
 */
extern int __clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);

static int run(struct task *t)
{
	char *stack = malloc(STACK_BYTES);
	sigset_t all, old;
	int status, r = 0;
	pid_t pid;

	if (!stack)
		return -ENOMEM;
	/* The child must not run a handler of ours. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	t->result = -ECHILD; /* in case it is killed */
	pid = __clone(child_main, stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, t);
	if (pid < 0)
		r = -errno;
	else
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	free(stack);
	return r ? r : t->result;
}

int child_umount(const char *mountpoint, uint64_t mount_id, dev_t dev, int flags)
{
	return run(&(struct task){ .run = run_umount,
				   .mountpoint = mountpoint,
				   .flags = flags,
				   .fd = -1,
				   .dev = dev,
				   .mount_id = mount_id });
}

int child_syncfs(const char *mountpoint, dev_t dev)
{
	return run(&(struct task){
		.run = run_syncfs, .mountpoint = mountpoint, .fd = -1, .dev = dev });
}

int child_syncfs_fd(int dir_fd)
{
	return run(&(struct task){ .run = run_syncfs_fd, .fd = dir_fd });
}

int child_same_file(const char *a, const char *b)
{
	return run(&(struct task){ .run = run_same_file, .mountpoint = a, .other = b, .fd = -1 });
}

int child_file_type(const char *path)
{
	return run(&(struct task){ .run = run_file_type, .mountpoint = path, .fd = -1 });
}

ssize_t child_read_in_root(const char *root, const char *path, void *room, size_t room_len)
{
	return run(&(struct task){ .run = run_read,
				   .mountpoint = root,
				   .other = path,
				   .fd = -1,
				   .room = room,
				   .room_len = MIN(room_len, (size_t)INT_MAX) });
}

int child_write_back(const char *mountpoint, dev_t dev, uint64_t ino)
{
	return run(&(struct task){ .run = run_write_back,
				   .mountpoint = mountpoint,
				   .fd = -1,
				   .dev = dev,
				   .ino = ino });
}
