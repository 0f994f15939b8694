/*
 * tar_header.h - headers of a pax tar (POSIX.1-2008 pax, with the SCHILY and
 * GNU.sparse 1.0 keywords that GNU tar, libarchive and Go read). Pure, and
 * deterministic: equal members give equal bytes.
 */
#ifndef VARVE_TAR_HEADER_H
#define VARVE_TAR_HEADER_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

#define TAR_BLOCK 512u

enum tar_type {
	TAR_FILE = '0',
	TAR_HARDLINK = '1',
	TAR_SYMLINK = '2',
	TAR_CHAR = '3',
	TAR_BLOCK_DEVICE = '4',
	TAR_DIRECTORY = '5',
	TAR_FIFO = '6',
};

struct tar_member {
	enum tar_type type;
	const char *path; /* bytes, any but NUL */
	size_t path_len;
	const char *link; /* target of a link, or NULL */
	size_t link_len;
	uint32_t mode, uid, gid; /* mode: permission bits */
	uint64_t rdev;		 /* devices */
	uint64_t size;		 /* of the data that follows in the archive */
	struct timespec mtime;
	bool sparse;		 /* the data is a GNU.sparse 1.0 map and the runs */
	uint64_t real_size;	 /* sparse: the file's */
	const struct buf *extra; /* further pax records (tar_put_record), or NULL */
};

/* Append the header, preceded by a pax header if it needs one. -ENOMEM. */
MUST_CHECK int tar_put_header(struct buf *out, const struct tar_member *m);

/* Append one pax record, "LEN KEY=VALUE\n". */
MUST_CHECK int tar_put_record(struct buf *out, const char *key, size_t key_len, const void *value,
			      size_t value_len);

/* Append zeros up to a multiple of TAR_BLOCK bytes of data. */
MUST_CHECK int tar_put_padding(struct buf *out, uint64_t data_bytes);
/* The two zero blocks that end an archive. */
MUST_CHECK int tar_put_end(struct buf *out);

/*
 * Append a POSIX ACL in the kernel's xattr form as the text of SCHILY.acl.*:
 * numeric ids, entries separated by commas. -EBADMSG if it is malformed.
 */
MUST_CHECK int tar_acl_text(const void *value, size_t len, struct buf *out);

#endif
