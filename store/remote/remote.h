/*
 * remote.h - a remote: a bucket that this store knows by a name, opened.
 *
 * Owns the connection and what the bucket says of itself (share_format.h). Resolves names to
 * records, lists, and removes. push.h and pull.h move snapshots.
 *
 * A *reference* is the name of a snapshot in the bucket or its id (32 hex digits).
 *
 * Failures: those of object_store.h; -ENOTSUP, the bucket or a record is of a newer version; all
 * with a text that a person can act on.
 */
#ifndef VARVE_SHARE_REMOTE_H
#define VARVE_SHARE_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/bucket/object_store.h"
#include "store/remote/reference.h"
#include "store/remote/remote_config.h"
#include "store/layout/share_record.h"

struct remote;
/*
 * Open a backend (remote_connect), whose requests can be ended meanwhile (object_store_stop): reads
 * what the bucket says of itself; `make`: an empty bucket is made one of Varve's, unless it is
 * read-only. The remote then owns the backend; after a failure, the caller still does. With a key
 * an empty bucket is made an encrypted one, for good. -ENOENT: it is no bucket of Varve's. -EACCES:
 * the key is not the bucket's, or one of them has a key and the other does not, or it is to be
 * permanent and is not; nothing was written then.
 */
MUST_CHECK int remote_open_on(const struct remote_config *c, struct object_store *os, bool make,
			      struct remote **out, struct error *err);
/* With its backend. */
MUST_CHECK int remote_open(const struct remote_config *c, bool make, struct remote **out,
			   struct error *err);
/* Open, and make; closes the backend when it fails. */
MUST_CHECK int remote_open_store(const char *name, struct object_store *os, struct remote **out,
				 struct error *err);
/*
 * Let the key that `now` names open the bucket, in place of the one of `was`, or beside those that
 * do (`keep`). Nothing changes if it does already. Only `format` is written: the bucket's own key
 * stays. -EINVAL: the bucket is not encrypted; -EACCES: the key of `was` does not open it; -EAGAIN:
 * another host did the same at this moment.
 */
MUST_CHECK int remote_rekey(const struct remote_config *was, const struct remote_config *now,
			    bool keep, struct error *err);
void remote_close(struct remote *r);
DEFINE_CLEANUP(struct remote *, remote_close)

const char *remote_name(const struct remote *r);
const char *remote_uuid(const struct remote *r); /* of the bucket */
bool remote_is_encrypted(const struct remote *r);
/*
 * A permanent bucket, which was made as one: its snapshots stay, and a name stands for the same one
 * for good, so that others can rely on it. Snapshots, names and images can be added.
 */
bool remote_is_permanent(const struct remote *r);
/* 0, or -EPERM and why: before something is deleted, or stands for something else. */
MUST_CHECK int remote_deletable(const struct remote *r, struct error *err);
struct object_store *remote_objects(struct remote *r);
/*
 * What hooks call a digest (share_key.h: HOOK), in its first SHARE_HOOK_BYTES, the rest is 0:
 * itself; in an encrypted bucket, a name that only who has the key can make. -EIO, -ENOMEM.
 */
MUST_CHECK int remote_hook(const struct remote *r, const struct digest *d, struct digest *out);
/*
 * Have the bucket ask for the feature "moved", and for "moved-meta" if `meta` (share_format.h), for
 * good. -ENOTSUP: it is encrypted, and was made without.
 */
MUST_CHECK int remote_need_moved(struct remote *r, bool meta, struct error *err);
/* Whether that is in vain. */
bool remote_meta_stays(const struct remote *r);
/*
 * The alternate of a remote: another one, of a permanent bucket, whose packs its snapshots borrow.
 * What is read of packs is looked for there, too (object_alternate.h); a push takes what lies there
 * for present. Nothing protects what is borrowed but that a permanent bucket loses nothing.
 *
 * Set once, by one thread, also while others use r: `alternate`, opened as c says, which r then
 * owns; the caller still does after a failure. -EPERM: it is not permanent; -EINVAL: it is the same
 * bucket; -ENOTSUP: r's is encrypted, and was made without alternates. Unless r lacked it before,
 * nobody else uses r yet.
 */
MUST_CHECK int remote_set_alternate(struct remote *r, struct remote *alternate,
				    const struct remote_config *c, struct error *err);
/*
 * ... or why it is not there (yet, or still): what is in r's own bucket can be read. The first time
 * before others use r. -ENOMEM.
 */
MUST_CHECK int remote_lack_alternate(struct remote *r, const struct error *why, struct error *err);
/* 0, or -EPERM and why: whether another one can have it as its alternate. */
MUST_CHECK int remote_can_lend(const struct remote *alternate, struct error *err);
struct remote *remote_alternate(const struct remote *r); /* lent; or NULL */
/* Whether it has one that is not there; why (may be NULL). */
bool remote_lacks_alternate(struct remote *r, struct error *why);
/* 0, or -ENOTSUP: rec borrows of a bucket that is not r's alternate, which err names. */
MUST_CHECK int remote_check_alternate(struct remote *r, const struct share_record *rec,
				      struct error *err);
/* Let rec borrow of r's alternate; the bucket asks for the feature "alternates" then. */
MUST_CHECK int remote_borrow(struct remote *r, struct share_record *rec, struct error *err);
/* What tells the bucket that this host lives (pins.h; borrowed); NULL: nothing does. */
struct pins;
struct pins *remote_pins(const struct remote *r);
void remote_set_pins(struct remote *r, struct pins *p); /* before others use it */
/* 0, or -EROFS and why: before a write. */
MUST_CHECK int remote_writable(const struct remote *r, struct error *err);

/* The ready record of a reference. -ENOENT, with why: unknown, deleted or given up. */
MUST_CHECK int remote_resolve(struct remote *r, const char *reference, struct share_record *out,
			      struct error *err);
/* As it is in the bucket right now, by id, in whichever state. -ENOENT. */
MUST_CHECK int remote_read_record(struct remote *r, const struct share_id *id,
				  struct share_record *out, struct error *err);

/*
 * Let a name stand for a record, whatever it stood for; NULL: for nothing. Takes turns with other
 * hosts: the last one counts. `only_new`: -EEXIST if it stands for another snapshot. Else -EPERM,
 * if it does in a permanent bucket.
 */
MUST_CHECK int remote_set_name(struct remote *r, const char *name, const struct share_record *rec,
			       bool only_new, struct error *err);
/* Sets a name that is free, or that stands for `instead`. Else -EEXIST. */
MUST_CHECK int remote_replace_name(struct remote *r, const char *name,
				   const struct share_record *rec, const struct share_id *instead,
				   struct error *err);
/* Let it stand for nothing, if it stands for `of`. */
MUST_CHECK int remote_drop_name(struct remote *r, const char *name, const struct share_id *of,
				struct error *err);
/*
 * Give a name to a snapshot that may be deleted meanwhile. 0: the name stands for it and it stays,
 * until somebody deletes it by its id, or this name. -EIDRM: the name stands for it, but somebody
 * deletes it or has done so: push it anew, and give the name to that. `only_new`: -EEXIST if the
 * name stands for another snapshot, unless that was deleted, or is `instead` (may be NULL). Other
 * failures as of remote_set_name.
 */
MUST_CHECK int remote_give_name(struct remote *r, const char *name, const struct share_record *rec,
				bool only_new, const struct share_id *instead, struct error *err);

/* A name and what it stands for, in the order of keys. A non-zero result of fn ends it. */
typedef int (*remote_name_fn)(void *arg, const char *name, const struct share_record *rec);
MUST_CHECK int remote_each_name(struct remote *r, remote_name_fn fn, void *arg, struct error *err);
/*
 * The same past entries that cannot be read: `unreadable` is told the key and why (a code and a
 * text). 0 goes on; anything else ends it.
 */
typedef int (*remote_unreadable_fn)(void *arg, const char *key, const struct error *why);
MUST_CHECK int remote_check_names(struct remote *r, remote_name_fn fn,
				  remote_unreadable_fn unreadable, void *arg, struct error *err);

/*
 * Images: snapshots without a name that are found by a digest of how they are made, 64 hex digits.
 * Of n keys, the last one that has an image which is ready: *out_at, and its record. -ENOENT.
 * Answers within timeout_ms or so (0: the remote's own).
 */
MUST_CHECK int remote_find_image(struct remote *r, const char (*keys)[DIGEST_HEX_SIZE], size_t n,
				 unsigned timeout_ms, size_t *out_at, struct share_record *out,
				 struct error *err);
/*
 * Make rec the image of a key, unless that has one that is ready: then 1 and *out, which
 * is that one (share_record_fini). `replace`: whatever it has; -EPERM in a permanent bucket, if
 * that is another one.
 */
MUST_CHECK int remote_set_image(struct remote *r, const char *key, const struct share_record *rec,
				bool replace, struct share_record *out, struct error *err);
/*
 * Delete a snapshot that no name stands for; done if there is none. 1: a name stands for it, and it
 * stays. -EPERM.
 */
MUST_CHECK int remote_delete_unnamed(struct remote *r, const struct share_id *id,
				     struct error *err);

/* Mark a snapshot as about to be deleted: names given to it from now on do not hold. */
MUST_CHECK int remote_mark_gone(struct remote *r, const struct share_id *id, struct error *err);
/* 1: it is ready, and nobody has marked it so; 0: it was deleted, or is about to be. */
MUST_CHECK int remote_stays(struct remote *r, const struct share_id *id, struct error *err);

/*
 * Remove by reference. A name is taken from its snapshot; when no other name stands for that, or
 * when an id was given, the snapshot is deleted: its record says so, and its packs are garbage.
 * *out_deleted: whether it is. -ENOENT, -EPERM.
 */
MUST_CHECK int remote_remove(struct remote *r, const char *reference, bool *out_deleted,
			     struct error *err);

#endif
