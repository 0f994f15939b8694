/*
 * register.h - a value in the bucket that many hosts change: a chain of objects, each created once.
 *
 * Generation G of a register is the object PATH/GEN (share_key.h: the newest sorts first). To
 * change the value is to create generation G + 1, where G is the newest that a LIST shows: of all
 * hosts that saw G, one wins. What the objects hold is the caller's; each body has a nonce, so that
 * no two are equal.
 *
 * Failures are those of object_store.h.
 */
#ifndef VARVE_SHARE_REGISTER_H
#define VARVE_SHARE_REGISTER_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/bucket/object_store.h"

/* What a register says. A zeroed one is empty: no generation yet. */
struct register_value {
	uint64_t generation; /* 0: none */
	struct buf body;
	int64_t date; /* of the LIST that showed it, by the service's clock */
};
void register_value_fini(struct register_value *v);

/*
 * The newest generation of `path`, such as "name/base", without a '/' at its end. max_len bounds
 * the body: -EFBIG. An empty register is no failure.
 */
MUST_CHECK int register_newest(struct object_store *os, const char *path, size_t max_len,
			       struct register_value *out, struct error *err);
/* Only its number, as of a LIST; and that LIST's date (either may be NULL). */
MUST_CHECK int register_generation(struct object_store *os, const char *path, uint64_t *out,
				   int64_t *out_date, struct error *err);

/*
 * Create the generation after `seen`, signed with the date of what showed that. -EEXIST: somebody
 * else has: read the newest and decide again. Where a reply was lost, the object itself says who
 * has made it; if it cannot be read either, -ETIMEDOUT: it may have happened.
 */
MUST_CHECK int register_append(struct object_store *os, const char *path,
			       const struct register_value *seen, const void *body, size_t len,
			       struct error *err);

/* Delete generations older than the newest `keep` (at least 1). */
MUST_CHECK int register_trim(struct object_store *os, const char *path, uint64_t newest,
			     unsigned keep, struct error *err);

/* Of a key below `path`; 0: it is no generation. */
uint64_t register_key_generation(const char *path, const char *key);

#endif
