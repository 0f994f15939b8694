/*
 * bulk.h - memory for megabytes that are used once, such as what a file is read
 * into. malloc() takes it from the kernel and gives it back each time, and to fault
 * in a thousand small pages costs more than to read the file; this asks for huge
 * ones. Zeroed. The caller knows its length.
 */
#ifndef VARVE_BULK_H
#define VARVE_BULK_H

#include <stddef.h>

#include "store/base/macros.h"

/* NULL when out of memory. */
MUST_CHECK void *bulk_alloc(size_t len);
void bulk_free(void *p, size_t len); /* also for NULL */

#endif
