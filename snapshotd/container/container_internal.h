/* container_internal.h - what runtime.c, container.c and container_exec.c share. */
#ifndef VARVE_SNAPSHOTD_CONTAINER_INTERNAL_H
#define VARVE_SNAPSHOTD_CONTAINER_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>

#include "snapshotd/container/cgroup.h"
#include "snapshotd/container/container.h"
#include "snapshotd/container/kept.h"
#include "snapshotd/container/reaper.h"
#include "store/base/buf.h"

#define CONTAINER_NAME_MAX 128 /* CONTAINER_PREFIX and an id */

#define RUNTIME_NAMES_DIR "names" /* in a bundle; see container_names.h */

struct runtime {
	char *program;
	char *oci_dir, *bundles_dir, *agent; /* below STATE/run */
	struct reaper reaper;
	struct keeper *keeper; /* NULL: none */
	struct kept *kept;     /* a predecessor's, which nobody has taken over yet */
	struct cgroups cgroups;
	bool sys_resource; /* whether the daemon has that capability */
	uint64_t open_files_max;
};

/*
 * Run the runtime with these arguments after its --root and wait for it.
 * control: a socket for the container's fd INIT_CONTROL_FD, or -1. -ENOENT: it
 * is not installed; -EIO with what it said; -ETIMEDOUT.
 */
MUST_CHECK int runtime_call(struct runtime *rt, const char *const *args, int control,
			    struct error *err);
/* End and remove whatever there is of a container: processes, cgroups, state, bundle. */
void runtime_remove(struct runtime *rt, const char *name);
/* A file for STATE/run/bundles/NAME/FILE; malloc'd, NULL: out of memory. */
char *runtime_bundle_path(const struct runtime *rt, const char *name, const char *file);

struct container {
	struct runtime *rt;
	char name[CONTAINER_NAME_MAX];
	int control; /* a message is sent at once, so that no lock is needed */
	int pidfd;   /* of the first process */
	pid_t pid;
	char *cgroup; /* or NULL */

	pthread_mutex_t lock;
	pthread_cond_t idle;
	unsigned execs; /* under way; guarded by lock */
	bool stopping;	/* guarded by lock */
};

/* The request's bytes (agent_protocol.h). -E2BIG, -EINVAL (no argv), -ENOMEM. */
MUST_CHECK int exec_encode(const struct exec_request *rq, struct buf *out);

#endif
