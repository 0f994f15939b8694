#include "tools/cli/http_answer.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/libvarve/retry.h"

void http_answer_init(struct http_answer *a, int (*on_data)(void *, const void *, size_t),
		      void *arg)
{
	*a = (struct http_answer){ .on_data = on_data, .arg = arg };
}

void http_answer_fini(struct http_answer *a)
{
	buf_fini(&a->line);
}

/* All of s is a number of that base, without a sign. */
static int parse_size(const char *s, int base, uint64_t *out)
{
	char *end;

	if (!isxdigit((unsigned char)*s))
		return -EPROTO;
	errno = 0;
	unsigned long long n = strtoull(s, &end, base);
	if (errno || *end)
		return -EPROTO;
	*out = n;
	return 0;
}

static int status_line(struct http_answer *a, const char *line)
{
	if (strncmp(line, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)line[7]) ||
	    line[8] != ' ' || line[9] < '1' || line[9] > '9' || !isdigit((unsigned char)line[10]) ||
	    !isdigit((unsigned char)line[11]) || (line[12] && line[12] != ' '))
		return -EPROTO;
	a->code = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
	a->chunked = a->has_length = false;
	a->left = 0;
	a->type[0] = '\0';
	a->retry_after_s = UINT64_MAX;
	a->keys = a->pending = false;
	a->state = ANSWER_HEADER;
	return 0;
}

static int header(struct http_answer *a, char *line)
{
	char *value = strchr(line, ':');
	int r = 0;

	if (!value || value == line)
		return -EPROTO;
	*value++ = '\0';
	value += strspn(value, " \t");
	for (size_t n = strlen(value); n > 0 && strchr(" \t", value[n - 1]); n--)
		value[n - 1] = '\0';
	if (strcasecmp(line, "Content-Type") == 0) {
		snprintf(a->type, sizeof(a->type), "%s", value);
	} else if (strcasecmp(line, "Retry-After") == 0) {
		if (parse_size(value, 10, &a->retry_after_s) < 0) /* a date */
			a->retry_after_s = UINT64_MAX;
	} else if (strcasecmp(line, RETRY_KEYS_HEADER) == 0) {
		a->keys = true;
	} else if (strcasecmp(line, RETRY_PENDING_HEADER) == 0) {
		a->pending = true;
	} else if (strcasecmp(line, "Content-Length") == 0) {
		r = a->has_length ? -EPROTO : parse_size(value, 10, &a->left);
		a->has_length = true;
	} else if (strcasecmp(line, "Transfer-Encoding") == 0) {
		r = strcasecmp(value, "chunked") == 0 ? 0 : -EPROTO;
		a->chunked = true;
	}
	return r;
}

static void end_of_head(struct http_answer *a)
{
	if (a->code < 200) {
		a->asked = true;
		a->state = ANSWER_STATUS;
		return;
	}
	a->status = a->code;
	if (a->code == 204 || a->code == 304)
		a->whole = true;
	else if (a->chunked)
		a->state = ANSWER_CHUNK_SIZE;
	else if (a->has_length)
		a->state = ANSWER_DATA;
	else
		a->state = ANSWER_REST;
	if (a->state == ANSWER_DATA && a->left == 0)
		a->whole = true;
}

static int chunk_size(struct http_answer *a, char *line)
{
	line[strcspn(line, "; \t")] = '\0'; /* extensions */
	int r = parse_size(line, 16, &a->left);

	if (r == 0)
		a->state = a->left > 0 ? ANSWER_DATA : ANSWER_TRAILER;
	return r;
}

static int whole_line(struct http_answer *a, char *line)
{
	switch (a->state) {
	case ANSWER_STATUS:
		return status_line(a, line);
	case ANSWER_HEADER:
		if (*line)
			return header(a, line);
		end_of_head(a);
		return 0;
	case ANSWER_CHUNK_SIZE:
		return chunk_size(a, line);
	case ANSWER_CHUNK_END:
		a->state = ANSWER_CHUNK_SIZE;
		return *line ? -EPROTO : 0;
	default: /* ANSWER_TRAILER */
		a->whole = !*line;
		return 0;
	}
}

/* Takes a line's bytes up to its end, if that is there. How many, or a failure. */
static ssize_t feed_line(struct http_answer *a, const char *data, size_t len)
{
	const char *end = memchr(data, '\n', len);
	size_t n = end ? (size_t)(end - data) + 1 : len;

	a->head += n;
	if (a->head > HTTP_HEAD_MAX || memchr(data, '\0', n))
		return -EPROTO;
	int r = buf_append(&a->line, data, n);
	if (r < 0 || !end)
		return r < 0 ? r : (ssize_t)n;
	a->line.len--;
	if (a->line.len > 0 && a->line.data[a->line.len - 1] == '\r')
		a->line.len--;
	if (!buf_cstr(&a->line))
		return -ENOMEM;
	r = whole_line(a, (char *)a->line.data);
	buf_clear(&a->line);
	return r < 0 ? r : (ssize_t)n;
}

/* The same for the body's bytes. */
static ssize_t feed_data(struct http_answer *a, const char *data, size_t len)
{
	size_t n = a->state == ANSWER_REST || len < a->left ? len : (size_t)a->left;
	int r = a->on_data(a->arg, data, n);

	if (r < 0)
		return r;
	a->head = 0;
	if (a->state == ANSWER_REST)
		return (ssize_t)n;
	a->left -= n;
	if (a->left == 0 && a->chunked)
		a->state = ANSWER_CHUNK_END;
	else if (a->left == 0)
		a->whole = true;
	return (ssize_t)n;
}

int http_answer_feed(struct http_answer *a, const void *data, size_t len)
{
	const char *s = data;

	while (len > 0 && !a->whole) {
		ssize_t n = a->state >= ANSWER_DATA ? feed_data(a, s, len) : feed_line(a, s, len);
		if (n < 0)
			return (int)n;
		s += n;
		len -= (size_t)n;
	}
	return 0;
}

int http_answer_end(struct http_answer *a)
{
	if (a->state == ANSWER_REST)
		a->whole = true;
	return a->whole ? 0 : -ECONNRESET;
}
