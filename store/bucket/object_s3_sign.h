/*
 * object_s3_sign.h - AWS Signature Version 4 of one request to S3. Pure.
 *
 * Not libcurl's, whose rules for what is signed and how queries are written differ between its
 * versions: what is signed here is what the caller lists, and nothing else. `Range` is left out, so
 * that a cache on the way may ask for other ranges than we do.
 */
#ifndef VARVE_OBJECT_S3_SIGN_H
#define VARVE_OBJECT_S3_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

#define S3_DATE_SIZE 17 /* "20130524T000000Z" and a NUL */

struct s3_header {
	const char *name; /* lower case */
	const char *value;
};

struct s3_signing {
	const char *method;
	const char *path;  /* as sent: encoded, with its leading '/' */
	const char *query; /* as sent: sorted and encoded, each name with its '='; may be "" */
	const char *payload_sha256; /* hex */
	const char *region;
	char date[S3_DATE_SIZE];	 /* as in the header x-amz-date */
	const struct s3_header *headers; /* those that are signed, by name ascending */
	size_t n_headers;
};

void s3_date_format(int64_t unix_time, char out[S3_DATE_SIZE]);
/* Append s with all but unreserved characters (and '/', if kept) as %XX. -ENOMEM. */
MUST_CHECK int s3_encode(const char *s, bool keep_slash, struct buf *out);
/* Append the canonical request. -ENOMEM. */
MUST_CHECK int s3_sign_canonical(const struct s3_signing *s, struct buf *out);
/* Append the value of the Authorization header. -ENOMEM. */
MUST_CHECK int s3_sign(const struct s3_signing *s, const char *access_key, const char *secret,
		       struct buf *out);

#endif
