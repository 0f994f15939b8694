/*
 * share_key.h - ids, and the names of the objects in a bucket. Pure.
 *
 * An id names a push, its snapshot, an instance of the daemon, or one attempt to write a register
 * (a nonce): 128 random bits, 32 lower-case hex digits as text. The id of zeros is never drawn and
 * stands for "none".
 *
 * Keys, below the remote's prefix:
 *   format                     what the bucket is (share_format.h)
 *   pack/PP/PUSH-N             a container (vpk.h); PP: first two digits of PUSH; N: 0 to
 *                              PACK_NUMBER_MAX, decimal
 *   push/PUSH  snap/PUSH       intent and record of a push (share_round.h, share_record.h)
 *   hot/PUSH                   what a first use of that snapshot reads
 *   gone/PUSH                  empty: that snapshot gets no more names, as it is deleted
 *   name/NAME/GEN  name/NAME/hint
 *   image/DIGEST/GEN  build/DIGEST/GEN
 *   gc/GEN  gc/GEN.done        registers
 *   moved/PUSH-N               where the chunks of a pack are now (share_moved.h)
 *   meta/PUSH-N                the sections of a pack that was repacked (vpk.h), if they were
 *                              in use
 *   node/INSTANCE              what an instance uses
 *   probe/ID/...               what a check of the service writes, and then removes
 *   hook/HOOK/PUSH             that snapshot has a certain chunk. HOOK: first 32 digits of the
 * chunk's digest, or of a name that the bucket's key makes of it
 *
 * GEN is 2^64 - 1 - generation, 16 digits, so that the newest sorts first. Generations begin at 1;
 * 0 means "none yet". "hint" and "GEN.done" sort after the newest GEN.
 *
 * NAME is a snapshot's name; a key has no upper case. 'A' to 'Z' become "_a" to "_z" and '_'
 * becomes "__"; all else stays. So equal keys are equal names; and as a name begins with a letter
 * or digit and is a part of its own, none becomes "." or ".." or meets "hint".
 */
#ifndef VARVE_SHARE_KEY_H
#define VARVE_SHARE_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"
#include "store/bucket/object_store.h"

#define SHARE_ID_BYTES 16
#define SHARE_ID_SIZE (2 * SHARE_ID_BYTES + 1) /* as text, with its NUL */

struct share_id {
	uint8_t b[SHARE_ID_BYTES];
};

/* 0, or -errno if the system has no random bytes to give. */
MUST_CHECK int share_id_random(struct share_id *out);
void share_id_text(const struct share_id *id, char out[SHARE_ID_SIZE]);
/* -EINVAL unless s is exactly 32 lower-case hex digits, not all 0. */
MUST_CHECK int share_id_parse(const char *s, struct share_id *out);
static inline int share_id_cmp(const struct share_id *a, const struct share_id *b)
{
	return memcmp(a->b, b->b, SHARE_ID_BYTES);
}
static inline bool share_id_equal(const struct share_id *a, const struct share_id *b)
{
	return share_id_cmp(a, b) == 0;
}
bool share_id_is_none(const struct share_id *id);

/* A container: the number-th that a push wrote. No id is ever used twice. */
#define PACK_NUMBER_MAX ((1u << 20) - 1)
#define PACK_ID_SIZE (SHARE_ID_SIZE + 1 + 7) /* "PUSH-N" with its NUL */
struct pack_id {
	struct share_id push;
	uint32_t number;
};
int pack_id_cmp(const struct pack_id *a, const struct pack_id *b); /* by push, then number */
void pack_id_text(const struct pack_id *p, char out[PACK_ID_SIZE]);
MUST_CHECK int pack_id_parse(const char *s, struct pack_id *out); /* -EINVAL */

/* The greatest generation; JSON keeps it exactly. */
#define SHARE_GENERATION_MAX ((UINT64_C(1) << 53) - 1)

enum share_key_kind {
	SHARE_KEY_FORMAT,
	SHARE_KEY_PACK,	     /* pack */
	SHARE_KEY_PUSH,	     /* id */
	SHARE_KEY_SNAP,	     /* id */
	SHARE_KEY_HOT,	     /* id */
	SHARE_KEY_NAME,	     /* name, generation */
	SHARE_KEY_NAME_HINT, /* name */
	SHARE_KEY_IMAGE,     /* digest, generation */
	SHARE_KEY_BUILD,     /* digest, generation */
	SHARE_KEY_GC,	     /* generation */
	SHARE_KEY_GC_DONE,   /* generation */
	SHARE_KEY_MOVED,     /* pack */
	SHARE_KEY_META,	     /* pack */
	SHARE_KEY_NODE,	     /* id */
	SHARE_KEY_HOOK,	     /* digest, id */
	SHARE_KEY_GONE,	     /* id */
};

/* One key, taken apart. Members that the kind does not mention are zero. */
struct share_key {
	enum share_key_kind kind;
	struct share_id id;
	struct pack_id pack;
	struct digest digest; /* HOOK: only the first SHARE_HOOK_BYTES count, the rest is 0 */
	uint64_t generation;  /* 1 to SHARE_GENERATION_MAX */
	char name[SNAPSHOT_NAME_MAX + 1];
};
#define SHARE_HOOK_BYTES 16

#define SHARE_KEY_SIZE (OBJECT_KEY_MAX + 1)
/* -EINVAL if a member that the kind needs is out of its bounds. */
MUST_CHECK int share_key_text(const struct share_key *k, char out[SHARE_KEY_SIZE]);
/* -EINVAL unless share_key_text makes exactly this text of some key. */
MUST_CHECK int share_key_parse(const char *text, struct share_key *out);

/*
 * What the keys of a kind begin with, for a LIST: "snap/", "pack/", "name/". With a key that names
 * a register (NAME, IMAGE, BUILD) or a hook: what the keys of that one begin with, "name/NAME/";
 * a LIST of max_keys 1 then shows a register's newest generation, or else the hint.
 */
const char *share_key_kind_prefix(enum share_key_kind kind);
MUST_CHECK int share_key_prefix(const struct share_key *k, char out[SHARE_KEY_SIZE]);

/* The most used ones; cannot fail. */
void share_key_pack(const struct pack_id *p, char out[SHARE_KEY_SIZE]);
void share_key_moved(const struct pack_id *p, char out[SHARE_KEY_SIZE]);
void share_key_meta(const struct pack_id *p, char out[SHARE_KEY_SIZE]);
void share_key_of_id(enum share_key_kind kind, const struct share_id *id,
		     char out[SHARE_KEY_SIZE]); /* PUSH, SNAP, HOT, NODE, GONE */

/* NAME as said above. -EINVAL: no snapshot's name; no encoded one. */
#define SHARE_NAME_SIZE (2 * SNAPSHOT_NAME_MAX + 1)
MUST_CHECK int share_name_encode(const char *name, char out[SHARE_NAME_SIZE]);
MUST_CHECK int share_name_decode(const char *text, char out[SNAPSHOT_NAME_MAX + 1]);

/* True for the digests, 1 in 1,024, that have a hook in any case: their last 10 bits are 0. */
static inline bool share_digest_hooks(const struct digest *d)
{
	return d->b[DIGEST_SIZE - 1] == 0 && (d->b[DIGEST_SIZE - 2] & 3) == 0;
}

#endif
