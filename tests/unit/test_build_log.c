/* A build's log: output as lines, events in a file that is read while it grows. */
#include "snapshotd/build/build_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/utf8.h"

/* ---- lines ---- */

static void collect_line(void *arg, const char *text, size_t len)
{
	struct buf *out = arg;

	assert_true(len <= BUILD_LOG_LINE_MAX);
	assert_null(memchr(text, 0, len));
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_len(text + i, len - i);
		assert_true(n > 0);
	}
	assert_int_equal(buf_append(out, "[", 1), 0);
	assert_int_equal(buf_append(out, text, len), 0);
	assert_int_equal(buf_append(out, "]", 1), 0);
}

/* The lines of s, fed in pieces of at most n bytes: "[a][b]". */
static char *split(const char *s, size_t len, size_t n)
{
	struct buf out = BUF_INIT;
	struct line_splitter ls = { .emit = collect_line, .arg = &out };

	for (size_t i = 0; i < len; i += n)
		assert_int_equal(line_splitter_feed(&ls, s + i, MIN(n, len - i)), 0);
	line_splitter_fini(&ls);
	return buf_cstr(&out) ? (char *)out.data : strdup("");
}

static void lines_are_split_however_they_come(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *lines;
	} t[] = {
		{ "", 0, "" },
		{ "a\nb\n", 4, "[a][b]" },
		{ "a\nb", 3, "[a][b]" },
		{ "\n\na\n", 4, "[][][a]" },
		{ "a\r\nb\r\n", 6, "[a][b]" },
		{ "\r\n\r\n", 4, "[][]" },
		{ "1%\r2%\r100%\n", 11, "[1%][2%][100%]" },
		{ "x\r\r\ny", 5, "[x][][y]" },
		{ "\xc3\xa4\n", 3, "[\xc3\xa4]" },
		{ "\xe2\x82\xac", 3, "[\xe2\x82\xac]" },
		{ "a\xffz\n", 4, "[a\xef\xbf\xbdz]" },
		{ "\xc3\n", 2, "[\xef\xbf\xbd]" },
		{ "a\0b\n", 4,
		  "[a\xef\xbf\xbd"
		  "b]" },
		{ "\xed\xa0\x80\n", 4, "[\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd]" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		for (size_t n = 1; n <= t[i].len + 1; n++) {
			char *got = split(t[i].text, t[i].len, n);

			assert_string_equal(got, t[i].lines);
			free(got);
		}
	}
}

static void count_line(void *arg, const char *text, size_t len)
{
	struct buf *out = arg;

	assert_true(len <= BUILD_LOG_LINE_MAX);
	assert_int_equal(buf_append(out, text, len), 0);
}

/* Nothing of a long line is lost, and no character is cut. */
static void long_lines_are_several(void **state)
{
	static const char *const units[] = { "x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80" };

	(void)state;
	for (size_t u = 0; u < 4; u++) {
		struct buf in = BUF_INIT, out = BUF_INIT;
		struct line_splitter ls = { .emit = count_line, .arg = &out };

		assert_int_equal(buf_append_str(&in, "."), 0);
		while (in.len < 3 * BUILD_LOG_LINE_MAX + 100)
			assert_int_equal(buf_append_str(&in, units[u]), 0);
		for (size_t i = 0; i < in.len; i += 4097)
			assert_int_equal(line_splitter_feed(&ls, (char *)in.data + i,
							    MIN((size_t)4097, in.len - i)),
					 0);
		assert_true(ls.line.len <= BUILD_LOG_LINE_MAX);
		line_splitter_fini(&ls);
		assert_int_equal(out.len, in.len);
		assert_memory_equal(out.data, in.data, in.len);
		buf_fini(&in);
		buf_fini(&out);
	}
}

/* Each bad byte becomes three, yet no event is longer than it may be. */
static void garbage_is_bounded_too(void **state)
{
	struct buf out = BUF_INIT;
	struct line_splitter ls = { .emit = collect_line, .arg = &out };
	char garbage[2 * BUILD_LOG_LINE_MAX];

	(void)state;
	memset(garbage, 0x80, sizeof(garbage));
	assert_int_equal(line_splitter_feed(&ls, garbage, sizeof(garbage)), 0);
	line_splitter_fini(&ls);
	assert_true(out.len > 3 * sizeof(garbage));
	buf_fini(&out);
}

/* ---- the log ---- */

struct log_fx {
	char path[64];
	struct build_log *log;
};

static int log_setup(void **state)
{
	struct log_fx *f = calloc(1, sizeof(*f));
	struct error err = ERROR_INIT;
	int fd;

	strcpy(f->path, "/tmp/varve-test-XXXXXX");
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(build_log_open(f->path, false, &f->log, &err), 0);
	*state = f;
	return 0;
}

static int log_teardown(void **state)
{
	struct log_fx *f = *state;

	build_log_free(f->log);
	unlink(f->path);
	free(f);
	return 0;
}

static void add(struct build_log *l, unsigned step, enum build_stream stream, const char *text)
{
	build_log_add(l, step, "run", stream, text, strlen(text));
}

static void collect_event(void *arg, const json_t *event)
{
	assert_int_equal(json_array_append(arg, (json_t *)event), 0);
}

static void an_event_has_its_members(void **state)
{
	struct log_fx *f = *state;
	json_t *a = json_array(), *want;

	add(f->log, 3, BUILD_STDERR, "what \"it\" said");
	build_log_end(f->log);
	assert_int_equal(build_log_follow(f->log, collect_event, NULL, a), 0);
	want = json_pack("[{s:i, s:s, s:s, s:s}]", "step", 3, "type", "run", "message",
			 "what \"it\" said", "stream", "stderr");
	assert_true(json_equal(a, want));
	json_decref(want);
	json_decref(a);
}

static void what_comes_after_the_end_is_dropped(void **state)
{
	struct log_fx *f = *state;
	json_t *a = json_array();

	add(f->log, 1, BUILD_INFO, "one");
	build_log_end(f->log);
	build_log_end(f->log);
	add(f->log, 1, BUILD_INFO, "two");
	assert_int_equal(build_log_replay(f->path, collect_event, a), 0);
	assert_int_equal(json_array_size(a), 1);
	json_decref(a);
}

/* A daemon has died while it wrote, and its successor goes on. */
static void a_log_goes_on_behind_its_last_whole_event(void **state)
{
	struct log_fx *f = *state;
	struct error err = ERROR_INIT;
	char text[BUILD_LOG_LINE_MAX];
	json_t *a = json_array();
	int fd;

	memset(text, 'x', sizeof(text));
	add(f->log, 1, BUILD_INFO, "one");
	build_log_free(f->log);
	fd = open(f->path, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text)); /* and no end */
	close(fd);
	assert_int_equal(build_log_open(f->path, true, &f->log, &err), 0);
	add(f->log, 1, BUILD_INFO, "two");
	build_log_end(f->log);
	assert_int_equal(build_log_follow(f->log, collect_event, NULL, a), 0);
	assert_int_equal(json_array_size(a), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(a, 1), "message")),
			    "two");
	json_decref(a);
	/* One that has nothing whole begins anew. */
	build_log_free(f->log);
	fd = open(f->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, "{", 1), 1);
	close(fd);
	assert_int_equal(build_log_open(f->path, true, &f->log, &err), 0);
	build_log_end(f->log);
	assert_int_equal(build_log_replay(f->path, NULL, NULL), 0);
}

static void no_file_no_events(void **state)
{
	(void)state;
	assert_int_equal(build_log_replay("/tmp/varve-test-there-is-none", NULL, NULL), -ENOENT);
}

#define READERS 8
#define EVENTS 2000

static void *follow(void *arg)
{
	json_t *a = json_array();

	assert_int_equal(build_log_follow(arg, collect_event, NULL, a), 0);
	return a;
}

/* Whenever a reader comes, it gets every event, in order, once. */
static void readers_get_all_of_it(void **state)
{
	struct log_fx *f = *state;
	pthread_t t[READERS];
	char text[300];

	memset(text, 'x', sizeof(text));
	for (int i = 0; i < EVENTS; i++) {
		if (i % (EVENTS / READERS) == 0)
			pthread_create(&t[i / (EVENTS / READERS)], NULL, follow, f->log);
		snprintf(text, 16, "%d", i);
		text[strlen(text)] = ' ';
		text[sizeof(text) - 1] = '\0';
		add(f->log, 1, BUILD_STDOUT, text);
	}
	build_log_end(f->log);
	for (int r = 0; r < READERS; r++) {
		void *a;

		pthread_join(t[r], &a);
		assert_int_equal(json_array_size(a), EVENTS);
		for (int i = 0; i < EVENTS; i++) {
			json_t *e = json_array_get(a, (size_t)i);

			assert_int_equal(atoi(json_string_value(json_object_get(e, "message"))), i);
		}
		json_decref(a);
	}
}

static bool always(void *arg)
{
	(void)arg;
	return true;
}

static void a_reader_may_give_up(void **state)
{
	struct log_fx *f = *state;

	add(f->log, 1, BUILD_INFO, "one");
	assert_int_equal(build_log_follow(f->log, NULL, always, NULL), -ECANCELED);
}

static void output_without_end_is_cut(void **state)
{
	struct log_fx *f = *state;
	char *line = malloc(BUILD_LOG_LINE_MAX + 1);
	json_t *a = json_array(), *last;
	size_t n = BUILD_LOG_OUTPUT_MAX / BUILD_LOG_LINE_MAX;

	memset(line, 'x', BUILD_LOG_LINE_MAX);
	line[BUILD_LOG_LINE_MAX] = '\0';
	for (size_t i = 0; i < 2 * n; i++)
		add(f->log, 1, BUILD_STDOUT, line);
	add(f->log, 1, BUILD_INFO, "the reason");
	build_log_end(f->log);
	assert_int_equal(build_log_replay(f->path, collect_event, a), 0);
	assert_true(json_array_size(a) <= n + 3);
	last = json_array_get(a, json_array_size(a) - 1);
	assert_string_equal(json_string_value(json_object_get(last, "message")), "the reason");
	last = json_array_get(a, json_array_size(a) - 2);
	assert_non_null(strstr(json_string_value(json_object_get(last, "message")), "too long"));
	json_decref(a);
	free(line);
}

#define WITH_LOG(name) cmocka_unit_test_setup_teardown(name, log_setup, log_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_split_however_they_come),
		cmocka_unit_test(long_lines_are_several),
		cmocka_unit_test(garbage_is_bounded_too),
		WITH_LOG(an_event_has_its_members),
		WITH_LOG(what_comes_after_the_end_is_dropped),
		WITH_LOG(a_log_goes_on_behind_its_last_whole_event),
		cmocka_unit_test(no_file_no_events),
		WITH_LOG(readers_get_all_of_it),
		WITH_LOG(a_reader_may_give_up),
		WITH_LOG(output_without_end_is_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
