/* Another build, of other options, too; it can be slow to start. */
#pragma GCC optimize("O0")
#include "tests/model/newer/newer.h"

#define VARVE_VERSION NEWER_VERSION

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/host/keeper.h"

/* Once mounts are adopted: any successor, or that of one number. */
static void die(const struct keeper *k)
{
	const unsigned n = keeper_generation(k);
	char this_one[32];

	snprintf(this_one, sizeof(this_one), "die-%u", n);
	if (newer_has_adopted && ((n > 1 && newer("die-late")) || newer(this_one)))
		(_exit)(EXIT_FAILURE);
}

static void sign_of_life(struct keeper *k)
{
	die(k);
	keeper_sign_of_life(k);
	newer_hangs("hang-before", 1000);
	newer_hangs("slow-before", 2);
}

/* Too late to see a signal. */
static _Noreturn void leave(int status)
{
	newer_hangs("slow-leave", 2);
	_exit(status);
}

#define _exit(status) leave(status)
#define keeper_sign_of_life sign_of_life
#include "snapshotd/main.c"
