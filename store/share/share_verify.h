/*
 * share_verify.h - checks a bucket: whether all that its ready records name is there.
 *
 * Each record is decoded; each of its packs must be listed, the metadata must have all nodes of the
 * tree, each with the bytes that its digest says, and for each chunk the container that is said to
 * have it must say so, too. The newest entry of each name must be readable, and lead to a ready
 * record. `deep` also reads all bytes of these packs and hashes each chunk.
 *
 * What was deleted while it was looked at is no damage. Where who lends to the bucket cannot be
 * asked, what borrows is told as not checked, and the rest is checked. Nothing is changed.
 */
#ifndef VARVE_SHARE_VERIFY_H
#define VARVE_SHARE_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/remote/remote.h"

struct share_verify_result {
	uint64_t snapshots;		 /* ready ones, that were checked */
	uint64_t nodes;			 /* of all of them, shared ones as often */
	uint64_t chunks;		 /* each once, as far as memory allows */
	uint64_t packs, bytes;		 /* listed in the bucket; bytes of these */
	uint64_t read_packs, read_bytes; /* deep */
	uint64_t damaged;		 /* problems */
	uint64_t unchecked; /* snapshots, and deep: packs, of which a part could not be looked at */
};

/*
 * key: of the object that is damaged, lacks something, or was not checked, which the text says.
 * Called by the thread that verifies.
 */
typedef void (*share_problem_fn)(void *arg, const char *key, const char *problem);

/*
 * 0 also if damage was found, or something was not checked. Waits for the network; memory is as of
 * a pull. -ECANCELED; a bucket that does not answer.
 */
MUST_CHECK int share_verify_run(struct remote *r, bool deep, struct progress *p,
				share_problem_fn problem, void *arg,
				struct share_verify_result *out, struct error *err);

/*
 * One pack, or what it was repacked into, with all its bytes: *bytes of it. -ENOENT;
 * share_is_damage(); the bucket's failures.
 */
MUST_CHECK int share_verify_pack(struct remote *r, const struct pack_id *pack, uint64_t *bytes,
				 struct error *err);
/* Whether a failure says something of the object, not of the service. */
bool share_is_damage(int rc);

#endif
