#include "tests/model/newer/newer.h"

#define MOUNT_RECORD_VERSION ((int)(1 + newer("mount")))
#include "fs/mount/mount_record.c"
