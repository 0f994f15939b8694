/*
 * hooks.h - hooks: empty objects hook/HOOK/PUSH, whose names alone say which snapshots of a bucket
 * have a certain chunk. By the hooks of a few of its chunks a push finds what another host has
 * pushed of the same files.
 *
 * A snapshot has hooks for a sample of its chunks, which two snapshots with the same chunks draw
 * alike: those of share_digest_hooks, 1 in 1,024; where these are fewer than HOOKS_LEAST, also the
 * smallest of the others. HOOK is made of the digest by remote_hook.
 *
 * Hooks decide nothing, so whatever becomes of one does no harm: the record of a snapshot that they
 * lead to is read anew, and that says what is there. Requests for them that fail are left out. They
 * are written before the record, and go with the snapshot (collect_hooks.h).
 */
#ifndef VARVE_SHARE_HOOKS_H
#define VARVE_SHARE_HOOKS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/remote/remote.h"

/* Fewer bytes of files are pushed without a look at hooks, and without hooks of their own. */
#define HOOKS_FROM ((uint64_t)64 << 20)
#define HOOKS_LEAST 8u
#define HOOKS_MAX 128u	/* of a snapshot */
#define HOOKS_ASKED 16u /* LISTs of a push, one a hook */

/* A sample of the chunks that were added. Start with a zeroed one. */
struct hook_sample {
	struct digest v[HOOKS_MAX]; /* share_digest_hooks first; then ascending; each once */
	unsigned n;
	uint64_t bytes; /* that were added; of a chunk that was added twice, twice */
};
void hook_sample_add(struct hook_sample *s, const struct digest *d, uint32_t bytes);
/* How many of s->v have a hook. */
unsigned hook_sample_count(const struct hook_sample *s);

/* Snapshots that have a hook of the sample. Start with a zeroed one. */
struct hook_votes {
	struct buf v; /* of the .c file: hook_votes_fini */
};
/* Ask for the first HOOKS_ASKED hooks; each shows OBJECT_LIST_MAX snapshots at most. -ENOMEM, -EIO.
 */
MUST_CHECK int hooks_ask(struct remote *r, const struct hook_sample *s, struct hook_votes *out);
/*
 * The snapshot with the most hooks among those whose bit is set in `open`, bit i for s->v[i]. It is
 * taken out. False: there is none.
 */
bool hook_votes_next(struct hook_votes *votes, uint32_t open, struct share_id *out);
void hook_votes_fini(struct hook_votes *votes);

/* Give a push the hooks of a sample. -EIO, -ENOMEM. */
MUST_CHECK int hooks_write(struct remote *r, const struct hook_sample *s,
			   const struct share_id *push);

#endif
