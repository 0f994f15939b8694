/* The parser of event streams: tools/libvarve/events.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/libvarve/events.h"

/* Events as "type=data;" one after the other. */
static int record(void *arg, const char *type, const char *data, size_t len)
{
	assert_int_equal(strlen(data), len);
	return buf_printf(arg, "%s=%s;", type, data);
}

/* Feed `stream` in pieces of `piece` bytes and compare what came out. */
static void check(const char *stream, size_t piece, const char *wanted)
{
	CLEANUP(buf_fini_p) struct buf out = BUF_INIT;
	struct event_parser p;
	size_t len = strlen(stream);

	event_parser_init(&p, record, &out);
	for (size_t i = 0; i < len; i += piece) {
		/* A copy of its own, so that a sanitizer sees every step too far. */
		size_t n = MIN(piece, len - i);
		char *copy = malloc(n);
		memcpy(copy, stream + i, n);
		assert_int_equal(event_parser_feed(&p, copy, n), 0);
		free(copy);
	}
	event_parser_fini(&p);
	assert_string_equal(buf_cstr(&out), wanted);
}

static const struct {
	const char *stream, *wanted;
} cases[] = {
	{ "", "" },
	{ "data: a\n\n", "message=a;" },
	{ "event: progress\ndata: {}\n\n", "progress={};" },
	{ "data: {}\nevent: progress\n\n", "progress={};" },
	{ "event: x\ndata: 1\n\ndata: 2\n\n", "x=1;message=2;" },
	/* lines of data are joined; an empty one counts */
	{ "data: a\ndata: b\n\n", "message=a\nb;" },
	{ "data\ndata\n\n", "message=\n;" },
	{ "data:\n\n", "message=;" },
	/* only one space is taken off */
	{ "data:a\n\n", "message=a;" },
	{ "data:  a\n\n", "message= a;" },
	{ "data: a: b\n\n", "message=a: b;" },
	/* comments, other fields, events without data */
	{ ": keep-alive\n\n", "" },
	{ ": c\ndata: a\n: d\n\n", "message=a;" },
	{ "id: 7\nretry: 10\nnonsense\nfoo: bar\ndata: a\n\n", "message=a;" },
	{ "event: x\n\ndata: a\n\n", "message=a;" },
	{ "event: x\nevent: y\ndata: a\n\n", "y=a;" },
	{ "Data: a\n\n", "" },
	/* the three ends of a line */
	{ "data: a\r\n\r\ndata: b\r\n\r\n", "message=a;message=b;" },
	{ "data: a\r\rdata: b\r\r", "message=a;message=b;" },
	{ "data: a\r\n\ndata: b\n\r\n", "message=a;message=b;" },
	/* a byte order mark at the start, and only there */
	{ "\xef\xbb\xbf"
	  "data: a\n\n",
	  "message=a;" },
	{ "data: a\n\n\xef\xbb\xbf"
	  "data: b\n\n",
	  "message=a;" },
	/* what is not ended by an empty line is no event */
	{ "data: a\n", "" },
	{ "data: a\n\ndata: b", "message=a;" },
};

static void streams_are_parsed_whole_and_byte_by_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t piece = 1; piece < 12; piece++)
			check(cases[i].stream, piece == 11 ? 1000 : piece, cases[i].wanted);
}

static int refuse(void *arg, const char *type, const char *data, size_t len)
{
	(void)type;
	(void)data;
	(void)len;
	++*(int *)arg;
	return -ECANCELED;
}

static void failure_of_the_receiver_ends_feeding(void **state)
{
	struct event_parser p;
	int calls = 0;

	(void)state;
	event_parser_init(&p, refuse, &calls);
	assert_int_equal(event_parser_feed(&p, "data: a\n\ndata: b\n\n", 18), -ECANCELED);
	assert_int_equal(calls, 1);
	event_parser_fini(&p);
}

static void endless_line_is_refused(void **state)
{
	CLEANUP(buf_fini_p) struct buf out = BUF_INIT;
	struct event_parser p;
	size_t len = 1 << 20;
	char *piece = malloc(len);
	int r = 0;

	(void)state;
	memset(piece, 'x', len);
	event_parser_init(&p, record, &out);
	for (size_t fed = 0; fed <= EVENT_MAX_BYTES && r == 0; fed += len)
		r = event_parser_feed(&p, piece, len);
	assert_int_equal(r, -EMSGSIZE);
	event_parser_fini(&p);
	free(piece);
}

static void endless_event_is_refused(void **state)
{
	CLEANUP(buf_fini_p) struct buf out = BUF_INIT;
	struct event_parser p;
	static char line[4096 + 7];
	int r = 0;

	(void)state;
	memcpy(line, "data: ", 6);
	memset(line + 6, 'x', 4096);
	line[4102] = '\n';
	event_parser_init(&p, record, &out);
	for (size_t fed = 0; fed <= EVENT_MAX_BYTES + 8192 && r == 0; fed += 4096)
		r = event_parser_feed(&p, line, sizeof(line));
	assert_int_equal(r, -EMSGSIZE);
	event_parser_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(streams_are_parsed_whole_and_byte_by_byte),
		cmocka_unit_test(failure_of_the_receiver_ends_feeding),
		cmocka_unit_test(endless_line_is_refused),
		cmocka_unit_test(endless_event_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
