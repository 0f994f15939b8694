/*
 * From the agent's child to the program. The agent keeps CAP_SYS_RESOURCE and
 * an OOM score that spares it; both are given up here, for good.
 */
#include "snapshotd/container/init/init.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

void say(int sock, enum init_op op, uint32_t value, int error)
{
	struct init_message m = { op, value, (uint32_t)error };

	(void)!send(sock, &m, sizeof(m), MSG_NOSIGNAL | MSG_DONTWAIT);
}

__attribute__((noreturn)) static void fail(int sock, enum init_stage stage, int error)
{
	say(sock, INIT_FAILED, stage, error);
	_exit(127);
}

/* While CAP_SYS_RESOURCE is there, or the program could go back below this. */
static int reset_oom_score(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, "0", 1) != 1)
		rc = -errno;
	close(fd);
	return rc;
}

static int drop_capability(unsigned cap)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	unsigned word = cap / 32, mask = ~(1u << (cap % 32));

	if (prctl(PR_CAPBSET_DROP, cap) < 0 || syscall(SYS_capget, &head, data) < 0)
		return -errno;
	data[word].effective &= mask;
	data[word].permitted &= mask;
	data[word].inheritable &= mask;
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static int set_up(const int stdio[3])
{
	sigset_t none;
	int rc;

	setsid(); /* a child that has just been forked leads no group */
	/* Stdin is the container's /dev/null already, as the agent's. */
	for (int i = 0; i < 3; i++)
		if (stdio[i] >= 0 && dup2(stdio[i], i) < 0)
			return -errno;
	rc = reset_oom_score();
	if (rc == 0)
		rc = drop_capability(CAP_SYS_RESOURCE);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return rc;
}

/* A script without "#!" is the shell's. */
static void exec_script(const struct request *rq, char *path)
{
	size_t n = 0;
	char **argv;

	while (rq->argv[n])
		n++;
	argv = calloc(n + 2, sizeof(*argv));
	if (!argv)
		return;
	argv[0] = (char *)"/bin/sh";
	argv[1] = path;
	memcpy(argv + 2, rq->argv + 1, n * sizeof(*argv));
	execve(argv[0], argv, rq->env);
	free(argv);
}

static int try_exec(const struct request *rq, char *path)
{
	execve(path, rq->argv, rq->env);
	if (errno == ENOEXEC) {
		exec_script(rq, path);
		errno = ENOEXEC;
	}
	return errno;
}

static const char *search_path(char **env)
{
	for (; *env; env++)
		if (strncmp(*env, "PATH=", 5) == 0)
			return *env + 5;
	return PATH_DEFAULT;
}

/* As execvpe(), but by the PATH of the new environment. Returns an errno. */
static int exec_program(const struct request *rq)
{
	const char *name = rq->argv[0], *dir = search_path(rq->env), *end;
	int error = ENOENT;
	char path[4096];

	if (!*name)
		return ENOENT;
	if (strchr(name, '/'))
		return try_exec(rq, rq->argv[0]);
	for (;; dir = end + 1) {
		int got, n;

		end = strchrnul(dir, ':');
		n = snprintf(path, sizeof(path), "%.*s%s%s", (int)(end - dir), dir,
			     end > dir ? "/" : "", name);
		got = n < (int)sizeof(path) ? try_exec(rq, path) : ENAMETOOLONG;
		if (got != ENOENT && got != ENOTDIR && got != EACCES && got != ENAMETOOLONG)
			return got;
		if (got == EACCES)
			error = EACCES;
		if (!*end)
			return error;
	}
}

static bool has_variable(char *const *env, const char *name)
{
	size_t len = strlen(name);

	for (; *env; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return true;
	return false;
}

/* Replaces rq->env by one that has the user's variables, too. */
static int add_user_env(struct request *rq, const struct user *u)
{
	const char *const names[] = { "HOME", "USER", "LOGNAME" };
	const char *const values[] = { u->home, u->name, u->name };
	size_t n = 0;
	char **env;

	while (rq->env[n])
		n++;
	env = calloc(n + ARRAY_SIZE(names) + 1, sizeof(*env));
	if (!env)
		return -ENOMEM;
	memcpy(env, rq->env, n * sizeof(*env));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (*values[i] && !has_variable(rq->env, names[i]) &&
		    asprintf(&env[n++], "%s=%s", names[i], values[i]) < 0)
			return -ENOMEM;
	rq->env = env;
	return 0;
}

void child_main(struct request *rq, int sock, const int stdio[3])
{
	const struct user *user;
	int rc = set_up(stdio);

	if (rc == 0 && (rq->flags & INIT_MAKE_CWD) && *rq->cwd)
		(void)!make_directories(rq->cwd, strlen(rq->cwd)); /* chdir tells */
	if (rc < 0)
		fail(sock, INIT_STAGE_SETUP, -rc);
	rc = user_become(rq->user, &user);
	if (rc < 0)
		fail(sock, INIT_STAGE_USER, -rc);
	if (rq->flags & INIT_USER_ENV)
		rc = add_user_env(rq, user);
	if (rc < 0)
		fail(sock, INIT_STAGE_SETUP, -rc);
	if (chdir(*rq->cwd ? rq->cwd : "/") < 0)
		fail(sock, INIT_STAGE_CWD, errno);
	fail(sock, INIT_STAGE_EXEC, exec_program(rq));
}
