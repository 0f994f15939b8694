/*
 * ahead.h - decodes chunks that are about to be read.
 *
 * The kernel reads ahead in a file, but asks for small pieces, and knows nothing
 * of the file that a program will open next. Programs that read a tree (tar, grep,
 * a compiler, a package manager) mostly go through it in the order of its listing,
 * which is that of inode numbers and that in which chunks lie on disk. So when a
 * program reads a file from start to end, or files with rising numbers, threads
 * load what follows into the chunk cache: the disk is read in order and
 * decompression gets another core. It is only a hint: a failure shows when the
 * data is really read.
 */
#ifndef VARVE_FS_AHEAD_H
#define VARVE_FS_AHEAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/view/view.h"

/* What is known of the readers of one mount. After ahead_init it knows nothing. */
#define AHEAD_STREAMS 8
struct ahead_stream {
	uint64_t last;	 /* inode, or the end of what was read of it */
	uint64_t ahead;	 /* asked for up to here */
	uint64_t ino;	 /* of a file that is read in order */
	unsigned streak; /* how often it went on as expected */
};
struct ahead_streams {
	pthread_mutex_t lock;			  /* guards what follows */
	struct ahead_stream files[AHEAD_STREAMS]; /* each through many files */
	struct ahead_stream bytes[AHEAD_STREAMS]; /* each through one file */
	unsigned next;				  /* the stream to give up */
};
void ahead_init(struct ahead_streams *s);
void ahead_fini(struct ahead_streams *s);

/*
 * Files with numbers in [from, to), or (ino not 0) bytes in [from, to) of one, or
 * (from = to) the tree of directory ino (ahead_tree.h).
 */
struct ahead_job {
	uint64_t ino, from, to;
};
static inline bool ahead_is_tree(const struct ahead_job *job)
{
	return job->ino && job->from == job->to;
}
/*
 * [off, off + len) of ino is being read. True with a job in *out if one is to
 * be done. Pure, except for the lock.
 */
bool ahead_note(struct ahead_streams *s, uint64_t ino, uint64_t off, uint64_t len,
		struct ahead_job *out);
/* Load the part of the base that a job names, within a bound. */
void ahead_run(struct view *v, const struct ahead_job *job);

/*
 * --- threads that run jobs ---
 * All mounts share them. A mount may queue AHEAD_QUEUE_MOUNT jobs, which leaves room for the
 * others; while others wait, it gets one thread.
 */
#define AHEAD_THREADS 2
#define AHEAD_QUEUE 16
#define AHEAD_QUEUE_MOUNT 4
struct session;
struct ahead_queued {
	struct session *s;
	struct ahead_job job;
};
struct ahead_pool {
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t cond;
	bool stop;
	void (*run)(struct session *s, const struct ahead_job *job);
	struct ahead_queued queue[AHEAD_QUEUE];
	unsigned n;
	struct session *running[AHEAD_THREADS]; /* whose jobs are run */
	pthread_t threads[AHEAD_THREADS];
	unsigned n_started;
};
/* run is called by a thread for each job that was pushed. */
MUST_CHECK int ahead_pool_start(struct ahead_pool *p,
				void (*run)(struct session *s, const struct ahead_job *job));
/* Runs what is queued. */
void ahead_pool_stop(struct ahead_pool *p);
/* False if too much is queued, by this mount or by all: then run is not called. */
bool ahead_pool_push(struct ahead_pool *p, struct session *s, const struct ahead_job *job);

#endif
