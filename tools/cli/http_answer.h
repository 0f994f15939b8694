/*
 * http_answer.h - a parser of HTTP/1.1 answers (RFC 9112). Pure: bytes go in as they come, in
 * pieces of any size; the status and the body come out. Interim answers (1xx) are passed over.
 */
#ifndef VARVE_TOOLS_HTTP_ANSWER_H
#define VARVE_TOOLS_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

/* A longer line, or more in all lines of a head, is -EPROTO. */
#define HTTP_HEAD_MAX ((size_t)64 << 10)

struct http_answer {
	/* The body, in pieces. A failure (-errno) ends the feeding and is returned by it. */
	int (*on_data)(void *arg, const void *data, size_t len);
	void *arg;

	int status;		/* 0 until a head that is not interim is whole */
	char type[128];		/* then: Content-Type, cut; "" for none */
	uint64_t retry_after_s; /* Retry-After, in seconds; UINT64_MAX for none */
	bool keys, pending;	/* it has the headers of libvarve/retry.h */
	bool asked;		/* an interim answer has come: 100 asks for the body */
	bool whole;

	/* private */
	enum {
		ANSWER_STATUS,
		ANSWER_HEADER,
		ANSWER_CHUNK_SIZE,
		ANSWER_CHUNK_END,
		ANSWER_TRAILER,
		ANSWER_DATA, /* `left` bytes, then the end, or a chunk's */
		ANSWER_REST, /* until the connection's end */
	} state;
	struct buf line;
	size_t head; /* bytes of lines since the last data */
	int code;    /* of the head that is being read */
	bool chunked, has_length;
	uint64_t left;
};

void http_answer_init(struct http_answer *a, int (*on_data)(void *, const void *, size_t),
		      void *arg);
void http_answer_fini(struct http_answer *a);
/* 0, -EPROTO (this is no HTTP), -ENOMEM, or what on_data returned: then feed no more. What comes
 * after a whole answer is dropped. */
MUST_CHECK int http_answer_feed(struct http_answer *a, const void *data, size_t len);
/* The connection has ended: 0 where that is the answer's end too, else -ECONNRESET. */
MUST_CHECK int http_answer_end(struct http_answer *a);

#endif
