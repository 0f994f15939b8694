#include "store/share/push_content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/chunk/codec.h"
#include "store/bucket/object_window.h"
#include "store/remote/share_meta.h"
#include "store/layout/vpk.h"
#include "store/tree/record.h"

#define PACK_AIM ((size_t)16 << 20)
#define UPLOADS 4 /* containers under way; with the one that is filled: 80 MiB */
#define NODES_SEEN_MAX ((size_t)64 << 20)

struct run {
	struct push_content *c;
	struct object_window *w;
	struct vpk_writer *pack; /* the one that is filled; NULL: none */
	struct pack_id pack_id;
	struct loc_map own;	/* chunks that this push has uploaded */
	struct digest_set seen; /* nodes */
	struct buf nodes;	/* struct digest: the new ones, root first, by level, by key */
	struct buf frame;
	struct push_survey *survey; /* of push_content_survey */
	struct error *err;	    /* for what is done with a leaf's chunks */
};

/* ---- containers ---- */

struct upload {
	char key[SHARE_KEY_SIZE];
	struct buf body;
};

static int take_upload(void *arg, struct object_request *r, struct error *err)
{
	struct upload *u = arg;
	int rc = r->result;

	if (rc < 0)
		error_set(err, rc, "%s: %s", u->key, error_text(&r->err));
	buf_fini(&u->body);
	free(u);
	return rc;
}

static int pack_open(struct run *r)
{
	if (r->pack)
		return 0;
	r->pack_id = (struct pack_id){ r->c->id, (uint32_t)r->c->n_packs };
	r->pack = vpk_writer_new(&r->pack_id);
	return r->pack ? 0 : -ENOMEM;
}

/* Those who read its sections ask for so much. */
static void note_meta_bytes(struct push_content *c, const struct pack_id *id, const struct buf *b)
{
	const uint8_t *tail = b->data + b->len - VPK_TAIL_SIZE;
	struct vpk_tail t;

	if (c->n_meta && pack_id_cmp(&c->meta[c->n_meta - 1], id) == 0 &&
	    vpk_tail_parse(tail, b->len, &t, NULL) == 0)
		c->meta_bytes[c->n_meta - 1] = t.size - t.nodes;
}

/* Send the open container on its way. */
static int pack_send(struct run *r, struct error *err)
{
	struct upload *u = calloc(1, sizeof(*u));
	int rc = u ? vpk_writer_finish(r->pack, &u->body) : -ENOMEM;

	vpk_writer_free(STEAL(r->pack));
	if (rc == 0)
		rc = share_packs_add(&r->c->packs, &r->pack_id);
	if (rc < 0) {
		if (u)
			buf_fini(&u->body);
		free(u);
		return rc;
	}
	note_meta_bytes(r->c, &r->pack_id, &u->body);
	share_key_pack(&r->pack_id, u->key);
	const struct object_request put = { .op = OBJECT_PUT,
					    .priority = OBJECT_PUSH,
					    .key = u->key,
					    .body = u->body.data,
					    .len = u->body.len };
	r->c->n_packs++;
	r->c->bytes += u->body.len;
	if (r->c->p) {
		r->c->p->done_bytes = r->c->bytes;
		progress_tick(r->c->p, false);
	}
	rc = object_window_add(r->w, &put, take_upload, u, err);
	if (rc < 0) {
		buf_fini(&u->body);
		free(u);
	}
	return rc;
}

/* ---- chunks ---- */

/* The chunk's frame to r->frame. */
static int read_chunk(struct run *r, const struct digest *d, struct error *err)
{
	char hex[DIGEST_HEX_SIZE];
	int rc;

	buf_clear(&r->frame);
	rc = chunk_store_frame(r->c->s->chunks, d, &r->frame);
	if (rc == 0)
		return 0;
	digest_to_hex(d, hex);
	if (rc == -ENODATA)
		return error_set(err, rc,
				 "chunk %s is neither in this store nor in a bucket: the snapshot "
				 "that it was fetched from was deleted there",
				 hex);
	/* A bucket that has it is away, or the disk fails: not the bucket that it goes to. */
	if (rc == -EIO)
		return error_set(err, -EREMOTEIO, "chunk %s cannot be read", hex);
	return error_set_errno(err, rc, "chunk %s", hex);
}

static int upload_chunk(struct run *r, const struct digest *d, struct error *err)
{
	struct share_loc at = { 0 };
	int rc = read_chunk(r, d, err);

	if (rc == 0 && r->pack && vpk_writer_size(r->pack) + r->frame.len > PACK_AIM)
		rc = pack_send(r, err);
	if (rc == 0)
		rc = pack_open(r);
	if (rc == 0)
		rc = vpk_add_frame(r->pack, d, r->frame.data, r->frame.len, &at.offset);
	if (rc < 0)
		return rc;
	at.pack = r->pack_id;
	at.len = (uint32_t)r->frame.len;
	r->c->chunks++;
	return loc_map_add(&r->own, d, &at);
}

static bool loc_of(const struct run *r, const struct digest *d, struct share_loc *out)
{
	return loc_map_get(&r->own, d, out) || loc_map_get(r->c->present, d, out);
}

static int chunk_content(void *arg, const struct digest *d)
{
	struct run *r = arg;
	struct share_loc at;

	if (!loc_of(r, d, &at))
		return upload_chunk(r, d, r->err);
	return share_packs_add(&r->c->packs, &at.pack);
}

/* ---- the walk ---- */

static int note_node(struct run *r, const struct digest *d)
{
	const struct digest_set *there = r->c->with_below;

	if ((there && digest_set_has(there, d)) || !digest_set_add(&r->seen, d))
		return 0;
	return buf_append(&r->nodes, d, sizeof(*d));
}

static int note_children(struct run *r, const struct node *n)
{
	int rc = 0;

	for (uint32_t i = 0; i < n->view.count && rc == 0; i++) {
		const uint8_t *key, *val;
		size_t klen, vlen;
		struct digest child;

		node_entry(&n->view, i, &key, &klen, &val, &vlen);
		if (vlen != DIGEST_SIZE)
			return -EBADMSG;
		memcpy(child.b, val, DIGEST_SIZE);
		rc = note_node(r, &child);
	}
	return rc;
}

/* The i-th new node, or NULL past the last. */
static int node_at(struct run *r, size_t i, struct node **out)
{
	struct digest d;

	*out = NULL;
	if (i >= r->nodes.len / sizeof(d))
		return 0;
	memcpy(&d, r->nodes.data + i * sizeof(d), sizeof(d));
	return node_store_peek(r->c->s->nodes, &d, out);
}

/* What a walk does with a leaf. */
typedef int (*leaf_fn)(struct run *r, const struct node *n, struct error *err);

static int leaf_content(struct run *r, const struct node *n, struct error *err)
{
	r->err = err;
	return share_leaf_chunks(&n->view, chunk_content, r);
}

/* Level by level, so that leaves come last, by key; and their chunks with them. */
static int walk(struct run *r, leaf_fn leaf, struct error *err)
{
	int rc = note_node(r, &r->c->root);

	for (size_t i = 0; rc == 0; i++) {
		CLEANUP(node_unref_p) struct node *n = NULL;

		rc = node_at(r, i, &n);
		if (rc < 0 || !n)
			break;
		rc = n->view.level ? note_children(r, n) : leaf(r, n, err);
		if (rc == 0 && progress_cancelled(r->c->p))
			rc = -ECANCELED;
	}
	return rc;
}

/* ---- nodes and locations ---- */

static int chunk_location(void *arg, const struct digest *d)
{
	struct run *r = arg;
	struct share_loc at;
	uint32_t pack;
	int rc;

	if (!loc_of(r, d, &at))
		return -ENODATA; /* not met: the walk has seen it */
	rc = vpk_add_pack(r->pack, &at.pack, &pack);
	return rc < 0 ? rc : vpk_add_loc(r->pack, d, pack, at.offset, at.len);
}

/* A node with the locations that it needs, to the open container. -EFBIG: that is full. */
static int add_node(struct run *r, const struct node *n)
{
	int rc;

	buf_clear(&r->frame);
	rc = codec_encode(CODEC_LEVEL_DEFAULT, n->view.bytes, n->view.len, &r->frame);
	if (rc == 0)
		rc = share_leaf_chunks(&n->view, chunk_location, r);
	return rc < 0 ? rc : vpk_add_node(r->pack, r->frame.data, r->frame.len);
}

static int next_meta(struct run *r, struct error *err)
{
	int rc = r->pack ? pack_send(r, err) : 0;

	if (rc == 0 && r->c->n_meta == SHARE_META_MAX)
		return error_set(err, -EFBIG, "its metadata needs more than %u containers",
				 SHARE_META_MAX);
	if (rc == 0)
		rc = pack_open(r);
	if (rc == 0)
		r->c->meta[r->c->n_meta++] = r->pack_id;
	return rc;
}

static int write_meta(struct run *r, struct error *err)
{
	int rc = 0;

	if (r->pack && vpk_writer_size(r->pack) <= PACK_AIM)
		r->c->meta[r->c->n_meta++] = r->pack_id; /* the last chunks' has room for it */
	for (size_t i = 0; rc == 0; i++) {
		CLEANUP(node_unref_p) struct node *n = NULL;

		rc = node_at(r, i, &n);
		if (rc < 0 || !n)
			break;
		rc = r->c->n_meta ? add_node(r, n) : -EFBIG;
		if (rc == -EFBIG) {
			rc = next_meta(r, err);
			if (rc == 0)
				rc = add_node(r, n);
		}
		r->c->nodes++;
	}
	return rc < 0 || !r->pack ? rc : pack_send(r, err);
}

/* ---- the whole ---- */

static int survey_leaf(struct run *r, const struct node *n, struct error *err)
{
	struct push_survey *s = r->survey;
	int rc = 0;

	(void)err;
	for (uint32_t i = 0; i < n->view.count && rc >= 0; i++) {
		const uint8_t *key, *val;
		size_t klen, vlen;
		struct share_loc at;
		struct extent_rec e;
		struct digest d;

		node_entry(&n->view, i, &key, &klen, &val, &vlen);
		rc = leaf_entry_chunk(key, klen, val, vlen, &d);
		if (rc <= 0)
			continue;
		rc = extent_decode(val, vlen, &e);
		hook_sample_add(&s->all, &d, e.len);
		if (!loc_map_get(r->c->present, &d, &at))
			hook_sample_add(&s->unknown, &d, e.len);
	}
	return MIN(rc, 0);
}

int push_content_survey(struct push_content *c, struct push_survey *out, struct error *err)
{
	struct run r = { .c = c, .survey = out };
	int rc;

	digest_set_init(&r.seen, NODES_SEEN_MAX);
	rc = walk(&r, survey_leaf, err);
	digest_set_fini(&r.seen);
	buf_fini(&r.nodes);
	return rc;
}

int push_content_run(struct push_content *c, struct error *err)
{
	struct run r = { .c = c, .w = object_window_new(c->os, UPLOADS) };
	int rc = r.w ? 0 : -ENOMEM;

	digest_set_init(&r.seen, NODES_SEEN_MAX);
	if (rc == 0)
		rc = walk(&r, leaf_content, err);
	if (rc == 0)
		rc = write_meta(&r, err);
	if (rc == 0)
		rc = object_window_drain(r.w, err);
	object_window_free(r.w);
	vpk_writer_free(r.pack);
	loc_map_fini(&r.own);
	digest_set_fini(&r.seen);
	buf_fini(&r.nodes);
	buf_fini(&r.frame);
	return rc;
}

void push_content_fini(struct push_content *c)
{
	share_packs_fini(&c->packs);
}
