/*
 * build_env.h - /etc/environment: read by pam_env (Linux-PAM 1.4, which strips
 * quotes around a value, knows no escapes and cuts at '#') and by shells.
 */
#ifndef VARVE_SNAPSHOTD_BUILD_ENV_H
#define VARVE_SNAPSHOTD_BUILD_ENV_H

#include <stddef.h>

#include <jansson.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

/*
 * Append to out the file `old` (NULL: none) without the lines that set one of
 * vars (an object of strings), then a line NAME='VALUE' for each of vars, in the
 * order of their names. pam_env and sh read the same value from it where that
 * can be said to both; where not ('#', or both kinds of quotes), sh reads it
 * right. A value with a line break is left out: pam_env would take what follows
 * for another variable. *out_left_out: how many were. -ENOMEM.
 */
MUST_CHECK int build_env_merge(const char *old, size_t len, const json_t *vars, struct buf *out,
			       size_t *out_left_out);

/* Append 'value' as sh reads it back, whatever it has but NUL. -ENOMEM. */
MUST_CHECK int build_env_quote(struct buf *out, const char *value);

#endif
