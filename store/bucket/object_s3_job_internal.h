/*
 * object_s3_job_internal.h - what the files of object_s3 share: a job, its attempts, the client.
 * object_s3.c has the jobs and the thread, object_s3_send.c makes a job into an HTTP request,
 * object_s3_reply.c says what its reply means, object_s3_address.c turns options into hosts and
 * paths, object_s3_fetch.c asks sources of credentials.
 */
#ifndef VARVE_OBJECT_S3_JOB_INTERNAL_H
#define VARVE_OBJECT_S3_JOB_INTERNAL_H

#include <curl/curl.h>
#include <pthread.h>

#include "store/base/hash.h"
#include "store/bucket/object_s3.h"
#include "store/bucket/object_s3_pace.h"
#include "store/bucket/object_s3_sign.h"
#include "store/bucket/object_s3_xml.h"
#include "store/bucket/s3_cred.h"

#define S3_LIST_REPLY_MAX (4u << 20)
#define S3_FAILURE_MAX (64u << 10) /* of a body that tells of a failure; the rest is dropped */
#define S3_PRIORITIES ((unsigned)OBJECT_BACKGROUND + 1)

/* A request under way. All but the first two members belong to the thread. */
struct s3_job {
	struct object_request *r;
	char payload[DIGEST_HEX_SIZE];	/* hash of the body */
	struct s3_job *next;		/* in its queue, or among those that wait */
	struct s3_attempt *attempts[2]; /* under way; [1]: the second of a hedged pair */
	int64_t deadline_ms;		/* 0: not begun */
	int64_t due_ms;			/* when it may be tried again */
	unsigned backoff_ms, retries;
	unsigned tries;	       /* attempts in all */
	uint64_t refused_keys; /* generation of the credentials that were refused */
	bool paid;	       /* its retry is out of the budget */
	bool took_clock;       /* the service's, after a refusal */
	bool past_proxy;       /* the proxy failed */
	bool one_by_one;       /* DELETE: the service has no multi-object delete */
	bool hedged;
	size_t n_deleted;  /* of them */
	char *after;	   /* LIST: from here on, root included; owned; NULL: from r->after */
	struct buf body;   /* DELETE: what is sent */
	struct error last; /* why the last attempt failed */
};

/* One HTTP request of a job. */
struct s3_attempt {
	struct s3 *s3;
	struct s3_job *job;
	struct s3_attempt *next; /* among all that are under way */
	CURL *easy;
	struct curl_slist *headers;
	struct buf url, body; /* of the reply */
	const uint8_t *send;  /* what is uploaded */
	size_t send_len, sent;
	size_t limit;	 /* of the reply's body */
	bool over_limit; /* it was longer */
	bool no_memory;
	bool via_proxy, chunked, aged;
	int64_t date;	     /* the reply's Date; 0: none */
	int64_t date_came;   /* when, by our clock */
	int64_t total;	     /* size of the whole object by Content-Range; -1: unknown */
	int64_t first, last; /* the range that came, by Content-Range; -1: none */
	char bucket_region[64];
	uint64_t keys; /* generation of the credentials */
	int64_t started_us;
	int64_t signed_at; /* the date of its signature */
	char error[CURL_ERROR_SIZE];
};

struct s3 {
	struct object_store base;
	/* Set by object_s3_open, then read only. */
	bool https, path_style;
	char *host;	 /* as in Host: and signed; with BUCKET. unless path_style */
	char *base_path; /* "" or "/BUCKET" */
	char *bucket, *region, *ca_file;
	char *root;		  /* "" or "PREFIX/" */
	struct curl_slist *proxy; /* for CURLOPT_CONNECT_TO */
	bool proxy_https;
	unsigned timeout_ms, max_in_flight;
	struct s3_cred *cred;
	CURLM *multi;
	CURLSH *share; /* TLS sessions; of the thread, so without locks */
	pthread_t thread;

	pthread_mutex_t lock;
	struct s3_job *incoming, **incoming_end; /* guarded by lock */
	bool closing;				 /* guarded by lock */

	/* Of the thread. */
	struct s3_pace pace;
	struct {
		struct s3_job *first, **end;
	} queue[S3_PRIORITIES];
	struct s3_job *waiting; /* to be tried again */
	struct s3_attempt *in_flight;
	unsigned n_in_flight;
	int64_t swept_ms;
	int64_t clock_offset; /* seconds that the service's clock is ahead; 0 if below a minute */
	bool no_multi_delete; /* the service has none */
};

/* Of a GET. */
static inline bool s3_is_ranged(const struct object_request *r)
{
	return r->len || (r->offset && !r->from_end);
}

/* --- object_s3_address.c --- */

/* Set what of s comes from the options' endpoint, bucket, prefix, region and proxy. -EINVAL. */
MUST_CHECK int s3_address_set(struct s3 *s, const struct object_s3_options *o, struct error *err);

/* --- object_s3_fetch.c --- */

/* An s3_cred_http_fn. */
int s3_fetch(const struct s3_cred_request *rq, long *out_status, struct buf *out,
	     struct error *err);

#endif
