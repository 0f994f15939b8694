#include "tests/model/newer/newer.h"

#define VARVE_VERSION NEWER_VERSION
#include "snapshotd/api/api_health.c"
