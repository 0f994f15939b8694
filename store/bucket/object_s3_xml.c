#include "store/bucket/object_s3_xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATH_MAX_BYTES 256
#define TEXT_MAX 4096 /* of an element; a key has 1024 bytes, three times that when encoded */

/*
 * Called at the end of each element, with its path from the root ("Error/Code") and the text
 * directly in it, NUL-terminated. cut: there was more text. Not 0 ends the parsing.
 */
typedef int (*element_fn)(void *arg, const char *path, const char *text, bool cut);

struct xml {
	const char *p, *end;
	char path[PATH_MAX_BYTES];
	size_t path_len;
	char text[TEXT_MAX + 1];
	size_t text_len;
	bool cut;
	bool whole; /* the root has ended */
	element_fn fn;
	void *arg;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_name(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '.' || c == ':';
}

static bool looking_at(const struct xml *x, const char *s)
{
	size_t n = strlen(s);

	return (size_t)(x->end - x->p) >= n && memcmp(x->p, s, n) == 0;
}

/* Go on after the next `s`. */
static int skip_past(struct xml *x, const char *s)
{
	const char *at = memmem(x->p, (size_t)(x->end - x->p), s, strlen(s));

	if (!at)
		return -EBADMSG;
	x->p = at + strlen(s);
	return 0;
}

static void add_text(struct xml *x, const char *s, size_t n)
{
	size_t room = TEXT_MAX - x->text_len;

	if (n > room)
		x->cut = true;
	n = MIN(n, room);
	memcpy(x->text + x->text_len, s, n);
	x->text_len += n;
}

static size_t utf8_encode(unsigned long c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* At '&'. */
static int take_entity(struct xml *x)
{
	static const struct {
		const char *name;
		char c;
	} named[] = { { "&lt;", '<' },
		      { "&gt;", '>' },
		      { "&amp;", '&' },
		      { "&quot;", '"' },
		      { "&apos;", '\'' } };
	char number[12], utf8[4], *end;

	for (size_t i = 0; i < ARRAY_SIZE(named); i++)
		if (looking_at(x, named[i].name)) {
			add_text(x, &named[i].c, 1);
			x->p += strlen(named[i].name);
			return 0;
		}
	const char *semi = memchr(x->p, ';', (size_t)MIN(x->end - x->p, (ptrdiff_t)sizeof(number)));
	if (!looking_at(x, "&#") || !semi)
		return -EBADMSG;
	snprintf(number, sizeof(number), "%.*s", (int)(semi - x->p - 2), x->p + 2);
	bool hex = number[0] == 'x';
	char first = number[hex];
	if (!((first >= '0' && first <= '9') || (hex && strchr("abcdefABCDEF", first) && first)))
		return -EBADMSG;
	unsigned long c = strtoul(number + hex, &end, hex ? 16 : 10);
	if (*end || c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return -EBADMSG;
	add_text(x, utf8, utf8_encode(c, utf8));
	x->p = semi + 1;
	return 0;
}

/* Text up to the next '<'. */
static int take_text(struct xml *x)
{
	while (x->p < x->end && *x->p != '<') {
		if (*x->p == '&') {
			int rc = take_entity(x);
			if (rc < 0)
				return rc;
			continue;
		}
		if (*x->p == '\0')
			return -EBADMSG;
		const char *from = x->p;
		while (x->p < x->end && *x->p && *x->p != '<' && *x->p != '&')
			x->p++;
		add_text(x, from, (size_t)(x->p - from));
	}
	return 0;
}

/* The name at p, without its namespace. */
static int take_name(struct xml *x, const char **out, size_t *out_len)
{
	const char *from = x->p;

	while (x->p < x->end && is_name(*x->p))
		x->p++;
	const char *colon = memrchr(from, ':', (size_t)(x->p - from));
	if (colon)
		from = colon + 1;
	*out = from;
	*out_len = (size_t)(x->p - from);
	return *out_len ? 0 : -EBADMSG;
}

static int end_element(struct xml *x)
{
	x->text[x->text_len] = '\0';
	int rc = x->fn(x->arg, x->path, x->text, x->cut);
	char *slash = strrchr(x->path, '/');

	x->path_len = slash ? (size_t)(slash - x->path) : 0;
	x->path[x->path_len] = '\0';
	x->whole = x->path_len == 0;
	x->text_len = 0;
	x->cut = false;
	return rc;
}

/* After "</". */
static int take_end_tag(struct xml *x)
{
	const char *slash = strrchr(x->path, '/'), *open = slash ? slash + 1 : x->path, *name;
	size_t len;
	int rc = take_name(x, &name, &len);

	if (rc < 0)
		return rc;
	if (strlen(open) != len || memcmp(open, name, len) != 0)
		return -EBADMSG;
	while (x->p < x->end && is_space(*x->p))
		x->p++;
	if (x->p == x->end || *x->p++ != '>')
		return -EBADMSG;
	return end_element(x);
}

/* After the name of a start tag: attributes, to its '>' or '/'. */
static int skip_attributes(struct xml *x)
{
	while (x->p < x->end && *x->p != '>' && *x->p != '/') {
		char c = *x->p++;

		if (c == '<')
			return -EBADMSG;
		if (c == '"' || c == '\'') {
			const char *close = memchr(x->p, c, (size_t)(x->end - x->p));
			if (!close)
				return -EBADMSG;
			x->p = close + 1;
		}
	}
	return x->p < x->end ? 0 : -EBADMSG;
}

/* After '<'. */
static int take_start_tag(struct xml *x)
{
	const char *name;
	size_t len;
	int rc = take_name(x, &name, &len);

	if (rc < 0)
		return rc;
	if (x->path_len + len + 2 > sizeof(x->path))
		return -EBADMSG;
	x->path_len += (size_t)sprintf(x->path + x->path_len, "%s%.*s", x->path_len ? "/" : "",
				       (int)len, name);
	x->text_len = 0; /* what stood before it is no one's */
	x->cut = false;
	rc = skip_attributes(x);
	if (rc < 0)
		return rc;
	if (*x->p++ == '>')
		return 0;
	if (x->p == x->end || *x->p++ != '>')
		return -EBADMSG;
	return end_element(x);
}

static int take_cdata(struct xml *x)
{
	const char *from = x->p + strlen("<![CDATA[");

	x->p = from;
	int rc = skip_past(x, "]]>");
	if (rc == 0)
		add_text(x, from, (size_t)(x->p - 3 - from));
	return rc;
}

/* At '<'. */
static int take_markup(struct xml *x)
{
	if (looking_at(x, "<?"))
		return skip_past(x, "?>");
	if (looking_at(x, "<!--"))
		return skip_past(x, "-->");
	if (looking_at(x, "<![CDATA["))
		return x->path_len ? take_cdata(x) : -EBADMSG;
	if (looking_at(x, "</")) {
		x->p += 2;
		return x->path_len ? take_end_tag(x) : -EBADMSG;
	}
	x->p++;
	return take_start_tag(x); /* "<!" is no name: refused */
}

/* 0 after one whole element; else what fn returned, or -EBADMSG. */
static int parse(const char *text, size_t len, element_fn fn, void *arg)
{
	struct xml x = { .p = text, .end = text + len, .fn = fn, .arg = arg };

	while (x.p < x.end && !x.whole) {
		int rc = *x.p == '<' ? take_markup(&x) : take_text(&x);
		if (rc != 0)
			return rc;
	}
	return x.whole ? 0 : -EBADMSG;
}

/* --- failures --- */

static void copy_printable(char *out, size_t size, const char *text)
{
	size_t i = 0;

	for (; text[i] && i + 1 < size; i++)
		out[i] = text[i] >= ' ' && text[i] < 0x7f ? text[i] : '?';
	out[i] = '\0';
}

static int failure_element(void *arg, const char *path, const char *text, bool cut)
{
	struct s3_failure *f = arg;

	(void)cut;
	/* Some services put it into an ErrorResponse. */
	if (strncmp(path, "ErrorResponse/", 14) == 0)
		path += 14;
	if (strcmp(path, "Error/Code") == 0)
		copy_printable(f->code, sizeof(f->code), text);
	else if (strcmp(path, "Error/Message") == 0)
		copy_printable(f->message, sizeof(f->message), text);
	return 0;
}

int s3_xml_failure(const char *text, size_t len, struct s3_failure *out)
{
	struct s3_failure f = { 0 };
	int rc = parse(text, len, failure_element, &f);

	if (rc < 0)
		return rc;
	if (!f.code[0])
		return -EBADMSG;
	*out = f;
	return 0;
}

/* --- deletions --- */

int s3_xml_delete(const char *root, const char *const *names, size_t n, struct buf *out)
{
	int rc = buf_append_str(out, "<Delete><Quiet>true</Quiet>");

	/* Neither has a character that XML would read as something else. */
	for (size_t i = 0; i < n && rc >= 0; i++)
		rc = buf_printf(out, "<Object><Key>%s%s</Key></Object>", root, names[i]);
	if (rc >= 0)
		rc = buf_append_str(out, "</Delete>");
	return rc < 0 ? rc : 0;
}

struct deleted {
	size_t failed;
	struct s3_failure one, next;
	bool is_reply;
};

static int deleted_element(void *arg, const char *path, const char *text, bool cut)
{
	struct deleted *d = arg;

	(void)cut;
	if (strcmp(path, "DeleteResult/Error/Code") == 0) {
		copy_printable(d->next.code, sizeof(d->next.code), text);
	} else if (strcmp(path, "DeleteResult/Error/Message") == 0) {
		copy_printable(d->next.message, sizeof(d->next.message), text);
	} else if (strcmp(path, "DeleteResult/Error") == 0) {
		if (strcmp(d->next.code, "NoSuchKey") != 0 && d->failed++ == 0)
			d->one = d->next;
		d->next = (struct s3_failure){ 0 };
	} else if (strcmp(path, "DeleteResult") == 0) {
		d->is_reply = true;
	}
	return 0;
}

int s3_xml_deleted(const char *text, size_t len, size_t *out_failed, struct s3_failure *out)
{
	struct deleted d = { 0 };
	int rc = parse(text, len, deleted_element, &d);

	if (rc < 0)
		return rc;
	if (!d.is_reply)
		return -EBADMSG;
	*out_failed = d.failed;
	*out = d.one;
	return 0;
}

/* --- listings --- */

void s3_listing_fini(struct s3_listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->entries[i].key);
	free(l->entries);
	free(l->last);
	*l = (struct s3_listing){ 0 };
}

struct listing {
	const struct s3_list_query *q;
	struct s3_listing *out;
	char *key; /* of the element under way, as the bucket has it; owned */
	uint64_t size;
	int64_t modified;
	unsigned seen;
	bool is_reply, said_truncated;
};

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undo encoding-type=url. '+' is a space in it. */
static int decode_key(const char *text, char **out)
{
	char *s = malloc(strlen(text) + 1), *to = s;

	if (!s)
		return -ENOMEM;
	for (; *text; text++) {
		int high = -1, low = -1;

		if (*text == '%' && (high = hex_value(text[1])) >= 0)
			low = hex_value(text[2]);
		if (*text == '%' && (low < 0 || high * 16 + low == 0)) {
			free(s);
			return -EBADMSG;
		}
		if (*text == '%') {
			*to++ = (char)(high * 16 + low);
			text += 2;
		} else {
			*to++ = *text == '+' ? ' ' : *text;
		}
	}
	*to = '\0';
	free(*out);
	*out = s;
	return 0;
}

/* "2009-10-12T17:50:30.000Z" */
static int parse_time(const char *text, int64_t *out)
{
	struct tm tm = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!rest)
		return -EBADMSG;
	if (*rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (strcmp(rest, "Z") != 0 && strcmp(rest, "+00:00") != 0)
		return -EBADMSG;
	*out = timegm(&tm);
	return 0;
}

static int parse_size(const char *text, uint64_t *out)
{
	char *end;

	if (text[0] < '0' || text[0] > '9' || strlen(text) > 18)
		return -EBADMSG;
	*out = strtoull(text, &end, 10);
	return *end ? -EBADMSG : 0;
}

static int note_last(struct listing *l)
{
	if (l->out->last && strcmp(l->out->last, l->key) >= 0)
		return 0;
	char *copy = strdup(l->key);
	if (!copy)
		return -ENOMEM;
	free(l->out->last);
	l->out->last = copy;
	return 0;
}

/* Whether it is a key (or a common prefix) that this project may have made. */
static bool is_ours(const char *key, bool is_prefix)
{
	char part[OBJECT_KEY_MAX + 1];
	size_t len = strlen(key);

	if (!is_prefix)
		return object_key_check(key) == 0;
	if (len < 2 || len > OBJECT_KEY_MAX || key[len - 1] != '/')
		return false;
	memcpy(part, key, len - 1);
	part[len - 1] = '\0';
	return object_key_check(part) == 0;
}

static int add_entry(struct listing *l, bool is_prefix)
{
	size_t root = strlen(l->q->root);
	struct s3_listing *out = l->out;

	if (!l->key || ++l->seen > l->q->max_keys)
		return -EBADMSG;
	if (strncmp(l->key, l->q->root, root) != 0 ||
	    strncmp(l->key + root, l->q->prefix, strlen(l->q->prefix)) != 0)
		return -EBADMSG;
	int rc = note_last(l);
	if (rc < 0)
		return rc;
	const char *key = l->key + root;
	/* Services differ in whether a common prefix comes after itself. */
	if (is_ours(key, is_prefix) && !(l->q->after && strcmp(key, l->q->after) <= 0)) {
		char *copy = strdup(key);
		if (!copy)
			return -ENOMEM;
		out->entries[out->n++] =
			(struct object_entry){ .key = copy,
					       .size = is_prefix ? 0 : l->size,
					       .modified = is_prefix ? 0 : l->modified,
					       .is_prefix = is_prefix };
	}
	free(STEAL(l->key));
	l->size = 0;
	l->modified = 0;
	return 0;
}

static int listing_element(void *arg, const char *path, const char *text, bool cut)
{
	static const char root[] = "ListBucketResult";
	struct listing *l = arg;

	if (strncmp(path, root, sizeof(root) - 1) != 0)
		return 0;
	path += sizeof(root) - 1;
	if (strcmp(path, "/Contents/Key") == 0 || strcmp(path, "/CommonPrefixes/Prefix") == 0)
		return cut ? -EBADMSG : decode_key(text, &l->key);
	if (strcmp(path, "/Contents/Size") == 0)
		return parse_size(text, &l->size);
	if (strcmp(path, "/Contents/LastModified") == 0)
		return parse_time(text, &l->modified);
	if (strcmp(path, "/Contents") == 0)
		return add_entry(l, false);
	if (strcmp(path, "/CommonPrefixes") == 0)
		return add_entry(l, true);
	if (strcmp(path, "/IsTruncated") == 0) {
		l->out->truncated = strcmp(text, "true") == 0;
		l->said_truncated = l->out->truncated || strcmp(text, "false") == 0;
	} else if (!*path) {
		l->is_reply = true;
	}
	return 0;
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct object_entry *)a)->key, ((const struct object_entry *)b)->key);
}

int s3_xml_listing(const char *text, size_t len, const struct s3_list_query *q,
		   struct s3_listing *out)
{
	struct listing l = { .q = q, .out = out };

	*out = (struct s3_listing){ 0 };
	out->entries = calloc(q->max_keys + 1, sizeof(*out->entries));
	if (!out->entries)
		return -ENOMEM;
	int rc = parse(text, len, listing_element, &l);
	free(l.key);
	if (rc == 0 && !(l.is_reply && l.said_truncated && (!out->truncated || out->last)))
		rc = -EBADMSG;
	if (rc == 0)
		qsort(out->entries, out->n, sizeof(*out->entries), by_key);
	for (size_t i = 1; i < out->n && rc == 0; i++)
		if (strcmp(out->entries[i - 1].key, out->entries[i].key) == 0)
			rc = -EBADMSG;
	if (rc < 0)
		s3_listing_fini(out);
	return rc;
}
