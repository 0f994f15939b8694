/*
 * mount_helper.h - varve in the place of mount.varve, mount.fuse.varve, umount.varve and
 * umount.fuse.varve, which mount(8) and umount(8) look for: `mount -t varve NAME DIR`, fstab(5).
 */
#ifndef VARVE_TOOLS_MOUNT_HELPER_H
#define VARVE_TOOLS_MOUNT_HELPER_H

#include "tools/cli/cli.h"

/* Whether a program of this name (argv[0]) is such a helper. */
bool mount_helper_is(const char *program);
/*
 * Do what the helper is asked for; errors go to standard error. An exit status as mount(8) has it:
 * 0, 1 (called wrongly), 2 (the system, the daemon), 32 (not mounted).
 */
int mount_helper_run(struct cli *cli, int argc, char **argv);

/* What options ask for: "ro,cache=shared,quota=1G". */
struct mount_wishes {
	json_t *body;	 /* members of POST /api/mounts; owned */
	char *socket;	 /* owned; NULL: as everywhere */
	unsigned wait_s; /* for a daemon that does not answer yet */
	bool fresh;	 /* a new mount, whatever was mounted here before */
};
/* -EINVAL names the option; `sloppy` leaves unknown ones out. Adds to what *w has. */
MUST_CHECK int mount_wishes_parse(struct mount_wishes *w, const char *options, bool sloppy,
				  struct error *err);
void mount_wishes_fini(struct mount_wishes *w);

#endif
