#include "tests/model/newer/newer.h"

#include <stdlib.h>

#include "fs/host/keeper.h"

static void adopted(struct keeper *k)
{
	const char *slow = getenv("VARVE_SLOW");

	if (!newer("unadopted"))
		keeper_adopted(k);
	newer_has_adopted = true;
	newer_hangs("slow-after", 9 * (slow ? (unsigned)atoi(slow) : 1));
}

#define MOUNT_RECORD_VERSION ((int)(1 + newer("mount")))
#define keeper_adopted adopted
#include "fs/mount/mount_load.c"
