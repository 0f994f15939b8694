/*
 * share_meta.h - the metadata of a snapshot in the bucket: its containers' nodes and locations, in
 * memory.
 *
 * Bounded by SHARE_META_MAX containers of VPK_SIZE_MAX bytes. The nodes of an ancestor that the
 * snapshot no longer has may be among them.
 */
#ifndef VARVE_SHARE_META_H
#define VARVE_SHARE_META_H

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/bucket/object_store.h"
#include "store/layout/share_record.h"
#include "store/layout/vpk.h"

struct share_meta {
	unsigned n;
	struct share_meta_pack {
		struct pack_id id;
		struct buf bytes; /* the object's end; the view borrows from it */
		struct vpk_view view;
	} packs[SHARE_META_MAX];
};

/*
 * Fetch the sections of all containers that r->meta names; of those that were repacked, what was
 * kept of them (share/repack.h). Failures as of object_store.h and vpk.h.
 */
MUST_CHECK int share_meta_fetch(struct object_store *os, enum object_priority pr,
				const struct share_record *r, struct share_meta *out,
				struct error *err);
/* Those of one container, which must be there itself: -ENOENT. */
MUST_CHECK int share_meta_fetch_pack(struct object_store *os, enum object_priority pr,
				     const struct pack_id *pack, struct share_meta *out,
				     struct error *err);
void share_meta_fini(struct share_meta *m);

/*
 * Each node, decoded: the digest of its bytes, these, and the frame that they came from, all of
 * which live during the call. A non-zero result of fn ends it and is returned. -EBADMSG: one does
 * not decode.
 */
struct share_node {
	struct digest digest;
	const void *bytes, *frame;
	size_t len, frame_len;
};
typedef int (*share_node_fn)(void *arg, const struct share_node *n);
MUST_CHECK int share_meta_each_node(const struct share_meta *m, share_node_fn fn, void *arg,
				    struct error *err);

/* Each chunk that a leaf refers to; of another node none. A non-zero result of fn is returned. */
typedef int (*share_chunk_fn)(void *arg, const struct digest *digest);
MUST_CHECK int share_leaf_chunks(const struct node_view *v, share_chunk_fn fn, void *arg);

/* Where a chunk may be. */
struct share_loc {
	struct pack_id pack;
	uint32_t offset, len;
};
/*
 * The i-th location (from 0) of a chunk with such a digest; false if there are no more. The newest
 * container is asked first. Only the digest's beginning was compared.
 */
bool share_meta_find(const struct share_meta *m, const struct digest *d, unsigned i,
		     struct share_loc *out);

#endif
