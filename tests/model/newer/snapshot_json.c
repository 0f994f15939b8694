#include "tests/model/newer/newer.h"

#define SNAPSHOT_RECORD_VERSION ((int)(1 + newer("snapshot")))
#include "store/names/snapshot_json.c"
