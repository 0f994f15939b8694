/* inspect_json.h - files as JSON, and arrays written element by element. */
#ifndef VARVE_TOOLS_INSPECT_JSON_H
#define VARVE_TOOLS_INSPECT_JSON_H

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

#include "tools/inspect/inspect.h"

/*
 * {"path" (or as `key` says), "type", "mode", "uid", "gid", "nlink", "ino",
 * "size", "allocBytes", "mtime", ...}, a new reference or NULL.
 */
json_t *inspect_file_json(const struct inspect_file *f, const char *key, const char *path,
			  size_t len);

/*
 * An array on standard output, of any length in little memory. A zeroed struct
 * is one that has not begun; nothing is written before the first element.
 */
struct json_stream {
	bool begun;
};
/* Takes o; NULL is -ENOMEM. */
MUST_CHECK int json_stream_add(struct json_stream *js, json_t *o);
MUST_CHECK int json_stream_end(struct json_stream *js);

#endif
