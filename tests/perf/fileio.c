/*
 * fileio - time one kind of access to a file, and print the nanoseconds it took.
 *
 *   fileio seq FILE           read all of it, 1 MiB at a time
 *   fileio random FILE COUNT  read COUNT blocks of 4 KiB, anywhere in it
 *   fileio mmap FILE          touch each of its pages in a shared mapping
 *   fileio first FILE         write 4 KiB into its middle: from open to close
 *   fileio stall FILE         until standard input ends, write 64 bytes at its start every
 *                             200 us: the longest that one write took, and how many were made
 *
 * Opening is not timed but for `first`.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096

static char buffer[1 << 20];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int open_file(const char *path, int flags, off_t *out_size)
{
	struct stat st;
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		die(path);
	*out_size = st.st_size;
	return fd;
}

static int64_t read_all(const char *path)
{
	off_t size;
	int fd = open_file(path, O_RDONLY, &size);
	int64_t from = now_ns();
	ssize_t n;

	do
		n = read(fd, buffer, sizeof(buffer));
	while (n > 0);
	if (n < 0)
		die(path);
	return now_ns() - from;
}

static int64_t read_random(const char *path, unsigned long count)
{
	off_t size;
	int fd = open_file(path, O_RDONLY, &size);
	uint64_t r = 88172645463325252ull; /* xorshift64, Marsaglia 2003 */
	int64_t from = now_ns();

	for (unsigned long i = 0; i < count; i++) {
		r ^= r << 13;
		r ^= r >> 7;
		r ^= r << 17;
		if (pread(fd, buffer, BLOCK, (off_t)(r % (uint64_t)(size / BLOCK)) * BLOCK) !=
		    BLOCK)
			die(path);
	}
	return now_ns() - from;
}

static int64_t touch_all(const char *path)
{
	off_t size;
	int fd = open_file(path, O_RDONLY, &size);
	volatile const char *map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
	int64_t from = now_ns();

	if (map == MAP_FAILED)
		die(path);
	for (off_t i = 0; i < size; i += BLOCK)
		(void)map[i];
	return now_ns() - from;
}

static int64_t write_first(const char *path)
{
	struct stat st;
	int64_t from;

	if (stat(path, &st) < 0)
		die(path);
	memset(buffer, 'x', BLOCK);
	from = now_ns();
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || pwrite(fd, buffer, BLOCK, st.st_size / 2) != BLOCK || close(fd) < 0)
		die(path);
	return now_ns() - from;
}

static void write_until_told(const char *path)
{
	off_t size;
	int fd = open_file(path, O_WRONLY, &size);
	struct pollfd end = { .fd = 0, .events = POLLIN };
	struct timespec pause = { .tv_nsec = 200000 };
	int64_t longest = 0;
	unsigned long count = 0;

	while (poll(&end, 1, 0) == 0) {
		int64_t from = now_ns();
		if (pwrite(fd, buffer, 64, 0) != 64)
			die(path);
		int64_t took = now_ns() - from;
		if (count++ > 0 && took > longest) /* the first copies up */
			longest = took;
		if (count == 2) {
			puts("writing"); /* whoever has started us may go on */
			fflush(stdout);
		}
		nanosleep(&pause, NULL);
	}
	printf("%lld %lu\n", (long long)longest, count);
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";

	if (strcmp(what, "stall") == 0) {
		write_until_told(argv[2]);
		return 0;
	}
	int64_t ns = -1;
	if (strcmp(what, "seq") == 0)
		ns = read_all(argv[2]);
	else if (strcmp(what, "random") == 0 && argc == 4)
		ns = read_random(argv[2], strtoul(argv[3], NULL, 10));
	else if (strcmp(what, "mmap") == 0)
		ns = touch_all(argv[2]);
	else if (strcmp(what, "first") == 0)
		ns = write_first(argv[2]);
	if (ns < 0) {
		fprintf(stderr, "usage: fileio seq | random | mmap | first | stall FILE [COUNT]\n");
		return 2;
	}
	printf("%lld\n", (long long)ns);
	return 0;
}
