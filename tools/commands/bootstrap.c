#include "tools/commands/bootstrap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli/child.h"
#include "tools/cli/said.h"
#include "tools/cli/reach.h"

struct bootstrap {
	struct child child;
	struct reach reach;  /* these two are the child's reader's until child_wait */
	char complaint[256]; /* the last "E: ..." before the summary */
	int status;	     /* of the child, once waited for */
	bool waited;
};

static void on_line(void *arg, const char *line, size_t len)
{
	struct bootstrap *b = arg;

	reach_line(&b->reach, line, len);
	if (len > 3 && memcmp(line, "E: ", 3) == 0 && !b->complaint[0])
		snprintf(b->complaint, sizeof(b->complaint), "%.*s", (int)(len - 3), line + 3);
	said_line(line, len);
}

/* The tar is over: is it whole? */
static int on_end(void *arg)
{
	struct bootstrap *b = arg;

	b->status = child_wait(&b->child);
	b->waited = true;
	return b->status == 0 ? 0 : -ECHILD;
}

static void ignore_event(void *arg, const char *type, const json_t *data)
{
	(void)arg, (void)type, (void)data;
}

static int failure(const struct bootstrap *b, const struct recipe *r,
		   const struct recipe_options *o, struct error *err)
{
	const char *suite = o->suite ? o->suite : r->suite;
	char reach[400], hint[128] = "";

	reach_text(&b->reach, reach, sizeof(reach));
	if (b->reach.key[0] && !b->reach.host[0] && *r->keyring_package && !o->keyring)
		snprintf(hint, sizeof(hint), "; install %s, or give --keyring FILE",
			 r->keyring_package);
	if (*reach)
		return error_set(err, -EIO, "bootstrap of %s: %s%s", suite, reach, hint);
	return error_set(err, -EIO, "bootstrap of %s: mmdebstrap ended with status %d%s%s", suite,
			 b->status, b->complaint[0] ? ": " : "", b->complaint);
}

int bootstrap_import(struct cli *cli, const struct recipe *r, const struct recipe_options *o,
		     const char *name, struct error *err)
{
	struct bootstrap b = { .child = { .on_line = on_line }, .reach = REACH_INIT };
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct client *c = cli_client(cli, err);
	char **argv = NULL;

	if (!c)
		return err->code;
	int rc = client_path(&path, "/api/snapshots/import?name=%s&format=tar", name);
	if (rc < 0 || !buf_cstr(&path))
		return -ENOMEM;
	b.child.arg = &b;
	rc = recipe_argv(r, o, &argv);
	if (rc == 0)
		rc = child_start(&b.child, argv, err);
	recipe_names_free(argv);
	if (rc == -ENOENT)
		return error_set(err, rc, "bootstrap of %s: mmdebstrap is not installed", r->suite);
	if (rc < 0)
		return rc;
	struct client_request rq = { .method = "POST",
				     .path = (const char *)path.data,
				     .upload = true,
				     .upload_fd = b.child.out_fd,
				     .upload_type = "application/x-tar",
				     .on_end = on_end,
				     .on_event = ignore_event,
				     .arg = &b };
	rc = client_run(c, &rq, NULL, err);
	if (!b.waited)
		b.status = child_wait(&b.child);
	/* Where the daemon ended it, the child's status is that it could not write. */
	if (rc < 0 && b.waited && b.status != 0)
		return failure(&b, r, o, err);
	return rc < 0 ? error_prefix(err, rc, "bootstrap of %s", r->suite) : 0;
}
