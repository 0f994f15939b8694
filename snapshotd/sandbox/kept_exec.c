#include "snapshotd/sandbox/kept_exec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define COPY_MAX (128u << 10) /* of a stream; more is mapped: maps are few */

static int load_stream(const struct exec_keep *k, int stream, struct buf *b, bool *mapped)
{
	size_t len = exec_keep_len(k, stream);
	ssize_t n;

	*b = (struct buf)BUF_INIT;
	if (!len)
		return 0;
	if (len > COPY_MAX) {
		void *at = mmap(NULL, len, PROT_READ, MAP_SHARED, k->spool[stream - 1], 0);

		if (at == MAP_FAILED)
			return -errno;
		*mapped = true;
		*b = (struct buf){ at, len, len };
		return 0;
	}
	b->data = malloc(len);
	if (!b->data)
		return -ENOMEM;
	b->cap = len;
	n = exec_keep_read(k, stream, 0, b->data, len);
	b->len = n > 0 ? (size_t)n : 0;
	return n < 0 ? (int)n : 0;
}

/* Of an attached one there may be much more, of which the end is kept: it is read from there. */
static int load(const struct exec_keep *k, struct exec_output *out)
{
	int rc;

	out->exit_code = k->state->exit_code;
	out->truncated = k->state->truncated;
	if (k->state->attached)
		return 0;
	rc = load_stream(k, 1, &out->out, &out->out_mapped);
	return rc < 0 ? rc : load_stream(k, 2, &out->err, &out->err_mapped);
}

static int add_notes(struct exec_keep *k, struct exec_output *out)
{
	int rc;

	k->state->noted_at[0] = exec_keep_len(k, 1);
	k->state->noted_at[1] = exec_keep_len(k, 2);
	k->state->noted = true;
	rc = exec_keep_note(k, 1, out->out.data, out->out.len);
	if (rc == 0)
		rc = exec_keep_note(k, 2, out->err.data, out->err.len);
	buf_fini(&out->out);
	buf_fini(&out->err);
	return rc;
}

int kept_exec_end(struct exec_keep *k, int rc, struct exec_output *out, struct error *err)
{
	struct exec_state *s = k->state;

	if (rc == 0) {
		s->exit_code = out->exit_code;
		s->truncated = out->truncated;
		rc = add_notes(k, out);
		if (rc == 0)
			rc = load(k, out);
		if (rc < 0)
			error_set_errno(err, rc, "the program's output");
	}
	s->rc = rc;
	if (rc < 0)
		snprintf(s->error, sizeof(s->error), "%s", error_text(err));
	exec_keep_done(k);
	return rc;
}

int kept_exec_load(struct exec_keep *k, struct exec_output *out, struct error *err)
{
	size_t len = exec_keep_held(k);
	int rc = k->state->rc;

	if (rc < 0)
		return error_set(err, rc, "%.*s", (int)sizeof(k->state->error), k->state->error);
	if (!budget_charge(out->budget, len)) {
		if (!k->state->attached) /* those have a few MiB of their own */
			return error_set(err, -ENOMEM,
					 "the daemon has no room for its output any more");
		len = 0;
	}
	out->charged = len;
	rc = load(k, out);
	if (rc == 0)
		return 0;
	exec_output_fini(out);
	return error_set_errno(err, rc, "the program's output");
}
