#include "fs/fuse/ahead_tree.h"

#include <dirent.h>
#include <string.h>

#include "store/base/buf.h"

/* Limits of a walk: nodes loaded, names seen, depth of directories. */
#define NODES_MAX 64u
#define NAMES_MAX 8192u
#define DEPTH_MAX 32u

struct walk {
	const struct tree_fs *base;
	uint64_t loads_end;
	unsigned names;
};
struct listing {
	struct walk *walk;
	struct buf dirs; /* u64 each */
};

static int see_name(void *arg, uint64_t hash, const struct dirent_rec *e)
{
	struct listing *l = arg;
	struct walk *w = l->walk;
	struct inode_rec rec;
	struct tree_value pin = { 0 };
	int r;

	(void)hash;
	if (++w->names > NAMES_MAX || node_store_loads_here() >= w->loads_end)
		return 1;
	r = tree_fs_inode(w->base, e->ino, &rec, &pin);
	tree_value_release(&pin);
	if (!r && e->type == DT_DIR)
		r = buf_append(&l->dirs, &e->ino, sizeof(e->ino));
	return r;
}

/* 1: it is enough. */
static int walk_dir(struct walk *w, uint64_t dir, unsigned depth)
{
	struct listing l = { .walk = w, .dirs = BUF_INIT };
	int r = tree_fs_readdir(w->base, dir, 0, see_name, &l);

	for (size_t at = 0; !r && depth < DEPTH_MAX && at < l.dirs.len; at += sizeof(dir)) {
		memcpy(&dir, l.dirs.data + at, sizeof(dir));
		r = walk_dir(w, dir, depth + 1);
	}
	buf_fini(&l.dirs);
	return r;
}

void ahead_tree(const struct tree_fs *base, uint64_t dir)
{
	struct walk w = { .base = base, .loads_end = node_store_loads_here() + NODES_MAX };

	(void)walk_dir(&w, dir, 0);
}
