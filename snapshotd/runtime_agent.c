/* The agent's program, as a part of ours. */
#include "snapshotd/runtime_agent.h"

#ifndef VARVE_INIT
#define VARVE_INIT "build/snapshotd/init/varve-init" /* the Makefile knows better */
#endif

__asm__(".pushsection .rodata\n"
	".global runtime_agent_start\n"
	".global runtime_agent_end\n"
	"runtime_agent_start:\n"
	".incbin \"" VARVE_INIT "\"\n"
	"runtime_agent_end:\n"
	".byte 0\n"
	".popsection\n");
