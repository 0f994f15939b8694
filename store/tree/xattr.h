/*
 * xattr.h - which extended attributes Linux shows of a file. Pure. A tree holds
 * any name, also those in archives of other systems ("com.apple.provenance"); a
 * mount lists and gives only those that these rules let through.
 */
#ifndef VARVE_XATTR_H
#define VARVE_XATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"

#define ACL_XATTR_ACCESS "system.posix_acl_access"
#define ACL_XATTR_DEFAULT "system.posix_acl_default"

/*
 * 0; -EOPNOTSUPP for a namespace that Linux lacks, -EINVAL for a namespace with
 * nothing after it, -ERANGE beyond XATTR_NAME_MAX. As ext4 answers.
 */
MUST_CHECK int xattr_name_check(const char *name, size_t len);

/*
 * Whether a file of this mode can have it: user.* is for regular files and
 * directories, an ACL is not for symlinks, a default ACL only for directories.
 */
bool xattr_is_shown(const char *name, size_t len, uint32_t mode);

#endif
