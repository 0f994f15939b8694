/*
 * retry.h - when a call is made again that has met a daemon which is being replaced, and the key by
 * which that one knows it again (Idempotency-Key; snapshotd/state/idempotency.h).
 *
 * Pure, but for the clock and the environment. It says how long to wait; the caller waits.
 */
#ifndef VARVE_LIBVARVE_RETRY_H
#define VARVE_LIBVARVE_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/macros.h"

#define RETRY_MS_DEFAULT 10000
#define RETRY_VARIABLE "VARVE_RETRY_SECONDS"
/* A call that breaks off this often, once sent, is what the daemons die of. */
#define RETRY_BREAKS_MAX 8
/* A 503 that says to come back later than this is no daemon that is being replaced. */
#define RETRY_AFTER_MAX_S 2
/* A call that is still under way is asked for as long as a daemon knows its key. */
#define RETRY_PENDING_MAX_MS (3600 * 1000)

/* Headers of the daemon: it does a call with a key once; that call is under way. */
#define RETRY_KEYS_HEADER "Idempotency-Keys"
#define RETRY_PENDING_HEADER "Idempotency-Pending"

/* What a client is told to do; kept over its calls. */
struct retry_policy {
	int64_t for_ms; /* that no daemon answers; 0: nothing is made again */
	bool always;	/* also where none has ever answered: that was asked for */
};
/* As VARVE_RETRY_SECONDS says, or the default. */
struct retry_policy retry_policy_get(void);

/* What a client knows of its daemon; kept over its calls, zeroed before. */
struct retry_peer {
	bool reached; /* one has answered, or taken a call */
	enum { RETRY_KEYS_UNKNOWN, RETRY_KEYS_NONE, RETRY_KEYS } keys; /* the last that answered */
};
/* An answer has come; keys: with RETRY_KEYS_HEADER. */
void retry_answered(struct retry_peer *d, bool keys);
/* Whether it is asked what it knows (GET /healthz) before a call with that key ("": none). */
bool retry_asks(const struct retry_policy *p, const struct retry_peer *d, const char *key);

enum retry_failure {
	RETRY_NOT_REACHED, /* nothing has been sent */
	RETRY_UNAVAILABLE, /* 503, for a moment: nothing has been done */
	RETRY_PENDING,	   /* 503: the same call is under way */
	RETRY_BROKEN,	   /* sent, and not a word of an answer */
	RETRY_BROKEN_OFF,  /* in the answer */
};
/*
 * Whether a call may be made again after that. What has been sent and changes something may only
 * where the daemon knows keys: an older one would do it twice.
 */
bool retry_may(const struct retry_policy *p, struct retry_peer *d, enum retry_failure f,
	       const char *method);

/* One call; zeroed at its begin. */
struct retry {
	int64_t end_ms;		/* CLOCK_MONOTONIC; 0: it has not failed since a daemon was there */
	int64_t pending_end_ms; /* 0: it has not been under way */
	int64_t pause_ms;
	unsigned breaks;
};
/* Milliseconds to wait before it is made again; -1: it is not. */
int64_t retry_next(struct retry *r, const struct retry_policy *p, enum retry_failure f);

#define RETRY_KEY_SIZE 33
/* Of a call that changes something; a new one each time. "" where there is no randomness. */
void retry_key(char out[RETRY_KEY_SIZE]);

#endif
