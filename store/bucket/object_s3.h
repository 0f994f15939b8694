/*
 * object_s3.h - a bucket of a service that speaks S3: AWS, Ceph RGW, MinIO and others.
 *
 * One thread has all requests (libcurl's multi interface, HTTP/1.1, kept connections). It sends
 * what waits by priority, as many at a time as the service bears (object_s3_pace.h), tries again
 * what failed for a while, asks slow small reads a second time, signs with the service's clock
 * where the host's is wrong by more than a minute, and has one renewal of the credentials while all
 * wait (s3_cred.h). Environment variables for HTTP proxies are not used.
 *
 * What it needs of the service: PUT with If-None-Match, ListObjectsV2, ranges, a 404 that says
 * NoSuchKey. Multi-object delete is used where the service has it. Not used: multipart uploads,
 * conditional deletes, ETags.
 *
 * Memory: a GET has at most its max_len, twice where it was asked twice; a LIST 4 MiB. At most
 * max_in_flight of them at a time.
 */
#ifndef VARVE_OBJECT_S3_H
#define VARVE_OBJECT_S3_H

#include "store/bucket/object_store.h"

struct object_s3_options {
	const char *endpoint; /* "http[s]://HOST[:PORT]"; NULL: AWS's for the region */
	const char *bucket;
	const char *prefix; /* before all keys; "" or without slashes at its ends; NULL: "" */
	const char *region; /* NULL: AWS_REGION, or "us-east-1" */
	/*
	 * A plain HTTP cache in front of the service, "http://HOST[:PORT]", or NULL. Reads that
	 * allow it are asked there first, and of the service if it fails.
	 */
	const char *proxy;
	const char *ca_file; /* certificates that an https endpoint is checked with; NULL: the
				system's */
	const char *profile, *credentials; /* s3_cred_options.profile, .source */
	bool path_style;		   /* HOST/BUCKET/KEY, not BUCKET.HOST/KEY */
	bool read_only;
	unsigned timeout_ms;	/* of a request with all its attempts; 0: 300 s */
	unsigned max_in_flight; /* 0: 64 */
};

/* Sends nothing yet. -EINVAL, -ENOENT (no credentials), -ENOMEM, each with err set. */
MUST_CHECK int object_s3_open(const struct object_s3_options *o, struct object_store **out,
			      struct error *err);

#endif
