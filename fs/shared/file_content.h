/* file_content.h - the content of a file of a tree: its identity, and the bytes. */
#ifndef VARVE_FS_FILE_CONTENT_H
#define VARVE_FS_FILE_CONTENT_H

#include <stdint.h>

#include "store/tree/tree_fs.h"

struct file_content {
	/*
	 * SHA-256 of the size and of each extent: u64 offset, u8 kind, u32 length, then
	 * the chunk's digest or the bytes. Equal keys mean equal bytes; one content may
	 * have several keys (a file cut differently).
	 */
	struct digest key;
	uint64_t bytes; /* of data, in whole blocks of 4 KiB, without holes */
};

/* Reads only the tree, no chunk. Failures are those of tree_fs.h. */
MUST_CHECK int file_content_look(const struct tree_fs *fs, uint64_t ino, uint64_t size,
				 struct file_content *out);
/* Write size bytes, with holes, to an empty file. */
MUST_CHECK int file_content_write(const struct tree_fs *fs, uint64_t ino, uint64_t size, int fd);

#endif
