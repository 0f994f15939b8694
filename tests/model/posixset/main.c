/*
 * posixset DIR [NAME...] - run the cases, or those whose name contains a NAME, in
 * directories below DIR; speaks TAP.
 */
#include "tests/model/posixset/posixset.h"

#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CASE_SECONDS 60

int case_failed(const char *file, int line, const char *what)
{
	const char *base = strrchr(file, '/');
	int err = errno;

	printf("# %s:%d: not true: %s (errno %s)\n", base ? base + 1 : file, line, what,
	       err ? strerrorname_np(err) : "0");
	return CASE_FAIL;
}

bool put_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return false;
	bool good = write(fd, data, len) == (ssize_t)len;
	return close(fd) == 0 && good;
}

bool put_text(const char *path, const char *text)
{
	return put_file(path, text, strlen(text));
}

bool file_is(const char *path, const void *data, size_t len)
{
	char *buf = malloc(len + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool same =
		buf && fd >= 0 && read(fd, buf, len + 1) == (ssize_t)len && !memcmp(buf, data, len);

	if (fd >= 0)
		close(fd);
	free(buf);
	return same;
}

bool has_text(const char *path, const char *text)
{
	return file_is(path, text, strlen(text));
}

void fill(uint32_t seed, void *out, size_t len)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 88172645463325252ull;
	uint8_t *p = out;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (uint8_t)x;
	}
}

struct stat stat_of(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		memset(&st, 0xff, sizeof(st));
	return st;
}

mode_t mode_of(const char *path)
{
	return stat_of(path).st_mode & 07777;
}

int as_user(unsigned uid, unsigned gid, int (*fn)(void))
{
	int status;

	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		if (setgroups(0, NULL) || setgid(gid) || setuid(uid))
			_exit(CASE_FAIL);
		int rc = fn();
		fflush(stdout);
		_exit(rc);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return CASE_FAIL;
	return WEXITSTATUS(status);
}

void tick(void)
{
	static const struct timespec t = { 0, 20000000 };

	nanosleep(&t, NULL);
}

int64_t ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int run_in_child(const char *top, const struct posix_case *c)
{
	char dir[4096];
	int status;

	snprintf(dir, sizeof(dir), "%s/%s", top, c->name);
	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		alarm(CASE_SECONDS);
		umask(022);
		if (mkdir(dir, 0755) || chdir(dir)) {
			printf("# %s: %s\n", dir, strerror(errno));
			fflush(stdout);
			_exit(CASE_FAIL);
		}
		int rc = c->run();
		fflush(stdout);
		_exit(rc);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return CASE_FAIL;
	if (WIFSIGNALED(status)) {
		printf("# ended by signal %d\n", WTERMSIG(status));
		return CASE_FAIL;
	}
	return WEXITSTATUS(status);
}

static bool is_chosen(const char *name, char **words)
{
	if (!*words)
		return true;
	for (; *words; words++) {
		if (strstr(name, *words))
			return true;
	}
	return false;
}

int main(int argc, char **argv)
{
	static const struct posix_case *const groups[] = { names_cases, attrs_cases, data_cases,
							   dirs_cases, locks_cases };
	unsigned n = 0, failed = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: posixset DIR [NAME...]\n");
		return 2;
	}
	if (getuid()) {
		printf("1..0 # SKIP needs root\n");
		return 0;
	}
	for (size_t g = 0; g < ARRAY_SIZE(groups); g++) {
		for (const struct posix_case *c = groups[g]; c->name; c++) {
			if (!is_chosen(c->name, argv + 2))
				continue;
			int rc = run_in_child(argv[1], c);
			n++;
			failed += rc != CASE_PASS && rc != CASE_SKIP;
			printf("%s %u - %s%s\n",
			       rc == CASE_PASS || rc == CASE_SKIP ? "ok" : "not ok", n, c->name,
			       rc == CASE_SKIP ? " # SKIP not supported here" : "");
		}
	}
	printf("1..%u\n", n);
	return failed ? 1 : 0;
}
