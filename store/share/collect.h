/*
 * collect.h - garbage collection of a bucket: packs that no record names are deleted, while any
 * number of hosts push, pull, delete and collect. No locks, no host's clock.
 *
 * A *round* has a number, E, in the register "gc":
 *  1. A round that was begun and not ended is gone on with, at 3.
 *  2. Mark: packs that no record names are condemned; packs of which little is needed are to be
 *     repacked. The round's entry, created once, lists them. From here on pushes take them as
 *     absent (push_intent.h).
 *  3. Each push that began before the round must have decided: its record exists. One that has
 * shown no sign of life for long (its intent, its packs, its instance) is given up: the collector
 *     creates its record, "aborted".
 *  4. Mark again, for what those have named. Then look for gc/E.done: where that is, another
 *     collector has ended the round, and this mark is void.
 *  5. Rewrite what is repacked (repack.h). Delete what is condemned and not marked. Create
 *     gc/E.done.
 * Whatever fails to be read, or is not understood, ends the round before 5. Who dies leaves a round
 * that the next collector goes on with.
 *
 * Why nothing in use is deleted: (a) A push that saw round E relies on nothing that is condemned.
 * (b) One that began before it has an intent which 3 sees, as it looked at the round again after it
 * had written that; so it has decided before 4 marks, or never can: the key that it would create is
 * taken. (c) A pack's name is never used twice, and before gc/E.done exists nobody can come to rely
 * on what the mark found dead. So a collector that was asleep may delete at any later time.
 *
 * A pack that was repacked is a name, under which records that nobody rewrites know its chunks; it
 * is in use while they are, and keeps what has the chunks now in use. So where that is condemned or
 * repacked, all its names are, too; and moved/PUSH-N and meta/PUSH-N of a name that is condemned
 * and not marked are deleted in 5, too.
 *
 * Memory is bounded by collect_mark.h and SHARE_ROUND_MAX.
 */
#ifndef VARVE_SHARE_COLLECT_H
#define VARVE_SHARE_COLLECT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/remote/remote.h"
#include "store/share/repack.h"

#define COLLECT_GRACE_S (24 * 60 * 60)
#define COLLECT_GIVE_UP_S (60 * 60)
#define COLLECT_FREE_S (30 * 24 * 60 * 60)

struct collect_options {
	bool dry_run; /* only say what is garbage */
	/* All by the service's clock, seconds: */
	int64_t grace_s;   /* what was deleted is kept for so long, for those who read it */
	int64_t give_up_s; /* a push without a sign of life for so long is given up */
	/*
	 * Records of no use are freed after so long; more than OBJECT_DATE_MAX. Never where the
	 * service does not refuse old dates.
	 */
	int64_t free_s;
	/* Between two looks at pushes that have not decided; NULL: sleeps for a second. */
	void (*pause)(void *arg);
	void *pause_arg;
};
#define COLLECT_DEFAULTS                                                    \
	{                                                                   \
		.grace_s = COLLECT_GRACE_S, .give_up_s = COLLECT_GIVE_UP_S, \
		.free_s = COLLECT_FREE_S                                    \
	}

struct collect_result {
	uint64_t round;			       /* the last one; 0: there was nothing to do */
	uint64_t snapshots;		       /* ready */
	uint64_t packs, bytes;		       /* in the bucket, before */
	uint64_t garbage_packs, garbage_bytes; /* of these, which no record named */
	uint64_t deleted_packs, deleted_bytes;
	struct repack_counts repacked;
	uint64_t given_up; /* pushes */
	uint64_t freed;	   /* records of no use */
};

/*
 * Waits for the network, and for pushes. -EROFS; -EPERM: the bucket is permanent; -EBADMSG or
 * -ENOTSUP: something is damaged or of a newer version, and nothing was deleted; -ECANCELED; the
 * remote's failures. All leave a bucket that can be collected again. *out is filled as far as it
 * came.
 */
MUST_CHECK int collect_run(struct remote *r, const struct collect_options *opt, struct progress *p,
			   struct collect_result *out, struct error *err);

#endif
