/*
 * inspect.h - a snapshot opened to be looked into, for ls, cat, stat and so on,
 * and the walk over its files that they share.
 */
#ifndef VARVE_TOOLS_INSPECT_H
#define VARVE_TOOLS_INSPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/names/snapshot.h"
#include "store/remote/lazy_index.h"
#include "store/store.h"
#include "store/tree/tree_fs.h"
#include "tools/cli/cli.h"

struct inspect {
	struct store *store;
	struct lazy_index *index; /* borrowed: of what is in buckets alone */
	struct snapshot snap;
	struct tree_fs fs;
	const char *path; /* of SNAPSHOT:PATH, borrowed; "" where none */
	/* private: for inspect_stored, by family */
	struct kv_iter *heads[KV_FAMILY_COUNT];
};

/*
 * "SNAPSHOT" or "SNAPSHOT:PATH" (path_needed: -EINVAL without one) in the
 * store of cli_store. -EINVAL where it is not ready.
 */
MUST_CHECK int inspect_open(struct cli *cli, const char *spec, bool path_needed,
			    struct inspect *out, struct error *err);
void inspect_close(struct inspect *in);

/* One file: its number and record, pin keeps the record's target alive. */
struct inspect_file {
	uint64_t ino;
	struct inode_rec rec;
	struct tree_value pin;
};
/* Resolve in->path. follow: a symlink at its end too. */
MUST_CHECK int inspect_resolve(const struct inspect *in, bool follow, struct inspect_file *out,
			       struct error *err);
MUST_CHECK int inspect_load(const struct tree_fs *fs, uint64_t ino, struct inspect_file *out,
			    struct error *err);
void inspect_file_fini(struct inspect_file *f);

/* Put what a failure of the store means into err ("missing data", ...); returns r. */
int inspect_failure(int r, struct error *err, const char *what);

/* The names of a directory, sorted bytewise. */
struct inspect_name {
	uint64_t ino;
	uint8_t type; /* DT_* */
	uint8_t len;
	char name[]; /* NUL-terminated */
};
struct inspect_names {
	struct inspect_name **list;
	size_t count, cap;
};
MUST_CHECK int inspect_names_read(const struct tree_fs *fs, uint64_t dir, struct inspect_names *out,
				  struct error *err);
void inspect_names_fini(struct inspect_names *n);

/*
 * Visit the directory `dir` and, with `recurse`, all below it: fn gets each
 * directory once, before what is in it, with its names. path: from the start,
 * "" for dir itself, else "a/b". Non-zero from fn ends the walk.
 */
typedef int (*inspect_walk_fn)(void *arg, const char *path, uint64_t dir,
			       const struct inspect_names *names);
MUST_CHECK int inspect_walk(const struct tree_fs *fs, uint64_t dir, bool recurse,
			    inspect_walk_fn fn, void *arg, struct error *err);

/*
 * What a chunk or a node takes in the store, and its codec (codec.h). Does not
 * read it. -EREMOTE: it is in a bucket alone, and takes *out_bytes there;
 * -ENODATA: it is missing.
 */
MUST_CHECK int inspect_stored(struct inspect *in, enum kv_family family, const struct digest *d,
			      uint32_t *out_bytes, uint8_t *out_codec);

#endif
