/* diff_view.h - changes as diff prints them for people, a line each. */
#ifndef VARVE_TOOLS_DIFF_VIEW_H
#define VARVE_TOOLS_DIFF_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"

struct diff_line {
	const char *change;	 /* "added" and so on, as in the API */
	const char *prefix;	 /* before each path: "" or "/" */
	const char *path, *from; /* from: the old one of what is renamed, or NULL */
	size_t len, from_len;
};
/* "M path", or "R old -> new". */
MUST_CHECK int diff_line_print(const struct diff_line *l);
/* Below a directory so deep that no call takes the paths: how many changes there are. */
MUST_CHECK int diff_omitted_print(const struct diff_line *l, uint64_t count);

#endif
