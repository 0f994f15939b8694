#include "store/import/ingest_place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/archive/archive_path.h"

#define SYMLINKS_MAX 40
#define WALK_MAX (4 * ARCHIVE_PATH_MAX) /* of a path with its symlinks expanded */

struct place {
	struct ingest *in;
	bool make;
	uint16_t layer;
	unsigned symlinks;
	struct ingest_inode *dir;
	struct buf todo; /* components that are left; `at` is the next one's start */
	size_t at;
};

static struct ingest_inode *parent_of(struct ingest_inode *dir)
{
	return dir->name ? dir->name->dir : dir;
}

/* Go on with the symlink's target, then with the rest of the path. */
static int follow(struct place *p, const struct ingest_inode *link)
{
	struct buf todo CLEANUP(buf_fini_p) = BUF_INIT;
	size_t left = p->todo.len - p->at;
	int r;

	if (++p->symlinks > SYMLINKS_MAX)
		return -ELOOP;
	if (link->size + 1 + left > WALK_MAX)
		return -ENAMETOOLONG;
	if (link->target[0] == '/')
		p->dir = ingest_tree_root(p->in->tree);
	r = buf_append(&todo, link->target, link->size);
	if (r == 0)
		r = buf_append(&todo, "/", 1);
	if (r == 0 && left)
		r = buf_append(&todo, p->todo.data + p->at, left);
	if (r < 0)
		return r;
	struct buf old = p->todo;
	p->todo = todo;
	todo = old;
	p->at = 0;
	return 0;
}

static int make_dir(struct place *p, const char *name, size_t len)
{
	struct ingest_name *n;
	int r = ingest_count_entry(p->in);

	if (r == 0)
		r = ingest_tree_add(p->in->tree, p->dir, name, len, S_IFDIR | 0755, NULL, &n);
	if (r < 0)
		return r;
	n->layer = p->layer;
	p->dir = n->inode;
	return 0;
}

static int enter(struct place *p, const char *name, size_t len)
{
	struct ingest_name *n;

	if (len == 0 || (len == 1 && name[0] == '.'))
		return 0;
	if (len == 2 && name[0] == '.' && name[1] == '.') { /* of a symlink's target */
		p->dir = parent_of(p->dir);
		return 0;
	}
	if (len > NAME_LEN_MAX)
		return -ENAMETOOLONG;
	n = ingest_tree_lookup(p->in->tree, p->dir, name, len);
	if (!n)
		return p->make ? make_dir(p, name, len) : -ENOENT;
	if (S_ISLNK(n->inode->mode))
		return follow(p, n->inode);
	if (!n->is_dir)
		return -ENOTDIR;
	p->dir = n->inode;
	return 0;
}

int ingest_place(struct ingest *in, const char *path, size_t path_len, bool make, uint16_t layer,
		 struct ingest_inode **out_dir, const char **out_name, size_t *out_len)
{
	struct place p = { .in = in, .make = make, .layer = layer };
	const char *slash = memrchr(path, '/', path_len);
	int r = 0;

	p.dir = ingest_tree_root(in->tree);
	if (slash)
		r = buf_append(&p.todo, path, (size_t)(slash - path));
	while (r == 0 && p.at < p.todo.len) {
		const char *at = (const char *)p.todo.data + p.at, *rest = at;
		size_t len;

		(void)archive_path_next(&rest, (const char *)p.todo.data + p.todo.len, &len);
		p.at += (size_t)(rest - at);
		r = enter(&p, at, len);
	}
	buf_fini(&p.todo);
	*out_dir = p.dir;
	*out_name = slash ? slash + 1 : path;
	*out_len = path_len - (size_t)(*out_name - path);
	return r;
}

/*
 * Depth first without recursion: a directory is looked at again after all of
 * its children, and removed if it is of a lower layer and empty by then.
 */
struct hide_level {
	struct ingest_inode *dir;
	uint32_t next;
};

static int hide_push(struct hide_level **levels, size_t *n, size_t *cap, struct ingest_inode *dir)
{
	if (*n == *cap) {
		size_t more = *cap ? *cap * 2 : 16;
		struct hide_level *p = realloc(*levels, more * sizeof(*p));

		if (!p)
			return -ENOMEM;
		*levels = p;
		*cap = more;
	}
	(*levels)[(*n)++] = (struct hide_level){ dir, 0 };
	return 0;
}

int ingest_hide_children(struct ingest *in, struct ingest_inode *dir, uint16_t layer)
{
	struct hide_level *levels = NULL;
	size_t n = 0, cap = 0;
	int r = hide_push(&levels, &n, &cap, dir);

	while (r == 0 && n > 0) {
		struct hide_level *at = &levels[n - 1];

		if (at->next < at->dir->n_children) {
			struct ingest_name *child = at->dir->children[at->next];

			if (child->is_dir) {
				at->next++;
				r = hide_push(&levels, &n, &cap, child->inode);
			} else if (child->layer < layer) {
				ingest_tree_remove(in->tree, child); /* another takes its index */
			} else {
				at->next++;
			}
			continue;
		}
		struct ingest_name *name = at->dir->name;
		bool empty = at->dir->n_children == 0;
		if (--n == 0)
			break;
		if (empty && name->layer < layer) {
			levels[n - 1].next = name->index; /* another takes its index */
			ingest_tree_remove(in->tree, name);
		}
	}
	free(levels);
	return r;
}

int ingest_hide_name(struct ingest *in, struct ingest_name *n, uint16_t layer)
{
	int r = n->is_dir ? ingest_hide_children(in, n->inode, layer) : 0;

	if (r == 0 && n->layer < layer && (!n->is_dir || n->inode->n_children == 0))
		ingest_tree_remove(in->tree, n);
	return r;
}
