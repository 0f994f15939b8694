/*
 * The sections lie at a container's end, and the record says how many bytes they are. One request
 * asks for the last META_END of these, which is all for most snapshots; what is before is then
 * asked for in pieces, side by side. Where a container is gone, its sections may be an object of
 * their own.
 */
#include "store/remote/share_meta.h"

#include <errno.h>
#include <string.h>

#include "store/chunk/codec.h"
#include "store/bucket/object_window.h"
#include "store/tree/record.h"

#define META_END ((size_t)2 << 20)
#define META_UNKNOWN ((size_t)1 << 20) /* where an older program wrote the record */
#define META_PIECE ((size_t)4 << 20)
#define META_WIDTH 8

/* One container while it is fetched. */
struct fetch {
	struct share_meta_pack *pack;
	bool past;	 /* any cache on the way */
	bool stays;	 /* must be there itself */
	bool gone, kept; /* it is not there; what is asked for is meta/PUSH-N */
	size_t end;	 /* bytes to ask for first */
	char key[SHARE_KEY_SIZE];
	struct vpk_tail tail;
	size_t missing; /* bytes of the sections before `end` */
	bool done;
};

/* Note that the container is not there. */
static bool is_gone(struct fetch *f, const struct object_request *r)
{
	if (r->result == -ENOENT && !f->stays && !f->kept)
		f->gone = true;
	return f->gone;
}

static int take_end(void *arg, struct object_request *r, struct error *err)
{
	struct fetch *f = arg;
	const uint8_t *tail;
	size_t sections;
	int rc;

	if (is_gone(f, r))
		return 0;
	if (r->result < 0)
		return error_set(err, r->result, "%s", error_text(&r->err));
	if (r->data.len < VPK_TAIL_SIZE)
		return error_set(err, -EBADMSG, "%s: too short for a container", f->key);
	tail = r->data.data + r->data.len - VPK_TAIL_SIZE;
	rc = f->kept ? vpk_sections_tail(tail, r->size, &f->tail, err)
		     : vpk_tail_parse(tail, r->size, &f->tail, err);
	if (rc < 0)
		return error_prefix(err, rc, "%s", f->key);
	sections = f->tail.size - f->tail.nodes;
	f->missing = sections > r->data.len ? sections - r->data.len : 0;
	rc = buf_reserve(&f->pack->bytes, sections);
	if (rc < 0)
		return rc;
	/* The end goes to its place; the pieces before it come in any order. */
	size_t have = sections - f->missing;
	memcpy(f->pack->bytes.data + f->missing, r->data.data + r->data.len - have, have);
	f->pack->bytes.len = sections;
	return 0;
}

/* Where the sections begin in the object. */
static uint64_t start_of(const struct fetch *f)
{
	return f->kept ? 0 : f->tail.nodes;
}

static int take_piece(void *arg, struct object_request *r, struct error *err)
{
	struct fetch *f = arg;

	if (is_gone(f, r))
		return 0;
	if (r->result < 0)
		return error_set(err, r->result, "%s", error_text(&r->err));
	if (r->data.len != r->len)
		return error_set(err, -EBADMSG, "%s: a piece is short", f->key);
	memcpy(f->pack->bytes.data + (r->offset - start_of(f)), r->data.data, r->data.len);
	return 0;
}

static int fetch_ends(struct object_window *w, struct fetch *f, unsigned n, enum object_priority pr,
		      struct error *err)
{
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0; i++) {
		if (f[i].done)
			continue;
		const struct object_request r = { .op = OBJECT_GET,
						  .priority = pr,
						  .immutable = !f[i].past,
						  .key = f[i].key,
						  .from_end = true,
						  .len = f[i].end };

		rc = object_window_add(w, &r, take_end, &f[i], err);
	}
	return rc < 0 ? rc : object_window_drain(w, err);
}

static int fetch_rest(struct object_window *w, struct fetch *f, enum object_priority pr,
		      struct error *err)
{
	int rc = 0;

	for (size_t at = 0; at < f->missing && rc == 0; at += META_PIECE) {
		size_t len = MIN(META_PIECE, f->missing - at);
		const struct object_request r = { .op = OBJECT_GET,
						  .priority = pr,
						  .immutable = !f->past,
						  .key = f->key,
						  .offset = start_of(f) + at,
						  .len = len };

		rc = object_window_add(w, &r, take_piece, f, err);
	}
	return rc;
}

static size_t end_of(uint32_t meta_bytes)
{
	return meta_bytes ? MIN(MAX((size_t)meta_bytes, VPK_TAIL_SIZE), META_END) : META_UNKNOWN;
}

/* All that are not done, side by side. */
static int fetch_sections(struct object_window *w, struct fetch *f, unsigned n,
			  enum object_priority pr, struct error *err)
{
	int rc = fetch_ends(w, f, n, pr, err);

	for (unsigned i = 0; i < n && rc == 0; i++)
		if (!f[i].done && !f[i].gone)
			rc = fetch_rest(w, &f[i], pr, err);
	if (rc == 0)
		rc = object_window_drain(w, err);
	for (unsigned i = 0; i < n && rc == 0; i++)
		f[i].done = !f[i].gone;
	return rc;
}

/* From here on what was kept of those that are gone. False: none is. */
static bool turn_to_kept(struct fetch *f, unsigned n)
{
	bool any = false;

	for (unsigned i = 0; i < n; i++) {
		if (!f[i].gone)
			continue;
		f[i].gone = false;
		f[i].kept = any = true;
		buf_clear(&f[i].pack->bytes);
		share_key_meta(&f[i].pack->id, f[i].key);
	}
	return any;
}

static int fetch_all(struct object_store *os, enum object_priority pr,
		     const struct share_record *rec, struct share_meta *m, struct fetch f[],
		     struct error *err)
{
	CLEANUP(object_window_free_p)
	struct object_window *w = object_window_new(os, META_WIDTH);
	int rc = w ? 0 : -ENOMEM;

	for (unsigned i = 0; i < m->n; i++) {
		f[i].pack = &m->packs[i];
		f[i].end = end_of(rec->meta_bytes[i]);
		buf_clear(&m->packs[i].bytes);
		share_key_pack(&m->packs[i].id, f[i].key);
	}
	if (rc == 0)
		rc = fetch_sections(w, f, m->n, pr, err);
	if (rc == 0 && turn_to_kept(f, m->n))
		rc = fetch_sections(w, f, m->n, pr, err);
	for (unsigned i = 0; i < m->n && rc == 0; i++) {
		struct share_meta_pack *p = &m->packs[i];

		rc = vpk_view_init(&p->view, &f[i].tail, &p->id, p->bytes.data, p->bytes.len, err);
		if (rc < 0)
			error_prefix(err, rc, "%s", f[i].key);
	}
	return rc;
}

static int fetch_meta(struct object_store *os, enum object_priority pr,
		      const struct share_record *r, bool stays, struct share_meta *out,
		      struct error *err)
{
	struct share_meta m = { .n = r->n_meta };
	int rc = -EBADMSG;

	for (unsigned i = 0; i < m.n; i++)
		m.packs[i].id = r->meta[i];
	for (int past = 0; rc == -EBADMSG && past < 2; past++) { /* a cache may have spoilt it */
		struct fetch f[SHARE_META_MAX] = { 0 };

		for (unsigned i = 0; i < m.n; i++) {
			f[i].past = past;
			f[i].stays = stays;
		}
		rc = fetch_all(os, pr, r, &m, f, err);
	}
	if (rc < 0) {
		share_meta_fini(&m);
		return rc;
	}
	*out = m;
	return 0;
}

int share_meta_fetch(struct object_store *os, enum object_priority pr, const struct share_record *r,
		     struct share_meta *out, struct error *err)
{
	return fetch_meta(os, pr, r, false, out, err);
}

int share_meta_fetch_pack(struct object_store *os, enum object_priority pr,
			  const struct pack_id *pack, struct share_meta *out, struct error *err)
{
	const struct share_record one = { .meta = { *pack }, .n_meta = 1 };

	return fetch_meta(os, pr, &one, true, out, err);
}

void share_meta_fini(struct share_meta *m)
{
	for (unsigned i = 0; i < m->n; i++)
		buf_fini(&m->packs[i].bytes);
	*m = (struct share_meta){ 0 };
}

static int each_of_pack(const struct share_meta_pack *p, struct buf *bytes, share_node_fn fn,
			void *arg, struct error *err)
{
	const uint8_t *frame;
	size_t pos = 0, len;
	int rc = 0;

	while (rc == 0 && vpk_next_node(&p->view, &pos, &frame, &len)) {
		int64_t raw = codec_raw_len(frame, len);
		struct share_node n = { .frame = frame, .frame_len = len };

		if (raw < 0 || raw > NODE_ENCODED_MAX)
			return error_set(err, -EBADMSG, "a node in a container is damaged");
		buf_clear(bytes);
		rc = buf_reserve(bytes, (size_t)raw);
		if (rc == 0)
			rc = codec_decode(frame, len, bytes->data, (size_t)raw);
		if (rc == 0)
			rc = hash_bytes(bytes->data, (size_t)raw, &n.digest);
		if (rc < 0)
			return error_set(err, rc, "a node in a container is damaged");
		n.bytes = bytes->data;
		n.len = (size_t)raw;
		rc = fn(arg, &n);
	}
	return rc;
}

int share_meta_each_node(const struct share_meta *m, share_node_fn fn, void *arg, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) bytes = BUF_INIT;
	int rc = 0;

	for (unsigned i = 0; i < m->n && rc == 0; i++)
		rc = each_of_pack(&m->packs[i], &bytes, fn, arg, err);
	return rc;
}

bool share_meta_find(const struct share_meta *m, const struct digest *d, unsigned i,
		     struct share_loc *out)
{
	for (unsigned p = 0; p < m->n; p++) {
		const struct vpk_view *v = &m->packs[p].view;
		uint32_t first, n = vpk_find_loc(v, d, &first);
		struct vpk_loc loc;

		if (i >= n) {
			i -= n;
			continue;
		}
		vpk_loc(v, first + i, &loc);
		vpk_pack(v, loc.pack, &out->pack);
		out->offset = loc.offset;
		out->len = loc.len;
		return true;
	}
	return false;
}

int share_leaf_chunks(const struct node_view *v, share_chunk_fn fn, void *arg)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && v->level == 0 && i < v->count; i++) {
		const uint8_t *key, *val;
		size_t klen, vlen;
		struct digest d;

		node_entry(v, i, &key, &klen, &val, &vlen);
		rc = leaf_entry_chunk(key, klen, val, vlen, &d);
		if (rc == 1)
			rc = fn(arg, &d);
	}
	return rc;
}
