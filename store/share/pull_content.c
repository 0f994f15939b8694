/*
 * First the nodes, then the chunks that the leaves refer to, pack by pack. Neighbours in a pack are
 * fetched with one request, and what lies between two of them is fetched, too, if it is little.
 */
#include "store/share/pull_content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/chunk/digest_set.h"
#include "store/bucket/object_window.h"
#include "store/remote/moved.h"
#include "store/remote/share_walk.h"

#define NODES_MAX ((size_t)128 << 20) /* bytes of each set of nodes; 4 million and more */
#define CHUNKS_MAX ((size_t)64 << 20)
#define GAP_MAX (64u << 10)
#define RANGE_MAX (4u << 20)
#define RANGES 8    /* under way: 32 MiB */
#define LOC_TRIES 2 /* each place is read so often before it counts as damaged */
#define MOVED_BYTES ((size_t)64 << 20)

/* A chunk that the store lacks. */
struct wanted {
	struct digest digest;
	struct share_loc at;
	unsigned tried; /* so many attempts have failed */
	unsigned hops;	/* containers that led here */
};

struct run {
	struct pull_content *c;
	struct object_window *w;
	struct moved *moved; /* containers that were found gone */
	struct node_puts nodes;
	struct digest_set chunks; /* that were met */
	struct buf wanted;	  /* struct wanted */
	struct buf failed;	  /* struct wanted: to be tried again */
};

/* ---- nodes ---- */

static int want_chunk(void *arg, const struct digest *d)
{
	struct run *r = arg;
	struct wanted want = { .digest = *d };
	int rc;

	/* One that its bucket has needs nothing of this store: so it is not asked for each. */
	if (r->c->lazy && share_meta_find(r->c->meta, d, 0, &want.at))
		return 0;
	if (!digest_set_add(&r->chunks, d))
		return 0;
	chunk_store_touch(r->c->s->chunks, d);
	rc = chunk_store_has(r->c->s->chunks, d);
	if (rc != 0)
		return MIN(rc, 0);
	if (!share_meta_find(r->c->meta, d, 0, &want.at))
		return -ENODATA;
	return buf_append(&r->wanted, &want, sizeof(want));
}

static int take_node(void *arg, const struct share_node *n)
{
	struct run *r = arg;

	return node_puts_add(&r->nodes, &n->digest, n->bytes, n->len, n->frame, n->frame_len);
}

static int take_nodes(struct run *r, struct error *err)
{
	struct share_walk w = { .meta = r->c->meta,
				.root = r->c->root,
				.memory = NODES_MAX,
				.p = r->c->p,
				.chunk = want_chunk,
				.node = take_node,
				.arg = r };
	int rc = share_walk_run(&w, err);

	if (rc == 0)
		rc = node_puts_flush(&r->nodes);
	r->c->nodes = r->nodes.stored;
	if (rc == -ENODATA)
		return error_set(err, rc, "its metadata does not say where a chunk is");
	if (rc == -EFBIG)
		return error_set(err, rc, "its tree is too large");
	if (rc == 0 && w.lacks)
		return error_set(err, -ENODATA, "its metadata lacks %zu nodes of the tree",
				 w.lacks);
	return rc;
}

/* ---- chunks ---- */

static int by_loc(const void *a, const void *b)
{
	const struct wanted *x = a, *y = b;
	int order = pack_id_cmp(&x->at.pack, &y->at.pack);

	if (order)
		return order;
	return x->at.offset < y->at.offset ? -1 : x->at.offset > y->at.offset;
}

/* Some wanted chunks, which one request brings. */
struct range {
	struct run *r;
	const struct wanted *first; /* borrowed from the list */
	size_t n;
	uint32_t offset, len;
	char key[SHARE_KEY_SIZE];
};

/* A frame came that is not the chunk: again, or from another location. */
static int try_again(struct run *r, const struct wanted *failed, struct error *err)
{
	struct wanted w = *failed;
	char hex[DIGEST_HEX_SIZE];

	w.tried++;
	if (share_meta_find(r->c->meta, &w.digest, w.tried / LOC_TRIES, &w.at))
		return buf_append(&r->failed, &w, sizeof(w));
	digest_to_hex(&w.digest, hex);
	return error_set(err, -EBADMSG, "chunk %s is damaged in the bucket", hex);
}

static int take_chunk(struct run *r, const struct wanted *w, const struct range *g,
		      const struct buf *data, struct error *err)
{
	size_t at = w->at.offset - g->offset;
	uint32_t stored;
	int rc = at + w->at.len > data->len
			 ? -EBADMSG
			 : chunk_store_put_frame(r->c->s->chunks, &w->digest, data->data + at,
						 w->at.len, &stored);

	if (rc == -EBADMSG)
		return try_again(r, w, err);
	if (rc < 0)
		return error_set_errno(err, rc, "store a chunk");
	r->c->chunks++;
	if (r->c->p) {
		r->c->p->done_items++;
		r->c->p->done_bytes += w->at.len;
		progress_tick(r->c->p, false);
	}
	return 0;
}

/* Its container is gone: repacked, or the snapshot was deleted. */
static int follow(struct run *r, const struct wanted *gone, const char *key, struct error *err)
{
	const struct moved_bucket b = { r->c->os, "", OBJECT_BACKGROUND };
	struct wanted w = *gone;
	int rc = w.hops++ < SHARE_MOVED_HOPS ? moved_ask(r->moved, &b, &w.digest, &w.at, err)
					     : -ENOENT;

	if (rc == -ENOENT)
		return error_set(err, rc, "%s is gone: the snapshot was deleted meanwhile", key);
	return rc < 0 ? rc : buf_append(&r->failed, &w, sizeof(w));
}

static int take_range(void *arg, struct object_request *rq, struct error *err)
{
	struct range *g = arg;
	struct run *r = g->r;
	bool gone = rq->result == -ENOENT;
	/* Of an encrypted bucket none comes of a range in which one is damaged. */
	int rc = gone || rq->result == -EBADMSG ? 0 : rq->result;

	if (rc < 0)
		error_set(err, rc, "%s", error_text(&rq->err));
	r->c->bytes += rq->data.len;
	for (size_t i = 0; i < g->n && rc == 0; i++)
		rc = gone ? follow(r, &g->first[i], g->key, err)
			  : take_chunk(r, &g->first[i], g, &rq->data, err);
	if (rc == 0 && progress_cancelled(r->c->p))
		rc = -ECANCELED;
	free(g);
	return rc;
}

/* How many of the n chunks from w on one request brings; *out_len: its bytes. */
static size_t range_end(const struct wanted *w, size_t n, uint32_t *out_len)
{
	uint64_t start = w->at.offset, end = start + w->at.len;
	size_t i = 1;

	/* What failed is asked for alone: damage beside it may have been the reason. */
	for (; i < n && !w->tried && pack_id_cmp(&w[i].at.pack, &w->at.pack) == 0; i++) {
		uint64_t next = (uint64_t)w[i].at.offset + w[i].at.len;

		if (w[i].at.offset > end + GAP_MAX || next - start > RANGE_MAX)
			break;
		end = MAX(end, next);
	}
	*out_len = (uint32_t)(end - start);
	return i;
}

static int fetch_range(struct run *r, const struct wanted *w, size_t n, uint32_t len,
		       struct error *err)
{
	struct range *g = calloc(1, sizeof(*g));
	int rc;

	if (!g)
		return -ENOMEM;
	*g = (struct range){ .r = r, .first = w, .n = n, .offset = w->at.offset, .len = len };
	share_key_pack(&w->at.pack, g->key);
	const struct object_request get = { .op = OBJECT_GET,
					    .priority = OBJECT_BACKGROUND,
					    .immutable = w->tried == 0,
					    .key = g->key,
					    .offset = g->offset,
					    .len = g->len };
	rc = object_window_add(r->w, &get, take_range, g, err);
	if (rc < 0)
		free(g);
	return rc;
}

static int fetch_list(struct run *r, struct buf *list, struct error *err)
{
	struct wanted *w = (struct wanted *)list->data;
	size_t n = list->len / sizeof(*w);
	uint32_t len;
	int rc = 0;

	for (size_t i = 0; i < n; i++)
		moved_known(r->moved, "", &w[i].digest, &w[i].at);
	if (n)
		qsort(w, n, sizeof(*w), by_loc);
	for (size_t i = 0, k; i < n && rc == 0; i += k) {
		k = range_end(w + i, n - i, &len);
		rc = fetch_range(r, w + i, k, len, err);
	}
	return rc < 0 ? rc : object_window_drain(r->w, err);
}

static int take_chunks(struct run *r, struct error *err)
{
	const struct wanted *w = (const struct wanted *)r->wanted.data;
	struct progress *p = r->c->p;
	int rc;

	for (size_t i = 0; p && i < r->wanted.len / sizeof(*w); i++) {
		p->total_items++;
		p->total_bytes += w[i].at.len;
	}
	rc = fetch_list(r, &r->wanted, err);
	while (rc == 0 && r->failed.len) {
		buf_fini(&r->wanted);
		r->wanted = r->failed;
		r->failed = (struct buf)BUF_INIT;
		rc = fetch_list(r, &r->wanted, err);
	}
	return rc;
}

int pull_content_run(struct pull_content *c, struct error *err)
{
	struct run r = { .c = c,
			 .w = object_window_new(c->os, RANGES),
			 .moved = moved_new(MOVED_BYTES) };
	int rc = r.w && r.moved ? 0 : -ENOMEM;

	node_puts_init(&r.nodes, c->s->nodes);
	digest_set_init(&r.chunks, CHUNKS_MAX);
	if (rc == 0)
		rc = take_nodes(&r, err);
	if (rc == 0)
		rc = take_chunks(&r, err);
	object_window_free(r.w);
	moved_free(r.moved);
	node_puts_fini(&r.nodes);
	digest_set_fini(&r.chunks);
	buf_fini(&r.wanted);
	buf_fini(&r.failed);
	return rc;
}
