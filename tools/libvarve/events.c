#include "tools/libvarve/events.h"

#include <errno.h>
#include <string.h>

void event_parser_init(struct event_parser *p, event_fn fn, void *arg)
{
	*p = (struct event_parser){ .fn = fn, .arg = arg };
}

void event_parser_fini(struct event_parser *p)
{
	buf_fini(&p->line);
	buf_fini(&p->type);
	buf_fini(&p->data);
}

/* An empty line: what has been collected is an event, unless it had no data. */
static int dispatch(struct event_parser *p)
{
	int r = 0;

	if (p->has_data) {
		const char *type = p->type.len ? buf_cstr(&p->type) : "message";
		const char *data = buf_cstr(&p->data);
		if (!type || !data)
			return -ENOMEM;
		r = p->fn(p->arg, type, data, p->data.len);
	}
	buf_clear(&p->type);
	buf_clear(&p->data);
	p->has_data = false;
	return r;
}

static int add_field(struct event_parser *p, const char *name, size_t name_len, const char *value,
		     size_t len)
{
	int r = 0;

	if (name_len == 5 && memcmp(name, "event", 5) == 0) {
		buf_clear(&p->type);
		return buf_append(&p->type, value, len);
	}
	if (name_len != 4 || memcmp(name, "data", 4) != 0)
		return 0; /* "id" and "retry" mean nothing here; others are to be ignored */
	if (p->data.len + len >= EVENT_MAX_BYTES)
		return -EMSGSIZE;
	if (p->has_data)
		r = buf_append(&p->data, "\n", 1);
	p->has_data = true;
	return r < 0 ? r : buf_append(&p->data, value, len);
}

static int end_line(struct event_parser *p)
{
	const char *s = p->line.len ? (const char *)p->line.data : "";
	size_t len = p->line.len;

	if (!p->started) {
		p->started = true;
		if (len >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0) {
			s += 3;
			len -= 3;
		}
	}
	if (len == 0)
		return dispatch(p);
	const char *colon = memchr(s, ':', len);
	if (!colon)
		return add_field(p, s, len, "", 0);
	if (colon == s)
		return 0; /* a comment */
	const char *value = colon + 1, *end = s + len;
	if (value < end && *value == ' ')
		value++;
	return add_field(p, s, (size_t)(colon - s), value, (size_t)(end - value));
}

int event_parser_feed(struct event_parser *p, const void *bytes, size_t len)
{
	const char *s = bytes, *end = s + len;

	while (s < end) {
		if (p->after_cr && *s == '\n')
			s++;
		p->after_cr = false;
		size_t n = 0;
		while (s + n < end && s[n] != '\n' && s[n] != '\r')
			n++;
		if (p->line.len + n >= EVENT_MAX_BYTES)
			return -EMSGSIZE;
		int r = buf_append(&p->line, s, n);
		if (r < 0)
			return r;
		s += n;
		if (s == end)
			break;
		p->after_cr = *s++ == '\r';
		r = end_line(p);
		buf_clear(&p->line);
		if (r < 0)
			return r;
	}
	return 0;
}
