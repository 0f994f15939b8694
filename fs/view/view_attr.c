#include "fs/view/view_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/view/acl.h"

static int getattr(struct view *v, uint64_t ino, struct view_attr *out)
{
	struct view_lock l;
	struct view_rec rec;
	int r;

	view_lock(v, &l, false, 1, &ino);
	r = view_rec_locked(v, ino, &rec);
	if (!r) {
		out->ino = ino;
		out->rec = rec.rec;
		out->rec.target = NULL;
	}
	view_rec_fini(&rec);
	view_unlock(v, &l);
	return r;
}

int view_getattr(struct view *v, uint64_t ino, struct view_attr *out)
{
	unsigned looks = 0;
	int r;

	do {
		view_look(looks);
		r = getattr(v, ino, out);
	} while (view_look_again(v, &looks, r));
	return r;
}

static int get_target(struct view *v, uint64_t ino, struct buf *out)
{
	struct view_lock l;
	struct view_rec rec;
	int r;

	view_lock(v, &l, false, 1, &ino);
	r = view_rec_locked(v, ino, &rec);
	if (!r)
		r = S_ISLNK(rec.rec.mode) ? buf_append(out, rec.rec.target, rec.rec.target_len)
					  : -EINVAL;
	view_rec_fini(&rec);
	view_unlock(v, &l);
	return r;
}

int view_readlink(struct view *v, uint64_t ino, struct buf *out)
{
	unsigned looks = 0;
	int r;

	do {
		view_look(looks);
		r = get_target(v, ino, out);
	} while (view_look_again(v, &looks, r));
	return r;
}

/* chmod also changes the access ACL, if there is one. */
static void chmod_acl(struct view *v, struct upper_tx *tx, struct unode *u, uint32_t mode)
{
	struct view_value x;
	struct subkey k;
	int r;

	subkey_xattr(&k, ACL_XATTR_ACCESS, strlen(ACL_XATTR_ACCESS));
	r = view_value_locked(v, u->ino, &k, &x);
	if (!r) {
		struct buf acl CLEANUP(buf_fini_p) = BUF_INIT;

		r = buf_append(&acl, x.data, x.len);
		if (!r) {
			acl_chmod(acl.data, acl.len, mode);
			upper_tx_put(tx, u, &k, acl.data, acl.len);
		}
	}
	view_value_fini(&x);
	if (r && r != -ENOENT)
		tx->error = r;
}

static void apply_set(struct view *v, struct upper_tx *tx, struct unode *u, struct inode_rec *rec,
		      const struct view_setattr *set)
{
	struct timespec now = view_now();

	if (set->valid & VIEW_KILL_SUIDGID)
		rec->mode = mode_without_suid(rec->mode, set->valid & VIEW_KILL_SGID);
	if (set->valid & VIEW_SET_MODE) {
		rec->mode = (rec->mode & S_IFMT) | (set->mode & 07777);
		chmod_acl(v, tx, u, rec->mode);
	}
	if (set->valid & VIEW_SET_UID)
		rec->uid = set->uid;
	if (set->valid & VIEW_SET_GID)
		rec->gid = set->gid;
	if ((set->valid & (VIEW_SET_UID | VIEW_SET_GID | VIEW_SET_SIZE)) && !S_ISDIR(rec->mode))
		view_kill_caps_tx(v, tx, u);
	if (set->valid & VIEW_SET_SIZE) {
		view_truncate_tx(v, tx, u, rec, set->size);
		rec->mtime = now;
	}
	if (set->valid & VIEW_SET_ATIME)
		rec->atime = set->atime;
	if (set->valid & VIEW_SET_MTIME)
		rec->mtime = set->mtime;
	rec->ctime = now;
}

static int setattr_locked(struct view *v, uint64_t ino, const struct view_setattr *set,
			  struct view_attr *out)
{
	struct view_rec rec;
	struct upper_tx tx;
	int r = view_rec_locked(v, ino, &rec);

	if (r)
		return r;
	if ((set->valid & VIEW_SET_SIZE) && !S_ISREG(rec.rec.mode)) {
		r = S_ISDIR(rec.rec.mode) ? -EISDIR : -EINVAL;
		goto out;
	}
	if ((set->valid & VIEW_SET_SIZE) && set->size > INT64_MAX) {
		r = -EFBIG;
		goto out;
	}
	struct unode *u = upper_get(v->cur, ino);

	if (!u) {
		r = -ENOMEM;
		goto out;
	}
	view_tx_begin(v, &tx);
	apply_set(v, &tx, u, &rec.rec, set);
	upper_tx_rec(&tx, u, &rec.rec);
	r = upper_tx_commit(&tx);
	upper_tx_end(&tx);
	out->ino = ino;
	out->rec = rec.rec;
	out->rec.target = NULL;
out:
	view_rec_fini(&rec);
	return r;
}

int view_setattr(struct view *v, uint64_t ino, const struct view_setattr *set,
		 struct view_attr *out)
{
	struct view_lock l;
	unsigned looks = 0;
	int r;

	do {
		view_look(looks);
		view_lock(v, &l, true, 1, &ino);
		r = setattr_locked(v, ino, set, out);
		view_unlock(v, &l);
	} while (view_look_again(v, &looks, r));
	return r;
}
