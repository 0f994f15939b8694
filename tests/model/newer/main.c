/* Another build, of other options, too. */
#pragma GCC optimize("O0")
#include "tests/model/newer/newer.h"

#define VARVE_VERSION NEWER_VERSION
#include "snapshotd/main.c"
