/*
 * Places for a container's mounts (mount_options.container_root): a runtime
 * mounts on /proc, /sys, /dev and a file over /etc/resolv.conf, and makes what
 * is missing, which would then be in the next checkpoint. So these names are
 * there for whoever looks them up, empty, but in no tree and no listing. A
 * symlink at /etc/resolv.conf stays what it is to everything but a lookup.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <fuse_lowlevel.h>

#include "fs/ops_internal.h"
#include "store/key.h"

#define FIRST_INO 0xfffffffffffffff0ull /* no tree comes this far */

enum { RESOLV_CONF, PROC, SYS, DEV, N_PLACES };
static const char *const names[N_PLACES] = { "resolv.conf", "proc", "sys", "dev" };

bool ops_place_is(uint64_t ino)
{
	return ino >= FIRST_INO && ino < FIRST_INO + N_PLACES;
}

bool ops_place_hides(const struct view *v, const char *name)
{
	return v->container_root && strcmp(name, names[RESOLV_CONF]) == 0;
}

void ops_place_attr(uint64_t ino, struct stat *st)
{
	bool file = ino == FIRST_INO + RESOLV_CONF;

	*st = (struct stat){ .st_ino = ino,
			     .st_mode = file ? S_IFREG | 0644 : S_IFDIR | 0755,
			     .st_nlink = file ? 1 : 2,
			     .st_blksize = 4096 };
}

static bool is_etc(struct view *v, uint64_t dir)
{
	struct view_attr a;
	int r;

	do
		r = view_lookup(v, ROOT_INO, "etc", &a);
	while (r == -EAGAIN);
	return !r && a.ino == dir;
}

uint64_t ops_place_find(struct view *v, uint64_t dir, const char *name, const struct view_attr *is)
{
	if (!v->container_root)
		return 0;
	if (ops_place_hides(v, name))
		return (!is || S_ISLNK(is->rec.mode)) && is_etc(v, dir) ? FIRST_INO + RESOLV_CONF
									: 0;
	for (uint64_t i = PROC; dir == ROOT_INO && !is && i < N_PLACES; i++)
		if (strcmp(name, names[i]) == 0)
			return FIRST_INO + i;
	return 0;
}
