/*
 * config_access.h - the part of the configuration that says who may call: keys,
 * hosts, where TCP is listened on, and the places of this host that clients may name; and remotes.
 * Reading the file, which may hold a key. For config.c.
 */
#ifndef VARVE_SNAPSHOTD_CONFIG_ACCESS_H
#define VARVE_SNAPSHOTD_CONFIG_ACCESS_H

#include <stdint.h>
#include <sys/stat.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"

#define API_KEY_MIN 16 /* characters */

/* Short keys, and what no header can carry. -EINVAL. */
MUST_CHECK int config_key_check(const char *key, struct error *err);
/* A file with a key is its owner's, and for others neither to read nor to write. -EACCES. */
MUST_CHECK int config_key_file_check(const char *path, const struct stat *st, struct error *err);
/* The JSON of a file of at most 1 MiB, without "//..." members; one with a key is checked as above.
 * -EINVAL, -EACCES. */
MUST_CHECK int config_file_read(const char *path, json_t **out, struct error *err);
/* An array of host names or addresses, without ports; NULL is accepted. -EINVAL. */
MUST_CHECK int config_hosts_check(const json_t *hosts, struct error *err);
/* An array of absolute paths, of the member `name`; NULL is accepted. -EINVAL. */
MUST_CHECK int config_roots_check(const char *name, const json_t *roots, struct error *err);
/* An array of remotes (store/remote/remote.h), each with a name of its own. NULL is accepted. */
MUST_CHECK int config_remotes_check(const json_t *remotes, struct error *err);
/* "share": a remote's name, copied; NULL is accepted: nothing is shared. -EINVAL, -ENOMEM. */
#define SHARE_BUILD_TIMEOUT_DEFAULT 60
MUST_CHECK int config_share(const char *name, uint64_t build_timeout_s, char **out_name,
			    unsigned *out_build_timeout_s, struct error *err);
/* "HOST:PORT" or "[V6]:PORT". -EINVAL, -ENOMEM. */
MUST_CHECK int config_parse_listen(const char *s, char **out_host, uint16_t *out_port,
				   struct error *err);

#endif
