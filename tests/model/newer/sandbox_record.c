#include "tests/model/newer/newer.h"

#define SANDBOX_RECORD_VERSION ((int)(1 + newer("sandbox")))
#include "snapshotd/sandbox/sandbox_record.c"
