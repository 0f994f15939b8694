#include "fs/view/view_internal.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>

/* Everything a rename touches; the records are copies that are staged at the end. */
struct rename_op {
	struct view *v;
	struct upper_tx tx;
	uint64_t dir[2]; /* from, to */
	const char *name[2];
	size_t len[2];
	uint64_t ino[2];   /* moved, victim or partner (0: none) */
	uint64_t whiteout; /* the inode to leave at the old place, or 0 */
	struct unode *du[2], *u[2];
	struct view_rec dr[2], r[2];
	struct timespec now;
};

static bool same_dir(const struct rename_op *op)
{
	return op->dir[0] == op->dir[1];
}

/* The record of the target directory: one and the same for both sides. */
static struct inode_rec *to_dir_rec(struct rename_op *op)
{
	return same_dir(op) ? &op->dr[0].rec : &op->dr[1].rec;
}

static int load(struct rename_op *op)
{
	struct view *v = op->v;
	int r = 0;

	for (int i = 0; i < 2 && !r; i++) {
		struct dirent_rec e = { 0 };

		r = dir_rec_locked(v, op->dir[i], &op->dr[i]);
		if (!r) {
			r = names_find(v, op->dir[i], op->name[i], op->len[i], &e);
			if (r == -ENOENT && op->ino[i] == 0)
				r = 0;
			else if (!r && e.ino != op->ino[i])
				r = -EAGAIN;
			else if (r == -ENOENT && i == 1)
				r = -EAGAIN;
		}
		op->du[i] = upper_get(v->cur, op->dir[i]);
		if (!r && !op->du[i])
			r = -ENOMEM;
		if (r || !op->ino[i])
			continue;
		r = view_rec_locked(v, op->ino[i], &op->r[i]);
		if (r == -ENOENT)
			r = -EBADMSG;
		op->u[i] = upper_get(v->cur, op->ino[i]);
		if (!r && !op->u[i])
			r = -ENOMEM;
	}
	return r;
}

/* Inode i, so far at place i, gets the other place's name. */
static int move_link(struct rename_op *op, int i)
{
	struct inode_rec *rec = &op->r[i].rec;
	int to = 1 - i;

	if (rec->nlink == 1 || S_ISDIR(rec->mode)) {
		rec->parent = op->dir[to];
		rec->name_hash = name_hash(op->name[to], op->len[to]);
	} else {
		struct subkey k;
		int below;

		subkey_backref(&k, op->dir[i], name_hash(op->name[i], op->len[i]));
		below = view_below_has_locked(op->v, op->ino[i], &k);
		if (below < 0)
			return below;
		upper_tx_del(&op->tx, op->u[i], &k, below);
		subkey_backref(&k, op->dir[to], name_hash(op->name[to], op->len[to]));
		upper_tx_put(&op->tx, op->u[i], &k, op->name[to], op->len[to]);
	}
	rec->ctime = op->now;
	upper_tx_rec(&op->tx, op->u[i], rec);
	return 0;
}

/*
 * Two names of one directory may share a hash and so an entry of the tree; the
 * calls of names_* read what is committed, not what is staged. So in that case
 * the list is made in one go.
 */
static bool names_collide(const struct rename_op *op)
{
	return same_dir(op) &&
	       name_hash(op->name[0], op->len[0]) == name_hash(op->name[1], op->len[1]);
}

static int put_collided(struct rename_op *op, const struct dirent_rec *place[2])
{
	struct buf a CLEANUP(buf_fini_p) = BUF_INIT, b CLEANUP(buf_fini_p) = BUF_INIT;
	struct view_value list;
	struct subkey k;
	int r;

	subkey_u64(&k, KEY_DIRENT, name_hash(op->name[0], op->len[0]));
	r = view_value_locked(op->v, op->dir[0], &k, &list);
	if (!r)
		r = place[0] ? dirent_list_put(list.data, list.len, place[0], &a)
			     : dirent_list_del(list.data, list.len, op->name[0], op->len[0], &a);
	view_value_fini(&list);
	if (!r)
		r = dirent_list_put(a.data, a.len, place[1], &b);
	if (!r)
		upper_tx_put(&op->tx, op->du[0], &k, b.data, b.len);
	return r;
}

/* Write what is at each place now; NULL: nothing. */
static int put_places(struct rename_op *op, const struct dirent_rec *place[2])
{
	int r;

	if (names_collide(op))
		return put_collided(op, place);
	if (place[0])
		r = names_put(op->v, &op->tx, op->du[0], place[0]);
	else
		r = names_del(op->v, &op->tx, op->du[0], op->name[0], op->len[0]);
	return r ? r : names_put(op->v, &op->tx, op->du[1], place[1]);
}

static int exchange(struct rename_op *op)
{
	struct inode_rec *to = to_dir_rec(op);
	struct dirent_rec e[2];
	int r;

	for (int i = 0; i < 2; i++) /* at place i is the other inode */
		e[i] = (struct dirent_rec){ op->ino[1 - i], mode_to_dtype(op->r[1 - i].rec.mode),
					    (uint8_t)op->len[i], op->name[i] };
	if (!same_dir(op)) {
		int d0 = !!S_ISDIR(op->r[0].rec.mode), d1 = !!S_ISDIR(op->r[1].rec.mode);

		op->dr[0].rec.nlink += (uint32_t)(d1 - d0);
		to->nlink += (uint32_t)(d0 - d1);
	}
	r = move_link(op, 0);
	if (!r)
		r = move_link(op, 1);
	return r ? r : put_places(op, (const struct dirent_rec *[]){ &e[0], &e[1] });
}

/*
 * What RENAME_WHITEOUT leaves behind: a character device 0:0, as in overlayfs.
 * It is root's, because only those who may make devices may ask for it.
 */
static int put_whiteout(struct rename_op *op, struct dirent_rec *e)
{
	struct unode *u = upper_get(op->v->cur, op->whiteout);
	struct inode_rec rec = { .mode = S_IFCHR,
				 .nlink = 1,
				 .parent = op->dir[0],
				 .name_hash = name_hash(op->name[0], op->len[0]),
				 .atime = op->now,
				 .mtime = op->now,
				 .ctime = op->now };

	if (!u)
		return -ENOMEM;
	u->fresh = true;
	u->caps_checked = true;
	upper_tx_rec(&op->tx, u, &rec);
	*e = (struct dirent_rec){ op->whiteout, mode_to_dtype(rec.mode), (uint8_t)op->len[0],
				  op->name[0] };
	return 0;
}

static int replace(struct rename_op *op)
{
	struct inode_rec *to = to_dir_rec(op);
	bool is_dir = S_ISDIR(op->r[0].rec.mode);
	struct dirent_rec e = { op->ino[0], mode_to_dtype(op->r[0].rec.mode), (uint8_t)op->len[1],
				op->name[1] };
	struct dirent_rec white;
	int r = 0;

	if (op->ino[1]) {
		bool victim_dir = S_ISDIR(op->r[1].rec.mode);

		if (is_dir != victim_dir)
			return is_dir ? -ENOTDIR : -EISDIR;
		op->tx.unlimited = !op->whiteout;
		r = names_victim(op->v, &op->tx, op->u[1], &op->r[1].rec, op->dir[1], op->name[1],
				 op->len[1]);
		if (r)
			return r;
		to->nlink -= victim_dir ? 1 : 0;
	}
	if (is_dir && !same_dir(op)) {
		op->dr[0].rec.nlink--;
		to->nlink++;
	}
	r = move_link(op, 0);
	if (!r && op->whiteout)
		r = put_whiteout(op, &white);
	return r ? r
		 : put_places(op,
			      (const struct dirent_rec *[]){ op->whiteout ? &white : NULL, &e });
}

static int rename_locked(struct rename_op *op, unsigned flags)
{
	int r = load(op);

	if (r)
		return r;
	if (!op->ino[0])
		return -ENOENT;
	if (op->ino[0] == op->ino[1])
		return 0; /* two links of one inode: nothing happens (POSIX) */
	if ((flags & RENAME_NOREPLACE) && op->ino[1])
		return -EEXIST;
	if ((flags & RENAME_EXCHANGE) && !op->ino[1])
		return -ENOENT;
	r = flags & RENAME_EXCHANGE ? exchange(op) : replace(op);
	if (r)
		return r;
	op->dr[0].rec.mtime = op->dr[0].rec.ctime = op->now;
	upper_tx_rec(&op->tx, op->du[0], &op->dr[0].rec);
	if (!same_dir(op)) {
		op->dr[1].rec.mtime = op->dr[1].rec.ctime = op->now;
		upper_tx_rec(&op->tx, op->du[1], &op->dr[1].rec);
	}
	return upper_tx_commit(&op->tx);
}

/* ino[] is set; -EAGAIN if the names have others meanwhile. */
static int rename_inos(struct rename_op *op, unsigned flags)
{
	uint64_t inos[5] = { op->dir[0], op->dir[1], op->ino[0],
			     op->ino[1] ? op->ino[1] : op->ino[0],
			     op->whiteout ? op->whiteout : op->ino[0] };
	struct view *v = op->v;
	struct view_lock l;
	int r;

	memset(op->dr, 0, sizeof(op->dr));
	memset(op->r, 0, sizeof(op->r));
	op->now = view_now();
	view_lock(v, &l, true, 5, inos);
	view_tx_begin(v, &op->tx);
	r = rename_locked(op, flags);
	struct unode *white = r && op->whiteout ? upper_find(v->cur, op->whiteout) : NULL;

	if (white)
		upper_remove(v->cur, white);
	for (int i = 0; i < 2; i++) {
		view_rec_fini(&op->dr[i]);
		view_rec_fini(&op->r[i]);
	}
	upper_tx_end(&op->tx);
	view_unlock(v, &l);
	return r;
}

static int rename_once(struct rename_op *op, unsigned flags)
{
	struct view *v = op->v;
	unsigned looks = 0;
	int r;

	for (int i = 0; i < 2; i++) {
		struct view_attr a;

		r = view_lookup(v, op->dir[i], op->name[i], &a);
		if (r && !(r == -ENOENT && i == 1))
			return r;
		op->ino[i] = r ? 0 : a.ino;
	}
	/* Relaxed: numbers only need to be distinct. */
	op->whiteout = flags & RENAME_WHITEOUT
			       ? atomic_fetch_add_explicit(&v->next_ino, 1, memory_order_relaxed)
			       : 0;
	do {
		view_look(looks);
		r = rename_inos(op, flags);
	} while (view_look_again(v, &looks, r));
	return r;
}

int view_rename(struct view *v, uint64_t dir, const char *name, uint64_t to_dir,
		const char *to_name, unsigned flags)
{
	struct rename_op op = { .v = v,
				.dir = { dir, to_dir },
				.name = { name, to_name },
				.len = { strlen(name), strlen(to_name) } };
	int r;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) ||
	    (flags & RENAME_EXCHANGE && flags != RENAME_EXCHANGE))
		return -EINVAL;
	if (op.len[0] > NAME_LEN_MAX || op.len[1] > NAME_LEN_MAX)
		return -ENAMETOOLONG;
	do
		r = rename_once(&op, flags);
	while (r == -EAGAIN);
	if (!r && op.ino[1] && !(flags & RENAME_EXCHANGE) && !view_is_known(v, op.ino[1]))
		view_forget(v, op.ino[1], 0);
	return r;
}
