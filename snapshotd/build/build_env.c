#include "snapshotd/build/build_env.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Whether a line of the file sets one of vars, by pam_env's rules. */
static bool sets_one_of(const char *line, size_t len, const json_t *vars)
{
	static const char export[] = "export ";
	const char *end = line + len, *eq, *name;
	json_t *value;

	while (line < end && (*line == ' ' || *line == '\t'))
		line++;
	if ((size_t)(end - line) >= sizeof(export) - 1 &&
	    memcmp(line, export, sizeof(export) - 1) == 0)
		line += sizeof(export) - 1;
	eq = memchr(line, '=', (size_t)(end - line));
	if (!eq)
		return false;
	json_object_foreach((json_t *)vars, name, value)
		if (strlen(name) == (size_t)(eq - line) && memcmp(name, line, strlen(name)) == 0)
			return true;
	return false;
}

static int keep_others(const char *old, size_t len, const json_t *vars, struct buf *out)
{
	int rc = 0;

	while (len > 0 && rc == 0) {
		const char *nl = memchr(old, '\n', len);
		size_t n = nl ? (size_t)(nl - old) : len;

		if (!sets_one_of(old, n, vars)) {
			rc = buf_append(out, old, n);
			if (rc == 0)
				rc = buf_append(out, "\n", 1);
		}
		old += nl ? n + 1 : n;
		len -= nl ? n + 1 : n;
	}
	return rc;
}

/* Each ' of the value ends the string, stands escaped, and begins it anew. */
int build_env_quote(struct buf *out, const char *value)
{
	int rc = buf_append(out, "'", 1);

	for (; *value && rc == 0; value++)
		rc = *value == '\'' ? buf_append_str(out, "'\\''") : buf_append(out, value, 1);
	return rc < 0 ? rc : buf_append(out, "'", 1);
}

static int put_line(struct buf *out, const char *name, const char *value)
{
	int rc;

	if (strchr(value, '\'') && !strpbrk(value, "\"$`\\"))
		return buf_printf(out, "%s=\"%s\"\n", name, value);
	rc = buf_printf(out, "%s=", name);
	if (rc == 0)
		rc = build_env_quote(out, value);
	return rc < 0 ? rc : buf_append(out, "\n", 1);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int build_env_merge(const char *old, size_t len, const json_t *vars, struct buf *out,
		    size_t *out_left_out)
{
	size_t n = 0, left_out = 0;
	const char **names = calloc(json_object_size(vars) + 1, sizeof(*names)), *name;
	json_t *value;
	int rc = names ? keep_others(old, len, vars, out) : -ENOMEM;

	if (names) {
		json_object_foreach((json_t *)vars, name, value)
			names[n++] = name;
		qsort(names, n, sizeof(*names), compare_names);
	}
	for (size_t i = 0; i < n && rc == 0; i++) {
		const char *text = json_string_value(json_object_get(vars, names[i]));

		if (strpbrk(text, "\n\r"))
			left_out++;
		else
			rc = put_line(out, names[i], text);
	}
	free(names);
	*out_left_out = left_out;
	return rc;
}
