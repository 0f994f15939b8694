#include "store/share/collect_mark.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/bucket/object_window.h"
#include "store/layout/share_key.h"
#include "store/layout/share_pins.h"

#define WIDTH 32

/* An object whose GET is under way. */
struct reading {
	struct mark_pass *pass;
	struct share_id id;
	uint64_t size;	  /* as listed */
	int64_t modified; /* as listed */
	char key[SHARE_KEY_SIZE];
};

/* One call of mark_run. */
struct mark_pass {
	struct mark *m;
	struct progress *p;
	struct object_window *w;
	struct buf fresh;  /* struct share_id: records read in this pass */
	struct buf pinned; /* struct share_id, in any order */
	enum share_key_kind kind;
	size_t max_len;
	object_taken_fn take;
	struct error *err;
};

void mark_fini(struct mark *m)
{
	share_packs_fini(&m->live);
	share_packs_fini(&m->meta);
	buf_fini(&m->users);
	collect_moved_fini(&m->moved);
	buf_fini(&m->seen);
	buf_fini(&m->old);
}

static int by_id(const void *a, const void *b)
{
	return share_id_cmp(a, b);
}

static bool has_id(const struct buf *ids, const struct share_id *id)
{
	return ids->len &&
	       bsearch(id, ids->data, ids->len / sizeof(*id), sizeof(*id), by_id) != NULL;
}

bool mark_has_seen(const struct mark *m, const struct share_id *id)
{
	return has_id(&m->seen, id);
}

bool mark_uses(const struct mark *m, const struct share_id *id)
{
	return has_id(&m->users, id);
}

/* ---- reading ---- */

static int read_one(struct mark_pass *pass, const struct share_id *id, const struct object_entry *e)
{
	struct reading *g = calloc(1, sizeof(*g));
	int rc;

	if (!g)
		return -ENOMEM;
	*g = (struct reading){ .pass = pass, .id = *id };
	if (e) {
		g->size = e->size;
		g->modified = e->modified;
	}
	share_key_of_id(pass->kind, id, g->key);
	const struct object_request get = { .op = OBJECT_GET,
					    .priority = OBJECT_BACKGROUND,
					    .key = g->key,
					    .max_len = pass->max_len };
	rc = object_window_add(pass->w, &get, pass->take, g, pass->err);
	if (rc < 0)
		free(g);
	return rc;
}

static int read_listed(void *arg, const struct object_entry *e)
{
	struct mark_pass *pass = arg;
	struct share_key k;

	if (share_key_parse(e->key, &k) < 0 || k.kind != pass->kind)
		return error_set(pass->err, -EBADMSG,
				 "%.200s: no key that this version knows; nothing is deleted "
				 "before it is gone",
				 e->key);
	if (progress_cancelled(pass->p))
		return -ECANCELED;
	if (pass->kind == SHARE_KEY_SNAP && mark_has_seen(pass->m, &k.id))
		return 0;
	return read_one(pass, &k.id, e);
}

/* Read all that the kind's LIST shows, and take it. */
static int read_all(struct mark_pass *pass, enum share_key_kind kind, size_t max_len,
		    object_taken_fn take)
{
	int rc;

	pass->kind = kind;
	pass->max_len = max_len;
	pass->take = take;
	rc = object_each(pass->m->os, OBJECT_BACKGROUND, share_key_kind_prefix(kind), read_listed,
			 pass, pass->err);
	return rc < 0 ? rc : object_window_drain(pass->w, pass->err);
}

/* ---- records ---- */

static int use_packs(struct mark *m, const struct share_record *rec, struct error *err)
{
	int rc = share_packs_add_all(&m->live, &rec->packs);

	for (unsigned i = 0; rc == 0 && i < rec->n_meta; i++) {
		rc = share_packs_add(&m->live, &rec->meta[i]);
		if (rc == 0)
			rc = share_packs_add(&m->meta, &rec->meta[i]);
	}
	if (rc == 0)
		rc = buf_append(&m->users, &rec->id, sizeof(rec->id));
	if (rc == 0 && m->live.n > MARK_RANGES_MAX)
		return error_set(err, -EFBIG, "its records name more than %u ranges of packs",
				 MARK_RANGES_MAX);
	return rc;
}

/*
 * Of a deleted record. What it says now was there when it was listed, unless its length differs:
 * then it was deleted since. (The state makes the difference.)
 */
static int64_t age_of(const struct reading *g, const struct object_request *rq)
{
	return rq->data.len == g->size ? rq->date - g->modified : 0;
}

static int judge_record(struct reading *g, const struct object_request *rq,
			const struct share_record *rec, struct error *err)
{
	struct mark *m = g->pass->m;
	int64_t age = age_of(g, rq);

	if (!share_id_equal(&rec->id, &g->id))
		return error_set(err, -EBADMSG, "it is of another snapshot");
	if (rec->state == SHARE_READY)
		m->ready++;
	if (rec->state == SHARE_READY || (rec->state == SHARE_DELETED && age < m->grace_s))
		return use_packs(m, rec, err);
	return age >= m->free_s ? buf_append(&m->old, &g->id, sizeof(g->id)) : 0;
}

static int take_record(void *arg, struct object_request *rq, struct error *err)
{
	struct reading *g = arg;
	struct mark_pass *pass = g->pass;
	struct share_record rec;
	int rc = rq->result;

	if (rc < 0 && rc != -ENOENT)
		error_set(err, rc, "%s", error_text(&rq->err));
	if (rc == 0 && (rc = share_record_decode(rq->data.data, rq->data.len, &rec, err)) == 0) {
		rc = judge_record(g, rq, &rec, err);
		share_record_fini(&rec);
	}
	if (rc == 0)
		rc = buf_append(&pass->fresh, &g->id, sizeof(g->id));
	if (rc < 0 && rc != -ENOENT)
		error_prefix(err, rc, "%s", g->key);
	if (pass->p && rc == 0) {
		pass->p->done_items++;
		progress_tick(pass->p, false);
	}
	free(g);
	return rc == -ENOENT ? 0 : rc; /* a record that was of no use was freed meanwhile */
}

/* Pinned ones may be there twice. */
static void sort_users(struct mark *m)
{
	struct share_id *v = (struct share_id *)m->users.data;
	size_t n = m->users.len / sizeof(*v), kept = 0;

	if (n)
		qsort(v, n, sizeof(*v), by_id);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || !share_id_equal(&v[i], &v[i - 1]))
			v[kept++] = v[i];
	m->users.len = kept * sizeof(*v);
}

static int note_seen(struct mark_pass *pass)
{
	struct mark *m = pass->m;
	int rc = buf_append(&m->seen, pass->fresh.data, pass->fresh.len);

	if (rc == 0 && m->seen.len / sizeof(struct share_id) > MARK_RECORDS_MAX)
		return error_set(pass->err, -EFBIG, "it has more than %u records",
				 MARK_RECORDS_MAX);
	if (rc == 0 && m->seen.len)
		qsort(m->seen.data, m->seen.len / sizeof(struct share_id), sizeof(struct share_id),
		      by_id);
	return rc;
}

/* ---- pins ---- */

static int take_pins(void *arg, struct object_request *rq, struct error *err)
{
	struct reading *g = arg;
	struct mark_pass *pass = g->pass;
	CLEANUP(share_pins_fini_p) struct share_pins pins = { 0 };
	int rc = rq->result;

	if (rc < 0 && rc != -ENOENT)
		error_set(err, rc, "%s", error_text(&rq->err));
	if (rc == 0)
		rc = share_pins_decode(rq->data.data, rq->data.len, &pins, err);
	if (rc < 0 && rc != -ENOENT)
		error_prefix(err, rc, "%s", g->key);
	if (rc == 0 && rq->date - g->modified < MAX(pass->m->grace_s, MARK_PINS_S))
		rc = buf_append(&pass->pinned, pins.v, pins.n * sizeof(*pins.v));
	if (rc == 0 && pass->pinned.len / sizeof(struct share_id) > MARK_RECORDS_MAX)
		rc = error_set(err, -EFBIG, "more than %u pins", MARK_RECORDS_MAX);
	free(g);
	return rc == -ENOENT ? 0 : rc; /* it has ended */
}

/* A snapshot that is pinned: it is in use, whether it was deleted or not. */
static int take_pinned(void *arg, struct object_request *rq, struct error *err)
{
	struct reading *g = arg;
	struct share_record rec;
	int rc = rq->result;

	if (rc < 0 && rc != -ENOENT)
		error_set(err, rc, "%s", error_text(&rq->err));
	if (rc == 0 && (rc = share_record_decode(rq->data.data, rq->data.len, &rec, err)) == 0) {
		rc = use_packs(g->pass->m, &rec, err);
		share_record_fini(&rec);
	}
	if (rc < 0 && rc != -ENOENT)
		error_prefix(err, rc, "%s", g->key);
	free(g);
	return rc == -ENOENT ? 0 : rc;
}

/* What is pinned is of use. ids: ascending. */
static void keep_pinned(struct mark *m, const struct share_id *ids, size_t n)
{
	struct share_id *old = (struct share_id *)m->old.data;
	size_t kept = 0;

	for (size_t i = 0; i < m->old.len / sizeof(*old); i++)
		if (!bsearch(&old[i], ids, n, sizeof(*ids), by_id))
			old[kept++] = old[i];
	m->old.len = kept * sizeof(*old);
}

/*
 * After the records: who saw one ready had written its pin before that, so before it was deleted.
 */
static int read_pins(struct mark_pass *pass)
{
	struct share_id *ids;
	size_t n;
	int rc = read_all(pass, SHARE_KEY_NODE, SHARE_PINS_MAX, take_pins);

	if (rc < 0 || pass->pinned.len == 0)
		return rc;
	ids = (struct share_id *)pass->pinned.data;
	n = pass->pinned.len / sizeof(*ids);
	qsort(ids, n, sizeof(*ids), by_id);
	keep_pinned(pass->m, ids, n);
	pass->kind = SHARE_KEY_SNAP;
	pass->max_len = SHARE_RECORD_MAX;
	pass->take = take_pinned;
	for (size_t i = 0; i < n && rc == 0; i++)
		if (i == 0 || !share_id_equal(&ids[i - 1], &ids[i]))
			rc = read_one(pass, &ids[i], NULL);
	return rc < 0 ? rc : object_window_drain(pass->w, pass->err);
}

int mark_run(struct mark *m, struct progress *p, struct error *err)
{
	struct mark_pass pass = {
		.m = m, .p = p, .err = err, .w = object_window_new(m->os, WIDTH)
	};
	int rc = pass.w ? 0 : -ENOMEM;

	m->moved.os = m->os;
	if (p)
		p->phase = "marking";
	if (rc == 0)
		rc = read_all(&pass, SHARE_KEY_SNAP, SHARE_RECORD_MAX, take_record);
	if (rc == 0)
		rc = note_seen(&pass);
	if (rc == 0)
		rc = read_pins(&pass);
	if (rc == 0)
		rc = collect_moved_read(&m->moved, p, err);
	if (rc == 0)
		rc = collect_moved_targets(&m->moved, &m->live);
	sort_users(m);
	object_window_free(pass.w);
	buf_fini(&pass.fresh);
	buf_fini(&pass.pinned);
	return rc;
}
