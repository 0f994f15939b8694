/*
 * repack.h - the part of a collection that rewrites packs of which little is needed: it copies the
 * chunks that are needed to new containers, says so in moved/PUSH-N (share_moved.h), and deletes
 * the packs. Where a pack's metadata is in use, its sections, byte for byte, become meta/PUSH-N
 * first: who finds no pack reads them there (store/remote/share_meta.h). What they say of locations
 * stays true, by way of moved/PUSH-N.
 *
 * What is chosen: packs whose own snapshot is not in use any more, as all of the others is needed.
 * Of these
 *  - those of which less than half is needed;
 *  - where there are more than REPACK_SMALL_N of less than REPACK_SMALL bytes without metadata in
 *    use: all these.
 * A pack that REPACK_DEPTH moves have led to stays, so that readers come to an end (less than
 * SHARE_MOVED_HOPS).
 *
 * The protocol, beyond collect.h: a round lists them as *repacked*, with all packs that were
 * repacked into one of them. While it is under way, pushes take all these as absent, so what is
 * needed of them only becomes less after the round has waited for older pushes: whoever has marked
 * after that may copy what its mark needs, at any later time. At the round's end each pack is gone
 * that some record names, and its moved/PUSH-N, created once, was there before it went; or that
 * says that it stays (it is damaged). Of two collectors the first one's counts, and the other's
 * copy is garbage of the next round: only what moved/PUSH-N of a pack that is in use leads to is in
 * use, too. meta/PUSH-N says the same whoever writes it. Nobody comes to need it after a round that
 * lists its pack has marked, for the same reason; so it goes when such a mark does not need it.
 */
#ifndef VARVE_SHARE_REPACK_H
#define VARVE_SHARE_REPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/layout/share_packs.h"
#include "store/share/collect_mark.h"

#define REPACK_SMALL (1u << 20)
#define REPACK_SMALL_N 64u
#define REPACK_DEPTH 8u

struct repack_counts {
	uint64_t sparse_packs, sparse_bytes; /* chosen */
	uint64_t packs, bytes;		     /* of these that were rewritten, before */
	uint64_t written_bytes;		     /* the containers that have it now */
};

struct repack {
	/* in */
	struct object_store *os;
	const struct mark *mark; /* as it is now */
	struct progress *p;
	bool meta_stays; /* the bucket does not allow packs with metadata in use to be rewritten */
	/* Whether the round has ended: 1, or 0 as of *out_date. */
	int (*is_done)(void *arg, int64_t *out_date, struct error *err);
	void *arg;
	/* out */
	struct repack_counts counts;
	bool more; /* repack_choose has not looked at all packs yet */
	/* private */
	char after[SHARE_KEY_SIZE]; /* packs up to this one were looked at */
};

/*
 * Add to `out` what the next round rewrites, with the names that it had before; nothing if all was
 * looked at. What is damaged is not chosen. Failures as of mark_run.
 */
MUST_CHECK int repack_choose(struct repack *x, struct share_packs *out, struct error *err);
/*
 * Rewrite those of `packs` that the mark has. It was made after the round's wait, and before the
 * round's end was looked for. 1: another collector has ended the round. Memory: a pack and a new
 * container, 80 MiB; and census.h.
 */
MUST_CHECK int repack_run(struct repack *x, const struct share_packs *packs, struct error *err);

#endif
