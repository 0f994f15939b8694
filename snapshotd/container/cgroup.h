/*
 * cgroup.h - the cgroups of containers: one name, which every hierarchy that
 * the system has may know (one with v2, many with v1).
 */
#ifndef VARVE_SNAPSHOTD_CGROUP_H
#define VARVE_SNAPSHOTD_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"

#define CGROUP_HIERARCHIES_MAX 24

struct cgroup_hierarchy {
	char *dir; /* where it is mounted */
	bool v2, freezer, memory;
};

struct cgroups {
	struct cgroup_hierarchy v[CGROUP_HIERARCHIES_MAX];
	size_t n;
	bool unified; /* v2 alone */
	bool swap;    /* memory with swap can be limited */
};

/*
 * From a file like /proc/self/mountinfo: what is mounted at and below `root`
 * (/sys/fs/cgroup). A system without cgroups is an empty set.
 */
MUST_CHECK int cgroups_load(const char *mountinfo, const char *root, struct cgroups *out,
			    struct error *err);
void cgroups_fini(struct cgroups *cs);

/* The directory that freezes `name`; malloc'd. NULL: there is none, or no memory. */
char *cgroup_freeze_dir(const struct cgroups *cs, const char *name);
/* How often the kernel has killed in it for memory. 0 where it cannot tell. */
uint64_t cgroup_oom_kills(const struct cgroups *cs, const char *name);
/*
 * Kill all that is in it, thaw it, and remove it everywhere. Waits for the
 * processes to die. 0 also where there is none; -EBUSY when some do not die
 * within timeout_ms, with how many.
 */
MUST_CHECK int cgroup_destroy(const struct cgroups *cs, const char *name, unsigned timeout_ms,
			      struct error *err);

#endif
