/*
 * request.h - a program to run, taken apart from the bytes that the daemon
 * sent (agent_protocol.h). Header only: the agent and the unit tests share it.
 */
#ifndef VARVE_INIT_REQUEST_H
#define VARVE_INIT_REQUEST_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/container/agent_protocol.h"

/* Everything points into the bytes, but for the arrays. */
struct request {
	char *cwd, *user;
	char **argv, **env; /* NULL-terminated, malloc'd as one: free(argv) */
	uint32_t flags;	    /* of INIT_START; 0 from request_parse */
};

struct request_reader {
	char *p, *end;
};

/* NULL at the end, and where what follows is no string. */
static inline char *request_string(struct request_reader *r)
{
	uint32_t len;
	char *s = r->p + sizeof(len);

	if ((size_t)(r->end - r->p) < sizeof(len) + 1)
		return NULL;
	memcpy(&len, r->p, sizeof(len));
	if (len >= (size_t)(r->end - s) || s[len] || memchr(s, 0, len))
		return NULL;
	r->p = s + len + 1;
	return s;
}

/* 0, -EBADMSG (malformed) or -ENOMEM. */
static inline int request_parse(char *data, size_t size, struct request *out)
{
	struct request_reader r = { data, data + size };
	char *cwd = request_string(&r), *user = request_string(&r), *count = request_string(&r);
	size_t n = 0, max, n_args = count ? strtoul(count, NULL, 10) : 0;
	char **v;

	max = (size_t)(r.end - r.p) / (sizeof(uint32_t) + 1); /* no more strings than this */
	if (!count || n_args < 1 || n_args > max)
		return -EBADMSG;
	v = calloc(max + 2, sizeof(*v));
	if (!v)
		return -ENOMEM;
	while (r.p < r.end) {
		/* a NULL between arguments and environment */
		char **slot = &v[n < n_args ? n : n + 1];

		*slot = request_string(&r);
		if (!*slot)
			break;
		n++;
	}
	if (r.p < r.end || n < n_args) {
		free(v);
		return -EBADMSG;
	}
	*out = (struct request){ cwd, user, v, v + n_args + 1, 0 };
	return 0;
}

#endif
