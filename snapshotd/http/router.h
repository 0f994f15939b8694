/*
 * router.h - which call a request is: method and path against a table of
 * patterns, and the decoding of paths and queries. Pure; knows no HTTP library.
 *
 * A pattern is literal segments and captures: "/api/snapshots/:name/diff/:other".
 * A capture stands for exactly one non-empty segment of the path as sent, and
 * is percent-decoded after the split, so "%2F" inside it is a '/' of the value.
 */
#ifndef VARVE_SNAPSHOTD_ROUTER_H
#define VARVE_SNAPSHOTD_ROUTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"

#define ROUTE_CAPTURES_MAX 2
#define QUERY_PARAMS_MAX 32

struct api_call;
/* 0 when it has replied, or -errno with the reason in err. */
typedef int (*route_fn)(struct api_call *c, struct error *err);

enum route_flags {
	ROUTE_LONG = 1,	  /* runs in a thread of its own; may stream its reply */
	ROUTE_OPEN = 2,	  /* needs no API key */
	ROUTE_UPLOAD = 4, /* with ?format= the body is a stream, not JSON */
	ROUTE_STREAM = 8, /* the body is always a stream; goes with ROUTE_LONG */
	ROUTE_LIVE = 16,  /* a stream that comes when it comes: any pause is right */
	/* How large a body may be: else it is small. */
	ROUTE_MEDIUM = 32,
	ROUTE_LARGE = 64,
	ROUTE_AGAIN = 128,  /* may be done again where a daemon has died of it, or its reply */
	ROUTE_UNKEPT = 256, /* its answer is not to be kept: it has no Idempotency-Key */
};

struct route {
	const char *method;
	const char *pattern;
	route_fn fn;
	unsigned flags;	 /* enum route_flags */
	route_fn before; /* may be NULL: checks made before a body is read; does not reply */
};

struct route_match {
	const struct route *route;
	char *captures[ROUTE_CAPTURES_MAX]; /* decoded, owned */
	char allow[64];			    /* -EOPNOTSUPP: methods that the path has, "GET, PUT" */
};
void route_match_fini(struct route_match *m);

/*
 * The first route that fits. HEAD fits a GET that is not ROUTE_LONG. -ENOENT (no
 * such path), -EOPNOTSUPP (not with this method), -EINVAL (bad %-escape), -ENOMEM.
 */
MUST_CHECK int router_find(const struct route *table, size_t n, const char *method,
			   const char *path, struct route_match *out);

/*
 * Percent-decode s[0..len) into a new string. -EINVAL for a bad escape or an
 * encoded NUL; -ENOMEM. plus_is_space: as queries have it.
 */
MUST_CHECK int url_decode(const char *s, size_t len, bool plus_is_space, char **out);

struct query_param {
	char *name, *value;
};
struct query {
	struct query_param params[QUERY_PARAMS_MAX];
	size_t n;
};
/* "a=1&b" (no '?'); "b" has the value "". -EINVAL: bad escape, name given twice, too many. */
MUST_CHECK int query_parse(const char *s, struct query *out, struct error *err);
void query_fini(struct query *q);
/* NULL where absent. */
const char *query_get(const struct query *q, const char *name);
/* -EINVAL naming a parameter that is none of the NULL-terminated list. */
MUST_CHECK int query_check(const struct query *q, const char *const *known, struct error *err);
/* Absent leaves *out as it is; "", 1, true are true; 0, false are false. -EINVAL. */
MUST_CHECK int query_bool(const struct query *q, const char *name, bool *out, struct error *err);
/* Absent leaves *out as it is; decimal digits. -EINVAL. */
MUST_CHECK int query_u64(const struct query *q, const char *name, uint64_t *out, struct error *err);

#endif
