/* verify.h - rehash everything and check every tree's structure. */
#ifndef VARVE_VERIFY_H
#define VARVE_VERIFY_H

#include "store/base/progress.h"
#include "store/store.h"

struct verify_result {
	uint64_t snapshots, trees, nodes, chunks; /* checked */
	uint64_t raw_bytes, stored_bytes;	  /* of distinct chunks reached */
	uint64_t
		far_chunks; /* distinct ones that are not here, but where the far source has them */
	uint64_t damaged;   /* problems reported */
};
/*
 * One problem, in words, with the snapshot and the path it concerns ("" if
 * none, as for an unreferenced chunk).
 */
typedef void (*verify_report_fn)(void *arg, const char *snapshot, const char *path,
				 const char *problem);
/*
 * Checks, for every snapshot (or only the named one; NULL all) and pinned tree:
 * node hashes and encoding, chunk hashes, records, extents within size and not
 * overlapping, nlink against names, every inode reachable exactly once as a
 * directory, parents and backrefs, super counts. Problems go to fn and are
 * counted; the result is 0 even then. It is a failure only if checking itself
 * could not go on.
 */
MUST_CHECK int verify_run(struct store *s, const char *name_or_id, struct progress *p,
			  verify_report_fn fn, void *arg, struct verify_result *out,
			  struct error *err);
#endif
