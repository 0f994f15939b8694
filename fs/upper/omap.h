/*
 * omap.h - an ordered map from short byte strings to byte strings, in memory.
 *
 * A treap (Seidel and Aragon, 1996): expected O(log n), no rebalancing state.
 * Holds what a mount has changed about one inode. Not thread-safe: the inode's
 * lock guards it. Entries are made first and linked in later, so that linking
 * cannot fail.
 */
#ifndef VARVE_FS_OMAP_H
#define VARVE_FS_OMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"

struct omap_entry {
	struct omap_entry *left, *right;
	uint32_t priority;
	uint16_t key_len;
	bool tombstone; /* hides what is below; no value */
	bool leaves;	/* true only while its owner sums up what it replaces */
	uint32_t value_len;
	uint8_t bytes[]; /* key, then value */
};

struct omap {
	struct omap_entry *root;
	size_t count;
};

static inline const uint8_t *omap_key(const struct omap_entry *e)
{
	return e->bytes;
}
static inline const uint8_t *omap_value(const struct omap_entry *e)
{
	return e->bytes + e->key_len;
}

/* An unlinked entry, owned by the caller, or NULL. */
struct omap_entry *omap_entry_new(const void *key, size_t klen, const void *val, size_t vlen,
				  bool tombstone);
void omap_entry_free(struct omap_entry *e);

struct omap_entry *omap_find(const struct omap *m, const void *key, size_t klen);
struct omap_entry *omap_seek_ge(const struct omap *m, const void *key, size_t klen);
struct omap_entry *omap_seek_gt(const struct omap *m, const void *key, size_t klen);
struct omap_entry *omap_seek_le(const struct omap *m, const void *key, size_t klen);
/* Link e in, taking it over; returns the entry of the same key that it replaced, or NULL. */
struct omap_entry *omap_insert(struct omap *m, struct omap_entry *e);
/* Unlink; returns the entry (now the caller's), or NULL. */
struct omap_entry *omap_remove(struct omap *m, const void *key, size_t klen);
/* Free every entry. */
void omap_clear(struct omap *m);

#endif
