#include "snapshotd/http/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define FRAME_HEAD 4
#define FRAME_MAX (256u << 10)

struct upload {
	struct http_request *rq;
	int to[2];   /* the program's stdin: read end, write end */
	int stop[2]; /* its write end is closed when the program has ended */
	bool whole;  /* the thread's until it is joined */
	pthread_t thread;
	uint8_t frame[FRAME_HEAD + FRAME_MAX];
};

/* Bytes for the next frame; 0 at the end, -1 when there is nobody to take them. */
static ssize_t body_read(struct upload *u)
{
	struct pollfd p[] = { { .fd = http_body_fd(u->rq), .events = POLLIN },
			      { .fd = u->stop[0], .events = POLLIN } };

	for (;;) {
		ssize_t n;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return -1;
		if (p[1].revents)
			return -1;
		if (!p[0].revents)
			continue;
		n = read(p[0].fd, u->frame + FRAME_HEAD, FRAME_MAX);
		if (n >= 0 || errno != EINTR)
			return n;
	}
}

/* Until the program takes more. False: it has ended; another may hold its stdin still. */
static bool wait_taker(struct upload *u)
{
	struct pollfd p[] = { { .fd = u->to[1], .events = POLLOUT },
			      { .fd = u->stop[0], .events = POLLIN } };

	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return false;
	return !p[1].revents;
}

/* The n bytes at hand; 0: the last frame. */
static bool frame_write(struct upload *u, size_t n)
{
	const uint8_t *p = u->frame;
	size_t left = FRAME_HEAD + n;

	for (int i = 0; i < FRAME_HEAD; i++)
		u->frame[i] = (uint8_t)(n >> (8 * i));
	while (left > 0) {
		ssize_t k = write(u->to[1], p, left);

		if (k < 0 && errno == EAGAIN && wait_taker(u))
			continue;
		if (k < 0)
			return false; /* EPIPE: the program has ended */
		p += k;
		left -= (size_t)k;
	}
	return true;
}

static void *upload_main(void *arg)
{
	struct upload *u = arg;
	ssize_t n;

	pthread_setname_np(pthread_self(), "varve-upload");
	while ((n = body_read(u)) > 0)
		if (!frame_write(u, (size_t)n))
			break;
	u->whole = n == 0 && http_body_complete(u->rq) && frame_write(u, 0);
	close(u->to[1]);
	u->to[1] = -1;
	return NULL;
}

static void upload_free(struct upload *u)
{
	int fds[] = { u->to[0], u->to[1], u->stop[0], u->stop[1] };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(u);
}

int upload_start(struct http_request *rq, struct upload **out, int *out_fd, struct error *err)
{
	struct upload *u = calloc(1, sizeof(*u));
	int rc = 0;

	if (!u)
		return error_set(err, -ENOMEM, "out of memory");
	u->rq = rq;
	u->to[0] = u->to[1] = u->stop[0] = u->stop[1] = -1;
	if (pipe2(u->to, O_CLOEXEC) < 0 || pipe2(u->stop, O_CLOEXEC) < 0)
		rc = error_set_errno(err, -errno, "cannot make a pipe");
	else if (fcntl(u->to[1], F_SETFL, O_NONBLOCK) < 0)
		rc = error_set_errno(err, -errno, "cannot set up a pipe");
	else if ((rc = -pthread_create(&u->thread, NULL, upload_main, u)) < 0)
		error_set_errno(err, rc, "cannot start a thread");
	if (rc < 0) {
		upload_free(u);
		return rc;
	}
	*out = u;
	*out_fd = u->to[0];
	return 0;
}

bool upload_finish(struct upload *u)
{
	bool whole;

	close(u->to[0]);
	close(u->stop[1]);
	u->to[0] = u->stop[1] = -1;
	pthread_join(u->thread, NULL);
	whole = u->whole;
	upload_free(u);
	return whole;
}
