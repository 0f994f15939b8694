/*
 * http_script.h - a server on loopback whose answers a test writes: a function is given each
 * request, as text, and how many there were before. A thread a connection; connections are kept.
 */
#ifndef VARVE_TEST_HTTP_SCRIPT_H
#define VARVE_TEST_HTTP_SCRIPT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/buf.h"

struct answer {
	struct buf text;   /* all that is sent */
	unsigned delay_ms; /* before it */
	bool cut;	   /* close the connection after it, abruptly */
};

/* Fill *a. Called by the connections' threads, one at a time. head: with its empty line. */
typedef void (*script_fn)(const char *head, const char *body, unsigned n, struct answer *a);

static struct script_server {
	int fd, port;
	pthread_t thread;
	pthread_mutex_t lock;
	script_fn fn;		 /* guarded by lock, as all below */
	unsigned n, connections; /* requests and connections so far */
	unsigned open;
	_Atomic bool stopping;
} script = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* A whole answer with a status line, a date of now, headers and a body. */
static inline void answer_http(struct answer *a, const char *status, const char *headers,
			       const char *body)
{
	char date[64];
	time_t t = time(NULL);
	struct tm tm;

	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&t, &tm));
	if (buf_printf(
		    &a->text, "HTTP/1.1 %s\r\n%s%s%s%sContent-Length: %zu\r\n\r\n%s", status,
		    strstr(headers, "Date:") ? "" : "Date: ", strstr(headers, "Date:") ? "" : date,
		    strstr(headers, "Date:") ? "" : "\r\n", headers, strlen(body), body) < 0)
		abort();
}

static inline void answer_error(struct answer *a, const char *status, const char *code)
{
	char xml[200];

	snprintf(xml, sizeof(xml), "<Error><Code>%s</Code><Message>so it is</Message></Error>",
		 code);
	answer_http(a, status, "Content-Type: application/xml\r\n", xml);
}

/* Read one request; false at the end of the connection. */
static inline bool script_read(int fd, struct buf *in, size_t *head_len, size_t *body_len)
{
	*head_len = 0;
	for (;;) {
		const char *s = buf_cstr(in), *end = s ? strstr(s, "\r\n\r\n") : NULL;
		if (end && !*head_len) {
			const char *len = strcasestr(s, "\r\nContent-Length:");
			*head_len = (size_t)(end - s) + 4;
			*body_len = len && len < end ? strtoul(len + 17, NULL, 10) : 0;
		}
		if (*head_len && in->len >= *head_len + *body_len)
			return true;
		if (buf_reserve(in, 65537) < 0)
			return false;
		ssize_t n = recv(fd, in->data + in->len, 65536, 0);
		if (n <= 0)
			return false;
		in->len += (size_t)n;
	}
}

static inline void script_send(int fd, const struct answer *a)
{
	for (size_t at = 0; at < a->text.len;) {
		ssize_t n = send(fd, a->text.data + at, a->text.len - at, MSG_NOSIGNAL);
		if (n <= 0)
			return;
		at += (size_t)n;
	}
}

static inline void *script_connection(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct buf in = BUF_INIT;
	size_t head_len, body_len = 0;
	bool cut = false;

	while (!cut && script_read(fd, &in, &head_len, &body_len)) {
		struct answer a = { 0 };
		char *head = strndup((char *)in.data, head_len);
		char *body = strndup((char *)in.data + head_len, body_len);

		pthread_mutex_lock(&script.lock);
		script.fn(head, body, script.n++, &a);
		pthread_mutex_unlock(&script.lock);
		free(head);
		free(body);
		memmove(in.data, in.data + head_len + body_len, in.len - head_len - body_len);
		in.len -= head_len + body_len;
		for (unsigned ms = 0; ms < a.delay_ms && !script.stopping; ms += 10)
			usleep(10000);
		script_send(fd, &a);
		cut = a.cut;
		buf_fini(&a.text);
	}
	if (cut)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 },
			   sizeof(struct linger));
	close(fd);
	buf_fini(&in);
	pthread_mutex_lock(&script.lock);
	script.open--;
	pthread_mutex_unlock(&script.lock);
	return NULL;
}

static inline void *script_accept(void *arg)
{
	int fd;

	(void)arg;
	while ((fd = accept(script.fd, NULL, NULL)) >= 0) {
		pthread_t t;

		pthread_mutex_lock(&script.lock);
		script.connections++;
		script.open++;
		pthread_mutex_unlock(&script.lock);
		if (pthread_create(&t, NULL, script_connection, (void *)(intptr_t)fd) != 0)
			abort();
		pthread_detach(t);
	}
	return NULL;
}

static inline void script_start(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);

	script.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (script.fd < 0 || bind(script.fd, (struct sockaddr *)&a, len) < 0 ||
	    listen(script.fd, 64) < 0 || getsockname(script.fd, (struct sockaddr *)&a, &len) < 0)
		abort();
	script.port = ntohs(a.sin_port);
	if (pthread_create(&script.thread, NULL, script_accept, NULL) != 0)
		abort();
}

/* After the clients have closed their connections. */
static inline void script_stop(void)
{
	script.stopping = true;
	shutdown(script.fd, SHUT_RDWR);
	close(script.fd);
	pthread_join(script.thread, NULL);
	for (unsigned open = 1; open; usleep(1000)) {
		pthread_mutex_lock(&script.lock);
		open = script.open;
		pthread_mutex_unlock(&script.lock);
	}
}

static inline void script_set(script_fn fn)
{
	pthread_mutex_lock(&script.lock);
	script.fn = fn;
	script.n = script.connections = 0;
	pthread_mutex_unlock(&script.lock);
}

static inline unsigned script_requests(void)
{
	pthread_mutex_lock(&script.lock);
	unsigned n = script.n;
	pthread_mutex_unlock(&script.lock);
	return n;
}

#endif
