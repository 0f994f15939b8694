#include "snapshotd/container/init/init.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 50

struct process {
	pid_t pid, parent, group, session;
	bool ours;
};

struct processes {
	struct process *v;
	size_t n, cap;
};

/* False for what is dead or cannot be read. */
static bool read_process(int proc, const char *name, struct process *out)
{
	char path[64], text[512], state;
	const char *p;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%.20s/stat", name);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = 0;
	p = strrchr(text, ')'); /* the name before it may hold anything */
	*out = (struct process){ .pid = atoi(name) };
	return p &&
	       sscanf(p + 1, " %c %d %d %d", &state, &out->parent, &out->group, &out->session) ==
		       4 &&
	       state != 'Z' && state != 'X';
}

static bool add_process(struct processes *ps, const struct process *p)
{
	if (ps->n == ps->cap) {
		size_t cap = ps->cap ? 2 * ps->cap : 64;
		struct process *v = realloc(ps->v, cap * sizeof(*v));

		if (!v)
			return false;
		ps->v = v;
		ps->cap = cap;
	}
	ps->v[ps->n++] = *p;
	return true;
}

static void read_processes(int proc, struct processes *ps)
{
	struct process p;
	struct dirent *e;
	DIR *d;
	int fd = openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ps->n = 0;
	if (fd < 0)
		return;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return;
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9' || !read_process(proc, e->d_name, &p))
			continue;
		if (p.pid != 1 && !add_process(ps, &p))
			break;
	}
	closedir(d);
}

static int by_pid(const void *a, const void *b)
{
	return ((const struct process *)a)->pid - ((const struct process *)b)->pid;
}

static bool is_ours(const struct processes *ps, pid_t pid)
{
	const struct process key = { .pid = pid };
	const struct process *p = bsearch(&key, ps->v, ps->n, sizeof(key), by_pid);

	return p && p->ours;
}

/* Mark all that belong to the leader, and count them. */
static size_t mark(struct processes *ps, pid_t leader)
{
	size_t n = 0;
	bool more = true;

	if (ps->n > 0)
		qsort(ps->v, ps->n, sizeof(*ps->v), by_pid);
	for (size_t i = 0; i < ps->n; i++) {
		struct process *p = &ps->v[i];

		p->ours = p->pid == leader || p->group == leader || p->session == leader;
		n += p->ours;
	}
	while (more) {
		more = false;
		for (size_t i = 0; i < ps->n; i++) {
			struct process *p = &ps->v[i];

			if (p->ours || p->parent == 1 || !is_ours(ps, p->parent))
				continue;
			p->ours = more = true;
			n++;
		}
	}
	return n;
}

void sweep(int proc, pid_t leader, int sig)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	struct processes ps = { 0 };

	for (int round = 0; round < ROUNDS; round++) {
		size_t n;

		/* Who descends from whom is lost once the parents are dead. */
		read_processes(proc, &ps);
		n = mark(&ps, leader);
		if (round == 0) {
			/* The group in one go, which no fork outruns; it may not be yet. */
			kill(-leader, sig);
			kill(leader, sig);
		}
		for (size_t i = 0; i < ps.n; i++)
			if (ps.v[i].ours && ps.v[i].pid != leader &&
			    (sig == SIGKILL || ps.v[i].group != leader))
				kill(ps.v[i].pid, sig);
		if (sig != SIGKILL || (round > 0 && n == 0))
			break;
		nanosleep(&pause, NULL);
	}
	free(ps.v);
}
