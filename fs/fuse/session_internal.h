/*
 * session_internal.h - what the files of sessions and operations share. Each calls
 * only those above it:
 *
 *   session.c          the table of sessions; who uses one
 *   session_request.c  the request that a thread handles, and its answer
 *   session_parked.c   requests that wait for the far source (parked.h)
 *   session_shared.c   cache mode `shared`; what the kernel is to forget
 *   ops_reply.c, session_sync.c, ops_places.c, ops_readdir.c, ops_resent.c, ops.c:
 *                      operations
 *   session_wire.c     messages that libfuse does not know; handing over to it
 *   session_poll.c, session_turns.c: who reads the next request
 *   session_adopt.c    a connection of a process that has died
 *   session_mount.c, session_start.c: a session's places, begin and end
 *   session_pool.c     the serving threads
 */
#ifndef VARVE_FS_SESSION_INTERNAL_H
#define VARVE_FS_SESSION_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "fs/fuse/ahead.h"
#include "fs/fuse/deferred.h"
#include "fs/fuse/parked.h"
#include "fs/fuse/suspects.h"
#include "fs/shared/passthrough.h"
#include "fs/fuse/session.h"

#define FUSE_REPLY_MAX (64u << 10)
/* A bit of `unique`: the request was read before, and is sent again (FUSE_UNIQUE_RESEND). */
#define SESSION_RESENT (1ull << 63)
/* After a mount's id: under what a keeper has its table of open files. */
#define SESSION_KEPT_OPENS ".opens"

/*
 * A serving thread. `pass` is odd from before it reads a request until that is
 * known to be no write, or is handled.
 */
struct serving {
	struct session_pool *pool;
	pthread_t thread;
	_Atomic unsigned pass;	      /* changed by the thread alone, as the next one */
	struct session *_Atomic with; /* whose requests it reads; NULL: none's */
} __attribute__((aligned(64)));

/*
 * While one thread looks for requests, nobody else is woken. If what it handles
 * takes longer than expected (a disk that is behind makes writers wait), the
 * guard, a thread, calls others in. It sleeps while nobody polls.
 */
struct poll_guard {
	pthread_t thread;
	bool started;
	int wake_fd; /* eventfd */
	_Atomic bool asleep, stop;
};

struct session_pool {
	struct fuse_session *fuse; /* shared by all connections */
	int epoll_fd;
	int stop_fd; /* eventfd: readable once the threads shall end */
	unsigned n_threads;
	unsigned n_serving; /* what n_threads becomes; constant */
	struct serving *threads;
	/* Token of the connection that a thread looks at without sleeping; 0: none does. */
	_Atomic uint64_t polled;
	struct poll_guard guard;
	_Atomic unsigned syncs_here; /* serving threads that sync */

	pthread_mutex_t lock; /* guards slots and what follows */
	struct session **slots;
	size_t n_slots;
	uint32_t generation;
	unsigned busy;		   /* serving threads that are with a session */
	LIST_HEAD(, session) held; /* sessions that wait for their share to grow */
	uint64_t requests_gone;	   /* of sessions that are no more */

	uint8_t init_reply[256]; /* constant, as its length */
	size_t init_reply_len;

	struct deferred syncs; /* fsync: many answered with one sync */
	struct deferred seeks; /* lseek: wait for the kernel to write back */
	struct parked_pool parked;
	struct ahead_pool ahead;

	uint64_t metadata_bytes; /* session_pool_limit_metadata */
	/* For cache mode `shared`; both set before the first session, or not at all. */
	struct shared_files *files;
	unsigned stacking;	   /* of the files' filesystem */
	struct deferred stales;	   /* opens that need another node (session_shared.c) */
	struct keeper *keeper;	   /* of connections; NULL: none */
	struct suspects *suspects; /* owned; NULL: nobody is */
};

struct session {
	struct session_pool *pool;
	struct view *view;
	struct passthrough *passthrough; /* owned; NULL: cache mode `private` */
	_Atomic bool is_shared;		 /* INIT has agreed on it; set before any other request */
	_Atomic unsigned stales;	 /* queued */
	_Atomic bool no_stales;		 /* no more are */
	int fd;
	char *kept_as;	     /* owned; NULL: it is not */
	char *opens_kept_as; /* owned; of `passthrough`, beside it */
	bool is_kept;	     /* the keeper has taken both; set at the start */
	bool is_adopted;     /* what the kernel knows was told by others, too */
	char *mountpoint;    /* owned; where it was at first */
	dev_t dev;	     /* of the superblock, as stat(2) shows it */
	struct kernel_mount at;
	size_t slot;
	uint32_t generation;
	_Atomic bool ended;
	_Atomic uint64_t requests; /* that were read */
	_Atomic uint64_t writes;   /* of these */
	_Atomic bool syncing;	   /* a serving thread is at it */
	struct ahead_streams ahead;
	struct parked_session parked;
	_Atomic bool walking; /* an ahead_tree job of it is queued or runs */
	void (*on_end)(void *arg);
	void *arg;
	_Atomic bool held; /* not armed, as it has its share; changed under pool->lock */
	LIST_ENTRY(session) held_link; /* of pool->held, while it is */
	unsigned threads;	       /* guarded by pool->lock, as the next one: that serve it */
	unsigned active;	       /* threads and queued syncs that use it */
	pthread_cond_t idle;	       /* active became 0 */
};

/* --- session.c --- */

/* The session of a token; NULL where it went meanwhile. pool->lock held, as for all _locked. */
struct session *session_find_locked(struct session_pool *sp, uint64_t token);
/* The same with a user more. */
struct session *session_acquire(struct session_pool *sp, uint64_t token);
/* A user more of a session that lives. */
void session_use(struct session *s);
/* A user of the session less. */
void session_release(struct session *s);
void session_release_locked(struct session *s);
/* Queue a request, and use the session until it is answered. False without memory: answered. */
bool session_defer(struct deferred *d, struct session *s, const struct deferred_request *what);

/* Put s into a free slot, whose number and generation name it in epoll. -ENOMEM. */
MUST_CHECK int session_take_slot(struct session_pool *sp, struct session *s);
/* Waits until nobody uses it. */
void session_leave_slot(struct session *s);

/* --- session_request.c --- */

size_t session_buffer_size(void); /* of the largest request */
/* Does this request take so long that another thread should look for more at once? */
bool request_takes_long(const void *request, size_t n);
bool request_is_write(const void *request, size_t n);
/*
 * Note that this thread begins with it (suspects.h), as with what it defers to another one.
 * False: three daemons have died of it, so answer it with EIO.
 */
MUST_CHECK bool request_begin(struct session *s, const void *request);
void request_end(struct session *s);
/* What this thread handles from now on; request NULL: none. */
void session_set_current(struct session *s, const void *request);

/* --- session_sync.c --- */

/* For the pool's `syncs` and `seeks`. */
void session_run_syncs(struct deferred_request *q);
void session_run_seeks(struct deferred_request *q);

/* --- session_mount.c --- */

/* Connect, and make a mount of it that has no place yet: *out_fd, to be placed or closed. */
MUST_CHECK int session_open_mount(struct session *s, const struct session_options *opt, int *out_fd,
				  struct error *err);

/* At its mountpoint, or what opt has open of that. */
MUST_CHECK int session_place(int mount_fd, const struct session_options *opt, struct error *err);

/* Of a connection that was adopted: its superblock, and whether that is at its place. */
MUST_CHECK int session_find_places(struct session *s, const struct session_options *opt,
				   bool *out_placed, struct error *err);

/* --- session_adopt.c --- */

/* Have the kernel send again what it waits for: once the session is watched. */
MUST_CHECK int session_resume(struct session *s);

/* --- session_turns.c --- */

/* What a thread handles of one session before it looks whether another one waits. */
#define VISIT_COST 64u
/* Of a request that copies much. */
#define VISIT_COST_LONG 8u

/*
 * Begin to serve the session of a token that epoll has told. NULL: it went, or
 * has its share of the threads.
 */
struct session *turn_begin(struct session_pool *sp, uint64_t token);
/* has_more: its queue was not seen empty. */
void turn_end(struct session *s, bool has_more);
/* The token of another session with requests, which the caller is to serve; 0: none waits. */
uint64_t turn_other(const struct session *s);

/* --- session_poll.c --- */

/*
 * Waking a thread for each request costs more than most requests do. So one
 * thread of the pool, when it has answered, looks for the next request for a
 * moment before it goes to sleep, and gives the processor up to whoever wants
 * it between looks. While it does, the connection is not armed, so that
 * nobody else is woken for what this thread will see.
 */
struct poller {
	struct session *s;
	bool polling;	      /* this thread is the one, and the connection is disarmed */
	bool called;	      /* others were called in for the request being handled */
	unsigned streak;      /* requests since there was none */
	uint64_t deadline_ns; /* 0: a request came since it was last set */
};

MUST_CHECK int poll_guard_start(struct session_pool *sp);
void poll_guard_stop(struct session_pool *sp);
/* Watch the connection (EPOLL_CTL_ADD), or be told again of what is queued (EPOLL_CTL_MOD). */
MUST_CHECK int session_arm(struct session *s, int op);
void session_disarm(struct session *s);
/* What epoll calls it. */
uint64_t session_token(const struct session *s);
/* Nothing to read: true to look again. */
bool poll_idle(struct poller *p);
void poll_stop(struct poller *p);
/* Handle a request that was read, and call other threads in where they are needed. */
void poll_handle(struct poller *p, void *request, size_t n);
/* For struct view: the request that this thread handles may wait for a disk. */
void poll_before_wait(void);

/* --- session_wire.c --- */

MUST_CHECK int wire_init(struct session_pool *sp, struct error *err);
void wire_fini(struct session_pool *sp);
/* Handle one request of n bytes. */
void wire_handle(struct session *s, void *request, size_t n);
/* The same once more with one that was parked: what wire_handle has made of it. */
void wire_again(struct session *s, void *request, size_t n);

/* session_shared.c */
struct fuse_init_in;
struct fuse_init_out;
/* Add to INIT's reply what the session's cache mode needs. */
void shared_negotiate(struct session *s, const struct fuse_init_in *init,
		      struct fuse_init_out *reply);
/* Handle a request that libfuse cannot. False: it is for others. */
bool shared_handle(struct session *s, void *request, size_t n);
/* Take generations out of a request. */
void shared_strip(struct session *s, void *request, size_t n);
/* Attributes were changed and it is not answered yet: those of all nodes are to be asked for. */
void shared_changed(struct session *s, uint64_t ino);
/* The node id to tell the kernel of an inode. */
uint64_t shared_node(struct session *s, uint64_t ino);
/* Count a file that is made and opened at once; its handle. Or it was not answered. */
uint64_t shared_open_new(struct session *s, uint64_t ino);
void shared_close_new(struct session *s, uint64_t ino, uint64_t fh);
/*
 * Wait for the stale opens that are queued, while requests are still answered:
 * those that hold a directory's lock may wait for one.
 */
void shared_end(struct session *s);
/* Answer opens whose files have got other nodes. */
void shared_run_stales(struct deferred_request *q);
/* Drop what the kernel has cached of an inode, after writing it back. Not from a serving thread. */
void session_invalidate(struct session *s, uint64_t ino);
/* Have the kernel ask for an inode's attributes again. From the thread of a request to it. */
void session_invalidate_attr(uint64_t ino);

/* ops_resent.c: answer what was done by a former process. False: it is to be done. */
bool ops_resent(struct session *s, const void *request, size_t n);

/* ops.c */
extern const struct fuse_lowlevel_ops varve_ops;
void ops_tmpfile(struct session *s, const void *request, size_t n);

#endif
