/* The sources of credentials that must be asked: a command, a container's endpoint, IMDSv2. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/bucket/command.h"
#include "store/bucket/s3_cred_internal.h"

#define HTTP_MS 2000u
#define METADATA_URL "http://169.254.169.254"
#define CONTAINER_URL "http://169.254.170.2"

/* --- a command --- */

int s3_cred_ask_process(const char *command, const _Atomic bool *stop, struct s3_keys *out,
			struct error *err)
{
	struct buf text = BUF_INIT;
	int rc = command_output(command, stop, S3_CRED_TEXT_MAX, &text, err);

	if (rc == 0)
		rc = s3_cred_parse_json((const char *)text.data, text.len, out, err);
	command_wipe(&text);
	return rc < 0 ? error_prefix(err, rc, "credential process") : 0;
}

/* --- HTTP --- */

/* The body of a 200 as a string in out. */
static int ask(s3_cred_http_fn http, const struct s3_cred_request *rq, struct buf *out,
	       struct error *err)
{
	long status = 0;
	int rc;

	buf_clear(out);
	rc = http(rq, &status, out, err);
	if (rc == 0 && status != 200)
		rc = error_set(err, -EACCES, "status %ld", status);
	if (rc == 0 && !buf_cstr(out))
		rc = error_set_errno(err, -ENOMEM, "reply");
	return rc < 0 ? error_prefix(err, rc, "%.200s", rq->url) : 0;
}

static int reply_keys(struct buf *text, const char *url, struct s3_keys *out, struct error *err)
{
	int rc = s3_cred_parse_json((const char *)text->data, text->len, out, err);

	explicit_bzero(text->data, text->len);
	return rc < 0 ? error_prefix(err, rc, "%.200s", url) : 0;
}

/* A value that goes into a header or a URL. */
static bool is_one_line(const char *s)
{
	for (; *s; s++)
		if (*s < ' ' || *s >= 0x7f)
			return false;
	return true;
}

/* Secrets come back in the clear: only from this host, or over TLS. */
static bool may_ask(const char *url)
{
	static const char *const hosts[] = { "http://127.0.0.1", "http://localhost", "http://[::1]",
					     CONTAINER_URL, "http://169.254.170.23" };

	if (strncmp(url, "https://", 8) == 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		size_t n = strlen(hosts[i]);
		if (strncmp(url, hosts[i], n) == 0 && strchr(":/", url[n]))
			return true;
	}
	return false;
}

static int read_token_file(const char *path, struct buf *out)
{
	FILE *f = fopen(path, "re");
	int rc = f ? buf_reserve(out, S3_TOKEN_MAX + 2) : -errno;

	if (rc == 0) {
		out->len = fread(out->data, 1, S3_TOKEN_MAX + 1, f);
		while (out->len && strchr("\r\n", out->data[out->len - 1]))
			out->len--;
		rc = out->len > S3_TOKEN_MAX ? -EFBIG : 0;
		out->data[out->len] = '\0';
	}
	if (f)
		(void)fclose(f);
	return rc;
}

/* "Authorization: ..." in out; empty if the container has none. */
static int container_token(struct buf *out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf read = BUF_INIT;
	const char *path = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");

	if (path) {
		int rc = read_token_file(path, &read);
		if (rc < 0)
			return error_set_errno(err, rc, "%.200s", path);
		token = (const char *)read.data;
	}
	if (!token || !*token)
		return 0;
	if (!is_one_line(token))
		return error_set(err, -EBADMSG, "the container's authorization token is none");
	return buf_printf(out, "Authorization: %s", token);
}

int s3_cred_ask_container(s3_cred_http_fn http, struct s3_keys *out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf url = BUF_INIT, header = BUF_INIT, text = BUF_INIT;
	const char *relative = getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	int rc = relative ? buf_printf(&url, CONTAINER_URL "%s", relative)
			  : buf_append_str(&url, full ? full : "");

	if (rc < 0 || !buf_cstr(&url))
		return error_set_errno(err, -ENOMEM, "URL");
	const char *u = (const char *)url.data;
	if (!may_ask(u) || !is_one_line(u))
		return error_set(
			err, -EINVAL,
			"AWS_CONTAINER_CREDENTIALS_FULL_URI must be https or on this host");
	rc = container_token(&header, err);
	if (rc < 0)
		return rc;
	struct s3_cred_request rq = { .method = "GET", .url = u, .timeout_ms = HTTP_MS };
	if (header.len) {
		rq.headers[0] = buf_cstr(&header);
		rq.n_headers = 1;
	}
	rc = ask(http, &rq, &text, err);
	return rc < 0 ? rc : reply_keys(&text, u, out, err);
}

/* The role's name, which is the last part of the URL of its credentials. */
static int metadata_url(const char *base, const char *role, struct buf *out)
{
	buf_clear(out);
	int rc = buf_printf(out, "%s/latest/meta-data/iam/security-credentials/%s", base, role);

	return rc < 0 || !buf_cstr(out) ? -ENOMEM : 0;
}

int s3_cred_ask_metadata(s3_cred_http_fn http, struct s3_keys *out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf url = BUF_INIT, token = BUF_INIT, text = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf header = BUF_INIT;
	const char *base = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");

	base = base && *base ? base : METADATA_URL;
	if (buf_printf(&url, "%s/latest/api/token", base) < 0 || !buf_cstr(&url))
		return error_set_errno(err, -ENOMEM, "URL");
	struct s3_cred_request rq = { .method = "PUT",
				      .url = (const char *)url.data,
				      .headers = { "X-aws-ec2-metadata-token-ttl-seconds: 21600" },
				      .n_headers = 1,
				      .timeout_ms = HTTP_MS };
	int rc = ask(http, &rq, &token, err);
	if (rc < 0)
		return rc;
	if (!is_one_line((const char *)token.data))
		return error_set(err, -EBADMSG, "%.200s: no token", rq.url);
	if (buf_printf(&header, "X-aws-ec2-metadata-token: %s", (const char *)token.data) < 0 ||
	    !buf_cstr(&header) || metadata_url(base, "", &url) < 0)
		return error_set_errno(err, -ENOMEM, "URL");
	rq = (struct s3_cred_request){ .method = "GET",
				       .url = (const char *)url.data,
				       .headers = { (const char *)header.data },
				       .n_headers = 1,
				       .timeout_ms = HTTP_MS };
	rc = ask(http, &rq, &text, err);
	if (rc < 0)
		return rc;
	char *role = (char *)text.data;
	role[strcspn(role, "\r\n")] = '\0';
	if (!*role || !is_one_line(role) || strchr(role, '/'))
		return error_set(err, -EBADMSG, "%.200s: the instance has no role", rq.url);
	if (metadata_url(base, role, &url) < 0)
		return error_set_errno(err, -ENOMEM, "URL");
	rq.url = (const char *)url.data;
	rc = ask(http, &rq, &text, err);
	return rc < 0 ? rc : reply_keys(&text, rq.url, out, err);
}
