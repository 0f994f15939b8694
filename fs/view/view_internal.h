/* view_internal.h - what the files of the view share. Stripes are held for all of it. */
#ifndef VARVE_FS_VIEW_INTERNAL_H
#define VARVE_FS_VIEW_INTERNAL_H

#include "fs/view/view.h"
#include "store/base/wire.h"

/* May the kernel know the inode? It says when it no longer does. */
static inline bool view_is_known(const struct view *v, uint64_t ino)
{
	return v->others_told || live_count(v->live, ino) > 0;
}

/* out->name is not set. 0, -ENOENT. */
MUST_CHECK int names_find(struct view *v, uint64_t dir, const char *name, size_t len,
			  struct dirent_rec *out);
/* Add or replace, delete a name of du. */
MUST_CHECK int names_put(struct view *v, struct upper_tx *tx, struct unode *du,
			 const struct dirent_rec *e);
MUST_CHECK int names_del(struct view *v, struct upper_tx *tx, struct unode *du, const char *name,
			 size_t len);
/* 1 empty, 0 not. */
MUST_CHECK int names_dir_empty(struct view *v, uint64_t dir);
/*
 * Take the name (dir, name) from the inode: its record is staged with the links
 * that are left. -ENOTEMPTY for a directory that has entries.
 */
MUST_CHECK int names_victim(struct view *v, struct upper_tx *tx, struct unode *u,
			    struct inode_rec *rec, uint64_t dir, const char *name, size_t len);
/* Count a link in or out, and keep record and backrefs in step; rec is not staged. */
MUST_CHECK int links_add(struct view *v, struct upper_tx *tx, struct unode *u,
			 struct inode_rec *rec, uint64_t dir, const char *name, size_t len);
MUST_CHECK int links_del(struct view *v, struct upper_tx *tx, struct unode *u,
			 struct inode_rec *rec, uint64_t dir, const char *name, size_t len);
/* Append the name of ino in dir, given the name's hash. -ENOENT. */
MUST_CHECK int links_name_of(struct view *v, uint64_t dir, uint64_t hash, uint64_t ino,
			     struct buf *out);
/* A directory that can take names. -ENOTDIR; -ENOENT if it is deleted. */
MUST_CHECK int dir_rec_locked(struct view *v, uint64_t dir, struct view_rec *out);

/* True if there was one. The transaction keeps a failure. */
bool view_del_xattr_tx(struct view *v, struct upper_tx *tx, struct unode *u, const char *name);
#define XATTR_CAPS "security.capability"
/* Drop security.capability if the inode has one. */
void view_kill_caps_tx(struct view *v, struct upper_tx *tx, struct unode *u);
/*
 * A file's mode without setuid, and without setgid if the group may execute it
 * or any_sgid is set.
 */
uint32_t mode_without_suid(uint32_t mode, bool any_sgid);

#endif
