/*
 * remotes.h - the remotes of a store: a table of configurations, kept in the store, and those of
 * them that are open.
 *
 * A remote is opened when it is first asked for, without a lock, and stays open until it is
 * removed. Records: META_REMOTE, NAME -> JSON (remote.h), "version": 1.
 */
#ifndef VARVE_SHARE_REMOTES_H
#define VARVE_SHARE_REMOTES_H

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/kv/kv.h"
#include "store/share/remote.h"

struct remotes;
/* Borrows kv. NULL when out of memory. */
struct remotes *remotes_new(struct kv *kv);
/* Nobody has a remote of it any more. */
void remotes_free(struct remotes *rs);
DEFINE_CLEANUP(struct remotes *, remotes_free)

/*
 * Open the bucket, and if that works, write the configuration. -EEXIST: the name is taken, unless
 * `replace`; failures of remote_open.
 */
MUST_CHECK int remotes_add(struct remotes *rs, const struct remote_config *c, bool replace,
			   struct error *err);
/* -ENOENT. Who uses it at the moment goes on. Nothing in the bucket changes. */
MUST_CHECK int remotes_remove(struct remotes *rs, const char *name, struct error *err);

/* *out: remote_config_fini. -ENOENT, with the remotes that there are. */
MUST_CHECK int remotes_config(struct remotes *rs, const char *name, struct remote_config *out,
			      struct error *err);
/* Each, by name. A non-zero result of fn ends it and is returned. */
typedef int (*remotes_fn)(void *arg, const struct remote_config *c);
MUST_CHECK int remotes_each(struct remotes *rs, remotes_fn fn, void *arg, struct error *err);

/* A reference to the open remote: remotes_release. Waits for the network if it is not open yet. */
MUST_CHECK int remotes_get(struct remotes *rs, const char *name, struct remote **out,
			   struct error *err);
void remotes_release(struct remotes *rs, struct remote *r);

/*
 * Whether `text` is REMOTE:REFERENCE, which no snapshot's name is: then both parts, else false.
 */
bool remotes_split(const char *text, char remote[REMOTE_NAME_MAX + 1], const char **out_reference);

#endif
