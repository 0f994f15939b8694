/*
 * Two mounts' users, for the test that neither starves the other.
 *   neighbours crowd FILE THREADS SECONDS
 *       threads that keep as many requests under way as there are: attributes set, names
 *       looked for, files made and removed beside FILE
 *   neighbours call DIR OTHER SECONDS
 *       opens, writes and closes a file in DIR, then one in OTHER, again and again; prints of
 *       either how often, the median and the longest time, in microseconds
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define CALLS_MAX 4000000u
#define FILES 50u
#define THREADS_MAX 1000u

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static uint64_t until_us;
static const char *crowd_file;

static void *crowd_main(void *arg)
{
	static const char value[4096];
	const unsigned me = (unsigned)(uintptr_t)arg;
	char own[4096], missing[4096];
	struct stat st;

	snprintf(own, sizeof(own), "%s.%u", crowd_file, me);
	int fd = open(own, O_CREAT | O_RDWR | O_CLOEXEC, 0644);

	if (fd < 0)
		return "a file of the crowd";
	for (unsigned i = 0; now_us() < until_us; i++) {
		snprintf(missing, sizeof(missing), "%s.%u.%u", crowd_file, me, i);
		if (fsetxattr(fd, "user.crowd", value, sizeof(value), 0))
			return "an attribute of the crowd";
		(void)!stat(missing, &st);
		if (i % 16 == 0 && (mknod(missing, S_IFREG | 0644, 0) || unlink(missing)))
			return "a file that is made and removed";
	}
	close(fd);
	return NULL;
}

static int crowd(const char *file, unsigned n, unsigned seconds)
{
	pthread_t threads[THREADS_MAX];
	unsigned started = 0;
	int status = 0;

	crowd_file = file;
	until_us = now_us() + seconds * 1000000ull;
	while (started < n && started < THREADS_MAX &&
	       pthread_create(&threads[started], NULL, crowd_main, (void *)(uintptr_t)started) == 0)
		started++;
	for (unsigned i = 0; i < started; i++) {
		void *what = NULL;

		pthread_join(threads[i], &what);
		if (what) {
			fprintf(stderr, "%s failed\n", (const char *)what);
			status = 1;
		}
	}
	return started == n ? status : 1;
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
		return crowd(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
	if (argc == 5 && strcmp(argv[1], "call") == 0)
		return calls(argv[2], argv[3], (unsigned)atoi(argv[4]));
	fprintf(stderr, "usage: neighbours crowd FILE THREADS SECONDS | call DIR OTHER SECONDS\n");
	return 2;
}
