/*
 * object_s3_send_internal.h - a job becomes an HTTP request.
 */
#ifndef VARVE_OBJECT_S3_SEND_INTERNAL_H
#define VARVE_OBJECT_S3_SEND_INTERNAL_H

#include "store/bucket/object_s3_job_internal.h"

/* A ready attempt, not yet given to the multi handle. 0, -ENOMEM, or what s3_cred_get says. */
MUST_CHECK int s3_attempt_new(struct s3 *s, struct s3_job *j, struct s3_attempt **out,
			      struct error *err);
void s3_attempt_free(struct s3_attempt *a);

#endif
