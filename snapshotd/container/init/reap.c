/*
 * The agent ends when its control socket does; but a container in the middle
 * of being made has none yet, and one that is frozen for a checkpoint cannot
 * end. Nobody would be left to see to these.
 */
#include "snapshotd/container/init/init.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "snapshotd/container/leftovers.h"

static void wait_for_end(int fd)
{
	char byte;
	ssize_t n;

	do
		n = read(fd, &byte, 1);
	while (n > 0 || (n < 0 && errno == EINTR));
}

static int reap(const char *bundles_dir, const char *oci_dir, struct error *err)
{
	struct cgroups cs;
	struct error hangs = ERROR_INIT;
	/* Before the containers, as it could make another; but not instead of them. */
	int calls = leftovers_end_calls(oci_dir, &hangs);
	int rc = cgroups_load("/proc/self/mountinfo", "/sys/fs/cgroup", &cs, err);

	if (rc < 0)
		return rc;
	rc = leftovers_kill(bundles_dir, &cs, err);
	if (rc == 0 && calls < 0)
		rc = error_set(err, calls, "%s", error_text(&hangs));
	cgroups_fini(&cs);
	return rc;
}

int reap_main(char **argv)
{
	struct error err = ERROR_INIT;

	/* A signal for the daemon may come to its whole process group or cgroup. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "varve-reaper");
	if (chdir("/") < 0) /* not to hold what the daemon was started in */
		return 1;
	wait_for_end(STDIN_FILENO);
	if (reap(argv[2], argv[3], &err) == 0)
		return 0;
	fprintf(stderr, "varve-reaper: %s\n", error_text(&err));
	return 1;
}
