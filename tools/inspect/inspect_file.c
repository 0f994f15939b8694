/* inspect_file.c - cat and stat: one file of a snapshot. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "store/base/bytes_json.h"
#include "store/base/wire.h"
#include "tools/inspect/inspect.h"
#include "tools/inspect/inspect_commands.h"
#include "tools/inspect/inspect_json.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"

#define CAT_BUFFER (1u << 20)

static int cat_one(struct cli *cli, const char *spec, uint8_t *buffer, struct error *err)
{
	struct inspect_file f = { 0 };
	struct inspect in;
	int r = inspect_open(cli, spec, true, &in, err);

	if (r < 0)
		return r;
	r = inspect_resolve(&in, true, &f, err);
	if (r == 0 && !S_ISREG(f.rec.mode))
		r = error_set(err, -EINVAL, "%s is a %s, not a file", in.path,
			      text_type(f.rec.mode));
	for (uint64_t at = 0; r == 0 && at < f.rec.size; at += CAT_BUFFER) {
		size_t len = (size_t)MIN((uint64_t)CAT_BUFFER, f.rec.size - at);
		r = tree_fs_read(&in.fs, f.ino, at, buffer, len);
		if (r < 0)
			r = inspect_failure(r, err, in.path);
		else if (fwrite(buffer, 1, len, stdout) != len)
			r = error_set_errno(err, -errno, "writing the output");
	}
	inspect_file_fini(&f);
	inspect_close(&in);
	return r;
}

int inspect_cat(struct cli *cli, const struct args *args, struct error *err)
{
	uint8_t *buffer = malloc(CAT_BUFFER);
	int r = buffer ? 0 : -ENOMEM;

	if (cli->json)
		r = cli_usage(err, "prints bytes, not JSON");
	for (int i = 0; i < args->count && r == 0; i++)
		r = cat_one(cli, args->words[i], buffer, err);
	free(buffer);
	return r;
}

/* An attribute's value as getfattr prints it: text, or 0x and hex digits. */
static json_t *xattr_json(const uint8_t *value, size_t len)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	bool is_text = text_is_utf8((const char *)value, len);

	for (size_t i = 0; i < len && is_text; i++)
		is_text = value[i] >= 0x20 && value[i] != 0x7f;
	if (is_text)
		return json_stringn((const char *)value, len);
	if (buf_append_str(&b, "0x") < 0)
		return NULL;
	for (size_t i = 0; i < len; i++)
		if (buf_printf(&b, "%02x", value[i]) < 0)
			return NULL;
	return json_stringn((const char *)b.data, b.len);
}

/* As people read them and as bytes, in step; the bytes are shown where a name is not UTF-8. */
struct two_ways {
	json_t *text, *base64;
	bool is_exact; /* the text has lost nothing */
};

static int two_ways_init(struct two_ways *w, json_t *text, json_t *base64)
{
	*w = (struct two_ways){ text, base64, true };
	return text && base64 ? 0 : -ENOMEM;
}

static void two_ways_fini(struct two_ways *w)
{
	json_decref(w->text);
	json_decref(w->base64);
}

/* Set o[key] and, where it is needed, o[base64_key]; neither where there is nothing. */
static int two_ways_put(const struct two_ways *w, json_t *o, const char *key,
			const char *base64_key)
{
	int failed = 0;

	if (json_array_size(w->base64) > 0 || json_object_size(w->base64) > 0)
		failed |= json_object_set(o, key, w->text);
	if (!w->is_exact)
		failed |= json_object_set(o, base64_key, w->base64);
	return failed ? -ENOMEM : 0;
}

static int add_xattr(void *arg, const char *name, size_t name_len, const void *value,
		     size_t value_len)
{
	struct two_ways *w = arg;
	json_t *key = bytes_json(name, name_len), *base64 = bytes_json_base64(name, name_len);
	int failed = !key || !base64;

	if (!failed)
		failed = json_object_set_new(w->text, json_string_value(key),
					     xattr_json(value, value_len)) ||
			 json_object_set_new(w->base64, json_string_value(base64),
					     bytes_json_base64(value, value_len));
	w->is_exact &= bytes_json_is_exact(name, name_len);
	json_decref(key);
	json_decref(base64);
	return failed ? -ENOMEM : 0;
}

/* Append the path of `name` in the directory `parent`. */
static int add_link(const struct tree_fs *fs, uint64_t parent, const void *name, size_t len,
		    struct two_ways *links)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	int r = tree_fs_path(fs, parent, &path);

	if (r == 0 && path.len)
		r = buf_append(&path, "/", 1);
	if (r == 0)
		r = buf_append(&path, name, len);
	if (r < 0)
		return r;
	links->is_exact &= bytes_json_is_exact(path.data, path.len);
	if (json_array_append_new(links->text, bytes_json(path.data, path.len)) ||
	    json_array_append_new(links->base64, bytes_json_base64(path.data, path.len)))
		return -ENOMEM;
	return 0;
}

/* Every name of a file with several: its back references. */
static int add_links(const struct tree_fs *fs, uint64_t ino, struct two_ways *links)
{
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(fs->nodes, &fs->root);
	struct key key;

	if (!it)
		return -ENOMEM;
	key_kind_start(&key, ino, KEY_BACKREF);
	int r = tree_iter_seek(it, key.bytes, key.len);
	while (r == 1) {
		struct key_parts parts;
		size_t klen, vlen;
		const uint8_t *k = tree_iter_key(it, &klen), *v = tree_iter_value(it, &vlen);
		r = key_parse(k, klen, &parts);
		if (r < 0 || parts.ino != ino || parts.kind != KEY_BACKREF)
			return r;
		r = add_link(fs, wire_get64be(parts.sub), v, vlen, links);
		if (r == 0)
			r = tree_iter_next(it);
	}
	return r;
}

static int count_extent(void *arg, uint64_t offset, const struct extent_rec *e)
{
	(void)offset;
	(void)e;
	++*(json_int_t *)arg;
	return 0;
}

/* What stat tells beyond ls. */
static int add_details(const struct tree_fs *fs, const struct inspect_file *f, json_t *o)
{
	struct two_ways xattrs, links;
	json_int_t extents = 0;
	int r = two_ways_init(&xattrs, json_object(), json_object());

	if (two_ways_init(&links, json_array(), json_array()) < 0)
		r = -ENOMEM;

	if (r == 0)
		r = tree_fs_listxattr(fs, f->ino, add_xattr, &xattrs);
	if (r == 0 && f->rec.nlink > 1 && !S_ISDIR(f->rec.mode))
		r = add_links(fs, f->ino, &links);
	if (r == 0 && S_ISREG(f->rec.mode))
		r = tree_fs_extents(fs, f->ino, 0, UINT64_MAX, count_extent, &extents);
	if (r == 0 && S_ISREG(f->rec.mode))
		json_object_set_new(o, "extents", json_integer(extents));
	if (r == 0)
		r = two_ways_put(&links, o, "links", "linksBase64");
	if (r == 0)
		r = two_ways_put(&xattrs, o, "xattrs", "xattrsBase64");
	two_ways_fini(&xattrs);
	two_ways_fini(&links);
	return r;
}

static void field(struct table *t, const char *name, const char *value)
{
	table_cell(t, "%s", name);
	table_name(t, value, strlen(value));
}

static void size_field(struct table *t, const char *name, uint64_t bytes)
{
	char size[TEXT_SIZE_MAX];

	text_size(bytes, size);
	table_cell(t, "%s", name);
	table_cell(t, "%llu (%s)", (unsigned long long)bytes, size);
}

static int stat_print(const struct inspect_file *f, const json_t *o)
{
	static const char *const rest[] = { "rdev", "mtime", "ctime" };
	CLEANUP(table_free_p) struct table *t = table_new("|");
	char mode[TEXT_MODE_MAX];
	const char *key;
	json_t *v;
	size_t i;

	if (!t)
		return -ENOMEM;
	text_mode(f->rec.mode, mode);
	table_cell(t, "path");
	table_json_name(t, o, "path", "");
	field(t, "type", cli_str(o, "type"));
	if (S_ISLNK(f->rec.mode)) {
		table_cell(t, "target");
		table_json_name(t, o, "target", "");
	}
	table_cell(t, "mode");
	table_cell(t, "%s (%s)", cli_str(o, "mode"), mode);
	table_cell(t, "owner");
	table_cell(t, "%u:%u", f->rec.uid, f->rec.gid);
	size_field(t, "size", f->rec.size);
	size_field(t, "allocated", f->rec.alloc_bytes);
	table_cell(t, "inode");
	table_cell(t, "%llu", (unsigned long long)f->ino);
	table_cell(t, "links");
	table_cell(t, "%u", f->rec.nlink);
	for (i = 0; i < ARRAY_SIZE(rest); i++)
		if (json_object_get(o, rest[i]))
			field(t, rest[i], cli_str(o, rest[i]));
	if (S_ISREG(f->rec.mode)) {
		table_cell(t, "extents");
		table_cell(t, "%llu", (unsigned long long)cli_num(o, "extents"));
	}
	json_array_foreach(json_object_get(o, "links"), i, v)
		field(t, "link", json_string_value(v));
	json_object_foreach(json_object_get(o, "xattrs"), key, v)
		field(t, key, json_string_value(v));
	return table_print(t, stdout, cli_width());
}

int inspect_stat(struct cli *cli, const struct args *args, struct error *err)
{
	struct inspect_file f = { 0 };
	struct inspect in;
	json_t *o = NULL;
	int r = inspect_open(cli, args->words[0], true, &in, err);

	if (r < 0)
		return r;
	r = inspect_resolve(&in, false, &f, err);
	if (r == 0) {
		o = inspect_file_json(&f, "path", *in.path ? in.path : "/",
				      *in.path ? strlen(in.path) : 1);
		r = o ? add_details(&in.fs, &f, o) : -ENOMEM;
		if (r < 0 && r != -ENOMEM)
			inspect_failure(r, err, in.path);
	}
	if (r == 0)
		r = cli->json ? cli_print_json(o) : stat_print(&f, o);
	json_decref(o);
	inspect_file_fini(&f);
	inspect_close(&in);
	return r;
}
