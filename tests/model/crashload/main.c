/*
 * crashload - load a mount until its daemon is killed; later check what is left.
 *
 *   crashload load DIR LOG [THREADS [SECONDS [SEED]]]
 *     Thread N works in DIR/tN and logs to LOG.tN. Status 0: the time was over;
 *     3: the connection broke; 1: anything else failed.
 *   crashload check DIR LOG [THREADS]
 *     Status 0 where everything that had to survive has survived.
 */
#include "tests/model/crashload/crash.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define THREADS_MAX 32

static void paths(const char *dir, const char *log, unsigned i, char *out_dir, char *out_log)
{
	snprintf(out_dir, 4096, "%s/t%u", dir, i);
	snprintf(out_log, 4096, "%s.t%u", log, i);
}

static bool is_disconnect(int err)
{
	return err == ENOTCONN || err == ECONNABORTED || err == EIO;
}

static int load(const char *dir, const char *log, unsigned threads, unsigned seconds, uint64_t seed)
{
	static char dirs[THREADS_MAX][4096], logs[THREADS_MAX][4096];
	struct crash_load loads[THREADS_MAX];
	pthread_t ids[THREADS_MAX];
	uint64_t ops = 0;
	int status = 0;

	if (mkdir(dir, 0755) && errno != EEXIST) {
		fprintf(stderr, "%s: %s\n", dir, strerror(errno));
		return is_disconnect(errno) ? 3 : 1;
	}
	for (unsigned i = 0; i < threads; i++) {
		paths(dir, log, i, dirs[i], logs[i]);
		loads[i] = (struct crash_load){ .dir = dirs[i],
						.log = logs[i],
						.seconds = seconds,
						.seed = seed * 1000 + i + 1 };
		if (pthread_create(&ids[i], NULL, crash_load_thread, &loads[i]))
			abort();
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		ops += loads[i].ops_done;
		if (!loads[i].err)
			continue;
		fprintf(stderr, "%s: %s: %s\n", dirs[i], loads[i].what, strerror(loads[i].err));
		if (!is_disconnect(loads[i].err))
			status = 1;
		else if (!status)
			status = 3;
	}
	printf("%llu operations\n", (unsigned long long)ops);
	return status;
}

static int check(const char *dir, const char *log, unsigned threads)
{
	char sub[4096], sublog[4096];
	unsigned problems = 0;

	for (unsigned i = 0; i < threads; i++) {
		struct stat st;
		paths(dir, log, i, sub, sublog);
		/* Killed before the thread had made its directory. */
		if (stat(sublog, &st) || !st.st_size)
			continue;
		problems += crash_check(sub, sublog, stdout);
	}
	return problems ? 1 : 0;
}

int main(int argc, char **argv)
{
	unsigned threads = argc > 4 ? (unsigned)atoi(argv[4]) : 4;
	unsigned seconds = argc > 5 ? (unsigned)atoi(argv[5]) : 10;
	uint64_t seed = argc > 6 ? strtoull(argv[6], NULL, 10) : 1;

	if (argc >= 4 && threads && threads <= THREADS_MAX) {
		if (!strcmp(argv[1], "load"))
			return load(argv[2], argv[3], threads, seconds, seed);
		if (!strcmp(argv[1], "check"))
			return check(argv[2], argv[3], threads);
	}
	fprintf(stderr, "usage: crashload load DIR LOG [THREADS [SECONDS [SEED]]]\n"
			"       crashload check DIR LOG [THREADS]\n");
	return 2;
}
