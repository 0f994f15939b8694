#include "store/share/repack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/layout/share_moved.h"
#include "store/layout/vpk.h"
#include "store/remote/moved.h"
#include "store/share/census.h"

#define PACK_AIM ((size_t)16 << 20)
#define OVERHEAD (VPK_HEADER_SIZE + VPK_TAIL_SIZE + 4) /* of any container */

static bool is_damage(int rc)
{
	return rc == -EBADMSG || rc == -ENOTSUP || rc == -ENOENT;
}

/* ---- choosing ---- */

static int by_id(const void *a, const void *b)
{
	return share_id_cmp(a, b);
}

static bool is_candidate(const struct repack *x, const struct pack_id *pack)
{
	const struct mark *m = x->mark;
	size_t n = m->users.len / sizeof(struct share_id);

	return share_packs_has(&m->live, pack) &&
	       !(x->meta_stays && share_packs_has(&m->meta, pack)) &&
	       !collect_moved_get(&m->moved, pack, NULL) &&
	       !(n && bsearch(&pack->push, m->users.data, n, sizeof(struct share_id), by_id)) &&
	       collect_moved_depth(&m->moved, pack) < REPACK_DEPTH;
}

/* A census that is filled from a LIST. */
struct gather {
	struct repack *x;
	struct census *c;
	const struct share_packs *packs; /* repack_run: these; else candidates */
	char *after;			 /* packs up to this one were looked at */
	struct error *err;
};

static int gather_candidate(void *arg, const struct object_entry *e)
{
	struct gather *g = arg;
	struct share_key k;
	int rc;

	if (strcmp(e->key, g->after) <= 0 || share_key_parse(e->key, &k) < 0 ||
	    k.kind != SHARE_KEY_PACK || !is_candidate(g->x, &k.pack))
		return 0;
	if (progress_cancelled(g->x->p))
		return -ECANCELED;
	if (census_is_full(g->c))
		return 1;
	strcpy(g->after, e->key);
	rc = census_add(g->c, &k.pack, NULL);
	return is_damage(rc) ? 0 : rc;
}

static bool is_small(const struct census_pack *p)
{
	return p->size < REPACK_SMALL && !p->meta;
}

static bool is_sparse(const struct census_pack *p, size_t n_small)
{
	const uint64_t needed = p->needed + p->meta;

	return !needed || 2 * (needed + OVERHEAD) < p->size ||
	       (n_small > REPACK_SMALL_N && is_small(p));
}

static int choose_of(struct repack *x, const struct census *c, struct share_packs *out)
{
	struct census_pack *packs;
	size_t n = census_packs(c, &packs), n_small = 0;
	int rc = 0;

	for (size_t i = 0; i < n; i++)
		n_small += is_small(&packs[i]);
	for (size_t i = 0; i < n && rc == 0; i++) {
		if (!is_sparse(&packs[i], n_small))
			continue;
		x->counts.sparse_packs++;
		x->counts.sparse_bytes += packs[i].size;
		rc = share_packs_add(out, &packs[i].id);
	}
	return rc;
}

int repack_choose(struct repack *x, struct share_packs *out, struct error *err)
{
	int rc = 0;

	x->more = true;
	while (rc == 0 && x->more && out->n == 0) {
		struct census c = { .os = x->os, .mark = x->mark, .p = x->p };
		struct gather g = { .x = x, .c = &c, .after = x->after, .err = err };

		rc = object_each(x->os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_PACK),
				 gather_candidate, &g, err);
		x->more = rc == 1;
		rc = MIN(rc, 0);
		if (rc == 0 && c.packs.len)
			rc = census_run(&c, err);
		if (rc == 0 && c.packs.len)
			rc = choose_of(x, &c, out);
		census_fini(&c);
	}
	return rc < 0 ? rc : collect_moved_sources(&x->mark->moved, out);
}

/* ---- saying where things are ---- */

/* Somebody has said it: what? */
static int read_moved(struct repack *x, const struct pack_id *from, struct share_moved_head *out,
		      struct error *err)
{
	const struct moved_bucket b = { .os = x->os, .priority = OBJECT_BACKGROUND };
	int rc = moved_head(&b, from, out, err);

	return rc == -ENOENT ? error_set(err, -ETIMEDOUT, "whether a pack has moved is unknown")
			     : rc;
}

/*
 * Create it. *out: what is there now, which another collector may have said. 1: the round has
 * ended.
 */
static int put_moved(struct repack *x, const struct share_moved_head *head,
		     const struct share_moved_chunk *chunks, size_t n, struct share_moved_head *out,
		     struct error *err)
{
	struct buf CLEANUP(buf_fini_p) bytes = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	int64_t date;
	int rc = x->is_done(x->arg, &date, err);

	if (rc == 0)
		rc = share_moved_encode(head, chunks, n, &bytes);
	if (rc != 0)
		return rc;
	*out = *head;
	share_key_moved(&head->from, key);
	rc = object_put_once(x->os, OBJECT_CONTROL, key, bytes.data, bytes.len, date, err);
	if (rc == -EEXIST || rc == -ESTALE || rc == -ETIMEDOUT)
		rc = read_moved(x, &head->from, out, err);
	return rc;
}

/* It will not be rewritten, now or later. */
static int leave(struct repack *x, const struct pack_id *pack, struct error *err)
{
	const struct share_moved_head stays = { .from = *pack, .to = *pack };
	struct share_moved_head there;

	return put_moved(x, &stays, NULL, 0, &there, err);
}

static int delete_pack(struct repack *x, const struct pack_id *pack, uint64_t size,
		       struct error *err)
{
	char key[SHARE_KEY_SIZE];
	int rc;

	share_key_pack(pack, key);
	rc = object_delete(x->os, OBJECT_BACKGROUND, key, err);
	if (rc < 0)
		return rc;
	x->counts.packs++;
	x->counts.bytes += size;
	if (x->p) {
		x->p->done_items = x->counts.packs;
		x->p->done_bytes = x->counts.bytes;
		progress_tick(x->p, false);
	}
	return progress_cancelled(x->p) ? -ECANCELED : 0;
}

/* ---- copying ---- */

struct copy {
	struct repack *x;
	struct census *c;
	struct vpk_writer *w; /* NULL: none */
	struct pack_id to;    /* the one that is filled */
	struct buf covered;   /* uint32_t: packs whose needed chunks are in it */
};

/* Its number, as census_frame.container has it. */
static uint32_t current(const struct copy *y)
{
	return y->to.number + 1;
}

static int by_digest(const void *a, const void *b)
{
	const struct share_moved_chunk *x = a, *y = b;

	return memcmp(x->digest.b, y->digest.b, DIGEST_SIZE);
}

/* Where the needed chunks of a pack are now, ascending. */
static size_t chunks_of(const struct copy *y, const struct census_pack *p,
			struct share_moved_chunk *out)
{
	const struct census_frame *f = census_frames(y->c) + p->first;
	size_t n = 0, kept = 0;

	for (uint32_t i = 0; i < p->n; i++)
		if (f[i].needed && f[i].container == current(y))
			out[n++] = (struct share_moved_chunk){ f[i].digest, f[i].new_offset,
							       f[i].len };
	qsort(out, n, sizeof(*out), by_digest);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || !digest_equal(&out[i].digest, &out[i - 1].digest))
			out[kept++] = out[i];
	return kept;
}

/* Its chunks are where they will be. */
static int end_pack(struct copy *y, const struct census_pack *p, struct error *err)
{
	struct share_moved_head head = { .from = p->id }, there;
	struct share_moved_chunk *chunks = calloc(p->n + 1, sizeof(*chunks));
	size_t n = chunks ? chunks_of(y, p, chunks) : 0;
	int rc = chunks ? 0 : -ENOMEM;

	head.none = n == 0;
	if (n)
		head.to = y->to;
	if (rc == 0)
		rc = put_moved(y->x, &head, chunks, n, &there, err);
	free(chunks);
	if (rc == 0 && !share_moved_stays(&there))
		rc = delete_pack(y->x, &p->id, p->size, err);
	return rc;
}

static int write_container(struct copy *y, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) bytes = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	int rc;

	if (vpk_writer_is_empty(y->w))
		return 0;
	rc = vpk_writer_finish(y->w, &bytes);
	share_key_pack(&y->to, key);
	if (rc == 0)
		rc = object_put(y->x->os, OBJECT_BACKGROUND, key, bytes.data, bytes.len, err);
	y->x->counts.written_bytes += rc == 0 ? bytes.len : 0;
	return rc;
}

/* Write what was copied, then say so. 1: the round has ended. */
static int flush(struct copy *y, struct error *err)
{
	const uint32_t *covered = (const uint32_t *)y->covered.data;
	struct census_pack *packs;
	int rc = y->w ? write_container(y, err) : 0;

	census_packs(y->c, &packs);
	for (size_t i = 0; i < y->covered.len / sizeof(*covered) && rc == 0; i++)
		rc = end_pack(y, &packs[covered[i]], err);
	buf_clear(&y->covered);
	vpk_writer_free(STEAL(y->w));
	y->to.number++;
	return rc;
}

/* Another pack had that chunk, too, and it was copied. */
static bool is_copied(const struct copy *y, struct census_frame *f)
{
	const uint32_t *order = (const uint32_t *)y->c->order.data;
	const struct census_frame *all = census_frames(y->c);
	size_t n = y->c->order.len / sizeof(*order);

	for (size_t i = census_find(y->c, &f->digest); i < n; i++) {
		const struct census_frame *o = &all[order[i]];

		if (!digest_equal(&o->digest, &f->digest))
			break;
		if (o->container != current(y) || o->len != f->len)
			continue;
		f->container = o->container;
		f->new_offset = o->new_offset;
		return true;
	}
	return false;
}

/* Past any cache on the way, which may have spoilt it. */
static int fetch_frame(struct copy *y, const struct census_pack *p, const struct census_frame *f,
		       struct buf *out, struct error *err)
{
	char key[SHARE_KEY_SIZE];
	struct object_request get = { .op = OBJECT_GET,
				      .priority = OBJECT_BACKGROUND,
				      .key = key,
				      .offset = f->offset,
				      .len = f->len };
	int rc;

	share_key_pack(&p->id, key);
	object_run(y->x->os, &get, 1);
	rc = get.result;
	if (rc < 0)
		error_set(err, rc, "%s: %s", key, error_text(&get.err));
	if (rc == 0)
		rc = vpk_chunk_check(get.data.data, get.data.len, &f->digest, NULL);
	if (rc == 0)
		rc = buf_append(out, get.data.data, get.data.len);
	object_request_fini(&get);
	return rc;
}

/* -EBADMSG: it is damaged. */
static int copy_frame(struct copy *y, const struct census_pack *p, struct census_frame *f,
		      const struct buf *bytes, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) again = BUF_INIT;
	const uint8_t *frame = NULL;
	int rc;

	if (is_copied(y, f))
		return 0;
	if ((uint64_t)f->offset + f->len <= bytes->len)
		frame = bytes->data + f->offset;
	rc = frame ? vpk_chunk_check(frame, f->len, &f->digest, NULL) : -EBADMSG;
	if (rc == -EBADMSG) {
		rc = fetch_frame(y, p, f, &again, err);
		frame = again.data;
	}
	if (rc == 0)
		rc = vpk_add_frame(y->w, &f->digest, frame, f->len, &f->new_offset);
	if (rc == 0)
		f->container = current(y);
	return rc;
}

/* Its sections, if they are in use: before anything says that the pack has moved. */
static int keep_meta(struct copy *y, const struct census_pack *p, const struct buf *bytes,
		     struct error *err)
{
	struct vpk_view v;
	struct vpk_tail t;
	char key[SHARE_KEY_SIZE];
	int rc;

	if (!p->meta)
		return 0;
	rc = vpk_view_whole(&v, &p->id, bytes->data, bytes->len, err);
	if (rc == 0)
		rc = vpk_tail_parse(bytes->data + bytes->len - VPK_TAIL_SIZE, bytes->len, &t, err);
	if (rc < 0)
		return rc;
	share_key_meta(&p->id, key);
	rc = object_put(y->x->os, OBJECT_BACKGROUND, key, bytes->data + t.nodes,
			bytes->len - t.nodes, err);
	y->x->counts.written_bytes += rc == 0 ? bytes->len - t.nodes : 0;
	return rc;
}

static int copy_pack(struct copy *y, uint32_t index, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) bytes = BUF_INIT;
	struct census_frame *f = census_frames(y->c);
	struct census_pack *p;
	char key[SHARE_KEY_SIZE];
	int rc = 0;

	census_packs(y->c, &p);
	p += index;
	share_key_pack(&p->id, key);
	if (y->w && vpk_writer_size(y->w) + p->needed > PACK_AIM)
		rc = flush(y, err);
	if (rc == 0 && (p->needed || p->meta))
		rc = object_get(y->x->os, OBJECT_BACKGROUND, key, VPK_SIZE_MAX, &bytes, NULL, err);
	if (rc == -ENOENT)
		return 0; /* another collector is faster */
	if (rc == 0 && p->needed && !y->w && !(y->w = vpk_writer_new(&y->to)))
		rc = -ENOMEM;
	for (uint32_t i = p->first; i < p->first + p->n && rc == 0; i++)
		if (f[i].needed)
			rc = copy_frame(y, p, &f[i], &bytes, err);
	if (rc == 0)
		rc = keep_meta(y, p, &bytes, err);
	if (rc == -EBADMSG) /* so that it is found, and can be repaired */
		return leave(y->x, &p->id, err);
	return rc != 0 ? rc : buf_append(&y->covered, &index, sizeof(index));
}

/* 1: the round has ended. */
static int copy_all(struct repack *x, struct census *c, struct error *err)
{
	struct copy y = { .x = x, .c = c };
	size_t n = c->packs.len / sizeof(struct census_pack);
	int rc = share_id_random(&y.to.push);

	for (uint32_t i = 0; i < n && rc == 0; i++)
		rc = copy_pack(&y, i, err);
	if (rc == 0)
		rc = flush(&y, err);
	vpk_writer_free(y.w);
	buf_fini(&y.covered);
	return rc;
}

/* ---- a round's packs ---- */

static int gather_listed(void *arg, const struct object_entry *e)
{
	struct gather *g = arg;
	struct repack *x = g->x;
	struct share_moved_head head;
	struct share_key k;
	int rc;

	if (strcmp(e->key, g->after) <= 0 || share_key_parse(e->key, &k) < 0 ||
	    k.kind != SHARE_KEY_PACK || !share_packs_has(g->packs, &k.pack) ||
	    !share_packs_has(&x->mark->live, &k.pack))
		return 0;
	if (census_is_full(g->c))
		return 2;
	strcpy(g->after, e->key);
	if (collect_moved_get(&x->mark->moved, &k.pack, &head))
		return share_moved_stays(&head) ? 0 : delete_pack(x, &k.pack, e->size, g->err);
	if (x->meta_stays && share_packs_has(&x->mark->meta, &k.pack))
		return leave(x, &k.pack, g->err);
	rc = census_add(g->c, &k.pack, g->err);
	if (rc == -ENOENT)
		return 0;
	return is_damage(rc) ? leave(x, &k.pack, g->err) : rc;
}

int repack_run(struct repack *x, const struct share_packs *packs, struct error *err)
{
	char after[SHARE_KEY_SIZE] = "";
	int rc = packs->n ? 2 : 0;

	if (x->p && packs->n) {
		x->p->phase = "repacking";
		x->p->done_items = x->p->total_items = 0;
	}
	while (rc == 2) { /* there are more */
		struct census c = { .os = x->os, .mark = x->mark, .p = x->p };
		struct gather g = { .x = x, .c = &c, .packs = packs, .after = after, .err = err };
		int copied = 0;

		rc = object_each(x->os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_PACK),
				 gather_listed, &g, err);
		if ((rc == 0 || rc == 2) && c.packs.len)
			copied = census_run(&c, err);
		if ((rc == 0 || rc == 2) && copied == 0 && c.packs.len)
			copied = copy_all(x, &c, err);
		rc = copied ? copied : rc;
		census_fini(&c);
	}
	return rc;
}
