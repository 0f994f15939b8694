/*
 * exec_path.c - operations on names.
 */
#include "tests/model/fsmodel/model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

void exec_unlink(struct side *s, const struct op *op, struct result *r)
{
	result_set(r, unlinkat(side_at(s, op), op->path, 0));
}

void exec_rmdir(struct side *s, const struct op *op, struct result *r)
{
	/* Never the sequence's directory itself. */
	if (!strcmp(op->path, ".") || strstr(op->path, ".."))
		return;
	result_set(r, unlinkat(side_at(s, op), op->path, AT_REMOVEDIR));
}

void exec_mkdir(struct side *s, const struct op *op, struct result *r)
{
	result_set(r, mkdirat(side_at(s, op), op->path, op->mode));
}

void exec_mknod(struct side *s, const struct op *op, struct result *r)
{
	result_set(r, mknodat(side_at(s, op), op->path, op->mode, (dev_t)op->off));
}

void exec_link(struct side *s, const struct op *op, struct result *r)
{
	int at = side_at(s, op);

	result_set(r, linkat(at, op->path, at, op->path2, op->flags));
}

void exec_symlink(struct side *s, const struct op *op, struct result *r)
{
	char target[4200];

	if (op->path2[0]) {
		snprintf(target, sizeof(target), "%s", op->path2);
	} else {
		memset(target, 't', op->len);
		target[op->len] = 0;
	}
	result_set(r, symlinkat(target, side_at(s, op), op->path));
}

void exec_readlink(struct side *s, const struct op *op, struct result *r)
{
	result_set(r, readlinkat(side_at(s, op), op->path, (char *)r->data, 8192));
	r->data_len = r->ret > 0 ? (size_t)r->ret : 0;
}

void exec_rename(struct side *s, const struct op *op, struct result *r)
{
	int at = side_at(s, op);

	if (strstr(op->path, "..") || strstr(op->path2, ".."))
		return;
	result_set(r, renameat2(at, op->path, at, op->path2, (unsigned)op->flags));
}

void exec_chmod(struct side *s, const struct op *op, struct result *r)
{
	result_set(r, fchmodat(side_at(s, op), op->path, op->mode, 0));
}

/*
 * A chown that names neither still clears setuid bits (and so is refused to who is
 * not the owner); the kernel's FUSE asks for nothing then.
 */
static bool chown_is_nothing(const struct op *op)
{
	return op->uid == UINT32_MAX && op->gid == UINT32_MAX;
}

void exec_chown(struct side *s, const struct op *op, struct result *r)
{
	if (chown_is_nothing(op))
		return;
	result_set(r, fchownat(side_at(s, op), op->path, op->uid, op->gid, op->flags));
}

void exec_utimes(struct side *s, const struct op *op, struct result *r)
{
	struct stat st;
	int at = side_at(s, op);

	/* What is written back later changes the times again on a FUSE filesystem. */
	if (s->label == 'A')
		side_sync_maps(s);
	result_set(r, utimensat(at, op->path, op->times, op->flags));
	if (r->ret || fstatat(at, op->path, &st, op->flags) || op->times[0].tv_nsec >= 1000000000)
		return;
	result_text(r, " atime=%lld.%09ld", (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec);
}

void exec_truncate(struct side *s, const struct op *op, struct result *r)
{
	struct stat st;

	(void)s;
	/* Whether mtime changes where the size does not is each filesystem's own affair. */
	if (!stat(op->path, &st) && S_ISREG(st.st_mode) && st.st_size == op->off)
		return;
	result_set(r, truncate(op->path, op->off));
}

void exec_stat(struct side *s, const struct op *op, struct result *r)
{
	struct stat st;
	char text[256];

	result_set(r, fstatat(side_at(s, op), op->path, &st, 0));
	if (r->ret)
		return;
	stat_describe(&st, text, sizeof(text));
	result_text(r, " target{%s}", text);
}

void exec_access(struct side *s, const struct op *op, struct result *r)
{
	result_set(r, faccessat(side_at(s, op), op->path, (int)op->mode, AT_EACCESS));
}

void exec_statfs(struct side *s, const struct op *op, struct result *r)
{
	struct statvfs v;

	(void)s;
	result_set(r, statvfs(op->path, &v));
	if (r->ret)
		return;
	if (v.f_namemax != 255 || !v.f_bsize || !v.f_frsize || v.f_bfree > v.f_blocks ||
	    v.f_bavail > v.f_bfree || v.f_ffree > v.f_files)
		result_fault(r,
			     "statfs: namemax %lu bsize %lu frsize %lu blocks %lu/%lu/%lu files "
			     "%lu/%lu",
			     v.f_namemax, v.f_bsize, v.f_frsize, (unsigned long)v.f_bavail,
			     (unsigned long)v.f_bfree, (unsigned long)v.f_blocks,
			     (unsigned long)v.f_ffree, (unsigned long)v.f_files);
}

/*
 * Opening a device fails as the mount's nodev option or the missing driver
 * says; that is no difference. No device here has a driver.
 */
static void device_errno(int at, const char *path, struct result *r)
{
	struct stat st;

	if (r->ret == -1 && (r->err == EACCES || r->err == ENXIO || r->err == ENODEV) &&
	    !fstatat(at, path, &st, 0) && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
		r->err = ENXIO;
}

void exec_read_file(struct side *s, const struct op *op, struct result *r)
{
	int at = side_at(s, op);
	int fd = openat(at, op->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	result_set(r, fd < 0 ? -1 : 0);
	device_errno(at, op->path, r);
	if (fd < 0)
		return;
	result_set(r, pread(fd, r->data, MODEL_DATA_MAX, 0));
	r->data_len = r->ret > 0 ? (size_t)r->ret : 0;
	close(fd);
}

void exec_write_file(struct side *s, const struct op *op, struct result *r)
{
	static uint8_t data[MODEL_DATA_MAX];
	int at = side_at(s, op);
	int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC;
	int fd = openat(at, op->path, flags, op->mode & 07777);

	result_set(r, fd < 0 ? -1 : 0);
	device_errno(at, op->path, r);
	if (fd < 0)
		return;
	data_fill(op->seed, data, op->len);
	result_set(r, write(fd, data, op->len));
	if (close(fd))
		result_fault(r, "close: %s", strerror(errno));
}

void exec_handle(struct side *s, const struct op *op, struct result *r)
{
	struct {
		struct file_handle h;
		char room[MAX_HANDLE_SZ];
	} fh;
	struct stat by_path, by_handle;
	int mount_id;

	if (op->cred)
		return;
	fh.h.handle_bytes = MAX_HANDLE_SZ;
	result_set(r, name_to_handle_at(side_at(s, op), op->path, &fh.h, &mount_id, 0));
	if (r->ret)
		return;
	int fd = open_by_handle_at(s->dir_fd, &fh.h, O_PATH | O_CLOEXEC);
	result_set(r, fd < 0 ? -1 : 0);
	if (fd < 0)
		return;
	if (fstat(fd, &by_handle) ||
	    fstatat(side_at(s, op), op->path, &by_path, AT_SYMLINK_NOFOLLOW) ||
	    by_path.st_ino != by_handle.st_ino || by_path.st_mode != by_handle.st_mode)
		result_fault(r, "the handle leads to another file");
	close(fd);
}
