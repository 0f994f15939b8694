/*
 * exec_keep.h - a program's output, and what a successor of this daemon needs to go on with it.
 *
 * Output is moved from the program's pipes to two files in memory by splice(2), in which the
 * kernel takes from the one what it has given to the other: a daemon that is killed at any
 * moment loses no byte and repeats none. How far the program is stands in a third one, which is
 * mapped. All of it is in a box of the keeper. While no daemon runs, the program waits once its
 * pipes are full.
 *
 * Of an attached program only a window of each stream is kept, around the place up to which those
 * who follow it have been sent its output: what they may ask for again when their connection has
 * broken off, and a little that they have not been sent yet. So nothing is cut, and places in a
 * stream stay what they are: what is behind the window is a hole in the file.
 *
 * Used by one thread at a time, but for exec_keep_read, exec_keep_len, exec_keep_note_sent and
 * exec_keep_ahead.
 */
#ifndef VARVE_SNAPSHOTD_EXEC_KEEP_H
#define VARVE_SNAPSHOTD_EXEC_KEEP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/host/keeper.h"
#include "snapshotd/container/agent_protocol.h"
#include "snapshotd/container/container.h"
#include "store/base/error.h"
#include "store/base/macros.h"

#define EXEC_KEEP_ID_MAX 47u
#define EXEC_KEEP_PREFIX "exec-" /* of its names */
/* Of the keeper's names, which mounts and containers need, too: programs, results and inputs. */
#define EXEC_KEEP_NAMES_MAX 1000u

/* How far a program is. */
struct exec_progress {
	int64_t deadline_ms; /* CLOCK_MONOTONIC; 0: none; once it has ended, that of lingering */
	uint64_t late_bytes; /* read after that */
	uint64_t oom_kills;  /* of its container, when it began */
	bool killed, ended;
	struct init_message last; /* what the agent said in the end */
	struct exec_result result;
};

/* In shared memory, with the version of its layout. */
struct exec_state {
	uint32_t version, size;
	char id[EXEC_KEEP_ID_MAX + 1], owner[EXEC_KEEP_ID_MAX + 1];
	int64_t timeout_ms, linger_ms;
	char program[304], cwd[304], user[256]; /* for errors */
	struct exec_progress progress;
	bool cut[2]; /* no more of that stream is kept */
	/* The program's own output ends there; what follows are notes of the daemon. */
	bool noted;
	uint64_t noted_at[2];
	/* It is over: rc and error as of container_exec, or its exit code. */
	bool done;
	bool truncated;
	bool killed; /* somebody has asked for that */
	int32_t rc, exit_code;
	int64_t done_ms;
	char error[256];
	/* The rest is there for an attached one alone, and reads as 0 for others. */
	bool attached;
	bool followed;		  /* its followers have not left, but for want of a daemon */
	_Atomic uint64_t base[2]; /* what is before that place of a stream is not kept any more */
	_Atomic uint64_t sent[2]; /* what is before that has been sent to a follower */
};

struct exec_keep {
	struct keeper *keeper;
	struct exec_state *state;
	int memory;	    /* that state is in */
	int spool[2];	    /* files in memory */
	int sock, pipes[2]; /* of one that has begun, until container_exec takes them; or -1 */
	bool is_begun, is_kept;
	bool has_name;			/* of EXEC_KEEP_NAMES_MAX */
	atomic_bool stalled;		/* its program waits for exec_keep_note_sent */
	char name[KEEPER_NAME_MAX + 1]; /* to the keeper */
};

/* id and owner: letters, digits, '-'. keeper may be NULL: it ends with the daemon. */
MUST_CHECK int exec_keep_new(struct keeper *keeper, const char *id, const char *owner,
			     struct exec_keep **out, struct error *err);
/*
 * Only a window of its output is to be kept. Before it is put. A daemon that knows of no windows
 * refuses the box.
 */
MUST_CHECK int exec_keep_attach(struct exec_keep *k, struct error *err);
/* One that a predecessor has left; exec_keep_free it. NULL: no more of them. */
struct exec_keep *exec_keep_next(struct keeper *keeper);
/* 0: exec_keep_next would understand what is in this box; -EPROTO. Nothing is changed. */
MUST_CHECK int exec_keep_check(int box);
/*
 * Take its name, before it is put; at the latest exec_keep_put does. False: there is none left, and
 * it would end with the daemon. One without a keeper needs none.
 */
MUST_CHECK bool exec_keep_reserve(struct exec_keep *k);
/* The keeper gives it up, and its name is for another one: from now on it ends with the daemon. */
void exec_keep_let_go(struct exec_keep *k);
/* It is over, or has nobody who asks. NULL is accepted. */
void exec_keep_free(struct exec_keep *k);

/* One of EXEC_KEEP_NAMES_MAX, for something else of a program; false: there is none left. */
MUST_CHECK bool exec_keep_take_name(void);
/* One that a predecessor has taken. */
void exec_keep_add_name(void);
void exec_keep_give_name(void);

/* Close what it has open, once it is done; the keeper's stays. */
void exec_keep_close(struct exec_keep *k);
/* Hand it to the keeper as it is; what it has begun with is in it. */
void exec_keep_put(struct exec_keep *k);
/* Nothing runs any more; rc, exit code and the like are in state. Only the output stays kept. */
void exec_keep_done(struct exec_keep *k);

/*
 * Move at most len bytes that are in the pipe to a stream's file (1, 2). Bytes, or -errno;
 * -EAGAIN: there are none.
 */
MUST_CHECK ssize_t exec_keep_move(struct exec_keep *k, int stream, int pipe, size_t len);
/* A note of ours, after the program's output. */
MUST_CHECK int exec_keep_note(struct exec_keep *k, int stream, const void *data, size_t len);
/* Bytes of a stream, with those that are not kept any more. */
size_t exec_keep_len(const struct exec_keep *k, int stream);
/* Bytes, fewer at the end; -ENODATA: what is there is not kept any more; -errno. */
MUST_CHECK ssize_t exec_keep_read(const struct exec_keep *k, int stream, uint64_t at, void *room,
				  size_t len);

/* ---- the window of an attached one ---- */

/* A follower has been sent a stream up to there. True: the program waits for that, wake it. */
bool exec_keep_note_sent(struct exec_keep *k, int stream, uint64_t at);
/* Bytes that no follower has been sent. */
size_t exec_keep_ahead(const struct exec_keep *k, int stream);
/* Give up what is more than so many bytes behind what has been sent. */
void exec_keep_trim(struct exec_keep *k, int stream, size_t behind);
/* Bytes of both streams that are kept. */
size_t exec_keep_held(const struct exec_keep *k);

#endif
