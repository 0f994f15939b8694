/* inspect_ls.c - ls: the names of a directory of a snapshot. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "tools/inspect/inspect.h"
#include "tools/inspect/inspect_commands.h"
#include "tools/inspect/inspect_json.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"

struct ls {
	const struct cli *cli;
	const struct tree_fs *fs;
	struct json_stream json;
	struct table *table; /* of one directory at a time */
	bool is_long;
	struct error *err;
};

static void add_long(struct ls *ls, const struct inspect_file *f)
{
	char mode[TEXT_MODE_MAX], time[TEXT_TIME_MAX];
	const struct inode_rec *rec = &f->rec;

	text_mode(rec->mode, mode);
	text_time(rec->mtime.tv_sec, time);
	table_cell(ls->table, "%s", mode);
	table_cell(ls->table, "%u", rec->nlink);
	table_cell(ls->table, "%u", rec->uid);
	table_cell(ls->table, "%u", rec->gid);
	if (S_ISCHR(rec->mode) || S_ISBLK(rec->mode))
		table_cell(ls->table, "%u, %u", major(rec->rdev), minor(rec->rdev));
	else
		table_cell(ls->table, "%llu", (unsigned long long)rec->size);
	table_cell(ls->table, "%s", time);
}

static int add(struct ls *ls, uint64_t ino, const char *path, size_t len)
{
	CLEANUP(buf_fini_p) struct buf name = BUF_INIT;
	struct inspect_file f;
	int r;

	if (!ls->is_long && !ls->cli->json) {
		r = cli_print_name(path, len);
		return r < 0 ? r : putchar('\n') == EOF ? cli_write_failure() : 0;
	}
	r = inspect_load(ls->fs, ino, &f, ls->err);
	if (r < 0)
		return r;
	if (ls->cli->json) {
		r = json_stream_add(&ls->json, inspect_file_json(&f, "path", path, len));
	} else {
		add_long(ls, &f);
		r = buf_append(&name, path, len);
		if (r == 0 && S_ISLNK(f.rec.mode))
			r = buf_append(&name, " -> ", 4);
		if (r == 0 && S_ISLNK(f.rec.mode))
			r = buf_append(&name, f.rec.target, f.rec.target_len);
		table_name(ls->table, (const char *)name.data, name.len);
	}
	inspect_file_fini(&f);
	return r;
}

static int list_directory(void *arg, const char *path, uint64_t dir,
			  const struct inspect_names *names)
{
	CLEANUP(buf_fini_p) struct buf full = BUF_INIT;
	struct ls *ls = arg;
	int r = 0;

	(void)dir;
	for (size_t i = 0; i < names->count && r == 0; i++) {
		const struct inspect_name *n = names->list[i];
		buf_clear(&full);
		if (*path)
			r = buf_printf(&full, "%s/", path);
		if (r == 0)
			r = buf_append(&full, n->name, n->len);
		if (r == 0)
			r = add(ls, n->ino, (const char *)full.data, full.len);
	}
	if (r == 0 && ls->table)
		r = table_print(ls->table, stdout, cli_width());
	return r;
}

static int list(struct ls *ls, const struct inspect *in, bool recurse, struct error *err)
{
	struct inspect_file f;
	int r = inspect_resolve(in, *in->path && in->path[strlen(in->path) - 1] == '/', &f, err);

	if (r < 0)
		return r;
	/* A symlink is listed as itself when long, and followed to a directory otherwise. */
	if (S_ISLNK(f.rec.mode) && !ls->is_long && !ls->cli->json) {
		struct inspect_file target;
		struct error ignored = ERROR_INIT;
		if (inspect_resolve(in, true, &target, &ignored) == 0) {
			inspect_file_fini(&f);
			f = target;
		}
	}
	if (S_ISDIR(f.rec.mode)) {
		r = inspect_walk(ls->fs, f.ino, recurse, list_directory, ls, err);
	} else {
		r = add(ls, f.ino, in->path, strlen(in->path));
		if (r == 0 && ls->table)
			r = table_print(ls->table, stdout, cli_width());
	}
	inspect_file_fini(&f);
	return r;
}

int inspect_ls(struct cli *cli, const struct args *args, struct error *err)
{
	struct ls ls = { .cli = cli, .is_long = args_has(args, "long"), .err = err };
	struct inspect in;
	int r = inspect_open(cli, args->words[0], false, &in, err);

	if (r < 0)
		return r;
	ls.fs = &in.fs;
	if (ls.is_long && !cli->json)
		ls.table = table_new("|>|>|>|>||");
	r = ls.is_long && !cli->json && !ls.table
		    ? -ENOMEM
		    : list(&ls, &in, args_has(args, "recursive"), err);
	if (cli->json && r == 0)
		r = json_stream_end(&ls.json);
	table_free(ls.table);
	inspect_close(&in);
	return r;
}
