/* inspect_complete.c - completions that a store has: names of snapshots, paths in them. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "tools/cli/text.h"
#include "tools/inspect/inspect.h"
#include "tools/inspect/inspect_commands.h"

static void offer_snapshots(struct cli *cli, const char *last, const char *behind)
{
	struct error ignored = ERROR_INIT;
	struct snapshot *list = NULL;
	struct store *s;
	size_t n = 0;

	if (cli_store(cli, &s, &ignored) < 0 ||
	    snapshots_list(s->snapshots, &list, &n, &ignored) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		const char *label = list[i].name[0] ? list[i].name : list[i].id;
		if (strncmp(label, last, strlen(last)) == 0)
			printf("%s%s\n", label, behind);
	}
	snapshots_list_free(list, n);
}

/* Only names that look the same on the line as they are. */
static bool is_plain(const char *name)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	return text_escape(&b, name, strlen(name)) == 0 && b.len == strlen(name);
}

/* `last` is "SNAPSHOT:PATH": names of the directory that PATH is in. */
static void offer_paths(struct cli *cli, const char *last)
{
	const char *slash = strrchr(last, '/'), *colon = strchr(last, ':');
	const char *base = slash && slash > colon ? slash + 1 : colon + 1;
	char *spec = strndup(last, (size_t)(base - last));
	struct error ignored = ERROR_INIT;
	struct inspect_names names;
	struct inspect in;
	uint64_t ino;

	if (!spec || inspect_open(cli, spec, true, &in, &ignored) < 0) {
		free(spec);
		return;
	}
	if (tree_fs_resolve(&in.fs, in.path, true, &ino) == 0 &&
	    inspect_names_read(&in.fs, ino, &names, &ignored) == 0) {
		for (size_t i = 0; i < names.count; i++) {
			const struct inspect_name *n = names.list[i];
			if (strncmp(n->name, base, strlen(base)) == 0 && is_plain(n->name))
				printf("%s%s%s\n", spec, n->name, n->type == DT_DIR ? "/" : "");
		}
		inspect_names_fini(&names);
	}
	inspect_close(&in);
	free(spec);
}

int inspect_complete(struct cli *cli, const struct args *args, struct error *err)
{
	(void)err;
	if (args->count != 3)
		return CLI_FAILED;
	if (strcmp(args->words[0], "paths") == 0)
		offer_paths(cli, args->words[1]);
	else
		offer_snapshots(cli, args->words[1], args->words[2]);
	return 0;
}
