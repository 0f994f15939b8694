/* inspect_tree.c - tree: how a snapshot's tree is made up. */
#include <errno.h>
#include <stdio.h>

#include "tools/inspect/inspect.h"
#include "tools/inspect/inspect_commands.h"
#include "tools/cli/table.h"

struct level {
	uint64_t nodes, entries, raw_bytes, stored_bytes;
};

struct shape {
	struct inspect *in;
	struct level levels[NODE_LEVEL_MAX + 1];
	uint64_t kinds[KEY_KIND_COUNT];
	unsigned height;
};

static int visit(void *arg, const struct node *node)
{
	struct shape *sh = arg;
	struct level *l = &sh->levels[MIN(node->view.level, NODE_LEVEL_MAX)];
	uint32_t stored;
	uint8_t codec;
	int r = inspect_stored(sh->in, KV_NODE, &node->digest, &stored, &codec);

	if (r < 0)
		return r;
	l->nodes++;
	l->entries += node->view.count;
	l->raw_bytes += node->view.len;
	l->stored_bytes += stored;
	sh->height = MAX(sh->height, node->view.level + 1u);
	for (uint32_t i = 0; node->view.level == 0 && i < node->view.count; i++) {
		const uint8_t *key, *value;
		size_t klen, vlen;
		struct key_parts parts;
		node_entry(&node->view, i, &key, &klen, &value, &vlen);
		if (key_parse(key, klen, &parts) < 0)
			return -EBADMSG;
		sh->kinds[parts.kind]++;
	}
	return 1;
}

static const char *const kind_names[KEY_KIND_COUNT] = {
	[KEY_INODE] = "inodes",	  [KEY_XATTR] = "xattrs",     [KEY_DIRENT] = "dirents",
	[KEY_EXTENT] = "extents", [KEY_BACKREF] = "backrefs",
};

static json_t *shape_json(const struct shape *sh, const struct inspect *in)
{
	char root[DIGEST_HEX_SIZE];
	json_t *levels = json_array(), *kinds = json_object();

	digest_to_hex(&in->snap.root, root);
	for (unsigned i = sh->height; i-- > 0;) {
		const struct level *l = &sh->levels[i];
		json_array_append_new(
			levels, json_pack("{s:i, s:I, s:I, s:I, s:I}", "level", (int)i, "nodes",
					  (json_int_t)l->nodes, "entries", (json_int_t)l->entries,
					  "rawBytes", (json_int_t)l->raw_bytes, "storedBytes",
					  (json_int_t)l->stored_bytes));
	}
	for (int k = 0; k < KEY_KIND_COUNT; k++)
		json_object_set_new(kinds, kind_names[k], json_integer((json_int_t)sh->kinds[k]));
	/* The super record is kept under an inode's kind of key. */
	if (sh->kinds[KEY_INODE])
		json_object_set_new(kinds, kind_names[KEY_INODE],
				    json_integer((json_int_t)sh->kinds[KEY_INODE] - 1));
	return json_pack("{s:s, s:o, s:o}", "root", root, "levels", levels, "keys", kinds);
}

static int shape_print(const struct shape *sh, const struct inspect *in)
{
	char root[DIGEST_HEX_SIZE];
	CLEANUP(table_free_p)
	struct table *t = table_new(">LEVEL|>NODES|>ENTRIES|>PER NODE|>SIZE|>STORED");

	if (!t)
		return -ENOMEM;
	digest_to_hex(&in->snap.root, root);
	printf("root %s\n", root);
	for (unsigned i = sh->height; i-- > 0;) {
		const struct level *l = &sh->levels[i];
		table_cell(t, i ? "%u" : "%u (leaves)", i);
		table_cell(t, "%llu", (unsigned long long)l->nodes);
		table_cell(t, "%llu", (unsigned long long)l->entries);
		table_cell(t, "%.1f", l->nodes ? (double)l->entries / (double)l->nodes : 0);
		table_size(t, l->raw_bytes);
		table_size(t, l->stored_bytes);
	}
	int r = table_print(t, stdout, cli_width());
	printf("keys:");
	for (int k = 0; k < KEY_KIND_COUNT; k++) {
		uint64_t n = sh->kinds[k] - (k == KEY_INODE && sh->kinds[k]);
		printf(" %llu %s%s", (unsigned long long)n, kind_names[k],
		       k + 1 < KEY_KIND_COUNT ? "," : "\n");
	}
	return r;
}

int inspect_tree(struct cli *cli, const struct args *args, struct error *err)
{
	struct shape sh = { 0 };
	struct inspect in;
	int r = inspect_open(cli, args->words[0], false, &in, err);

	if (r < 0)
		return r;
	sh.in = &in;
	r = tree_visit(in.fs.nodes, &in.snap.root, visit, &sh);
	if (r < 0) {
		inspect_failure(r, err, "the tree");
	} else if (cli->json) {
		json_t *o = shape_json(&sh, &in);
		r = o ? cli_print_json(o) : -ENOMEM;
		json_decref(o);
	} else {
		r = shape_print(&sh, &in);
	}
	inspect_close(&in);
	return r;
}
