/* The HTTP server with an application of its own, and a client of raw bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "snapshotd/http/http.h"
#include "store/base/buf.h"

#define STREAM_PAUSE_MS 3000
#define BODIES_MAX (HTTP_BODY_MAX + (1u << 20))
#define REPLIES_MAX (20u << 20)
#define LIMITED_MAX 1000
#define BIG (12u << 20)

static struct {
	char dir[64];
	char path[96];
	struct http_server *server;
	struct budget bodies, replies;
	atomic_int begun, ended, cancelled, complete;
	atomic_llong uploaded;
} t;

/* ---- the application ---- */

static bool is(struct http_request *rq, const char *path)
{
	return strcmp(http_path(rq), path) == 0;
}

static void reply(struct http_request *rq, int status, const char *text)
{
	char *copy = strdup(text);

	assert_non_null(copy);
	http_reply(rq, status, "text/plain", copy, strlen(copy));
}

static void on_begin(void *ctx, struct http_request *rq, struct http_plan *plan)
{
	(void)ctx;
	t.begun++;
	plan->body_stream = is(rq, "/upload") || is(rq, "/refuse");
	plan->worker = plan->body_stream || is(rq, "/stream") || is(rq, "/abort") ||
		       is(rq, "/wait") || is(rq, "/endless");
	if (is(rq, "/limited"))
		plan->body_max = LIMITED_MAX;
	if (is(rq, "/early"))
		reply(rq, 409, "taken");
}

static void upload(struct http_request *rq)
{
	char data[8192], text[64];
	ssize_t n;

	t.uploaded = 0;
	while ((n = read(http_body_fd(rq), data, sizeof(data))) > 0)
		t.uploaded += n;
	t.complete = http_body_complete(rq);
	snprintf(text, sizeof(text), "%lld", (long long)t.uploaded);
	reply(rq, 200, text);
}

static void stream(struct http_request *rq, bool endless)
{
	char data[1000];

	memset(data, 'x', sizeof(data));
	if (http_stream_begin(rq, 200, "application/x-tar") < 0)
		return;
	for (int i = 0; endless || i < 3000; i++) {
		if (http_stream_write(rq, data, sizeof(data)) < 0) {
			t.cancelled++;
			return;
		}
	}
}

static void on_handle(void *ctx, struct http_request *rq)
{
	size_t len;

	(void)ctx;
	if (is(rq, "/plain")) {
		reply(rq, 200, "hello");
	} else if (is(rq, "/echo") || is(rq, "/limited")) {
		const char *body = http_body(rq, &len);
		char *copy = malloc(len + 1);

		memcpy(copy, body, len);
		http_reply(rq, 201, "text/plain", copy, len);
	} else if (is(rq, "/hold")) {
		reply(rq, http_hold(rq, BODIES_MAX) == 0 ? 200 : 503, "held");
	} else if (is(rq, "/big")) {
		http_reply(rq, 200, "text/plain", calloc(1, BIG), BIG);
	} else if (is(rq, "/upload")) {
		upload(rq);
	} else if (is(rq, "/refuse")) {
		reply(rq, 422, "no tar");
	} else if (is(rq, "/stream") || is(rq, "/endless")) {
		stream(rq, is(rq, "/endless"));
	} else if (is(rq, "/abort")) {
		if (http_stream_begin(rq, 200, "text/plain") == 0 &&
		    http_stream_write(rq, "part", 4) == 0)
			http_stream_abort(rq);
	} else if (is(rq, "/wait")) {
		while (!http_cancelled(rq))
			usleep(1000);
		t.cancelled++;
		reply(rq, 503, "stopped");
	} /* "/nothing": no reply */
}

static void on_end(void *ctx, struct http_request *rq)
{
	(void)ctx, (void)rq;
	t.ended++;
}

/* ---- the client ---- */

static int setup(void **state)
{
	const struct http_app app = { on_begin,	 on_handle,  on_end, NULL, STREAM_PAUSE_MS,
				      &t.bodies, &t.replies, "Says", "it" };
	struct listener l = LISTENER_NONE;
	struct error err = ERROR_INIT;

	(void)state;
	memset(&t, 0, sizeof(t));
	budget_init(&t.bodies, NULL, BODIES_MAX);
	budget_init(&t.replies, NULL, REPLIES_MAX);
	strcpy(t.dir, "/tmp/test_http.XXXXXX");
	if (!mkdtemp(t.dir))
		return -1;
	snprintf(t.path, sizeof(t.path), "%s/sock", t.dir);
	if (http_server_new(&app, 32, &t.server, &err) < 0 ||
	    listener_unix(&l, t.path, NULL, &err) < 0 ||
	    http_server_listen(t.server, &l, false, &err) < 0) {
		fprintf(stderr, "%s\n", error_text(&err));
		return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	http_server_free(t.server);
	return rmdir(t.dir); /* the socket is gone */
}

static int dial(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = 20 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, t.path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

/* Fails quietly where the server has closed. */
static void put(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		data += n;
		len -= (size_t)n;
	}
}

static void put_text(int fd, const char *text)
{
	put(fd, text, strlen(text));
}

/* Everything up to the end of the connection. */
static void take_all(int fd, struct buf *out)
{
	char data[65536];
	ssize_t n;

	while ((n = recv(fd, data, sizeof(data), 0)) > 0)
		assert_int_equal(buf_append(out, data, (size_t)n), 0);
	assert_non_null(buf_cstr(out));
}

static const char *ask(const char *request, struct buf *out)
{
	int fd = dial();

	put_text(fd, request);
	take_all(fd, out);
	close(fd);
	return (const char *)out->data;
}

static void await(const atomic_int *v, int value)
{
	for (int i = 0; i < 10000 && *v != value; i++)
		usleep(1000);
	assert_int_equal(*v, value);
}

#define CLOSE "Host: x\r\nConnection: close\r\n\r\n"

static void plain_requests_are_answered(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	const char *r = ask("GET /plain?q=1 HTTP/1.1\r\n" CLOSE, &b);

	(void)state;
	assert_ptr_equal(strstr(r, "HTTP/1.1 200"), r);
	assert_non_null(strstr(r, "\r\n\r\nhello"));
	await(&t.ended, 1);
}

static void one_connection_serves_many_requests(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	const char *r = ask("GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
			    "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfirst"
			    "POST /echo HTTP/1.1\r\nContent-Length: 6\r\n" CLOSE "second",
			    &b);

	(void)state;
	assert_non_null(strstr(r, "hello"));
	assert_non_null(strstr(r, "first"));
	assert_non_null(strstr(r, "second"));
	await(&t.ended, 3);
}

static void a_request_left_without_reply_is_500(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	const char *r = ask("GET /nothing HTTP/1.1\r\n" CLOSE, &b);

	(void)state;
	assert_ptr_equal(strstr(r, "HTTP/1.1 500"), r);
}

static void bodies_beyond_the_limit_are_413(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	char head[200], *data = calloc(1, HTTP_BODY_MAX + 2);
	int fd = dial();

	(void)state;
	snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nContent-Length: %u\r\n" CLOSE,
		 HTTP_BODY_MAX + 1);
	put_text(fd, head);
	put(fd, data, HTTP_BODY_MAX + 1);
	take_all(fd, &b);
	close(fd);
	assert_ptr_equal(strstr((char *)b.data, "HTTP/1.1 413"), (char *)b.data);

	buf_clear(&b);
	fd = dial();
	put_text(fd, "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" CLOSE);
	snprintf(head, sizeof(head), "%x\r\n", HTTP_BODY_MAX + 1);
	put_text(fd, head);
	put(fd, data, HTTP_BODY_MAX + 1);
	put_text(fd, "\r\n0\r\n\r\n");
	take_all(fd, &b);
	close(fd);
	assert_ptr_equal(strstr((char *)b.data, "HTTP/1.1 413"), (char *)b.data);

	buf_clear(&b);
	fd = dial();
	snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nContent-Length: %u\r\n" CLOSE,
		 HTTP_BODY_MAX);
	put_text(fd, head);
	put(fd, data, HTTP_BODY_MAX);
	take_all(fd, &b);
	close(fd);
	assert_ptr_equal(strstr((char *)b.data, "HTTP/1.1 201"), (char *)b.data);
	assert_true(b.len > HTTP_BODY_MAX);
	free(data);
}

static int post_to(const char *path, const char *data, size_t len, size_t sent)
{
	char head[200];
	int fd = dial();

	snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nContent-Length: %zu\r\n" CLOSE, path,
		 len);
	put_text(fd, head);
	put(fd, data, sent);
	return fd;
}

static int post(const char *data, size_t len, size_t sent)
{
	return post_to("/echo", data, len, sent);
}

static void assert_status(int fd, const char *status)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	take_all(fd, &b);
	close(fd);
	assert_ptr_equal(strstr((char *)b.data, status), (char *)b.data);
	assert_non_null(strstr((char *)b.data, "\r\nSays: it\r\n"));
	assert_true(strstr(status, "503") == NULL || strstr((char *)b.data, "Retry-After: "));
}

static void bodies_have_a_limit_together(void **state)
{
	const size_t len = 10u << 20;
	char *data = calloc(1, len);
	int first = post(data, len, len - 1); /* most of which is there when put returns */

	(void)state;
	assert_status(post(data, len, len), "HTTP/1.1 503");
	assert_status(post(data, HTTP_BODY_SMALL, HTTP_BODY_SMALL), "HTTP/1.1 201");
	put(first, data, 1);
	assert_status(first, "HTTP/1.1 201");
	await(&t.ended, 3);
	assert_status(post(data, len, len), "HTTP/1.1 201");
	free(data);
}

static void a_path_may_have_a_smaller_limit(void **state)
{
	char data[LIMITED_MAX + 1] = "";

	(void)state;
	assert_status(post_to("/limited", data, LIMITED_MAX, LIMITED_MAX), "HTTP/1.1 201");
	assert_status(post_to("/limited", data, LIMITED_MAX + 1, LIMITED_MAX + 1), "HTTP/1.1 413");
}

static void what_a_body_becomes_is_held_till_the_end(void **state)
{
	(void)state;
	assert_status(post_to("/hold", "", 0, 0), "HTTP/1.1 200");
	await(&t.ended, 1);
	assert_int_equal(budget_used(&t.bodies), 0);
	assert_status(post_to("/hold", "", 0, 0), "HTTP/1.1 200");
}

/* The client that takes nothing holds a reply; the second finds no room beside it. */
static void replies_have_a_limit_together(void **state)
{
	int slow = post_to("/big", "", 0, 0);

	(void)state;
	while (budget_used(&t.replies) < BIG)
		usleep(1000);
	assert_status(post_to("/big", "", 0, 0), "HTTP/1.1 503");
	assert_status(post_to("/plain", "", 0, 0), "HTTP/1.1 200");
	assert_status(slow, "HTTP/1.1 200");
	await(&t.ended, 3);
	assert_int_equal(budget_used(&t.replies), 0);
	assert_status(post_to("/big", "", 0, 0), "HTTP/1.1 200");
}

static void streamed_bodies_arrive_whole(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	size_t len = 5000000;
	char head[200], *data = calloc(1, len);
	int fd = dial();

	(void)state;
	snprintf(head, sizeof(head), "POST /upload HTTP/1.1\r\nContent-Length: %zu\r\n" CLOSE, len);
	put_text(fd, head);
	put(fd, data, len);
	take_all(fd, &b);
	close(fd);
	free(data);
	assert_non_null(strstr((char *)b.data, "\r\n\r\n5000000"));
	assert_int_equal(t.complete, 1);
}

static void a_cut_upload_is_told_from_a_whole_one(void **state)
{
	static const char *const heads[] = {
		"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
		"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
		"chunked\r\n\r\n3\r\nabc\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		int fd = dial();

		t.complete = -1;
		put_text(fd, heads[i]);
		await(&t.begun, (int)i + 1); /* else the end may be seen before the head */
		close(fd);
		await(&t.ended, (int)i + 1);
		assert_int_equal(t.complete, 0);
	}
}

/* The worker replies without reading: the client can send all, and gets the reply. */
static void a_refused_upload_gets_its_reply(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	size_t len = 5000000;
	char head[200], *data = calloc(1, len);
	int fd = dial();

	(void)state;
	snprintf(head, sizeof(head), "POST /refuse HTTP/1.1\r\nContent-Length: %zu\r\n" CLOSE, len);
	put_text(fd, head);
	put(fd, data, len);
	take_all(fd, &b);
	close(fd);
	free(data);
	assert_ptr_equal(strstr((char *)b.data, "HTTP/1.1 422"), (char *)b.data);
}

static void a_reply_before_the_body_reaches_the_client(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT, asked = BUF_INIT;
	size_t len = 3000000;
	char head[200], *data = calloc(1, len);
	const char *r;
	int fd = dial();

	(void)state;
	snprintf(head, sizeof(head), "POST /early HTTP/1.1\r\nContent-Length: %zu\r\n" CLOSE, len);
	put_text(fd, head);
	put(fd, data, len);
	take_all(fd, &b);
	close(fd);
	free(data);
	assert_ptr_equal(strstr((char *)b.data, "HTTP/1.1 409"), (char *)b.data);
	/* Where the client asks first, the body is not even wanted. */
	r = ask("POST /early HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n" CLOSE,
		&asked);
	assert_ptr_equal(strstr(r, "HTTP/1.1 409"), r);
	assert_null(strstr(r, "100 Continue"));
	buf_fini(&asked);
	asked = (struct buf)BUF_INIT;
}

static void streams_arrive_whole(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	const char *r = ask("GET /stream HTTP/1.0\r\n\r\n", &b);
	const char *body = strstr(r, "\r\n\r\n");

	(void)state;
	assert_non_null(body);
	assert_int_equal(strlen(body + 4), 3000000);
	await(&t.ended, 1);
}

static void a_broken_stream_has_no_last_chunk(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT, whole = BUF_INIT;
	const char *r = ask("GET /abort HTTP/1.1\r\nHost: x\r\n\r\n", &b);

	(void)state;
	assert_null(strstr(r, "0\r\n\r\n"));
	r = ask("GET /stream HTTP/1.1\r\n" CLOSE, &whole);
	assert_string_equal(r + whole.len - 5, "0\r\n\r\n");
}

static void a_client_that_leaves_ends_the_stream(void **state)
{
	char data[1000];
	int fd = dial();

	(void)state;
	put_text(fd, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true(recv(fd, data, sizeof(data), 0) > 0);
	close(fd);
	await(&t.ended, 1);
	assert_int_equal(t.cancelled, 1);
}

static void a_client_that_takes_nothing_ends_the_stream(void **state)
{
	char data[1000];
	int fd = dial();

	(void)state;
	put_text(fd, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true(recv(fd, data, sizeof(data), 0) > 0);
	await(&t.ended, 1);
	assert_int_equal(t.cancelled, 1);
	close(fd);
}

static void a_client_that_leaves_cancels_the_work(void **state)
{
	int fd = dial();

	(void)state;
	put_text(fd, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
	await(&t.begun, 1);
	assert_int_equal(t.cancelled, 0);
	close(fd);
	await(&t.ended, 1);
	assert_int_equal(t.cancelled, 1);
}

static void stopping_cancels_and_still_answers(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int waiting = dial(), uploading = dial(), idle = dial(), streaming = dial();

	(void)state;
	put_text(waiting, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
	put_text(uploading, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
	put_text(streaming, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
	await(&t.begun, 3);
	t.complete = -1;
	http_server_stop(t.server, 1000);
	assert_int_equal(t.ended, 3);
	assert_int_equal(t.complete, 0);
	take_all(waiting, &b);
	assert_ptr_equal(strstr((char *)b.data, "HTTP/1.1 503"), (char *)b.data);
	close(waiting);
	close(uploading);
	close(idle);
	close(streaming);
}

static void a_long_request_stops_no_other(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int fds[20];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
		put_text(fds[i], "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
	}
	await(&t.begun, ARRAY_SIZE(fds));
	assert_non_null(strstr(ask("GET /plain HTTP/1.1\r\n" CLOSE, &b), "hello"));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	await(&t.ended, ARRAY_SIZE(fds) + 1);
}

static void a_live_socket_is_left_and_a_stale_one_replaced(void **state)
{
	struct listener l = LISTENER_NONE, first = LISTENER_NONE;
	struct error err = ERROR_INIT;
	char path[128];
	struct stat st;

	(void)state;
	assert_int_equal(listener_unix(&l, t.path, NULL, &err), -EADDRINUSE);
	assert_non_null(strstr(err.msg, "already running"));
	assert_int_equal(l.fd, -1);

	snprintf(path, sizeof(path), "%s/stale", t.dir);
	assert_int_equal(listener_unix(&first, path, NULL, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	close(first.fd); /* as a crash does */
	first.fd = -1;
	usleep(20000); /* files' times have a granularity */
	assert_int_equal(listener_unix(&l, path, NULL, &err), 0);
	listener_unlink(&first); /* no longer its own */
	assert_int_equal(stat(path, &st), 0);
	listener_unlink(&l);
	assert_int_equal(stat(path, &st), -1);
	listener_fini(&l);
	listener_fini(&first);

	assert_int_equal(listener_unix(&l, t.dir, NULL, &err), -EEXIST);
	assert_int_equal(listener_unix(&l, path, "no-such-group", &err), -ENOENT);
	assert_int_equal(stat(path, &st), -1);
}

static void garbage_is_refused_without_harm(void **state)
{
	static const char *const requests[] = {
		"\r\n\r\n\r\n",
		"GET\r\n\r\n",
		"GET /plain\r\n\r\n",
		"GET /plain HTTP/9.9\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
		"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
		int fd = dial();

		put_text(fd, requests[i]);
		shutdown(fd, SHUT_WR);
		take_all(fd, &b);
		close(fd);
	}
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	assert_non_null(strstr(ask("GET /plain HTTP/1.1\r\n" CLOSE, &b), "hello"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(plain_requests_are_answered),
		TEST(one_connection_serves_many_requests),
		TEST(a_request_left_without_reply_is_500),
		TEST(bodies_beyond_the_limit_are_413),
		TEST(bodies_have_a_limit_together),
		TEST(a_path_may_have_a_smaller_limit),
		TEST(what_a_body_becomes_is_held_till_the_end),
		TEST(replies_have_a_limit_together),
		TEST(streamed_bodies_arrive_whole),
		TEST(a_cut_upload_is_told_from_a_whole_one),
		TEST(a_refused_upload_gets_its_reply),
		TEST(a_reply_before_the_body_reaches_the_client),
		TEST(streams_arrive_whole),
		TEST(a_broken_stream_has_no_last_chunk),
		TEST(a_client_that_leaves_ends_the_stream),
		TEST(a_client_that_takes_nothing_ends_the_stream),
		TEST(a_client_that_leaves_cancels_the_work),
		TEST(stopping_cancels_and_still_answers),
		TEST(a_long_request_stops_no_other),
		TEST(a_live_socket_is_left_and_a_stale_one_replaced),
		TEST(garbage_is_refused_without_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
