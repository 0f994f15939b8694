/*
 * mountinfo.h - what the kernel says is mounted where, as a list read from
 * /proc/PID/mountinfo. It is a copy: others may have changed the mounts by the time
 * it is read.
 */
#ifndef VARVE_FS_MOUNTINFO_H
#define VARVE_FS_MOUNTINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/base/macros.h"

struct mountinfo_entry {
	uint64_t id, parent;
	dev_t dev;
	char *mountpoint, *type, *source; /* owned by the list; escapes undone */
};
struct mountinfo {
	struct mountinfo_entry *entries; /* a mount comes before those on top of it */
	size_t n;
};
#define MOUNTINFO_INIT  \
	{               \
		NULL, 0 \
	}

/* file: "/proc/self/mountinfo", or another process's. -errno; then *out is empty. */
MUST_CHECK int mountinfo_read(const char *file, struct mountinfo *out);
void mountinfo_fini(struct mountinfo *mi);

/* NULL if there is none. Ids are reused, so the device has to match, too. */
const struct mountinfo_entry *mountinfo_find(const struct mountinfo *mi, uint64_t id, dev_t dev);
/* The topmost mount at exactly this path, or NULL. */
const struct mountinfo_entry *mountinfo_top(const struct mountinfo *mi, const char *mountpoint);
/*
 * Is there an automount point at exactly this path, under whatever is mounted by now? Whoever
 * follows a path to one waits until it is mounted; what is to mount it would wait for itself.
 */
bool mountinfo_has_automount(const struct mountinfo *mi, const char *mountpoint);
/* The mount that hides e's path, on top of it or on a directory above; or NULL. */
const struct mountinfo_entry *mountinfo_cover(const struct mountinfo *mi,
					      const struct mountinfo_entry *e);
/* The first mount placed inside e's tree, not one on top of e; or NULL. */
const struct mountinfo_entry *mountinfo_inside(const struct mountinfo *mi,
					       const struct mountinfo_entry *e);

/* Whether `path` is `dir` or below it. Both absolute, without a slash at the end. */
bool path_is_within(const char *path, const char *dir);

#endif
