/*
 * crash.h - load on a mount that records what must survive, and the check.
 *
 * Each thread works in a directory of its own and writes a log of its own,
 * outside the mount: a line before each operation ("B ...") and one after it
 * returned ("D"). From the log alone the check knows, after the daemon was
 * killed, what must be there:
 *   - every completed operation on metadata (create, rename, unlink, truncate,
 *     chmod, ...): they are requests that the daemon has answered;
 *   - file contents as of the last completed fsync or fdatasync; what was
 *     written later may be there or not, page by page;
 *   - of the one operation that had begun but not returned, all or nothing.
 * Each page of a file says what it is (file, page, version) and has a checksum,
 * so a page of another file, a stale or torn one is told apart.
 */
#ifndef VARVE_TESTS_CRASH_H
#define VARVE_TESTS_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "store/base/macros.h"

#define CRASH_PAGE 4096u
#define CRASH_PAGES 96u /* most of a file */
#define CRASH_OBJECTS 64
#define CRASH_NAMES 64
#define CRASH_NAME 48

/*
 * c create a (object v)   w write n pages of a from `page`, version v
 * s fsync a               y fdatasync a           t truncate a to n pages
 * r rename a to b         x exchange a and b      u unlink a
 * l link a as b           m mkdir a               k rmdir a
 * h chmod a to mode n     v setxattr of a to v    z symlink a to b
 */
struct crash_op {
	char kind;
	char a[CRASH_NAME], b[CRASH_NAME];
	unsigned page, n;
	uint64_t v;
};

struct crash_object {
	uint64_t id; /* 0: free */
	char type;   /* 'f', 'd', 'l' */
	unsigned nlink;
	unsigned mode;
	uint64_t xattr;		     /* 0: none */
	char target[CRASH_NAME];     /* symlink */
	unsigned size_min, size_max; /* in pages */
	uint64_t synced[CRASH_PAGES], latest[CRASH_PAGES];
};

/* What a thread's directory should hold. */
struct crash_state {
	struct crash_object objects[CRASH_OBJECTS];
	struct {
		char name[CRASH_NAME]; /* "": free */
		unsigned object;
	} names[CRASH_NAMES];
};

/* --- state.c --- */
/* The name's index, or -1. */
int crash_find(const struct crash_state *s, const char *name);
/* The effect of a completed operation. false where the log makes no sense. */
bool crash_apply(struct crash_state *s, const struct crash_op *op);
/* Directories that hold names cannot be removed. */
bool crash_dir_is_empty(const struct crash_state *s, const char *name);
void crash_op_print(const struct crash_op *op, char *out, size_t cap);
bool crash_op_parse(const char *line, struct crash_op *op);

void crash_page_fill(uint8_t *page, uint64_t object, unsigned index, uint64_t version);
enum crash_page { PAGE_GOOD, PAGE_ZERO, PAGE_BAD };
/* Version in *out_version where PAGE_GOOD. */
enum crash_page crash_page_check(const uint8_t *page, uint64_t object, unsigned index,
				 uint64_t *out_version);

/* --- load.c --- */
struct crash_load {
	const char *dir; /* on the mount; made */
	const char *log;
	unsigned seconds;
	uint64_t seed;
	uint64_t ops_done;
	int err; /* errno that ended it; 0: the time was over */
	char what[256];
};
void *crash_load_thread(void *load);

/* --- check.c --- */
/* Problems found go to out; their count. */
unsigned crash_check(const char *dir, const char *log, FILE *out);

#endif
