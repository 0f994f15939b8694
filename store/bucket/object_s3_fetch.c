/* Small requests that a thread waits for: those to the sources of credentials. */
#include <errno.h>
#include <string.h>

#include "store/bucket/object_s3_job_internal.h"

#define REPLY_MAX (64u << 10)

static size_t take_body(char *data, size_t one, size_t len, void *arg)
{
	struct buf *out = arg;

	(void)one;
	if (out->len + len > REPLY_MAX || buf_append(out, data, len) < 0)
		return 0;
	return len;
}

static int set_headers(CURL *easy, const struct s3_cred_request *rq, struct curl_slist **out)
{
	for (size_t i = 0; i < rq->n_headers; i++) {
		struct curl_slist *l = curl_slist_append(*out, rq->headers[i]);
		if (!l)
			return -ENOMEM;
		*out = l;
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, *out);
	return 0;
}

int s3_fetch(const struct s3_cred_request *rq, long *out_status, struct buf *out, struct error *err)
{
	struct curl_slist *headers = NULL;
	CURL *easy = curl_easy_init();

	if (!easy || set_headers(easy, rq, &headers) < 0) {
		curl_slist_free_all(headers);
		curl_easy_cleanup(easy);
		return error_set_errno(err, -ENOMEM, "HTTP request");
	}
	curl_easy_setopt(easy, CURLOPT_URL, rq->url);
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, rq->method);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)rq->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, out);
	CURLcode rc = curl_easy_perform(easy);
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, out_status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(easy);
	return rc == CURLE_OK ? 0 : error_set(err, -EIO, "%s", curl_easy_strerror(rc));
}
