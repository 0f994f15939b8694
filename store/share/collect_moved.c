#include "store/share/collect_moved.h"

#include <errno.h>
#include <stdlib.h>

#include "store/bucket/object_window.h"
#include "store/layout/share_key.h"

#define WIDTH 32

void collect_moved_fini(struct collect_moved *m)
{
	buf_fini(&m->heads);
}

static const struct share_moved_head *heads_of(const struct collect_moved *m, size_t *n)
{
	*n = m->heads.len / sizeof(struct share_moved_head);
	return (const struct share_moved_head *)m->heads.data;
}

static int by_from(const void *a, const void *b)
{
	const struct share_moved_head *x = a, *y = b;

	return pack_id_cmp(&x->from, &y->from);
}

bool collect_moved_get(const struct collect_moved *m, const struct pack_id *pack,
		       struct share_moved_head *out)
{
	const struct share_moved_head key = { .from = *pack }, *v, *found;
	size_t n;

	v = heads_of(m, &n);
	found = n ? bsearch(&key, v, n, sizeof(*v), by_from) : NULL;
	if (found && out)
		*out = *found;
	return found != NULL;
}

/* ---- reading ---- */

struct pass {
	struct collect_moved *m;
	struct progress *p;
	struct object_window *w;
	struct buf fresh; /* struct share_moved_head */
	struct error *err;
};

struct reading {
	struct pass *pass;
	struct pack_id pack;
	char key[SHARE_KEY_SIZE];
};

static int take_head(void *arg, struct object_request *rq, struct error *err)
{
	struct reading *g = arg;
	struct share_moved_head head;
	int rc = rq->result;

	if (rc < 0 && rc != -ENOENT)
		error_set(err, rc, "%s", error_text(&rq->err));
	if (rc == 0)
		rc = share_moved_head_decode(rq->data.data, rq->data.len, &g->pack, &head, err);
	if (rc < 0 && rc != -ENOENT)
		error_prefix(err, rc, "%s", g->key);
	if (rc == 0)
		rc = buf_append(&g->pass->fresh, &head, sizeof(head));
	free(g);
	return rc == -ENOENT ? 0 : rc; /* freed meanwhile: nobody needs it */
}

static int read_listed(void *arg, const struct object_entry *e)
{
	struct pass *pass = arg;
	struct reading *g;
	struct share_key k;
	int rc;

	if (share_key_parse(e->key, &k) < 0 || k.kind != SHARE_KEY_MOVED)
		return error_set(pass->err, -EBADMSG,
				 "%.200s: no key that this version knows; nothing is deleted "
				 "before it is gone",
				 e->key);
	if (progress_cancelled(pass->p))
		return -ECANCELED;
	if (collect_moved_get(pass->m, &k.pack, NULL))
		return 0;
	g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	*g = (struct reading){ .pass = pass, .pack = k.pack };
	share_key_moved(&k.pack, g->key);
	const struct object_request get = { .op = OBJECT_GET,
					    .priority = OBJECT_BACKGROUND,
					    .key = g->key,
					    .len = SHARE_MOVED_HEADER };
	rc = object_window_add(pass->w, &get, take_head, g, pass->err);
	if (rc < 0)
		free(g);
	return rc;
}

int collect_moved_read(struct collect_moved *m, struct progress *p, struct error *err)
{
	struct pass pass = { .m = m, .p = p, .err = err, .w = object_window_new(m->os, WIDTH) };
	int rc = pass.w ? 0 : -ENOMEM;

	if (rc == 0)
		rc = object_each(m->os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_MOVED),
				 read_listed, &pass, err);
	if (rc == 0)
		rc = object_window_drain(pass.w, err);
	object_window_free(pass.w);
	if (rc == 0)
		rc = buf_append(&m->heads, pass.fresh.data, pass.fresh.len);
	if (rc == 0 && m->heads.len / sizeof(struct share_moved_head) > COLLECT_MOVED_MAX)
		rc = error_set(err, -EFBIG, "more than %u packs were repacked", COLLECT_MOVED_MAX);
	if (rc == 0 && pass.fresh.len)
		qsort(m->heads.data, m->heads.len / sizeof(struct share_moved_head),
		      sizeof(struct share_moved_head), by_from);
	buf_fini(&pass.fresh);
	return rc;
}

/* ---- along the moves ---- */

/* Add what moves from these lead to, or (`back`) what moves to these come from, and so on. */
static int follow(const struct collect_moved *m, struct share_packs *packs, bool back)
{
	size_t n;
	const struct share_moved_head *v = heads_of(m, &n);
	bool more = true;
	int rc = 0;

	while (more && rc == 0) {
		more = false;
		for (size_t i = 0; i < n && rc == 0; i++) {
			const struct pack_id *known = back ? &v[i].to : &v[i].from;
			const struct pack_id *next = back ? &v[i].from : &v[i].to;

			if (v[i].none || !share_packs_has(packs, known) ||
			    share_packs_has(packs, next))
				continue;
			rc = share_packs_add(packs, next);
			more = true;
		}
	}
	return rc;
}

int collect_moved_targets(const struct collect_moved *m, struct share_packs *packs)
{
	return follow(m, packs, false);
}

int collect_moved_sources(const struct collect_moved *m, struct share_packs *packs)
{
	return follow(m, packs, true);
}

/* The packs that were repacked into those of `layer` directly. */
static int sources_of(const struct collect_moved *m, const struct share_packs *layer,
		      struct share_packs *out)
{
	size_t n;
	const struct share_moved_head *v = heads_of(m, &n);
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++)
		if (!v[i].none && !share_moved_stays(&v[i]) && share_packs_has(layer, &v[i].to))
			rc = share_packs_add(out, &v[i].from);
	return rc;
}

unsigned collect_moved_depth(const struct collect_moved *m, const struct pack_id *pack)
{
	struct share_packs layer = { 0 }, next = { 0 };
	int rc = share_packs_add(&layer, pack);
	unsigned depth = 0;

	while (rc == 0 && depth < SHARE_MOVED_HOPS) {
		rc = sources_of(m, &layer, &next);
		share_packs_fini(&layer);
		layer = next;
		next = (struct share_packs){ 0 };
		if (layer.n == 0)
			break;
		depth++;
	}
	share_packs_fini(&layer);
	share_packs_fini(&next);
	return rc < 0 ? SHARE_MOVED_HOPS : depth;
}
