/*
 * The keeper does as little as it can: it has one thread and no library but libc's, and
 * allocates a list of names.
 */
#include "snapshotd/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/host/keeper.h"
#include "fs/host/service_manager.h"
#include "snapshotd/held.h"
#include "snapshotd/service.h"
#include "store/base/clock.h"
#include "store/base/log.h"

#define ABOVE (MANAGER_FIRST_FD + (int)KEEPER_FDS_MAX + 1) /* what a daemon finds */
#define FDS_MIN (ABOVE + 64)
#define DELAY_FIRST_MS 50
#define LEAVE_MS 15000 /* for a daemon to hand over */
/* After one that was killed, and one that died of itself. */
#define DELAY_MAX_MS 1000
#define DELAY_CRASH_MAX_MS 10000
/* A daemon that was ready for so long has got over whatever its predecessor died of. */
#define WELL_MS 2000
/* How long a daemon may give no sign of life, where no service manager has a watchdog. */
#define SILENT_MS 90000
/* The same at its start, once mounts are served, in parts of takeoverTimeout. */
#define SILENT_START 10
/* And before mounts are served, where takeoverTimeout is long enough for that. */
#define SILENT_ADOPT_MS 10000
/* After so much longer than meant, we were stopped ourselves, and daemons with us. */
#define OVERSLEPT_MS 1000
/* How long we sleep at most while a clock runs that a stop is not to count for. */
#define NAP_MS 1000
/* So many daemons that adopt mounts and are never ready, for SILENT_START, are enough. */
#define UNREADY_MIN 3
/* How many may try to end in order. */
#define END_TRIES 3

struct supervisor {
	char **argv;
	char *path;	   /* of the program, for an upgrade */
	int program, next; /* what runs, and what is to; next is -1 but in an upgrade */
	int other;	   /* has written in an upgrade, and was not ready; -1 */
	int64_t leave_ms;  /* until when a daemon that hands over has to; 0: none does */
	int64_t timeout_ms;
	int sockets[2]; /* ours, and the daemon's */
	int signals;
	sigset_t mask; /* as the daemon is to have it */
	struct held held;
	pid_t own_pid;
	pid_t pid; /* 0: none runs */
	unsigned generation;
	bool ready, was_ready; /* this daemon; any */
	bool came_up, wrote;   /* this daemon was ready; it may have written; to its end */
	int ending;	       /* told to by this signal: no successor; 0 */
	int64_t end_ms;	       /* until when another may do so */
	unsigned end_tries;
	bool adopted;	       /* this daemon serves the mounts */
	bool speaks, stopping; /* it gives signs of life; it stops by itself */
	int64_t seen_ms;       /* its last one */
	int64_t silent_ms;     /* how long it may give none */
	int64_t feed_ms;       /* when a service manager's watchdog is fed; 0: there is none */
	int64_t feed_each_ms;
	bool has_crashed; /* the last one, of itself */
	bool hung, late;  /* this daemon, and was killed for it; another program, to come up */
	unsigned takeovers[KEEPER_CAUSES];
	bool rereads;  /* the next one is to read its configuration, though no program is new */
	unsigned soon; /* died soon after they were ready, or before, in a row */
	int64_t ready_ms;
	int64_t down_ms;    /* since when none serves the mounts */
	int64_t unready_ms; /* since when none is ready */
	unsigned unready;   /* died before they were, in a row */
	int64_t delay_ms, next_ms;
};

/* ---- what a daemon says ---- */

static void note_alive(struct supervisor *s)
{
	s->speaks = true;
	s->seen_ms = monotonic_ms();
}

static void note_ready(struct supervisor *s)
{
	s->ready = s->was_ready = s->came_up = true;
	s->rereads = false; /* what came while it started it has got, too */
	s->seen_ms = monotonic_ms();
	s->ready_ms = monotonic_ms();
	if (s->next >= 0 && !s->leave_ms) {
		log_info("upgraded: daemon %u has another program", s->generation);
		close(s->program);
		s->program = s->next;
		s->next = -1;
	}
	if (s->other >= 0)
		close(s->other);
	s->other = -1;
	if (s->generation > 1)
		log_info("daemon %u (process %d) is ready %lld ms after the death of the last one",
			 s->generation, (int)s->pid, (long long)(s->ready_ms - s->down_ms));
}

/*
 * The daemon leaves, and what now has the name of its program goes on; if that is not ready in
 * time, what ran before does.
 */
static void upgrade(struct supervisor *s)
{
	int fd;

	if (!s->pid || !s->ready || s->next >= 0 || s->ending) {
		log_warn("no upgrade now: %s",
			 s->next >= 0 ? "one is under way" : "no daemon is ready, or to be");
		return;
	}
	fd = open(s->path, O_PATH | O_CLOEXEC);
	if (fd < 0) {
		log_error("no upgrade: %s: %s", s->path, strerror(errno));
		return;
	}
	s->next = fd;
	s->leave_ms = monotonic_ms() + LEAVE_MS;
	kill(s->pid, SIGUSR2);
}

static void note_adopted(struct supervisor *s)
{
	s->adopted = s->wrote = true; /* one of an older version does not say the latter */
}

static void note_line(void *arg, const char *line)
{
	struct supervisor *s = arg;

	if (strcmp(line, "READY=1") == 0)
		note_ready(s);
	else if (strcmp(line, "WATCHDOG=1") == 0)
		note_alive(s);
	else if (strcmp(line, "ADOPTED=1") == 0)
		note_adopted(s);
	else if (strcmp(line, "WRITES=1") == 0)
		s->wrote = true;
	else if (strcmp(line, "STOPPING=1") == 0)
		s->stopping = true;
	else if (strcmp(line, "UPGRADE=1") == 0)
		upgrade(s);
}

static void receive_all(struct supervisor *s)
{
	while (held_receive(&s->held, s->sockets[0], note_line, s))
		;
}

/* ---- daemons ---- */

static void set_number(const char *name, long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", value);
	setenv(name, text, 1);
}

/* For those who look at daemons' lives from without. */
static void set_takeovers(const struct supervisor *s)
{
	char text[KEEPER_CAUSES * 12], *at = text;

	for (int i = 0; i < KEEPER_CAUSES; i++)
		at += sprintf(at, "%u ", s->takeovers[i]);
	setenv("VARVE_TAKEOVERS", text, 1);
	if (s->down_ms)
		set_number("VARVE_DOWN_MS", (long)s->down_ms);
}

static _Noreturn void fail_child(void)
{
	log_error("cannot start a daemon: %s", strerror(errno));
	_exit(EXIT_FAILURE);
}

/* In the child. */
static void become_daemon(struct supervisor *s)
{
	const int above = ABOVE, to = MANAGER_FIRST_FD + (int)s->held.n;
	char *names = held_names(&s->held);
	int mine, program;

	if (!names)
		fail_child();
	mine = fcntl(s->sockets[1], F_DUPFD_CLOEXEC, above);
	program = fcntl(s->next >= 0 ? s->next : s->program, F_DUPFD_CLOEXEC, above);
	if (mine < 0 || program < 0 || held_lay_out(&s->held, MANAGER_FIRST_FD, above) < 0 ||
	    dup2(mine, to) < 0)
		fail_child();
	/* Without its keeper it would go on unseen, with what a next service needs. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != s->own_pid)
		_exit(EXIT_FAILURE);
	set_number("VARVE_KEEPER", to);
	set_number("VARVE_GENERATION", (long)s->generation);
	set_number("VARVE_CRASHED", s->has_crashed);
	set_number("VARVE_TRIAL", s->next >= 0 || s->other >= 0);
	set_takeovers(s);
	set_number("VARVE_GOES_ON", s->generation > 1 && s->next < 0 && !s->rereads);
	set_number("LISTEN_PID", getpid());
	set_number("LISTEN_FDS", (long)s->held.n);
	setenv("LISTEN_FDNAMES", names, 1);
	set_number("VARVE_WATCH", 1);
	set_number("WATCHDOG_PID", getpid());
	set_number("WATCHDOG_USEC", (long)s->silent_ms * 1000);
	/* What comes before the daemon waits for signals is not lost, and does not kill it. */
	sigset_t mask = s->mask;
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	fexecve(program, s->argv, environ);
	fail_child();
}

static void start(struct supervisor *s)
{
	s->generation++;
	s->hung = s->late = s->ready = s->adopted = false;
	s->speaks = s->stopping = s->came_up = s->wrote = false;
	s->seen_ms = monotonic_ms();
	s->pid = fork();
	if (s->pid == 0)
		become_daemon(s);
	if (s->pid > 0) {
		s->rereads = false;
	} else {
		log_error("cannot start a daemon: %s", strerror(errno));
		s->pid = 0;
		s->next_ms = monotonic_ms() + DELAY_MAX_MS;
	}
}

/* A daemon has ended while another program was to take its place. */
static void note_left(struct supervisor *s)
{
	if (s->leave_ms) {
		s->leave_ms = 0;
	} else {
		log_error("the new program does not come up: the one before it goes on");
		if (s->wrote)
			s->other = s->next; /* what it has written may be of a newer format */
		else
			close(s->next);
		s->next = -1;
	}
	s->delay_ms = 0;
}

/* What runs refuses what there is. Another program had written to that. */
static void take_other(struct supervisor *s)
{
	const int refuses = s->program;

	log_warn("the program before the upgrade refuses what there is, or cannot start: the other "
		 "one is tried again");
	s->program = s->other;
	s->other = refuses;
}

/* Callers are never let wait for long only because daemons die. */
static int64_t longest_delay(const struct supervisor *s)
{
	return MIN(s->has_crashed ? DELAY_CRASH_MAX_MS : DELAY_MAX_MS, s->timeout_ms / 3);
}

/* From now on nobody serves the mounts. */
static void note_down(struct supervisor *s)
{
	int64_t now = monotonic_ms();

	if (s->ready || s->adopted)
		s->down_ms = now;
	if (s->ready)
		s->unready_ms = now;
	if (s->ready && now - s->ready_ms >= WELL_MS)
		s->delay_ms = s->soon = 0;
	s->ready = s->adopted = false;
}

/* The daemon has ended, and not in order: when does the next one start? */
static void plan_next(struct supervisor *s)
{
	int64_t now = monotonic_ms();

	note_down(s);
	s->stopping = false;
	s->unready = s->came_up ? 0 : s->unready + 1;
	s->delay_ms = MIN(s->delay_ms, longest_delay(s));
	s->next_ms = now + s->delay_ms;
	if (s->soon)
		log_warn(
			"%u daemons in a row have died within %d s: the next one starts in %lld ms",
			s->soon + 1, WELL_MS / 1000, (long long)s->delay_ms);
	s->soon++;
	s->delay_ms = s->delay_ms ? 2 * s->delay_ms : DELAY_FIRST_MS;
}

/* Has the daemon ended? As a container's first process the keeper inherits orphans, too. */
static bool collect(const struct supervisor *s, int *out_status)
{
	pid_t pid;

	do
		pid = waitpid(-1, out_status, WNOHANG);
	while (pid > 0 && pid != s->pid);
	return pid > 0;
}

/* May a request have been its death? */
static bool is_crash(int status)
{
	if (WIFSIGNALED(status))
		return WTERMSIG(status) != SIGKILL;
	return WEXITSTATUS(status) != SUPERVISE_HANDED_OVER &&
	       WEXITSTATUS(status) != SUPERVISE_NOT_STARTED &&
	       WEXITSTATUS(status) != SUPERVISE_MISUSED;
}

static enum keeper_cause cause_of(const struct supervisor *s, int status)
{
	const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (code == SUPERVISE_HANDED_OVER)
		return KEEPER_UPGRADE;
	if (code == SUPERVISE_NOT_STARTED || code == SUPERVISE_MISUSED || s->late)
		return KEEPER_START;
	if (s->hung)
		return KEEPER_HANG;
	return is_crash(status) ? KEEPER_CRASH : KEEPER_KILL;
}

/*
 * Told to end, but the daemon did not do that in order: it has left, died, or was none that has
 * anything to end. False: no other is to, or could.
 */
static bool end_by_another(struct supervisor *s)
{
	if (!s->was_ready || s->stopping || s->end_tries == END_TRIES ||
	    monotonic_ms() >= s->end_ms)
		return false;
	s->end_tries++;
	note_down(s);
	start(s);
	if (s->pid)
		kill(s->pid, s->ending);
	return s->pid != 0;
}

static void log_end(const struct supervisor *s, int status)
{
	if (WIFSIGNALED(status))
		log_error("daemon %u was killed by signal %d", s->generation, WTERMSIG(status));
	else if (WEXITSTATUS(status) == SUPERVISE_HANDED_OVER)
		log_info("daemon %u has left", s->generation);
	else
		log_error("daemon %u ended with status %d", s->generation, WEXITSTATUS(status));
}

/* True: the daemon's end is ours, with its status. */
static bool reap_ending(struct supervisor *s, int status)
{
	const unsigned generation = s->generation;
	const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (code == 0 && s->came_up)
		return true;
	s->has_crashed = is_crash(status);
	if (code != SUPERVISE_HANDED_OVER)
		log_end(s, status);
	if (code == SUPERVISE_NOT_STARTED && s->other >= 0)
		take_other(s);
	if (!end_by_another(s))
		return true;
	log_info("daemon %u has left, and another one ends in order", generation);
	return false;
}

/* True: the daemon's end is ours, with *out_status. */
static bool reap(struct supervisor *s, int *out_status)
{
	int status;

	if (!collect(s, &status))
		return false;
	receive_all(s); /* what it has sent before */
	s->pid = 0;
	*out_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (s->ending)
		return reap_ending(s, status);
	/* A new program that is not ready has nothing to end. */
	bool is_trial = s->next >= 0 && !s->leave_ms;

	if ((WIFEXITED(status) && WEXITSTATUS(status) == 0 && !is_trial) || !s->was_ready)
		return true;
	s->has_crashed = is_crash(status);
	s->takeovers[cause_of(s, status)]++;
	log_end(s, status);
	if (s->next >= 0)
		note_left(s);
	else if (s->other >= 0 && *out_status == SUPERVISE_NOT_STARTED)
		take_other(s);
	if (*out_status == SUPERVISE_HANDED_OVER)
		s->soon = 0;
	plan_next(s);
	return false;
}

/* The daemon takes the time it needs, and is the last. */
static void end(struct supervisor *s, int sig)
{
	if (!s->ending)
		s->end_ms = monotonic_ms() + s->timeout_ms;
	s->ending = sig;
	if (s->next >= 0)
		close(s->next);
	s->next = -1;
	s->leave_ms = 0;
}

/* A signal to us. True: we are to end, as no daemon runs that would. */
static bool pass_signal(struct supervisor *s)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof(info)) != sizeof(info) || info.ssi_signo == SIGCHLD)
		return false;
	if (info.ssi_signo == SIGUSR2) {
		upgrade(s);
		return false;
	}
	if (info.ssi_signo != SIGHUP)
		end(s, (int)info.ssi_signo);
	else
		s->rereads = !s->ready;
	if (s->pid)
		kill(s->pid, (int)info.ssi_signo);
	return !s->pid && s->ending && !end_by_another(s);
}

/* In an upgrade: when the daemon that runs has had its time. */
static int64_t give_way_ms(const struct supervisor *s)
{
	if (s->leave_ms)
		return s->leave_ms;
	return s->adopted ? INT64_MAX : s->down_ms + s->timeout_ms / 2;
}

/*
 * When the daemon is taken for one that hangs, unless it gives a sign of life. A successor that has
 * not yet adopted the mounts leaves some of the time to one after it. The first daemon's start is a
 * service manager's business.
 */
static int64_t hangs_ms(const struct supervisor *s)
{
	if (!s->pid || !s->speaks || s->leave_ms || s->stopping ||
	    (s->ending && (s->ready || s->adopted)))
		return INT64_MAX;
	if (s->ready)
		return s->seen_ms + s->silent_ms;
	if (!s->was_ready)
		return INT64_MAX;
	if (s->adopted)
		return s->seen_ms + SILENT_START * s->timeout_ms;
	return s->seen_ms +
	       MAX(2 * s->timeout_ms / 3, MIN((int64_t)SILENT_ADOPT_MS, 5 * s->timeout_ms / 6));
}

/* When callers in mounts have waited for long enough, or daemons have tried it. */
static int64_t given_up_ms(const struct supervisor *s)
{
	const bool served = s->ready || s->adopted || !s->was_ready;
	const int64_t until = served ? INT64_MAX : s->down_ms + s->timeout_ms;

	if (s->pid || s->unready < UNREADY_MIN)
		return until;
	return MIN(until, s->unready_ms + SILENT_START * s->timeout_ms);
}

static int64_t next_event_ms(const struct supervisor *s)
{
	int64_t until = MIN(hangs_ms(s), given_up_ms(s));

	if (!s->pid)
		until = MIN(until, s->next_ms);
	if (s->next >= 0 && s->pid)
		until = MIN(until, give_way_ms(s));
	return s->feed_ms ? MIN(until, s->feed_ms) : until;
}

/* The machine, or a debugger, has stopped us all: that time counts for nobody. */
static void note_stopped(struct supervisor *s, int64_t slept_ms)
{
	s->seen_ms = monotonic_ms();
	s->down_ms += slept_ms;
	s->unready_ms += slept_ms;
	s->ready_ms += slept_ms;
	s->next_ms += slept_ms;
	if (s->leave_ms)
		s->leave_ms += slept_ms;
	if (s->ending)
		s->end_ms += slept_ms;
}

/* In naps, so that little of a stop is taken for sleep. */
static void sleep_until_event(struct supervisor *s, struct pollfd p[2])
{
	const int64_t until = next_event_ms(s), now = monotonic_ms();
	const int64_t nap =
		s->ready && !s->leave_ms ? MAX(s->silent_ms / 8, (int64_t)NAP_MS) : NAP_MS;
	const int64_t meant = until == INT64_MAX ? -1 : MIN(MAX(until - now, (int64_t)0), nap);

	(void)poll(p, 2, (int)meant);
	const int64_t slept = monotonic_ms() - now;

	if (meant >= 0 && slept > meant + OVERSLEPT_MS)
		note_stopped(s, slept);
}

static void feed(struct supervisor *s)
{
	if (!s->feed_ms || monotonic_ms() < s->feed_ms)
		return;
	s->feed_ms = monotonic_ms() + s->feed_each_ms;
	service_notify("WATCHDOG=1");
}

/* In an upgrade: the daemon does not leave, or another program does not come up. */
static void end_late(struct supervisor *s)
{
	s->hung = s->leave_ms != 0;
	s->late = !s->hung;
	kill(s->pid, SIGKILL);
}

/* As good as dead: who follows has as long as after a death. */
static void end_hanging(struct supervisor *s)
{
	log_error("daemon %u (process %d) has given no sign of life for %lld s: it is killed",
		  s->generation, (int)s->pid, (long long)(monotonic_ms() - s->seen_ms) / 1000);
	note_down(s);
	s->speaks = false; /* once */
	s->hung = true;
	kill(s->pid, SIGKILL);
}

/* Whoever looks at the service is told why. */
static int give_up(struct supervisor *s)
{
	const bool served = s->unready >= UNREADY_MIN && !s->pid;
	char text[128];

	snprintf(text, sizeof(text), "STATUS=no daemon has %s for %lld s: mounts end",
		 served ? "become ready" : "served the mounts",
		 (long long)(served ? monotonic_ms() - s->unready_ms : s->timeout_ms) / 1000);
	log_error("%s", text + strlen("STATUS="));
	service_notify(text);
	if (s->pid)
		kill(s->pid, SIGKILL);
	return EXIT_FAILURE;
}

static int watch(struct supervisor *s)
{
	struct pollfd p[2] = { { s->sockets[0], POLLIN, 0 }, { s->signals, POLLIN, 0 } };
	int status = EXIT_FAILURE;

	for (;;) {
		if (!s->pid && monotonic_ms() >= s->next_ms)
			start(s);
		sleep_until_event(s, p);
		feed(s);
		receive_all(s); /* it may have come while we were stopped */
		if (p[1].revents && pass_signal(s))
			return EXIT_FAILURE;
		if (reap(s, &status))
			return status;
		if (s->next >= 0 && s->pid && monotonic_ms() >= give_way_ms(s))
			end_late(s);
		if (monotonic_ms() >= hangs_ms(s))
			end_hanging(s);
		if (monotonic_ms() >= given_up_ms(s))
			return give_up(s);
	}
}

/* The listening unix socket that a service manager has handed over. */
static void hold_service_socket(struct supervisor *s)
{
	const int end_fd = MANAGER_FIRST_FD + (int)manager_fds(SERVICE_FDS_MAX);

	for (int fd = MANAGER_FIRST_FD; fd < end_fd; fd++) {
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
		if (s->held.n || !service_is_unix_listener(fd))
			continue;
		int copy = fcntl(fd, F_DUPFD_CLOEXEC, MANAGER_FIRST_FD + SERVICE_FDS_MAX);
		if (copy >= 0)
			held_put(&s->held, KEEPER_SERVICE_SOCKET, copy);
	}
}

/* A service manager's watchdog is for us: we feed it, and the daemon has half of its time. */
static void watch_as_told(struct supervisor *s)
{
	const int64_t ms = (int64_t)(service_watchdog_us() / 1000);

	service_find();

	s->silent_ms = ms ? MAX(ms / 2, (int64_t)1) : SILENT_MS;
	if (!ms)
		return;
	s->feed_each_ms = MAX(ms / 4, (int64_t)1);
	s->feed_ms = monotonic_ms() + s->feed_each_ms;
}

static int prepare(struct supervisor *s)
{
	struct rlimit files;
	sigset_t mine;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
		if (files.rlim_max < FDS_MIN) {
			log_error("--supervise needs a limit of open files (ulimit -Hn) of %d at "
				  "least; it "
				  "is %llu",
				  FDS_MIN, (unsigned long long)files.rlim_max);
			return -EMFILE;
		}
	}
	sigemptyset(&mine);
	sigaddset(&mine, SIGCHLD);
	sigaddset(&mine, SIGTERM);
	sigaddset(&mine, SIGINT);
	sigaddset(&mine, SIGHUP);
	sigaddset(&mine, SIGUSR2);
	sigprocmask(SIG_BLOCK, &mine, &s->mask);
	s->signals = signalfd(-1, &mine, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, s->sockets) < 0)
		return -errno;
	hold_service_socket(s);
	s->next = s->other = -1;
	s->path = realpath("/proc/self/exe", NULL);
	s->program = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	if (s->program < 0 || !s->path)
		return -errno;
	watch_as_told(s);
	return 0;
}

int supervise(char **argv, unsigned timeout_s)
{
	static struct supervisor s;
	int r;

	s.argv = argv;
	s.own_pid = getpid();
	s.timeout_ms = (int64_t)timeout_s * 1000;
	r = prepare(&s);
	if (r < 0) {
		log_error("cannot supervise a daemon: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	return watch(&s);
}
