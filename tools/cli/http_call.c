/*
 * http_call.c - the connection is watched for the answer while the body is sent, for a daemon may
 * refuse what it has not read. It is read first, since it may have ended with an answer in it.
 */
#include "tools/cli/http_call.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/clock.h"

#define PIECE_SIZE ((size_t)256 << 10) /* read or sent at once */
#define CHUNK_HEAD 10		       /* bytes of a chunk's size, and its line's end */
#define LOOK_MS 1000		       /* between two looks at `cancelled` */
#define ASKED_MS 1000		       /* waited for the daemon to ask for the body */

struct exchange {
	const struct address *address;
	const struct http_call *call;
	struct http_answer *answer;
	int fd;
	char *piece;	/* PIECE_SIZE */
	struct buf out; /* to be sent */
	size_t sent;	/* of it */
	bool more;	/* on_read has more */
	bool waiting;	/* for the daemon to ask for it, until then: */
	int64_t ask_end_ms;
};

static bool is_cancelled(const struct exchange *x)
{
	return x->call->cancelled && x->call->cancelled(x->call->arg);
}

static int put_head(struct exchange *x)
{
	const struct http_call *call = x->call;
	int r = buf_printf(&x->out, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\n", call->method,
			   call->path, address_host(x->address), call->accept);

	if (r == 0 && x->address->key)
		r = buf_printf(&x->out, "Authorization: Bearer %s\r\n", x->address->key);
	if (r == 0 && call->key)
		r = buf_printf(&x->out, "Idempotency-Key: %s\r\n", call->key);
	if (r == 0 && call->type)
		r = buf_printf(&x->out, "Content-Type: %s\r\n", call->type);
	if (r == 0 && call->body)
		r = buf_printf(&x->out, "Content-Length: %zu\r\n", strlen(call->body));
	else if (r == 0 && call->on_read)
		r = buf_append_str(&x->out,
				   "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n");
	if (r == 0)
		r = buf_append_str(&x->out, "\r\n");
	if (r == 0 && call->body)
		r = buf_append_str(&x->out, call->body);
	x->more = x->waiting = !call->body && call->on_read;
	x->ask_end_ms = monotonic_ms() + ASKED_MS;
	return r;
}

static void send_no_more(struct exchange *x)
{
	buf_clear(&x->out);
	x->sent = 0;
	x->more = x->waiting = false;
}

/* The next chunk of the body; the last is empty. */
static int put_chunk(struct exchange *x)
{
	char head[24];

	buf_clear(&x->out);
	x->sent = 0;
	int r = buf_reserve(&x->out, CHUNK_HEAD + PIECE_SIZE + 4);
	if (r < 0)
		return r;
	ssize_t n = x->call->on_read(x->call->arg, x->out.data + CHUNK_HEAD, PIECE_SIZE);
	if (n < 0)
		return (int)n;
	/* Zeros before a size are part of it. */
	snprintf(head, sizeof(head), "%08zx\r\n", MIN((size_t)n, PIECE_SIZE));
	memcpy(x->out.data, head, CHUNK_HEAD);
	x->out.len = CHUNK_HEAD + (size_t)n;
	x->more = n > 0;
	return buf_append_str(&x->out, "\r\n");
}

static int send_some(struct exchange *x)
{
	ssize_t n = send(x->fd, x->out.data + x->sent, x->out.len - x->sent,
			 MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n >= 0) {
		x->sent += (size_t)n;
	} else if (errno == EPIPE || errno == ECONNRESET) {
		send_no_more(x); /* there may be an answer all the same */
	} else if (errno != EAGAIN && errno != EINTR) {
		return -errno;
	}
	return 0;
}

static int read_some(struct exchange *x)
{
	ssize_t n = recv(x->fd, x->piece, PIECE_SIZE, MSG_DONTWAIT);
	int r;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0) {
		send_no_more(x);
		return http_answer_end(x->answer);
	}
	r = http_answer_feed(x->answer, x->piece, (size_t)n);
	if (x->answer->asked || x->answer->status)
		x->waiting = false;
	if (x->answer->status >= 400)
		send_no_more(x);
	return r;
}

/* One wait, and what it brought. */
static int go_on(struct exchange *x)
{
	struct pollfd p = { .fd = x->fd };
	int timeout = LOOK_MS, r = 0;

	if (x->sent < x->out.len)
		p.events |= POLLOUT;
	if (!x->answer->whole)
		p.events |= POLLIN;
	if (x->waiting) {
		int64_t left = x->ask_end_ms - monotonic_ms();
		timeout = (int)MIN(MAX(left, 0), LOOK_MS);
		x->waiting = left > 0;
	}
	if (poll(&p, 1, timeout) < 0)
		return errno == EINTR ? 0 : -errno;
	if (!x->answer->whole && p.revents & (POLLIN | POLLHUP | POLLERR))
		r = read_some(x);
	if (r == 0 && x->sent < x->out.len && p.revents & (POLLOUT | POLLHUP | POLLERR))
		r = send_some(x);
	return r;
}

static int converse(struct exchange *x)
{
	int r = put_head(x);

	while (r == 0) {
		if (is_cancelled(x))
			return -EINTR;
		if (x->sent == x->out.len && x->more && !x->waiting)
			r = put_chunk(x);
		if (r == 0 && x->answer->whole && x->sent == x->out.len && !x->more)
			break;
		if (r == 0)
			r = go_on(x);
	}
	return r;
}

int http_call_run(const struct address *address, const struct http_call *call,
		  struct http_answer *answer, struct error *err)
{
	struct exchange x = { .address = address, .call = call, .answer = answer, .fd = -1 };
	int r = 0;

	x.piece = malloc(PIECE_SIZE);
	if (x.piece)
		x.fd = r = address_connect(address, call->cancelled, call->arg, err);
	else
		r = -ENOMEM;
	if (r >= 0)
		r = converse(&x);
	if (x.fd >= 0)
		close(x.fd);
	free(x.piece);
	buf_fini(&x.out);
	return r;
}
