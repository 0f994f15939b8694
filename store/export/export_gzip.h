/* export_gzip.h - a tree's tar, compressed on all cores. Private to export*.c. */
#ifndef VARVE_EXPORT_GZIP_H
#define VARVE_EXPORT_GZIP_H

#include "store/export/export.h"

/* Write it to fd from offset 0 on. Outputs the digests of the tar and of the file, and its size. */
MUST_CHECK int export_gzip(struct store *s, const struct digest *root, int fd,
			   struct digest *out_tar, struct digest *out_file, uint64_t *out_size,
			   struct progress *p, struct error *err);

#endif
