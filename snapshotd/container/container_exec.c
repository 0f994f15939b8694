/*
 * One program in a container. Everything about it goes over a socket of its
 * own that the agent gets with the request (snapshotd/container/agent_protocol.h), so the
 * calling thread waits for that and for the output, and nothing is shared with
 * other execs but the control socket, whose messages are sent in one piece.
 */
#include "snapshotd/container/container_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "snapshotd/container/agent_protocol.h"
#include "snapshotd/container/exec_keep.h"
#include "store/base/clock.h"
#include "store/base/write_all.h"

#define OUTPUT_STEP (64u << 10)
#define CANCEL_POLL_MS 100
#define KILL_GRACE_MS 10000 /* to end, once killed */
#define KILLED_LINGER_MS 1000
#define LATE_MAX (2u << 20) /* bytes that are read when lingering is over: two full pipes */

/* Up to ERR they are ours, SIGNALS is the caller's. */
enum { SOCK, OUT, ERR, SIGNALS, N_FDS };
#define N_OWN_FDS (ERR + 1)

struct exec {
	const struct exec_request *rq;
	struct pollfd fds[N_FDS];
	struct exec_progress *p; /* in rq->keep, where that is */
	bool full[N_FDS];	 /* there is no room for more of it, until later */
	bool stuck;		 /* nothing came for want of that */
};

/* --- the request --- */

static int put_string(struct buf *b, const char *s)
{
	size_t len = strlen(s);
	uint32_t len32 = (uint32_t)len;
	int rc;

	if (len > INIT_REQUEST_MAX || b->len > INIT_REQUEST_MAX)
		return -E2BIG;
	rc = buf_append(b, &len32, sizeof(len32));
	return rc < 0 ? rc : buf_append(b, s, len + 1);
}

int exec_encode(const struct exec_request *rq, struct buf *out)
{
	char count[24];
	size_t n = 0;
	int rc;

	while (rq->argv && rq->argv[n])
		n++;
	if (n == 0)
		return -EINVAL;
	snprintf(count, sizeof(count), "%zu", n);
	rc = put_string(out, rq->cwd ? rq->cwd : "");
	if (rc == 0)
		rc = put_string(out, rq->user ? rq->user : "");
	if (rc == 0)
		rc = put_string(out, count);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = put_string(out, rq->argv[i]);
	for (size_t i = 0; rc == 0 && rq->env && rq->env[i]; i++)
		rc = put_string(out, rq->env[i]);
	return rc == 0 && out->len > INIT_REQUEST_MAX ? -E2BIG : rc;
}

static int request_memfd(const struct exec_request *rq)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int fd, rc = exec_encode(rq, &b);

	if (rc < 0)
		return rc;
	fd = memfd_create("varve-exec", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, b.data, b.len);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/* To the agent, which does not listen while its cgroup is frozen. */
static int send_start(struct container *c, const int fds[INIT_START_FDS], uint32_t flags)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(INIT_START_FDS * sizeof(int))];
	} control = { 0 };
	struct init_message m = { .op = INIT_START, .value = flags };
	struct iovec iov = { &m, sizeof(m) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&msg);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(INIT_START_FDS * sizeof(int));
	memcpy(CMSG_DATA(h), fds, INIT_START_FDS * sizeof(int));
	while (sendmsg(c->control, &msg, MSG_NOSIGNAL) < 0) {
		if (errno == EPIPE || errno == ECONNRESET)
			return -ESRCH;
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int copy_fd(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

/* A pipe for a stream that the caller did not give; theirs[] is closed by start(). */
static int open_stream(int given, int *out_ours, int *out_theirs)
{
	int fds[2];

	if (given >= 0) {
		*out_theirs = copy_fd(given);
		return *out_theirs < 0 ? *out_theirs : 0;
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*out_ours = fds[0];
	*out_theirs = fds[1];
	return 0;
}

static uint32_t start_flags(const struct exec_request *rq)
{
	return (rq->stdin_fd < 0 ? INIT_NO_STDIN : 0) | (rq->make_cwd ? INIT_MAKE_CWD : 0) |
	       (rq->user_env ? INIT_USER_ENV : 0);
}

/* Before the agent knows of it: nothing runs that is not kept. */
static void keep_begun(const struct exec *x)
{
	struct exec_keep *k = x->rq->keep;
	struct exec_state *s = k->state;

	s->timeout_ms = x->rq->timeout_ms;
	s->linger_ms = x->rq->linger_ms;
	if (x->rq->timeout_ms > 0)
		x->p->deadline_ms = monotonic_ms() + x->rq->timeout_ms;
	snprintf(s->program, sizeof(s->program), "%s", x->rq->argv[0]);
	snprintf(s->cwd, sizeof(s->cwd), "%s", x->rq->cwd ? x->rq->cwd : "");
	snprintf(s->user, sizeof(s->user), "%s", x->rq->user ? x->rq->user : "");
	k->sock = x->fds[SOCK].fd;
	k->pipes[0] = x->fds[OUT].fd;
	k->pipes[1] = x->fds[ERR].fd;
	k->is_begun = true;
	exec_keep_put(k);
}

static int start(struct container *c, struct exec *x)
{
	int theirs[INIT_START_FDS] = { -1, -1, -1, -1, -1 }, pair[2];
	bool no_stdin = x->rq->stdin_fd < 0;
	int rc = theirs[0] = request_memfd(x->rq);

	if (rc >= 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		rc = -errno;
	} else if (rc >= 0) {
		x->fds[SOCK].fd = pair[0];
		theirs[1] = pair[1];
		rc = theirs[2] = copy_fd(no_stdin ? theirs[0] : x->rq->stdin_fd);
	}
	if (rc >= 0)
		rc = open_stream(x->rq->stdout_fd, &x->fds[OUT].fd, &theirs[3]);
	if (rc >= 0)
		rc = open_stream(x->rq->stderr_fd, &x->fds[ERR].fd, &theirs[4]);
	if (rc >= 0 && x->rq->keep)
		keep_begun(x);
	if (rc >= 0)
		rc = send_start(c, theirs, start_flags(x->rq));
	for (int i = 0; i < INIT_START_FDS; i++)
		if (theirs[i] >= 0)
			close(theirs[i]);
	return rc < 0 ? rc : 0;
}

/* --- the wait --- */

static void kill_program(struct exec *x)
{
	const struct init_message m = { .op = INIT_KILL, .value = SIGKILL };

	x->p->killed = true;
	x->p->deadline_ms = monotonic_ms() + KILL_GRACE_MS;
	(void)!send(x->fds[SOCK].fd, &m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A frozen agent listens later; what it has no room for by then is lost. */
static void pass_signals(struct exec *x)
{
	uint8_t signals[64];
	ssize_t n = read(x->fds[SIGNALS].fd, signals, sizeof(signals));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0)
		x->fds[SIGNALS].fd = -1;
	for (ssize_t i = 0; i < n; i++) {
		const struct init_message m = { .op = INIT_SIGNAL, .value = signals[i] };

		if (signals[i])
			(void)!send(x->fds[SOCK].fd, &m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

/* The time that the taker needs is not that of those who write. */
static void pass_on(struct exec *x, int which, const char *data, size_t len)
{
	int64_t begun = monotonic_ms();

	if (x->p->ended && begun >= x->p->deadline_ms)
		x->p->late_bytes += len;
	if (x->rq->on_output)
		x->rq->on_output(x->rq->arg, which, data, len);
	if (x->p->ended)
		x->p->deadline_ms += monotonic_ms() - begun;
}

/* As read(): bytes that were moved to where they are kept, or dropped. */
static ssize_t keep_output(struct exec *x, int which, char *room)
{
	struct exec_keep *k = x->rq->keep;
	int there = 0;
	ssize_t n;

	if (ioctl(x->fds[which].fd, FIONREAD, &there) < 0)
		return -1;
	if (there > 0 && !k->state->cut[which - 1]) {
		size_t len = MIN((size_t)there, (size_t)OUTPUT_STEP);

		len = x->rq->on_room(x->rq->arg, which, len);
		if (len == EXEC_ROOM_LATER) {
			x->full[which] = true;
			errno = EAGAIN;
			return -1;
		}
		if (len > 0) {
			n = exec_keep_move(k, which, x->fds[which].fd, len);
			errno = n < 0 ? -(int)n : 0;
			if (n >= 0 || n == -EAGAIN || n == -EINTR)
				return n < 0 ? -1 : n;
		}
		k->state->cut[which - 1] = true; /* no more of it, or there would be a gap */
	}
	return read(x->fds[which].fd, room, OUTPUT_STEP);
}

static void forward_output(struct exec *x, int which, char *room)
{
	ssize_t n = x->rq->keep ? keep_output(x, which, room)
				: read(x->fds[which].fd, room, OUTPUT_STEP);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		pass_on(x, which, x->rq->keep ? NULL : room, (size_t)n);
		return;
	}
	close(x->fds[which].fd);
	x->fds[which].fd = -1;
}

static void begin_to_linger(struct exec *x)
{
	int64_t until = monotonic_ms() + (x->p->killed ? KILLED_LINGER_MS : x->rq->linger_ms);

	if (x->p->killed || !x->p->deadline_ms || until < x->p->deadline_ms)
		x->p->deadline_ms = until;
	x->p->ended = true;
}

/* -ESRCH when the agent has gone. */
static int hear(struct exec *x)
{
	/* A successor must hear it, too. */
	const int flags = MSG_DONTWAIT | (x->rq->keep ? MSG_PEEK : 0);
	ssize_t n = recv(x->fds[SOCK].fd, &x->p->last, sizeof(x->p->last), flags);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0)
		return -ESRCH;
	if (n != sizeof(x->p->last) ||
	    (x->p->last.op != INIT_FAILED && x->p->last.op != INIT_EXITED))
		return -EPROTO;
	begin_to_linger(x);
	close(x->fds[SOCK].fd);
	x->fds[SOCK].fd = x->fds[SIGNALS].fd = -1;
	return 0;
}

/*
 * How long to wait for something; 0 when the deadline is over. full: for room, of which nobody
 * tells. After the program's end that has no deadline, for its time does not count.
 */
static int wait_ms(const struct exec *x, bool full)
{
	int64_t ms = x->p->deadline_ms ? MAX(x->p->deadline_ms - monotonic_ms(), 0) : INT32_MAX;

	if (full && x->p->ended)
		return CANCEL_POLL_MS;
	ms = MIN(ms, INT32_MAX);
	if (full || (x->rq->cancelled && !x->p->killed))
		ms = MIN(ms, CANCEL_POLL_MS);
	return (int)ms;
}

static bool is_over(const struct exec *x)
{
	if (!x->p->ended)
		return false;
	return x->p->last.op == INIT_FAILED || (x->fds[OUT].fd < 0 && x->fds[ERR].fd < 0);
}

/* After the end: whether to leave what is still open to those who hold it. */
static bool has_lingered(struct exec *x, bool nothing_came)
{
	if ((!x->p->killed || x->stuck) && x->rq->cancelled && x->rq->cancelled(x->rq->arg)) {
		x->p->result.cancelled = true;
		return true;
	}
	return monotonic_ms() >= x->p->deadline_ms &&
	       (nothing_came || x->p->late_bytes >= LATE_MAX);
}

/* The deadline is over, or somebody wants an end. True: wait no longer. */
static bool give_up(struct exec *x, bool nothing_came)
{
	bool late = x->p->deadline_ms && monotonic_ms() >= x->p->deadline_ms;

	if (x->p->ended)
		return has_lingered(x, nothing_came);
	if (x->p->killed)
		return late;
	x->p->result.timed_out = late;
	x->p->result.cancelled = !late && x->rq->cancelled && x->rq->cancelled(x->rq->arg);
	if (late || x->p->result.cancelled)
		kill_program(x);
	return false;
}

/* What there is no room for is not waited for; nor does that time count after its end. */
static int wait_for_some(struct exec *x)
{
	struct pollfd fds[N_FDS];
	bool full = x->full[OUT] || x->full[ERR];
	int64_t begun = monotonic_ms();
	int n;

	memcpy(fds, x->fds, sizeof(fds));
	for (int i = OUT; i <= ERR; i++)
		if (x->full[i])
			fds[i].fd = -1;
	n = poll(fds, N_FDS, wait_ms(x, full));
	n = n < 0 ? -errno : n;
	for (int i = 0; i < N_FDS; i++) {
		x->fds[i].revents = n > 0 ? fds[i].revents : 0;
		x->full[i] = false;
	}
	x->stuck = full && n <= 0;
	if (full && x->p->ended)
		x->p->deadline_ms += monotonic_ms() - begun;
	return full && n == 0 ? -EINTR : n;
}

static int serve(struct exec *x, char *room)
{
	int rc = 0, n = 1;

	if (x->rq->timeout_ms > 0 && !x->rq->keep)
		x->p->deadline_ms = monotonic_ms() + x->rq->timeout_ms;
	while (rc == 0 && !is_over(x) && !give_up(x, n == 0)) {
		n = wait_for_some(x);
		if (n < 0 && n != -EINTR)
			return n;
		if (n <= 0)
			continue;
		for (int i = OUT; i <= ERR; i++)
			if (x->fds[i].revents)
				forward_output(x, i, room);
		if (x->fds[SIGNALS].revents)
			pass_signals(x);
		if (x->fds[SOCK].revents)
			rc = hear(x);
	}
	x->p->result.output_open = x->fds[OUT].fd >= 0 || x->fds[ERR].fd >= 0;
	return rc;
}

/* --- the outcome --- */

static int explain(const struct exec *x, struct error *err)
{
	const struct exec_request *rq = x->rq;
	int code = -(int)x->p->last.error;

	if (code >= 0)
		code = -EPROTO;
	switch (x->p->last.value) {
	case INIT_STAGE_FORK:
		return error_set_errno(err, code, "cannot fork in the container");
	case INIT_STAGE_USER:
		if (code == -EINVAL)
			return error_set(err, code,
					 "there is no user%s \"%.200s\" in the container",
					 rq->user && strchr(rq->user, ':') ? " or group of" : "",
					 rq->user ? rq->user : "");
		return error_set_errno(err, code, "cannot become user \"%.200s\"",
				       rq->user ? rq->user : "");
	case INIT_STAGE_CWD:
		return error_set_errno(err, code, "cannot enter directory %.300s",
				       rq->cwd ? rq->cwd : "/");
	case INIT_STAGE_EXEC:
		return error_set_errno(err, code, "cannot run %.300s", rq->argv[0]);
	default:
		return error_set_errno(err, code, "cannot start a program in the container");
	}
}

static int outcome(struct exec *x, int rc, struct error *err)
{
	/* Without a word: it was killed, but the kernel does not let it go yet. */
	int status = x->p->last.op == INIT_EXITED ? (int)x->p->last.value : SIGKILL;
	struct exec_result *r = &x->p->result;

	if (rc == -ESRCH)
		return error_set(err, rc, "the container has ended");
	if (rc < 0)
		return error_set_errno(err, rc, "cannot run a program in the container");
	if (x->p->last.op == INIT_FAILED)
		return explain(x, err);
	r->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	r->exit_code = r->signal ? 128 + r->signal : WEXITSTATUS(status);
	return 0;
}

static bool enter(struct container *c)
{
	bool ok;

	pthread_mutex_lock(&c->lock);
	ok = !c->stopping;
	c->execs += ok;
	pthread_mutex_unlock(&c->lock);
	return ok;
}

static void leave(struct container *c)
{
	pthread_mutex_lock(&c->lock);
	if (--c->execs == 0)
		pthread_cond_broadcast(&c->idle);
	pthread_mutex_unlock(&c->lock);
}

static void exec_init(struct exec *x, const struct exec_request *rq, struct exec_progress *p)
{
	*x = (struct exec){ .rq = rq, .p = rq->keep ? &rq->keep->state->progress : p };
	for (int i = 0; i < N_FDS; i++)
		x->fds[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
}

static void exec_close(struct exec *x)
{
	for (int i = 0; i < N_OWN_FDS; i++)
		if (x->fds[i].fd >= 0)
			close(x->fds[i].fd);
}

int container_exec_begin(struct container *c, const struct exec_request *rq, struct error *err)
{
	struct exec x;
	int rc;

	exec_init(&x, rq, NULL);
	if (!enter(c))
		return error_set(err, -ESRCH, "the container has ended");
	x.p->oom_kills = container_oom_kills(c);
	rc = start(c, &x);
	if (!rq->keep->is_begun)
		exec_close(&x);
	leave(c);
	return rc < 0 ? outcome(&x, rc, err) : 0;
}

/* One that has begun: what its predecessor or container_exec_begin had. */
static void take_up(struct exec *x)
{
	struct exec_keep *k = x->rq->keep;

	x->fds[SOCK].fd = k->sock;
	x->fds[OUT].fd = k->pipes[0];
	x->fds[ERR].fd = k->pipes[1];
	k->sock = k->pipes[0] = k->pipes[1] = -1;
	if (!x->p->ended)
		return;
	close(x->fds[SOCK].fd);
	x->fds[SOCK].fd = x->fds[SIGNALS].fd = -1;
}

int container_exec(struct container *c, const struct exec_request *rq, struct exec_result *out,
		   struct error *err)
{
	struct exec_progress progress = { 0 };
	struct exec x;
	char *room;
	int rc;

	exec_init(&x, rq, &progress);
	x.fds[SIGNALS].fd = rq->signal_fd;
	if (!enter(c))
		return error_set(err, -ESRCH, "the container has ended");
	room = malloc(OUTPUT_STEP);
	if (rq->keep && rq->keep->is_begun) {
		take_up(&x);
		rc = room ? 0 : -ENOMEM;
	} else {
		x.p->oom_kills = container_oom_kills(c);
		rc = room ? start(c, &x) : -ENOMEM;
	}
	if (rc == 0)
		rc = serve(&x, room);
	free(room);
	exec_close(&x);
	rc = outcome(&x, rc, err);
	if (rc == 0 && x.p->result.exit_code != 0)
		x.p->result.oom_killed = container_oom_kills(c) > x.p->oom_kills;
	leave(c);
	if (rc == 0)
		*out = x.p->result;
	return rc;
}
