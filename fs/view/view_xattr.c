#include "fs/view/view_internal.h"

#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/view/acl.h"

bool view_del_xattr_tx(struct view *v, struct upper_tx *tx, struct unode *u, const char *name)
{
	struct view_value x;
	struct subkey k;
	int r;

	subkey_xattr(&k, name, strlen(name));
	r = view_value_locked(v, u->ino, &k, &x);
	view_value_fini(&x);
	if (!r) {
		int below = view_below_has_locked(v, u->ino, &k);

		if (below < 0)
			tx->error = below;
		else
			upper_tx_del(tx, u, &k, below);
	} else if (r != -ENOENT) {
		tx->error = r;
	}
	return !r;
}

/* Whether a Linux mount can show this: the kernel itself refuses what it cannot. */
static bool is_shown(const char *name, size_t len, uint32_t mode, const void *value, size_t size)
{
	if (!xattr_is_shown(name, len, mode))
		return false;
	return strncmp(name, "system.", 7) != 0 || acl_check(value, size) == 0;
}

static int mode_locked(struct view *v, uint64_t ino, uint32_t *out)
{
	struct view_rec rec;
	int r = view_rec_locked(v, ino, &rec);

	if (!r)
		*out = rec.rec.mode;
	view_rec_fini(&rec);
	return r;
}

static int get_shown(struct view *v, uint64_t ino, const char *name, size_t len, struct buf *out)
{
	struct view_lock l;
	struct view_value x;
	struct subkey k;
	uint32_t mode;
	int r;

	subkey_xattr(&k, name, len);
	view_lock(v, &l, false, 1, &ino);
	r = view_value_locked(v, ino, &k, &x);
	if (!r)
		r = mode_locked(v, ino, &mode);
	if (!r)
		r = is_shown(name, len, mode, x.data, x.len) ? buf_append(out, x.data, x.len)
							     : -ENOENT;
	view_value_fini(&x);
	view_unlock(v, &l);
	return r;
}

int view_getxattr(struct view *v, uint64_t ino, const char *name, struct buf *out)
{
	size_t len = strlen(name);
	unsigned looks = 0;
	int r = xattr_name_check(name, len);

	if (r)
		return r;
	do {
		view_look(looks);
		r = get_shown(v, ino, name, len, out);
	} while (view_look_again(v, &looks, r));
	/* -ENODATA would mean a missing node below: that is damage here. */
	return r == -ENOENT ? -ENODATA : r == -ENODATA ? -EIO : r;
}

struct list_ctx {
	struct buf *out;
	bool privileged;
	uint32_t mode;
};

static int list_name(void *arg, const uint8_t *sub, size_t len, const uint8_t *val, size_t val_len)
{
	struct list_ctx *c = arg;
	const char *name = (const char *)sub + 1;
	int r;

	len--;
	if (!is_shown(name, len, c->mode, val, val_len))
		return 0;
	if (!c->privileged && len >= 8 && memcmp(name, "trusted.", 8) == 0)
		return 0;
	if (c->out->len + len + 1 > XATTR_LIST_MAX) /* the kernel's limit */
		return -E2BIG;
	r = buf_append(c->out, name, len);
	return r ? r : buf_append(c->out, "", 1);
}

static int list_shown(struct view *v, uint64_t ino, bool privileged, struct buf *out)
{
	struct list_ctx c = { .out = out, .privileged = privileged };
	struct view_lock l;
	int r;

	view_lock(v, &l, false, 1, &ino);
	r = mode_locked(v, ino, &c.mode);
	if (!r)
		r = view_entries_locked(v, ino, KEY_XATTR, NULL, list_name, &c);
	view_unlock(v, &l);
	return r;
}

int view_listxattr(struct view *v, uint64_t ino, bool privileged, struct buf *out)
{
	const size_t len = out->len;
	unsigned looks = 0;
	int r;

	do {
		out->len = len;
		view_look(looks);
		r = list_shown(v, ino, privileged, out);
	} while (view_look_again(v, &looks, r));
	return r == -ENODATA ? -EIO : r;
}

/* Returns 1 if the mode says all that the ACL does, so that none is kept. */
static int set_acl(const char *name, const void *value, size_t size, bool kill_sgid,
		   struct inode_rec *rec)
{
	bool minimal;
	int r = acl_check(value, size);

	if (r)
		return r;
	if (strcmp(name, ACL_XATTR_DEFAULT) == 0)
		return S_ISDIR(rec->mode) ? 0 : -EACCES;
	rec->mode = acl_to_mode(value, size, rec->mode, &minimal);
	if (kill_sgid)
		rec->mode &= ~(uint32_t)S_ISGID;
	return minimal;
}

/* Setting the value that it already has changes nothing, not even ctime, as on ext4. */
static int setxattr_tx(struct view *v, struct upper_tx *tx, struct unode *u, const char *name,
		       const void *value, size_t size, int flags, bool kill_sgid)
{
	struct view_value old;
	struct view_rec rec;
	struct subkey k;
	bool there, same, drop = false;
	uint32_t mode;
	int r;

	subkey_xattr(&k, name, strlen(name));
	r = view_value_locked(v, u->ino, &k, &old);
	there = r == 0;
	same = there && old.len == size && (size == 0 || memcmp(old.data, value, size) == 0);
	view_value_fini(&old);
	if (r && r != -ENOENT)
		return r == -ENODATA ? -EIO : r; /* -ENODATA would mean "no such xattr" */
	if ((flags & XATTR_CREATE) && there)
		return -EEXIST;
	if ((flags & XATTR_REPLACE) && !there)
		return -ENODATA;
	r = view_rec_locked(v, u->ino, &rec);
	mode = r ? 0 : rec.rec.mode;
	if (!r && strncmp(name, "system.posix_acl_", 17) == 0) {
		r = set_acl(name, value, size, kill_sgid, &rec.rec);
		drop = r == 1;
		r = r < 0 ? r : 0;
	}
	if (!r && !(same && rec.rec.mode == mode)) {
		if (drop)
			view_del_xattr_tx(v, tx, u, name);
		else
			upper_tx_put(tx, u, &k, value, size);
		if (strcmp(name, XATTR_CAPS) == 0)
			u->caps_checked = false;
		rec.rec.ctime = view_now();
		upper_tx_rec(tx, u, &rec.rec);
		r = upper_tx_commit(tx);
	}
	view_rec_fini(&rec);
	return r;
}

int view_setxattr(struct view *v, uint64_t ino, const char *name, const void *value, size_t size,
		  int flags, bool kill_sgid)
{
	struct view_lock l;
	struct upper_tx tx;
	unsigned looks = 0;
	int r = xattr_name_check(name, strlen(name));

	if (r)
		return r;
	if (size > XATTR_VALUE_MAX)
		return -E2BIG;
	do {
		view_look(looks);
		view_lock(v, &l, true, 1, &ino);
		struct unode *u = upper_get(v->cur, ino);

		view_tx_begin(v, &tx);
		r = u ? setxattr_tx(v, &tx, u, name, value, size, flags, kill_sgid) : -ENOMEM;
		upper_tx_end(&tx);
		view_unlock(v, &l);
	} while (view_look_again(v, &looks, r));
	return r;
}

static int removexattr_tx(struct view *v, struct upper_tx *tx, struct unode *u, const char *name)
{
	struct view_value old;
	struct view_rec rec;
	struct subkey k;
	int r;

	subkey_xattr(&k, name, strlen(name));
	r = view_value_locked(v, u->ino, &k, &old);
	view_value_fini(&old);
	/* Removing an ACL that does not exist succeeds on Linux. */
	if (r == -ENOENT)
		return strncmp(name, "system.posix_acl_", 17) == 0 ? 0 : -ENODATA;
	if (r)
		return r == -ENODATA ? -EIO : r;
	view_del_xattr_tx(v, tx, u, name);
	r = view_rec_locked(v, u->ino, &rec);
	if (!r) {
		rec.rec.ctime = view_now();
		upper_tx_rec(tx, u, &rec.rec);
		r = upper_tx_commit(tx);
	}
	view_rec_fini(&rec);
	return r;
}

int view_removexattr(struct view *v, uint64_t ino, const char *name)
{
	struct view_lock l;
	struct upper_tx tx;
	unsigned looks = 0;
	int r = xattr_name_check(name, strlen(name));

	if (r)
		return r;
	do {
		view_look(looks);
		view_lock(v, &l, true, 1, &ino);
		struct unode *u = upper_get(v->cur, ino);

		view_tx_begin(v, &tx);
		tx.unlimited = true;
		r = u ? removexattr_tx(v, &tx, u, name) : -ENOMEM;
		upper_tx_end(&tx);
		view_unlock(v, &l);
	} while (view_look_again(v, &looks, r));
	return r;
}
