/* view_internal.h - what the files of the view share. Stripes are held for all of it. */
#ifndef VARVE_FS_VIEW_INTERNAL_H
#define VARVE_FS_VIEW_INTERNAL_H

#include "fs/view/view.h"
#include "store/base/wire.h"

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
 * The inode loses the name (dir, name): its record is staged with what is left
 * of its links. -ENOTEMPTY for a directory that has entries.
 */
MUST_CHECK int names_victim(struct view *v, struct upper_tx *tx, struct unode *u,
			    struct inode_rec *rec, uint64_t dir, const char *name, size_t len);
/* Count a link in or out, and keep record and backrefs in step; rec is not staged. */
MUST_CHECK int links_add(struct view *v, struct upper_tx *tx, struct unode *u,
			 struct inode_rec *rec, uint64_t dir, const char *name, size_t len);
MUST_CHECK int links_del(struct view *v, struct upper_tx *tx, struct unode *u,
			 struct inode_rec *rec, uint64_t dir, const char *name, size_t len);
/* Append the name by which dir calls ino, where its hash is known. -ENOENT. */
MUST_CHECK int links_name_of(struct view *v, uint64_t dir, uint64_t hash, uint64_t ino,
			     struct buf *out);
/* A directory that can take names: -ENOTDIR, -ENOENT where it is deleted. */
MUST_CHECK int dir_rec_locked(struct view *v, uint64_t dir, struct view_rec *out);

/* True where there was one; a failure is the transaction's. */
bool view_del_xattr_tx(struct view *v, struct upper_tx *tx, struct unode *u, const char *name);
#define XATTR_CAPS "security.capability"
/* Drop security.capability where the inode has one. */
void view_kill_caps_tx(struct view *v, struct upper_tx *tx, struct unode *u);
/* A file's mode without setuid, and without setgid where it is executable or any_sgid. */
uint32_t mode_without_suid(uint32_t mode, bool any_sgid);

#endif
