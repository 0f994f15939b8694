#include "store/share/collect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/layout/share_round.h"
#include "store/share/collect_hooks.h"
#include "store/share/collect_mark.h"
#include "store/share/collect_wait.h"
#include "store/remote/register.h"

#define CONDEMNED_RANGES_MAX 50000u /* of a round: below SHARE_ROUND_MAX; the next takes more */
#define TRIES 1000		    /* other collectors may always be first */

struct collect {
	struct remote *r;
	struct object_store *os;
	const struct collect_options *opt;
	struct progress *p;
	struct share_id node;
	struct mark mark;
	struct repack repack;
	uint64_t ending; /* the round that is to be ended */
	struct collect_result *res;
	bool counted; /* what the bucket holds is in *res */
	bool more;    /* there is more garbage than a round takes */
};

static int gc_key(enum share_key_kind kind, uint64_t epoch, char out[SHARE_KEY_SIZE])
{
	const struct share_key k = { .kind = kind, .generation = epoch };

	return share_key_text(&k, out);
}

/* ---- what is garbage ---- */

struct condemn {
	struct collect *c;
	struct share_packs *out;
};

static int condemn_one(void *arg, const struct object_entry *e)
{
	struct condemn *d = arg;
	struct collect_result *res = d->c->res;
	struct share_key k;
	bool live;

	if (progress_cancelled(d->c->p))
		return -ECANCELED;
	if (share_key_parse(e->key, &k) < 0 || k.kind != SHARE_KEY_PACK)
		return 0; /* not ours: it stays */
	live = share_packs_has(&d->c->mark.live, &k.pack);
	if (!d->c->counted) {
		res->packs++;
		res->bytes += e->size;
		res->garbage_packs += !live;
		res->garbage_bytes += live ? 0 : e->size;
	}
	if (live)
		return 0;
	if (d->out->n >= CONDEMNED_RANGES_MAX) {
		d->c->more = true;
		return 0;
	}
	return share_packs_add(d->out, &k.pack);
}

/*
 * Packs that were repacked, and that no record names any more: before what has their chunks now, so
 * that no round has the one without the other.
 */
static int condemn_names(struct collect *c, struct share_packs *out)
{
	const struct share_moved_head *v =
		(const struct share_moved_head *)c->mark.moved.heads.data;
	int rc = 0;

	for (size_t i = 0; i < c->mark.moved.heads.len / sizeof(*v) && rc == 0; i++) {
		if (share_packs_has(&c->mark.live, &v[i].from))
			continue;
		if (out->n >= CONDEMNED_RANGES_MAX)
			c->more = true;
		else
			rc = share_packs_add(out, &v[i].from);
	}
	return rc;
}

/* What was kept of packs that nobody names any more. */
static int condemn_meta(void *arg, const struct object_entry *e)
{
	struct condemn *d = arg;
	struct share_key k;

	if (share_key_parse(e->key, &k) < 0 || k.kind != SHARE_KEY_META ||
	    share_packs_has(&d->c->mark.live, &k.pack) || share_packs_has(d->out, &k.pack))
		return 0;
	if (d->out->n >= CONDEMNED_RANGES_MAX) {
		d->c->more = true;
		return 0;
	}
	return share_packs_add(d->out, &k.pack);
}

static int condemn(struct collect *c, struct share_packs *out, struct error *err)
{
	struct condemn d = { c, out };
	int rc;

	c->more = false;
	rc = condemn_names(c, out);
	if (rc < 0)
		return rc;
	rc = object_each(c->os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_PACK),
			 condemn_one, &d, err);
	if (rc == 0)
		rc = object_each(c->os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_META),
				 condemn_meta, &d, err);
	c->counted = true;
	return rc;
}

/* ---- ending a round ---- */

/* Whether the round has ended: 1 or 0, as of *out_date. */
static int is_done(struct collect *c, uint64_t epoch, int64_t *out_date, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct share_round_done d;
	char key[SHARE_KEY_SIZE];
	int rc = gc_key(SHARE_KEY_GC_DONE, epoch, key);

	if (rc == 0)
		rc = object_get(c->os, OBJECT_CONTROL, key, SHARE_INTENT_MAX, &text, out_date, err);
	if (rc == -ENOENT)
		return 0;
	if (rc == 0)
		rc = share_round_done_decode(text.data, text.len, &d, err);
	return rc < 0 ? error_prefix(err, rc, "%s", key) : 1;
}

struct sweep {
	struct collect *c;
	const struct share_round *round;
	char (*keys)[SHARE_KEY_SIZE]; /* OBJECT_DELETE_MAX */
	size_t n;
	uint64_t bytes;
	struct error *err;
};

static int delete_keys(struct sweep *s)
{
	struct object_request rq = {
		.op = OBJECT_DELETE, .priority = OBJECT_BACKGROUND, .key = "pack", .n_names = s->n
	};
	const char *names[OBJECT_DELETE_MAX];
	struct collect_result *res = s->c->res;

	if (s->n == 0)
		return 0;
	if (progress_cancelled(s->c->p))
		return -ECANCELED;
	for (size_t i = 0; i < s->n; i++)
		names[i] = s->keys[i];
	rq.names = names;
	object_run(s->c->os, &rq, 1);
	if (rq.result < 0)
		return error_set(s->err, rq.result, "%s", error_text(&rq.err));
	res->deleted_packs += s->n;
	res->deleted_bytes += s->bytes;
	if (s->c->p) {
		s->c->p->done_items = res->deleted_packs;
		s->c->p->done_bytes = res->deleted_bytes;
		progress_tick(s->c->p, false);
	}
	s->n = 0;
	s->bytes = 0;
	return 0;
}

static bool is_dead(const struct sweep *s, const struct pack_id *pack)
{
	return (share_packs_has(&s->round->condemned, pack) ||
		share_packs_has(&s->round->repacked, pack)) &&
	       !share_packs_has(&s->c->mark.live, pack);
}

static int sweep_one(void *arg, const struct object_entry *e)
{
	struct sweep *s = arg;
	struct share_key k;

	if (share_key_parse(e->key, &k) < 0 || k.kind != SHARE_KEY_PACK || !is_dead(s, &k.pack))
		return 0;
	strcpy(s->keys[s->n++], e->key);
	s->bytes += e->size;
	return s->n == OBJECT_DELETE_MAX ? delete_keys(s) : 0;
}

/* Where the chunks of packs are that nobody names. */
static int sweep_moved(struct sweep *s, struct error *err)
{
	struct buf *heads = &s->c->mark.moved.heads;
	struct share_moved_head *v = (struct share_moved_head *)heads->data;
	size_t n = heads->len / sizeof(*v), kept = 0;
	char key[SHARE_KEY_SIZE];
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		if (!is_dead(s, &v[i].from)) {
			v[kept++] = v[i];
			continue;
		}
		share_key_moved(&v[i].from, key);
		rc = object_delete(s->c->os, OBJECT_BACKGROUND, key, err);
	}
	if (rc == 0)
		heads->len = kept * sizeof(*v);
	return rc;
}

/* What was kept of packs, and nobody needs. */
static int sweep_meta(void *arg, const struct object_entry *e)
{
	struct sweep *s = arg;
	const struct mark *m = &s->c->mark;
	struct share_key k;

	if (share_key_parse(e->key, &k) < 0 || k.kind != SHARE_KEY_META)
		return 0;
	if (!is_dead(s, &k.pack) &&
	    (share_packs_has(&m->meta, &k.pack) || !share_packs_has(&s->round->repacked, &k.pack)))
		return 0;
	return object_delete(s->c->os, OBJECT_BACKGROUND, e->key, s->err);
}

static int sweep(struct collect *c, const struct share_round *round, struct error *err)
{
	struct sweep s = { .c = c, .round = round, .err = err };
	int rc;

	s.keys = calloc(OBJECT_DELETE_MAX, sizeof(*s.keys));
	if (!s.keys)
		return -ENOMEM;
	if (c->p) {
		c->p->phase = "deleting";
		c->p->done_items = c->p->total_items = 0;
	}
	rc = object_each(c->os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_PACK), sweep_one,
			 &s, err);
	if (rc == 0)
		rc = delete_keys(&s);
	if (rc == 0)
		rc = sweep_moved(&s, err);
	if (rc == 0)
		rc = object_each(c->os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_META),
				 sweep_meta, &s, err);
	free(s.keys);
	return rc;
}

/* Say that it has ended. Somebody else may have said so. */
static int put_done(struct collect *c, uint64_t epoch, struct error *err)
{
	struct share_round_done d = { .epoch = epoch, .node = c->node };
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	int64_t date;
	int rc = share_id_random(&d.nonce);

	if (rc == 0)
		rc = share_round_done_encode(&d, &text, err);
	if (rc == 0)
		rc = gc_key(SHARE_KEY_GC_DONE, epoch, key);
	if (rc == 0)
		rc = is_done(c, epoch, &date, err);
	if (rc != 0)
		return MIN(rc, 0);
	rc = object_put_once(c->os, OBJECT_CONTROL, key, text.data, text.len, date, err);
	return rc == -EEXIST ? 0 : rc;
}

static int is_ending_done(void *arg, int64_t *out_date, struct error *err)
{
	struct collect *c = arg;

	return is_done(c, c->ending, out_date, err);
}

/* Who does not know what is done to these packs refuses the bucket. */
static int need_moved(struct collect *c, const struct share_packs *repacked, struct error *err)
{
	const bool meta = !c->repack.meta_stays && share_packs_meet(repacked, &c->mark.meta);

	return repacked->n ? remote_need_moved(c->r, meta, err) : 0;
}

static int end_round(struct collect *c, const struct share_round *round, struct error *err)
{
	struct collect_wait w = {
		.os = c->os,
		.p = c->p,
		.epoch = round->epoch,
		.give_up_s = c->opt->give_up_s,
		.pause = c->opt->pause,
		.pause_arg = c->opt->pause_arg,
	};
	int64_t date;
	int rc;

	c->res->round = c->ending = round->epoch;
	rc = collect_wait_run(&w, err);
	if (rc == 0)
		rc = mark_run(&c->mark, c->p, err);
	if (rc == 0)
		rc = is_done(c, round->epoch, &date, err);
	if (rc == 0)
		rc = need_moved(c, &round->repacked, err);
	if (rc == 0)
		rc = repack_run(&c->repack, &round->repacked, err);
	if (rc == 0)
		rc = sweep(c, round, err);
	if (rc == 0)
		rc = put_done(c, round->epoch, err);
	if (rc == 0)
		rc = collect_wait_tidy(&w, err);
	c->res->given_up += w.given_up;
	collect_wait_fini(&w);
	return MIN(rc, 0); /* 1: another collector has ended it */
}

/* ---- beginning one ---- */

/* Go on with the newest round, if it has not ended. *out: the register as it was found. */
static int end_newest(struct collect *c, struct register_value *out, struct error *err)
{
	CLEANUP(share_round_fini_p) struct share_round round = { 0 };
	struct register_value v = { 0 };
	int64_t date;
	int rc = register_newest(c->os, "gc", SHARE_ROUND_MAX, &v, err);

	if (rc == 0 && v.generation)
		rc = is_done(c, v.generation, &date, err);
	else if (rc == 0)
		rc = 1;
	if (rc == 0 && !c->opt->dry_run) {
		rc = share_round_decode(v.body.data, v.body.len, &round, err);
		if (rc == 0 && round.epoch != v.generation)
			rc = error_set(err, -EBADMSG, "round %llu says that it is another",
				       (unsigned long long)v.generation);
		if (rc == 0)
			rc = end_round(c, &round, err);
	}
	out->generation = v.generation;
	register_value_fini(&v);
	return MIN(rc, 0);
}

/* Publish what is condemned. 1: another round has begun meanwhile. */
static int publish(struct collect *c, struct share_round *round, uint64_t newest, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct register_value seen = { 0 };
	int rc = register_generation(c->os, "gc", &seen.generation, &seen.date, err);

	if (rc == 0 && seen.generation != newest)
		return 1;
	round->epoch = newest + 1;
	round->node = c->node;
	if (rc == 0)
		rc = share_id_random(&round->nonce);
	if (rc == 0)
		rc = share_round_encode(round, &text, err);
	if (rc == 0)
		rc = register_append(c->os, "gc", &seen, text.data, text.len, err);
	return rc == -EEXIST || rc == -ESTALE ? 1 : rc;
}

/* What is to be repacked. */
static int choose(struct collect *c, struct share_round *round, struct error *err)
{
	int rc;

	do {
		share_packs_fini(&round->repacked);
		rc = repack_choose(&c->repack, &round->repacked, err);
	} while (rc == 0 && c->opt->dry_run && c->repack.more);
	return rc < 0 || c->opt->dry_run ? rc : need_moved(c, &round->repacked, err);
}

/* One round. 1: there is more to do. */
static int one_round(struct collect *c, struct error *err)
{
	CLEANUP(share_round_fini_p) struct share_round round = { 0 };
	struct register_value newest = { 0 };
	int rc = end_newest(c, &newest, err);

	if (rc == 0)
		rc = mark_run(&c->mark, c->p, err);
	if (rc == 0)
		rc = condemn(c, &round.condemned, err);
	if (rc == 0)
		rc = choose(c, &round, err);
	if (rc < 0 || c->opt->dry_run || (round.condemned.n == 0 && round.repacked.n == 0))
		return rc;
	rc = publish(c, &round, newest.generation, err);
	if (rc == 0)
		rc = end_round(c, &round, err);
	return rc == 0 && (c->more || c->repack.more) ? 1 : rc;
}

/* ---- the whole ---- */

/* Not written for so long. What the mark saw is not enough: an intent was there, maybe. */
static int is_old(struct collect *c, const char *snap, struct error *err)
{
	struct object_request rq = {
		.op = OBJECT_LIST, .priority = OBJECT_BACKGROUND, .key = snap, .max_keys = 1
	};
	int rc;

	object_run(c->os, &rq, 1);
	rc = rq.result;
	if (rc < 0)
		error_set(err, rc, "%s", error_text(&rq.err));
	else
		rc = rq.n_entries && rq.date - rq.entries[0].modified >= c->opt->free_s;
	object_request_fini(&rq);
	return rc;
}

/* The record, its hot object, and the mark that it gets no names. */
static int delete_record(struct collect *c, const struct share_id *id, struct error *err)
{
	char snap[SHARE_KEY_SIZE], hot[SHARE_KEY_SIZE], gone[SHARE_KEY_SIZE];
	const char *const keys[] = { snap, hot, gone };
	struct object_request rq = { .op = OBJECT_DELETE,
				     .priority = OBJECT_BACKGROUND,
				     .key = snap,
				     .names = keys,
				     .n_names = ARRAY_SIZE(keys) };
	int rc;

	share_key_of_id(SHARE_KEY_SNAP, id, snap);
	share_key_of_id(SHARE_KEY_HOT, id, hot);
	share_key_of_id(SHARE_KEY_GONE, id, gone);
	object_run(c->os, &rq, 1);
	rc = rq.result;
	if (rc < 0)
		error_set(err, rc, "%s: %s", snap, error_text(&rq.err));
	object_request_fini(&rq);
	return rc;
}

/*
 * A record that nobody needs. Its key is free then; but a push creates it only with the date of a
 * reply that showed the intent, and that is gone for longer than a date is taken: an intent goes
 * after the record was written (collect_wait_tidy).
 */
static int free_record(struct collect *c, const struct share_id *id, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	char intent[SHARE_KEY_SIZE], snap[SHARE_KEY_SIZE];
	int rc;

	share_key_of_id(SHARE_KEY_PUSH, id, intent);
	share_key_of_id(SHARE_KEY_SNAP, id, snap);
	rc = object_get(c->os, OBJECT_BACKGROUND, intent, SHARE_INTENT_MAX, &text, NULL, err);
	if (rc != -ENOENT)
		return rc;
	rc = is_old(c, snap, err);
	if (rc == 1) {
		rc = delete_record(c, id, err);
		c->res->freed += rc == 0;
	}
	return rc;
}

static int free_records(struct collect *c, struct error *err)
{
	const struct share_id *id = (const struct share_id *)c->mark.old.data;
	size_t n = c->os->has_clock ? c->mark.old.len / sizeof(*id) : 0;
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = free_record(c, &id[i], err);
	return rc;
}

static int run(struct collect *c, struct error *err)
{
	int rc = share_id_random(&c->node);

	for (int i = 0; i < TRIES && rc == 0; i++) {
		rc = one_round(c, err);
		c->res->snapshots = c->mark.ready;
		if (rc <= 0)
			break;
		rc = 0;
	}
	if (rc == 0 && !c->opt->dry_run)
		rc = collect_hooks_run(c->os, &c->mark, c->p, err);
	if (rc == 0 && !c->opt->dry_run)
		rc = free_records(c, err);
	return rc;
}

int collect_run(struct remote *r, const struct collect_options *opt, struct progress *p,
		struct collect_result *out, struct error *err)
{
	struct collect c = {
		.r = r,
		.os = remote_objects(r),
		.opt = opt,
		.p = p,
		.mark = { .os = remote_objects(r), .grace_s = opt->grace_s, .free_s = opt->free_s },
		.res = out,
	};
	int rc;

	c.repack = (struct repack){ .os = c.os,
				    .mark = &c.mark,
				    .p = p,
				    .meta_stays = remote_meta_stays(r),
				    .is_done = is_ending_done,
				    .arg = &c };
	*out = (struct collect_result){ 0 };
	rc = opt->dry_run ? 0 : remote_writable(r, err);
	if (rc == 0 && !opt->dry_run)
		rc = remote_deletable(r, err);
	if (rc == 0)
		rc = run(&c, err);
	mark_fini(&c.mark);
	out->repacked = c.repack.counts;
	if (rc == 0)
		return 0;
	return error_prefix(err, rc, "collect remote %s", remote_name(r));
}
