/*
 * agent_protocol.h - what the daemon and the agent in a container say to each other.
 *
 * The control socket (SOCK_SEQPACKET, the agent's fd 3) carries one message
 * each way: the agent's INIT_HELLO, and any number of INIT_START with these
 * descriptors: a memfd with the request, a socket of this program's own, its
 * stdin, stdout and stderr. Without stdin (INIT_NO_STDIN) any descriptor stands
 * in its place, and the program gets the container's /dev/null: of the host's,
 * its root could change owner and mode. All else is said on the program's own socket:
 * INIT_KILL and INIT_SIGNAL by the daemon; by the agent INIT_FAILED (it could not be started)
 * or INIT_EXITED. When the daemon closes that socket, the program is killed;
 * when it closes the control socket, the agent exits and all end with it. A keeper may hold
 * both for a successor, which then speaks for the daemon.
 *
 * A request is a sequence of strings, each a 32-bit length (in the machine's
 * byte order, as all numbers here) and that many bytes without NUL, then a NUL:
 * working directory, user, number of arguments in decimal, arguments, variables
 * "K=V" up to the end.
 */
#ifndef VARVE_SNAPSHOTD_AGENT_PROTOCOL_H
#define VARVE_SNAPSHOTD_AGENT_PROTOCOL_H

#include <stdint.h>

/* Raised with every change of what follows: an agent may outlive the daemon that made it. */
#define INIT_PROTOCOL 1u
#define INIT_CONTROL_FD 3
#define INIT_REQUEST_MAX (1u << 20)
#define INIT_START_FDS 5

/* KILL: all that belongs to the program; SIGNAL: its process group, as a terminal would. */
enum init_op { INIT_HELLO = 1, INIT_START, INIT_KILL, INIT_FAILED, INIT_EXITED, INIT_SIGNAL };

/* What could not be done. */
enum init_stage {
	INIT_STAGE_REQUEST = 1, /* the agent could not read it */
	INIT_STAGE_FORK,
	INIT_STAGE_SETUP, /* descriptors, capabilities */
	INIT_STAGE_USER,  /* look up or become the user */
	INIT_STAGE_CWD,
	INIT_STAGE_EXEC,
};

/* Flags of INIT_START. */
#define INIT_NO_STDIN 1u
#define INIT_MAKE_CWD 2u /* where it is missing */
#define INIT_USER_ENV 4u /* HOME, USER, LOGNAME where the variables lack them */

struct init_message {
	uint32_t op;
	/* START: flags. KILL, SIGNAL: signal. FAILED: stage. EXITED: status as of wait(2). */
	uint32_t value;
	uint32_t error; /* FAILED: errno */
};

#endif
