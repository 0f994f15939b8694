/* From a job to an HTTP request: URL, signed headers, and what libcurl calls. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/base/base64.h"
#include "store/base/clock.h"
#include "store/bucket/object_s3_send_internal.h"

#define CONNECT_MS 10000L
#define STALL_SECONDS 30L /* without a byte: given up and tried again */

static const char empty_sha256[] =
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/* --- callbacks --- */

static bool is_header(const char *line, size_t len, const char *name, const char **value)
{
	size_t n = strlen(name);

	if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
		return false;
	*value = line + n + 1;
	*value += strspn(*value, " \t");
	return true;
}

static void forget_reply(struct s3_attempt *a)
{
	buf_clear(&a->body);
	a->date = 0;
	a->total = a->first = a->last = -1;
	a->chunked = a->aged = a->over_limit = false;
	a->bucket_region[0] = '\0';
}

static void take_content_range(struct s3_attempt *a, const char *v)
{
	long long first = -1, last = -1, total = -1;

	if (sscanf(v, "bytes %lld-%lld/%lld", &first, &last, &total) >= 2 && first >= 0 &&
	    last >= first) {
		a->first = first;
		a->last = last;
		a->total = total > last ? total : -1;
	} else if (sscanf(v, "bytes */%lld", &total) == 1 && total >= 0) {
		a->total = total;
	}
}

static size_t on_header(char *data, size_t one, size_t len, void *arg)
{
	struct s3_attempt *a = arg;
	char line[512];
	const char *v;

	(void)one;
	snprintf(line, sizeof(line), "%.*s", (int)MIN(len, sizeof(line) - 1), data);
	line[strcspn(line, "\r\n")] = '\0';
	size_t n = strlen(line);
	if (strncmp(line, "HTTP/", 5) == 0) {
		forget_reply(a); /* what came before was a 100 */
	} else if (is_header(line, n, "date", &v)) {
		time_t t = curl_getdate(v, NULL);
		a->date = t > 0 ? t : 0;
		a->date_came = time(NULL);
	} else if (is_header(line, n, "age", &v)) {
		a->aged = true;
	} else if (is_header(line, n, "content-range", &v)) {
		take_content_range(a, v);
	} else if (is_header(line, n, "transfer-encoding", &v)) {
		a->chunked = true;
	} else if (is_header(line, n, "x-amz-bucket-region", &v)) {
		snprintf(a->bucket_region, sizeof(a->bucket_region), "%s", v);
	}
	return len;
}

/* Where a body's length is told, its memory is taken at once. */
static int make_room(struct s3_attempt *a, size_t limit)
{
	curl_off_t told = -1;

	curl_easy_getinfo(a->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &told);
	if (told > 0 && (size_t)told > limit)
		return -EFBIG;
	return told > 0 ? buf_reserve(&a->body, (size_t)told) : 0;
}

static size_t on_body(char *data, size_t one, size_t len, void *arg)
{
	struct s3_attempt *a = arg;
	long status = 0;

	(void)one;
	curl_easy_getinfo(a->easy, CURLINFO_RESPONSE_CODE, &status);
	bool good = status == 200 || status == 206;
	size_t limit = good ? a->limit : S3_FAILURE_MAX;
	/* A service may answer with the whole where a range was asked. */
	if (status == 200 && a->job->r->op == OBJECT_GET && s3_is_ranged(a->job->r))
		limit = OBJECT_SIZE_MAX;
	if (!good && a->body.len + len > limit)
		return len; /* enough is known */
	int rc = a->body.len == 0 && good ? make_room(a, limit) : 0;
	if (rc == 0 && len > limit - a->body.len)
		rc = -EFBIG;
	if (rc == 0)
		rc = buf_append(&a->body, data, len);
	a->over_limit = rc == -EFBIG;
	a->no_memory = rc < 0 && rc != -EFBIG;
	return rc < 0 ? 0 : len; /* 0 ends the transfer */
}

static size_t on_upload(char *data, size_t one, size_t n, void *arg)
{
	struct s3_attempt *a = arg;
	size_t len = MIN(one * n, a->send_len - a->sent);

	if (len)
		memcpy(data, a->send + a->sent, len);
	a->sent += len;
	return len;
}

/* A kept connection may turn out to be dead: from the start again. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct s3_attempt *a = arg;

	if (origin != SEEK_SET || offset < 0 || (size_t)offset > a->send_len)
		return CURL_SEEKFUNC_FAIL;
	a->sent = (size_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* --- what is asked --- */

struct plan {
	const char *method;
	struct buf path, query, checksum;
	const char *payload;
	char range[48];
};

static void plan_fini(struct plan *p)
{
	buf_fini(&p->path);
	buf_fini(&p->query);
	buf_fini(&p->checksum);
}

static int plan_key(const struct s3 *s, struct plan *p, const char *key)
{
	int rc = buf_printf(&p->path, "%s/", s->base_path);

	if (rc >= 0)
		rc = s3_encode(s->root, true, &p->path);
	if (rc >= 0)
		rc = s3_encode(key, true, &p->path);
	return rc;
}

static void plan_range(const struct object_request *r, struct plan *p)
{
	if (r->from_end && r->len)
		snprintf(p->range, sizeof(p->range), "-%zu", r->len);
	else if (r->len)
		snprintf(p->range, sizeof(p->range), "%llu-%llu", (unsigned long long)r->offset,
			 (unsigned long long)r->offset + r->len - 1);
	else if (r->offset && !r->from_end)
		snprintf(p->range, sizeof(p->range), "%llu-", (unsigned long long)r->offset);
}

static int add_query(struct plan *p, const char *name, const char *a, const char *b)
{
	int rc = buf_printf(&p->query, "%s%s=", p->query.len ? "&" : "", name);

	if (rc >= 0)
		rc = s3_encode(a, false, &p->query);
	return rc >= 0 ? s3_encode(b, false, &p->query) : rc;
}

/* After a common prefix come the keys after all that begin with it; '~' is after all our bytes. */
static const char *after_prefix(const char *after)
{
	size_t n = strlen(after);

	return n && after[n - 1] == '/' ? "~" : "";
}

/* Parameters by name ascending, as they are signed. */
static int plan_list(const struct s3 *s, const struct s3_job *j, struct plan *p)
{
	const struct object_request *r = j->r;
	CLEANUP(buf_fini_p) struct buf after = BUF_INIT;
	char max[16];
	int rc = buf_printf(&p->path, "%s/", s->base_path);

	snprintf(max, sizeof(max), "%u", r->max_keys ? r->max_keys : OBJECT_LIST_MAX);
	if (rc >= 0 && r->delimited)
		rc = add_query(p, "delimiter", "/", "");
	if (rc >= 0)
		rc = add_query(p, "encoding-type", "url", "");
	if (rc >= 0)
		rc = add_query(p, "list-type", "2", "");
	if (rc >= 0)
		rc = add_query(p, "max-keys", max, "");
	if (rc >= 0)
		rc = add_query(p, "prefix", s->root, r->key);
	if (rc >= 0 && j->after)
		rc = buf_append_str(&after, j->after);
	else if (rc >= 0 && r->after)
		rc = buf_printf(&after, "%s%s", s->root, r->after);
	if (rc >= 0 && after.len && buf_cstr(&after))
		rc = add_query(p, "start-after", (const char *)after.data,
			       r->delimited ? after_prefix((const char *)after.data) : "");
	return rc;
}

static int plan_delete(const struct s3 *s, struct s3_job *j, struct plan *p)
{
	const struct object_request *r = j->r;
	struct digest d;

	if (r->n_names == 1 || j->one_by_one || s->no_multi_delete) {
		j->one_by_one = true;
		p->method = "DELETE";
		return plan_key(s, p, r->names[j->n_deleted]);
	}
	p->method = "POST";
	buf_clear(&j->body);
	int rc = buf_printf(&p->path, "%s/", s->base_path);
	if (rc >= 0)
		rc = buf_append_str(&p->query, "delete=");
	if (rc >= 0)
		rc = s3_xml_delete(s->root, r->names, r->n_names, &j->body);
	if (rc >= 0)
		rc = hash_bytes(j->body.data, j->body.len, &d);
	if (rc < 0)
		return rc;
	digest_to_hex(&d, j->payload);
	p->payload = j->payload;
	return base64_encode(d.b, sizeof(d.b), &p->checksum);
}

static int plan_make(const struct s3 *s, struct s3_job *j, struct plan *p)
{
	const struct object_request *r = j->r;

	p->payload = empty_sha256;
	switch (r->op) {
	case OBJECT_PUT:
	case OBJECT_PUT_ONCE:
		p->method = "PUT";
		p->payload = r->wrong_hash ? empty_sha256 : j->payload;
		return plan_key(s, p, r->key);
	case OBJECT_LIST:
		p->method = "GET";
		return plan_list(s, j, p);
	case OBJECT_DELETE:
		return plan_delete(s, j, p);
	default:
		p->method = "GET";
		plan_range(r, p);
		return plan_key(s, p, r->key);
	}
}

/* --- headers --- */

static int add_header(struct s3_attempt *a, const char *name, const char *value)
{
	CLEANUP(buf_fini_p) struct buf line = BUF_INIT;

	if (buf_printf(&line, "%s: %s", name, value) < 0 || !buf_cstr(&line))
		return -ENOMEM;
	struct curl_slist *l = curl_slist_append(a->headers, (const char *)line.data);
	explicit_bzero(line.data, line.len); /* it may be a token */
	if (!l)
		return -ENOMEM;
	a->headers = l;
	return 0;
}

/* The time that the service has, as far as it is known. */
static int64_t service_time(const struct s3 *s)
{
	return time(NULL) + s->clock_offset;
}

static int sign(struct s3_attempt *a, const struct plan *p, const struct s3_keys *k)
{
	const struct s3 *s = a->s3;
	const struct object_request *r = a->job->r;
	CLEANUP(buf_fini_p) struct buf authorization = BUF_INIT;
	struct s3_header h[8];
	size_t n = 0;
	struct s3_signing sig = { .method = p->method,
				  .path = (const char *)p->path.data,
				  .query = p->query.len ? (const char *)p->query.data : "",
				  .payload_sha256 = p->payload,
				  .region = s->region,
				  .headers = h };
	bool writes = r->op == OBJECT_PUT || r->op == OBJECT_PUT_ONCE;

	a->signed_at = writes && r->signed_at ? r->signed_at : service_time(s);
	s3_date_format(a->signed_at, sig.date);
	h[n++] = (struct s3_header){ "host", s->host };
	if (r->op == OBJECT_PUT_ONCE)
		h[n++] = (struct s3_header){ "if-none-match", "*" };
	if (p->checksum.len)
		h[n++] = (struct s3_header){ "x-amz-checksum-sha256",
					     (const char *)p->checksum.data };
	h[n++] = (struct s3_header){ "x-amz-content-sha256", p->payload };
	h[n++] = (struct s3_header){ "x-amz-date", sig.date };
	if (p->checksum.len)
		h[n++] = (struct s3_header){ "x-amz-sdk-checksum-algorithm", "SHA256" };
	if (k->token)
		h[n++] = (struct s3_header){ "x-amz-security-token", k->token };
	sig.n_headers = n;
	int rc = s3_sign(&sig, k->access_key, k->secret, &authorization);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = add_header(a, h[i].name, h[i].value);
	if (rc == 0 && !buf_cstr(&authorization))
		rc = -ENOMEM;
	if (rc == 0)
		rc = add_header(a, "Authorization", (const char *)authorization.data);
	return rc;
}

/* --- the transfer --- */

static size_t reply_limit(const struct object_request *r)
{
	size_t max = r->max_len ? MIN(r->max_len, OBJECT_SIZE_MAX) : OBJECT_SIZE_MAX;

	if (r->op == OBJECT_LIST || r->op == OBJECT_DELETE)
		return S3_LIST_REPLY_MAX;
	if (r->op != OBJECT_GET)
		return S3_FAILURE_MAX;
	return r->len ? MIN(max, r->len) : max;
}

static void set_upload(struct s3_attempt *a)
{
	CURL *e = a->easy;
	const struct object_request *r = a->job->r;

	if (r->op == OBJECT_PUT || r->op == OBJECT_PUT_ONCE) {
		a->send = r->body;
		a->send_len = r->len;
	} else if (r->op == OBJECT_DELETE && !a->job->one_by_one) {
		a->send = a->job->body.data;
		a->send_len = a->job->body.len;
	} else {
		return;
	}
	curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)a->send_len);
	curl_easy_setopt(e, CURLOPT_READFUNCTION, on_upload);
	curl_easy_setopt(e, CURLOPT_READDATA, a);
	curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(e, CURLOPT_SEEKDATA, a);
	curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
}

static int set_url(struct s3_attempt *a, const struct plan *p)
{
	const struct s3 *s = a->s3;
	bool https = a->via_proxy ? s->proxy_https : s->https;
	int rc = buf_printf(&a->url, "%s://%s%s", https ? "https" : "http", s->host,
			    (const char *)p->path.data);

	if (rc >= 0 && p->query.len)
		rc = buf_printf(&a->url, "?%s", (const char *)p->query.data);
	if (rc < 0 || !buf_cstr(&a->url))
		return -ENOMEM;
	curl_easy_setopt(a->easy, CURLOPT_URL, (const char *)a->url.data);
	if (a->via_proxy)
		curl_easy_setopt(a->easy, CURLOPT_CONNECT_TO, s->proxy);
	return 0;
}

static void set_options(struct s3_attempt *a, const struct plan *p)
{
	CURL *e = a->easy;

	curl_easy_setopt(e, CURLOPT_PRIVATE, a);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, a->headers);
	curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, p->method);
	if (p->range[0])
		curl_easy_setopt(e, CURLOPT_RANGE, p->range);
	curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	/* Who gives up a request does not wait for the name of its host to be found. */
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, a->error);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, STALL_SECONDS);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, a->limit > 256u << 10 ? 256L << 10 : 32L << 10);
	curl_easy_setopt(e, CURLOPT_SHARE, a->s3->share);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, a);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, a);
	if (a->s3->ca_file)
		curl_easy_setopt(e, CURLOPT_CAINFO, a->s3->ca_file);
}

static int attempt_set_up(struct s3_attempt *a, struct plan *p, const struct s3_keys *k)
{
	int rc = plan_make(a->s3, a->job, p);

	if (rc < 0 || !buf_cstr(&p->path) || !buf_cstr(&p->query) || !buf_cstr(&p->checksum))
		return -ENOMEM;
	rc = sign(a, p, k);
	/* libcurl would wait for a "100 Continue", and send a type for what we upload. */
	if (rc == 0)
		rc = add_header(a, "Expect", "");
	if (rc == 0 && a->job->r->op == OBJECT_DELETE)
		rc = add_header(a, "Content-Type", "application/xml");
	if (rc == 0)
		rc = set_url(a, p);
	if (rc < 0)
		return rc;
	a->limit = reply_limit(a->job->r);
	set_upload(a);
	set_options(a, p);
	return 0;
}

int s3_attempt_new(struct s3 *s, struct s3_job *j, struct s3_attempt **out, struct error *err)
{
	CLEANUP(s3_keys_fini_p) struct s3_keys k = { 0 };
	struct plan p = { 0 };
	int rc = s3_cred_get(s->cred, &k, err);

	if (rc < 0)
		return rc;
	struct s3_attempt *a = calloc(1, sizeof(*a));
	if (!a)
		return error_set_errno(err, -ENOMEM, "request");
	a->s3 = s;
	a->job = j;
	a->keys = k.generation;
	a->via_proxy = s->proxy && j->r->op == OBJECT_GET && j->r->immutable && !j->past_proxy;
	a->started_us = monotonic_us();
	forget_reply(a);
	a->easy = curl_easy_init();
	rc = a->easy ? attempt_set_up(a, &p, &k) : -ENOMEM;
	plan_fini(&p);
	if (rc < 0) {
		s3_attempt_free(a);
		return error_set_errno(err, rc, "request");
	}
	*out = a;
	return 0;
}

void s3_attempt_free(struct s3_attempt *a)
{
	if (!a)
		return;
	curl_easy_cleanup(a->easy);
	curl_slist_free_all(a->headers);
	buf_fini(&a->url);
	buf_fini(&a->body);
	free(a);
}
