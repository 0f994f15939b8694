/*
 * journal.h - what the operations of one mount change, in their order, on the
 * way to the `upper` family of the database.
 *
 * A file: to log an operation is one write of a few hundred bytes to the page
 * cache, and what was written survives the death of this process. It is not
 * mapped: a page that a store through a mapping finds no block for (a full disk
 * below a filesystem that copies on write, an error of the disk) would kill the
 * process, and a write() just fails. Two segments: while operations fill one, a
 * thread brings the other to the database, each key's last value alone, in one
 * synced batch. The file is made by the first operation and goes when a mount is
 * closed in order.
 *
 * File data that is to be permanent soon, and is little, is logged as well: one
 * sync then does for both files. Its place is the data file, where it has been
 * written, too; so only after the machine has gone down it is written again.
 *
 * The journal says, too, when an epoch ends and the next begins (a checkpoint).
 * The mount's record, in another family, says the same later and may be lost in
 * a power cut that this is not: journal_recover returns the last change, and the
 * record is mended from that. So no operation of an epoch is ever found without
 * the change that began it.
 *
 * Its bytes: journal_format.h. In the family `upper`: journal_apply.h.
 *
 * Thread-safe.
 */
#ifndef VARVE_FS_JOURNAL_H
#define VARVE_FS_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "fs/upper/journal_format.h"
#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/kv/kv.h"

struct journal;
/*
 * The journal of the mount `id`, at `name` below dir_fd, both borrowed as kv is.
 * Nothing is read or written yet. NULL without memory.
 */
struct journal *journal_new(int dir_fd, const char *name, const uint8_t id[JOURNAL_ID_SIZE],
			    struct kv *kv);
/*
 * Borrow the data file, where data is logged, `name` below dir_fd (borrowed, too):
 * before anything else; and -1 to give it back.
 */
void journal_set_data_file(struct journal *j, int fd, const char *name);
/* The file stays as it is. NULL is accepted. */
void journal_free(struct journal *j);

/* The epochs that the mount's record knows. */
struct journal_epochs {
	uint32_t oldest, current;
};

/*
 * -EINVAL, with a reason, where a file is of a version that this program does not
 * know: nothing has been touched then, and nothing must be.
 */
MUST_CHECK int journal_check_version(int dir_fd, const char *name, struct error *err);
/* The kernel's boot id in hex digits, as of journal_new. */
#define JOURNAL_BOOT_TEXT (2 * 16 + 1)
void journal_boot_text(const struct journal *j, char out[JOURNAL_BOOT_TEXT]);
/* After journal_recover: was what it found written since the machine started? */
bool journal_is_of_this_boot(const struct journal *j);

/*
 * Bring what a former process left to the database, but for epochs below
 * known->oldest, and remove the file. *out_change is the last change of epoch, at
 * `begun` 0 there was none; it may be older than the record. Before the first
 * append. -EBADMSG: what the file holds cannot be, and all is left as it was.
 */
MUST_CHECK int journal_recover(struct journal *j, const struct journal_epochs *known,
			       struct journal_epoch *out_change, struct error *err);
/* Bring everything to the database and remove the file. Nobody appends meanwhile. */
MUST_CHECK int journal_settle(struct journal *j);

/*
 * Operations that this thread logs from now on are done for this request; 0: for none. What
 * it had before is answered.
 */
void journal_set_request(uint64_t unique);

/*
 * For a successor (journal_requests.h). Before journal_recover: the requests that the kernel
 * waits for on the connection that this process adopts, ascending, borrowed until that
 * returns. Without, there is none.
 */
void journal_set_waiting(struct journal *j, const uint64_t *uniques, size_t n);
/*
 * Was it done by a former process? Then *out_made_ino is the inode that it made, or 0, and it
 * is this thread's request.
 */
bool journal_was_done(struct journal *j, uint64_t unique, uint64_t *out_made_ino);
/* Did a request make this inode that was done by a former process? */
bool journal_has_made(const struct journal *j, uint64_t ino);
/* A connection begins, and its requests are numbered anew. No request is under way. */
MUST_CHECK int journal_begin_connection(struct journal *j);
/*
 * Log an operation: all of it or, on failure (-ENOSPC, -EIO), nothing. made_ino:
 * of the inode that it makes, or 0.
 */
MUST_CHECK int journal_append(struct journal *j, const struct buf *op, uint64_t made_ino);
/* The same of a change of epoch. Nobody appends meanwhile. */
MUST_CHECK int journal_append_epoch(struct journal *j, const struct journal_epoch *e);
/* Log bytes that are in the data file at pos; len <= JOURNAL_DATA_MAX. */
#define JOURNAL_DATA_MAX (64u << 10)
MUST_CHECK int journal_append_data(struct journal *j, uint64_t pos, const void *data, size_t len);
/*
 * Sync the data file, so that what was logged of it before need not be written
 * again. A failure is for good: what the disk has of it is not known any more.
 */
MUST_CHECK int journal_sync_data(struct journal *j);
/* Whatever was appended before survives a power cut. */
MUST_CHECK int journal_sync(struct journal *j);

/*
 * Between these nothing is written to the database by the thread (appends may
 * wait for it). From the release on, nothing of epochs below `epoch` is.
 */
void journal_hold(struct journal *j);
void journal_release(struct journal *j, uint32_t epoch);

/*
 * Between these, too: a copy of the journal that ends at the last record before the cut. The
 * database is to be copied between the hold and the release, so that the two fit.
 */
struct journal_cut {
	uint64_t applied;   /* number of the last segment in the database; 0: none */
	uint32_t min_epoch; /* what the database has of epochs below has been deleted */
	uint64_t number;    /* of the last one */
	size_t full_len;    /* bytes of the one before, if that is not in the database */
	size_t len;	    /* bytes of the last one; 0: there is nothing to copy */
};
void journal_cut(struct journal *j, struct journal_cut *out);
/*
 * To an empty file. Not if `len` is 0. It says that logged data is on disk in the data file: what
 * the copy of that has is newer.
 */
MUST_CHECK int journal_copy(const struct journal *j, const struct journal_cut *c, int to);

#endif
