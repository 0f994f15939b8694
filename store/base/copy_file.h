/* copy_file.h - copy a file as it is on disk: what is a hole stays one. */
#ifndef VARVE_BASE_COPY_FILE_H
#define VARVE_BASE_COPY_FILE_H

#include <stdint.h>

#include "store/base/macros.h"
#include "store/base/progress.h"

/*
 * Make [0, len) of an empty regular file that of another; what the other lacks of it is a hole.
 * Where the filesystem can, blocks are shared instead of copied. Moves the offset of `from`. p may
 * be NULL; else done_bytes grows by what was copied. -ECANCELED, or -errno with a part copied.
 */
MUST_CHECK int copy_file(int from, int to, uint64_t len, struct progress *p);
/* All of a file, made anew (mode 0600; -EEXIST) and synced. Its name is not. */
MUST_CHECK int copy_file_at(int from_dir, const char *from, int to_dir, const char *to,
			    struct progress *p);

#endif
