/* What cache mode `shared` asks of a view: is a file the base's, and what are its names? */
#include "fs/view/view_internal.h"

#include <errno.h>
#include <string.h>

/* Does a layer above the base say anything about the inode's data? */
static bool has_changed_data(struct view *v, uint64_t ino)
{
	struct upper *layers[2] = { v->cur, v->sealed };

	for (unsigned i = 0; i < 2; i++) {
		struct unode *u = layers[i] ? upper_find(layers[i], ino) : NULL;
		struct upper_extent x;

		if (u && (u->gone || u->fresh || upper_extent_seek(u, 0, &x)))
			return true;
	}
	return false;
}

static int base_file(struct view *v, uint64_t ino, struct view_base_file *out)
{
	struct view_rec rec, below;
	struct view_lock l;
	int r;

	*out = (struct view_base_file){ .has_name = true };
	view_lock(v, &l, false, 1, &ino);
	out->base = v->base;
	r = view_rec_locked(v, ino, &rec);
	if (!r) {
		out->size = rec.rec.size;
		out->has_name = rec.rec.nlink > 0;
		r = S_ISREG(rec.rec.mode) && !has_changed_data(v, ino);
		if (r) { /* it may have been made longer */
			r = view_rec_at(v, 2, ino, &below);
			r = r ? r : below.rec.size == rec.rec.size;
			view_rec_fini(&below);
		}
	}
	view_rec_fini(&rec);
	view_unlock(v, &l);
	return r;
}

int view_base_file(struct view *v, uint64_t ino, struct view_base_file *out)
{
	unsigned looks = 0;
	int r;

	do {
		view_look(looks);
		r = base_file(v, ino, out);
	} while (view_look_again(v, &looks, r));
	return r;
}

struct name_list {
	struct buf *out;
};

/* One name: u64 directory, u8 length, the name. */
static int append_name(struct buf *out, uint64_t dir, const void *name, size_t len)
{
	uint8_t head[9];

	wire_set64(head, dir);
	head[8] = (uint8_t)len;
	int r = buf_append(out, head, sizeof(head));

	return r ? r : buf_append(out, name, len);
}

static int add_backref(void *arg, const uint8_t *sub, size_t len, const uint8_t *val,
		       size_t val_len)
{
	struct name_list *l = arg;

	if (len != 17 || val_len > NAME_LEN_MAX)
		return -EBADMSG;
	return append_name(l->out, wire_get64be(sub + 1), val, val_len);
}

/* Add the name in its only directory; -EAGAIN if it has moved meanwhile. */
static int add_only_name(struct view *v, uint64_t ino, const struct inode_rec *seen,
			 struct buf *out)
{
	struct buf name CLEANUP(buf_fini_p) = BUF_INIT;
	struct view_lock l;
	struct view_rec rec;
	int r;

	view_lock(v, &l, false, 2, (uint64_t[]){ ino, seen->parent });
	r = view_rec_locked(v, ino, &rec);
	if (!r && (rec.rec.nlink != 1 || rec.rec.parent != seen->parent ||
		   rec.rec.name_hash != seen->name_hash))
		r = -EAGAIN;
	if (!r)
		r = links_name_of(v, seen->parent, seen->name_hash, ino, &name);
	view_rec_fini(&rec);
	view_unlock(v, &l);
	return r ? r : append_name(out, seen->parent, name.data, name.len);
}

static int append_names(struct view *v, uint64_t ino, struct buf *out)
{
	struct name_list list = { out };
	struct inode_rec seen;
	struct view_lock l;
	struct view_rec rec;
	int r;

	do {
		view_lock(v, &l, false, 1, &ino);
		r = view_rec_locked(v, ino, &rec);
		memset(&seen, 0, sizeof(seen));
		if (!r)
			seen = rec.rec;
		if (!r && seen.nlink > 1)
			r = view_entries_locked(v, ino, KEY_BACKREF, NULL, add_backref, &list);
		view_rec_fini(&rec);
		view_unlock(v, &l);
		if (!r && seen.nlink == 1)
			r = add_only_name(v, ino, &seen, out);
	} while (r == -EAGAIN);
	return r;
}

int view_names(struct view *v, uint64_t ino, struct buf *out)
{
	size_t len = out->len;
	unsigned looks = 0;
	bool again;
	int r;

	want_begin(NULL, 0);
	do {
		out->len = len;
		view_look(looks);
		r = append_names(v, ino, out);
		again = view_look_again(v, &looks, r);
		if (r == -EINPROGRESS && !again) {
			r = store_fetch_wanted(v->store);
			again = r == 0;
		}
	} while (again);
	return r;
}
