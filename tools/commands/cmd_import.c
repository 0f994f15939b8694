/* cmd_import.c - from files to a snapshot. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/bytes_json.h"
#include "tools/commands/commands.h"
#include "tools/cli/progress_bar.h"
#include "tools/cli/snapshots_view.h"
#include "tools/cli/text.h"

const struct option_spec options_import[] = {
	{ 'x', "one-file-system", NULL, "dir: leave out what is mounted below it" },
	{ 0, "platform", "OS/ARCH[/VARIANT]", "oci: the image for this, not for this host" },
	{ 0, "max-bytes", "SIZE", "refuse more unpacked data than this" },
	{ 0, "max-entries", "COUNT", "refuse more files than this" },
	{ 0 },
};

struct import {
	struct progress_bar bar;
	uint64_t upload_size; /* 0: unknown */
};

static void on_event(void *arg, const char *type, const json_t *data)
{
	struct import *im = arg;

	if (strcmp(type, "progress") == 0)
		progress_bar_update_json(&im->bar, data);
}

static void on_sent(void *arg, uint64_t bytes)
{
	struct import *im = arg;
	struct progress_state s = { .phase = "sending",
				    .done_bytes = bytes,
				    .total_bytes = im->upload_size };

	progress_bar_update(&im->bar, &s);
}

struct limits {
	uint64_t max_bytes, max_entries; /* 0: the daemon's */
	bool one_file_system;
	const char *platform; /* NULL: this host's */
};

static int parse_limits(const struct args *args, struct limits *l, struct error *err)
{
	const char *bytes = args_get(args, "max-bytes"), *entries = args_get(args, "max-entries");

	*l = (struct limits){ .one_file_system = args_has(args, "one-file-system"),
			      .platform = args_get(args, "platform") };
	if (bytes && (text_parse_size(bytes, &l->max_bytes) < 0 || l->max_bytes > INT64_MAX))
		return cli_usage(err, "'%s' is no size: 500M, 10G", bytes);
	if (entries &&
	    (text_parse_count(entries, &l->max_entries) < 0 || l->max_entries > INT64_MAX))
		return cli_usage(err, "'%s' is no number of files", entries);
	if (l->one_file_system && strcmp(args->words[1], "dir") != 0)
		return cli_usage(err, "--one-file-system is for directories");
	if (l->platform && strcmp(args->words[1], "oci") != 0)
		return cli_usage(err, "--platform is for OCI images");
	return 0;
}

/*
 * PATH[:TAG]. A path that exists here is taken as it is, so that a ':' may be in
 * one. *path is malloc'd; *tag borrows from word, NULL for none.
 */
static int split_tag(struct cli *cli, const char *word, char **path, const char **tag)
{
	const char *colon = strrchr(word, ':');

	*tag = NULL;
	if (!colon || strchr(colon, '/') || (!cli_is_remote(cli) && access(word, F_OK) == 0)) {
		*path = strdup(word);
	} else {
		*path = strndup(word, (size_t)(colon - word));
		*tag = colon + 1;
	}
	return *path ? 0 : -ENOMEM;
}

static int import_body(struct cli *cli, const struct args *args, const struct limits *l,
		       json_t **out, struct error *err)
{
	const char *kind = args->words[1], *tag = NULL;
	char *word = NULL, *path = NULL;
	int r = 0;

	if (strcmp(kind, "oci") == 0)
		r = split_tag(cli, args->words[2], &word, &tag);
	else if (!(word = strdup(args->words[2])))
		r = -ENOMEM;
	if (r < 0)
		return r;
	r = cli_daemon_path(cli, word, &path, err);
	if (r == 0 && !cli_is_remote(cli) && access(word, F_OK) < 0)
		r = error_set_errno(err, -errno, "%s", word);
	if (r == 0) {
		json_t *o = json_pack("{s:o, s:{s:s}}", "name",
				      bytes_json(args->words[0], strlen(args->words[0])), "source",
				      kind, path);
		int failed = o ? 0 : -1;
		if (tag)
			failed |= json_object_set_new(json_object_get(o, "source"), "tag",
						      bytes_json(tag, strlen(tag)));
		if (l->platform)
			failed |= json_object_set_new(json_object_get(o, "source"), "platform",
						      bytes_json(l->platform, strlen(l->platform)));
		if (l->one_file_system)
			failed |= json_object_set_new(o, "oneFileSystem", json_true());
		if (l->max_bytes)
			failed |= json_object_set_new(o, "maxBytes",
						      json_integer((json_int_t)l->max_bytes));
		if (l->max_entries)
			failed |= json_object_set_new(o, "maxEntries",
						      json_integer((json_int_t)l->max_entries));
		*out = o;
		r = failed ? -ENOMEM : 0;
	}
	free(path);
	free(word);
	return r;
}

static int import_by_path(struct cli *cli, const struct args *args, const struct limits *l,
			  struct import *im, json_t **out, struct error *err)
{
	json_t *body = NULL;
	int r = import_body(cli, args, l, &body, err);

	if (r == 0) {
		struct client_request rq = { .method = "POST",
					     .path = "/api/snapshots/import",
					     .body = body,
					     .on_event = on_event,
					     .on_again = client_again,
					     .arg = im };
		r = client_run(cli->client, &rq, out, err);
	}
	json_decref(body);
	return r;
}

static int import_stream(struct client *c, const char *name, int fd, const struct limits *l,
			 struct import *im, json_t **out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct client_request rq = { .method = "POST",
				     .upload = true,
				     .upload_fd = fd,
				     .upload_type = "application/x-tar",
				     .on_sent = on_sent,
				     .on_event = on_event,
				     .arg = im };
	int r = client_path(&path, "/api/snapshots/import?name=%s&format=tar", name);

	if (r == 0 && l->max_bytes)
		r = buf_printf(&path, "&maxBytes=%llu", (unsigned long long)l->max_bytes);
	if (r == 0 && l->max_entries)
		r = buf_printf(&path, "&maxEntries=%llu", (unsigned long long)l->max_entries);
	rq.path = r == 0 ? buf_cstr(&path) : NULL;
	return rq.path ? client_run(c, &rq, out, err) : -ENOMEM;
}

/* A tar that the daemon cannot open by its path is sent: standard input, pipes; all over TCP. */
static int import_tar(struct cli *cli, const struct args *args, const struct limits *l,
		      struct import *im, json_t **out, struct error *err)
{
	const char *file = args->words[2];
	struct client *c = cli->client;
	struct stat st;

	if (strcmp(file, "-") == 0) {
		if (isatty(STDIN_FILENO))
			return error_set(err, -EINVAL, "standard input is a terminal, not a tar");
		if (fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode))
			im->upload_size = (uint64_t)st.st_size;
		return import_stream(c, args->words[0], STDIN_FILENO, l, im, out, err);
	}
	if (stat(file, &st) < 0)
		return error_set_errno(err, -errno, "%s", file);
	if (S_ISDIR(st.st_mode))
		return error_set(err, -EISDIR, "%s is a directory: 'import %s dir %s'", file,
				 args->words[0], file);
	if (S_ISREG(st.st_mode) && !cli_is_remote(cli))
		return import_by_path(cli, args, l, im, out, err);
	if (S_ISREG(st.st_mode))
		im->upload_size = (uint64_t)st.st_size;
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, -errno, "%s", file);
	int r = import_stream(c, args->words[0], fd, l, im, out, err);
	close(fd);
	return r;
}

int cmd_import(struct cli *cli, const struct args *args, struct error *err)
{
	struct import im = { 0 };
	struct limits limits;
	json_t *o = NULL;

	if (!args_is_choice("dir|tar|oci", args->words[1]))
		return cli_usage(err, "imports dir, tar or oci, not '%s'", args->words[1]);
	int r = parse_limits(args, &limits, err);
	if (r != 0)
		return r;
	if (!cli_client(cli, err))
		return err->code;
	progress_bar_init(&im.bar);
	if (strcmp(args->words[1], "tar") == 0)
		r = import_tar(cli, args, &limits, &im, &o, err);
	else
		r = import_by_path(cli, args, &limits, &im, &o, err);
	progress_bar_fini(&im.bar);
	if (r == 0) {
		cli_print_remarks(json_object_get(o, "remarks"));
		r = snapshot_print_new(cli, o);
	}
	json_decref(o);
	return r;
}
