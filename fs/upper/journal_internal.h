/*
 * journal_internal.h - what journal.c (appending) and journal_recover.c (what a former
 * process left) share.
 */
#ifndef VARVE_FS_JOURNAL_INTERNAL_H
#define VARVE_FS_JOURNAL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "fs/upper/journal.h"
#include "fs/upper/journal_apply.h"

struct journal {
	struct kv *kv;
	int dir_fd;
	char *name;
	uint8_t id[JOURNAL_ID_SIZE];
	uint8_t boot[JOURNAL_BOOT_SIZE];
	bool found_this_boot; /* see journal_is_of_this_boot */

	_Atomic int data_fd;	/* -1: no data is logged */
	const char *data_name;	/* set before data_fd */
	_Atomic int data_error; /* sticks */
	_Atomic bool data_dir_synced;

	pthread_mutex_t lock;	     /* guards what follows */
	pthread_cond_t idle;	     /* not applying, or not held any more */
	int fd;			     /* -1: there is no file */
	uint64_t number;	     /* of the segment that is filled */
	uint32_t seed;		     /* its records' */
	size_t at;		     /* where its next record goes */
	size_t zeroed[2];	     /* bytes of each segment that the file has */
	uint64_t applied;	     /* number of the last segment in the database */
	size_t full_len;	     /* of the one before `number`, where that is not applied */
	struct journal_epoch change; /* the last one in the database */
	bool has_data;		     /* logged data may be nowhere else on disk */
	bool applying;		     /* the thread is at it */
	bool has_thread;	     /* to be joined */
	bool held;		     /* see journal_hold */
	int apply_error;	     /* of the last try, if that failed ... */
	int64_t retry_ms;	     /* ... and on the monotonic clock when there is another */
	uint32_t min_epoch;
	uint64_t appended; /* records */
	uint64_t synced;   /* of these, on disk */
	bool dir_synced;
	int sync_error; /* what the disk has of the file is not known; see journal_sync */
	pthread_t thread;

	/* Of those that the kernel waits for: what is known before recovery, borrowed. */
	const uint64_t *waiting; /* ascending */
	size_t n_waiting;
	struct journal_requests done; /* by a former process; constant after recovery */
	bool has_requests;	      /* guarded by lock: the database names some */
	bool mark;		      /* guarded by lock: another connection has begun */
	pthread_mutex_t open_lock;    /* leaf; guards `open` */
	struct journal_requests open; /* logged and not answered */
};
/* Where a segment is in the file. */
static inline off_t journal_place(uint64_t number)
{
	return (off_t)(number % 2 * JOURNAL_SEGMENT);
}

/* Bytes [0, len) of a segment; what the file does not have of them is zeros. */
MUST_CHECK int journal_read_segment(int fd, uint64_t number, uint8_t *out, size_t len);
/* All of a segment, into JOURNAL_SEGMENT zeros: most of a file is holes, which cost nothing. */
MUST_CHECK int journal_read_written(int fd, uint64_t number, uint8_t *zeroed);
MUST_CHECK int journal_sync_data_file(struct journal *j);
/* Close and remove. */
MUST_CHECK int journal_remove_file(struct journal *j);

/* journal_open.c: the request that this thread works for; 0: none. */
uint64_t journal_current_request(void);
/* Before its record is written, after which nothing may fail. -ENOMEM. */
MUST_CHECK int journal_open_request(struct journal *j, uint64_t made_ino);
/* lock held: before its segment can be brought to the database. */
void journal_note_logged(struct journal *j);
/* It is answered, or has failed. */
void journal_close_request(void);
/* The journal goes. */
void journal_forget_request(const struct journal *j);
/*
 * Those that are logged and not answered. Of one that a full segment has, all is there. *out is
 * initialised by it. -ENOMEM.
 */
MUST_CHECK int journal_copy_open(struct journal *j, struct journal_requests *out);

#endif
