#include "store/share/collect_wait.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/layout/share_record.h"
#include "store/layout/share_round.h"

#define PAUSE_MS 1000
#define PAUSE_STEP_MS 100

void collect_wait_fini(struct collect_wait *w)
{
	buf_fini(&w->intents);
}

static int by_id(const void *a, const void *b)
{
	return share_id_cmp(&((const struct listed_intent *)a)->id,
			    &((const struct listed_intent *)b)->id);
}

/* ---- what is listed ---- */

struct listing {
	struct buf *out;
	const struct buf *before; /* what is known already */
	struct error *err;
};

static int note_intent(void *arg, const struct object_entry *e)
{
	struct listing *l = arg;
	struct listed_intent in = { .modified = e->modified }, *known;
	struct share_key k;

	if (share_key_parse(e->key, &k) < 0 || k.kind != SHARE_KEY_PUSH)
		return error_set(l->err, -EBADMSG, "%.200s: no key that this version knows",
				 e->key);
	in.id = k.id;
	known = l->before->len ? bsearch(&in, l->before->data, l->before->len / sizeof(in),
					 sizeof(in), by_id)
			       : NULL;
	return buf_append(l->out, known ? known : &in, sizeof(in));
}

static int list_intents(struct collect_wait *w, struct error *err)
{
	struct buf now = BUF_INIT;
	struct listing l = { &now, &w->intents, err };
	int rc = object_each(w->os, OBJECT_CONTROL, share_key_kind_prefix(SHARE_KEY_PUSH),
			     note_intent, &l, err);

	buf_fini(&w->intents);
	w->intents = now;
	return rc;
}

/* When it began. It may be gone meanwhile. */
static int read_intent(struct collect_wait *w, struct listed_intent *in, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct share_intent intent;
	char key[SHARE_KEY_SIZE];
	int rc;

	share_key_of_id(SHARE_KEY_PUSH, &in->id, key);
	rc = object_get(w->os, OBJECT_CONTROL, key, SHARE_INTENT_MAX, &text, NULL, err);
	if (rc == -ENOENT) {
		in->gone = true;
		return 0;
	}
	if (rc == 0)
		rc = share_intent_decode(text.data, text.len, &intent, err);
	if (rc == 0 && !share_id_equal(&intent.id, &in->id))
		rc = error_set(err, -EBADMSG, "it is of another push");
	if (rc < 0)
		return error_prefix(err, rc, "%s", key);
	in->node = intent.node;
	in->epoch = intent.epoch;
	return 0;
}

/* ---- signs of life ---- */

static int note_newest(void *arg, const struct object_entry *e)
{
	int64_t *newest = arg;

	*newest = MAX(*newest, e->modified);
	return 0;
}

/* When the push, or its instance, wrote anything last, by the service's clock. */
static int last_sign(struct collect_wait *w, const struct listed_intent *in, int64_t *out,
		     struct error *err)
{
	char id[SHARE_ID_SIZE], prefix[SHARE_KEY_SIZE];
	int rc;

	*out = in->modified;
	share_id_text(&in->id, id);
	snprintf(prefix, sizeof(prefix), "pack/%.2s/%s-", id, id);
	rc = object_each(w->os, OBJECT_CONTROL, prefix, note_newest, out, err);
	if (rc < 0)
		return rc;
	share_key_of_id(SHARE_KEY_NODE, &in->node, prefix);
	return object_each(w->os, OBJECT_CONTROL, prefix, note_newest, out, err);
}

/*
 * Take the key that the push would commit with. `date`: of the reply that showed it free. 1: what
 * has become of it, the next look shows.
 */
static int give_up(struct collect_wait *w, const struct listed_intent *in, int64_t date,
		   struct error *err)
{
	struct share_record rec = { .state = SHARE_ABORTED, .id = in->id, .epoch = in->epoch };
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	int rc = share_id_random(&rec.nonce);

	if (rc == 0)
		rc = share_record_encode(&rec, &text, err);
	if (rc < 0)
		return rc;
	share_key_of_id(SHARE_KEY_SNAP, &in->id, key);
	rc = object_put_once(w->os, OBJECT_CONTROL, key, text.data, text.len, date, err);
	if (rc == 0)
		w->given_up++;
	return rc == -EEXIST || rc == -ESTALE || rc == -ETIMEDOUT ? 1 : rc;
}

/* ---- waiting ---- */

/* Whether the push has decided; 1 if not. */
static int look_at(struct collect_wait *w, struct listed_intent *in, struct error *err)
{
	struct object_request get = { .op = OBJECT_GET, .priority = OBJECT_CONTROL, .len = 1 };
	char key[SHARE_KEY_SIZE];
	int64_t date, sign;
	int rc;

	share_key_of_id(SHARE_KEY_SNAP, &in->id, key);
	get.key = key;
	object_run(w->os, &get, 1);
	rc = get.result;
	date = get.date;
	if (rc < 0 && rc != -ENOENT)
		error_set(err, rc, "%s", error_text(&get.err));
	object_request_fini(&get);
	in->decided = rc == 0;
	if (rc != -ENOENT)
		return rc;
	if (date - in->modified < w->give_up_s)
		return 1;
	rc = last_sign(w, in, &sign, err);
	if (rc < 0 || date - sign < w->give_up_s)
		return rc < 0 ? rc : 1;
	rc = give_up(w, in, date, err);
	in->decided = rc == 0;
	return rc;
}

static void sleep_a_while(struct progress *p)
{
	const struct timespec step = { .tv_nsec = PAUSE_STEP_MS * 1000000L };

	for (int ms = 0; ms < PAUSE_MS && !progress_cancelled(p); ms += PAUSE_STEP_MS)
		nanosleep(&step, NULL);
}

/* *out: how many have not decided. */
static int look_at_all(struct collect_wait *w, size_t *out, struct error *err)
{
	struct listed_intent *in;
	int rc = list_intents(w, err);

	*out = 0;
	in = (struct listed_intent *)w->intents.data;
	for (size_t i = 0; rc >= 0 && i < w->intents.len / sizeof(*in); i++) {
		rc = 0;
		if (share_id_is_none(&in[i].node) && !in[i].gone)
			rc = read_intent(w, &in[i], err);
		if (rc == 0 && !in[i].gone && !in[i].decided && in[i].epoch < w->epoch)
			rc = look_at(w, &in[i], err);
		if (rc > 0)
			(*out)++;
		if (rc >= 0 && progress_cancelled(w->p))
			rc = -ECANCELED;
	}
	return MIN(rc, 0);
}

int collect_wait_run(struct collect_wait *w, struct error *err)
{
	size_t left = 1;
	int rc = 0;

	while (rc == 0 && left) {
		rc = look_at_all(w, &left, err);
		if (rc < 0 || !left)
			break;
		if (w->p) {
			w->p->phase = "waiting for pushes";
			w->p->done_items = w->p->total_items = 0;
			progress_tick(w->p, false);
		}
		if (w->pause)
			w->pause(w->pause_arg);
		else
			sleep_a_while(w->p);
	}
	return rc;
}

/* ---- afterwards ---- */

/*
 * A record that is not ready is written anew before its intent goes, so that it is freed only long
 * after nobody can have seen the intent.
 */
static int touch_record(struct collect_wait *w, const struct share_id *id, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct share_record rec;
	char key[SHARE_KEY_SIZE];
	int rc;

	share_key_of_id(SHARE_KEY_SNAP, id, key);
	rc = object_get(w->os, OBJECT_CONTROL, key, SHARE_RECORD_MAX, &text, NULL, err);
	if (rc == 0)
		rc = share_record_decode(text.data, text.len, &rec, err);
	if (rc < 0)
		return rc == -ENOENT ? 0 : error_prefix(err, rc, "%s", key);
	if (rec.state != SHARE_READY)
		rc = object_put(w->os, OBJECT_CONTROL, key, text.data, text.len, err);
	share_record_fini(&rec);
	return rc;
}

int collect_wait_tidy(struct collect_wait *w, struct error *err)
{
	const struct listed_intent *in = (const struct listed_intent *)w->intents.data;
	char key[SHARE_KEY_SIZE];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < w->intents.len / sizeof(*in); i++) {
		if (!in[i].decided || in[i].gone)
			continue;
		share_key_of_id(SHARE_KEY_PUSH, &in[i].id, key);
		rc = touch_record(w, &in[i].id, err);
		if (rc == 0)
			rc = object_delete(w->os, OBJECT_CONTROL, key, err);
	}
	return rc;
}
