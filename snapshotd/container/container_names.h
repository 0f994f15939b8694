/*
 * container_names.h - a container's own /etc/hosts and /etc/hostname. Both are
 * files of a small tmpfs, so that programs may change them, within bounds, and
 * nothing of them gets into the image. They are bound into the container, and
 * last as long as it does.
 */
#ifndef VARVE_SNAPSHOTD_CONTAINER_NAMES_H
#define VARVE_SNAPSHOTD_CONTAINER_NAMES_H

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"

/*
 * Make the directory dir and mount the files `hosts` and `hostname` in it. What
 * the root has in /etc/hosts comes first; localhost and hostname follow where
 * they are not in it. Failures leave nothing behind.
 */
MUST_CHECK int container_names_make(const char *dir, const char *rootfs, const char *hostname,
				    struct error *err);
/* Unmount and remove dir; what is bound into a container stays there. No failure without it. */
void container_names_release(const char *dir);

/* Append to text, a hosts file, what it lacks. -ENOMEM. */
MUST_CHECK int container_names_complete(struct buf *text, const char *hostname);

#endif
