/* What replies mean: results, messages, and whether to try again. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/bucket/object_s3_reply_internal.h"

#define SKEW_SECONDS 60 /* of the clocks: more, and the service's is used */

void s3_job_name(const struct s3 *s, const struct s3_job *j, char *out, size_t size)
{
	static const char *const verbs[] = { "GET", "PUT", "PUT-once", "LIST", "DELETE" };
	const struct object_request *r = j->r;
	const char *key = r->op != OBJECT_DELETE ? r->key : r->n_names ? r->names[0] : "";

	snprintf(out, size, "%s s3://%.64s/%.80s%.100s%s", verbs[r->op], s->bucket, s->root, key,
		 r->op == OBJECT_DELETE && r->n_names > 1 ? " and others" : "");
}

/* Set why it failed and what the request ends with if that is the end of it. */
static void PRINTF_LIKE(4, 5) note(struct s3 *s, struct s3_job *j, int result, const char *fmt, ...)
{
	char name[300], why[sizeof(j->last.msg)];
	va_list args;

	s3_job_name(s, j, name, sizeof(name));
	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	j->r->result = result;
	error_set(&j->last, result, "%s: %s", name, why);
}

/* --- replies to what was done --- */

/* r->data of what came: a range, or the whole, or nothing (NULL: a range behind the end). */
static void give_data(struct s3_job *j, struct buf *body, uint64_t size)
{
	buf_fini(&j->r->data);
	if (body) {
		j->r->data = *body;
		*body = (struct buf)BUF_INIT;
	}
	j->r->size = size;
	j->r->result = 0;
}

/* The part of a whole object that was asked. */
static void cut_range(const struct object_request *r, struct buf *body)
{
	size_t from = MIN(r->offset, (uint64_t)body->len);

	if (r->from_end)
		from = body->len - MIN(r->len, body->len);
	size_t len = r->len ? MIN(r->len, body->len - from) : body->len - from;
	if (from)
		memmove(body->data, body->data + from, len);
	body->len = len;
}

/* What the bounds of a range in the reply must be, where the object's size is known. */
static bool range_fits(const struct object_request *r, const struct s3_attempt *a)
{
	int64_t first = (int64_t)r->offset, last = a->total - 1;

	if (a->first < 0 || a->body.len != (uint64_t)(a->last - a->first) + 1)
		return false;
	if (a->total < 0)
		return !r->from_end && a->first == first && (!r->len || a->body.len <= r->len);
	if (r->from_end)
		first = a->total - (int64_t)MIN(r->len, (uint64_t)a->total);
	else if (r->len && first + (int64_t)r->len - 1 < last)
		last = first + (int64_t)r->len - 1;
	return a->first == first && a->last == last;
}

static enum s3_verdict judge_get(struct s3 *s, struct s3_attempt *a, long status)
{
	struct s3_job *j = a->job;
	bool ranged = s3_is_ranged(j->r);
	curl_off_t told = -1;

	if (ranged && status == 206 && range_fits(j->r, a)) {
		give_data(j, &a->body, a->total < 0 ? 0 : (uint64_t)a->total);
		return S3_FINAL;
	}
	curl_easy_getinfo(a->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &told);
	if (status == 200 && (a->chunked || told == (curl_off_t)a->body.len)) {
		size_t size = a->body.len;
		if (ranged)
			cut_range(j->r, &a->body);
		give_data(j, &a->body, size);
		return S3_FINAL;
	}
	note(s, j, -EBADMSG, "the service answers with other bytes than were asked");
	return S3_RETRY;
}

static enum s3_verdict judge_listing(struct s3 *s, struct s3_attempt *a)
{
	struct s3_job *j = a->job;
	struct object_request *r = j->r;
	struct s3_list_query q = { .root = s->root,
				   .prefix = r->key,
				   .after = r->after,
				   .max_keys = r->max_keys ? r->max_keys : OBJECT_LIST_MAX };
	struct s3_listing l;
	int rc = s3_xml_listing((const char *)a->body.data, a->body.len, &q, &l);

	if (rc == 0 && l.n == 0 && l.truncated) {
		/* A page of keys that are not ours: there must be others after them. */
		if (!j->after || strcmp(l.last, j->after) > 0) {
			free(j->after);
			j->after = STEAL(l.last);
			s3_listing_fini(&l);
			return S3_AGAIN;
		}
		rc = -EBADMSG;
		s3_listing_fini(&l);
	}
	if (rc < 0) {
		note(s, j, rc, "the service answers with a listing that makes no sense");
		return rc == -ENOMEM ? S3_FINAL : S3_RETRY;
	}
	r->entries = l.entries;
	r->n_entries = l.n;
	r->more = l.truncated;
	r->result = 0;
	l.entries = NULL;
	l.n = 0;
	s3_listing_fini(&l);
	return S3_FINAL;
}

static enum s3_verdict judge_code(struct s3 *s, struct s3_attempt *a, long status,
				  const struct s3_failure *f);

static enum s3_verdict judge_deletion(struct s3 *s, struct s3_attempt *a, long status)
{
	struct s3_job *j = a->job;
	struct s3_failure f = { 0 };
	size_t failed = 0;

	if (j->one_by_one) {
		j->r->result = 0;
		return ++j->n_deleted < j->r->n_names ? S3_AGAIN : S3_FINAL;
	}
	if (s3_xml_deleted((const char *)a->body.data, a->body.len, &failed, &f) < 0) {
		note(s, j, -EBADMSG, "the service answers with %ld and no list", status);
		return S3_RETRY;
	}
	if (!failed) {
		j->r->result = 0;
		return S3_FINAL;
	}
	/* Each key has its own fate; the reason of one stands for all. */
	return judge_code(s, a, strcmp(f.code, "AccessDenied") == 0 ? 403 : 500, &f);
}

static enum s3_verdict judge_success(struct s3 *s, struct s3_attempt *a, long status)
{
	switch (a->job->r->op) {
	case OBJECT_GET:
		return judge_get(s, a, status);
	case OBJECT_LIST:
		return judge_listing(s, a);
	case OBJECT_DELETE:
		return judge_deletion(s, a, status);
	default:
		a->job->r->result = 0;
		return S3_FINAL;
	}
}

/* --- failures --- */

/* What the codes of the service mean whatever the status; others: by the status. */
static const struct {
	const char *code;
	enum s3_verdict verdict;
	int result;
} codes[] = {
	{ "SlowDown", S3_THROTTLED, -ETIMEDOUT },
	{ "TooManyRequests", S3_THROTTLED, -ETIMEDOUT },
	{ "RequestLimitExceeded", S3_THROTTLED, -ETIMEDOUT },
	{ "RequestTimeout", S3_RETRY, -ETIMEDOUT },
	{ "InternalError", S3_RETRY, -ETIMEDOUT },
	{ "ConditionalRequestConflict", S3_RETRY, -ETIMEDOUT },
	{ "OperationAborted", S3_RETRY, -ETIMEDOUT },
	{ "BadDigest", S3_RETRY, -EIO }, /* damaged on the way */
	{ "XAmzContentSHA256Mismatch", S3_RETRY, -EIO },
	{ "IncompleteBody", S3_RETRY, -EIO },
	{ "ExpiredToken", S3_EXPIRED, -EACCES },
	{ "ExpiredTokenException", S3_EXPIRED, -EACCES },
	{ "TokenRefreshRequired", S3_EXPIRED, -EACCES },
	{ "InvalidToken", S3_RENEW, -EACCES },
	{ "InvalidAccessKeyId", S3_RENEW, -EACCES },
	{ "SignatureDoesNotMatch", S3_RENEW, -EACCES },
	{ "QuotaExceeded", S3_FINAL, -ENOSPC },
	{ "XMinioStorageFull", S3_FINAL, -ENOSPC },
	{ "EntityTooLarge", S3_FINAL, -EFBIG },
	{ "NoSuchBucket", S3_FINAL,
	  -EIO }, /* never -ENOENT: its objects are not known to be gone */
	{ "PermanentRedirect", S3_FINAL, -EIO },
};

static enum s3_verdict by_status(long status, int *result)
{
	*result = -ETIMEDOUT;
	if (status == 503 || status == 429)
		return S3_THROTTLED;
	if (status == 409 || status == 408 || (status >= 500 && status != 501 && status != 507))
		return S3_RETRY;
	*result = -EACCES;
	if (status == 401)
		return S3_RENEW;
	if (status == 403)
		return S3_FINAL;
	*result = status == 507 ? -ENOSPC : status == 413 ? -EFBIG : -EIO;
	if (status != 404)
		return S3_FINAL;
	*result = -EBADMSG; /* of a key or a bucket it says so: this is some other server */
	return S3_RETRY;
}

static enum s3_verdict judge_code(struct s3 *s, struct s3_attempt *a, long status,
				  const struct s3_failure *f)
{
	char region[100] = "";
	int result;
	enum s3_verdict v = by_status(status, &result);

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (strcmp(f->code, codes[i].code) == 0) {
			v = codes[i].verdict;
			result = codes[i].result;
		}
	if (a->job->r->wrong_hash && result == -EIO)
		v = S3_FINAL; /* as it was meant */
	if (a->bucket_region[0] && strcmp(a->bucket_region, s->region) != 0)
		snprintf(region, sizeof(region), " (the bucket is in region %.60s)",
			 a->bucket_region);
	note(s, a->job, result, "%ld%s%s%s%s%s", status, f->code[0] ? " " : "", f->code,
	     f->message[0] ? ": " : "", f->message, region);
	return v;
}

/* The service does not believe the date. */
static enum s3_verdict judge_skew(struct s3 *s, struct s3_attempt *a)
{
	struct s3_job *j = a->job;
	bool own_date = (j->r->op == OBJECT_PUT || j->r->op == OBJECT_PUT_ONCE) && j->r->signed_at;

	if (own_date) {
		note(s, j, -ESTALE, "the reply that justified it is too old");
		return S3_FINAL;
	}
	if (a->date && !j->took_clock) {
		j->took_clock = true; /* take_clock has done it */
		return S3_AGAIN;
	}
	note(s, j, -EIO,
	     "the service refuses the date of the request: check the clock of this host");
	return S3_FINAL;
}

/* It has no multi-object delete, or wants it in another way. */
static bool wants_single_deletes(const struct s3_attempt *a, long status)
{
	return a->job->r->op == OBJECT_DELETE && !a->job->one_by_one &&
	       (status == 400 || status == 405 || status == 411 || status == 501);
}

static enum s3_verdict judge_failure(struct s3 *s, struct s3_attempt *a, long status)
{
	struct s3_job *j = a->job;
	struct s3_failure f = { 0 };

	if (s3_xml_failure((const char *)a->body.data, a->body.len, &f) < 0)
		f = (struct s3_failure){ 0 };
	if (strcmp(f.code, "RequestTimeTooSkewed") == 0)
		return judge_skew(s, a);
	if (status == 404 && strcmp(f.code, "NoSuchKey") == 0) {
		if (j->r->op == OBJECT_DELETE)
			return judge_deletion(s, a, status);
		note(s, j, -ENOENT, "no such key");
		return S3_FINAL;
	}
	if (status == 412 && j->r->op == OBJECT_PUT_ONCE) {
		note(s, j, -EEXIST, "the key exists");
		return S3_FINAL;
	}
	if (status == 416 && j->r->op == OBJECT_GET && s3_is_ranged(j->r)) {
		give_data(j, NULL, a->total < 0 ? 0 : (uint64_t)a->total);
		return S3_FINAL;
	}
	enum s3_verdict v = judge_code(s, a, status, &f);
	if (wants_single_deletes(a, status) && v == S3_FINAL) {
		s->no_multi_delete = true;
		return S3_AGAIN;
	}
	return v;
}

/* --- no reply, or half of one --- */

static enum s3_verdict judge_transport(struct s3 *s, struct s3_attempt *a, CURLcode rc)
{
	struct s3_job *j = a->job;

	if (a->no_memory || rc == CURLE_OUT_OF_MEMORY) {
		note(s, j, -ENOMEM, "out of memory");
		return S3_FINAL;
	}
	if (a->over_limit) {
		bool get = j->r->op == OBJECT_GET && !s3_is_ranged(j->r);
		note(s, j, get ? -EFBIG : -EBADMSG,
		     get ? "larger than %zu bytes" : "the reply is longer than %zu bytes",
		     a->limit);
		return get ? S3_FINAL : S3_RETRY;
	}
	note(s, j, -ETIMEDOUT, "%s", a->error[0] ? a->error : curl_easy_strerror(rc));
	switch (rc) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		j->r->result = j->last.code = -EIO;
		return S3_FINAL;
	default:
		return S3_RETRY;
	}
}

/* Dates from a cache are of another time. */
static void take_clock(struct s3 *s, const struct s3_attempt *a)
{
	if (!a->date || a->aged || a->via_proxy)
		return;
	int64_t ahead = a->date - a->date_came;
	s->clock_offset = ahead > SKEW_SECONDS || ahead < -SKEW_SECONDS ? ahead : 0;
}

enum s3_verdict s3_reply_judge(struct s3 *s, struct s3_attempt *a, CURLcode rc)
{
	struct s3_job *j = a->job;
	enum s3_verdict v;
	long status = 0;

	curl_easy_getinfo(a->easy, CURLINFO_RESPONSE_CODE, &status);
	take_clock(s, a);
	if (a->date)
		j->r->date = a->date;
	if (rc != CURLE_OK)
		v = judge_transport(s, a, rc);
	else if (status >= 200 && status < 300)
		v = judge_success(s, a, status);
	else
		v = judge_failure(s, a, status);
	/* What a cache cannot give, the service may. */
	if (a->via_proxy && !(v == S3_FINAL && j->r->result == 0)) {
		j->past_proxy = true;
		return S3_AGAIN;
	}
	return v;
}
