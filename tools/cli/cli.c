#include "tools/cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "store/base/buf.h"
#include "store/base/bytes_json.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"

int cli_usage(struct error *err, const char *fmt, ...)
{
	char text[sizeof(err->msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	error_set(err, -EINVAL, "%s", text);
	return CLI_USAGE;
}

int cli_absolute(const char *path, char **out, struct error *err)
{
	char *s;

	if (*path == '\0')
		return error_set(err, -EINVAL, "a path is empty");
	if (*path == '/') {
		s = strdup(path);
	} else {
		char *cwd = getcwd(NULL, 0);
		if (!cwd)
			return error_set_errno(err, -errno, "the working directory");
		if (asprintf(&s, "%s/%s", cwd, path) < 0)
			s = NULL;
		free(cwd);
	}
	if (!s)
		return -ENOMEM;
	*out = s;
	return 0;
}

int cli_json_path(const char *path, char **out, struct error *err)
{
	char *s = NULL;
	int r = cli_absolute(path, &s, err);

	if (r < 0 || !s)
		return r;
	if (!text_is_utf8(s, strlen(s))) {
		free(s);
		return error_set(err, -EILSEQ,
				 "%s: is not UTF-8, so it cannot be told to snapshotd", path);
	}
	*out = s;
	return 0;
}

bool cli_on_terminal(void)
{
	static int known = -1;

	if (known < 0)
		known = isatty(STDOUT_FILENO);
	return known;
}

static bool is_wide;

void cli_set_wide(void)
{
	is_wide = true;
}

size_t cli_width(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize w;
	uint64_t n;

	if (!cli_on_terminal())
		return 0;
	if (is_wide)
		return SIZE_MAX;
	if (columns && text_parse_count(columns, &n) == 0 && n > 0 && n < SIZE_MAX)
		return (size_t)n;
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

void cli_tell(const char *fmt, ...)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	const char *s = text;
	if (isatty(STDERR_FILENO) && text_escape(&b, text, (size_t)n) == 0 && buf_cstr(&b))
		s = (const char *)b.data;
	fprintf(stderr, "%s\n", s);
	free(text);
}

int cli_print_list(const struct cli *cli, const json_t *list, const char *columns,
		   void (*add_row)(struct table *t, const json_t *o), const char *empty)
{
	json_t *o;
	size_t i;

	if (cli->json)
		return cli_print_json(list);
	if (json_array_size(list) == 0) {
		cli_tell("%s", empty);
		return 0;
	}
	CLEANUP(table_free_p) struct table *t = table_new(columns);
	if (!t)
		return -ENOMEM;
	json_array_foreach(list, i, o)
		add_row(t, o);
	return table_print(t, stdout, cli_width());
}

int cli_write_failure(void)
{
	return errno ? -errno : -EIO;
}

int cli_print_json(const json_t *o)
{
	if (json_dumpf(o, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) < 0)
		return cli_write_failure();
	return putchar('\n') == EOF ? cli_write_failure() : 0;
}

int cli_print_name(const char *s, size_t len)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	if (cli_on_terminal()) {
		int r = text_escape(&b, s, len);
		if (r < 0)
			return r;
		s = (const char *)b.data;
		len = b.len;
	}
	return fwrite(s, 1, len, stdout) == len ? 0 : cli_write_failure();
}

int cli_print_json_name(const json_t *o, const char *key)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int r = bytes_json_get(o, key, &b);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return cli_print_name(b.len ? (const char *)b.data : "", b.len);
}

const char *cli_str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

uint64_t cli_num(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	if (json_is_real(v))
		return json_real_value(v) > 0 ? (uint64_t)json_real_value(v) : 0;
	return json_integer_value(v) > 0 ? (uint64_t)json_integer_value(v) : 0;
}

bool cli_flag(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

/*
 * "lastUsedAt" -> "last used at", "sizeBytes" -> "size". Words of capitals (ID, TTL) stay, and so
 * do the members of an object, such as an image's "config.WorkingDir".
 */
static int label(const char *prefix, const char *key, struct buf *out)
{
	size_t n = strlen(key) - (ends_with(key, "Bytes") ? strlen("Bytes") : 0);
	int r = 0;

	if (*prefix)
		return buf_printf(out, "%s.%s", prefix, key) < 0 || !buf_cstr(out) ? -ENOMEM : 0;
	for (size_t i = 0; i < n && r == 0; i++) {
		char c = key[i];
		bool word =
			isupper((unsigned char)c) && i > 0 && !isupper((unsigned char)key[i - 1]);
		bool alone = word && !isupper((unsigned char)key[i + 1]);
		if (word)
			r = buf_append(out, " ", 1);
		if (alone)
			c = (char)tolower((unsigned char)c);
		if (r == 0)
			r = buf_append(out, &c, 1);
	}
	return r < 0 ? r : buf_cstr(out) ? 0 : -ENOMEM;
}

/* Seconds, as varve takes them too: "30d", "90s". */
static void duration_cell(struct table *t, int64_t seconds)
{
	static const struct {
		int64_t seconds;
		char letter;
	} units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	size_t i = 0;

	while (seconds % units[i].seconds)
		i++;
	table_cell(t, "%lld%c", (long long)(seconds / units[i].seconds), units[i].letter);
}

static void value_cell(struct table *t, const char *key, const json_t *v)
{
	char text[TEXT_TIME_MAX];
	int64_t seconds;

	if (json_is_integer(v) && ends_with(key, "Bytes")) {
		text_size((uint64_t)json_integer_value(v), text);
		table_cell(t, "%s (%lld)", text, (long long)json_integer_value(v));
	} else if (json_is_integer(v) && strcmp(key, "ttl") == 0) {
		if (json_integer_value(v))
			duration_cell(t, json_integer_value(v));
		else
			table_cell(t, "none");
	} else if (json_is_string(v) && ends_with(key, "At") &&
		   text_parse_time_iso(json_string_value(v), &seconds) == 0) {
		text_time(seconds, text);
		table_cell(t, "%s", text);
	} else if (json_is_string(v)) {
		table_name(t, json_string_value(v), json_string_length(v));
	} else if (json_is_boolean(v)) {
		table_cell(t, json_is_true(v) ? "yes" : "no");
	} else if (json_is_null(v)) {
		table_cell(t, "-");
	} else {
		char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
		table_name(t, s ? s : "?", s ? strlen(s) : 1);
		free(s);
	}
}

static int add_fields(struct table *t, const char *prefix, const json_t *o)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o, key, v) {
		CLEANUP(buf_fini_p) struct buf name = BUF_INIT;
		int r = label(prefix, key, &name);
		if (r == 0 && json_is_object(v)) {
			/* Objects of objects are shown as JSON: no object nests deeper here. */
			if (!*prefix) {
				r = add_fields(t, key, v);
				if (r < 0)
					return r;
				continue;
			}
		}
		if (r < 0)
			return r;
		table_cell(t, "%s", (const char *)name.data);
		value_cell(t, key, v);
	}
	return 0;
}

int cli_print_fields(const json_t *o)
{
	CLEANUP(table_free_p) struct table *t = table_new("|");

	if (!t)
		return -ENOMEM;
	int r = add_fields(t, "", o);
	return r < 0 ? r : table_print(t, stdout, cli_width());
}

void cli_print_remarks(const json_t *list)
{
	json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
		fprintf(stderr, "varve: %llu %s (the first: %s)\n",
			(unsigned long long)cli_num(one, "count"), cli_str(one, "text"),
			cli_str(one, "first"));
}
