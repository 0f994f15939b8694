/*
 * push_content.h - the part of a push that moves bytes: finds what the bucket lacks of a tree, and
 * uploads it in containers.
 *
 * Chunks lie in the order of the tree: by inode, then offset. So what is read together lies
 * together. Nodes and locations are in the last container, or the last few.
 */
#ifndef VARVE_SHARE_PUSH_CONTENT_H
#define VARVE_SHARE_PUSH_CONTENT_H

#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/chunk/digest_set.h"
#include "store/bucket/object_store.h"
#include "store/remote/loc_map.h"
#include "store/layout/share_record.h"
#include "store/share/hooks.h"
#include "store/store.h"

struct push_content {
	/* in */
	struct store *s;
	struct object_store *os;
	struct share_id id;	       /* of the push */
	struct digest root;	       /* the caller keeps the tree */
	const struct loc_map *present; /* chunks that need no upload */
	const struct digest_set
		*with_below; /* nodes that are there with all below them; NULL: none */
	struct progress *p;
	/* out */
	struct share_packs packs; /* made, or used for a chunk of a new node: push_content_fini */
	struct pack_id meta[SHARE_META_MAX]; /* with nodes and locations */
	uint32_t meta_bytes[SHARE_META_MAX];
	unsigned n_meta;
	uint64_t chunks, nodes, n_packs, bytes;
};

/* The chunks of nodes that are not there; and of these, those that are not in c->present. */
struct push_survey {
	struct hook_sample all, unknown;
};
/* What push_content_run would go through. -ENODATA, -EBADMSG, -ECANCELED, -ENOMEM, as that. */
MUST_CHECK int push_content_survey(struct push_content *c, struct push_survey *out,
				   struct error *err);
/*
 * -EFBIG: more than SHARE_META_MAX containers of nodes; -ENODATA, -EBADMSG: the store lacks a part
 * of the tree; -EREMOTEIO: a chunk cannot be read, here or in another bucket; -ECANCELED; -ENOMEM;
 * failures of the bucket.
 */
MUST_CHECK int push_content_run(struct push_content *c, struct error *err);
void push_content_fini(struct push_content *c);

#endif
