/*
 * collect_content.h - what the snapshots of collect_world.h have: containers with chunks of some
 * bytes, and one tree of one node, which refers to them. And whether a reader finds them.
 */
#ifndef VARVE_TESTS_COLLECT_CONTENT_H
#define VARVE_TESTS_COLLECT_CONTENT_H

#include <stdlib.h>
#include <string.h>

#include "store/chunk/codec.h"
#include "store/layout/share_moved.h"
#include "store/layout/vpk.h"
#include "store/remote/share_meta.h"
#include "store/tree/node.h"
#include "store/tree/record.h"
#include "tests/unit/model_bucket.h"

#define PACK_CHUNKS 4u
#define META_CHUNKS 2u
#define CHUNK_BYTES 2000u /* so that chunks count for more than metadata */
#define USES_MAX 16u

/* A chunk that a snapshot needs, and where its metadata says that it is. */
struct use {
	struct digest digest;
	struct share_loc at;
};

struct uses {
	struct use v[USES_MAX];
	size_t n;
};

/* ---- containers ---- */

/* n new chunks, which go to `out` as far as there is room. */
static inline void content_add_chunks(struct model *m, struct vpk_writer *w,
				      const struct pack_id *id, unsigned n, struct uses *out)
{
	for (unsigned i = 0; i < n; i++) {
		struct buf CLEANUP(buf_fini_p) frame = BUF_INIT;
		struct use u = { .at.pack = *id };
		uint32_t x = model_random(m, UINT32_MAX);
		uint8_t raw[CHUNK_BYTES];

		for (size_t k = 0; k < sizeof(raw); k++) {
			x = x * 1664525 + 1013904223;
			raw[k] = (uint8_t)(x >> 24);
		}
		if (hash_bytes(raw, sizeof(raw), &u.digest) < 0 ||
		    codec_encode(CODEC_LEVEL_DEFAULT, raw, sizeof(raw), &frame) < 0 ||
		    vpk_add_frame(w, &u.digest, frame.data, frame.len, &u.at.offset) < 0)
			abort();
		u.at.len = (uint32_t)frame.len;
		if (out->n < USES_MAX)
			out->v[out->n++] = u;
	}
}

/* One with new chunks. */
static inline void content_make_pack(struct model *m, const struct pack_id *id, struct uses *out,
				     struct buf *bytes)
{
	struct vpk_writer *w = vpk_writer_new(id);

	if (!w)
		abort();
	content_add_chunks(m, w, id, PACK_CHUNKS, out);
	if (vpk_writer_finish(w, bytes) < 0)
		abort();
	vpk_writer_free(w);
}

/* All chunks that a container has. */
static inline int content_of_pack(const struct pack_id *id, const struct buf *bytes,
				  struct uses *out)
{
	struct vpk_view v;
	int rc = vpk_view_whole(&v, id, bytes->data, bytes->len, NULL);

	for (uint32_t i = 0; rc == 0 && i < v.n_frames && out->n < USES_MAX; i++) {
		struct vpk_frame f;

		vpk_frame(&v, i, &f);
		out->v[out->n++] = (struct use){ f.digest, { *id, f.offset, f.len } };
	}
	return rc;
}

static inline void content_make_leaf(const struct uses *u, struct buf *leaf)
{
	struct node_builder nb;

	node_builder_init(&nb, 0);
	for (size_t i = 0; i < u->n; i++) {
		const struct extent_rec e = { .kind = EXTENT_CHUNK,
					      .len = CHUNK_BYTES,
					      .digest = u->v[i].digest };
		struct buf CLEANUP(buf_fini_p) value = BUF_INIT;
		struct key k;

		key_extent(&k, 2, i * CHUNK_BYTES);
		if (extent_encode(&e, &value) < 0 ||
		    node_builder_add(&nb, k.bytes, k.len, value.data, value.len) < 0)
			abort();
	}
	if (node_builder_finish(&nb, leaf) < 0)
		abort();
	node_builder_fini(&nb);
}

/* One with more chunks, the tree, and the locations from u->v[from] on. */
static inline void content_make_meta(struct model *m, const struct pack_id *id, struct uses *u,
				     size_t from, struct digest *out_root, struct buf *bytes)
{
	struct buf CLEANUP(buf_fini_p) leaf = BUF_INIT;
	struct buf CLEANUP(buf_fini_p) frame = BUF_INIT;
	struct vpk_writer *w = vpk_writer_new(id);
	uint32_t pack;

	if (!w)
		abort();
	content_add_chunks(m, w, id, META_CHUNKS, u);
	content_make_leaf(u, &leaf);
	if (hash_bytes(leaf.data, leaf.len, out_root) < 0 ||
	    codec_encode(CODEC_LEVEL_DEFAULT, leaf.data, leaf.len, &frame) < 0 ||
	    vpk_add_node(w, frame.data, frame.len) < 0)
		abort();
	for (size_t i = from; i < u->n; i++)
		if (vpk_add_pack(w, &u->v[i].at.pack, &pack) < 0 ||
		    vpk_add_loc(w, &u->v[i].digest, pack, u->v[i].at.offset, u->v[i].at.len) < 0)
			abort();
	if (vpk_writer_finish(w, bytes) < 0)
		abort();
	vpk_writer_free(w);
}

/* ---- snapshots ---- */

struct content_taking {
	const struct share_meta *meta;
	const struct digest *root;
	struct uses *out;
};

static inline int content_take_node(void *arg, const struct share_node *n)
{
	const struct content_taking *t = arg;
	struct node_view v;
	int rc = node_check(n->bytes, n->len, &v);

	if (rc < 0 || (t->root && !digest_equal(&n->digest, t->root)))
		return rc;
	for (uint32_t i = 0; i < v.count && t->out->n < USES_MAX; i++) {
		struct use *u = &t->out->v[t->out->n];
		const uint8_t *key, *val;
		size_t klen, vlen;

		node_entry(&v, i, &key, &klen, &val, &vlen);
		if (leaf_entry_chunk(key, klen, val, vlen, &u->digest) != 1 ||
		    !share_meta_find(t->meta, &u->digest, 0, &u->at))
			return -EBADMSG;
		t->out->n++;
	}
	return 0;
}

/* What a snapshot needs; root NULL: what its metadata has, of its ancestors, too. */
static inline int content_of(const struct share_meta *meta, const struct digest *root,
			     struct uses *out)
{
	struct content_taking t = { meta, root, out };

	out->n = 0;
	return share_meta_each_node(meta, content_take_node, &t, NULL);
}

/* A container's sections, in it or where they were kept. */
static inline bool content_sections(const struct model *m, struct share_meta_pack *p)
{
	const struct model_object *o;
	struct vpk_tail tail;
	char key[SHARE_KEY_SIZE];

	share_key_pack(&p->id, key);
	o = model_find(m, key);
	if (o)
		return buf_append(&p->bytes, o->body.data, o->body.len) == 0 &&
		       vpk_view_whole(&p->view, &p->id, p->bytes.data, p->bytes.len, NULL) == 0;
	share_key_meta(&p->id, key);
	o = model_find(m, key);
	return o && buf_append(&p->bytes, o->body.data, o->body.len) == 0 &&
	       vpk_sections_tail(p->bytes.data + p->bytes.len - VPK_TAIL_SIZE, p->bytes.len, &tail,
				 NULL) == 0 &&
	       vpk_view_init(&p->view, &tail, &p->id, p->bytes.data, p->bytes.len, NULL) == 0;
}

/* Its metadata, without a request. False: some is missing. */
static inline bool content_meta(const struct model *m, const struct share_record *rec,
				struct share_meta *out)
{
	*out = (struct share_meta){ .n = rec->n_meta };
	for (unsigned i = 0; i < out->n; i++) {
		out->packs[i].id = rec->meta[i];
		if (!content_sections(m, &out->packs[i]))
			return false;
	}
	return true;
}

/* ---- readers ---- */

static inline bool content_pack_has(struct model_object *o, const struct use *u)
{
	struct uses *all = o->note;

	if (!all) {
		all = o->note = calloc(1, sizeof(*all));
		if (content_of_pack(&u->at.pack, &o->body, all) < 0)
			abort();
	}
	for (size_t i = 0; i < all->n; i++)
		if (digest_equal(&all->v[i].digest, &u->digest))
			return all->v[i].at.offset == u->at.offset && all->v[i].at.len == u->at.len;
	return false;
}

/* As a reader looks for it. */
static inline bool content_is_there(const struct model *m, const struct use *wanted)
{
	struct use u = *wanted;

	for (unsigned hops = 0; hops <= SHARE_MOVED_HOPS; hops++) {
		struct share_moved_chunk c;
		struct share_moved moved;
		struct model_object *o;
		char key[SHARE_KEY_SIZE];

		share_key_pack(&u.at.pack, key);
		o = model_find(m, key);
		if (o)
			return content_pack_has(o, &u);
		share_key_moved(&u.at.pack, key);
		o = model_find(m, key);
		if (!o ||
		    share_moved_decode(o->body.data, o->body.len, &u.at.pack, &moved, NULL) < 0 ||
		    !share_moved_find(&moved, &u.digest, &c))
			return false;
		u.at = (struct share_loc){ moved.head.to, c.offset, c.len };
	}
	return false;
}

#endif
