/*
 * json_stream.h - JSON text that goes out in pieces as it is made, for values
 * that would take many times their size as a whole: a control character becomes
 * six bytes, and a tree of values, its text and a copy of that are there at once.
 */
#ifndef VARVE_SNAPSHOTD_JSON_STREAM_H
#define VARVE_SNAPSHOTD_JSON_STREAM_H

#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

struct json_stream {
	struct buf pending;
	int (*write)(void *arg, const void *data, size_t len); /* 0 or -errno, which ends it */
	void *arg;
};

/* A piece of JSON as it is. -ENOMEM, or what write returns; so do the others. */
MUST_CHECK int json_stream_raw(struct json_stream *js, const char *text);
/* A string of any bytes, with its quotes; each that is no UTF-8 becomes U+FFFD. */
MUST_CHECK int json_stream_string(struct json_stream *js, const void *data, size_t len);
/* Write what is pending. */
MUST_CHECK int json_stream_flush(struct json_stream *js);
void json_stream_fini(struct json_stream *js);

#endif
