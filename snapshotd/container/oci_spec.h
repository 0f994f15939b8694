/*
 * oci_spec.h - a container as an OCI runtime is told of it: config.json of the
 * OCI runtime specification 1.0.2. Capabilities (without CAP_NET_RAW), masked
 * paths and system calls are what Docker gives a container by default. Pure: looks at nothing.
 */
#ifndef VARVE_SNAPSHOTD_OCI_SPEC_H
#define VARVE_SNAPSHOTD_OCI_SPEC_H

#include <jansson.h>

#include "snapshotd/container/container_options.h"

struct oci_host {
	const char *agent;	 /* the file that is the first process */
	const char *cgroup;	 /* name below the root of every hierarchy */
	const char *resolv_conf; /* to bind over /etc/resolv.conf; NULL: nothing */
	const char *names_dir;	 /* has hosts and hostname, to bind into /etc; NULL: nothing */
	bool cgroup_v2;
	bool limit_swap; /* memory and swap together have the limit of memory */
	/* The daemon has CAP_SYS_RESOURCE: the kernel spares the agent when memory is out. */
	bool spare_agent;
	uint64_t open_files_max; /* hard limit that may be given */
};

/* A new object, or NULL when out of memory. */
json_t *oci_spec(const struct container_options *o, const struct oci_host *host);
/* oci_seccomp.c: "linux.seccomp" of it. */
json_t *oci_seccomp(void);

#endif
