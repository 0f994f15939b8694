/* The agent's program, as a part of ours. */
#include "snapshotd/container/runtime_agent.h"

#ifndef VARVE_INIT
#define VARVE_INIT "build/snapshotd/container/init/varve-init" /* the Makefile knows better */
#endif

__asm__(".pushsection .rodata\n"
	".global runtime_agent\n"
	".global runtime_agent_size\n"
	"runtime_agent:\n"
	".incbin \"" VARVE_INIT "\"\n"
	"1:\n"
	".balign 8\n"
	"runtime_agent_size:\n"
	".quad 1b - runtime_agent\n"
	".popsection\n");
