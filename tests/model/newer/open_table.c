#include "tests/model/newer/newer.h"

#define OPEN_TABLE_MAGIC (0x314e45504f565256ull + newer("opens"))
#include "fs/shared/open_table.c"
