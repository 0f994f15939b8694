/*
 * The client's HTTP: tools/cli/http_answer.h, http_call.h, address.h, and calls of client.h made of
 * them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "tools/cli/client.h"
#include "tools/cli/http_call.h"
#include "tools/libvarve/retry.h"

/* ---- the parser ---- */

static int keep(void *arg, const void *data, size_t len)
{
	return buf_append(arg, data, len);
}

static const struct {
	const char *answer;
	int result; /* with that of the connection's end */
	int status;
	const char *body;
} answers[] = {
	{ "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 0, 200, "abc" },
	{ "HTTP/1.1 200 OK\nContent-Length:3 \n\nabc", 0, 200, "abc" },
	{ "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", 0, 404, "" },
	{ "HTTP/1.1 204 No Content\r\n\r\n", 0, 204, "" },
	{ "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", 0, 200, "a" },
	{ "HTTP/1.0 200 OK\r\n\r\nto the end", 0, 200, "to the end" },
	{ "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", 0, 200, "a" },
	/* interim answers */
	{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nx", 0, 201,
	  "x" },
	/* chunks */
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	  "3\r\nabc\r\n00A;x=y\r\n0123456789\r\n0\r\n\r\n",
	  0, 200, "abc0123456789" },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 9\r\n\r\n"
	  "1\r\na\r\n0\r\nTrailer: x\r\n\r\n",
	  0, 200, "a" },
	/* broken off */
	{ "", -ECONNRESET, 0, "" },
	{ "HTTP/1.1 20", -ECONNRESET, 0, "" },
	{ "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", -ECONNRESET, 200, "ab" },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", -ECONNRESET, 200,
	  "abc" },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", -ECONNRESET, 200,
	  "a" },
	/* nonsense */
	{ "SSH-2.0-OpenSSH\r\n", -EPROTO, 0, "" },
	{ "HTTP/1.1 0000 OK\r\n", -EPROTO, 0, "" },
	{ "HTTP/1.1 99 OK\r\n", -EPROTO, 0, "" },
	{ "HTTP/1.1 200 OK\r\nno header\r\n", -EPROTO, 0, "" },
	{ "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", -EPROTO, 0, "" },
	{ "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n", -EPROTO, 0, "" },
	{ "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n", -EPROTO, 0, "" },
	{ "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n", -EPROTO, 0, "" },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n", -EPROTO, 0, "" },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", -EPROTO, 200, "" },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n", -EPROTO, 200, "" },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n", -EPROTO,
	  200, "" },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", -EPROTO, 200, "a" },
};

static void check_answer(size_t i, size_t piece)
{
	CLEANUP(buf_fini_p) struct buf body = BUF_INIT;
	struct http_answer a;
	size_t len = strlen(answers[i].answer);
	int r = 0;

	http_answer_init(&a, keep, &body);
	for (size_t at = 0; at < len && r == 0; at += piece) {
		/* A copy of its own, so that a sanitizer sees every step too far. */
		size_t n = MIN(piece, len - at);
		char *copy = malloc(n);
		memcpy(copy, answers[i].answer + at, n);
		r = http_answer_feed(&a, copy, n);
		free(copy);
	}
	if (r == 0)
		r = http_answer_end(&a);
	assert_int_equal(r, answers[i].result);
	assert_int_equal(a.status, answers[i].status);
	assert_string_equal(buf_cstr(&body), answers[i].body);
	assert_int_equal(a.whole, r == 0);
	http_answer_fini(&a);
}

static void answers_are_parsed_whole_and_byte_by_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		for (size_t piece = 1; piece < 8; piece++)
			check_answer(i, piece == 7 ? 1000 : piece);
}

static void endless_heads_are_refused(void **state)
{
	static const char *const starts[] = {
		"HTTP/1.1 200 ",
		"HTTP/1.1 200 OK\r\nX: ",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX:",
	};
	static const char *const pieces[] = { "xxxxxxxx", "a: b\r\nX: " };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(starts) * ARRAY_SIZE(pieces); i++) {
		CLEANUP(buf_fini_p) struct buf body = BUF_INIT;
		const char *piece = pieces[i / ARRAY_SIZE(starts)];
		struct http_answer a;
		size_t fed = 0;

		http_answer_init(&a, keep, &body);
		int r = http_answer_feed(&a, starts[i % ARRAY_SIZE(starts)],
					 strlen(starts[i % ARRAY_SIZE(starts)]));
		while (r == 0 && fed <= HTTP_HEAD_MAX) {
			r = http_answer_feed(&a, piece, strlen(piece));
			fed += strlen(piece);
		}
		assert_int_equal(r, -EPROTO);
		http_answer_fini(&a);
	}
}

/* ---- addresses ---- */

static void urls_name_a_host_and_a_port(void **state)
{
	static const struct {
		const char *url, *host, *port, *header;
	} cases[] = {
		{ "http://h", "h", "80", "h:80" },
		{ "http://h:81", "h", "81", "h:81" },
		{ "http://h:81/", "h", "81", "h:81" },
		{ "http://h:081/api", "h", "81", "h:81" },
		{ "HTTP://h.example:65535/api//", "h.example", "65535", "h.example:65535" },
		{ "http://127.0.0.1:5", "127.0.0.1", "5", "127.0.0.1:5" },
		{ "http://[::1]:81", "::1", "81", "[::1]:81" },
		{ "http://[::1]/", "::1", "80", "[::1]:80" },
		{ "http://h:", "h", "80", "h:80" },
		{ "http://h\xc3\xbclle", "h\xc3\xbclle", "80", "h\xc3\xbclle:80" },
	};
	struct error err = ERROR_INIT;
	struct address a;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(address_of_url(&a, cases[i].url, "k", &err), 0);
		assert_true(address_is_tcp(&a));
		assert_string_equal(a.host, cases[i].host);
		assert_string_equal(a.port, cases[i].port);
		assert_string_equal(address_host(&a), cases[i].header);
		assert_string_equal(a.key, "k");
	}
	assert_int_equal(address_of_url(&a, "http://h", "", &err), 0);
	assert_null(a.key);
	assert_int_equal(address_of_url(&a, "unix:///run/x", "k", &err), 0);
	assert_false(address_is_tcp(&a));
	assert_string_equal(a.socket, "/run/x");
	assert_null(a.key);
	assert_int_equal(address_of_url(&a, "unix:/run/x", NULL, &err), 0);
	assert_string_equal(a.text, "/run/x");
}

static void what_is_wrong_with_a_url_is_told_without_secrets(void **state)
{
	static const struct {
		const char *url, *key, *text;
	} cases[] = {
		{ "h:80", NULL, "the URL is no http://HOST:PORT or unix:///PATH" },
		{ "", NULL, "the URL is no http" },
		{ "ftp://secret@h/", NULL, "but one of \"ftp://\"" },
		{ "https://h", NULL, "varve speaks no TLS" },
		{ "http://", NULL, "no host in the URL" },
		{ "http://:80", NULL, "no host in the URL" },
		{ "http://[::1", NULL, "a [ without its ]" },
		{ "http://[::1]81", NULL, "something between host and port" },
		{ "http://h:x", NULL, "the port in the URL is no number" },
		{ "http://h:65536", NULL, "the port in the URL is no number" },
		{ "http://h:99999999999999999999999", NULL, "the port in the URL is no number" },
		{ "http://h:0", NULL, "the port in the URL is 0" },
		{ "http://h/varve", NULL,
		  "the URL has a path: the API is at the top, so http://h:80 is all" },
		{ "http://h/api/snapshots", NULL, "has a path" },
		{ "http://h?x=y", NULL, "has a path" },
		{ "http://h#x", NULL, "has a path" },
		{ "http://h/?key=secret", NULL, "has a path" },
		{ "http://me:secret@h/", NULL, "a name or password in it" },
		{ "http://me:my/secret@h/", NULL, "a name or password in it" },
		{ "http://h\r\nX: y", NULL, "a space or a line break" },
		{ "http://h", "secret\n", "the key in VARVE_API_KEY has a line break" },
		{ "unix:run/x", NULL, "no unix:///PATH" },
		{ "unix://h/x", NULL, "no unix:///PATH" },
		{ "unix:", NULL, "no unix:///PATH" },
	};
	char longer[ADDRESS_HOST_MAX + 20] = "http://";
	struct error err = ERROR_INIT;
	struct address a;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(address_of_url(&a, cases[i].url, cases[i].key, &err), -EINVAL);
		if (!strstr(error_text(&err), cases[i].text))
			fail_msg("%s: %s", cases[i].url, error_text(&err));
		assert_null(strstr(error_text(&err), "secret"));
	}
	memset(longer + 7, 'h', ADDRESS_HOST_MAX);
	assert_int_equal(address_of_url(&a, longer, NULL, &err), 0);
	longer[7 + ADDRESS_HOST_MAX] = 'h';
	assert_int_equal(address_of_url(&a, longer, NULL, &err), -EINVAL);
	memset(longer, '/', sizeof(longer) - 1);
	assert_int_equal(address_of_socket(&a, longer, &err), -ENAMETOOLONG);
}

/* ---- calls to a daemon that says what a test wants ---- */

static struct served {
	char dir[64], path[80];
	char url[40]; /* where it listens on TCP */
	const char *key;
	int fd;
	pthread_t thread;
	bool joined;
	const char *ask;    /* sent when the head is here, or NULL */
	const char *answer; /* sent when the request is */
	const char *until;  /* that it ends with */
	bool deaf;	    /* reads nothing after the head */
	struct buf got;
} served;

static void say(int fd, const char *text)
{
	if (text)
		assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static bool got(const char *end)
{
	const char *s = buf_cstr(&served.got);
	size_t n = strlen(end);

	return s && served.got.len >= n && strcmp(s + served.got.len - n, end) == 0;
}

static void read_until(int fd, const char *end)
{
	char piece[1024];
	ssize_t n = 1;

	while (!got(end) && n > 0) {
		n = recv(fd, piece, strcmp(end, "\r\n\r\n") == 0 ? 1 : sizeof(piece), 0);
		if (n > 0)
			assert_int_equal(buf_append(&served.got, piece, (size_t)n), 0);
	}
}

static void *serve(void *arg)
{
	int fd = accept(served.fd, NULL, NULL);

	(void)arg;
	if (fd < 0)
		return NULL;
	read_until(fd, "\r\n\r\n");
	say(fd, served.ask);
	if (served.until)
		read_until(fd, served.until);
	say(fd, served.answer);
	if (served.deaf) /* until the client closes */
		shutdown(fd, SHUT_WR),
			poll(&(struct pollfd){ .fd = fd, .events = POLLRDHUP }, 1, -1);
	close(fd);
	return NULL;
}

static void listen_there(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	served = (struct served){ .dir = "/tmp/varve-http.XXXXXX" };
	assert_non_null(mkdtemp(served.dir));
	snprintf(served.path, sizeof(served.path), "%s/sock", served.dir);
	strcpy(address.sun_path, served.path);
	served.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(served.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(served.fd, 1), 0);
}

static void listen_on_tcp(const char *key)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);

	served = (struct served){ .key = key };
	served.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(served.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(served.fd, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(listen(served.fd, 1), 0);
	snprintf(served.url, sizeof(served.url), "http://127.0.0.1:%u",
		 (unsigned)ntohs(address.sin_port));
}

/* After it has been started, `served` is the thread's until the client has been answered. */
static void serve_once(const char *ask, const char *until, const char *answer, bool deaf)
{
	listen_there();
	served.ask = ask;
	served.until = until;
	served.answer = answer;
	served.deaf = deaf;
	assert_int_equal(pthread_create(&served.thread, NULL, serve, NULL), 0);
}

/* Then served.got is ours. */
static void served_join(void)
{
	if (!served.joined)
		pthread_join(served.thread, NULL);
	served.joined = true;
}

static void served_fini(void)
{
	served_join();
	close(served.fd);
	if (served.dir[0]) {
		unlink(served.path);
		rmdir(served.dir);
	}
	buf_fini(&served.got);
}

/* One call; *answer gets what came, "" for none. */
static int call(const struct client_request *rq, char *answer, size_t size, struct error *err)
{
	struct address a;
	json_t *o = NULL;

	*err = (struct error)ERROR_INIT;
	assert_int_equal(served.url[0] ? address_of_url(&a, served.url, served.key, err)
				       : address_of_socket(&a, served.path, err),
			 0);
	struct client *c = client_new(&a);
	assert_non_null(c);
	int r = client_run(c, rq, &o, err);
	char *text = o ? json_dumps(o, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	snprintf(answer, size, "%s", text ? text : "");
	free(text);
	json_decref(o);
	client_free(c);
	return r;
}

static void request_and_answer_are_json(void **state)
{
	struct client_request rq = { .method = "POST", .path = "/api/x?y=%20" };
	struct error err;
	char answer[64];

	(void)state;
	rq.body = json_pack("{s:i}", "a", 1);
	serve_once(NULL, "{\"a\":1}", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"b\":2}",
		   false);
	assert_int_equal(call(&rq, answer, sizeof(answer), &err), 0);
	assert_string_equal(answer, "{\"b\":2}");
	served_join();
	char *key = strstr((char *)buf_cstr(&served.got), "Idempotency-Key: ");
	assert_non_null(key);
	memset(key + 17, 'x', 32); /* another each time */
	assert_string_equal(
		buf_cstr(&served.got),
		"POST /api/x?y=%20 HTTP/1.1\r\nHost: localhost\r\nAccept: "
		"application/json\r\nIdempotency-Key: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"
		"Content-Type: application/json\r\n"
		"Content-Length: 7\r\n\r\n{\"a\":1}");
	served_fini();
	json_decref((json_t *)rq.body);
}

static void what_goes_wrong_is_told(void **state)
{
	static const struct {
		const char *answer;
		int result;
		const char *text;
	} cases[] = {
		{ "HTTP/1.1 404 x\r\nContent-Length: 16\r\n\r\n{\"error\":\"none\"}", -ENOENT,
		  "none" },
		{ "HTTP/1.1 507 x\r\nContent-Length: 0\r\n\r\n", -ENOSPC,
		  "snapshotd answered with status 507" },
		{ "HTTP/1.1 200 x\r\nContent-Length: 1\r\n\r\n{", -EBADMSG,
		  "snapshotd's answer is not JSON" },
		{ "HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n{", -EIO,
		  "snapshotd broke off its answer; its log may say why" },
		{ "", -EIO, "snapshotd broke off its answer; its log may say why" },
		{ "220 mail.example ESMTP\r\n", -EIO, "talking to snapshotd: Protocol error" },
	};
	struct client_request rq = { .method = "GET", .path = "/" };
	struct error err;
	char answer[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		serve_once(NULL, NULL, cases[i].answer, false);
		assert_int_equal(call(&rq, answer, sizeof(answer), &err), cases[i].result);
		assert_string_equal(error_text(&err), cases[i].text);
		served_fini();
	}
	strcpy(served.path, "/nowhere/sock");
	assert_int_equal(call(&rq, answer, sizeof(answer), &err), -ECONNREFUSED);
}

static void over_tcp_the_key_goes_along(void **state)
{
	static const struct {
		const char *key, *answer;
		int result;
		const char *text; /* of the error, before and behind the URL */
		const char *behind;
	} cases[] = {
		{ "secret", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", 0, "", "" },
		{ "secret", "HTTP/1.1 401 x\r\nContent-Length: 13\r\n\r\n{\"error\":\"x\"}",
		  -EACCES, "snapshotd at ", " does not take the key in VARVE_API_KEY" },
		{ NULL, "HTTP/1.1 401 x\r\nContent-Length: 13\r\n\r\n{\"error\":\"x\"}", -EACCES,
		  "snapshotd at ", " wants a key: put it into VARVE_API_KEY" },
		{ "secret", "220 mail.example ESMTP\r\n", -EIO, "what answers at ",
		  " is no snapshotd" },
	};
	struct client_request rq = { .method = "GET", .path = "/api/x" };
	char answer[64], wanted[300];
	struct error err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		listen_on_tcp(cases[i].key);
		served.answer = cases[i].answer;
		assert_int_equal(pthread_create(&served.thread, NULL, serve, NULL), 0);
		assert_int_equal(call(&rq, answer, sizeof(answer), &err), cases[i].result);
		served_join();
		snprintf(wanted, sizeof(wanted),
			 "GET /api/x HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\n%s\r\n",
			 served.url + strlen("http://"),
			 cases[i].key ? "Authorization: Bearer secret\r\n" : "");
		assert_string_equal(buf_cstr(&served.got), wanted);
		snprintf(wanted, sizeof(wanted), "%s%s%s", cases[i].text, served.url,
			 cases[i].behind);
		if (cases[i].result < 0)
			assert_string_equal(error_text(&err), wanted);
		served_fini();
	}
}

static void a_port_that_nobody_listens_on_is_told(void **state)
{
	struct client_request rq = { .method = "GET", .path = "/" };
	char answer[64], wanted[300];
	struct error err;

	(void)state;
	listen_on_tcp("secret");
	close(served.fd);
	assert_int_equal(call(&rq, answer, sizeof(answer), &err), -ECONNREFUSED);
	snprintf(wanted, sizeof(wanted),
		 "cannot reach snapshotd at %s: Connection refused (it serves TCP with --listen)",
		 served.url);
	assert_string_equal(error_text(&err), wanted);
	served = (struct served){ 0 };
}

/* Of a host that is gone keepalive tells; a time for what was sent would end what is not read. */
static void a_connection_may_stand_still(void **state)
{
	int limit = -1, alive = 0, fd;
	socklen_t size = sizeof(int);
	struct error err = ERROR_INIT;
	struct address a;

	(void)state;
	listen_on_tcp(NULL);
	assert_int_equal(address_of_url(&a, served.url, NULL, &err), 0);
	fd = address_connect(&a, NULL, NULL, &err);
	assert_true(fd >= 0);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, &size), 0);
	assert_int_equal(limit, 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &alive, &size), 0);
	assert_int_equal(alive, 1);
	close(fd);
	close(served.fd);
	served = (struct served){ 0 };
}

/* Answers on connections of their own, "" for none. */
static void *serve_several(void *arg)
{
	const char *const *answers_in_turn = arg;

	for (; *answers_in_turn; answers_in_turn++) {
		int fd = accept(served.fd, NULL, NULL);

		assert_int_equal(buf_append_str(&served.got, "<"), 0);
		assert_int_equal(fd < 0, 0);
		for (size_t n = 0; n < 4;) { /* the end of the head */
			char c;

			if (recv(fd, &c, 1, 0) != 1)
				break;
			n = c == "\r\n\r\n"[n] ? n + 1 : c == '\r';
			assert_int_equal(buf_append(&served.got, &c, 1), 0);
		}
		say(fd, *answers_in_turn);
		close(fd);
	}
	return NULL;
}

/* Which calls were made, by their keys: "aab", '-' for none. */
static void keys_of(char *out, size_t size)
{
	char keys[8][33];
	size_t n = 0, at = 0;

	for (char *s = strtok((char *)buf_cstr(&served.got), "<"); s && at + 1 < size;
	     s = strtok(NULL, "<")) {
		const char *key = strstr(s, "Idempotency-Key: ");
		size_t i = 0;

		if (!key) {
			out[at++] = '-';
			continue;
		}
		snprintf(keys[n], sizeof(keys[n]), "%.32s", key + 17);
		while (strcmp(keys[i], keys[n]) != 0)
			i++;
		n += i == n;
		out[at++] = (char)('a' + i);
	}
	out[at] = '\0';
}

static int events_seen, agains_seen;

static void count_event(void *arg, const char *type, const json_t *data)
{
	(void)arg;
	(void)type;
	(void)data;
	events_seen++;
}

static void count_again(void *arg)
{
	(void)arg;
	agains_seen++;
}

#define EVENTS                                                                            \
	"HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked" \
	"\r\n\r\n"
#define KNOWS_EVENTS                                                                   \
	"HTTP/1.1 200 x\r\nIdempotency-Keys: 1\r\nContent-Type: text/event-stream\r\n" \
	"Transfer-Encoding: chunked\r\n\r\n"
#define ONE_EVENT "19\r\nevent: progress\ndata: 1\n\n\r\n"
#define SOON "HTTP/1.1 503 x\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}"
#define GOOD "HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n{}"
#define KNOWS "HTTP/1.1 200 x\r\nidempotency-keys: 1\r\nContent-Length: 2\r\n\r\n{}"
#define KNOWS_HALF "HTTP/1.1 200 x\r\nidempotency-keys: 1\r\nContent-Length: 2\r\n\r\n{"

static void a_call_that_broke_off_is_made_again(void **state)
{
	static const struct {
		const char *method;
		bool events, again, upload;
		const char *answers[7];
		int result;
		const char *keys;
	} cases[] = {
		{ "GET", false, false, false, { "", GOOD }, 0, "--" },
		/* What changes something asks first whether the daemon knows keys. */
		{ "POST", false, false, false, { KNOWS, "", "", "HTTP/1.1 2", GOOD }, 0, "-aaaa" },
		{ "POST", false, false, false, { KNOWS, "", SOON, GOOD }, 0, "-aaa" },
		{ "POST", true, false, false, { KNOWS, KNOWS_EVENTS, GOOD }, 0, "-aa" },
		{ "POST", true, true, false, { KNOWS, KNOWS_EVENTS ONE_EVENT, GOOD }, 0, "-aa" },
		{ "POST", true, false, false, { KNOWS, KNOWS_EVENTS ONE_EVENT }, -EIO, "-a" },
		{ "DELETE", false, false, false, { "", KNOWS_HALF, GOOD }, 0, "-aa" },
		/* An older daemon does not: what it was sent is not sent again. */
		{ "POST", false, false, false, { GOOD, "" }, -EIO, "-a" },
		{ "PATCH", false, false, false, { "", EVENTS }, -EIO, "-a" },
		{ "POST", true, true, false, { GOOD, EVENTS ONE_EVENT }, -EIO, "-a" },
		{ "POST", false, false, false, { KNOWS, SOON, "" }, -EIO, "-aa" },
		{ "POST", false, false, false, { GOOD, SOON, GOOD }, 0, "-aa" },
		{ "POST", false, false, true, { "" }, -EIO, "-" },
		{ "GET",
		  false,
		  false,
		  false,
		  { "HTTP/1.1 503 x\r\nRetry-After: 5\r\nContent-Length: 2\r\n\r\n{}" },
		  -EIO,
		  "-" },
	};
	pthread_t thread;
	struct error err;
	char answer[64], keys[8];

	(void)state;
	unsetenv("VARVE_RETRY_SECONDS");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct client_request rq = { .method = cases[i].method, .path = "/" };

		events_seen = agains_seen = 0;
		if (cases[i].events)
			rq.on_event = count_event;
		if (cases[i].again)
			rq.on_again = count_again;
		rq.upload = cases[i].upload;
		rq.upload_fd = -1;
		listen_there();
		assert_int_equal(pthread_create(&thread, NULL, serve_several,
						(void *)(uintptr_t)cases[i].answers),
				 0);
		assert_int_equal(call(&rq, answer, sizeof(answer), &err), cases[i].result);
		pthread_join(thread, NULL);
		keys_of(keys, sizeof(keys));
		assert_string_equal(keys, cases[i].keys);
		assert_int_equal(agains_seen, cases[i].again && cases[i].result == 0);
		served.joined = true;
		served_fini();
	}
	setenv("VARVE_RETRY_SECONDS", "0", 1);
}

static void seconds_are_a_number_of_some_size(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
		bool always;
	} cases[] = {
		{ "0", 0, true },	   { "1.5", 1500, true },	{ "86400", 86400000, true },
		{ "86401", 10000, false }, { "-1", 10000, false },	{ "nan", 10000, false },
		{ "inf", 10000, false },   { "a while", 10000, false }, { "5s", 10000, false },
		{ "", 10000, false },	   { " ", 10000, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		setenv("VARVE_RETRY_SECONDS", cases[i].text, 1);
		struct retry_policy p = retry_policy_get();
		assert_int_equal(p.for_ms, cases[i].ms);
		assert_int_equal(p.always, cases[i].always);
	}
	setenv("VARVE_RETRY_SECONDS", "0", 1);
}

static void wait_past(const struct retry *r)
{
	while (monotonic_ms() <= r->end_ms)
		usleep(1000);
}

/* The time is from when none answers: a daemon that was there begins it anew, but not for ever. */
static void a_daemon_that_was_there_gets_the_whole_time(void **state)
{
	const struct retry_policy p = { .for_ms = 1 };
	struct retry_peer d = { .reached = false };
	struct retry r = { 0 };

	(void)state;
	assert_false(retry_may(&p, &d, RETRY_NOT_REACHED, "GET"));
	assert_true(retry_next(&r, &p, RETRY_NOT_REACHED) > 0);
	wait_past(&r);
	for (int i = 0; i < RETRY_BREAKS_MAX; i++) {
		assert_true(retry_next(&r, &p, RETRY_BROKEN) > 0);
		wait_past(&r);
	}
	assert_int_equal(retry_next(&r, &p, RETRY_BROKEN), -1);
	assert_int_equal(retry_next(&r, &p, RETRY_NOT_REACHED), -1);
	for (int i = 0; i < 3; i++) { /* still under way */
		assert_true(retry_next(&r, &p, RETRY_PENDING) > 0);
		wait_past(&r);
	}
	assert_int_equal(retry_next(&r, &p, RETRY_UNAVAILABLE), -1);
	r.pending_end_ms = monotonic_ms();
	assert_int_equal(retry_next(&r, &p, RETRY_PENDING), -1);

	assert_true(retry_may(&p, &d, RETRY_BROKEN, "GET"));
	assert_true(retry_may(&p, &d, RETRY_NOT_REACHED, "POST"));
	assert_false(retry_may(&p, &d, RETRY_BROKEN, "POST"));
	assert_int_equal(retry_next(&r, &(struct retry_policy){ .for_ms = 0 }, RETRY_PENDING), -1);
}

struct upload {
	size_t size, at;   /* bytes */
	bool cancel;	   /* ask to end the call when looked at */
	int fail;	   /* at the end */
	uint64_t reported; /* by on_sent */
};

static ssize_t on_read(void *arg, void *data, size_t size)
{
	struct upload *u = arg;
	size_t n = MIN(size, u->size - u->at);

	memset(data, 'u', n);
	u->at += n;
	return (ssize_t)n;
}

static void on_sent(void *arg, uint64_t bytes)
{
	((struct upload *)arg)->reported = bytes;
}

static int on_end(void *arg)
{
	return ((struct upload *)arg)->fail;
}

static bool on_look(void *arg)
{
	return ((struct upload *)arg)->cancel;
}

static struct client_request upload_of(struct upload *u)
{
	return (struct client_request){ .method = "POST",
					.path = "/",
					.upload = true,
					.upload_type = "text/plain",
					.on_read = on_read,
					.on_sent = on_sent,
					.on_end = on_end,
					.cancelled = on_look,
					.arg = u };
}

static const char asking[] = "HTTP/1.1 100 Continue\r\n\r\n";
static const char last_chunk[] = "\r\n00000000\r\n\r\n";
static const char created[] = "HTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\n7";
static const char refused[] = "HTTP/1.1 409 x\r\nContent-Length: 16\r\n\r\n{\"error\":\"full\"}";

static void bodies_are_sent_when_asked_for_or_after_a_second(void **state)
{
	static const char *const ask[] = { asking, NULL };
	struct error err;
	char answer[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ask); i++) {
		struct upload u = { .size = 3000000 };
		struct client_request rq = upload_of(&u);

		serve_once(ask[i], last_chunk, created, false);
		assert_int_equal(call(&rq, answer, sizeof(answer), &err), 0);
		assert_string_equal(answer, "7");
		assert_int_equal(u.reported, u.size);
		served_join();
		assert_true(served.got.len > u.size);
		served_fini();
	}
}

static void refusal_ends_a_body(void **state)
{
	static const char *const ask[] = { NULL, asking };
	struct error err;
	char answer[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ask); i++) {
		struct upload u = { .size = SIZE_MAX };
		struct client_request rq = upload_of(&u);

		/* Before any of it, and in the middle of it, which is not read. */
		serve_once(ask[i], i ? "uuu" : NULL, refused, i);
		assert_int_equal(call(&rq, answer, sizeof(answer), &err), -EEXIST);
		assert_string_equal(error_text(&err), "full");
		assert_true(i || u.at == 0);
		served_fini();
	}
}

/* What the daemon itself has said is said. */
static void only_for_want_of_a_daemon_is_a_call_made_again(void **state)
{
	static const struct {
		const char *answer;
		int result;
		bool again;
	} cases[] = {
		{ "", -EIO, true },
		{ EVENTS, -EIO, true },
		{ EVENTS ONE_EVENT "0\r\n\r\n", -EIO, true },
		{ SOON, -EIO, true },
		{ EVENTS "25\r\nevent: error\ndata: {\"error\":\"lost\"}\n\n\r\n0\r\n\r\n", -EIO,
		  false },
		{ "HTTP/1.1 500 x\r\nContent-Length: 2\r\n\r\n{}", -EIO, false },
		{ refused, -EEXIST, false },
		{ created, 0, false },
	};
	static const char *const seconds[] = { "0", "1" };

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		struct upload u = { .size = 0 };
		struct client_request rq = upload_of(&u);
		struct error err = ERROR_INIT;
		struct address a;

		setenv("VARVE_RETRY_SECONDS", seconds[i % 2], 1);
		rq.on_event = count_event;
		serve_once(NULL, NULL, cases[i / 2].answer, false);
		assert_int_equal(address_of_socket(&a, served.path, &err), 0);
		struct client *c = client_new(&a);
		assert_non_null(c);
		assert_int_equal(client_run(c, &rq, NULL, &err), cases[i / 2].result);
		assert_int_equal(client_may_again(c), cases[i / 2].again && i % 2);
		client_free(c);
		served_fini();
	}
	setenv("VARVE_RETRY_SECONDS", "0", 1);
}

static void a_body_that_fails_is_not_ended(void **state)
{
	struct upload u = { .size = 10, .fail = -ECHILD };
	struct client_request rq = upload_of(&u);
	struct error err;
	char answer[64];

	(void)state;
	serve_once(asking, last_chunk, NULL, false);
	assert_int_equal(call(&rq, answer, sizeof(answer), &err), -ECHILD);
	assert_string_equal(error_text(&err), "reading the input: No child processes");
	served_join();
	assert_false(got(last_chunk));
	served_fini();
}

static void calls_can_be_ended(void **state)
{
	struct upload u = { .cancel = true };
	struct client_request rq = {
		.method = "GET", .path = "/", .cancelled = on_look, .arg = &u
	};
	struct error err;
	char answer[64];

	(void)state;
	serve_once(NULL, NULL, NULL, false);
	assert_int_equal(call(&rq, answer, sizeof(answer), &err), -EINTR);
	assert_string_equal(error_text(&err), "interrupted");
	served_fini();
}

static int to_closed_pipe(void *arg, const void *data, size_t len)
{
	return write(*(int *)arg, data, len) < 0 ? -errno : 0;
}

static void a_closed_pipe_is_a_failure_and_no_signal(void **state)
{
	int pipe_fds[2];
	struct client_request rq = { .method = "GET", .path = "/", .on_data = to_closed_pipe };
	struct error err;
	char answer[64];
	sigset_t now;

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	close(pipe_fds[0]);
	rq.arg = &pipe_fds[1];
	serve_once(NULL, NULL, created, false);
	assert_int_equal(call(&rq, answer, sizeof(answer), &err), -EPIPE);
	assert_string_equal(error_text(&err), "writing the output: Broken pipe");
	sigpending(&now);
	assert_false(sigismember(&now, SIGPIPE));
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	assert_false(sigismember(&now, SIGPIPE));
	close(pipe_fds[1]);
	served_fini();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_parsed_whole_and_byte_by_byte),
		cmocka_unit_test(endless_heads_are_refused),
		cmocka_unit_test(urls_name_a_host_and_a_port),
		cmocka_unit_test(what_is_wrong_with_a_url_is_told_without_secrets),
		cmocka_unit_test(request_and_answer_are_json),
		cmocka_unit_test(over_tcp_the_key_goes_along),
		cmocka_unit_test(a_port_that_nobody_listens_on_is_told),
		cmocka_unit_test(a_connection_may_stand_still),
		cmocka_unit_test(what_goes_wrong_is_told),
		cmocka_unit_test(a_call_that_broke_off_is_made_again),
		cmocka_unit_test(seconds_are_a_number_of_some_size),
		cmocka_unit_test(a_daemon_that_was_there_gets_the_whole_time),
		cmocka_unit_test(bodies_are_sent_when_asked_for_or_after_a_second),
		cmocka_unit_test(refusal_ends_a_body),
		cmocka_unit_test(only_for_want_of_a_daemon_is_a_call_made_again),
		cmocka_unit_test(a_body_that_fails_is_not_ended),
		cmocka_unit_test(calls_can_be_ended),
		cmocka_unit_test(a_closed_pipe_is_a_failure_and_no_signal),
	};

	setenv("VARVE_RETRY_SECONDS", "0", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
