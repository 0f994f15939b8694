#include "tools/inspect/inspect.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/kv/meta.h"

int inspect_failure(int r, struct error *err, const char *what)
{
	switch (r) {
	case -ENODATA:
		return error_set(err, r, "%s: data is missing from the store; see varve verify",
				 what);
	case -EBADMSG:
		return error_set(err, r, "%s: data in the store is damaged; see varve verify",
				 what);
	}
	return error_set_errno(err, r, "%s", what);
}

/* Names have no ':', so the first one divides. */
int inspect_open(struct cli *cli, const char *spec, bool path_needed, struct inspect *out,
		 struct error *err)
{
	const char *colon = strchr(spec, ':');
	struct store *s;

	if (!colon && path_needed)
		return error_set(err, -EINVAL, "needs a path: %s:PATH", spec);
	char *name = colon ? strndup(spec, (size_t)(colon - spec)) : strdup(spec);
	if (!name)
		return -ENOMEM;
	*out = (struct inspect){ .path = colon ? colon + 1 : "" };
	int r = cli_store(cli, &s, err);
	if (r == 0)
		r = snapshots_get(s->snapshots, name, &out->snap, err);
	if (r == -ENOENT && colon && meta_has(s->kv, META_REMOTE, name) == 1)
		error_set(err, r,
			  "\"%s\" is a remote: only a daemon asks those, so leave --store out",
			  name);
	free(name);
	if (r < 0)
		return r;
	if (out->snap.status != SNAPSHOT_READY || !out->snap.has_root) {
		bool failed = out->snap.status == SNAPSHOT_FAILED;
		r = error_set(err, -EINVAL, "the snapshot %s%s%s",
			      failed ? "has failed" : "is still being built",
			      failed && out->snap.error[0] ? ": " : "",
			      failed ? out->snap.error : "");
		inspect_close(out);
		return r;
	}
	out->store = s;
	out->index = cli->index;
	out->fs = store_tree(s, &out->snap.root);
	return 0;
}

void inspect_close(struct inspect *in)
{
	for (int f = 0; f < KV_FAMILY_COUNT; f++)
		kv_iter_free(in->heads[f]);
	snapshot_fini(&in->snap);
}

int inspect_load(const struct tree_fs *fs, uint64_t ino, struct inspect_file *out,
		 struct error *err)
{
	*out = (struct inspect_file){ .ino = ino };
	int r = tree_fs_inode(fs, ino, &out->rec, &out->pin);
	if (r == -ENOENT)
		return error_set(err, -EBADMSG, "inode %llu: a name leads to it but it is missing",
				 (unsigned long long)ino);
	return r < 0 ? inspect_failure(r, err, "an inode") : 0;
}

void inspect_file_fini(struct inspect_file *f)
{
	tree_value_release(&f->pin);
}

int inspect_resolve(const struct inspect *in, bool follow, struct inspect_file *out,
		    struct error *err)
{
	uint64_t ino;
	int r = tree_fs_resolve(&in->fs, in->path, follow, &ino);

	if (r < 0)
		return inspect_failure(r, err, *in->path ? in->path : "/");
	return inspect_load(&in->fs, ino, out, err);
}

static int add_name(void *arg, uint64_t hash, const struct dirent_rec *e)
{
	struct inspect_names *n = arg;

	(void)hash;
	if (n->count == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 32;
		void *list = reallocarray(n->list, cap, sizeof(*n->list));
		if (!list)
			return -ENOMEM;
		n->list = list;
		n->cap = cap;
	}
	struct inspect_name *name = malloc(sizeof(*name) + e->name_len + 1u);
	if (!name)
		return -ENOMEM;
	name->ino = e->ino;
	name->type = e->type;
	name->len = e->name_len;
	memcpy(name->name, e->name, e->name_len);
	name->name[e->name_len] = '\0';
	n->list[n->count++] = name;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct inspect_name *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

int inspect_names_read(const struct tree_fs *fs, uint64_t dir, struct inspect_names *out,
		       struct error *err)
{
	*out = (struct inspect_names){ 0 };
	int r = tree_fs_readdir(fs, dir, 0, add_name, out);
	if (r < 0) {
		inspect_names_fini(out);
		return inspect_failure(r, err, "a directory");
	}
	if (out->count > 1)
		qsort(out->list, out->count, sizeof(*out->list), by_name);
	return 0;
}

void inspect_names_fini(struct inspect_names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
	*n = (struct inspect_names){ 0 };
}

/*
 * The walk keeps its own stack: trees are deeper than a thread's. A child is
 * entered only where its record names this directory as its parent, so that
 * no damaged tree can make it go round.
 */
struct frame {
	uint64_t dir;
	size_t path_len;
	struct inspect_names names;
	size_t next;
};

struct walk {
	const struct tree_fs *fs;
	inspect_walk_fn fn;
	void *arg;
	struct buf path;
	struct frame *frames;
	size_t depth, cap;
};

static int push(struct walk *w, uint64_t dir, struct error *err)
{
	if (w->depth == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 16;
		void *frames = reallocarray(w->frames, cap, sizeof(*w->frames));
		if (!frames)
			return -ENOMEM;
		w->frames = frames;
		w->cap = cap;
	}
	struct frame *f = &w->frames[w->depth];
	*f = (struct frame){ .dir = dir, .path_len = w->path.len };
	int r = inspect_names_read(w->fs, dir, &f->names, err);
	if (r < 0)
		return r;
	w->depth++;
	const char *path = buf_cstr(&w->path);
	return path ? w->fn(w->arg, path, dir, &f->names) : -ENOMEM;
}

static int enter(struct walk *w, uint64_t parent, const struct inspect_name *name,
		 struct error *err)
{
	struct inspect_file file;
	int r = inspect_load(w->fs, name->ino, &file, err);

	if (r < 0)
		return r;
	bool fits = S_ISDIR(file.rec.mode) && file.rec.parent == parent;
	inspect_file_fini(&file);
	if (!fits)
		return error_set(err, -EBADMSG, "%s: the directory's record names another parent",
				 name->name);
	if (w->path.len && (r = buf_append(&w->path, "/", 1)) < 0)
		return r;
	r = buf_append(&w->path, name->name, name->len);
	return r < 0 ? r : push(w, name->ino, err);
}

int inspect_walk(const struct tree_fs *fs, uint64_t dir, bool recurse, inspect_walk_fn fn,
		 void *arg, struct error *err)
{
	struct walk w = { .fs = fs, .fn = fn, .arg = arg };
	int r = push(&w, dir, err);

	while (r == 0 && recurse && w.depth > 0) {
		struct frame *f = &w.frames[w.depth - 1];
		w.path.len = f->path_len;
		while (f->next < f->names.count && f->names.list[f->next]->type != DT_DIR)
			f->next++;
		if (f->next < f->names.count)
			r = enter(&w, f->dir, f->names.list[f->next++], err);
		else
			inspect_names_fini(&w.frames[--w.depth].names);
	}
	while (w.depth > 0)
		inspect_names_fini(&w.frames[--w.depth].names);
	free(w.frames);
	buf_fini(&w.path);
	return r;
}

/* It is not here. */
static int find_far(const struct inspect *in, enum kv_family family, const struct digest *d,
		    uint32_t *out_bytes)
{
	struct lazy_loc far;

	if (family != KV_CHUNK || !lazy_index_find(in->index, d, 0, &far))
		return -ENODATA;
	*out_bytes = far.at.len;
	return -EREMOTE;
}

int inspect_stored(struct inspect *in, enum kv_family family, const struct digest *d,
		   uint32_t *out_bytes, uint8_t *out_codec)
{
	struct kv_iter **it = &in->heads[family];
	size_t len;

	if (!*it)
		*it = kv_iter_new_heads(in->store->kv, family);
	if (!*it)
		return -ENOMEM;
	kv_iter_seek(*it, d->b, DIGEST_SIZE);
	const uint8_t *key = kv_iter_valid(*it) ? kv_iter_key(*it, &len) : NULL;
	if (!key || len != DIGEST_SIZE || memcmp(key, d->b, DIGEST_SIZE) != 0) {
		int r = kv_iter_status(*it);
		return r < 0 ? r : find_far(in, family, d, out_bytes);
	}
	const uint8_t *head = kv_iter_value(*it, &len);
	*out_codec = len ? head[0] : 0xff;
	*out_bytes = (uint32_t)kv_iter_value_len(*it);
	return 0;
}
