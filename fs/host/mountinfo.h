/*
 * mountinfo.h - what the kernel says is mounted where, as a list read from
 * /proc/PID/mountinfo: a copy, that others may have changed by the time it is read.
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
	struct mountinfo_entry *entries; /* lower ones come before those upon them */
	size_t n;
};
#define MOUNTINFO_INIT  \
	{               \
		NULL, 0 \
	}

/* file: "/proc/self/mountinfo", or another process's. -errno; then *out is empty. */
MUST_CHECK int mountinfo_read(const char *file, struct mountinfo *out);
void mountinfo_fini(struct mountinfo *mi);

/* NULL where there is none. Ids are used again, so the device counts as well. */
const struct mountinfo_entry *mountinfo_find(const struct mountinfo *mi, uint64_t id, dev_t dev);
/* The topmost mount at exactly this path, or NULL. */
const struct mountinfo_entry *mountinfo_top(const struct mountinfo *mi, const char *mountpoint);
/* What hides e from those who look for its path: upon it, or upon a directory above. Or NULL. */
const struct mountinfo_entry *mountinfo_cover(const struct mountinfo *mi,
					      const struct mountinfo_entry *e);
/* The first mount inside e, which has its place in e's tree; not one upon it. Or NULL. */
const struct mountinfo_entry *mountinfo_inside(const struct mountinfo *mi,
					       const struct mountinfo_entry *e);

/* Whether `path` is `dir` or below it. Both absolute, without a slash at the end. */
bool path_is_within(const char *path, const char *dir);

#endif
