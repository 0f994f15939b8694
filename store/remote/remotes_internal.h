/*
 * remotes_internal.h - the table of remotes: remotes.c changes it, remotes_records.c has their
 * records, remotes_list.c has those that are open, remotes_lenders.c what these borrow of, and
 * remotes_opened.c opens them.
 */
#ifndef VARVE_SHARE_REMOTES_INTERNAL_H
#define VARVE_SHARE_REMOTES_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "store/remote/remotes.h"

/* Guarded by remotes->lock; `os` and `r` stay as they are, once they are set. */
struct open_remote {
	LIST_ENTRY(open_remote) link;
	char name[REMOTE_NAME_MAX + 1];
	struct object_store *os;    /* of r, once there is that; NULL: there is none yet */
	struct object_store *other; /* of r's alternate, likewise, while r or its opener has it */
	char lender[REMOTE_NAME_MAX + 1];    /* the remote that `other` was opened as */
	char alternate[REMOTE_NAME_MAX + 1]; /* its name; "": it has none */
	bool trying;			     /* a thread opens the alternate */
	int64_t waited_ms;	 /* ... which is not waited for any more from then on, monotonic */
	int64_t try_ms, wait_ms; /* not before, monotonic; and how long it was waited for that */
	struct remote *r;
	unsigned users;	  /* its opener is one */
	bool listed;	  /* has a configuration: who asks for that name gets it */
	bool opening;	  /* until then, rc and err are not known: */
	int rc;		  /* how that ended; a failure is shared by all who waited for it */
	struct error err; /* why */
	int64_t opened_ms;
};

/* One for each record. */
struct seen {
	char name[REMOTE_NAME_MAX + 1];
	char bucket[SNAPSHOT_ID_SIZE]; /* uuid; "" until it was open once */
	struct object_counts past;     /* of connections that are closed */
	/* It was waited for in vain: who asks for it until then shares that failure. 0: it was not.
	 */
	int64_t away_until_ms;
	int64_t away_ms; /* how long it was taken for away the last time */
	int away_rc;
	struct error why_away;
	struct error why_alternate; /* as it was logged; "": it can be used */
};

struct remotes {
	struct kv *kv;
	struct prefetch *prefetch;
	struct pins *pins;
	struct lazy_index *index; /* borrowed; or NULL */
	void (*changed)(void *arg);
	void *changed_arg;
	pthread_mutex_t records; /* held while they are written; before lock */
	pthread_mutex_t lock;
	pthread_cond_t opened; /* one is, or an alternate, or has failed; or `stopping` */
	/* guarded by lock: */
	bool stopping;
	unsigned n_trying;	       /* threads that open alternates */
	LIST_HEAD(, open_remote) list; /* those in use too, listed or not */
	struct seen seen[REMOTES_MAX];
	size_t n_seen;
};

/* ---- remotes_records.c ---- */

MUST_CHECK int remotes_load_seen(struct remotes *rs);
/* NULL: there is no such record. With the lock held. */
struct seen *remotes_find_seen(struct remotes *rs, const char *name);
void remotes_forget_seen(struct remotes *rs, const char *name);
/* remotes_each, of those whose records can be read. */
MUST_CHECK int remotes_each_sound(struct remotes *rs, remotes_fn fn, void *arg);
void remotes_add_counts(struct object_counts *to, const struct object_counts *c);
/* Keep the counts of a connection to that remote which is about to be closed. With the lock held.
 */
void remotes_keep_counts_locked(struct remotes *rs, const char *name, struct object_store *os);
/* With `records` held. bucket: its uuid, or "". */
MUST_CHECK int remotes_write_record(struct remotes *rs, const struct remote_config *c,
				    const char *bucket, struct error *err);
/*
 * The remote was just opened as c says: write down which bucket it is. -ENOENT: it was removed
 * meanwhile; -EIO: changed.
 */
MUST_CHECK int remotes_note_bucket(struct remotes *rs, const struct remote_config *c,
				   const char *bucket, struct error *err);

/* ---- remotes_list.c, which uses the former, as the next do ---- */

/* NULL: there is none. With the lock held, as those that say so. */
struct open_remote *remotes_find_listed(struct remotes *rs, const char *name);
/* Take it out of the list if nobody needs it: the caller closes it, without the lock. Or NULL. */
struct open_remote *remotes_drop_unused_locked(struct remotes *rs, struct open_remote *o);
/* Who asks for its name from now on gets another one. The same is returned. */
struct open_remote *remotes_unlist_locked(struct remotes *rs, struct open_remote *o);
/* One that is in the list no more. NULL is accepted. */
void remotes_close_one(struct open_remote *o);
/* The caller uses it no more. */
void remotes_leave(struct remotes *rs, struct open_remote *o);
/* Free those in the list, which nobody uses. */
void remotes_close_all(struct remotes *rs);

/* ---- remotes_lenders.c ---- */

#define REMOTES_AWAY_MIN_MS 2000
#define REMOTES_AWAY_MAX_MS 30000
/* How long whoever opens a remote, or reads what it has not, waits for its alternate. */
#define REMOTES_LENDER_MS 5000

/* Remember, or forget, that it was waited for in vain, from began_ms on. */
void remotes_note_away(struct remotes *rs, const char *name, int rc, const struct error *err,
		       int64_t began_ms);
/* 0, or how it was not reached a moment ago. With the lock held. */
MUST_CHECK int remotes_check_away_locked(struct remotes *rs, const char *name, struct error *err);
/*
 * Open the alternate of that name for the caller, who is o's opener: *out goes to
 * remote_set_alternate, with *c, or to remotes_drop_lender; *c to remote_config_fini. It can lend.
 */
MUST_CHECK int remotes_open_lender(struct remotes *rs, struct open_remote *o, const char *name,
				   struct remote **out, struct remote_config *c, struct error *err);
void remotes_drop_lender(struct remotes *rs, struct open_remote *o, struct remote *lender);
/*
 * o's opener has r, which nobody else uses, and which is to have that alternate: whether it can be
 * reached or not, r can be used. Waits REMOTES_LENDER_MS at most. -ENOMEM.
 */
MUST_CHECK int remotes_begin_lender(struct remotes *rs, struct open_remote *o, const char *name,
				    struct remote *r, struct error *err);
/* Try it again, if it is time: a thread of its own does. With the lock held. */
void remotes_retry_lender_locked(struct remotes *rs, struct open_remote *o);
/*
 * Until that has ended; REMOTES_LENDER_MS from its beginning at most. The caller is a user of o,
 * and has the lock.
 */
void remotes_wait_lender_locked(struct remotes *rs, const struct open_remote *o);
/* After remotes_stop. */
void remotes_end_lenders(struct remotes *rs);

/* ---- remotes_opened.c ---- */

/*
 * Open it once, for the caller alone: *out_bucket is its uuid, and c->permanent is what it is. It
 * is made if it is none.
 */
MUST_CHECK int remotes_try(struct remotes *rs, struct remote_config *c,
			   char out_bucket[SNAPSHOT_ID_SIZE], struct error *err);

#endif
