/*
 * acl.h - POSIX ACLs in the form of the kernel's xattrs (version 2: u32
 * version, then u16 tag, u16 permissions, u32 id each, little-endian). Pure.
 * The rules are those of POSIX 1003.1e draft 17 as Linux applies them.
 */
#ifndef VARVE_FS_ACL_H
#define VARVE_FS_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"
#include "store/tree/xattr.h"

/* 0 or -EINVAL. */
MUST_CHECK int acl_check(const void *acl, size_t len);
/*
 * What a new object inherits from its directory's default ACL: its access ACL
 * in out (empty if the mode says it all), and its mode.
 */
MUST_CHECK int acl_inherit(const void *default_acl, size_t len, uint32_t *mode, struct buf *out);
/* The permission bits that an access ACL amounts to; *out_minimal: they say it all. */
uint32_t acl_to_mode(const void *acl, size_t len, uint32_t mode, bool *out_minimal);
/* Change an access ACL in place to what chmod(mode) makes of it. */
void acl_chmod(void *acl, size_t len, uint32_t mode);

#endif
