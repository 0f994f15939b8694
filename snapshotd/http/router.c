#include "snapshotd/http/router.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void route_match_fini(struct route_match *m)
{
	for (size_t i = 0; i < ROUTE_CAPTURES_MAX; i++) {
		free(m->captures[i]);
		m->captures[i] = NULL;
	}
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int url_decode(const char *s, size_t len, bool plus_is_space, char **out)
{
	char *d = malloc(len + 1);
	size_t n = 0;

	if (!d)
		return -ENOMEM;
	for (size_t i = 0; i < len; i++) {
		int hi, lo;

		if (s[i] != '%') {
			d[n++] = plus_is_space && s[i] == '+' ? ' ' : s[i];
			continue;
		}
		hi = len - i > 2 ? hex_value(s[i + 1]) : -1;
		lo = len - i > 2 ? hex_value(s[i + 2]) : -1;
		if (hi < 0 || lo < 0 || hi + lo == 0) {
			free(d);
			return -EINVAL;
		}
		d[n++] = (char)(hi << 4 | lo);
		i += 2;
	}
	d[n] = '\0';
	*out = d;
	return 0;
}

/* One segment of a pattern or path: up to the next '/' or the end. */
struct segment {
	const char *s;
	size_t len;
};

static const char *segment_next(const char *p, struct segment *out)
{
	out->s = p;
	out->len = strcspn(p, "/");
	return p + out->len;
}

/* Whether path fits pattern; the captures' raw segments go to caps. */
static bool pattern_fits(const char *pattern, const char *path,
			 struct segment caps[ROUTE_CAPTURES_MAX], size_t *n_caps)
{
	*n_caps = 0;
	while (*pattern == '/' && *path == '/') {
		struct segment want, have;

		pattern = segment_next(pattern + 1, &want);
		path = segment_next(path + 1, &have);
		if (want.len > 0 && want.s[0] == ':') {
			if (have.len == 0 || *n_caps == ROUTE_CAPTURES_MAX)
				return false;
			caps[(*n_caps)++] = have;
		} else if (want.len != have.len || memcmp(want.s, have.s, want.len) != 0) {
			return false;
		}
	}
	return *pattern == '\0' && *path == '\0';
}

static bool method_fits(const struct route *r, const char *method)
{
	if (strcmp(r->method, method) == 0)
		return true;
	return strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0 &&
	       !(r->flags & ROUTE_LONG);
}

static void allow_add(struct route_match *m, const char *method)
{
	size_t used = strlen(m->allow), left = sizeof(m->allow) - used;
	const char *sep = used ? ", " : "";

	if (strstr(m->allow, method) || strlen(sep) + strlen(method) >= left)
		return;
	strcat(m->allow, sep);
	strcat(m->allow, method);
}

static int match_captures(struct route_match *m, const struct segment *caps, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = url_decode(caps[i].s, caps[i].len, false, &m->captures[i]);

		if (rc < 0) {
			route_match_fini(m);
			return rc;
		}
	}
	return 0;
}

int router_find(const struct route *table, size_t n, const char *method, const char *path,
		struct route_match *out)
{
	struct route_match m = { 0 };

	for (size_t i = 0; i < n; i++) {
		struct segment caps[ROUTE_CAPTURES_MAX];
		size_t n_caps;
		int rc;

		if (!pattern_fits(table[i].pattern, path, caps, &n_caps))
			continue;
		if (!method_fits(&table[i], method)) {
			allow_add(&m, table[i].method);
			continue;
		}
		rc = match_captures(&m, caps, n_caps);
		if (rc < 0)
			return rc;
		m.route = &table[i];
		*out = m;
		return 0;
	}
	*out = m;
	return m.allow[0] ? -EOPNOTSUPP : -ENOENT;
}

static int query_add(struct query *q, const char *item, size_t len, struct error *err)
{
	const char *eq = memchr(item, '=', len);
	size_t name_len = eq ? (size_t)(eq - item) : len;
	struct query_param p = { 0 };
	int rc;

	if (q->n == QUERY_PARAMS_MAX)
		return error_set(err, -EINVAL, "more than %d query parameters", QUERY_PARAMS_MAX);
	rc = url_decode(item, name_len, true, &p.name);
	if (rc == 0)
		rc = eq ? url_decode(eq + 1, len - name_len - 1, true, &p.value)
			: url_decode("", 0, true, &p.value);
	if (rc == 0 && query_get(q, p.name))
		rc = error_set(err, -EINVAL, "query parameter \"%s\" is given twice", p.name);
	else if (rc < 0)
		error_set(err, rc, "query: bad %%-escape in \"%.*s\"", (int)MIN(len, 100u), item);
	if (rc < 0) {
		free(p.name);
		free(p.value);
		return rc;
	}
	q->params[q->n++] = p;
	return 0;
}

int query_parse(const char *s, struct query *out, struct error *err)
{
	struct query q = { 0 };

	while (*s) {
		size_t len = strcspn(s, "&");

		if (len > 0) {
			int rc = query_add(&q, s, len, err);

			if (rc < 0) {
				query_fini(&q);
				return rc;
			}
		}
		s += len;
		s += *s == '&';
	}
	*out = q;
	return 0;
}

void query_fini(struct query *q)
{
	for (size_t i = 0; i < q->n; i++) {
		free(q->params[i].name);
		free(q->params[i].value);
	}
	q->n = 0;
}

const char *query_get(const struct query *q, const char *name)
{
	for (size_t i = 0; i < q->n; i++)
		if (strcmp(q->params[i].name, name) == 0)
			return q->params[i].value;
	return NULL;
}

int query_check(const struct query *q, const char *const *known, struct error *err)
{
	for (size_t i = 0; i < q->n; i++) {
		const char *const *k = known;

		while (*k && strcmp(*k, q->params[i].name) != 0)
			k++;
		if (!*k)
			return error_set(err, -EINVAL, "unknown query parameter \"%s\"",
					 q->params[i].name);
	}
	return 0;
}

int query_bool(const struct query *q, const char *name, bool *out, struct error *err)
{
	const char *v = query_get(q, name);

	if (!v)
		return 0;
	if (!*v || strcmp(v, "1") == 0 || strcmp(v, "true") == 0)
		*out = true;
	else if (strcmp(v, "0") == 0 || strcmp(v, "false") == 0)
		*out = false;
	else
		return error_set(err, -EINVAL, "query parameter \"%s\": \"%s\" is not 0 or 1", name,
				 v);
	return 0;
}

int query_u64(const struct query *q, const char *name, uint64_t *out, struct error *err)
{
	const char *v = query_get(q, name);
	uint64_t n;

	if (!v)
		return 0;
	errno = 0;
	n = strtoull(v, NULL, 10);
	if (!*v || v[strspn(v, "0123456789")] != '\0' || errno == ERANGE)
		return error_set(err, -EINVAL, "query parameter \"%s\": \"%s\" is not a number",
				 name, v);
	*out = n;
	return 0;
}
