/*
 * READDIR and READDIRPLUS. The cookie of a name is its hash, so it stays valid
 * while the directory changes; "." and ".." have cookies below all hashes.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <fuse_lowlevel.h>

#include "fs/fuse/ops_reply.h"

#define COOKIE_DOT 1
#define COOKIE_DOTDOT 2

/* Names collected under the directory's lock; attributes are asked for after it. */
struct listing {
	struct buf names; /* u64 cookie, u64 ino, u8 type, u8 len, bytes */
	size_t reply_len, reply_max;
	bool plus;
	fuse_req_t req;
	bool counted; /* of the name added last */
	bool far;     /* a name's attributes are */
	size_t added; /* of names: what has been through add_name */
};

static int collect(void *arg, uint64_t cookie, const struct dirent_rec *e)
{
	struct listing *l = arg;
	char name[NAME_LEN_MAX + 1];
	uint8_t head[18];
	size_t need;

	memcpy(name, e->name, e->name_len);
	name[e->name_len] = 0;
	need = l->plus ? fuse_add_direntry_plus(l->req, NULL, 0, name, NULL, 0)
		       : fuse_add_direntry(l->req, NULL, 0, name, NULL, 0);
	if (l->reply_len + need > l->reply_max)
		return 1;
	memcpy(head, &cookie, 8);
	memcpy(head + 8, &e->ino, 8);
	head[16] = e->type;
	head[17] = e->name_len;
	if (buf_append(&l->names, head, sizeof(head)) || buf_append(&l->names, name, e->name_len))
		return 1;
	l->reply_len += need;
	return 0;
}

/* A name whose inode cannot be read is listed all the same, and fails when it is looked up. */
static size_t add_damaged(struct listing *l, char *out, size_t room, const char *name,
			  uint64_t cookie, uint64_t ino, uint8_t type, int r)
{
	struct fuse_entry_param e = { .attr = { .st_ino = ino, .st_mode = DTTOIF(type) } };

	(void)ops_kernel_error(ino, r);
	return fuse_add_direntry_plus(l->req, out, room, name, &e, (off_t)cookie);
}

/*
 * Add one name to the reply; its bytes used. l->counted: the kernel counts a lookup. l->far: its
 * attributes are far away, and nothing was added.
 */
static size_t add_name(struct listing *l, struct view *v, char *out, size_t room, const char *name,
		       uint64_t cookie, uint64_t ino, uint8_t type)
{
	struct fuse_entry_param e;
	struct view_attr a;

	l->counted = false;
	if (!l->plus) {
		struct stat st = { .st_ino = ino, .st_mode = DTTOIF(type) };

		return fuse_add_direntry(l->req, out, room, name, &st, (off_t)cookie);
	}
	int r = view_getattr(v, ino, &a);

	l->far |= r == -EINPROGRESS;
	if (r == -ENOENT || r == -EINPROGRESS)
		return 0; /* unlinked in between, or far */
	if (r)
		return add_damaged(l, out, room, name, cookie, ino, type, r);
	ops_fill_entry(&e, &a);
	if (cookie <= COOKIE_DOTDOT || ops_place_hides(v, name))
		e.ino = 0; /* "." and ".." are no lookups */
	else if (!(l->counted = live_add(v->live, ino, 1) == 0))
		e.ino = 0;
	return fuse_add_direntry_plus(l->req, out, room, name, &e, (off_t)cookie);
}

/* "." and ".." come before all names. */
static int add_dots(struct listing *l, struct view *v, uint64_t dir, off_t off, char *out,
		    size_t *used)
{
	struct view_attr a;
	int r = off < COOKIE_DOTDOT ? view_getattr(v, dir, &a) : 0;

	if (r)
		return r;
	if (off < COOKIE_DOT)
		*used += add_name(l, v, out, l->reply_max, ".", COOKIE_DOT, dir, DT_DIR);
	if (off < COOKIE_DOTDOT)
		*used += add_name(l, v, out + *used, l->reply_max - *used, "..", COOKIE_DOTDOT,
				  a.rec.parent, DT_DIR);
	l->reply_len = *used;
	return 0;
}

static void forget_listing(struct view *v, const struct listing *l)
{
	for (size_t at = 0; l->plus && at < l->added; at += 18u + l->names.data[at + 17]) {
		uint64_t ino;

		memcpy(&ino, l->names.data + at + 8, 8);
		if (ino)
			view_forget(v, ino, 1);
	}
}

/* The listing ends before a name that is far away; without any before it, it has to wait. */
static int far_name(size_t used)
{
	if (!used)
		return -EINPROGRESS;
	want_begin(NULL, 0); /* asked for again with the rest of the listing */
	return 0;
}

void ops_readdir(fuse_req_t req, fuse_ino_t dir, size_t size, off_t off, bool plus)
{
	struct view *v = view_of_request();
	struct listing l = { .names = BUF_INIT, .reply_max = size, .plus = plus, .req = req };
	char *out = session_reply_buffer(size);
	uint64_t loads = node_store_loads_here();
	size_t used = 0;
	int r = out ? add_dots(&l, v, dir, off, out, &used) : -ENOMEM;

	if (!r)
		r = view_readdir(v, dir, off <= COOKIE_DOTDOT ? 0 : (uint64_t)off, collect, &l);
	if (!r && l.far)
		r = -EINPROGRESS;
	if (r == -ENOENT)
		r = 0; /* a deleted directory is empty */
	for (size_t at = 0; !r && at < l.names.len;) {
		uint8_t *p = l.names.data + at;
		char name[NAME_LEN_MAX + 1];
		uint64_t cookie, ino;

		memcpy(&cookie, p, 8);
		memcpy(&ino, p + 8, 8);
		memcpy(name, p + 18, p[17]);
		name[p[17]] = 0;
		size_t n = add_name(&l, v, out + used, size - used, name, cookie, ino, p[16]);

		if (l.far) {
			r = far_name(used);
			break;
		}
		if (!l.counted)
			memset(p + 8, 0, 8); /* not counted as looked up */
		used += n;
		at += 18u + p[17];
		l.added = at;
	}
	if (off < COOKIE_DOT && node_store_loads_here() != loads)
		session_note_listing(session_current(), dir);
	if (r)
		ops_reply_err(req, dir, r);
	else if (fuse_reply_buf(req, out, used))
		forget_listing(v, &l);
	buf_fini(&l.names);
}
