/*
 * table.h - aligned columns of text. Rows are kept until table_print, so that
 * columns fit what is in them. On a terminal no cell has control characters, and where
 * there are titles, long names are shortened until a row fits.
 */
#ifndef VARVE_TOOLS_TABLE_H
#define VARVE_TOOLS_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

struct table;

/*
 * columns: titles divided by '|', "NAME|>SIZE"; '>' aligns to the right. A
 * table without titles ("|>|") prints no first line. NULL: no memory.
 */
struct table *table_new(const char *columns);
void table_free(struct table *t);
DEFINE_CLEANUP(struct table *, table_free)

/*
 * Add the next cell; a full row starts the next one. Out of memory is kept and
 * reported by table_print.
 */
void table_cell(struct table *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Any bytes: a name, which may be shortened. */
void table_name(struct table *t, const char *s, size_t len);
/* The name o[key] (store/base/bytes_json.h) and then `suffix`; only the suffix where there is none.
 */
void table_json_name(struct table *t, const json_t *o, const char *key, const char *suffix);
void table_size(struct table *t, uint64_t bytes);
/* Local time; "-" where iso is no time. */
void table_time(struct table *t, const char *iso);
size_t table_rows(const struct table *t);

/*
 * Print and empty it. terminal_width: columns of the terminal that f is (SIZE_MAX: shorten
 * nothing), or 0 where it is none, and every byte is written as it is. 0, -ENOMEM, or why f
 * cannot be written.
 */
MUST_CHECK int table_print(struct table *t, FILE *f, size_t terminal_width);

#endif
