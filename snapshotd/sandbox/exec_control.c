#include "snapshotd/sandbox/exec_control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshotd/container/exec_keep.h"
#include "snapshotd/container/sealed_fd.h"

#define FEED_STEP (64u << 10)
#define CANCEL_POLL_MS 200
#define SIGNAL_MAX 64

struct exec_control {
	char id[SNAPSHOT_ID_SIZE];
	int signals[2]; /* bytes, each a signal's number; the read end is closed at the end */
	int input;	/* what the program reads, or -1 */
	TAILQ_ENTRY(exec_control) link; /* guarded by the list's lock */

	pthread_mutex_t lock;
	/* Guarded by lock. */
	unsigned users;
	bool ended;
	int feed;	       /* the write end of input; -1: none, or somebody has taken it */
	struct keeper *keeper; /* that has feed, too; or NULL */
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int exec_control_new(const char *id, struct exec_control **out, struct error *err)
{
	struct exec_control *ec = calloc(1, sizeof(*ec));

	if (!ec)
		return error_set(err, -ENOMEM, "out of memory");
	if (pipe2(ec->signals, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(ec);
		return error_set_errno(err, -errno, "cannot make a pipe");
	}
	if (id)
		snprintf(ec->id, sizeof(ec->id), "%s", id);
	else
		id_random(ec->id);
	ec->input = ec->feed = -1;
	ec->users = 1;
	pthread_mutex_init(&ec->lock, NULL);
	*out = ec;
	return 0;
}

#define KEPT_INPUT EXEC_CONTROL_PREFIX "%s"

bool exec_control_keep(struct exec_control *ec, struct keeper *keeper)
{
	char name[KEEPER_NAME_MAX + 1];
	bool has_name;

	snprintf(name, sizeof(name), KEPT_INPUT, ec->id);
	pthread_mutex_lock(&ec->lock);
	has_name = ec->feed < 0 || exec_keep_take_name();
	if (ec->feed >= 0 && has_name) {
		if (keeper_put(keeper, name, ec->feed) == 0)
			ec->keeper = keeper;
		else
			exec_keep_give_name();
	}
	pthread_mutex_unlock(&ec->lock);
	return has_name;
}

/* lock held, or nobody else's. */
static void give_up_input(struct exec_control *ec)
{
	char name[KEEPER_NAME_MAX + 1];

	if (!ec->keeper)
		return;
	snprintf(name, sizeof(name), KEPT_INPUT, ec->id);
	keeper_drop(ec->keeper, name);
	exec_keep_give_name();
	ec->keeper = NULL;
}

int exec_control_revive(struct keeper *keeper, const char *id, struct exec_control **out,
			struct error *err)
{
	char name[KEEPER_NAME_MAX + 1];
	int rc = exec_control_new(id, out, err);

	if (rc < 0)
		return rc;
	snprintf(name, sizeof(name), KEPT_INPUT, (*out)->id);
	(*out)->feed = keeper_take(keeper, name);
	if ((*out)->feed >= 0) {
		(*out)->keeper = keeper;
		exec_keep_add_name();
	}
	return 0;
}

void exec_control_hold(struct exec_control *ec)
{
	pthread_mutex_lock(&ec->lock);
	ec->users++;
	pthread_mutex_unlock(&ec->lock);
}

void exec_control_put(struct exec_control *ec)
{
	bool last;

	if (!ec)
		return;
	pthread_mutex_lock(&ec->lock);
	last = --ec->users == 0;
	pthread_mutex_unlock(&ec->lock);
	if (!last)
		return;
	close_fd(&ec->signals[0]);
	close_fd(&ec->signals[1]);
	close_fd(&ec->input);
	close_fd(&ec->feed);
	pthread_mutex_destroy(&ec->lock);
	free(ec);
}

const char *exec_control_id(const struct exec_control *ec)
{
	return ec->id;
}

int exec_control_stdin_fd(const struct exec_control *ec)
{
	return ec->input;
}

int exec_control_signal_fd(const struct exec_control *ec)
{
	return ec->signals[0];
}

int exec_control_give_input(struct exec_control *ec, const void *data, size_t len,
			    struct error *err)
{
	int fd;

	if (len > EXEC_STDIN_MAX)
		return error_set(err, -EINVAL, "stdin has more than %u bytes: use openStdin",
				 EXEC_STDIN_MAX);
	fd = sealed_fd("varve-stdin", data, len);
	if (fd < 0)
		return error_set_errno(err, fd, "cannot keep the program's input");
	ec->input = fd;
	return 0;
}

int exec_control_open_input(struct exec_control *ec, struct error *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set_errno(err, -errno, "cannot make a pipe");
	/* Only our end: the program's is as it expects. */
	if (fcntl(fds[1], F_SETFL, O_NONBLOCK) < 0) {
		int rc = -errno;

		close(fds[0]);
		close(fds[1]);
		return error_set_errno(err, rc, "cannot set up a pipe");
	}
	ec->input = fds[0];
	ec->feed = fds[1];
	return 0;
}

/* Those who feed it learn of the end by the pipe of signals, which nobody reads any more. */
void exec_control_end(struct exec_control *ec)
{
	pthread_mutex_lock(&ec->lock);
	ec->ended = true;
	give_up_input(ec);
	close_fd(&ec->feed);
	close_fd(&ec->input);
	close_fd(&ec->signals[0]);
	pthread_mutex_unlock(&ec->lock);
}

static int end_error(const struct exec_control *ec, struct error *err)
{
	return error_set(err, -ENOTCONN, "exec %s has ended", ec->id);
}

int exec_control_signal(struct exec_control *ec, int sig, struct error *err)
{
	const uint8_t byte = (uint8_t)sig;
	int rc = 0;

	pthread_mutex_lock(&ec->lock);
	if (ec->ended)
		rc = end_error(ec, err);
	else if (write(ec->signals[1], &byte, 1) != 1)
		rc = error_set(err, -EAGAIN, "too many signals wait for exec %s", ec->id);
	pthread_mutex_unlock(&ec->lock);
	return rc;
}

void exec_control_wake(struct exec_control *ec)
{
	const uint8_t none = 0;

	pthread_mutex_lock(&ec->lock);
	if (!ec->ended) /* where there is no room for it, others wake it */
		(void)!write(ec->signals[1], &none, 1);
	pthread_mutex_unlock(&ec->lock);
}

static int can_feed_locked(const struct exec_control *ec, struct error *err)
{
	if (ec->ended)
		return end_error(ec, err);
	if (ec->feed < 0)
		return error_set(err, -EBUSY,
				 "the input of exec %s is not open, or has been sent already",
				 ec->id);
	return 0;
}

int exec_control_can_feed(struct exec_control *ec, struct error *err)
{
	int rc;

	pthread_mutex_lock(&ec->lock);
	rc = can_feed_locked(ec, err);
	pthread_mutex_unlock(&ec->lock);
	return rc;
}

struct feed {
	struct exec_control *ec;
	int from, to;
	bool (*cancelled)(void *arg);
	void *arg;
};

/* 0: fd is ready; 1: the program has ended, or closed its input. */
static int feed_wait(const struct feed *f, int fd, short events)
{
	/* Of a pipe's write end without a reader POLLERR is told, unasked. */
	struct pollfd p[] = { { .fd = fd, .events = events },
			      { .fd = f->ec->signals[1] },
			      { .fd = f->to } };

	for (;;) {
		int n = poll(p, ARRAY_SIZE(p), CANCEL_POLL_MS);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && (p[1].revents || (p[2].revents & POLLERR)))
			return 1;
		if (n > 0 && p[0].revents)
			return 0;
		if (f->cancelled && f->cancelled(f->arg))
			return -ECANCELED;
	}
}

static int feed_write(const struct feed *f, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(f->to, data, len);

		if (n < 0 && errno == EAGAIN) {
			int rc = feed_wait(f, f->to, POLLOUT);

			if (rc)
				return rc;
			continue;
		}
		if (n < 0 && errno != EINTR)
			return errno == EPIPE ? 1 : -errno;
		data += MAX(n, 0);
		len -= (size_t)MAX(n, 0);
	}
	return 0;
}

static int feed_all(const struct feed *f)
{
	char *room = malloc(FEED_STEP);
	int rc = room ? 0 : -ENOMEM;

	while (rc == 0 && (rc = feed_wait(f, f->from, POLLIN)) == 0) {
		ssize_t n = read(f->from, room, FEED_STEP);

		if (n == 0)
			break;
		if (n > 0)
			rc = feed_write(f, room, (size_t)n);
		else if (errno != EINTR && errno != EAGAIN)
			rc = -errno;
	}
	free(room);
	return rc;
}

int exec_control_feed(struct exec_control *ec, int from, bool (*cancelled)(void *arg), void *arg,
		      struct error *err)
{
	struct feed f = { .ec = ec, .from = from, .cancelled = cancelled, .arg = arg };
	int rc;

	pthread_mutex_lock(&ec->lock);
	rc = can_feed_locked(ec, err);
	if (rc == 0)
		f.to = ec->feed;
	if (rc == 0) {
		give_up_input(ec); /* the program is to see its end */
		ec->feed = -1;
	}
	pthread_mutex_unlock(&ec->lock);
	if (rc < 0)
		return rc;
	rc = feed_all(&f);
	close(f.to);
	return rc < 0 ? error_set_errno(err, rc, "passing on the program's input") : 0;
}

void exec_controls_init(struct exec_controls *cs)
{
	pthread_mutex_init(&cs->lock, NULL);
	TAILQ_INIT(&cs->list);
}

void exec_controls_fini(struct exec_controls *cs)
{
	pthread_mutex_destroy(&cs->lock);
}

void exec_controls_add(struct exec_controls *cs, struct exec_control *ec)
{
	pthread_mutex_lock(&cs->lock);
	TAILQ_INSERT_TAIL(&cs->list, ec, link);
	pthread_mutex_unlock(&cs->lock);
}

void exec_controls_remove(struct exec_controls *cs, struct exec_control *ec)
{
	pthread_mutex_lock(&cs->lock);
	TAILQ_REMOVE(&cs->list, ec, link);
	pthread_mutex_unlock(&cs->lock);
}

struct exec_control *exec_controls_find(struct exec_controls *cs, const char *id)
{
	struct exec_control *ec;

	pthread_mutex_lock(&cs->lock);
	TAILQ_FOREACH(ec, &cs->list, link)
	if (strcmp(ec->id, id) == 0)
		break;
	if (ec)
		exec_control_hold(ec);
	pthread_mutex_unlock(&cs->lock);
	return ec;
}

int signal_parse(const char *text, struct error *err)
{
	const char *name = strncmp(text, "SIG", 3) == 0 ? text + 3 : text;
	size_t digits = strspn(text, "0123456789");

	if (digits > 0 && digits <= 2 && !text[digits]) {
		int sig = atoi(text);

		if (sig >= 1 && sig <= SIGNAL_MAX)
			return sig;
	}
	for (int sig = 1; sig < SIGRTMIN; sig++) {
		const char *known = sigabbrev_np(sig);

		if (known && strcmp(known, name) == 0)
			return sig;
	}
	return error_set(err, -EINVAL, "\"%.20s\" is no signal: TERM, INT, 9", text);
}
