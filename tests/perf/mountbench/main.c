/*
 * mountbench - time from asking for a mount to the first stat of a name in it.
 *
 *   mountbench ROUNDS DIR PROBE KIND=ARG...
 *
 * Each KIND=ARG is mounted and unmounted once a round, so that what the machine does
 * otherwise meets all alike, and in another order each time, so that what the end of
 * one leaves to do does so, too; one round before is not counted. PROBE is
 * the path below the mount that is stat'ed (for bare: the root). Prints a line
 * "KIND nanoseconds" for each mount.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/perf/mountbench/mountbench.h"

#define SUBJECTS_MAX 16

static const struct subject kinds[] = {
	{ .name = "varve", .mount = varve_mount, .unmount = varve_unmount },
	{ .name = "bare", .mount = bare_mount, .unmount = bare_unmount },
	{ .name = "overlay", .mount = overlay_mount, .unmount = overlay_unmount },
	{ .name = "erofs", .mount = erofs_mount, .unmount = loop_unmount },
	{ .name = "squashfs", .mount = squashfs_mount, .unmount = loop_unmount },
	{ .name = "squashfuse_ll", .mount = squashfuse_mount, .unmount = program_unmount },
	{ .name = "fuse-overlayfs", .mount = fuse_overlayfs_mount, .unmount = program_unmount },
};

void die(const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	fputs("mountbench: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (saved)
		fprintf(stderr, ": %s", strerror(saved));
	fputc('\n', stderr);
	exit(1);
}

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static char *join(const char *dir, const char *name, const char *suffix)
{
	char *s = NULL;

	if (asprintf(&s, "%s/%s%s", dir, name, suffix) < 0)
		die("no memory");
	return s;
}

/* "KIND=ARG"; makes the mountpoint and the scratch directory. */
static void subject_init(struct subject *s, const char *spec, const char *dir)
{
	const char *arg = strchr(spec, '=');
	size_t len = arg ? (size_t)(arg - spec) : strlen(spec);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strlen(kinds[i].name) == len && strncmp(kinds[i].name, spec, len) == 0)
			*s = kinds[i];
	if (!s->name) {
		errno = 0;
		die("there is no kind of mount '%s'", spec);
	}
	s->arg = arg ? arg + 1 : "";
	s->dir = join(dir, s->name, "");
	s->work = join(dir, s->name, ".work");
	if (mkdir(s->dir, 0755) < 0 || mkdir(s->work, 0755) < 0)
		die("%s", s->dir);
}

static long long time_one(struct subject *s, const char *probe)
{
	char *path = join(s->dir, s->mount == bare_mount ? "" : probe, "");
	struct stat st;
	long long from = now_ns();

	s->mount(s);
	if (stat(path, &st) < 0)
		die("%s", path);
	long long took = now_ns() - from;
	s->unmount(s);
	free(path);
	return took;
}

/* The same orders in each run. */
static void shuffle(int *order, int n)
{
	static unsigned seed = 1;

	for (int i = n - 1; i > 0; i--) {
		int other = rand_r(&seed) % (i + 1), was = order[i];

		order[i] = order[other];
		order[other] = was;
	}
}

int main(int argc, char **argv)
{
	struct subject subjects[SUBJECTS_MAX] = { 0 };
	int order[SUBJECTS_MAX], n = argc - 4;

	if (n < 1 || n > SUBJECTS_MAX) {
		fprintf(stderr, "usage: mountbench ROUNDS DIR PROBE KIND=ARG...\n");
		return 2;
	}
	for (int i = 0; i < n; i++) {
		subject_init(&subjects[i], argv[4 + i], argv[2]);
		order[i] = i;
	}
	for (int round = -1; round < atoi(argv[1]); round++) {
		shuffle(order, n);
		for (int i = 0; i < n; i++) {
			struct subject *s = &subjects[order[i]];
			long long ns = time_one(s, argv[3]);
			if (round >= 0)
				printf("%s %lld\n", s->name, ns);
		}
	}
	return 0;
}
