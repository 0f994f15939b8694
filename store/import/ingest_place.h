/*
 * ingest_place.h - where an archive's entry goes in the namespace. Private to
 * ingest*.c.
 *
 * One rule for plain archives and OCI layers: the path of an entry's directory is
 * resolved inside the tree as imported so far. A symlink on the way is followed
 * with the archive's root as "/", and ".." in its target stops there, so no path
 * leads outside. Missing directories on the way are made: mode 0755, owned by
 * root.
 */
#ifndef VARVE_INGEST_PLACE_H
#define VARVE_INGEST_PLACE_H

#include "store/import/ingest_internal.h"

/*
 * The directory that holds the last component of a clean path (archive_path.h,
 * not empty), and that component, which lives in path. make: create what is
 * missing (new names get this layer). -ENOENT (not make), -ENOTDIR, -ELOOP
 * (more than 40 symlinks), -ENAMETOOLONG, or a failure of ingest_count_entry.
 */
MUST_CHECK int ingest_place(struct ingest *in, const char *path, size_t path_len, bool make,
			    uint16_t layer, struct ingest_inode **out_dir, const char **out_name,
			    size_t *out_len);

/*
 * OCI: take away what layers below `layer` put at this name, or (opaque) in this
 * directory. What this layer itself has put there stays.
 */
MUST_CHECK int ingest_hide_name(struct ingest *in, struct ingest_name *n, uint16_t layer);
MUST_CHECK int ingest_hide_children(struct ingest *in, struct ingest_inode *dir, uint16_t layer);

#endif
