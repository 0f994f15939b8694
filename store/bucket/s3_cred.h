/*
 * s3_cred.h - the credentials that requests to a bucket are signed with: where they come from, and
 * new ones before the old ones expire.
 *
 * Sources: the environment; a credentials file, read again when it changes; a command that prints
 * JSON (AWS's credential_process); a container's endpoint; the instance's metadata service
 * (IMDSv2). The last three are asked by a thread of this module, at the start, at 75 % of a life,
 * and when the service refuses what they gave: one of them is asked at a time, however many
 * requests wait. The usual search takes the first source that is configured, in this order.
 *
 * No secret is ever part of a message.
 */
#ifndef VARVE_S3_CRED_H
#define VARVE_S3_CRED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"

#define S3_ACCESS_KEY_MAX 256
#define S3_SECRET_MAX 512
#define S3_TOKEN_MAX 16384

/* One set. Whoever has a copy ends it with s3_keys_fini, which leaves nothing of it in memory. */
struct s3_keys {
	char access_key[S3_ACCESS_KEY_MAX];
	char secret[S3_SECRET_MAX];
	char *token;	     /* of a session; NULL: none; owned */
	int64_t expires;     /* Unix time; 0: they do not */
	uint64_t generation; /* greater than that of the sets before */
};
void s3_keys_fini(struct s3_keys *k);
static inline void s3_keys_fini_p(struct s3_keys *k)
{
	s3_keys_fini(k);
}

/* A small HTTP request to a source. headers: n of "name: value". Waits for the reply. */
struct s3_cred_request {
	const char *method, *url;
	const char *headers[2];
	size_t n_headers;
	unsigned timeout_ms;
};
/* 0 with the status and up to 64 KiB of body, or -errno with err set. */
typedef int (*s3_cred_http_fn)(const struct s3_cred_request *rq, long *out_status, struct buf *out,
			       struct error *err);

struct s3_cred_options {
	const char *source;  /* NULL: the usual search; env, file:PATH, process:COMMAND, metadata */
	const char *profile; /* NULL: AWS_PROFILE, or "default" */
	s3_cred_http_fn http;
	/* There are new credentials, or none can be had; from any thread, with no lock held. */
	void (*changed)(void *arg);
	void *arg;
};

struct s3_cred;
/* -EINVAL, -ENOENT (none are configured), -EBADMSG, -ENOMEM. */
MUST_CHECK int s3_cred_open(const struct s3_cred_options *o, struct s3_cred **out,
			    struct error *err);
void s3_cred_close(struct s3_cred *c); /* NULL is accepted */

/*
 * The present ones. Does not wait: -EAGAIN while the source is asked (`changed` tells the end);
 * -EACCES if it gave none, with the reason; asking is then tried again.
 */
MUST_CHECK int s3_cred_get(struct s3_cred *c, struct s3_keys *out, struct error *err);
/*
 * The service refused the set of this generation: ask the source, if the set is still the present
 * one. Whether there can be another: false for the environment.
 */
bool s3_cred_refused(struct s3_cred *c, uint64_t generation);
/* Where they come from, for a person: "environment", "file PATH, profile P". Lives as long as c. */
const char *s3_cred_source(const struct s3_cred *c);

#endif
