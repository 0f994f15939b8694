/*
 * Each rule below knows one way of saying it. Tools that name the URL first and
 * the reason on the next line (apt's "Err:", pip's "Looking in indexes:") leave
 * the host in r->from until a line that tells why.
 */
#include "tools/cli/reach.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 2048

/* The host (and port) that s begins with, after its scheme, into out. */
static bool host_of(const char *s, char *out, size_t size)
{
	const char *p = strstr(s, "://");

	if (p && strcspn(s, " '\"") > (size_t)(p - s))
		s = p + 3;
	const char *at = s + strcspn(s, "@/ ");
	if (*at == '@')
		s = at + 1;
	size_t n =
		strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_[]:");
	while (n > 0 && strchr(".:", s[n - 1]))
		n--;
	if (n == 0 || n >= size)
		return false;
	memcpy(out, s, n);
	out[n] = '\0';
	return true;
}

static void set_reason(struct reach *r, const char *reason)
{
	while (isspace((unsigned char)*reason))
		reason++;
	/* pip shows objects: X('<...>: REASON')) */
	const char *end = strstr(reason, "')");
	snprintf(r->reason, sizeof(r->reason), "%.*s",
		 end ? (int)(end - reason) : (int)strlen(reason), reason);
	for (size_t n = strlen(r->reason); n > 0 && strchr(" .)", r->reason[n - 1]); n--)
		r->reason[n - 1] = '\0';
}

static void found(struct reach *r, const char *host, const char *reason)
{
	if (!r->host[0] && host_of(host, r->host, sizeof(r->host)))
		set_reason(r, reason);
}

/* "E: Failed to fetch URL  REASON" */
static bool apt_failed(struct reach *r, const char *line)
{
	const char *p = strstr(line, "Failed to fetch ");

	if (!p)
		return false;
	const char *url = p + strlen("Failed to fetch "), *reason = strchr(url, ' ');
	found(r, url, reason ? reason : "");
	return true;
}

/* "Err:1 URL SUITE InRelease", and the reason on the next line, indented. */
static bool apt_error(struct reach *r, const char *line)
{
	if (strncmp(line, "Err:", 4) == 0) {
		const char *url = strchr(line, ' ');
		if (!url || !host_of(url + 1, r->from, sizeof(r->from)))
			r->from[0] = '\0';
		return true;
	}
	if (r->from[0] && line[0] == ' ' && !strstr(line, "NO_PUBKEY"))
		found(r, r->from, line);
	r->from[0] = '\0';
	return false;
}

/* "... NO_PUBKEY 871920D1991BC93C" */
static bool apt_key(struct reach *r, const char *line)
{
	const char *p = strstr(line, "NO_PUBKEY ");

	if (!p)
		return false;
	if (!r->key[0]) {
		size_t n = strspn(p + 10, "0123456789ABCDEF");
		snprintf(r->key, sizeof(r->key), "%.*s", (int)n, p + 10);
	}
	return true;
}

/* npm: "request to URL failed, reason: REASON" and "404 Not Found - GET URL - REASON" */
static bool npm_failed(struct reach *r, const char *line)
{
	const char *p = strstr(line, "request to "), *why = strstr(line, " failed, reason:");

	if (p && why && p < why) {
		found(r, p + strlen("request to "), why + strlen(" failed, reason:"));
		return true;
	}
	p = strstr(line, " - GET ");
	if (!p || (strncmp(line, "npm ERR!", 8) != 0 && strncmp(line, "npm error", 9) != 0))
		return false;
	const char *status = p;
	while (status > line && (isalnum((unsigned char)status[-1]) || status[-1] == ' '))
		status--;
	char text[128];
	snprintf(text, sizeof(text), "%.*s", (int)(p - status), status);
	const char *error = strstr(text, "error ");
	found(r, p + strlen(" - GET "), error ? error + 6 : text);
	return true;
}

/* pip: "...Pool(host='HOST', port=443): ... (Caused by X('<...>: REASON'))" */
static bool pip_failed(struct reach *r, const char *line)
{
	const char *p = strstr(line, "Pool(host='"), *why = strstr(line, "Failed to establish");

	if (p) {
		const char *cause = strstr(line, "Caused by ");
		found(r, p + strlen("Pool(host='"), why ? why : cause ? cause + 10 : "");
		return true;
	}
	p = strstr(line, "Looking in indexes: ");
	if (p) {
		if (!host_of(p + strlen("Looking in indexes: "), r->from, sizeof(r->from)))
			r->from[0] = '\0';
		return true;
	}
	p = strstr(line, "after connection broken by ");
	if (!p)
		return false;
	if (!r->host[0]) {
		snprintf(r->host, sizeof(r->host), "%s",
			 r->from[0] ? r->from : "the package index");
		set_reason(r, why ? why : p + strlen("after connection broken by "));
	}
	return true;
}

/* "PREFIX HOST": the host ends the phrase, which is the reason itself. */
static bool names_host(struct reach *r, const char *line)
{
	static const char *const phrases[] = {
		"Temporary failure resolving '",
		"Could not resolve host: ",
		"Could not resolve '",
		"unable to resolve host address '",
		"unable to resolve host address \xe2\x80\x98",
		"Could not connect to ",
		"Unable to connect to ",
		"Failed to connect to ",
		"Cannot initiate the connection to ",
		"getaddrinfo EAI_AGAIN ",
		"getaddrinfo ENOTFOUND ",
		"connect ECONNREFUSED ",
		"connect ETIMEDOUT ",
	};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++) {
		const char *p = strstr(line, phrases[i]);
		if (p) {
			found(r, p + strlen(phrases[i]), p);
			return true;
		}
	}
	return false;
}

void reach_line(struct reach *r, const char *line, size_t len)
{
	char text[LINE_MAX_BYTES];

	if (len >= sizeof(text))
		len = sizeof(text) - 1;
	memcpy(text, line, len);
	text[len] = '\0';
	if (apt_key(r, text) || apt_failed(r, text) || npm_failed(r, text) || pip_failed(r, text))
		return;
	if (!apt_error(r, text))
		names_host(r, text);
}

bool reach_found(const struct reach *r)
{
	return r->host[0] || r->key[0];
}

void reach_text(const struct reach *r, char *out, size_t size)
{
	if (r->host[0])
		snprintf(out, size, "could not reach %s%s%s", r->host, r->reason[0] ? ": " : "",
			 r->reason);
	else if (r->key[0])
		snprintf(out, size, "no keyring here has the key %s that signs it", r->key);
	else if (size > 0)
		out[0] = '\0';
}
