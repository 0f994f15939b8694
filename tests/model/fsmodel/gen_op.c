/*
 * gen_op.c - the arguments of each kind of operation, and the table of kinds.
 */
#include "tests/model/fsmodel/model.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

const struct op_type op_types[] = {
	{ "open", 60, gen_open, exec_open, "spfmA" },
	{ "tmpfile", 6, gen_tmpfile, exec_tmpfile, "spfmA" },
	{ "linkfd", 6, gen_linkfd, exec_linkfd, "spA" },
	{ "close", 20, gen_slot, exec_close, "" },
	{ "read", 14, gen_range, exec_read, "sl" },
	{ "write", 40, gen_range, exec_write, "sld" },
	{ "pread", 30, gen_range, exec_pread, "sol" },
	{ "pwrite", 60, gen_range, exec_pwrite, "sold" },
	{ "lseek", 12, gen_lseek, exec_lseek, "sof" },
	{ "ftruncate", 20, gen_size, exec_ftruncate, "so" },
	{ "fallocate", 30, gen_fallocate, exec_fallocate, "sfol" },
	{ "copy_file_range", 16, gen_copy, exec_copy, "stoOl" },
	{ "fsync", 6, gen_slot, exec_fsync, "s" },
	{ "fdatasync", 6, gen_slot, exec_fdatasync, "s" },
	{ "syncfs", 1, gen_slot, exec_syncfs, "s" },
	{ "fstat", 6, gen_slot, exec_fstat, "s" },
	{ "fchmod", 5, gen_chmod, exec_fchmod, "sm" },
	{ "fchown", 5, gen_chown, exec_fchown, "su" },
	{ "fsetxattr", 5, gen_xattr, exec_fsetxattr, "snlfd" },
	{ "seek_holes", 14, gen_slot, exec_seek_holes, "s" },
	{ "mmap", 12, gen_map, exec_map, "sOolf" },
	{ "map_write", 20, gen_map, exec_map_write, "Oold" },
	{ "map_read", 8, gen_map, exec_map_read, "Ool" },
	{ "msync", 5, gen_map, exec_msync, "O" },
	{ "munmap", 8, gen_map, exec_unmap, "O" },
	{ "unlink", 34, gen_path_any, exec_unlink, "pA" },
	{ "rmdir", 14, gen_path_dir, exec_rmdir, "pA" },
	{ "mkdir", 36, gen_path_new, exec_mkdir, "pmA" },
	{ "mknod", 12, gen_mknod, exec_mknod, "pmoA" },
	{ "link", 26, gen_link, exec_link, "pqfA" },
	{ "symlink", 14, gen_symlink, exec_symlink, "pA" },
	{ "readlink", 8, gen_path_any, exec_readlink, "pA" },
	{ "rename", 60, gen_rename, exec_rename, "pqfA" },
	{ "chmod", 24, gen_chmod, exec_chmod, "pmA" },
	{ "chown", 18, gen_chown, exec_chown, "pufA" },
	{ "utimes", 14, gen_utimes, exec_utimes, "pTfA" },
	{ "truncate", 18, gen_size, exec_truncate, "po" },
	{ "stat", 12, gen_path_any, exec_stat, "pA" },
	{ "access", 8, gen_path_any, exec_access, "pmA" },
	{ "statfs", 2, gen_path_any, exec_statfs, "p" },
	{ "read_file", 40, gen_path_file, exec_read_file, "pA" },
	{ "write_file", 50, gen_write_file, exec_write_file, "pldmA" },
	{ "handle", 4, gen_path_any, exec_handle, "pA" },
	{ "setxattr", 24, gen_xattr, exec_setxattr, "pnlfd" },
	{ "getxattr", 10, gen_xattr, exec_getxattr, "pnl" },
	{ "listxattr", 10, gen_path_any, exec_listxattr, "p" },
	{ "removexattr", 8, gen_xattr, exec_removexattr, "pn" },
	{ "setacl", 14, gen_acl, exec_setacl, "pnfd" },
	{ "readdir", 24, gen_path_dir, exec_readdir, "pA" },
	{ "dirstream", 3, gen_path_dir, exec_dirstream, "pl" },
	{ NULL, 0, NULL, NULL, "" },
};

static const unsigned modes[] = { 0644,	 0755,	0600,  0666,  0777,  0700,  0,	   0444,
				  04755, 02755, 06777, 01777, 02777, 02644, 04711, 0070 };

static unsigned gen_mode(struct gen *g)
{
	return modes[gen_rnd(g, ARRAY_SIZE(modes))];
}

static uint64_t gen_len(struct gen *g)
{
	unsigned pick = (unsigned)gen_rnd(g, 100);

	if (pick < 30)
		return gen_rnd(g, 100);
	if (pick < 60)
		return gen_rnd(g, 9000);
	if (pick < 80)
		return 4096 * gen_rnd(g, 17);
	if (pick < 96)
		return gen_rnd(g, 200000);
	return gen_rnd(g, 700000);
}

static int64_t gen_off(struct gen *g)
{
	unsigned pick = (unsigned)gen_rnd(g, 100);

	if (pick < 25)
		return 0;
	if (pick < 45)
		return (int64_t)gen_rnd(g, 9000);
	if (pick < 60)
		return (int64_t)(4096 * gen_rnd(g, 40));
	if (pick < 80)
		return (int64_t)gen_rnd(g, 140000);
	if (pick < 96)
		return (int64_t)gen_rnd(g, 1000000);
	if (pick < 99)
		return (int64_t)gen_rnd(g, 64000000);
	return (int64_t)gen_rnd(g, 1ull << 40);
}

/* Mostly a slot that holds an open file, rarely a directory or nothing. */
static int pick_slot(struct gen *g)
{
	int from = (int)gen_rnd(g, MODEL_SLOTS);
	bool any = gen_chance(g, 8);

	for (int i = 0; i < MODEL_SLOTS && !gen_chance(g, 4); i++) {
		int slot = (from + i) % MODEL_SLOTS;
		if (g->slot_kind[slot] == 'f' || (any && g->slot_kind[slot]))
			return slot;
	}
	return from;
}

void gen_slot(struct gen *g, struct op *op)
{
	op->slot = pick_slot(g);
}

void gen_open(struct gen *g, struct op *op)
{
	static const int access[] = { O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_RDWR };

	op->mode = gen_mode(g);
	if (gen_chance(g, 12)) {
		op->flags = O_RDONLY | O_DIRECTORY;
		gen_path(g, op->path, WANT_DIR);
		return;
	}
	op->flags = access[gen_rnd(g, ARRAY_SIZE(access))];
	if (gen_chance(g, 55)) {
		op->flags |= O_CREAT;
		if (gen_chance(g, 15))
			op->flags |= O_EXCL;
	}
	if (gen_chance(g, 12))
		op->flags |= O_TRUNC;
	if (gen_chance(g, 15))
		op->flags |= O_APPEND;
	if (gen_chance(g, 8))
		op->flags |= O_DIRECT;
	if (gen_chance(g, 4))
		op->flags |= gen_chance(g, 50) ? O_SYNC : O_DSYNC;
	if (gen_chance(g, 6))
		op->flags |= O_NOFOLLOW;
	gen_path(g, op->path, gen_chance(g, 70) ? WANT_FILE : WANT_NEW);
}

void gen_tmpfile(struct gen *g, struct op *op)
{
	op->flags = O_TMPFILE | (gen_chance(g, 80) ? O_RDWR : O_WRONLY);
	if (gen_chance(g, 10))
		op->flags |= O_EXCL;
	op->mode = gen_mode(g);
	gen_path(g, op->path, WANT_DIR);
}

void gen_linkfd(struct gen *g, struct op *op)
{
	gen_slot(g, op);
	gen_path(g, op->path, WANT_NEW);
}

void gen_range(struct gen *g, struct op *op)
{
	gen_slot(g, op);
	op->off = gen_off(g);
	op->len = gen_len(g);
}

void gen_fallocate(struct gen *g, struct op *op)
{
	static const int flags[] = {
		0,
		FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_COLLAPSE_RANGE,
		FALLOC_FL_INSERT_RANGE,
	};

	gen_range(g, op);
	op->flags = flags[gen_rnd(g, ARRAY_SIZE(flags))];
	if (op->flags & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE) || gen_chance(g, 40)) {
		op->off &= ~4095ll;
		op->len = (op->len + 4095) & ~4095ull;
	}
}

void gen_copy(struct gen *g, struct op *op)
{
	gen_range(g, op);
	op->slot2 = pick_slot(g);
	op->off2 = gen_off(g);
	if (gen_chance(g, 40)) {
		op->off &= ~4095ll;
		op->off2 &= ~4095ll;
	}
}

void gen_lseek(struct gen *g, struct op *op)
{
	gen_slot(g, op);
	op->off = gen_off(g);
	op->flags = (int)gen_rnd(g, 3); /* SEEK_SET, SEEK_CUR, SEEK_END */
	if (op->flags == SEEK_END && gen_chance(g, 60))
		op->off = -op->off;
}

void gen_size(struct gen *g, struct op *op)
{
	gen_slot(g, op);
	gen_path(g, op->path, WANT_FILE);
	op->off = gen_chance(g, 3) ? -1 : gen_off(g);
}

/* off2: which held map; off, len: within it. flags: shared or private. */
void gen_map(struct gen *g, struct op *op)
{
	gen_slot(g, op);
	op->off2 = (int64_t)gen_rnd(g, MODEL_MAPS);
	op->off = gen_chance(g, 50) ? 0 : (int64_t)gen_rnd(g, 100000);
	op->len = 1 + gen_len(g);
	op->flags = gen_chance(g, 75);
}

void gen_path_any(struct gen *g, struct op *op)
{
	gen_path(g, op->path, WANT_ANY);
	op->mode = (unsigned)gen_rnd(g, 8);
}

void gen_path_file(struct gen *g, struct op *op)
{
	gen_path(g, op->path, WANT_FILE);
}

void gen_path_dir(struct gen *g, struct op *op)
{
	if (gen_chance(g, 15))
		strcpy(op->path, ".");
	else
		gen_path(g, op->path, gen_chance(g, 90) ? WANT_DIR : WANT_ANY);
	op->len = 3 + gen_rnd(g, 40);
}

void gen_path_new(struct gen *g, struct op *op)
{
	gen_path(g, op->path, WANT_NEW);
	op->mode = gen_mode(g) | (gen_chance(g, 60) ? 0700 : 0);
}

void gen_link(struct gen *g, struct op *op)
{
	gen_path(g, op->path, gen_chance(g, 60) ? WANT_FILE : WANT_ANY);
	gen_path(g, op->path2, gen_chance(g, 90) ? WANT_NEW : WANT_ANY);
	op->flags = gen_chance(g, 20) ? AT_SYMLINK_FOLLOW : 0;
}

/* The target is relative to the link's place, and made from name and seed. */
void gen_symlink(struct gen *g, struct op *op)
{
	gen_path(g, op->path, WANT_NEW);
	if (gen_chance(g, 5))
		op->len = gen_chance(g, 50) ? 4095 : 4096;
	else if (gen_chance(g, 3))
		op->len = 1 + gen_rnd(g, 4094);
	else
		gen_path(g, op->path2, WANT_ANY);
}

void gen_rename(struct gen *g, struct op *op)
{
	gen_path(g, op->path, WANT_ANY);
	gen_path(g, op->path2, gen_chance(g, 50) ? WANT_NEW : WANT_ANY);
	if (gen_chance(g, 12))
		op->flags = RENAME_NOREPLACE;
	else if (gen_chance(g, 15)) {
		op->flags = RENAME_EXCHANGE;
		gen_path(g, op->path2, WANT_ANY);
	}
}

void gen_mknod(struct gen *g, struct op *op)
{
	static const unsigned types[] = { S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK };
	unsigned type = types[gen_rnd(g, ARRAY_SIZE(types))];

	gen_path(g, op->path, WANT_NEW);
	op->mode = type | gen_mode(g);
	if (type == S_IFCHR || type == S_IFBLK)
		/* No major number that Linux gives a driver: they are opened. */
		op->off = (int64_t)makedev(600 + gen_rnd(g, 3400), gen_rnd(g, 1000000));
}

void gen_chmod(struct gen *g, struct op *op)
{
	gen_slot(g, op);
	gen_path(g, op->path, WANT_ANY);
	op->mode = gen_mode(g);
}

void gen_chown(struct gen *g, struct op *op)
{
	static const unsigned ids[] = { 0, 1000, 1001, (unsigned)-1, 4000000000u };

	gen_slot(g, op);
	gen_path(g, op->path, WANT_ANY);
	op->uid = ids[gen_rnd(g, ARRAY_SIZE(ids))];
	op->gid = ids[gen_rnd(g, ARRAY_SIZE(ids))];
	op->flags = gen_chance(g, 50) ? AT_SYMLINK_NOFOLLOW : 0;
}

void gen_utimes(struct gen *g, struct op *op)
{
	static const int64_t secs[] = { 0,	   1,		-1,	    1000000000,
					999999999, -2000000000, 4102444800, 9000000000 };

	gen_path(g, op->path, WANT_ANY);
	for (int i = 0; i < 2; i++) {
		op->times[i].tv_sec = secs[gen_rnd(g, ARRAY_SIZE(secs))];
		op->times[i].tv_nsec = (long)gen_rnd(g, 1000000000);
		if (gen_chance(g, 15))
			op->times[i].tv_nsec = gen_chance(g, 50) ? UTIME_NOW : UTIME_OMIT;
	}
	op->flags = gen_chance(g, 50) ? AT_SYMLINK_NOFOLLOW : 0;
}

void gen_xattr(struct gen *g, struct op *op)
{
	static const char *const names[] = {
		"user.a",      "user.a",	 "user.b", "user.long-name-of-an-attribute",
		"trusted.t",   "security.other", "user.",  "system.other",
		"nonamespace",
	};

	gen_slot(g, op);
	gen_path(g, op->path, WANT_ANY);
	strcpy(op->name, names[gen_rnd(g, ARRAY_SIZE(names) - (gen_chance(g, 85) ? 3 : 0))]);
	op->len = gen_chance(g, 10) ? 0 : gen_rnd(g, 220);
	if (gen_chance(g, 20))
		op->flags = gen_chance(g, 50) ? XATTR_CREATE : XATTR_REPLACE;
}

void gen_acl(struct gen *g, struct op *op)
{
	gen_path(g, op->path, gen_chance(g, 40) ? WANT_DIR : WANT_ANY);
	strcpy(op->name,
	       gen_chance(g, 50) ? "system.posix_acl_access" : "system.posix_acl_default");
	op->flags = (int)gen_rnd(g, 4); /* 0: remove it */
	/* Whether removing what is not there changes ctime differs. */
	if (!op->flags)
		op->timed = false;
}

void gen_write_file(struct gen *g, struct op *op)
{
	gen_path(g, op->path, gen_chance(g, 60) ? WANT_NEW : WANT_FILE);
	op->len = gen_len(g);
	op->mode = gen_mode(g) | 0600;
}
