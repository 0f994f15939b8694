/*
 * object_s3_reply_internal.h - what the reply to a request means.
 */
#ifndef VARVE_OBJECT_S3_REPLY_INTERNAL_H
#define VARVE_OBJECT_S3_REPLY_INTERNAL_H

#include "store/bucket/object_s3_job_internal.h"

enum s3_verdict {
	S3_FINAL,     /* j->r->result and what belongs to it are set */
	S3_AGAIN,     /* there is more to ask, at once: no failure */
	S3_RETRY,     /* failed: try again */
	S3_THROTTLED, /* the same, and it was too much */
	S3_RENEW,     /* the credentials were refused */
	S3_EXPIRED,   /* so they were, for their age alone: later ones will do */
};
/*
 * What came of an attempt; rc is libcurl's. On failure the reason is in j->last, and j->r->result
 * is what the request ends with if nobody tries again.
 */
enum s3_verdict s3_reply_judge(struct s3 *s, struct s3_attempt *a, CURLcode rc);
/* "GET s3://BUCKET/KEY" */
void s3_job_name(const struct s3 *s, const struct s3_job *j, char *out, size_t size);

#endif
