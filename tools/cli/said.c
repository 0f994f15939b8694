#include "tools/cli/said.h"

#include <string.h>
#include <unistd.h>

#include "store/base/buf.h"
#include "tools/cli/cli.h"
#include "tools/cli/text.h"

static int escape_but_tabs(struct buf *out, const char *line, size_t len)
{
	int r = 0;

	while (len > 0 && r == 0) {
		const char *tab = memchr(line, '\t', len);
		size_t n = tab ? (size_t)(tab - line) : len;
		r = text_escape(out, line, n);
		if (r == 0 && tab)
			r = buf_append(out, "\t", 1);
		n += tab != NULL;
		line += n;
		len -= n;
	}
	return r;
}

void said_line_to(FILE *f, const char *line, size_t len)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	/* Colours are lost with it: what a build prints is not trusted. */
	if (isatty(fileno(f)) && escape_but_tabs(&b, line, len) == 0) {
		line = (const char *)b.data;
		len = b.len;
	}
	flockfile(f);
	if (len > 0)
		fwrite(line, 1, len, f);
	putc('\n', f);
	funlockfile(f);
}

void said_line(const char *line, size_t len)
{
	said_line_to(stderr, line, len);
}

void said_build_event(FILE *f, const json_t *event, struct reach *reach)
{
	const json_t *message = json_object_get(event, "message");
	const char *s = json_string_value(message), *stream = cli_str(event, "stream");
	size_t len = json_string_length(message);

	if (!s)
		return;
	if (reach)
		reach_line(reach, s, len);
	if (strcmp(stream, "stdout") != 0 && strcmp(stream, "stderr") != 0)
		fputs("==> ", f);
	while (len > 0) {
		const char *end = memchr(s, '\n', len);
		size_t n = end ? (size_t)(end - s) : len;
		said_line_to(f, s, n);
		n += end != NULL;
		s += n;
		len -= n;
	}
}
