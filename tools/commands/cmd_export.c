/* cmd_export.c - from a snapshot to a tar or an OCI image layout. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/commands/commands.h"
#include "tools/cli/export_sink.h"
#include "tools/cli/remote_ref.h"
#include "tools/commands/unpack_child.h"

static int export_by_daemon(struct cli *cli, const char *name, const char *format,
			    struct export_sink *s, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct client *c = cli_client(cli, err);
	struct client_request rq = { .method = "GET", .on_data = export_sink_write, .arg = s };

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

static int tar_to_sink(struct cli *cli, const char *name, struct export_sink *s, struct error *err)
{
	int r = check_by_daemon(cli, name, "/api/snapshots/%s/export?format=tar&check=1", err);

	return r == 0 ? export_by_daemon(cli, name, "tar", s, err) : r;
}

static int export_oci_to(struct cli *cli, const char *name, const char *path, struct error *err)
{
	struct export_sink s = { .file = OUT_FILE_NONE, .write = unpack_child_write };
	struct unpack_child *unpack = NULL;
	struct error unpack_err = ERROR_INIT;

	/* Ask first, so that a wrong name leaves no directory behind. */
	int r = check_by_daemon(cli, name, "/api/snapshots/%s/export?format=oci&check=1", err);

	if (r < 0)
		return r;
	r = unpack_child_start(path, &unpack, err);
	if (r < 0)
		return r;
	s.arg = unpack;
	progress_bar_init(&s.bar);
	r = export_by_daemon(cli, name, "oci", &s, err);
	int u = unpack_child_finish(unpack, &unpack_err);
	progress_bar_fini(&s.bar);
	if (u < 0 && (r == 0 || r == -EPIPE))
		return error_set(err, u, "unpacking into %s: %s", path, error_text(&unpack_err));
	return r;
}

static int tar_of_snapshot(struct cli *cli, const char *word, struct export_sink *s,
			   struct error *err)
{
	char *name = NULL;
	int r = remote_ref_resolve(cli, word, &name, err);

	if (r == 0)
		r = tar_to_sink(cli, name, s, err);
	free(name);
	return r;
}

static int oci_of_snapshot(struct cli *cli, const char *word, const char *path, struct error *err)
{
	char *name = NULL;
	int r = remote_ref_resolve(cli, word, &name, err);

	if (r == 0)
		r = export_oci_to(cli, name, path, err);
	free(name);
	return r;
}

int cmd_export(struct cli *cli, const struct args *args, struct error *err)
{
	const struct export_ways ways = { tar_of_snapshot, oci_of_snapshot };

	return export_run(cli, args, &ways, err);
}
