/*
 * journal_requests.h - requests whose changes are logged and whose callers may not have
 * their answers yet, so that a successor of this process can answer them and does nothing
 * twice (fs/fuse, ops_resent.c).
 *
 * The records of a journal name the requests that they were done for. A segment goes when
 * it is in the database; so the batch that brings it there names, under (id, epoch 0, "R"),
 * those that are not answered yet:
 *   value    for each: u64 `unique`, u64 number of the inode that it made (0: none)
 * All of them belong to one connection. Numbers begin anew on the next one, which an
 * operation without changes with the number JOURNAL_OTHER_CONNECTION begins; programs that
 * do not know it see an operation that changes nothing.
 */
#ifndef VARVE_FS_JOURNAL_REQUESTS_H
#define VARVE_FS_JOURNAL_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/upper/journal_format.h"
#include "store/kv/kv.h"

#define JOURNAL_OTHER_CONNECTION UINT64_MAX

struct journal_request {
	uint64_t unique;
	uint64_t made_ino; /* 0: none */
	bool is_logged;	   /* false: it is about to be */
};
/* Zeroed: empty. Not thread-safe. */
struct journal_requests {
	struct journal_request *r; /* owned */
	size_t n, cap;
};

void journal_requests_fini(struct journal_requests *l);
/* Add one that is about to be logged, or is logged again. -ENOMEM. */
MUST_CHECK int journal_requests_add(struct journal_requests *l, uint64_t unique, uint64_t made_ino);
void journal_requests_set_logged(struct journal_requests *l, uint64_t unique);
void journal_requests_remove(struct journal_requests *l, uint64_t unique);
/* NULL: it is not there. Until the next change of the list. */
const struct journal_request *journal_requests_find(const struct journal_requests *l,
						    uint64_t unique);
/* Those that are logged; *out is initialised by it. -ENOMEM. */
MUST_CHECK int journal_requests_copy(const struct journal_requests *l,
				     struct journal_requests *out);

/* Put those of the mount `id` into b. */
MUST_CHECK int journal_requests_put(struct kv *kv, struct kv_batch *b,
				    const uint8_t id[JOURNAL_ID_SIZE],
				    const struct journal_requests *l);
/* What the database has of them, added to *l as logged. -EBADMSG. */
MUST_CHECK int journal_requests_get(struct kv *kv, const uint8_t id[JOURNAL_ID_SIZE],
				    struct journal_requests *l);

#endif
