/* remote_key.h - the key of an encrypted bucket: made, found and wrapped. For remote*.c. */
#ifndef VARVE_REMOTE_KEY_H
#define VARVE_REMOTE_KEY_H

#include "store/base/buf.h"
#include "store/base/crypt.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/layout/share_format.h"
#include "store/remote/remote_config.h"

struct remote;
/* Give a new bucket's format a key, wrapped by the configured one. Nothing is written. */
MUST_CHECK int remote_make_key(struct remote *r, const struct remote_config *c,
			       struct share_format *f, struct error *err);
/*
 * Put r->os behind the bucket's key, if it is encrypted. -EACCES: it is and no key is given, or
 * another's, or it is not and one is.
 */
MUST_CHECK int remote_unlock(struct remote *r, const struct remote_config *c, struct error *err);
/* Read the key that a configuration names, until the remote is stopped: as tenant_key_load. */
MUST_CHECK int remote_tenant_key(const struct remote *r, const struct remote_config *c,
				 struct crypt_key *out, struct error *err);
/* What the format's keys are bound to (share_format_about). */
MUST_CHECK int remote_about(const struct remote *r, struct buf *out, struct error *err);
/* The bucket's key, by a tenant's. -EACCES: that is none of those that open it. */
MUST_CHECK int remote_find_key(const struct remote *r, const char *about,
			       const struct crypt_key *tenant, struct crypt_key *out,
			       struct error *err);
/* Wrap the bucket's key for one more tenant's. -EINVAL: there are too many. */
MUST_CHECK int remote_add_key(struct share_format *f, const char *about,
			      const struct crypt_key *tenant, const struct crypt_key *key,
			      struct error *err);

#endif
