/*
 * seal.h - turns a closed epoch into a tree: its data into chunks, its keys
 * into changes of the base. The mount works on meanwhile.
 */
#ifndef VARVE_FS_SEAL_H
#define VARVE_FS_SEAL_H

#include "fs/view/view.h"
#include "store/tree/file_chunks.h"

struct seal_result {
	struct digest root;
	struct super_rec super;
	uint64_t new_bytes; /* frames newly stored */
};

/*
 * Turn v->sealed over v->base into a tree. The caller makes sure that neither changes while this
 * runs, so no lock is taken. next_ino: as of the swap. The caller has a turn (seal_turns.h), is
 * inside a guard session, and flushes the store afterwards. Inodes without a name are left out.
 */
MUST_CHECK int seal_run(struct view *v, uint64_t next_ino, struct seal_result *out,
			struct error *err);

/* --- between seal.c and seal_file.c --- */

/* An extent of the new tree. */
struct seal_extent {
	uint64_t off;
	struct extent_rec rec; /* inline data is in `inline_data` */
	uint8_t inline_data[INLINE_MAX];
};

/* The change of one file's extents. */
struct seal_file_result {
	struct buf del;	     /* u64 offsets of base extents to delete */
	struct buf put;	     /* struct seal_put_head, then inline bytes */
	int64_t alloc_delta; /* bytes */
};
struct seal_put_head {
	uint64_t off;
	uint32_t len;
	uint32_t kind;
	struct digest digest;
};
void seal_file_result_fini(struct seal_file_result *r);
/*
 * Rechunk what changed of a regular file. base_size: 0 if the base does not
 * have it. fc's emit function must be seal_file_emit.
 */
MUST_CHECK int seal_file(struct view *v, struct file_chunks *fc, struct unode *u,
			 uint64_t base_size, uint64_t new_size, struct seal_file_result *out);
int seal_file_emit(void *arg, uint64_t offset, const struct extent_rec *e);
int seal_file_at_cut(void *arg, uint64_t offset);

#endif
