/* container_options.h - what a container is to be like. */
#ifndef VARVE_SNAPSHOTD_CONTAINER_OPTIONS_H
#define VARVE_SNAPSHOTD_CONTAINER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* Where the agent is inside: argv[0] of its file commands (see snapshotd/container/init/init.h). */
#define CONTAINER_AGENT "/dev/varve-init"

struct container_options {
	const char *id;	       /* letters, digits, '-', '_', '.'; no other container's */
	const char *rootfs;    /* a mount's path; one with container_root (fs/mount/mount.h) */
	const char *hostname;  /* NULL: the id */
	uint64_t memory_bytes; /* with swap; 0: no limit */
	double cpus;	       /* 0: no limit */
	uint64_t cpu_shares;   /* its weight where processors are short, of 1024; 0: the usual */
	uint64_t pids;	       /* 0: 4096 */
	bool network_none;     /* else the host's network */
	bool resolv_conf;      /* the host's over /etc/resolv.conf */
	bool names;	       /* /etc/hosts and /etc/hostname of its own */
	bool keep;	       /* for a successor of this daemon, where there is a keeper */
};

#endif
