/*
 * Names: lookup, create, link, unlink, readdir.
 *
 * The kernel holds a directory's lock while it changes names in it, and the lock
 * of the inode that a name is taken from, so an operation first looks up what it
 * will touch, then takes the stripes of all of it in order, and looks again. If
 * the second answer differs (possible only by file handle), it starts over.
 */
#include "fs/view/view_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/view/acl.h"

#define LINK_MAX_COUNT 0x7fffffffu

int names_find(struct view *v, uint64_t dir, const char *name, size_t len, struct dirent_rec *out)
{
	struct view_value list;
	struct subkey k;
	int r;

	subkey_u64(&k, KEY_DIRENT, name_hash(name, len));
	r = view_value_locked(v, dir, &k, &list);
	if (!r)
		r = dirent_find(list.data, list.len, name, len, out);
	out->name = NULL; /* was borrowed from the list */
	view_value_fini(&list);
	return r;
}

static int set_list(struct view *v, struct upper_tx *tx, struct unode *du, const struct subkey *k,
		    const struct buf *list)
{
	if (list->len) {
		upper_tx_put(tx, du, k, list->data, list->len);
		return 0;
	}
	int below = view_below_has_locked(v, du->ino, k);

	if (below < 0)
		return below;
	upper_tx_del(tx, du, k, below);
	return 0;
}

int names_put(struct view *v, struct upper_tx *tx, struct unode *du, const struct dirent_rec *e)
{
	struct buf list CLEANUP(buf_fini_p) = BUF_INIT;
	struct view_value old;
	struct subkey k;
	int r;

	subkey_u64(&k, KEY_DIRENT, name_hash(e->name, e->name_len));
	r = view_value_locked(v, du->ino, &k, &old);
	if (r == 0 || r == -ENOENT)
		r = dirent_list_put(old.data, old.len, e, &list);
	view_value_fini(&old);
	return r ? r : set_list(v, tx, du, &k, &list);
}

int names_del(struct view *v, struct upper_tx *tx, struct unode *du, const char *name, size_t len)
{
	struct buf list CLEANUP(buf_fini_p) = BUF_INIT;
	struct view_value old;
	struct subkey k;
	int r;

	subkey_u64(&k, KEY_DIRENT, name_hash(name, len));
	r = view_value_locked(v, du->ino, &k, &old);
	if (!r)
		r = dirent_list_del(old.data, old.len, name, len, &list);
	view_value_fini(&old);
	return r ? r : set_list(v, tx, du, &k, &list);
}

int dir_rec_locked(struct view *v, uint64_t dir, struct view_rec *out)
{
	int r = view_rec_locked(v, dir, out);

	if (r)
		return r;
	if (!S_ISDIR(out->rec.mode))
		return -ENOTDIR;
	return out->rec.nlink == 0 ? -ENOENT : 0;
}

/* The kernel lets longer names through. */
static int check_len(size_t len)
{
	return len > NAME_LEN_MAX ? -ENAMETOOLONG : 0;
}

static int look_up_ino(struct view *v, uint64_t dir, const char *name, size_t len,
		       uint64_t *out_ino)
{
	struct dirent_rec e = { 0 };
	struct view_lock l;
	unsigned looks = 0;
	int r;

	do {
		view_look(looks);
		view_lock(v, &l, false, 1, &dir);
		r = names_find(v, dir, name, len, &e);
		view_unlock(v, &l);
	} while (view_look_again(v, &looks, r));
	*out_ino = e.ino;
	return r;
}

int view_lookup(struct view *v, uint64_t dir, const char *name, struct view_attr *out)
{
	size_t len = strlen(name);
	uint64_t ino, was;
	int r = check_len(len);

	if (r)
		return r;
	r = look_up_ino(v, dir, name, len, &ino);
	if (r)
		return r;
	/* A name without its inode is damage, unless the name went in between. */
	r = view_getattr(v, ino, out);
	if (r != -ENOENT)
		return r;
	was = ino;
	r = look_up_ino(v, dir, name, len, &ino);
	return r ? r : ino == was ? -EBADMSG : -EAGAIN;
}

int view_parent(struct view *v, uint64_t dir, struct view_attr *out)
{
	struct view_attr a;
	int r = view_getattr(v, dir, &a);

	if (r)
		return r;
	return S_ISDIR(a.rec.mode) ? view_getattr(v, a.rec.parent, out) : -ENOTDIR;
}

/* Mode, group and ACLs of a new object (posix_acl_create, inode_init_owner). */
static int inherit(struct view *v, struct upper_tx *tx, struct unode *u, uint64_t dir,
		   const struct inode_rec *dir_rec, const struct view_cred *cred,
		   struct inode_rec *rec)
{
	struct view_value acl;
	struct subkey k;
	int r;

	rec->uid = cred->uid;
	rec->gid = cred->gid;
	if (dir_rec->mode & S_ISGID) {
		rec->gid = dir_rec->gid;
		if (S_ISDIR(rec->mode))
			rec->mode |= S_ISGID;
	}
	if (S_ISLNK(rec->mode))
		return 0;
	subkey_xattr(&k, ACL_XATTR_DEFAULT, strlen(ACL_XATTR_DEFAULT));
	r = view_value_locked(v, dir, &k, &acl);
	if (r == -ENOENT || (r == 0 && acl_check(acl.data, acl.len) < 0)) {
		if (r == 0) /* malformed, as in an archive: a mount does not show it */
			view_value_fini(&acl);
		rec->mode &= ~(cred->umask & 0777);
		return 0;
	}
	if (r)
		return r;
	struct buf access CLEANUP(buf_fini_p) = BUF_INIT;
	struct subkey ka;

	r = acl_inherit(acl.data, acl.len, &rec->mode, &access);
	if (!r && S_ISDIR(rec->mode))
		upper_tx_put(tx, u, &k, acl.data, acl.len);
	if (!r && access.len) {
		subkey_xattr(&ka, ACL_XATTR_ACCESS, strlen(ACL_XATTR_ACCESS));
		upper_tx_put(tx, u, &ka, access.data, access.len);
	}
	view_value_fini(&acl);
	return r;
}

static void rec_init(struct inode_rec *rec, uint32_t mode, uint64_t rdev, const char *target)
{
	memset(rec, 0, sizeof(*rec));
	rec->mode = mode;
	rec->nlink = S_ISDIR(mode) ? 2 : 1;
	if (S_ISBLK(mode) || S_ISCHR(mode))
		rec->rdev = rdev;
	if (target) {
		rec->target = target;
		rec->target_len = strlen(target);
		rec->size = rec->target_len;
	}
	rec->atime = rec->mtime = rec->ctime = view_now();
}

static int create_locked(struct view *v, struct upper_tx *tx, uint64_t dir, const char *name,
			 const struct view_cred *cred, struct unode *u, struct inode_rec *rec)
{
	struct view_rec dr;
	struct dirent_rec e = { 0 };
	size_t len = name ? strlen(name) : 0;
	int r = dir_rec_locked(v, dir, &dr);

	if (r)
		goto out;
	r = name ? names_find(v, dir, name, len, &e) : -ENOENT;
	if (r != -ENOENT) {
		r = r ? r : -EEXIST;
		goto out;
	}
	r = inherit(v, tx, u, dir, &dr.rec, cred, rec);
	if (r)
		goto out;
	if (name) {
		struct unode *du = upper_get(v->cur, dir);

		if (!du) {
			r = -ENOMEM;
			goto out;
		}
		rec->parent = dir;
		rec->name_hash = name_hash(name, len);
		e = (struct dirent_rec){ u->ino, mode_to_dtype(rec->mode), (uint8_t)len, name };
		r = names_put(v, tx, du, &e);
		dr.rec.mtime = dr.rec.ctime = rec->ctime;
		dr.rec.nlink += S_ISDIR(rec->mode) ? 1 : 0;
		upper_tx_rec(tx, du, &dr.rec);
	} else {
		rec->nlink = 0;
	}
	upper_tx_rec(tx, u, rec);
	if (!r)
		r = upper_tx_commit(tx);
out:
	view_rec_fini(&dr);
	return r;
}

static int create_once(struct view *v, uint64_t ino, uint64_t dir, const char *name,
		       const struct view_cred *cred, struct inode_rec *rec)
{
	uint64_t inos[2] = { dir, ino };
	struct view_lock l;
	struct upper_tx tx;
	int r;

	view_lock(v, &l, true, 2, inos);
	view_tx_begin(v, &tx);
	tx.made_ino = ino;
	struct unode *u = upper_get(v->cur, ino);

	if (u) {
		u->fresh = true;
		u->caps_checked = true;
		/*
		 * Without a name it lives only while it is known to the kernel,
		 * so count that before the record is committed.
		 */
		r = name ? 0 : live_add(v->live, ino, 1);
		if (!r) {
			r = create_locked(v, &tx, dir, name, cred, u, rec);
			if (r && !name)
				(void)live_sub(v->live, ino, 1);
		}
		if (r)
			upper_remove(v->cur, u);
	} else {
		r = -ENOMEM;
	}
	upper_tx_end(&tx);
	view_unlock(v, &l);
	return r;
}

static int create(struct view *v, uint64_t dir, const char *name, uint32_t mode, uint64_t rdev,
		  const char *target, const struct view_cred *cred, struct view_attr *out)
{
	/* Relaxed: numbers only need to be distinct. */
	uint64_t ino = atomic_fetch_add_explicit(&v->next_ino, 1, memory_order_relaxed);
	struct inode_rec rec;
	unsigned looks = 0;
	int r = name ? check_len(strlen(name)) : 0;

	if (r)
		return r;
	do {
		view_look(looks);
		rec_init(&rec, mode, rdev, target);
		r = create_once(v, ino, dir, name, cred, &rec);
	} while (view_look_again(v, &looks, r));
	out->ino = ino;
	out->rec = rec;
	out->rec.target = NULL;
	return r;
}

int view_create(struct view *v, uint64_t dir, const char *name, uint32_t mode, uint64_t rdev,
		const char *target, const struct view_cred *cred, struct view_attr *out)
{
	return create(v, dir, name, mode, rdev, target, cred, out);
}

int view_tmpfile(struct view *v, uint64_t dir, uint32_t mode, const struct view_cred *cred,
		 struct view_attr *out)
{
	return create(v, dir, NULL, S_IFREG | (mode & 07777), 0, NULL, cred, out);
}

static int link_locked(struct view *v, struct upper_tx *tx, uint64_t ino, uint64_t dir,
		       const char *name, struct view_rec *rec)
{
	struct unode *u = upper_get(v->cur, ino), *du = upper_get(v->cur, dir);
	struct dirent_rec e = { 0 };
	struct view_rec dr;
	size_t len = strlen(name);
	int r = dir_rec_locked(v, dir, &dr);

	if (!r && (!u || !du))
		r = -ENOMEM;
	if (r)
		goto out;
	if (S_ISDIR(rec->rec.mode) || rec->rec.nlink >= LINK_MAX_COUNT) {
		r = S_ISDIR(rec->rec.mode) ? -EPERM : -EMLINK;
		goto out;
	}
	r = names_find(v, dir, name, len, &e);
	if (r != -ENOENT) {
		r = r ? r : -EEXIST;
		goto out;
	}
	r = links_add(v, tx, u, &rec->rec, dir, name, len);
	if (r)
		goto out;
	e = (struct dirent_rec){ ino, mode_to_dtype(rec->rec.mode), (uint8_t)len, name };
	r = names_put(v, tx, du, &e);
	rec->rec.ctime = dr.rec.mtime = dr.rec.ctime = view_now();
	upper_tx_rec(tx, u, &rec->rec);
	upper_tx_rec(tx, du, &dr.rec);
	if (!r)
		r = upper_tx_commit(tx);
out:
	view_rec_fini(&dr);
	return r;
}

/* inos: the inode; the directory; that of its only link, whose name is read, or any of these. */
static int link_once(struct view *v, const uint64_t inos[3], const char *name,
		     struct view_attr *out)
{
	struct view_rec rec;
	struct view_lock l;
	struct upper_tx tx;
	int r;

	view_lock(v, &l, true, 3, inos);
	r = view_rec_locked(v, inos[0], &rec);
	if (!r && rec.rec.nlink == 1 && rec.rec.parent != inos[2])
		r = -EAGAIN; /* moved in between: the kernel excludes that */
	if (!r) {
		view_tx_begin(v, &tx);
		r = link_locked(v, &tx, inos[0], inos[1], name, &rec);
		upper_tx_end(&tx);
	}
	out->ino = inos[0];
	out->rec = rec.rec;
	out->rec.target = NULL;
	view_rec_fini(&rec);
	view_unlock(v, &l);
	return r;
}

int view_link(struct view *v, uint64_t ino, uint64_t dir, const char *name, struct view_attr *out)
{
	uint64_t inos[3] = { ino, dir, dir };
	struct view_attr a;
	unsigned looks = 0;
	int r = check_len(strlen(name));

	if (!r)
		r = view_getattr(v, ino, &a);
	if (r)
		return r;
	if (a.rec.nlink == 1)
		inos[2] = a.rec.parent;
	do {
		view_look(looks);
		r = link_once(v, inos, name, out);
	} while (view_look_again(v, &looks, r));
	return r;
}

static int not_empty(void *arg, const uint8_t *sub, size_t n, const uint8_t *val, size_t val_len)
{
	(void)arg;
	(void)sub;
	(void)n;
	(void)val;
	(void)val_len;
	return 1;
}

int names_dir_empty(struct view *v, uint64_t dir)
{
	int r = view_entries_locked(v, dir, KEY_DIRENT, NULL, not_empty, NULL);

	return r < 0 ? r : r == 0;
}

int names_victim(struct view *v, struct upper_tx *tx, struct unode *u, struct inode_rec *rec,
		 uint64_t dir, const char *name, size_t len)
{
	int r = 0;

	if (S_ISDIR(rec->mode)) {
		r = names_dir_empty(v, u->ino);
		if (r <= 0)
			return r < 0 ? r : -ENOTEMPTY;
		rec->nlink = 0;
		r = 0;
	} else {
		r = links_del(v, tx, u, rec, dir, name, len);
	}
	rec->ctime = view_now();
	upper_tx_rec(tx, u, rec);
	return r;
}

static int remove_locked(struct view *v, struct upper_tx *tx, uint64_t dir, const char *name,
			 uint64_t ino, bool want_dir)
{
	struct unode *u = upper_get(v->cur, ino), *du = upper_get(v->cur, dir);
	struct view_rec rec, dr;
	struct dirent_rec e = { 0 };
	size_t len = strlen(name);
	int r = view_rec_locked(v, ino, &rec), r2 = dir_rec_locked(v, dir, &dr);

	if (!r2)
		r2 = names_find(v, dir, name, len, &e);
	if (!r2 && e.ino != ino)
		r2 = -EAGAIN;
	r = r2 ? r2 : r == -ENOENT ? -EBADMSG : r;
	if (!r && (!u || !du))
		r = -ENOMEM;
	if (!r && want_dir != !!S_ISDIR(rec.rec.mode))
		r = want_dir ? -ENOTDIR : -EISDIR;
	if (!r)
		r = names_victim(v, tx, u, &rec.rec, dir, name, len);
	if (!r)
		r = names_del(v, tx, du, name, len);
	if (!r) {
		dr.rec.mtime = dr.rec.ctime = rec.rec.ctime;
		dr.rec.nlink -= want_dir ? 1 : 0;
		upper_tx_rec(tx, du, &dr.rec);
		r = upper_tx_commit(tx);
	}
	view_rec_fini(&rec);
	view_rec_fini(&dr);
	return r;
}

static int remove_ino(struct view *v, uint64_t dir, const char *name, uint64_t ino, bool want_dir)
{
	uint64_t inos[2] = { dir, ino };
	struct view_lock l;
	struct upper_tx tx;
	unsigned looks = 0;
	int r;

	do {
		view_look(looks);
		view_lock(v, &l, true, 2, inos);
		view_tx_begin(v, &tx);
		tx.unlimited = true;
		r = remove_locked(v, &tx, dir, name, ino, want_dir);
		upper_tx_end(&tx);
		view_unlock(v, &l);
	} while (view_look_again(v, &looks, r));
	return r;
}

static int remove_name(struct view *v, uint64_t dir, const char *name, bool want_dir)
{
	struct view_attr a;
	int r;

	do {
		r = view_lookup(v, dir, name, &a);
		if (r == -EAGAIN)
			continue;
		if (r)
			return r;
		r = remove_ino(v, dir, name, a.ino, want_dir);
	} while (r == -EAGAIN);
	if (!r && !view_is_known(v, a.ino))
		view_forget(v, a.ino, 0);
	return r;
}

int view_unlink(struct view *v, uint64_t dir, const char *name)
{
	return remove_name(v, dir, name, false);
}

int view_rmdir(struct view *v, uint64_t dir, const char *name)
{
	return remove_name(v, dir, name, true);
}

struct readdir_ctx {
	view_dirent_fn fn;
	void *arg;
	uint64_t after; /* where the listing goes on: behind the names with this cookie; 0: all */
};

static int readdir_list(void *arg, const uint8_t *sub, size_t len, const uint8_t *val,
			size_t val_len)
{
	struct readdir_ctx *c = arg;
	struct dirent_reader rd;
	struct dirent_rec e;
	int r;

	if (len != 9)
		return -EBADMSG;
	dirent_reader_init(&rd, val, val_len);
	while ((r = dirent_next(&rd, &e)) == 1) {
		r = c->fn(c->arg, wire_get64be(sub + 1), &e);
		if (r)
			return 1;
	}
	c->after = wire_get64be(sub + 1);
	return r;
}

static int list_names(struct view *v, uint64_t dir, struct readdir_ctx *c)
{
	struct view_lock l;
	struct view_rec rec;
	struct subkey after;
	int r;

	subkey_u64(&after, KEY_DIRENT, c->after);
	view_lock(v, &l, false, 1, &dir);
	r = view_rec_locked(v, dir, &rec);
	if (!r && !S_ISDIR(rec.rec.mode))
		r = -ENOTDIR;
	if (!r)
		r = view_entries_locked(v, dir, KEY_DIRENT, c->after ? &after : NULL, readdir_list,
					c);
	view_rec_fini(&rec);
	view_unlock(v, &l);
	return MIN(r, 0);
}

int view_readdir(struct view *v, uint64_t dir, uint64_t cookie, view_dirent_fn fn, void *arg)
{
	struct readdir_ctx c = { fn, arg, cookie };
	unsigned looks = 0;
	bool again;
	int r;

	do {
		uint64_t from = c.after;

		view_look(looks);
		r = list_names(v, dir, &c);
		again = view_look_again(v, &looks, r);
		if (c.after != from && looks < VIEW_LOOKS_MAX)
			looks = 0;
	} while (again);
	return r;
}
