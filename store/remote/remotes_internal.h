/*
 * remotes_internal.h - the table of remotes: remotes.c changes it, remotes_records.c has their
 * records, remotes_opened.c those that are open.
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
	pthread_cond_t opened; /* one is, or has failed; or `stopping` */
	/* guarded by lock: */
	bool stopping;
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
/* With `records` held. bucket: its uuid, or "". */
MUST_CHECK int remotes_write_record(struct remotes *rs, const struct remote_config *c,
				    const char *bucket, struct error *err);
/*
 * The remote was just opened as c says: write down which bucket it is. -ENOENT: it was removed
 * meanwhile; -EIO: changed.
 */
MUST_CHECK int remotes_note_bucket(struct remotes *rs, const struct remote_config *c,
				   const char *bucket, struct error *err);

/* ---- remotes_opened.c, which uses the former ---- */

/*
 * Open it once, for the caller alone: *out_bucket is its uuid, and c->permanent is what it is. It
 * is made if it is none.
 */
MUST_CHECK int remotes_try(struct remotes *rs, struct remote_config *c,
			   char out_bucket[SNAPSHOT_ID_SIZE], struct error *err);
/* Free those in the list, which nobody uses. */
void remotes_close_all(struct remotes *rs);

#endif
