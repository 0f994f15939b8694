/*
 * verify_internal.h - what the files behind verify.h share. They call in the order of the sections
 * below, from the last to the first; verify.c calls all of them.
 */
#ifndef VARVE_VERIFY_INTERNAL_H
#define VARVE_VERIFY_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/pool.h"
#include "store/chunk/digest_set.h"
#include "store/gc/verify.h"

struct verify {
	struct store *s;
	struct progress *p;
	verify_report_fn fn;
	void *arg;
	struct verify_result res; /* chunks and bytes: guarded by lock, while the pool works */
	struct digest_set nodes;  /* looked at */
	struct digest_set chunks; /* looked at, or about to be; see chunk_mark() */
	struct digest_set bad_nodes;
	struct pool *pool;
	pthread_mutex_t lock;
	/* guarded by lock, while the pool works: */
	struct digest_set bad_chunks; /* see chunk_mark() */
	int failure;		      /* what kept a worker from checking */
};

/* ---- reports and progress (verify_report.c) ---- */

/* One problem. path may be NULL. */
void verify_report(struct verify *v, const char *snapshot, const char *path, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
/* "is missing", "is damaged", ...; for a failure of reading something. */
const char *verify_reason(int rc);
/* True if a failure says something about the store, not about this process. */
bool verify_is_damage(int rc);
void verify_phase(struct verify *v, const char *name, uint64_t total);
/* One item is done. 0, or -ECANCELED. */
MUST_CHECK int verify_step(struct verify *v);

/* ---- content: hashes of nodes and chunks, each once (verify_content.c) ---- */

/*
 * The entry for a chunk of this length in the sets of chunks. So an extent that
 * gives a chunk another length than other extents do is checked separately.
 */
struct digest chunk_mark(const struct digest *d, uint32_t len);
/* Nodes and chunks below root. Problems are remembered, not reported. */
MUST_CHECK int verify_content(struct verify *v, const struct digest *root);
/* Wait for the chunks that are under way. */
MUST_CHECK int verify_content_end(struct verify *v);
/* Nodes and chunks that no tree has led to; reports. */
MUST_CHECK int verify_unreferenced(struct verify *v);

/* ---- one tree: its keys in order (verify_scan.c) ---- */

/* An inode, in a table by number. */
struct seen_inode {
	uint64_t ino;
	uint32_t nlink;	 /* its record says */
	uint32_t names;	 /* found for it in directories */
	uint32_t parent; /* directories: index of the one above */
	uint8_t type;	 /* DT_* */
	uint8_t walk;	 /* for the search for rings: 0 unknown, 1 on the way, 2 below the root */
};
#define SEEN_NONE UINT32_MAX

struct tree_check {
	struct verify *v;
	struct tree_fs fs;
	const char *label; /* the snapshot's */
	uint64_t problems;
	/* Some nodes are damaged: counts are not compared, and what is missing is not reported. */
	bool incomplete;
	struct buf inodes; /* struct seen_inode */

	/* The inode whose keys are being read; index in inodes is inode_count - 1 in pass one. */
	uint64_t ino; /* 0: none yet */
	bool has_record;
	struct inode_rec rec; /* target is not kept */
	uint32_t index;	      /* pass two: of ino in inodes */
	uint64_t extent_end, extent_bytes;
	uint64_t bad_extents;
	char bad_extent[128]; /* the first of them, in words */
	uint64_t backrefs, subdirs;

	/* Of the tree. */
	bool has_super;
	struct super_rec super;
	uint64_t data_bytes, max_ino;
};

/* Report a problem of an inode (by its path if it has one), or of the tree (ino 0). */
void tree_problem(struct tree_check *t, uint64_t ino, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Call fn for every key in order, passing over damaged nodes (report: as problems). */
typedef int (*tree_scan_fn)(struct tree_check *t, const struct key_parts *key, const uint8_t *val,
			    size_t vlen);
MUST_CHECK int tree_scan(struct tree_check *t, tree_scan_fn fn, bool report);

/* ---- its structure (verify_links.c, verify_tree.c) ---- */

/* Pass two: names against inodes. */
MUST_CHECK int tree_check_links(struct tree_check *t);
/* Pass one, then pass two. */
MUST_CHECK int verify_tree(struct verify *v, const struct digest *root, const char *label,
			   uint64_t *out_problems);

#endif
