#include "tests/model/newer/newer.h"

#define SUSPECTS_MAGIC (0x3150535553565256ull + newer("requests"))
#include "fs/fuse/suspects.c"
