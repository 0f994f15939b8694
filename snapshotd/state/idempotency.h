/*
 * idempotency.h - which changing calls have been done, and with what result, so that a client which
 * lost the answer may ask again (Idempotency-Key, draft-ietf-httpapi-idempotency-key-header).
 *
 * Before a call does anything, a record says that it has begun; when it has succeeded, the record
 * has the result. Both survive a kill of the daemon. A record of a call that has begun and not
 * ended is one that a daemon has died of: who asks again is told so (`again`), and looks for what
 * was made before making it. A call that fails has done nothing, and its record goes. Where a call
 * does what can be neither found nor done twice, its record says so before (`effect`).
 *
 * Bounded: IDEMPOTENCY_KEEP_S, IDEMPOTENCY_COUNT records and IDEMPOTENCY_BYTES of results, of which
 * the oldest go first; a result beyond IDEMPOTENCY_RESULT_MAX is not kept, and who asks again looks
 * for what was made. Their age is that of this process's clock; the wall clock says it at the start
 * alone. On a full disk, where what makes room is a call, too, a call has no record, and its key is
 * known for as long as this daemon lives.
 *
 * Every function may be called from any thread. Its lock is held while a record is written to the
 * log of the database, which no disk is waited for.
 */
#ifndef VARVE_SNAPSHOTD_IDEMPOTENCY_H
#define VARVE_SNAPSHOTD_IDEMPOTENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/kv/kv.h"
#include "store/names/snapshot.h"

#define IDEMPOTENCY_KEY_MAX 255
#define IDEMPOTENCY_KEEP_S 3600
#define IDEMPOTENCY_COUNT 4096u
#define IDEMPOTENCY_BYTES ((size_t)16 << 20)
#define IDEMPOTENCY_RESULT_MAX ((size_t)64 << 10)

/* Before anything is changed: -EINVAL, with a reason, where a newer program has written records. */
MUST_CHECK int idempotency_check(struct kv *kv, struct error *err);

struct idempotency;
/* Loads the records. Borrows kv. */
MUST_CHECK int idempotency_open(struct kv *kv, struct idempotency **out, struct error *err);
/* No call is under way. NULL is accepted. */
void idempotency_close(struct idempotency *i);

/* One call while it is under way. */
struct idempotent {
	char name[DIGEST_HEX_SIZE]; /* of its record; "": it has none */
	char id[SNAPSHOT_ID_SIZE];  /* for what it makes, the same whoever begins it again */
	int64_t begun_ms;	    /* Unix time, when it was first begun */
	bool again;		    /* it has begun before, and may have made something */
	bool effect;		    /* again: idempotency_effect has been said then */
	int status;		    /* of the result; 0: it is to be done, and then ended */
	char *result;		    /* JSON, malloc'd; "" for none */
};

/* How long to wait for a call that is under way. */
struct idempotency_wait {
	int max_ms;
	bool (*cancelled)(void *arg); /* asked several times a second; may be NULL */
	void *arg;
};

/*
 * Begin a call. print: of the request, which must be the one that the key was first used for. While
 * the same one is under way this waits (NULL: not at all). -EEXIST: the key is another request's;
 * -EBUSY: it is still under way; -ECANCELED; -EAGAIN: too many are.
 */
MUST_CHECK int idempotency_begin(struct idempotency *i, const char *key, const struct digest *print,
				 const struct idempotency_wait *wait, struct idempotent *out,
				 struct error *err);
/*
 * What comes now can be neither found nor done twice, if this daemon dies of it. Nothing happens
 * without a key, or twice.
 */
MUST_CHECK int idempotency_effect(struct idempotency *i, struct idempotent *c, struct error *err);
/* It has succeeded; result: JSON, or "". */
void idempotency_done(struct idempotency *i, struct idempotent *c, int status, const char *result);
/* It has had an effect, and its result is not kept: who asks again is told so (again). */
void idempotency_leave(struct idempotency *i, struct idempotent *c);
/* It has failed, and done nothing. Nothing happens to one that has ended, as by done. */
void idempotency_forget(struct idempotency *i, struct idempotent *c);
void idempotent_fini(struct idempotent *c);

/* Records that are kept. */
size_t idempotency_count(struct idempotency *i);
/* The time, for tests: the wall clock's and the monotonic one's; 0: what the clocks say. */
void idempotency_set_now(struct idempotency *i, int64_t wall_ms, int64_t monotonic_ms);

#endif
