#include "snapshotd/init/init.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* launch PARENT PROGRAM ARGS...: exec the program, to be killed when the parent ends. */
static int launch(int argc, char **argv)
{
	if (argc < 4 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return 126;
	if (getppid() != atoi(argv[2])) /* it has ended meanwhile */
		return 126;
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
		return launch(argc, argv);
	fprintf(stderr, "%d this is the first process of a container\n", EINVAL);
	return 2;
}
