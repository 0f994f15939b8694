/*
 * shared_files.h - keeps files of base trees as real files, once for all
 * mounts.
 *
 * Owns a directory of a store, STATE/shared/, with one file for each content
 * that mounts of cache mode `shared` have asked for. A file is named by its key:
 * SHA-256 of its size and of its extents (where, how long, which chunk), so equal
 * files of different snapshots are one. FUSE passthrough (passthrough.h) then
 * gives all mounts the pages of this one.
 *
 * A background thread fills it. A caller who asks for a file that does not exist
 * yet gets NULL and reads the data in another way. When the directory's bytes
 * pass the limit, the files that are not in use go, least recently used first.
 * Nothing in it outlives the daemon: it is emptied at the start and at the end,
 * so a file that a crash left incomplete is never used.
 *
 * Thread-safe.
 */
#ifndef VARVE_FS_SHARED_FILES_H
#define VARVE_FS_SHARED_FILES_H

#include <stdint.h>

#include "store/store.h"

/*
 * Smaller files cost one page in each mount. Measured with 20 mounts in which a
 * Python program runs: page cache 73, 76 or 87 MB, and 203, 164 or 108 files, where
 * this is 1, 4096 or 16384 bytes; 440 MB when each mount has its own.
 */
#define SHARED_FILE_MIN 4096u
/* The default limit: this much, or a quarter of the free disk if that is less. */
#define SHARED_FILES_DEFAULT_BYTES (4ull << 30)

struct shared_files;
struct shared_file;

/* limit_bytes 0: the default. Borrows s. Errors are those of making a directory. */
MUST_CHECK int shared_files_open(struct store *s, uint64_t limit_bytes, struct shared_files **out,
				 struct error *err);
/* No file may be in use. Drops what is queued. NULL is accepted. */
void shared_files_close(struct shared_files *sf);

/*
 * The file with the content of a regular file of a tree, in use until
 * shared_files_put. NULL if there is none: then it is queued to be made, unless
 * it is too small, too large, or could not be made before. It never waits for a far source
 * (store/chunk/want.h): what it needs to tell the content is noted, with NULL; and a file whose
 * content is far away is not made, but a later call asks for it again. *out_key is the key in
 * any case; zeros: it is not known yet.
 */
struct shared_file *shared_files_get(struct shared_files *sf, const struct tree_fs *fs,
				     uint64_t ino, uint64_t size, struct digest *out_key);
void shared_files_put(struct shared_files *sf, struct shared_file *f);
/*
 * The tree `to` was made from the tree `from`: what is known of large files (whose keys the
 * thread computes, not an open) holds for both, except for those with changed(arg, ino).
 */
void shared_files_carry(struct shared_files *sf, const struct digest *from, const struct digest *to,
			bool (*changed)(void *arg, uint64_t ino), void *arg);
/* A new descriptor of a file in use, to read; or -errno. */
MUST_CHECK int shared_files_fd(struct shared_files *sf, const struct shared_file *f);

/* For statistics: an open of a shared file, or a file that was shared and no longer is. */
void shared_files_note(struct shared_files *sf, bool unshared);

/* How deep the directory's filesystem is stacked on others: 0, or 1 (overlayfs). */
unsigned shared_files_stacking(const struct shared_files *sf);

struct shared_files_stats {
	uint64_t files, bytes, limit_bytes; /* bytes on disk */
	uint64_t made, evicted, failed;	    /* since the start */
	uint64_t queued;
	uint64_t opens, unshared; /* as noted by mounts */
};
void shared_files_get_stats(struct shared_files *sf, struct shared_files_stats *out);
/* Wait until nothing is queued or being made. For tests. */
void shared_files_settle(struct shared_files *sf);

#endif
