/* check_tree.h - what was imported must verify. */
#ifndef VARVE_FUZZ_CHECK_TREE_H
#define VARVE_FUZZ_CHECK_TREE_H

#include "store/gc/verify.h"
#include "tests/fuzz/fuzz.h"

static inline void print_problem(void *arg, const char *snapshot, const char *path,
				 const char *problem)
{
	(void)arg;
	fprintf(stderr, "%s: %s: %s\n", snapshot, path, problem);
}

static inline void check_tree(struct store *s, const struct digest *root)
{
	struct snapshot snap = { .name = "fuzz", .status = SNAPSHOT_READY, .has_root = true };
	struct verify_result result = { 0 };
	struct error err = ERROR_INIT;

	snap.root = *root;
	MUST(snapshots_put(s->snapshots, &snap, NULL, &err) == 0);
	MUST(verify_run(s, "fuzz", NULL, print_problem, NULL, &result, &err) == 0);
	MUST(result.damaged == 0);
	MUST(snapshots_delete(s->snapshots, "fuzz", &err) == 0);
	snapshot_fini(&snap);
}

#endif
