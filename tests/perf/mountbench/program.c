/* Mounts that a program serves: it goes to the background once it is mounted. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/perf/mountbench/mountbench.h"

extern char **environ;

static void run(char *const *argv)
{
	pid_t pid;
	int status;

	errno = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
	if (errno)
		die("%s", argv[0]);
	if (waitpid(pid, &status, 0) < 0 || status != 0) {
		errno = 0;
		die("%s failed", argv[0]);
	}
}

void squashfuse_mount(struct subject *s)
{
	char *argv[] = { (char *)"squashfuse_ll", (char *)s->arg, (char *)s->dir, NULL };

	run(argv);
}

void fuse_overlayfs_mount(struct subject *s)
{
	static unsigned n;
	char upper[4200], work[4200], options[13000];

	snprintf(upper, sizeof(upper), "%s/upper%u", s->work, n);
	snprintf(work, sizeof(work), "%s/work%u", s->work, n++);
	if (mkdir(upper, 0755) < 0 || mkdir(work, 0755) < 0)
		die("%s", upper);
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s", s->arg, upper,
		 work);
	char *argv[] = { (char *)"fuse-overlayfs", (char *)"-o", options, (char *)s->dir, NULL };
	run(argv);
}

void program_unmount(struct subject *s)
{
	if (umount2(s->dir, 0) < 0)
		die("unmounting %s", s->dir);
}
