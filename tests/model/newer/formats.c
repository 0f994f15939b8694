#include "tests/model/newer/newer.h"

#define SNAPSHOT_RECORD_VERSION ((int)(1 + newer("snapshot")))
#define REMOTE_RECORD_VERSION ((int)(1 + newer("remote")))
#include "snapshotd/formats.c"
