/*
 * remotes.h - the remotes of a store: a table of configurations, kept in the store, and those of
 * them that are open.
 *
 * A remote is opened when it is first asked for, without a lock, and stays open until it is
 * removed. Who asks while it is being opened waits for that, and fails if that fails. Records:
 * META_REMOTE, NAME -> JSON (remote.h) with "version" and, once it was open, "uuid" of the
 * bucket. Any thread.
 */
#ifndef VARVE_SHARE_REMOTES_H
#define VARVE_SHARE_REMOTES_H

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/kv/kv.h"
#include "store/remote/remote.h"

#define REMOTES_MAX 64u /* of a store */
#ifndef REMOTE_RECORD_VERSION
#define REMOTE_RECORD_VERSION 1
#endif

struct remotes;
/* Borrows kv. A record that cannot be read fails when it is used. -EIO, -ENOMEM. */
MUST_CHECK int remotes_open(struct kv *kv, struct remotes **out, struct error *err);
/*
 * The process ends: requests of those that are open or being opened, now or later, end with
 * -ECANCELED, soon. NULL is accepted.
 */
void remotes_stop(struct remotes *rs);
/* Nobody has a remote of it any more. NULL is accepted. */
void remotes_close(struct remotes *rs);
DEFINE_CLEANUP(struct remotes *, remotes_close)

/*
 * Open the bucket, which may be made by that, and if it works, write the configuration. Its
 * alternate is opened before. -EEXIST: the name is taken; -EBUSY: there are REMOTES_MAX; -EINVAL:
 * another remote is that bucket, with another alternate; failures of remote_open.
 */
MUST_CHECK int remotes_add(struct remotes *rs, const struct remote_config *c, struct error *err);
/* Write it without opening, also over another of that name. */
MUST_CHECK int remotes_set(struct remotes *rs, const struct remote_config *c, struct error *err);
/*
 * -ENOENT. Who uses it at the moment goes on. Nothing in the bucket changes. Unless `force`, -EBUSY
 * while the index has containers of its bucket, and no other remote is that, or it is another one's
 * alternate.
 */
MUST_CHECK int remotes_remove(struct remotes *rs, const char *name, bool force, struct error *err);

/*
 * remote_rekey, and note where the new key is: `now` of which only key_file and key_command count.
 */
MUST_CHECK int remotes_rekey(struct remotes *rs, const char *name, const struct remote_config *now,
			     bool keep, struct error *err);

/* *out: remote_config_fini. -ENOENT, with the remotes that there are. */
MUST_CHECK int remotes_config(struct remotes *rs, const char *name, struct remote_config *out,
			      struct error *err);
/* Each, by name. A non-zero result of fn ends it and is returned. */
typedef int (*remotes_fn)(void *arg, const struct remote_config *c);
MUST_CHECK int remotes_each(struct remotes *rs, remotes_fn fn, void *arg, struct error *err);

/*
 * A reference to the open remote: remotes_release. Waits for the network if it is not open yet. A
 * bucket that was there before is never made anew. -ENOENT: there is no remote of that name; -EIO
 * or -ETIMEDOUT: its bucket is not there; others of remote_open. After one was waited for in vain,
 * this fails at once for 2 s, and longer each time, up to 30 s; remotes_reopen ends that. One that
 * has refused its credentials is opened anew, with what is configured now, every 5 s at most.
 *
 * Whether its alternate can be reached or not; that is waited for 5 s at most. One that lacks it
 * gets it later, while it is open: it is tried when somebody asks for the remote.
 */
MUST_CHECK int remotes_get(struct remotes *rs, const char *name, struct remote **out,
			   struct error *err);
/*
 * The same for a bucket, by its uuid, whichever remote it is, but one that lacks its alternate only
 * if there is no other. -ENOENT: no remote is known to be it,
 * nor turns out to be.
 */
MUST_CHECK int remotes_get_uuid(struct remotes *rs, const char *uuid, struct remote **out,
				struct error *err);
void remotes_release(struct remotes *rs, struct remote *r);

/*
 * Where what is pulled lazily is noted (lazy_index.h; borrowed): set once, before anybody else uses
 * rs. NULL until then: nothing is pulled lazily.
 */
struct lazy_index;
void remotes_set_index(struct remotes *rs, struct lazy_index *ix);
struct lazy_index *remotes_index(struct remotes *rs);
/* The same for what begins uses of such snapshots (prefetch.h). */
struct prefetch;
void remotes_set_prefetch(struct remotes *rs, struct prefetch *p);
struct prefetch *remotes_prefetch(struct remotes *rs);
/* The same for what each remote gets that is opened from now on (remote_pins). */
struct pins;
void remotes_set_pins(struct remotes *rs, struct pins *p);
/* Who asks for it next opens it anew, and so with those that borrow of it. */
void remotes_reopen(struct remotes *rs, const char *name);
/*
 * The same if it is os, a request to which has failed: by its credentials, say, or its service. If
 * it lacks its alternate, that is tried instead, and waited for, 5 s at most.
 */
void remotes_failed(struct remotes *rs, const char *name, const struct object_store *os);
/*
 * Call fn when a remote was added, changed or removed: whoever keeps one is to release it. From the
 * thread that does it, with no lock. Set once.
 */
void remotes_on_change(struct remotes *rs, void (*fn)(void *arg), void *arg);
/* The uuid of its bucket; "" until it was open once. */
void remotes_bucket(struct remotes *rs, const char *name, char out[SNAPSHOT_ID_SIZE]);

/*
 * Each remote's traffic since the store was opened, with what others borrow of it; `bucket`: its
 * uuid, "" until it was open once.
 * fn is called under a lock and does not call back.
 */
typedef int (*remotes_seen_fn)(void *arg, const char *name, const char *bucket,
			       const struct object_counts *counts);
MUST_CHECK int remotes_each_seen(struct remotes *rs, remotes_seen_fn fn, void *arg);

#endif
