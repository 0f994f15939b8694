/*
 * model.h - the random-operations model test: one sequence of operations,
 * applied to two directories, must have the same results and leave the same
 * trees. Side A is the filesystem under test, side B a trusted one (ext4).
 *
 * An operation is plain data, so that a failing sequence can be run again
 * without some of its operations (shrink.c). It names open files by slot, and
 * other files by paths relative to a directory that each sequence has of its
 * own on either side.
 *
 * What is compared after each operation: result and errno, data that was read,
 * and the attributes of the files and directories concerned. Not compared, as
 * filesystems may differ: inode and device numbers, blocks, sizes of
 * directories, access times, and times that the clock gave (times that were set
 * are; they lie outside the test's own time).
 */
#ifndef VARVE_TESTS_FSMODEL_H
#define VARVE_TESTS_FSMODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include "store/base/macros.h"

#define MODEL_PATH_MAX 3000 /* of a path below a sequence's directory */
#define MODEL_SLOTS 8	    /* open files */
#define MODEL_MAPS 3	    /* held memory maps */
#define MODEL_DATA_MAX (1u << 20)
#define MODEL_TEXT_MAX 4096
#define MODEL_UIDS 3 /* credentials, see cred_enter() */

struct op_type;

struct op {
	const struct op_type *type;
	int cred;	/* who does it: 0 root, 1.. others */
	unsigned umask; /* in force */
	bool timed;	/* also compare which times it changes */
	int at;		/* slot of the directory that paths start from, or -1 */
	int slot, slot2;
	int flags;
	unsigned mode;
	int64_t off, off2;
	uint64_t len;
	uint32_t seed; /* of the data written, and for what is chosen inside */
	struct timespec times[2];
	unsigned uid, gid;
	char path[MODEL_PATH_MAX], path2[MODEL_PATH_MAX];
	char name[64]; /* of an xattr, or an event */
};

/* What came of an operation on one side. */
struct result {
	long ret; /* -1 with err, as system calls have it */
	int err;
	bool unsupported; /* the side cannot do this at all: it is skipped */
	char fault[512];  /* what this side alone did wrong; "" */
	char text[MODEL_TEXT_MAX];
	size_t text_len;
	uint8_t *data; /* MODEL_DATA_MAX bytes */
	size_t data_len;
};

struct held_map {
	uint8_t *addr; /* NULL: none */
	size_t len;
	int fd; /* a duplicate, for the size */
	bool shared;
};

struct side {
	char label; /* 'A' or 'B' */
	const char *top;
	char dir[4096]; /* of this sequence, absolute */
	int dir_fd;
	int fd[MODEL_SLOTS]; /* -1: none */
	struct held_map map[MODEL_MAPS];
};

struct model_config {
	const char *a, *b;
	uint64_t seed;
	uint64_t n_seeds;
	unsigned n_ops;
	unsigned compare_every;
	const char *hook;   /* command, or NULL */
	const char *events; /* comma-separated */
	unsigned hook_every;
	bool verbose;
	bool keep;
	bool shrink;
	bool root_only;
	const char *without; /* kinds of operation to leave out, comma-separated */
	/*
	 * In cache mode `shared` a file that is open to be read keeps its content when
	 * another open writes: such descriptors go when anything is opened to write.
	 */
	bool readers_leave;
};

/* The generator and what it believes to exist (side B's results tell). */
struct live_path {
	char *path; /* owned */
	char type;  /* 'f' file, 'd' directory, 'l' symlink, 'o' other */
};
struct gen {
	uint64_t rng;
	struct live_path *live;
	size_t n_live, cap_live;
	bool root_only;
	int slot_kind[MODEL_SLOTS]; /* 0 closed, 'f', 'd' */
	const char *without;
};

typedef void (*gen_fn)(struct gen *g, struct op *op);
typedef void (*exec_fn)(struct side *s, const struct op *op, struct result *r);

struct op_type {
	const char *name;
	unsigned weight;
	gen_fn gen;
	exec_fn exec;
	const char *shows; /* fields that describe it, see op_describe() */
};
/* Ends with a type without name. */
extern const struct op_type op_types[];

/* --- gen.c --- */
void gen_init(struct gen *g, uint64_t seed, const struct model_config *cfg);
void gen_fini(struct gen *g);
void gen_op(struct gen *g, struct op *op);
/* Learn from side B's result. */
void gen_learn(struct gen *g, const struct op *op, const struct result *r);
uint64_t gen_rnd(struct gen *g, uint64_t n);
bool gen_chance(struct gen *g, unsigned percent);
enum gen_want { WANT_ANY, WANT_FILE, WANT_DIR, WANT_NEW };
void gen_path(struct gen *g, char *out, enum gen_want want);

/* gen_op.c: one a kind of operation. */
void gen_open(struct gen *g, struct op *op);
void gen_tmpfile(struct gen *g, struct op *op);
void gen_slot(struct gen *g, struct op *op);
void gen_range(struct gen *g, struct op *op);
void gen_fallocate(struct gen *g, struct op *op);
void gen_copy(struct gen *g, struct op *op);
void gen_lseek(struct gen *g, struct op *op);
void gen_size(struct gen *g, struct op *op);
void gen_map(struct gen *g, struct op *op);
void gen_path_any(struct gen *g, struct op *op);
void gen_path_file(struct gen *g, struct op *op);
void gen_path_dir(struct gen *g, struct op *op);
void gen_path_new(struct gen *g, struct op *op);
void gen_link(struct gen *g, struct op *op);
void gen_linkfd(struct gen *g, struct op *op);
void gen_symlink(struct gen *g, struct op *op);
void gen_rename(struct gen *g, struct op *op);
void gen_mknod(struct gen *g, struct op *op);
void gen_chmod(struct gen *g, struct op *op);
void gen_chown(struct gen *g, struct op *op);
void gen_utimes(struct gen *g, struct op *op);
void gen_xattr(struct gen *g, struct op *op);
void gen_acl(struct gen *g, struct op *op);
void gen_write_file(struct gen *g, struct op *op);

/* --- exec_path.c --- */
void exec_unlink(struct side *s, const struct op *op, struct result *r);
void exec_rmdir(struct side *s, const struct op *op, struct result *r);
void exec_mkdir(struct side *s, const struct op *op, struct result *r);
void exec_mknod(struct side *s, const struct op *op, struct result *r);
void exec_link(struct side *s, const struct op *op, struct result *r);
void exec_symlink(struct side *s, const struct op *op, struct result *r);
void exec_readlink(struct side *s, const struct op *op, struct result *r);
void exec_rename(struct side *s, const struct op *op, struct result *r);
void exec_chmod(struct side *s, const struct op *op, struct result *r);
void exec_chown(struct side *s, const struct op *op, struct result *r);
void exec_utimes(struct side *s, const struct op *op, struct result *r);
void exec_truncate(struct side *s, const struct op *op, struct result *r);
void exec_stat(struct side *s, const struct op *op, struct result *r);
void exec_access(struct side *s, const struct op *op, struct result *r);
void exec_statfs(struct side *s, const struct op *op, struct result *r);
void exec_read_file(struct side *s, const struct op *op, struct result *r);
void exec_write_file(struct side *s, const struct op *op, struct result *r);
void exec_handle(struct side *s, const struct op *op, struct result *r);

/* --- exec_fd.c --- */
void exec_open(struct side *s, const struct op *op, struct result *r);
void exec_tmpfile(struct side *s, const struct op *op, struct result *r);
void exec_linkfd(struct side *s, const struct op *op, struct result *r);
void exec_close(struct side *s, const struct op *op, struct result *r);
void exec_read(struct side *s, const struct op *op, struct result *r);
void exec_write(struct side *s, const struct op *op, struct result *r);
void exec_pread(struct side *s, const struct op *op, struct result *r);
void exec_pwrite(struct side *s, const struct op *op, struct result *r);
void exec_lseek(struct side *s, const struct op *op, struct result *r);
void exec_ftruncate(struct side *s, const struct op *op, struct result *r);
void exec_fallocate(struct side *s, const struct op *op, struct result *r);
void exec_copy(struct side *s, const struct op *op, struct result *r);
void exec_fsync(struct side *s, const struct op *op, struct result *r);
void exec_fdatasync(struct side *s, const struct op *op, struct result *r);
void exec_syncfs(struct side *s, const struct op *op, struct result *r);
void exec_fstat(struct side *s, const struct op *op, struct result *r);
void exec_fchmod(struct side *s, const struct op *op, struct result *r);
void exec_fchown(struct side *s, const struct op *op, struct result *r);
void exec_seek_holes(struct side *s, const struct op *op, struct result *r);

/* --- exec_map.c --- */
void exec_map(struct side *s, const struct op *op, struct result *r);
void exec_map_write(struct side *s, const struct op *op, struct result *r);
void exec_map_read(struct side *s, const struct op *op, struct result *r);
void exec_msync(struct side *s, const struct op *op, struct result *r);
void exec_unmap(struct side *s, const struct op *op, struct result *r);

/* --- exec_xattr.c --- */
void exec_setxattr(struct side *s, const struct op *op, struct result *r);
void exec_getxattr(struct side *s, const struct op *op, struct result *r);
void exec_listxattr(struct side *s, const struct op *op, struct result *r);
void exec_removexattr(struct side *s, const struct op *op, struct result *r);
void exec_fsetxattr(struct side *s, const struct op *op, struct result *r);
void exec_setacl(struct side *s, const struct op *op, struct result *r);

/* --- exec_dir.c --- */
void exec_readdir(struct side *s, const struct op *op, struct result *r);
void exec_dirstream(struct side *s, const struct op *op, struct result *r);

/* --- run.c --- */
int side_open(struct side *s, const char *top, const char *name);
/* Close everything that is open below the sequence's directory. */
void side_close_files(struct side *s);
/* Close files that are open to be read alone, and maps of such. */
void side_close_readers(struct side *s);
/* Have what was written to held maps written back. */
void side_sync_maps(struct side *s);
void side_close(struct side *s);
/* Open the directory again after side_close_files() and side_close_dir(). */
void side_close_dir(struct side *s);
int side_reopen_dir(struct side *s);

struct result *result_new(void);
void result_free(struct result *r);
DEFINE_CLEANUP(struct result *, result_free)
/* Sets ret and, where ret is -1, err from errno. */
void result_set(struct result *r, long ret);
void result_text(struct result *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void result_fault(struct result *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Adds the attributes of a path, or of an open file, to the text. */
void result_stat_path(struct result *r, int at_fd, const char *path);
void result_stat_fd(struct result *r, int fd);
/* The attributes that are compared, as text. */
void stat_describe(const struct stat *st, char *out, size_t cap);

int side_at(const struct side *s, const struct op *op);
int side_fd(const struct side *s, int slot);
void cred_enter(int cred);
void cred_leave(void);
unsigned cred_uid(int cred);
/* The bytes that an operation writes. */
void data_fill(uint32_t seed, uint8_t *out, size_t len);
void op_describe(const struct op *op, char *out, size_t cap);
/* Run an operation on one side. */
void op_run(struct side *s, const struct op *op, struct result *r);
/* True where the results agree; else prints both. */
bool op_agree(const struct op *op, const struct result *a, const struct result *b, FILE *out);

/* --- compare.c --- */
/* Compare two trees; prints the first differences to out. 0 equal, 1 not. */
int tree_compare(const char *a, const char *b, FILE *out);
/* All attributes of a tree but atime, as text to be freed. */
char *tree_list(const char *dir);
/* 0, or 1 after the lines that differ were printed. */
int tree_list_differs(char *before, char *after, FILE *out);
/* Times outside the test's own time are compared; this is when it began. */
void model_set_since(time_t since);
time_t model_since(void);

/* --- shrink.c --- */
/*
 * Runs ops[0..n) in fresh directories, without those whose skip[] is set.
 * 0 where the sides agree, 1 where not, -errno. The position of the difference in
 * *out_at (n: found by comparing the trees at the end).
 */
typedef int (*replay_fn)(void *arg, const struct op *ops, const bool *skip, size_t n,
			 size_t *out_at);
/* Drop every operation that the difference does not need; clears nothing that it does. */
void shrink_ops(struct op *ops, bool *skip, size_t n, replay_fn replay, void *arg);

#endif
