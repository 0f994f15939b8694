/*
 * The agent's loop. One thread; it never waits for anything but its sockets
 * and its children, and reads no file of the container: all that is done by
 * the child that becomes the program.
 */
#include "snapshotd/container/init/init.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENTS 32

/* A program that runs. */
struct job {
	pid_t pid;
	int sock; /* -1: the daemon has lost interest */
	struct job *next;
};

struct agent {
	int epoll, signals, proc;
	struct job *jobs;
	bool jobs_ended; /* the events at hand may point to a job that is no more */
};

/* What an epoll event is about, besides a job. */
static char control_tag, signals_tag;

static int watch(struct agent *a, int fd, void *what)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = what };

	return epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

/* Closing does not: a child that has not become its program yet holds it, too. */
static void unwatch_and_close(struct agent *a, int fd)
{
	epoll_ctl(a->epoll, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
}

/* --- jobs --- */

static int read_request(int memfd, char **out_data, size_t *out_len)
{
	struct stat st;
	char *data;

	if (fstat(memfd, &st) < 0)
		return -errno;
	if (st.st_size <= 0 || st.st_size > INIT_REQUEST_MAX)
		return -EBADMSG;
	data = malloc((size_t)st.st_size);
	if (!data)
		return -ENOMEM;
	if (pread(memfd, data, (size_t)st.st_size, 0) != st.st_size) {
		free(data);
		return -EIO;
	}
	*out_data = data;
	*out_len = (size_t)st.st_size;
	return 0;
}

/* The socket is the job's on success. */
static int spawn(struct agent *a, struct request *rq, int sock, const int stdio[3])
{
	struct job *j = calloc(1, sizeof(*j));
	int rc;

	if (!j)
		return -ENOMEM;
	rc = watch(a, sock, j);
	if (rc == 0 && (j->pid = fork()) < 0) {
		rc = -errno;
		epoll_ctl(a->epoll, EPOLL_CTL_DEL, sock, NULL);
	}
	if (rc < 0) {
		free(j);
		return rc;
	}
	if (j->pid == 0)
		child_main(rq, sock, stdio);
	j->sock = sock;
	j->next = a->jobs;
	a->jobs = j;
	return 0;
}

static void start_job(struct agent *a, const int fds[INIT_START_FDS], uint32_t flags)
{
	const int stdio[] = { flags & INIT_NO_STDIN ? -1 : fds[2], fds[3], fds[4] };
	enum init_stage stage = INIT_STAGE_REQUEST;
	struct request rq;
	char *data = NULL;
	size_t len = 0;
	int rc = read_request(fds[0], &data, &len);

	if (rc == 0)
		rc = request_parse(data, len, &rq);
	if (rc == 0) {
		rq.flags = flags;
		stage = INIT_STAGE_FORK;
		rc = spawn(a, &rq, fds[1], stdio);
		free(rq.argv);
	}
	free(data);
	if (rc < 0) {
		say(fds[1], INIT_FAILED, stage, -rc);
		close(fds[1]);
	}
	close(fds[0]);
	for (int i = 2; i < INIT_START_FDS; i++)
		close(fds[i]);
}

static void drop_socket(struct agent *a, struct job *j)
{
	unwatch_and_close(a, j->sock);
	j->sock = -1;
}

static void reap(struct agent *a)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct job **p = &a->jobs;

		while (*p && (*p)->pid != pid)
			p = &(*p)->next;
		if (!*p)
			continue;

		struct job *j = *p;

		*p = j->next;
		if (j->sock >= 0) {
			say(j->sock, INIT_EXITED, (uint32_t)status, 0);
			drop_socket(a, j);
		}
		free(j);
		a->jobs_ended = true;
	}
}

/* The daemon says something about a job, or has closed its socket. */
static void hear_job(struct agent *a, struct job *j)
{
	struct init_message m;
	ssize_t n = recv(j->sock, &m, sizeof(m), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == sizeof(m) && m.op == INIT_KILL) {
		sweep(a->proc, j->pid, (int)m.value);
		return;
	}
	if (n == sizeof(m) && m.op == INIT_SIGNAL) {
		/* A child that has just been forked leads no group yet. */
		if (kill(-j->pid, (int)m.value) < 0)
			kill(j->pid, (int)m.value);
		return;
	}
	drop_socket(a, j);
	sweep(a->proc, j->pid, SIGKILL);
}

/* --- the control socket --- */

static void hear_control(struct agent *a)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(INIT_START_FDS * sizeof(int))];
	} control;
	struct init_message m;
	struct iovec iov = { &m, sizeof(m) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(INIT_CONTROL_FD, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *c;
	int fds[INIT_START_FDS];
	size_t got = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		_exit(0); /* the daemon is gone, and so is the container */
	c = CMSG_FIRSTHDR(&msg);
	if (n != sizeof(m) || m.op != INIT_START)
		_exit(1); /* not our daemon's language */
	if (c && c->cmsg_type == SCM_RIGHTS)
		got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	if (got > 0)
		memcpy(fds, CMSG_DATA(c), got * sizeof(int));
	if (got == INIT_START_FDS) {
		start_job(a, fds, m.value);
		return;
	}
	/* Out of descriptors. The daemon sees that the socket is closed. */
	if (got > 1)
		say(fds[1], INIT_FAILED, INIT_STAGE_REQUEST, EMFILE);
	while (got > 0)
		close(fds[--got]);
}

static void drain_signals(int fd)
{
	struct signalfd_siginfo si;

	while (read(fd, &si, sizeof(si)) == sizeof(si))
		;
}

static void null_stdio(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = 0; i < 3; i++)
		if (fd < 0 || dup2(fd, i) < 0)
			_exit(1);
	close(fd);
}

/* All of them, the C library's own included, which signal() does not touch. */
static void default_signals(void)
{
	char action[64] = { 0 }; /* the kernel's struct: SIG_DFL, nothing masked */

	for (int sig = 1; sig <= 64; sig++)
		(void)!syscall(SYS_rt_sigaction, sig, action, NULL, 8);
}

static void prepare(struct agent *a)
{
	struct init_message hello = { .op = INIT_HELLO };
	sigset_t set;

	/* Before there is anyone to look: no one traces us or opens what is in /proc/1. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || fcntl(INIT_CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0)
		_exit(1);
	null_stdio();
	(void)!syscall(SYS_close_range, INIT_CONTROL_FD + 1, ~0u, 0);
	(void)!setsid();
	default_signals();
	sigfillset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	a->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	a->epoll = epoll_create1(EPOLL_CLOEXEC);
	a->proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (a->signals < 0 || a->epoll < 0 || a->proc < 0 ||
	    watch(a, INIT_CONTROL_FD, &control_tag) < 0 || watch(a, a->signals, &signals_tag) < 0)
		_exit(1);
	if (send(INIT_CONTROL_FD, &hello, sizeof(hello), MSG_NOSIGNAL) < 0)
		_exit(0);
}

void agent_main(void)
{
	struct agent a = { 0 };
	struct epoll_event events[EVENTS];

	prepare(&a);
	for (;;) {
		int n = epoll_wait(a.epoll, events, EVENTS, -1);

		a.jobs_ended = false;
		for (int i = 0; i < n && !a.jobs_ended; i++) {
			if (events[i].data.ptr == &control_tag) {
				hear_control(&a);
			} else if (events[i].data.ptr == &signals_tag) {
				drain_signals(a.signals);
				reap(&a);
			} else {
				hear_job(&a, events[i].data.ptr);
			}
		}
	}
}
