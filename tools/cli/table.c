#include "tools/cli/table.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "tools/cli/text.h"

#define GAP 2		       /* spaces between columns */
#define SHRINK_MIN ((size_t)8) /* columns that a shortened name keeps */

struct cell {
	size_t offset, len; /* in text */
	bool may_shrink;
};

struct table {
	char *titles;
	struct buf text;
	struct buf cells;  /* struct cell[] */
	struct buf widths; /* size_t[columns] */
	size_t columns;
	size_t count; /* cells */
	int failure;
};

struct table *table_new(const char *columns)
{
	struct table *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->titles = strdup(columns);
	t->columns = 1;
	for (const char *p = columns; *p; p++)
		t->columns += *p == '|';
	if (!t->titles || buf_reserve(&t->widths, t->columns * sizeof(size_t)) < 0) {
		table_free(t);
		return NULL;
	}
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	buf_fini(&t->text);
	buf_fini(&t->cells);
	buf_fini(&t->widths);
	free(t->titles);
	free(t);
}

static void add_cell(struct table *t, size_t offset, bool may_shrink)
{
	struct cell c = { offset, t->text.len - offset, may_shrink };

	if (buf_append(&t->cells, &c, sizeof(c)) < 0)
		t->failure = -ENOMEM;
	else
		t->count++;
}

void table_cell(struct table *t, const char *fmt, ...)
{
	size_t offset = t->text.len;
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0 || buf_append(&t->text, s, (size_t)n) < 0)
		t->failure = -ENOMEM;
	if (n >= 0)
		free(s);
	add_cell(t, offset, false);
}

void table_name(struct table *t, const char *s, size_t len)
{
	size_t offset = t->text.len;

	if (buf_append(&t->text, s, len) < 0)
		t->failure = -ENOMEM;
	add_cell(t, offset, true);
}

void table_json_name(struct table *t, const json_t *o, const char *key, const char *suffix)
{
	size_t offset = t->text.len;
	int r = bytes_json_get(o, key, &t->text);

	if (r < 0 && r != -ENOENT)
		t->failure = r;
	if (buf_append_str(&t->text, suffix) < 0)
		t->failure = -ENOMEM;
	add_cell(t, offset, true);
}

void table_size(struct table *t, uint64_t bytes)
{
	char s[TEXT_SIZE_MAX];

	text_size(bytes, s);
	table_cell(t, "%s", s);
}

void table_time(struct table *t, const char *iso)
{
	char text[TEXT_TIME_MAX] = "-";
	int64_t seconds;

	if (text_parse_time_iso(iso, &seconds) == 0)
		text_time(seconds, text);
	table_cell(t, "%s", text);
}

size_t table_rows(const struct table *t)
{
	return t->count / t->columns;
}

/* Put the text of a cell into out, escaped for a terminal, at most `width` columns of it. */
static int cell_text(const struct table *t, size_t i, bool terminal, size_t width, struct buf *out)
{
	CLEANUP(buf_fini_p) struct buf escaped = BUF_INIT;
	const struct cell *c = (const struct cell *)t->cells.data + i;
	const char *s = c->len ? (const char *)t->text.data + c->offset : "";

	buf_clear(out);
	if (!terminal)
		return buf_append(out, s, c->len);
	int r = text_escape(&escaped, s, c->len);
	if (r < 0)
		return r;
	return text_shorten(out, escaped.len ? (const char *)escaped.data : "", escaped.len, width);
}

static void print_one(const struct table *t, FILE *f, size_t column, const char *s, size_t len,
		      bool right)
{
	size_t room = ((const size_t *)t->widths.data)[column], width = text_width(s, len);
	int pad = (int)(room > width ? room - width : 0);

	if (right)
		fprintf(f, "%*s", pad, "");
	fwrite(s, 1, len, f);
	if (column + 1 == t->columns)
		fputc('\n', f);
	else
		fprintf(f, "%*s", right ? GAP : pad + GAP, "");
}

/* The title of a column; *len its length, *right whether it is aligned to the right. */
static const char *title(const struct table *t, size_t column, size_t *len, bool *right)
{
	const char *s = t->titles;

	while (column--)
		s = strchr(s, '|') + 1;
	*right = *s == '>';
	s += *right;
	*len = strcspn(s, "|");
	return s;
}

static int measure(struct table *t, bool terminal, struct buf *scratch, bool *out_titled)
{
	size_t *widths = (size_t *)(void *)t->widths.data;

	assert(t->columns > 0);
	*out_titled = false;
	for (size_t i = 0; i < t->columns; i++) {
		size_t len;
		bool right;
		const char *s = title(t, i, &len, &right);
		widths[i] = text_width(s, len);
		*out_titled |= len > 0;
	}
	for (size_t i = 0; i < t->count; i++) {
		int r = cell_text(t, i, terminal, SIZE_MAX, scratch);
		if (r < 0)
			return r;
		size_t w = text_width((const char *)scratch->data, scratch->len);
		widths[i % t->columns] = MAX(widths[i % t->columns], w);
	}
	return 0;
}

/* Whether a column may lose characters, and still has more than it needs. */
static bool may_shrink(const struct table *t, size_t column)
{
	size_t len;
	bool right, any = false;
	const char *s = title(t, column, &len, &right);

	for (size_t i = column; i < t->count && !any; i += t->columns)
		any = ((const struct cell *)t->cells.data)[i].may_shrink;
	return any &&
	       ((const size_t *)t->widths.data)[column] > MAX(text_width(s, len), SHRINK_MIN);
}

/* Take columns from the widest names until a row has at most `width`, or no name is long. */
static void fit(struct table *t, size_t width)
{
	size_t *widths = (size_t *)(void *)t->widths.data;
	size_t total = GAP * (t->columns - 1);

	for (size_t i = 0; i < t->columns; i++)
		total += widths[i];
	for (; total > width; total--) {
		size_t widest = t->columns;
		for (size_t i = 0; i < t->columns; i++)
			if ((widest == t->columns || widths[i] > widths[widest]) &&
			    may_shrink(t, i))
				widest = i;
		if (widest == t->columns)
			return;
		widths[widest]--;
	}
}

int table_print(struct table *t, FILE *f, size_t terminal_width)
{
	CLEANUP(buf_fini_p) struct buf scratch = BUF_INIT;
	bool titled = false, terminal = terminal_width > 0;
	int r = t->failure;

	if (r == 0)
		r = measure(t, terminal, &scratch, &titled);
	if (r < 0)
		return r;
	assert(t->columns > 0);
	if (terminal && titled)
		fit(t, terminal_width);
	for (size_t i = 0; titled && i < t->columns; i++) {
		size_t len;
		bool right;
		const char *s = title(t, i, &len, &right);
		print_one(t, f, i, s, len, right);
	}
	for (size_t i = 0; i < t->count; i++) {
		size_t len, column = i % t->columns;
		bool right;
		title(t, column, &len, &right);
		r = cell_text(t, i, terminal, ((const size_t *)t->widths.data)[column], &scratch);
		if (r < 0)
			return r;
		print_one(t, f, column, (const char *)scratch.data, scratch.len, right);
	}
	buf_clear(&t->text);
	buf_clear(&t->cells);
	t->count = 0;
	return ferror(f) ? (errno ? -errno : -EIO) : 0;
}
