/*
 * events.h - a parser of event streams (text/event-stream, WHATWG HTML 9.2).
 * Pure: bytes go in as they come, in pieces of any size; whole events come out.
 */
#ifndef VARVE_TOOLS_EVENTS_H
#define VARVE_TOOLS_EVENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

/* A longer line or event ends the stream with -EMSGSIZE. */
#define EVENT_MAX_BYTES (16u << 20)

/*
 * type is "message" where the stream names none; data has its lines joined
 * with '\n'. Both are NUL-terminated and live during the call. A failure
 * (-errno) ends the feeding and is returned by it.
 */
typedef int (*event_fn)(void *arg, const char *type, const char *data, size_t data_len);

struct event_parser {
	event_fn fn;
	void *arg;
	/* private */
	struct buf line;
	struct buf type;
	struct buf data;
	bool has_data;
	bool after_cr; /* a LF that comes next belongs to the CR before it */
	bool started;  /* past the place where a byte order mark may be */
};

void event_parser_init(struct event_parser *p, event_fn fn, void *arg);
void event_parser_fini(struct event_parser *p);
/* 0, -EMSGSIZE, -ENOMEM, or what fn returned. After a failure feed no more. */
MUST_CHECK int event_parser_feed(struct event_parser *p, const void *bytes, size_t len);

#endif
