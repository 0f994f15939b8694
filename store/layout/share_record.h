/*
 * share_record.h - what a bucket says of a snapshot, and of the names that lead to it. Pure.
 *
 * A record, the object snap/PUSH (JSON, sorted, no spaces, at most SHARE_RECORD_MAX bytes):
 *   {"varve": 1, "state": "ready", "aborted" or "deleted", "id", "nonce", "epoch",
 *    and unless aborted
 *    "root": hex, "packs": [["PUSH", "0-14"], ["PUSH", "3"], ...], "meta": ["PUSH-15", ...],
 *    "metaBytes": [n, ...] or absent, "hot": id or null,
 *    "alternate": {"bucket": uuid, "url"} or absent,
 *    "snapshot": {"name", "parent": id, "source", "contentHash", "createdAtMs", "sizeBytes",
 *                 "fileCount", "config": object}}
 * Empty strings, a parent of none and a config of none are absent. A deleted record keeps all that
 * it had. packs (share_packs.h) has every pack that the snapshot's chunks and nodes are in, meta
 * those of them that have its nodes and locations, newest first. metaBytes, for each of these: from
 * the start of NODES to its end (vpk.h), 0 where that is not known; only saves who reads it a
 * request.
 *
 * alternate: some of the packs may be in that bucket, which is a permanent one (share_format.h).
 * How it was reached where the snapshot was pushed is for people.
 *
 * It is not the JSON of RFC 8785: an image's config may hold numbers that this has no bytes for.
 *
 * A register's entry, name/NAME/GEN or image/DIGEST/GEN:
 *   {"varve": 1, "generation", "prev": nonce or null, "nonce", "record": a ready record or null}
 * null: the name is taken by nothing.
 *
 * Decoders take what the network brings. Unknown members are ignored. -ENOTSUP: another "varve",
 * named in err; -EBADMSG: all other damage; -EFBIG: too long; -ENOMEM. err may be NULL.
 */
#ifndef VARVE_SHARE_RECORD_H
#define VARVE_SHARE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"
#include "store/layout/share_key.h"
#include "store/layout/share_packs.h"

#define SHARE_RECORD_MAX (1u << 20)
#define SHARE_REGISTER_MAX (SHARE_RECORD_MAX + 1024)
#define SHARE_META_MAX 6u
#define SHARE_URL_SIZE 256u

/* ---- records ---- */

enum share_state {
	SHARE_READY,
	SHARE_ABORTED, /* a collector gave the push up */
	SHARE_DELETED,
};

/* What users see of a snapshot, wherever it is. Bounds are those of struct snapshot. */
struct share_snapshot {
	char name[SNAPSHOT_NAME_MAX + 1]; /* the one it had where it was pushed, or "" */
	struct share_id parent;		  /* none: it has none, or that was not shared */
	char source[64];
	char content_hash[DIGEST_HEX_SIZE];
	int64_t created_at_ms; /* Unix time */
	uint64_t size_bytes, file_count;
	json_t *config; /* owned; object or NULL */
};

struct share_record {
	enum share_state state;
	struct share_id id, nonce;
	uint64_t epoch; /* newest collection when the push began; 0: none yet */
	/* Unless aborted: */
	struct digest root;
	struct share_packs packs;
	struct pack_id meta[SHARE_META_MAX];
	uint32_t meta_bytes[SHARE_META_MAX];
	unsigned n_meta;
	struct share_id hot; /* or none */
	struct {
		char bucket[SNAPSHOT_ID_SIZE]; /* uuid; "": there is none */
		char url[SHARE_URL_SIZE];      /* as far as it fits; or "" */
	} alternate;
	struct share_snapshot snapshot;
};
void share_record_fini(struct share_record *r);
static inline void share_record_fini_p(struct share_record *r)
{
	share_record_fini(r);
}
/* Appends. -EINVAL: breaks a rule above; -EFBIG: passes SHARE_RECORD_MAX; -ENOMEM. */
MUST_CHECK int share_record_encode(const struct share_record *r, struct buf *out,
				   struct error *err);
MUST_CHECK int share_record_decode(const void *text, size_t len, struct share_record *out,
				   struct error *err);

/*
 * From a local record, whose parent is shared under that id (NULL: it is not), and back: all of it
 * that does not belong to one host. config is shared, not copied.
 */
void share_snapshot_from(struct share_snapshot *out, const struct snapshot *s,
			 const struct share_id *parent);
void share_snapshot_to(const struct share_snapshot *s, struct snapshot *out);

/* ---- registers of names and images ---- */

struct share_register {
	uint64_t generation;   /* 1 to SHARE_GENERATION_MAX */
	struct share_id prev;  /* nonce of the generation before; none for the first */
	struct share_id nonce; /* of this attempt to append */
	bool has_record;
	struct share_record record; /* SHARE_READY */
};
void share_register_fini(struct share_register *r);
static inline void share_register_fini_p(struct share_register *r)
{
	share_register_fini(r);
}
MUST_CHECK int share_register_encode(const struct share_register *r, struct buf *out,
				     struct error *err);
MUST_CHECK int share_register_decode(const void *text, size_t len, struct share_register *out,
				     struct error *err);

#endif
