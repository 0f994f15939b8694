/* runtime_agent.h - the bytes of the agent's program (snapshotd/init). */
#ifndef VARVE_SNAPSHOTD_RUNTIME_AGENT_H
#define VARVE_SNAPSHOTD_RUNTIME_AGENT_H

extern const char runtime_agent_start[], runtime_agent_end[];

#endif
