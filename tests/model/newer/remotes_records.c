#include "tests/model/newer/newer.h"

#define REMOTE_RECORD_VERSION ((int)(1 + newer("remote")))
#include "store/remote/remotes_records.c"
