/*
 * passthrough.h - decides which opens of a mount get a file that all mounts share
 * (shared_files.h), and which the mount's own data.
 *
 * The kernel allows an inode only one kind of open files at a time: those of its
 * page cache, or those passed through to one backing file. An open of the other
 * kind fails with EIO. So every open is counted here, by kind.
 *
 *   - An open for reading, of an inode whose content is the base's, is passed
 *     through if the shared file exists and nothing has the inode open
 *     otherwise.
 *   - Any other open is an ordinary one. If it meets passed-through ones, the
 *     file gets another node id: the answer is ESTALE, upon which the kernel
 *     looks the path up again and finds the new node, which has no opens. What
 *     was open before keeps the old node and the old content, as overlayfs does
 *     with maps after its copy-up. From then on the file is not shared until the
 *     mount has another base. An open without a path (by a file handle or
 *     /proc/self/fd) gets the old node: reading gives what is open there, or else
 *     the current content; writing gives ESTALE.
 *
 * A node id is the inode number, with the number of times that it got a new
 * node in the upper 16 bits. st_ino is always the inode number.
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

/* Borrows all; fuse_fd is the connection's. NULL when out of memory. */
struct passthrough *passthrough_new(struct view *v, struct shared_files *sf, int fuse_fd);
/*
 * That of a connection that a former process has served: what it has counted goes on. Takes
 * over opens_fd, a copy of passthrough_opens_fd. -EPROTO: it says nothing that is understood.
 */
MUST_CHECK int passthrough_adopt(struct view *v, struct shared_files *sf, int fuse_fd, int opens_fd,
				 struct passthrough **out);
/* Of requests, all but these were answered: nothing else needs to be known of them. */
void passthrough_forget_answered(struct passthrough *pt, const uint64_t *waiting, size_t n);
/* What a successor needs; borrowed. It never changes. */
int passthrough_opens_fd(const struct passthrough *pt);
/* Whether the kernel has agreed; a successor finds it as it was set. */
void passthrough_set_negotiated(struct passthrough *pt);
bool passthrough_is_negotiated(const struct passthrough *pt);
/* The connection has ended, or is about to. NULL is accepted. */
void passthrough_free(struct passthrough *pt);

/* The kind of an open file; 0 is none. It is the file handle that the kernel gives back. */
enum passthrough_kind {
	PASSTHROUGH_CACHED = 1, /* through the inode's own page cache */
	PASSTHROUGH_SHARED,	/* from the backing file */
	PASSTHROUGH_DIRECT /* each read asks the daemon: an old node that nothing else has open */
};
struct passthrough_open {
	enum passthrough_kind kind;
	int backing_id; /* SHARED */
};

/*
 * Decide on an open (flags as open(2)) and count it, but not again if a former process has counted
 * and not answered it: it has the same number (0: none). What is counted twice, as that process
 * died between two instructions, does no harm. -ESTALE if the kernel has to
 * find another node: the caller first invalidates the inode's names (view_names)
 * in the kernel. Does no I/O on the mount.
 */
MUST_CHECK int passthrough_open(struct passthrough *pt, uint64_t node, unsigned flags,
				uint64_t request, struct passthrough_open *out);
/* The file is closed, and that is answered, or its open was not answered. */
void passthrough_release(struct passthrough *pt, uint64_t node, enum passthrough_kind kind);
/*
 * The file is closed by a request that is not answered yet. Counted once, like opens. False: it was
 * not, and passthrough_release is for after the answer.
 */
MUST_CHECK bool passthrough_release_request(struct passthrough *pt, uint64_t node,
					    enum passthrough_kind kind, uint64_t request);
/* What this thread has counted last is answered. */
void passthrough_answered(void);

static inline uint64_t passthrough_ino(uint64_t node)
{
	/* Inode numbers count up from 1; the highest ones are places (ops_places.c). */
	return node >> 48 == 0xffff ? node : node & ((1ull << 48) - 1);
}
/* The node id by which new lookups find an inode. */
uint64_t passthrough_node(struct passthrough *pt, uint64_t ino);
/* Call fn for every node of an inode that has several. */
void passthrough_each_node(struct passthrough *pt, uint64_t ino,
			   void (*fn)(void *arg, uint64_t node), void *arg);

struct passthrough_stats {
	uint64_t shared_now; /* files open by passthrough */
	uint64_t unshared;   /* how often a file got another node */
};
void passthrough_get_stats(struct passthrough *pt, struct passthrough_stats *out);

#endif
