/*
 * Two mounts' users, for the test that neither starves the other.
 *   neighbours crowd FILE PROCESSES STOP
 *       that keep as many requests under way as there are of them: each sets an attribute of
 *       a file of its own beside FILE, again and again, until there is a file STOP, or 30 seconds
 * are over neighbours call DIR OTHER SECONDS opens, writes and closes a file in DIR, then one in
 * OTHER, again and again; prints of either how often, the median and the longest time, in
 * microseconds
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define CALLS_MAX 4000000u
#define FILES 50u
#define CROWD_MAX_US 30000000u
#define VALUE_LEN 4096u /* of an attribute */

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* One of the crowd; the status to exit with. */
static int crowd_one(const char *file, unsigned me, const char *stop)
{
	static const char value[VALUE_LEN];
	const uint64_t until = now_us() + CROWD_MAX_US;
	char own[4096];

	snprintf(own, sizeof(own), "%s.%u", file, me);
	int fd = open(own, O_CREAT | O_RDWR | O_CLOEXEC, 0644);

	if (fd < 0)
		return 1;
	close(fd);
	/* Asked for seldom: nothing is to come between two requests. */
	for (unsigned i = 1; i % 64 || (access(stop, F_OK) && now_us() < until); i++)
		if (setxattr(own, "user.crowd", value, sizeof(value), 0))
			return 1;
	return 0;
}

static int crowd(const char *file, unsigned n, const char *stop)
{
	int failed = 0, status;

	for (unsigned i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(crowd_one(file, i, stop));
		failed += pid < 0;
	}
	while (wait(&status) > 0)
		failed += status != 0;
	if (failed)
		fprintf(stderr, "%d of the crowd failed\n", failed);
	return failed ? 1 : 0;
}

static int call(const char *dir, unsigned n)
{
	static const char block[4096];
	char path[4096];

	snprintf(path, sizeof(path), "%s/f%u", dir, n % FILES);
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, block, sizeof(block)) != (ssize_t)sizeof(block))
		return -1;
	return close(fd);
}

static int by_value(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

struct times {
	const char *dir;
	uint32_t *took;
	unsigned n;
};

static int call_timed(struct times *t)
{
	const uint64_t begin = now_us();

	if (call(t->dir, t->n)) {
		perror(t->dir);
		return -1;
	}
	t->took[t->n++] = (uint32_t)(now_us() - begin);
	return 0;
}

static void print_times(struct times *t)
{
	if (!t->n)
		return;
	qsort(t->took, t->n, sizeof(t->took[0]), by_value);
	printf("%u %u %u\n", t->n, t->took[t->n / 2], t->took[t->n - 1]);
}

static int calls(const char *dir, const char *other, unsigned seconds)
{
	struct times t[2] = { { .dir = dir }, { .dir = other } };
	const uint64_t until = now_us() + seconds * 1000000ull;
	int r = 0;

	for (int i = 0; i < 2; i++)
		t[i].took = malloc(CALLS_MAX * sizeof(t[i].took[0]));
	if (!t[0].took || !t[1].took)
		r = -1;
	while (!r && t[0].n < CALLS_MAX && now_us() < until)
		r = call_timed(&t[0]) || call_timed(&t[1]);
	for (int i = 0; i < 2; i++) {
		print_times(&t[i]);
		free(t[i].took);
	}
	return r ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "crowd") == 0)
		return crowd(argv[2], (unsigned)atoi(argv[3]), argv[4]);
	if (argc == 5 && strcmp(argv[1], "call") == 0)
		return calls(argv[2], argv[3], (unsigned)atoi(argv[4]));
	fprintf(stderr, "usage: neighbours crowd FILE PROCESSES STOP | call DIR OTHER SECONDS\n");
	return 2;
}
