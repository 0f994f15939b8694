/*
 * journal.h - what the operations of one mount change, in their order, on the
 * way to the `upper` family of the database.
 *
 * A file that is mapped into memory: to log an operation is to copy a few
 * hundred bytes, without a system call, and what was copied survives the death
 * of this process. Two segments: while operations fill one, a thread writes the
 * other to the database, each key's last value alone, in one synced batch. The
 * file is made by the first operation and goes when a mount is closed in order.
 *
 * File data that is to be permanent soon, and is little, is logged as well: one
 * sync then does for both files. Its place is the data file, where it has been
 * written, too; so only after the machine has gone down it is written again.
 *
 * Format, version 1, little-endian; two segments of JOURNAL_SEGMENT bytes each:
 *   head     char[8] "VARVEJ1", u64 number (from 1), u64 bytes of the segment
 *            numbered one less, u8[16] the kernel's boot id, u32 CRC-32 of
 *            these, u32 0
 *   record   at multiples of 8: u32 length, u32 CRC-32 of (u64 number, payload),
 *            payload. A record that does not check ends the segment.
 *   payload  either changes: u8 1 put or 0 delete, u16 key length, u32 value
 *            length, key, value; the keys are the family's without the mount's id
 *            or data: u8 2, u64 position in the data file, bytes
 *            or u8 3: all data logged before is on disk in the data file
 * In the family, under (id, epoch 0): u64 number of the last segment that is in
 * the database. A segment counts if all before it do, whole.
 *
 * Thread-safe. The CRC is zlib's.
 */
#ifndef VARVE_FS_JOURNAL_H
#define VARVE_FS_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/kv.h"

#define JOURNAL_SEGMENT (4u << 20)
#define JOURNAL_ID_SIZE 16

struct journal;
/*
 * The journal of the mount `id`, at `name` below dir_fd, both borrowed as kv is.
 * Nothing is read or written yet. NULL without memory.
 */
struct journal *journal_new(int dir_fd, const char *name, const uint8_t id[JOURNAL_ID_SIZE],
			    struct kv *kv);
/* Borrow the data file, where data is logged: before anything else; and -1 to give it back. */
void journal_set_data_file(struct journal *j, int fd);
/* The file stays as it is. NULL is accepted. */
void journal_free(struct journal *j);

/*
 * Bring what a former process left to the database, but for epochs below
 * `epoch`, and remove the file. Before the first append.
 */
MUST_CHECK int journal_recover(struct journal *j, uint32_t epoch, struct error *err);
/* Bring everything to the database and remove the file. Nobody appends meanwhile. */
MUST_CHECK int journal_settle(struct journal *j);

/* Add a change to an operation. val NULL: deleted. -ENOMEM. */
MUST_CHECK int journal_change(struct buf *op, const void *key, size_t klen, const void *val,
			      size_t vlen);
/* Log an operation: all of it or, on failure (-ENOSPC, -EIO), nothing. */
MUST_CHECK int journal_append(struct journal *j, const struct buf *op);
/* Log bytes that are in the data file at pos; len <= JOURNAL_DATA_MAX. */
#define JOURNAL_DATA_MAX (64u << 10)
MUST_CHECK int journal_append_data(struct journal *j, uint64_t pos, const void *data, size_t len);
/* The data file was synced after all data that was logged before. */
MUST_CHECK int journal_data_synced(struct journal *j);
/* Whatever was appended before survives a power cut. */
MUST_CHECK int journal_sync(struct journal *j);

/*
 * Between these nothing is written to the database by the thread (appends may
 * wait for it). From the release on, nothing of epochs below `epoch` is.
 */
void journal_hold(struct journal *j);
void journal_release(struct journal *j, uint32_t epoch);

#endif
