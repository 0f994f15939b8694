/* Where the bucket is: endpoint, host and paths, from the options. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/bucket/object_s3_job_internal.h"

static bool all_of(const char *s, size_t n, const char *extra)
{
	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      (strchr(extra, c) && c)))
			return false;
	}
	return n > 0;
}

/* "http[s]://HOST[:PORT]", maybe with a last '/'. The host points into url. */
static int parse_endpoint(const char *url, bool *https, const char **host, size_t *len)
{
	if (strncmp(url, "https://", 8) == 0)
		*https = true;
	else if (strncmp(url, "http://", 7) == 0)
		*https = false;
	else
		return -EINVAL;
	*host = url + (*https ? 8 : 7);
	*len = strcspn(*host, "/");
	if ((*host)[*len] && strcmp(*host + *len, "/") != 0)
		return -EINVAL;
	if (*len > 255 || !all_of(*host, *len, ".-:[]"))
		return -EINVAL;
	return 0;
}

/* As HTTP clients send it: without the scheme's own port. */
static size_t without_default_port(const char *host, size_t len, bool https)
{
	const char *port = https ? ":443" : ":80";
	size_t n = strlen(port);

	return len > n && memcmp(host + len - n, port, n) == 0 ? len - n : len;
}

static int set_host(struct s3 *s, const struct object_s3_options *o, struct error *err)
{
	char usual[300];
	const char *host;
	size_t len;

	snprintf(usual, sizeof(usual), "https://s3.%.200s.amazonaws.com%s", s->region,
		 strncmp(s->region, "cn-", 3) == 0 ? ".cn" : "");
	if (parse_endpoint(o->endpoint ? o->endpoint : usual, &s->https, &host, &len) < 0)
		return error_set(err, -EINVAL, "endpoint \"%.200s\" is not http[s]://HOST[:PORT]",
				 o->endpoint ? o->endpoint : usual);
	len = without_default_port(host, len, s->https);
	if (!s->path_style && (host[0] == '[' || strchr(s->bucket, '_')))
		return error_set(err, -EINVAL,
				 "such an endpoint or bucket needs path-style addresses");
	int n = asprintf(&s->host, "%s%s%.*s", s->path_style ? "" : s->bucket,
			 s->path_style ? "" : ".", (int)len, host);
	if (n < 0)
		s->host = NULL;
	n = n < 0 ? n
		  : asprintf(&s->base_path, "%s%s", s->path_style ? "/" : "",
			     s->path_style ? s->bucket : "");
	if (n < 0) {
		s->base_path = NULL;
		return error_set_errno(err, -ENOMEM, "endpoint");
	}
	return 0;
}

/* The cache gets the requests for any host and port. */
static int set_proxy(struct s3 *s, const char *proxy, struct error *err)
{
	char to[300];
	const char *host;
	size_t len;

	if (parse_endpoint(proxy, &s->proxy_https, &host, &len) < 0)
		return error_set(err, -EINVAL, "proxy \"%.200s\" is not http[s]://HOST[:PORT]",
				 proxy);
	/* A ':' that is not of an IPv6 address begins a port. */
	const char *colon = memrchr(host, ':', len), *bracket = memrchr(host, ']', len);
	bool has_port = colon && (!bracket || colon > bracket);
	snprintf(to, sizeof(to), "::%.*s%s", (int)len, host,
		 has_port	  ? ""
		 : s->proxy_https ? ":443"
				  : ":80");
	s->proxy = curl_slist_append(NULL, to);
	return s->proxy ? 0 : error_set_errno(err, -ENOMEM, "proxy");
}

static int check_names(const struct object_s3_options *o, const char *prefix, const char *region,
		       struct error *err)
{
	size_t n = strlen(prefix);

	if (!o->bucket || strlen(o->bucket) > 63 || !all_of(o->bucket, strlen(o->bucket), "._-"))
		return error_set(err, -EINVAL, "bucket \"%.100s\" is no name of a bucket",
				 o->bucket ? o->bucket : "");
	if (n > 256 || (n && !all_of(prefix, n, "._-/")) || strstr(prefix, "//") ||
	    (n && (prefix[0] == '/' || prefix[n - 1] == '/')))
		return error_set(
			err, -EINVAL,
			"prefix \"%.100s\": letters, digits, '.', '_', '-' and single '/' inside",
			prefix);
	if (strlen(region) > 64 || !all_of(region, strlen(region), "-_"))
		return error_set(err, -EINVAL, "region \"%.100s\" is none", region);
	return 0;
}

int s3_address_set(struct s3 *s, const struct object_s3_options *o, struct error *err)
{
	const char *prefix = o->prefix ? o->prefix : "";
	const char *region = o->region ? o->region : getenv("AWS_REGION");
	int rc;

	if (!region || !*region)
		region = "us-east-1";
	rc = check_names(o, prefix, region, err);
	if (rc < 0)
		return rc;
	s->path_style = o->path_style;
	s->bucket = strdup(o->bucket);
	s->region = strdup(region);
	s->ca_file = o->ca_file ? strdup(o->ca_file) : NULL;
	if (asprintf(&s->root, "%s%s", prefix, *prefix ? "/" : "") < 0)
		s->root = NULL;
	if (!s->bucket || !s->region || !s->root || (o->ca_file && !s->ca_file))
		return error_set_errno(err, -ENOMEM, "remote");
	rc = set_host(s, o, err);
	return rc < 0 || !o->proxy ? rc : set_proxy(s, o->proxy, err);
}
