/* runtime_agent.h - the bytes of the agent's program (snapshotd/container/init). */
#ifndef VARVE_SNAPSHOTD_RUNTIME_AGENT_H
#define VARVE_SNAPSHOTD_RUNTIME_AGENT_H

#include <stdint.h>

extern const char runtime_agent[];
extern const uint64_t runtime_agent_size;

#endif
