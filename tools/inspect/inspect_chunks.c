/* inspect_chunks.c - chunks: where the bytes of a file of a snapshot are. */
#include <errno.h>
#include <stdio.h>

#include "tools/inspect/inspect.h"
#include "tools/inspect/inspect_commands.h"
#include "tools/inspect/inspect_json.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"

struct chunks {
	const struct cli *cli;
	struct inspect *in;
	struct json_stream json;
	struct table *table;
	uint64_t end; /* of the last extent */
};

/* One line. kind "chunk", "inline", "hole"; d NULL where it has no digest. */
static int chunks_row(struct chunks *c, const char *kind, uint64_t offset, uint64_t len,
		      const struct digest *d)
{
	char hex[DIGEST_HEX_SIZE] = "";
	uint32_t stored = 0;
	uint8_t codec = 0;
	int r = 0;

	if (d) {
		digest_to_hex(d, hex);
		r = inspect_stored(c->in, KV_CHUNK, d, &stored, &codec);
		if (r < 0 && r != -EREMOTE && r != -ENODATA && r != -EBADMSG)
			return r;
	}
	const char *state = r == -EREMOTE   ? "far"
			    : r == -ENODATA ? "missing"
			    : r		    ? "damaged"
			    : codec	    ? "zstd"
					    : "raw";
	if (c->cli->json) {
		json_t *o = json_pack("{s:s, s:I, s:I}", "kind", kind, "offset", (json_int_t)offset,
				      "length", (json_int_t)len);
		if (o && d) {
			json_object_set_new(o, "digest", json_string(hex));
			json_object_set_new(o, "codec", json_string(state));
			if (r == 0)
				json_object_set_new(o, "storedBytes", json_integer(stored));
		}
		return json_stream_add(&c->json, o);
	}
	table_cell(c->table, "%llu", (unsigned long long)offset);
	table_cell(c->table, "%llu", (unsigned long long)len);
	if (d && r == 0)
		table_cell(c->table, "%u", stored);
	else
		table_cell(c->table, "-");
	table_cell(c->table, "%s", d ? state : kind);
	table_name(c->table, d ? hex : "-", d ? strlen(hex) : 1);
	return 0;
}

static int chunks_extent(void *arg, uint64_t offset, const struct extent_rec *e)
{
	struct chunks *c = arg;
	int r = 0;

	if (offset > c->end)
		r = chunks_row(c, "hole", c->end, offset - c->end, NULL);
	c->end = offset + e->len;
	if (r < 0)
		return r;
	return e->kind == EXTENT_CHUNK ? chunks_row(c, "chunk", offset, e->len, &e->digest)
				       : chunks_row(c, "inline", offset, e->len, NULL);
}

static int chunks_list(struct chunks *c, struct error *err)
{
	const struct inspect *in = c->in;
	struct inspect_file f = { 0 };
	int r = inspect_resolve(in, true, &f, err);

	if (r == 0 && !S_ISREG(f.rec.mode))
		r = error_set(err, -EINVAL, "%s is a %s, not a file", in->path,
			      text_type(f.rec.mode));
	if (r == 0) {
		r = tree_fs_extents(&in->fs, f.ino, 0, UINT64_MAX, chunks_extent, c);
		if (r == 0 && c->end < f.rec.size)
			r = chunks_row(c, "hole", c->end, f.rec.size - c->end, NULL);
		if (r < 0)
			inspect_failure(r, err, in->path);
	}
	if (r == 0)
		r = c->cli->json ? json_stream_end(&c->json)
				 : table_print(c->table, stdout, cli_width());
	inspect_file_fini(&f);
	return r;
}

int inspect_chunks(struct cli *cli, const struct args *args, struct error *err)
{
	struct chunks c = { .cli = cli };
	struct inspect in;
	int r = inspect_open(cli, args->words[0], true, &in, err);

	if (r < 0)
		return r;
	c.in = &in;
	c.table = table_new(">OFFSET|>LENGTH|>STORED|CODEC|DIGEST");
	r = c.table ? chunks_list(&c, err) : -ENOMEM;
	table_free(c.table);
	inspect_close(&in);
	return r;
}
