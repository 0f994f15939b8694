/* cmd_export.c - from a snapshot to a tar or an OCI image layout. */
#include <errno.h>
#include <string.h>

#include "store/export/export.h"
#include "store/store.h"
#include "tools/commands/commands.h"
#include "tools/inspect/inspect.h"
#include "tools/cli/out_file.h"
#include "tools/cli/progress_bar.h"
#include "tools/commands/unpack.h"

/* Where the bytes go: into one of the two. */
struct sink {
	struct out_file file;
	struct unpack *unpack;
	struct progress_bar bar;
	uint64_t bytes, total; /* total 0: unknown */
};

static int sink_write(void *arg, const void *data, size_t len)
{
	struct sink *s = arg;

	s->bytes += len;
	struct progress_state state = { .phase = "exporting",
					.done_bytes = s->bytes,
					.total_bytes = s->bytes < s->total ? s->total : 0 };
	progress_bar_update(&s->bar, &state);
	return s->unpack ? unpack_write(s->unpack, data, len) : out_file_write(&s->file, data, len);
}

static int export_by_daemon(struct cli *cli, const char *name, const char *format, struct sink *s,
			    struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct client *c = cli_client(cli, err);
	struct client_request rq = { .method = "GET", .on_data = sink_write, .arg = s };

	if (!c)
		return err->code;
	if (client_path(&path, "/api/snapshots/%s/export?format=%s", name, format) == 0)
		rq.path = buf_cstr(&path);
	return rq.path ? client_run(c, &rq, NULL, err) : -ENOMEM;
}

/* Tell what will be left out. A failure: there is no such snapshot, or it is refused. */
static int check_by_daemon(struct cli *cli, const char *name, const char *path, struct error *err)
{
	json_t *o = NULL;
	int r = cli_call(cli, "GET", path, name, NULL, &o, err);

	if (r == 0)
		cli_print_remarks(json_object_get(o, "remarks"));
	json_decref(o);
	return r;
}

static int check_local(struct cli *cli, const struct inspect *in, enum export_format format,
		       struct error *err)
{
	struct remarks remarks;
	int r = export_check(cli->store, &in->snap.root, format, &remarks, err);
	json_t *list = r == 0 ? remarks_to_json(&remarks) : NULL;

	cli_print_remarks(list);
	json_decref(list);
	return r;
}

static int export_tar_to(struct cli *cli, const char *name, const char *path, struct error *err)
{
	struct sink s = { .file = OUT_FILE_NONE };
	int r = out_file_open(&s.file, path, err);

	progress_bar_init(&s.bar);
	if (r == 0 && cli->store_dir) {
		struct inspect in;
		r = inspect_open(cli, name, false, &in, err);
		if (r == 0) {
			s.total = in.snap.size_bytes;
			r = check_local(cli, &in, EXPORT_TAR, err);
			if (r == 0)
				r = export_tar(cli->store, &in.snap.root, sink_write, &s, NULL,
					       err);
			inspect_close(&in);
		}
	} else if (r == 0) {
		r = check_by_daemon(cli, name, "/api/snapshots/%s/export?format=tar&check=1", err);
		if (r == 0)
			r = export_by_daemon(cli, name, "tar", &s, err);
	}
	progress_bar_fini(&s.bar);
	return out_file_close(&s.file, r, err);
}

static int export_oci_local(struct cli *cli, const char *name, const char *path, struct error *err)
{
	struct progress_bar bar;
	struct inspect in;
	int r = inspect_open(cli, name, false, &in, err);

	if (r < 0)
		return r;
	r = check_local(cli, &in, EXPORT_OCI, err);
	if (r < 0) {
		inspect_close(&in);
		return r;
	}
	progress_bar_init(&bar);
	struct progress p = progress_bar_hook(&bar);
	r = export_oci(cli->store, &in.snap.root, in.snap.config,
		       in.snap.name[0] ? in.snap.name : in.snap.id, path, &p, err);
	progress_bar_fini(&bar);
	inspect_close(&in);
	return r;
}

static int export_oci_remote(struct cli *cli, const char *name, const char *path, struct error *err)
{
	struct sink s = { .file = OUT_FILE_NONE };
	struct error unpack_err = ERROR_INIT;

	/* Ask first, so that a wrong name leaves no directory behind. */
	int r = check_by_daemon(cli, name, "/api/snapshots/%s/export?format=oci&check=1", err);

	if (r < 0)
		return r;
	r = unpack_new(path, &s.unpack, err);
	if (r < 0)
		return r;
	progress_bar_init(&s.bar);
	r = export_by_daemon(cli, name, "oci", &s, err);
	int u = unpack_finish(s.unpack, &unpack_err);
	progress_bar_fini(&s.bar);
	if (u < 0 && (r == 0 || r == -EPIPE))
		return error_set(err, u, "unpacking into %s: %s", path, error_text(&unpack_err));
	return r;
}

int cmd_export(struct cli *cli, const struct args *args, struct error *err)
{
	const char *name = args->words[0], *kind = args->words[1], *path = args->words[2];

	if (strcmp(kind, "tar") == 0)
		return export_tar_to(cli, name, path, err);
	if (strcmp(kind, "oci") != 0)
		return cli_usage(err, "exports tar or oci, not '%s'", kind);
	if (strcmp(path, "-") == 0)
		return cli_usage(err, "an OCI image is a directory: '-' cannot be one");
	return cli->store_dir ? export_oci_local(cli, name, path, err)
			      : export_oci_remote(cli, name, path, err);
}
