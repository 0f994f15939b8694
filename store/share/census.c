#include "store/share/census.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/bucket/object_window.h"
#include "store/layout/vpk.h"
#include "store/remote/share_walk.h"

#define NODES_MAX ((size_t)64 << 20) /* bytes of each set */
#define WIDTH 16
#define FOOTER_ENTRY (DIGEST_SIZE + 8u) /* vpk.h */

void census_fini(struct census *c)
{
	buf_fini(&c->packs);
	buf_fini(&c->frames);
	buf_fini(&c->order);
}

static size_t n_frames(const struct census *c)
{
	return c->frames.len / sizeof(struct census_frame);
}

bool census_is_full(const struct census *c)
{
	return c->packs.len / sizeof(struct census_pack) >= CENSUS_PACKS_MAX ||
	       n_frames(c) >= CENSUS_FRAMES_MAX;
}

/* Failures that say something of an object, not of the service. */
static bool is_damage(int rc)
{
	return rc == -EBADMSG || rc == -ENOTSUP || rc == -ENOENT || rc == -EFBIG || rc == -ENODATA;
}

/* ---- packs ---- */

int census_add(struct census *c, const struct pack_id *id, struct error *err)
{
	struct census_pack pack = { .id = *id,
				    .size = VPK_HEADER_SIZE,
				    .first = (uint32_t)n_frames(c) };
	const struct vpk_view *v;
	struct share_meta m;
	int rc = share_meta_fetch_pack(c->os, OBJECT_BACKGROUND, id, &m, err);

	if (rc < 0)
		return rc;
	v = &m.packs[0].view;
	pack.n = v->n_frames;
	rc = buf_reserve(&c->frames, pack.n * sizeof(struct census_frame));
	for (uint32_t i = 0; i < pack.n && rc == 0; i++) {
		struct census_frame f = {
			.pack = (uint32_t)(c->packs.len / sizeof(pack)),
		};
		struct vpk_frame frame;

		vpk_frame(v, i, &frame);
		f.digest = frame.digest;
		f.offset = frame.offset;
		f.len = frame.len;
		pack.size = frame.offset + frame.len;
		rc = buf_append(&c->frames, &f, sizeof(f));
	}
	pack.size += m.packs[0].bytes.len;
	if (share_packs_has(&c->mark->meta, id))
		pack.meta = m.packs[0].bytes.len;
	share_meta_fini(&m);
	return rc < 0 ? rc : buf_append(&c->packs, &pack, sizeof(pack));
}

static int by_digest(const void *a, const void *b, void *arg)
{
	const struct census_frame *f = arg;
	const uint32_t *x = a, *y = b;

	return memcmp(f[*x].digest.b, f[*y].digest.b, DIGEST_SIZE);
}

static int sort_frames(struct census *c)
{
	size_t n = n_frames(c);
	int rc = buf_reserve(&c->order, n * sizeof(uint32_t));

	for (uint32_t i = 0; i < n && rc == 0; i++)
		rc = buf_append(&c->order, &i, sizeof(i));
	if (rc == 0 && n)
		qsort_r(c->order.data, n, sizeof(uint32_t), by_digest, census_frames(c));
	return rc;
}

static void need(struct census *c, struct census_frame *f)
{
	struct census_pack *packs = (struct census_pack *)c->packs.data;

	if (f->needed)
		return;
	f->needed = true;
	packs[f->pack].needed += f->len + FOOTER_ENTRY;
}

size_t census_find(const struct census *c, const struct digest *d)
{
	const uint32_t *order = (const uint32_t *)c->order.data;
	const struct census_frame *f = census_frames(c);
	size_t low = 0, high = n_frames(c);

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (memcmp(f[order[middle]].digest.b, d->b, DIGEST_SIZE) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void need_digest(struct census *c, const struct digest *d)
{
	const uint32_t *order = (const uint32_t *)c->order.data;
	struct census_frame *f = census_frames(c);

	for (size_t i = census_find(c, d); i < n_frames(c); i++) {
		if (!digest_equal(&f[order[i]].digest, d))
			break;
		need(c, &f[order[i]]);
	}
}

/* ---- trees ---- */

static int take_chunk(void *arg, const struct digest *d)
{
	need_digest(arg, d);
	return 0;
}

static int walk_tree(struct census *c, const struct share_record *rec, struct error *err)
{
	struct share_meta m;
	struct share_walk w = { .meta = &m,
				.root = rec->root,
				.memory = NODES_MAX,
				.p = c->p,
				.chunk = take_chunk,
				.arg = c };
	int rc = share_meta_fetch(c->os, OBJECT_BACKGROUND, rec, &m, err);

	if (rc < 0)
		return rc;
	rc = share_walk_run(&w, err);
	if (rc == 0 && w.lacks)
		rc = -ENODATA;
	share_meta_fini(&m);
	return rc;
}

/* ---- records ---- */

/* Under which names records know the pack. */
static int names_of(const struct census *c, const struct pack_id *pack, struct share_packs *out)
{
	int rc = share_packs_add(out, pack);

	return rc < 0 ? rc : collect_moved_sources(&c->mark->moved, out);
}

/* Its tree cannot be read. */
static int need_all(struct census *c, const struct share_record *rec)
{
	struct census_frame *f = census_frames(c);
	struct census_pack *packs;
	size_t n = census_packs(c, &packs);
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		CLEANUP(share_packs_fini_p) struct share_packs names = { 0 };

		rc = names_of(c, &packs[i].id, &names);
		if (rc < 0 || !share_packs_meet(&rec->packs, &names))
			continue;
		for (uint32_t k = 0; k < packs[i].n; k++)
			need(c, &f[packs[i].first + k]);
	}
	return rc;
}

/* A record whose GET is under way. */
struct reading {
	struct census *c;
	const struct share_packs *names;
	char key[SHARE_KEY_SIZE];
};

static int judge(struct census *c, const struct share_packs *names, const struct share_record *rec,
		 struct error *err)
{
	int rc;

	if (!share_packs_meet(&rec->packs, names))
		return 0;
	rc = walk_tree(c, rec, err);
	/* A part of what borrows may be in another bucket, which is away. */
	if (is_damage(rc) ||
	    (rec->alternate.bucket[0] && (rc == -EIO || rc == -ETIMEDOUT || rc == -EACCES)))
		return need_all(c, rec);
	return rc;
}

static int take_record(void *arg, struct object_request *rq, struct error *err)
{
	struct reading *g = arg;
	CLEANUP(share_record_fini_p) struct share_record rec = { 0 };
	int rc = rq->result;

	if (rc < 0 && rc != -ENOENT)
		error_set(err, rc, "%s", error_text(&rq->err));
	if (rc == 0)
		rc = share_record_decode(rq->data.data, rq->data.len, &rec, err);
	if (rc == 0)
		rc = judge(g->c, g->names, &rec, err);
	if (rc < 0 && rc != -ENOENT)
		error_prefix(err, rc, "%s", g->key);
	if (rc == 0 && progress_cancelled(g->c->p))
		rc = -ECANCELED;
	free(g);
	return rc == -ENOENT ? 0 : rc; /* it was of no use, and was freed meanwhile */
}

static int read_user(struct census *c, const struct share_id *id, const struct share_packs *names,
		     struct object_window *w, struct error *err)
{
	struct reading *g = calloc(1, sizeof(*g));
	int rc;

	if (!g)
		return -ENOMEM;
	*g = (struct reading){ .c = c, .names = names };
	share_key_of_id(SHARE_KEY_SNAP, id, g->key);
	const struct object_request get = { .op = OBJECT_GET,
					    .priority = OBJECT_BACKGROUND,
					    .key = g->key,
					    .max_len = SHARE_RECORD_MAX };
	rc = object_window_add(w, &get, take_record, g, err);
	if (rc < 0)
		free(g);
	return rc;
}

static int read_users(struct census *c, const struct share_packs *names, struct error *err)
{
	CLEANUP(object_window_free_p) struct object_window *w = object_window_new(c->os, WIDTH);
	const struct share_id *users = (const struct share_id *)c->mark->users.data;
	int rc = w ? 0 : -ENOMEM;

	for (size_t i = 0; i < c->mark->users.len / sizeof(*users) && rc == 0; i++)
		rc = read_user(c, &users[i], names, w, err);
	return rc < 0 ? rc : object_window_drain(w, err);
}

int census_run(struct census *c, struct error *err)
{
	CLEANUP(share_packs_fini_p) struct share_packs names = { 0 };
	struct census_pack *packs;
	size_t n = census_packs(c, &packs);
	int rc = sort_frames(c);

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = share_packs_add(&names, &packs[i].id);
	if (rc == 0)
		rc = collect_moved_sources(&c->mark->moved, &names);
	return rc < 0 ? rc : read_users(c, &names, err);
}
