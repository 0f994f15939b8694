#include "snapshotd/http/json_bounds.h"

#include <errno.h>

/* The place of the closing quote of the string that begins at s[at], or the text's end. */
static size_t string_end(const char *s, size_t at, size_t len)
{
	for (at++; at < len && s[at] != '"'; at++)
		if (s[at] == '\\')
			at++;
	return at;
}

int json_bounds_check(const char *text, size_t len, size_t values_max, size_t *out_values,
		      struct error *err)
{
	size_t depth = 0, values = 1;

	/* Each value but the first comes after a bracket or a comma. An empty list counts twice. */
	for (size_t i = 0; i < len; i++) {
		switch (text[i]) {
		case '"':
			i = string_end(text, i, len);
			break;
		case '[':
		case '{':
			depth++;
			values++;
			break;
		case ']':
		case '}':
			depth -= depth > 0;
			break;
		case ',':
			values++;
			break;
		default:
			break;
		}
		if (depth > JSON_DEPTH_MAX)
			return error_set(err, -E2BIG, "it nests deeper than %d levels",
					 JSON_DEPTH_MAX);
		if (values > values_max)
			return error_set(err, -E2BIG, "it has more than %zu values", values_max);
	}
	*out_values = values;
	return 0;
}
