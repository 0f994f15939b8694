#include "tests/model/newer/newer.h"

#define EXEC_KEEP_VERSION (1u + newer("exec"))
#include "snapshotd/container/exec_keep.c"
