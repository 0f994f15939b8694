/* tree_fixture.h - a node store in a temporary database, for the tests of trees. */
#ifndef VARVE_TEST_TREE_FIXTURE_H
#define VARVE_TEST_TREE_FIXTURE_H

#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/chunk/guard.h"
#include "store/kv/kv.h"
#include "store/tree/node_store.h"
#include "store/tree/tree.h"

struct fixture {
	char dir[64];
	struct kv *kv;
	struct guard *guard;
	struct node_store *ns;
};

static inline void fixture_reopen_nodes(struct fixture *f, size_t cache_bytes)
{
	node_store_free(f->ns);
	f->ns = node_store_new(f->kv, f->guard, 1, cache_bytes);
	assert_non_null(f->ns);
}

static inline void fixture_open_kv(struct fixture *f)
{
	struct error err = ERROR_INIT;
	struct kv_options opt = { .mode = KV_READ_WRITE };
	if (kv_open(f->dir, &opt, &f->kv, &err) < 0)
		fail_msg("kv_open: %s", error_text(&err));
}

static inline void fixture_open(struct fixture *f, size_t cache_bytes)
{
	memset(f, 0, sizeof(*f));
	const char *tmp = getenv("TMPDIR");
	snprintf(f->dir, sizeof(f->dir), "%s/varve-tree-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	fixture_open_kv(f);
	f->guard = guard_new();
	assert_non_null(f->guard);
	fixture_reopen_nodes(f, cache_bytes);
}

static inline int fixture_remove_one(const char *path, const struct stat *st, int type,
				     struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void fixture_close(struct fixture *f)
{
	node_store_free(f->ns);
	guard_free(f->guard);
	kv_close(f->kv);
	assert_int_equal(nftw(f->dir, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* xorshift64*: the same numbers on every run. */
static inline uint64_t rnd(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static inline uint64_t rnd_below(uint64_t *state, uint64_t n)
{
	return (rnd(state) >> 11) % n;
}

static inline double now_s(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* How much work the randomised tests do: VARVE_TEST_ROUNDS=10 does ten times as much. */
static inline unsigned test_scale(void)
{
	const char *s = getenv("VARVE_TEST_ROUNDS");
	int n = s ? atoi(s) : 1;
	return n > 0 ? (unsigned)n : 1;
}

/* Key number i of a filesystem-like sequence: inode, kind, sub-key. */
static inline size_t fs_key(uint64_t i, uint8_t key[17])
{
	for (int b = 0; b < 8; b++)
		key[b] = (uint8_t)((i / 3) >> (56 - 8 * b));
	key[8] = (uint8_t)(i % 3);
	if (i % 3 == 0)
		return 9;
	uint64_t sub = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
	for (int b = 0; b < 8; b++)
		key[9 + b] = (uint8_t)(sub >> (56 - 8 * b));
	return 17;
}

#endif
