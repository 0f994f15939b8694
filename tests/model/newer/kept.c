#include "snapshotd/container/agent_protocol.h"
#include "tests/model/newer/newer.h"

/* Of what is kept alone: the agent is the usual one. */
#undef INIT_PROTOCOL
#define INIT_PROTOCOL (1u + newer("container"))
#include "snapshotd/container/kept.c"
