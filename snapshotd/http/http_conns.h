/*
 * http_conns.h - the connections of one listener, and which of them have to go.
 *
 * A connection is untrusted until a request on it has shown that its sender may
 * call; those of a guarded listener are trusted from the start. Of untrusted ones
 * there should be at most half of all (limit), and of one address (IPv6: network
 * of 64 bits) a quarter. One too many ends the oldest of them, unless that has
 * only just come and there is room: so whoever holds connections open keeps
 * nobody else out. Whatever is waited for has a deadline: a request's headers, and
 * the bytes of a body or a reply, which have to go at CONN_RATE at least.
 *
 * To end a connection is to shut its socket down, which its thread then finds.
 * Times are milliseconds of CLOCK_MONOTONIC. All functions may be called from
 * any thread; a conn that is NULL is one that is not watched.
 */
#ifndef VARVE_SNAPSHOTD_HTTP_CONNS_H
#define VARVE_SNAPSHOTD_HTTP_CONNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "store/base/macros.h"

#define CONN_YOUNG_MS 1000	     /* of an untrusted one that has only just come */
#define CONN_HEADER_MS 10000	     /* for a request's headers, and for a key */
#define CONN_IDLE_MS 60000	     /* between requests of a trusted one, beside that */
#define CONN_RATE 1024		     /* bytes/s, of bodies and replies */
#define CONN_BODY_PAUSE_MS 30000     /* of a body that is collected */
#define CONN_STREAM_PAUSE_MS 1800000 /* of a streamed one: what makes or takes it may pause */
#define CONN_LIVE_PAUSE_MS INT32_MAX /* of one that comes as somebody types it */
#define CONN_REPLY_PAUSE_MS 60000    /* of whoever takes a reply that is whole */

struct conns;
struct conn;
/* limit: as many as there may be. NULL when out of memory. */
struct conns *conns_new(unsigned limit, bool guarded);
void conns_free(struct conns *cs); /* all have been removed */

/* fd: stays the caller's, and open until conns_remove. NULL when out of memory. */
struct conn *conns_add(struct conns *cs, int fd, const struct sockaddr *addr, int64_t now);
void conns_remove(struct conns *cs, struct conn *c);
void conns_trust(struct conns *cs, struct conn *c);

/* A request's first line is here; its headers are to follow. */
void conns_request(struct conns *cs, struct conn *c, int64_t now);
/* The headers are here; a body may follow, with pauses of pause_ms. */
void conns_body(struct conns *cs, struct conn *c, int pause_ms, int64_t now);
/* len bytes of it are here, and are being worked on: nothing is awaited until conns_body_next. */
void conns_body_bytes(struct conns *cs, struct conn *c, size_t len, int64_t now);
void conns_body_next(struct conns *cs, struct conn *c, int64_t now);
/* The request is here; the client waits for us. */
void conns_serving(struct conns *cs, struct conn *c);
/* A reply of len bytes is whole: the client has to take it. */
void conns_reply(struct conns *cs, struct conn *c, size_t len, int64_t now);
/*
 * A streamed reply begins, of which the client may take nothing for pause_ms. The
 * first bytes are awaited from us. Then, for each piece: it is here to be sent
 * (conns_stream_next); all its len bytes have been sent (conns_stream_bytes).
 */
void conns_stream(struct conns *cs, struct conn *c, int pause_ms, int64_t now);
void conns_stream_next(struct conns *cs, struct conn *c, int64_t now);
void conns_stream_bytes(struct conns *cs, struct conn *c, size_t len, int64_t now);
/* It has been answered. */
void conns_idle(struct conns *cs, struct conn *c, int64_t now);

/* Whether it was ended here. */
bool conns_has_ended(struct conns *cs, const struct conn *c);

/* End those whose deadline has passed. Returns how many are left. */
size_t conns_reap(struct conns *cs, int64_t now);

#endif
