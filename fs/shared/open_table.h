/*
 * open_table.h - which nodes of a mount are open, in memory that outlives this process: a
 * file without a name (memfd_create(2)), which a keeper (host/keeper.h) gives to the
 * successor. passthrough.c fills it.
 *
 * The file is a struct open_table_head and then records, of which those with an id are in use:
 * nodes, and notes of requests, whose ids are of inode 0. It is for one build of the program and
 * another of the same version; others refuse it.
 */
#ifndef VARVE_FS_OPEN_TABLE_H
#define VARVE_FS_OPEN_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/hash.h"
#include "store/base/macros.h"

/* Volatile: whoever reads it next may do so after any of our stores. */
struct open_record {
	volatile uint64_t id;	       /* of the node; 0: free */
	volatile uint64_t last_open;   /* the last request that was counted here */
	volatile uint64_t stale_open;  /* root: the last one that was sent to another node */
	volatile uint32_t cached;      /* open files through the inode's page cache */
	volatile uint32_t shared;      /* passed through; only one of the two is not 0 */
	volatile int32_t backing_id;   /* 0: none */
	volatile uint32_t generation;  /* root: of the node that lookups find */
	volatile uint32_t is_unshared; /* root: not to be shared ... */
	uint32_t unused;
	struct digest unshared_base; /* ... as long as this is the base */
	struct digest backing_key;   /* what the backing file holds; zeros: unknown */
	struct digest backing_base;  /* the base that holds it, too */
};

struct open_table;
struct open_note;

/* NULL: out of memory or descriptors. */
struct open_table *open_table_new(void);
/* 0: open_table_adopt would take it over; -EPROTO. Nothing is changed. */
MUST_CHECK int open_table_check(int fd);
/*
 * What a former process has left; fd is taken over if that succeeds. -EPROTO: it is not one of
 * this version.
 */
MUST_CHECK int open_table_adopt(int fd, struct open_table **out);
/* The file ends with its last descriptor. NULL is accepted. */
void open_table_free(struct open_table *t);
/* Borrowed. */
int open_table_fd(const struct open_table *t);

/* Zeros but for its id, until it is put back. NULL: out of memory. Thread-safe, as put. */
struct open_record *open_table_get(struct open_table *t, uint64_t id);
void open_table_put(struct open_table *t, struct open_record *r);
/* Call fn with every record in use. Not beside others. */
MUST_CHECK int open_table_each(struct open_table *t, int (*fn)(void *arg, struct open_record *r),
			       void *arg);

/*
 * A request that was counted and may not be answered yet. NULL: not noted, as there is no room.
 * Thread-safe, as those below.
 */
struct open_note *open_table_note(struct open_table *t, uint64_t request);
/* Of this process or a former one; NULL: it was not counted. */
struct open_note *open_table_find_note(struct open_table *t, uint64_t request);
/* It is answered. */
void open_note_drop(struct open_note *note);
/*
 * So are all that former processes have noted but these: notes are dropped where they
 * have piled up. Before any other request is noted.
 */
void open_table_forget_answered(struct open_table *t, const uint64_t *waiting, size_t n);

/* Whether the kernel has agreed to pass files through. */
void open_table_set_negotiated(struct open_table *t);
bool open_table_is_negotiated(const struct open_table *t);

#endif
