/*
 * sharer.h - the daemon's part in what all hosts share ("share" in the config): a thread that
 * publishes (store/share/publish.h) named snapshots and images of builds in the background, and
 * what builds ask the bucket.
 *
 * The queue is not written down: it is what the store has and its notes do not say to be there. So
 * it outlives a restart, and what is deleted meanwhile leaves it. One push of it runs at a time,
 * beside one of an image that a build has just made. While the bucket is away, or takes nothing,
 * all of it waits, and is tried again after 1 s to 5 min. A snapshot that fails by itself is
 * skipped, and tried again after 1 min to 1 h. An ancestor or descendant of a snapshot that is
 * being pushed waits for that push, so that only what differs is uploaded.
 */
#ifndef VARVE_SNAPSHOTD_SHARER_H
#define VARVE_SNAPSHOTD_SHARER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshotd/state/metrics.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/share/publish.h"
#include "store/remote/remotes.h"
#include "store/store.h"

/* An image of this host that another host's has come before. */
struct lost_image {
	const char *key, *local;	/* what it is the image of; this host's snapshot */
	const struct share_record *won; /* in the bucket */
};

struct sharer_options {
	struct store *store; /* borrowed, as the next */
	struct remotes *remotes;
	struct metrics *metrics;
	const char *remote; /* its name; copied */
	unsigned beat_ms;   /* of a build's claim (claim.h); 0: the default */
	unsigned again_ms;  /* from a push that failed to the next, at first; 0: a minute */
	/*
	 * Take the other one in its place; called by the thread, without locks. A failure is met
	 * again when the image is published anew. NULL: this host keeps its own.
	 */
	int (*lost)(struct store *s, struct remotes *rs, struct remote *r,
		    const struct lost_image *lost, struct error *err);
};

struct sharer;
/* Starts the thread. */
MUST_CHECK int sharer_open(const struct sharer_options *opt, struct sharer **out,
			   struct error *err);
/* Ends what it does, after remotes_stop soon. NULL is accepted. */
void sharer_close(struct sharer *sh);

const char *sharer_remote(const struct sharer *sh); /* its name */
unsigned sharer_beat_ms(const struct sharer *sh);

/*
 * The remote, if it answers: remotes_release. Else -EAGAIN and why, soon; but just after the start
 * it waits some seconds for the first answer.
 */
MUST_CHECK int sharer_get(struct sharer *sh, struct remote **out, struct error *err);
/* A request to it has failed so: if that means that it is away, sharer_get says so for a while. */
void sharer_failed(struct sharer *sh, int rc, const struct error *err);

/*
 * publish_image, now. Waits for another such, and for the push of the same snapshot, of an ancestor
 * or of a descendant that is under way.
 */
MUST_CHECK int sharer_publish_image(struct sharer *sh, const char *key, const char *local,
				    bool replace, struct share_record *out_won, struct error *err);

struct sharer_stats {
	bool away;		    /* the bucket */
	char why[200];		    /* it is */
	size_t queue;		    /* snapshots and images that are to be published */
	size_t skipped;		    /* of these, those whose last push failed */
	char now[SNAPSHOT_ID_SIZE]; /* what is being pushed, or "" */
	uint64_t published, failed; /* since the start */
	uint64_t bytes;		    /* uploaded for it */
};
void sharer_stats(struct sharer *sh, struct sharer_stats *out);

#endif
