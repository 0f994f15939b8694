/*
 * passthrough.h - which opens of a mount are answered with a file that all mounts
 * share (shared_files.h), and which with the mount's own data.
 *
 * The kernel allows an inode only one kind of open files at a time: those of its
 * page cache, or those passed through to one backing file. An open of the other
 * kind fails with EIO. So every open is counted here, by kind.
 *
 *   - An inode whose content is the base's, open for reading, is passed through
 *     if its file is there and nothing has it open otherwise.
 *   - All else is an ordinary open. Where such an open meets passed-through ones,
 *     the file gets another node id: the answer is ESTALE, upon which the kernel
 *     looks the path up anew and finds the new node, that has no opens. What was
 *     open before keeps the old node, and the old content, as overlayfs
 *     does with maps after its copy-up. From then on the file is not shared until
 *     the mount has another base. Who does not come by a path (a file handle,
 *     /proc/self/fd) gets the old node: to read, what is open or is now; to
 *     write, ESTALE.
 *
 * Node ids: the inode number, and in the upper 16 bits how often it was given
 * another one. st_ino is always the inode number.
 *
 * Thread-safe.
 */
#ifndef VARVE_FS_PASSTHROUGH_H
#define VARVE_FS_PASSTHROUGH_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/shared/shared_files.h"
#include "fs/view/view.h"

struct passthrough;

/* Borrows all; fuse_fd is the connection's. NULL without memory. */
struct passthrough *passthrough_new(struct view *v, struct shared_files *sf, int fuse_fd);
/* The connection has ended, or is about to. NULL is accepted. */
void passthrough_free(struct passthrough *pt);

/* The kind of an open file; 0 is none. It is the file handle that the kernel gives back. */
enum passthrough_kind {
	PASSTHROUGH_CACHED = 1, /* through the inode's page cache */
	PASSTHROUGH_SHARED,	/* from the backing file */
	PASSTHROUGH_DIRECT /* each read asks the daemon: of an old node that nothing has open */
};
struct passthrough_open {
	enum passthrough_kind kind;
	int backing_id; /* SHARED */
};

/*
 * Decide on an open (flags as open(2)) and count it. -ESTALE where the kernel has
 * to find another node: first passthrough_names() are to be made invalid. Does no
 * I/O on the mount.
 */
MUST_CHECK int passthrough_open(struct passthrough *pt, uint64_t node, unsigned flags,
				struct passthrough_open *out);
/* The file is closed, or its open was not answered. */
void passthrough_release(struct passthrough *pt, uint64_t node, enum passthrough_kind kind);

static inline uint64_t passthrough_ino(uint64_t node)
{
	/* Inode numbers are counted up from 1; the highest ones are places (ops_places.c). */
	return node >> 48 == 0xffff ? node : node & ((1ull << 48) - 1);
}
/* The node id by which new lookups find an inode. */
uint64_t passthrough_node(struct passthrough *pt, uint64_t ino);
/* Call fn for every node of an inode that has several. */
void passthrough_each_node(struct passthrough *pt, uint64_t ino,
			   void (*fn)(void *arg, uint64_t node), void *arg);

struct passthrough_stats {
	uint64_t shared_now; /* files open by passthrough */
	uint64_t unshared;   /* times that a file got another node */
};
void passthrough_get_stats(struct passthrough *pt, struct passthrough_stats *out);

#endif
