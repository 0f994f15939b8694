/*
 * object_store.h - a bucket: bytes by key, kept by a service that many hosts reach.
 *
 * The table of functions that everything in this room stands on. Backends: a directory
 * (object_dir.h), S3 (object_s3.h), and one that stands before another and makes faults
 * (object_fault.h); before any of them, one that seals what goes there (object_sealed.h). A backend
 * owns its connections, credentials, retries and pace. It knows nothing of what the objects mean.
 *
 * What a backend promises beyond the obvious, and all that this room relies on:
 *  - PUT_ONCE creates a key or fails with -EEXIST: of many callers one wins, on any host;
 *  - a LIST shows every PUT that was acknowledged before the LIST began;
 *  - a request with `signed_at` is refused (-ESTALE) if that is more than OBJECT_DATE_MAX seconds
 *    before the service's own clock. (A directory cannot: its
 *    has_clock is false.)
 *
 * Keys: 1 to OBJECT_KEY_MAX bytes of [a-z0-9._/-]. No part is empty or begins with '.', and no
 * key is another's beginning at a '/': a directory could not keep both.
 *
 * Results, the same for every backend:
 *   0, -ENOENT (no such key), -EEXIST (PUT_ONCE: the key is there; maybe by this very request,
 *   whose first reply was lost: read it and compare), -EACCES (the credentials do not allow it),
 *   -EROFS (opened read-only), -ESTALE (signed too long ago), -ETIMEDOUT (no usable reply before
 *   the deadline; a PUT may or may not have happened), -EBADMSG (a reply that makes no sense),
 *   -EFBIG (more than the caller allows), -ENOSPC, -EIO, -ENOMEM, -ECANCELED (the store is closed).
 */
#ifndef VARVE_OBJECT_STORE_H
#define VARVE_OBJECT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"

#define OBJECT_KEY_MAX 512u
#define OBJECT_DATE_MAX (15 * 60)
/* The largest object that anybody makes or reads, bytes. */
#define OBJECT_SIZE_MAX ((size_t)80 << 20)
#define OBJECT_LIST_MAX 1000u	/* keys a LIST */
#define OBJECT_DELETE_MAX 1000u /* keys a DELETE */

enum object_op {
	OBJECT_GET,	 /* len bytes at offset; len 0: all. A suffix: see from_end */
	OBJECT_PUT,	 /* body; replaces */
	OBJECT_PUT_ONCE, /* body; -EEXIST if the key is there */
	OBJECT_LIST,	 /* keys that begin with `key` */
	OBJECT_DELETE,	 /* the keys in `names`; absent ones are no error */
};
#define OBJECT_OPS (OBJECT_DELETE + 1)

/* Who waits. Where requests queue, the lower number goes first. */
enum object_priority {
	OBJECT_DEMAND,	  /* a reader is waiting */
	OBJECT_CONTROL,	  /* records and registers */
	OBJECT_READAHEAD, /* soon wanted */
	OBJECT_PUSH,
	OBJECT_BACKGROUND, /* hydration, collection, checks */
};

struct object_entry {
	char *key; /* whole; or, with a delimiter, a common prefix that ends with it */
	uint64_t size;
	int64_t modified; /* Unix time, seconds, by the service's clock; 0 for a common prefix */
	bool is_prefix;
};

/*
 * One request. The caller fills `in`, keeps it and what it points to in place until `done` has
 * been called, and then frees the results with object_request_fini. A GET of a range gives what
 * there is of it: behind the end, nothing.
 */
struct object_request {
	enum object_op op;
	enum object_priority priority;
	const char *key;
	uint64_t offset;   /* GET */
	size_t len;	   /* GET: 0 is all */
	bool from_end;	   /* GET: the last len bytes (all, if there are fewer) */
	size_t max_len;	   /* GET: larger ones are -EFBIG; 0: OBJECT_SIZE_MAX */
	bool immutable;	   /* GET: a cache on the way may answer: it is never written again, or an
			      older one does, too */
	const void *body;  /* PUT: len bytes */
	int64_t signed_at; /* PUT, PUT_ONCE: date that it is signed with, Unix time; 0: now */
	bool wrong_hash;   /* PUT: claims to be of other bytes: a service that checks says -EIO */
	const char *after; /* LIST: only keys after this one; NULL: all */
	unsigned max_keys; /* LIST: 0: OBJECT_LIST_MAX */
	bool delimited;	   /* LIST: keys with a further '/' are shown as their common prefix */
	const char *const *names; /* DELETE */
	size_t n_names;
	unsigned timeout_ms; /* of all attempts together; 0: the backend's own */
	bool waits;	     /* the thread that submits waits for this one: it may do it itself */
	STAILQ_ENTRY(object_request) link; /* the backend's */
	/*
	 * Called once, from any thread, with no lock held; also by a submit that ends at once. It
	 * may submit, but must not wait for a request: the thread may be the one that has them all.
	 */
	void (*done)(struct object_request *r);
	void *arg;

	int result;
	struct buf data;	      /* GET */
	uint64_t size;		      /* GET: of the whole object, where the service says so */
	struct object_entry *entries; /* LIST: ascending */
	size_t n_entries;
	bool more;	  /* LIST: there are further keys after the last entry */
	int64_t date;	  /* when the service answered, Unix time by its clock; 0: no answer */
	struct error err; /* why it failed, for a person */
};
void object_request_fini(struct object_request *r); /* frees the results */

struct object_store;
struct object_store_ops {
	void (*submit)(struct object_store *os, struct object_request *r);
	/* Ends what is under way with -ECANCELED and frees. Nothing may be submitted any more. */
	void (*close)(struct object_store *os);
};

struct object_counts {
	uint64_t requests[OBJECT_OPS]; /* attempts, by operation */
	uint64_t bytes_in, bytes_out;  /* of bodies */
	uint64_t failed; /* requests that ended with a failure other than -ENOENT and -EEXIST */
	uint64_t retried, throttled, hedged; /* hedged: a slow small read was asked twice */
};

/* The first member of every backend. */
struct object_store {
	const struct object_store_ops *ops;
	/* Of one that stands before another: that, which stops with it and counts the traffic. */
	struct object_store *inner;
	bool read_only; /* PUT, PUT_ONCE and DELETE are -EROFS before they reach the backend */
	bool has_clock; /* it refuses dates that are too old */
	/* The bucket that was opened is not there any more: only opening it anew can help. */
	_Atomic bool gone;
	/*
	 * A request was refused for its credentials: others may have been configured, of a source
	 * that a backend that is open does not look at.
	 */
	_Atomic bool refused;
	_Atomic bool stopped; /* object_store_stop */
	/* Counted by the backend; read with object_store_counts. */
	_Atomic uint64_t requests[OBJECT_OPS], bytes_in, bytes_out, failed, retried, throttled,
		hedged;
};

/*
 * Checks the request, then has the backend do it: `done` is called in any case, maybe before this
 * returns.
 */
void object_submit(struct object_store *os, struct object_request *r);
/* Submit n requests and wait for all. `done`, `arg` and `waits` are used by this. */
void object_run(struct object_store *os, struct object_request *r, size_t n);
void object_store_counts(struct object_store *os, struct object_counts *out);
/*
 * From now on requests end with -ECANCELED, also those under way, within a second or so: before who
 * waits for them is to be waited for.
 */
void object_store_stop(struct object_store *os);
/* For one that stands before another: give the answer of `in`, which is let go of, to who asked. */
void object_pass_answer(struct object_request *out, const struct object_request *in);
/* And its state. */
void object_pass_state(struct object_store *os, const struct object_store *behind);
/* NULL is accepted. */
void object_store_close(struct object_store *os);
DEFINE_CLEANUP(struct object_store *, object_store_close)

/* 0 or -EINVAL. */
MUST_CHECK int object_key_check(const char *key);

/*
 * The usual ones, waiting. *out_date (may be NULL) is the service's time of the answer, also of
 * -ENOENT and -EEXIST. err may be NULL.
 */
MUST_CHECK int object_get(struct object_store *os, enum object_priority pr, const char *key,
			  size_t max_len, struct buf *out, int64_t *out_date, struct error *err);
MUST_CHECK int object_put(struct object_store *os, enum object_priority pr, const char *key,
			  const void *body, size_t len, struct error *err);
MUST_CHECK int object_put_once(struct object_store *os, enum object_priority pr, const char *key,
			       const void *body, size_t len, int64_t signed_at, struct error *err);
MUST_CHECK int object_delete(struct object_store *os, enum object_priority pr, const char *key,
			     struct error *err);
/*
 * Each key that begins with `prefix`, ascending, by as many LISTs as it takes. A non-zero result of
 * fn ends it and is returned.
 */
typedef int (*object_fn)(void *arg, const struct object_entry *e);
MUST_CHECK int object_each(struct object_store *os, enum object_priority pr, const char *prefix,
			   object_fn fn, void *arg, struct error *err);

#endif
