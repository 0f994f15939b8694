/*
 * Places for a container's mounts (mount_options.container_root): a runtime
 * mounts on /proc, /sys, /dev and files over some of /etc, and makes what is
 * missing, which would then be in the next checkpoint. So these names are
 * there for whoever looks them up, empty, but in no tree and no listing.
 *
 * What the tree has in such a place and cannot be mounted upon, above all a
 * symlink, stays what it is to everything but a lookup: a runtime that joins
 * paths would follow a symlink /dev out of the root, to a directory of the host.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include <fuse_lowlevel.h>

#include "fs/fuse/ops_reply.h"
#include "store/tree/key.h"

#define FIRST_INO 0xfffffffffffffff0ull /* no tree comes this far */
#define LINKS_MAX 40

/* Files of /etc, then directories of the root. */
enum { RESOLV_CONF, HOSTS, HOSTNAME, PROC, SYS, DEV, N_PLACES };
static const char *const names[N_PLACES] = {
	[RESOLV_CONF] = "resolv.conf",
	[HOSTS] = "hosts",
	[HOSTNAME] = "hostname",
	[PROC] = "proc",
	[SYS] = "sys",
	[DEV] = "dev",
};

bool ops_place_is(uint64_t ino)
{
	return ino >= FIRST_INO && ino < FIRST_INO + N_PLACES;
}

bool ops_place_hides(const struct view *v, const char *name)
{
	for (size_t i = 0; v->container_root && i < N_PLACES; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

void ops_place_attr(uint64_t ino, struct stat *st)
{
	bool file = ino < FIRST_INO + PROC;

	*st = (struct stat){ .st_ino = ino,
			     .st_mode = file ? S_IFREG | 0644 : S_IFDIR | 0755,
			     .st_nlink = file ? 1 : 2,
			     .st_blksize = 4096 };
}

/* One name below dir, symlinks left alone. */
static int step(struct view *v, uint64_t dir, const char *name, struct view_attr *out)
{
	int r;

	if (strcmp(name, ".") == 0)
		return view_getattr(v, dir, out);
	if (strcmp(name, "..") == 0)
		return view_parent(v, dir, out);
	do
		r = view_lookup(v, dir, name, out);
	while (r == -EAGAIN);
	return r;
}

/* The path becomes the link's target and what of it comes after `at`. */
static int expand(struct view *v, uint64_t link, size_t at, struct buf *path)
{
	CLEANUP(buf_fini_p) struct buf old = *path;
	int r;

	*path = (struct buf)BUF_INIT;
	r = view_readlink(v, link, path);
	if (r)
		return r;
	if (path->len + old.len > PATH_MAX)
		return -ENAMETOOLONG;
	return buf_append(path, old.data + at, old.len - at);
}

/* The directory that /etc is, by symlinks as they are followed inside; 0: none. */
static uint64_t find_etc(struct view *v)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	char name[NAME_MAX + 1];
	uint64_t dir = ROOT_INO;
	struct view_attr a;
	int links = 0, r = buf_append_str(&path, "etc");
	size_t n;

	for (size_t at = 0; !r && at < path.len; at += n) {
		const uint8_t *slash = memchr(path.data + at, '/', path.len - at);

		n = slash ? (size_t)(slash - path.data) - at : path.len - at;
		if (n >= sizeof(name))
			return 0;
		memcpy(name, path.data + at, n);
		name[n] = '\0';
		r = step(v, dir, n ? name : ".", &a);
		if (!r && S_ISLNK(a.rec.mode)) {
			r = ++links > LINKS_MAX ? -ELOOP : expand(v, a.ino, at + n, &path);
			if (!r && path.len && path.data[0] == '/')
				dir = ROOT_INO;
			at = n = 0;
		} else if (!r) {
			dir = a.ino;
			n += slash != NULL;
		}
	}
	return r ? 0 : dir;
}

uint64_t ops_place_find(struct view *v, uint64_t dir, const char *name, const struct view_attr *is)
{
	size_t i = 0;

	while (i < N_PLACES && strcmp(name, names[i]) != 0)
		i++;
	if (!v->container_root || i == N_PLACES)
		return 0;
	if (i >= PROC)
		return dir == ROOT_INO && !(is && S_ISDIR(is->rec.mode)) ? FIRST_INO + i : 0;
	return !(is && S_ISREG(is->rec.mode)) && dir == find_etc(v) ? FIRST_INO + i : 0;
}
