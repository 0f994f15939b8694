/* Another build, of other options, too; it can be slow to start. */
#pragma GCC optimize("O0")
#include "tests/model/newer/newer.h"

#define VARVE_VERSION NEWER_VERSION

#include <stdlib.h>
#include <unistd.h>

#include "fs/host/keeper.h"

/* Where $VARVE_NEWER says so, once. */
static void hang(const char *where, unsigned seconds)
{
	if (!newer(where) || truncate(getenv("VARVE_NEWER"), 0) < 0)
		return;
	sleep(seconds);
}

static void adopted(struct keeper *k)
{
	const char *slow = getenv("VARVE_SLOW");

	keeper_adopted(k);
	hang("slow-after", 9 * (slow ? (unsigned)atoi(slow) : 1));
}

static void sign_of_life(struct keeper *k)
{
	keeper_sign_of_life(k);
	hang("hang-before", 1000);
}

/* Too late to see a signal. */
static _Noreturn void leave(int status)
{
	hang("slow-leave", 2);
	_exit(status);
}

#define _exit(status) leave(status)
#define keeper_adopted adopted
#define keeper_sign_of_life sign_of_life
#include "snapshotd/main.c"
