/*
 * posixset.h - a compact set of POSIX and Linux behaviours that a mount must
 * have as ext4 has them. It passes on ext4, and runs there to check itself.
 *
 * A case is a function that runs in a child process, as root, in an empty
 * directory of its own on the filesystem under test.
 */
#ifndef VARVE_TESTS_POSIXSET_H
#define VARVE_TESTS_POSIXSET_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/base/macros.h"

enum { CASE_PASS = 0, CASE_FAIL = 1, CASE_SKIP = 77 };

struct posix_case {
	const char *name;
	int (*run)(void);
};
/* An entry named for its function. */
#define CASE(fn)        \
	{               \
#fn, fn \
	}
/* Each ends with an entry without name. */
extern const struct posix_case names_cases[], attrs_cases[], data_cases[], dirs_cases[],
	locks_cases[];

/* Print what failed, with errno, to stdout; CASE_FAIL. */
int case_failed(const char *file, int line, const char *what);
#define CHECK(x)                                                    \
	do {                                                        \
		errno = 0;                                          \
		if (!(x))                                           \
			return case_failed(__FILE__, __LINE__, #x); \
	} while (0)
/* The call fails with the errno. */
#define CHECK_ERR(x, e)                                                               \
	do {                                                                          \
		errno = 0;                                                            \
		if ((x) != -1 || errno != (e))                                        \
			return case_failed(__FILE__, __LINE__, #x " fails with " #e); \
	} while (0)

/* Make a file with these bytes. */
bool put_file(const char *path, const void *data, size_t len);
bool put_text(const char *path, const char *text);
/* The file has exactly these bytes. */
bool has_text(const char *path, const char *text);
bool file_is(const char *path, const void *data, size_t len);
/* Bytes that do not repeat. */
void fill(uint32_t seed, void *out, size_t len);
struct stat stat_of(const char *path);
mode_t mode_of(const char *path);

/* Run fn as another user, in a child; its result. */
int as_user(unsigned uid, unsigned gid, int (*fn)(void));

/* Sleep until a coarse clock must have moved. */
void tick(void);
int64_t ns(struct timespec t);

#endif
