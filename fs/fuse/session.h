/*
 * session.h - FUSE connections and the threads that serve all of them.
 *
 * One pool of threads waits on one epoll descriptor; a thread that got a
 * connection reads requests from it until there are none, or others wait for
 * their turn (session_turns.c). So a thousand idle mounts cost no thread, one busy
 * mount gets all cores, and never all threads. Of the fsync requests
 * of a mount one at a time is answered by the thread that read it, as long as
 * others are left to serve; those that come meanwhile by threads of their own,
 * many with one sync.
 *
 * libfuse decodes requests and encodes replies. Its session object holds no
 * state of a connection but what INIT negotiated, which is the same for all
 * connections to one kernel; so one object serves all: the first INIT goes
 * through it, and its reply is given to every connection.
 */
#ifndef VARVE_FS_SESSION_H
#define VARVE_FS_SESSION_H

#include <stdbool.h>

#include "fs/host/kernel_mount.h"
#include "fs/fuse/session_pool.h"
#include "fs/view/view.h"

struct session;

struct session_options {
	const char *mountpoint;
	const char *fsname;
	bool read_only, allow_dev, allow_suid, no_exec;
	bool shared; /* cache mode; where the kernel cannot, it is `private` */
	/* Called once, from a serving thread, when the connection has ended
	 * (unmounted by whomever). Must not call session_stop. */
	void (*on_end)(void *arg);
	void *arg;
	int place_fd;	     /* the mountpoint, open, where its path leads to a wait; 0: none */
	const char *keep_as; /* for the pool's keeper; NULL: it ends with this process */
	const struct session_waiting *waiting; /* for session_adopt: on its connection; or NULL */
};

/* Mount and begin to serve; on failure nothing is mounted. The view outlives the session. */
MUST_CHECK int session_start(struct session_pool *sp, struct view *v,
			     const struct session_options *opt, struct session **out,
			     struct error *err);
/*
 * The requests that the kernel waits for on a connection whose process has died, ascending.
 * -EOPNOTSUPP: this kernel sends nothing again; -ENOTCONN: the connection has ended.
 */
struct session_waiting {
	uint64_t *uniques; /* owned */
	size_t n, cap;
};
MUST_CHECK int session_find_waiting(int fuse_fd, struct session_waiting *out);
void session_waiting_fini(struct session_waiting *w);
/*
 * Go on with such a connection, in the cache mode that it has; fuse_fd is taken over if that
 * succeeds. *out_placed: it is at its place.
 */
MUST_CHECK int session_adopt(struct session_pool *sp, struct view *v,
			     const struct session_options *opt, int fuse_fd, struct session **out,
			     bool *out_placed, struct error *err);
/* Does the kernel know the inode? */
bool session_kernel_knows(struct session *s, uint64_t ino);
/* Aborts the connection if it still is up, waits for running requests, frees. */
void session_stop(struct session *s);
bool session_ended(const struct session *s);
/* Does it go on when this process dies? */
bool session_is_kept(const struct session *s);
/*
 * Where the session is mounted, or was last. It may go on without: whoever has it
 * open, or mounted elsewhere, holds it. The caller serialises these three.
 */
const struct kernel_mount *session_at(const struct session *s);
/* Mount it again, beside those who hold it. On failure nothing has changed. */
MUST_CHECK int session_place_again(struct session *s, const struct session_options *opt,
				   struct error *err);
/* Have the kernel write dirty pages back, whoever has it mounted where, and wait (session_drain).
 */
MUST_CHECK int session_syncfs(struct session *s, unsigned max_ms);
/*
 * Wait until the write requests that the kernel has begun are handled.
 * syncfs(2) begins them for all dirty pages of a mount, but does not wait for
 * them on every kernel (since Linux 6.18 it trusts no FUSE daemon to answer).
 * -ETIMEDOUT after max_ms of writes that do not end.
 */
#define SESSION_DRAIN_MS 60000
int session_drain(struct session *s, unsigned max_ms);

/* --- for ops.c --- */
struct fuse_in_header;
/* The connection whose request this thread handles, and the request as it came. */
struct session *session_current(void);
const struct fuse_in_header *session_current_request(void);
struct view *session_view(struct session *s);
/* A buffer of at least the largest read or readdir reply, of this thread. */
void *session_reply_buffer(size_t len);
/* [off, off + len) of ino is being read: what follows may be loaded. */
void session_note_read(struct session *s, uint64_t ino, uint64_t off, uint64_t len);
/* Listing dir had to read nodes: those that a walk of it needs may be loaded. */
void session_note_listing(struct session *s, uint64_t dir);
struct fuse_req;
/* Sync the session's view, here or in the background, then answer req. */
void session_queue_sync(struct session *s, struct fuse_req *req);
/*
 * Answer an lseek for data or a hole once the kernel has written the inode's
 * dirty pages back: it asks without, and would take what is still in its cache
 * for a hole.
 */
void session_queue_seek(struct session *s, struct fuse_req *req, uint64_t ino, uint64_t off,
			int whence);
/* Answer without libfuse. -errno where nobody took the answer: the caller was interrupted. */
int session_reply_raw(const struct fuse_in_header *in, int error, const void *payload, size_t len);

#endif
