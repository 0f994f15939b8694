/*
 * ahead_tree.h - the nodes that a walk of a tree is about to need.
 *
 * A program that lists a directory whose nodes had to be read from the
 * database mostly lists those below it next (find, tar, git, a package
 * manager). So a thread walks on from there in the order of the listing, and
 * leaves the nodes in their cache: the disk has two requests at a time, and
 * decoding another core. It is a hint, as ahead.h.
 */
#ifndef VARVE_FS_AHEAD_TREE_H
#define VARVE_FS_AHEAD_TREE_H

#include "store/tree/tree_fs.h"

/* Load what a walk of the directory, with the attributes of each name, needs: within a bound. */
void ahead_tree(const struct tree_fs *base, uint64_t dir);

#endif
