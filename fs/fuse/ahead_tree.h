/*
 * ahead_tree.h - loads the nodes that a walk of a tree is about to need.
 *
 * A program that lists a directory whose nodes had to be read from the database
 * mostly lists those below it next (find, tar, git, a package manager). So a
 * thread walks ahead from there in the order of the listing, and leaves the
 * nodes in their cache: the disk gets two requests at a time, and decoding
 * another core. It is only a hint, as in ahead.h.
 */
#ifndef VARVE_FS_AHEAD_TREE_H
#define VARVE_FS_AHEAD_TREE_H

#include "store/tree/tree_fs.h"

/*
 * Load the nodes that a walk of the directory needs, with the attributes of
 * each name, within a bound.
 */
void ahead_tree(const struct tree_fs *base, uint64_t dir);

#endif
