/*
 * inspect_du.c - du: the space that a directory of a snapshot takes.
 *
 * One row for each directory down to --depth, counted with all below it: a
 * total is added to the row it belongs to and so to those above. A file with
 * several names, and a chunk in several files, counts once in the whole, for
 * the row that meets it first.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "store/chunk/digest_set.h"
#include "tools/inspect/chunk_index.h"
#include "tools/inspect/inspect.h"
#include "tools/inspect/inspect_commands.h"
#include "tools/inspect/inspect_json.h"
#include "tools/cli/progress_bar.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"

struct row {
	char *path;
	size_t parent; /* index, itself for the first */
	uint64_t files, logical, allocated, stored, far, unique;
};

struct du {
	struct cli *cli;
	struct inspect *in;
	const struct tree_fs *fs;
	uint64_t max_depth;
	bool want_unique;
	struct row *rows;
	size_t row_count, row_cap;
	struct digest_set inodes;  /* of several links, seen */
	struct chunk_index chunks; /* value: the row */
	struct error *err;
};

#define SET_MAX_BYTES ((size_t)1 << 30)

/* What a chunk's entry says: its row, or that another snapshot has it. */
#define CHUNK_SHARED UINT32_MAX

static int add_row(struct du *du, const char *path, size_t parent)
{
	if (du->row_count == du->row_cap) {
		size_t cap = du->row_cap ? du->row_cap * 2 : 16;
		void *rows = reallocarray(du->rows, cap, sizeof(*du->rows));
		if (!rows)
			return -ENOMEM;
		du->rows = rows;
		du->row_cap = cap;
	}
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	du->rows[du->row_count++] = (struct row){ .path = copy, .parent = parent };
	return 0;
}

/* Is `path` below (or at) `dir`? "" is above all. */
static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return n == 0 || (strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0'));
}

/*
 * The row that counts what is in the directory `path`. The walk is depth first,
 * so it is the last one or one above it, unless the directory gets its own.
 */
static int row_of(struct du *du, const char *path, size_t *out)
{
	uint64_t depth = *path ? 1 : 0;
	size_t row = du->row_count ? du->row_count - 1 : 0;

	for (const char *p = path; *p; p++)
		depth += *p == '/';
	while (du->row_count && !is_below(path, du->rows[row].path))
		row = du->rows[row].parent;
	if (depth <= du->max_depth) {
		int r = add_row(du, path, row);
		if (r < 0)
			return r;
		row = du->row_count - 1;
	}
	*out = row;
	return 0;
}

struct file_chunks {
	struct du *du;
	size_t row;
};

static int count_extent(void *arg, uint64_t offset, const struct extent_rec *e)
{
	struct file_chunks *fc = arg;
	struct chunk_entry *entry;
	uint32_t stored;
	uint8_t codec;

	(void)offset;
	if (e->kind != EXTENT_CHUNK)
		return 0;
	int r = chunk_index_add(&fc->du->chunks, &e->digest, &entry);
	if (r <= 0)
		return r;
	entry->value = (uint32_t)MIN(fc->row, (size_t)CHUNK_SHARED - 1);
	r = inspect_stored(fc->du->in, KV_CHUNK, &e->digest, &stored, &codec);
	if (r == -EREMOTE)
		fc->du->rows[fc->row].far += stored;
	if (r < 0)
		return r == -EREMOTE ? 0 : r;
	entry->size = stored;
	fc->du->rows[fc->row].stored += stored;
	return 0;
}

static int count_file(struct du *du, const struct inspect_file *f, size_t row)
{
	struct file_chunks fc = { du, row };

	if (f->rec.nlink > 1 && !S_ISDIR(f->rec.mode)) {
		struct digest key = { { 0 } };
		memcpy(key.b, &f->ino, sizeof(f->ino));
		if (!digest_set_add(&du->inodes, &key))
			return 0;
	}
	du->rows[row].files++;
	if (!S_ISREG(f->rec.mode))
		return 0;
	du->rows[row].logical += f->rec.size;
	du->rows[row].allocated += f->rec.alloc_bytes;
	return tree_fs_extents(du->fs, f->ino, 0, UINT64_MAX, count_extent, &fc);
}

static int count_directory(void *arg, const char *path, uint64_t dir,
			   const struct inspect_names *names)
{
	struct du *du = arg;
	size_t row;
	int r = row_of(du, path, &row);

	(void)dir;
	if (r == 0)
		du->rows[row].files++;
	for (size_t i = 0; i < names->count && r == 0; i++) {
		struct inspect_file f;
		if (names->list[i]->type == DT_DIR)
			continue;
		r = inspect_load(du->fs, names->list[i]->ino, &f, du->err);
		if (r < 0)
			return r;
		r = count_file(du, &f, row);
		inspect_file_fini(&f);
		if (r < 0)
			inspect_failure(r, du->err, names->list[i]->name);
	}
	return r;
}

/* ---- what other snapshots have ---- */

struct others {
	struct du *du;
	struct digest_set nodes; /* visited */
};

static int mark_shared(void *arg, const struct node *node)
{
	struct others *o = arg;

	if (!digest_set_add(&o->nodes, &node->digest))
		return 0;
	if (node->view.level > 0)
		return 1;
	for (uint32_t i = 0; i < node->view.count; i++) {
		const uint8_t *key, *value;
		size_t klen, vlen;
		struct key_parts parts;
		struct extent_rec e;
		node_entry(&node->view, i, &key, &klen, &value, &vlen);
		if (key_parse(key, klen, &parts) < 0 || parts.kind != KEY_EXTENT)
			continue;
		int r = extent_decode(value, vlen, &e);
		if (r < 0)
			return r;
		if (e.kind == EXTENT_CHUNK) {
			struct chunk_entry *c = chunk_index_find(&o->du->chunks, &e.digest);
			if (c)
				c->value = CHUNK_SHARED;
		}
	}
	return 1;
}

static void sum_unique(struct du *du)
{
	for (size_t i = 0; du->chunks.table && i <= du->chunks.mask; i++) {
		const struct chunk_entry *c = &du->chunks.table[i];
		if (c->used && c->value != CHUNK_SHARED)
			du->rows[c->value].unique += c->size;
	}
}

static int find_unique(struct du *du, const struct inspect *in, struct error *err)
{
	struct others o = { .du = du };
	struct snapshot *list = NULL;
	size_t n = 0;
	int r = snapshots_list(du->cli->store->snapshots, &list, &n, err);

	if (r < 0)
		return r;
	digest_set_init(&o.nodes, SET_MAX_BYTES);
	for (size_t i = 0; i < n && r == 0; i++) {
		if (strcmp(list[i].id, in->snap.id) == 0 || !list[i].has_root)
			continue;
		r = tree_visit(du->fs->nodes, &list[i].root, mark_shared, &o);
		if (r < 0)
			inspect_failure(r, err, list[i].name[0] ? list[i].name : list[i].id);
	}
	digest_set_fini(&o.nodes);
	snapshots_list_free(list, n);
	if (r == 0)
		sum_unique(du);
	return r;
}

/* ---- output ---- */

static void add_up(struct du *du)
{
	for (size_t i = du->row_count; i-- > 1;) {
		struct row *from = &du->rows[i], *to = &du->rows[from->parent];
		to->files += from->files;
		to->logical += from->logical;
		to->allocated += from->allocated;
		to->stored += from->stored;
		to->far += from->far;
		to->unique += from->unique;
	}
}

static int print_json(const struct du *du)
{
	struct json_stream js = { 0 };
	int r = 0;

	for (size_t i = 0; i < du->row_count && r == 0; i++) {
		const struct row *w = &du->rows[i];
		json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:I}", "files", (json_int_t)w->files,
				      "logicalBytes", (json_int_t)w->logical, "allocatedBytes",
				      (json_int_t)w->allocated, "storedBytes",
				      (json_int_t)w->stored, "farBytes", (json_int_t)w->far);
		if (!o || bytes_json_set(o, "path", w->path, strlen(w->path)) < 0)
			r = -ENOMEM;
		if (o && du->want_unique)
			json_object_set_new(o, "uniqueBytes", json_integer((json_int_t)w->unique));
		int added = json_stream_add(&js, o);
		r = r < 0 ? r : added;
	}
	return r < 0 ? r : json_stream_end(&js);
}

static int print_table(const struct du *du, const char *top)
{
	const bool far = du->rows[0].far > 0; /* of all that is below it */
	char columns[100];
	CLEANUP(table_free_p) struct table *t = NULL;

	snprintf(columns, sizeof(columns), ">LOGICAL|>ALLOCATED|>STORED%s%s|>FILES|PATH",
		 far ? "|>FAR" : "", du->want_unique ? "|>UNIQUE" : "");
	t = table_new(columns);
	if (!t)
		return -ENOMEM;
	for (size_t i = 0; i < du->row_count; i++) {
		const struct row *w = &du->rows[i];
		table_size(t, w->logical);
		table_size(t, w->allocated);
		table_size(t, w->stored);
		if (far)
			table_size(t, w->far);
		if (du->want_unique)
			table_size(t, w->unique);
		table_cell(t, "%llu", (unsigned long long)w->files);
		if (*w->path)
			table_name(t, w->path, strlen(w->path));
		else
			table_name(t, top, strlen(top));
	}
	return table_print(t, stdout, cli_width());
}

static int measure(struct du *du, const struct inspect *in, struct error *err)
{
	struct inspect_file f = { 0 };
	int r = inspect_resolve(in, true, &f, err);

	if (r < 0)
		return r;
	if (S_ISDIR(f.rec.mode)) {
		r = inspect_walk(du->fs, f.ino, true, count_directory, du, err);
	} else {
		r = add_row(du, "", 0);
		if (r == 0)
			r = count_file(du, &f, 0);
		if (r < 0)
			inspect_failure(r, err, in->path);
	}
	inspect_file_fini(&f);
	if (r == 0 && du->want_unique)
		r = find_unique(du, in, err);
	return r;
}

int inspect_du(struct cli *cli, const struct args *args, struct error *err)
{
	struct du du = { .cli = cli, .want_unique = args_has(args, "unique"), .err = err };
	const char *depth = args_get(args, "depth");
	struct inspect in;

	if (depth && text_parse_count(depth, &du.max_depth) < 0)
		return cli_usage(err, "'%s' is no depth", depth);
	int r = inspect_open(cli, args->words[0], false, &in, err);
	if (r < 0)
		return r;
	du.in = &in;
	du.fs = &in.fs;
	digest_set_init(&du.inodes, SET_MAX_BYTES);
	r = measure(&du, &in, err);
	if (r == 0) {
		add_up(&du);
		r = cli->json ? print_json(&du) : print_table(&du, *in.path ? in.path : "/");
	}
	for (size_t i = 0; i < du.row_count; i++)
		free(du.rows[i].path);
	free(du.rows);
	digest_set_fini(&du.inodes);
	chunk_index_fini(&du.chunks);
	inspect_close(&in);
	return r;
}
