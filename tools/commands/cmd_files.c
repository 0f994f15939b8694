/* cmd_files.c - files: list, read, write, make and remove files of a sandbox. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/commands/commands.h"
#include "tools/cli/id_ref.h"
#include "tools/cli/out_file.h"
#include "tools/cli/table.h"

/* The sandbox and what is to be done there. */
struct files {
	struct cli *cli;
	struct client *client;
	const char *id;
	char *const *words; /* behind the sandbox's */
};

/* "/api/sandboxes/ID/files..?path=PATH", sent with `method`. */
static int call(struct files *f, const char *method, const char *fmt, const char *path,
		json_t **out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	if (client_path(&b, fmt, f->id, path) < 0 || !buf_cstr(&b))
		return -ENOMEM;
	return client_call(f->client, method, (const char *)b.data, NULL, out, err);
}

static int list(struct files *f, struct error *err)
{
	CLEANUP(table_free_p) struct table *t = table_new(">|");
	json_t *a = NULL, *o;
	size_t i;
	int r = t ? call(f, "GET", "/api/sandboxes/%s/files/list?path=%s",
			 f->words[0] ? f->words[0] : "/", &a, err)
		  : -ENOMEM;

	if (r == 0 && f->cli->json) {
		r = cli_print_json(a);
	} else if (r == 0) {
		json_array_foreach(a, i, o) {
			bool dir = cli_flag(o, "isDir");
			if (dir)
				table_cell(t, "-");
			else
				table_size(t, cli_num(o, "size"));
			table_json_name(t, o, "name", dir ? "/" : "");
		}
		r = table_print(t, stdout, cli_width());
	}
	json_decref(a);
	return r;
}

static int write_stdout(void *arg, const void *data, size_t len)
{
	(void)arg;
	return fwrite(data, 1, len, stdout) == len ? 0 : cli_write_failure();
}

static int write_file(void *arg, const void *data, size_t len)
{
	return out_file_write(arg, data, len);
}

static int get(struct files *f, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct out_file out = OUT_FILE_NONE;
	const char *to = f->words[1];
	bool to_stdout = !to || strcmp(to, "-") == 0;

	if (client_path(&b, "/api/sandboxes/%s/files?path=%s", f->id, f->words[0]) < 0 ||
	    !buf_cstr(&b))
		return -ENOMEM;
	struct client_request rq = { .method = "GET",
				     .path = (const char *)b.data,
				     .on_data = to_stdout ? write_stdout : write_file,
				     .arg = &out };
	if (to_stdout)
		return client_run(f->client, &rq, NULL, err);
	int r = out_file_open(&out, to, err);
	if (r == 0)
		r = client_run(f->client, &rq, NULL, err);
	return out_file_close(&out, r, err);
}

static int put(struct files *f, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	const char *from = f->words[0];
	bool from_stdin = strcmp(from, "-") == 0;
	struct stat st;

	if (client_path(&b, "/api/sandboxes/%s/files?path=%s", f->id, f->words[1]) < 0 ||
	    !buf_cstr(&b))
		return -ENOMEM;
	int fd = from_stdin ? STDIN_FILENO : open(from, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, -errno, "%s", from);
	int r = 0;
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		r = error_set_errno(err, -EISDIR, "%s", from);
	struct client_request rq = { .method = "PUT",
				     .path = (const char *)b.data,
				     .upload = true,
				     .upload_fd = fd,
				     .upload_type = "application/octet-stream" };
	if (r == 0)
		r = client_run(f->client, &rq, NULL, err);
	if (!from_stdin)
		close(fd);
	return r;
}

/* rm and mkdir: each path, until one fails. */
static int each(struct files *f, const char *method, const char *fmt, struct error *err)
{
	int r = 0;

	for (char *const *w = f->words; *w && r == 0; w++)
		r = call(f, method, fmt, *w, NULL, err);
	return r;
}

static int remove_paths(struct files *f, struct error *err)
{
	return each(f, "DELETE", "/api/sandboxes/%s/files?path=%s", err);
}

static int make_directories(struct files *f, struct error *err)
{
	return each(f, "POST", "/api/sandboxes/%s/files/mkdir?path=%s", err);
}

static const struct {
	const char *name, *words;
	int min, max;
	int (*run)(struct files *f, struct error *err);
} actions[] = {
	{ "ls", "SANDBOX [PATH]", 0, 1, list },
	{ "get", "SANDBOX PATH [FILE]", 1, 2, get },
	{ "put", "SANDBOX FILE PATH", 2, 2, put },
	{ "rm", "SANDBOX PATH...", 1, -1, remove_paths },
	{ "mkdir", "SANDBOX PATH...", 1, -1, make_directories },
};

int cmd_files(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *sandbox = NULL;
	int n = args->count - 2;
	size_t i = 0;

	while (i < ARRAY_SIZE(actions) && strcmp(actions[i].name, args->words[0]) != 0)
		i++;
	if (i == ARRAY_SIZE(actions))
		return cli_usage(err, "does ls, get, put, rm or mkdir, not '%s'", args->words[0]);
	if (n < actions[i].min || (actions[i].max >= 0 && n > actions[i].max))
		return cli_usage(err, "%s needs %s", actions[i].name, actions[i].words);
	int r = sandbox_find(cli, args->words[1], &sandbox, err);
	if (r == 0) {
		struct files f = { cli, cli_client(cli, err), cli_str(sandbox, "sandboxID"),
				   args->words + 2 };
		r = actions[i].run(&f, err);
	}
	json_decref(sandbox);
	return r;
}
