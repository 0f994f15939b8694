#include "snapshotd/container/init/init.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* To be killed when the parent, argv[2], ends. */
static bool die_with_parent(int argc, char **argv)
{
	return argc >= 4 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == atoi(argv[2]);
}

/* launch PARENT PROGRAM ARGS...: exec the program. */
static int launch(char **argv)
{
	execvp(argv[3], argv + 3);
	fprintf(stderr, "%s: %s\n", argv[3], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}

int main(int argc, char **argv)
{
	if (argc == 1 && getpid() == 1)
		agent_main();
	if (argc > 1 && files_has_command(argv[1]))
		return files_main(argc, argv);
	if (argc > 1 && strcmp(argv[1], "launch") == 0)
		return die_with_parent(argc, argv) ? launch(argv) : 126;
	if (argc == 4 && strcmp(argv[1], "reap") == 0)
		return reap_main(argv);
	fprintf(stderr, "%d this is the first process of a container\n", EINVAL);
	return 2;
}
