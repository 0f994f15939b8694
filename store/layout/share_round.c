#include "store/layout/share_round.h"

#include <errno.h>

#include "store/layout/share_json.h"

static const char intent_what[] = "intent of a push";
static const char round_what[] = "round of a collection";
static const char done_what[] = "end of a collection's round";

static bool epoch_is_valid(uint64_t epoch, uint64_t min)
{
	return epoch >= min && epoch <= SHARE_GENERATION_MAX;
}

int share_intent_encode(const struct share_intent *in, struct buf *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = json_object();

	if (share_id_is_none(&in->id) || share_id_is_none(&in->nonce) ||
	    share_id_is_none(&in->node) || !epoch_is_valid(in->epoch, 0))
		return error_set(err, -EINVAL, "%s breaks its rules", intent_what);
	int bad = o ? 0 : -1;
	bad |= share_json_set_id(o, "id", &in->id);
	bad |= share_json_set_id(o, "nonce", &in->nonce);
	bad |= share_json_set_id(o, "node", &in->node);
	bad |= share_json_set_u64(o, "epoch", in->epoch);
	bad |= json_object_set_new(o, "startedAtMs", json_integer(in->started_at_ms));
	if (bad)
		return error_set_errno(err, -ENOMEM, "%s", intent_what);
	return share_json_dump(o, intent_what, SHARE_INTENT_MAX, out, err);
}

int share_intent_decode(const void *text, size_t len, struct share_intent *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	struct share_intent in;

	int r = share_json_load(text, len, intent_what, SHARE_INTENT_MAX, &o, err);
	if (r != 0)
		return r;
	struct share_fields f = { .o = o };
	share_get_id(&f, "id", &in.id);
	share_get_id(&f, "nonce", &in.nonce);
	share_get_id(&f, "node", &in.node);
	in.epoch = share_get_number(&f, "epoch", 0, SHARE_GENERATION_MAX);
	in.started_at_ms = share_get_int(&f, "startedAtMs");
	r = share_fields_check(&f, intent_what, err);
	if (r == 0)
		*out = in;
	return r;
}

void share_round_fini(struct share_round *r)
{
	share_packs_fini(&r->condemned);
	share_packs_fini(&r->repacked);
}

int share_round_encode(const struct share_round *r, struct buf *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = json_object();

	if (share_id_is_none(&r->nonce) || share_id_is_none(&r->node) ||
	    !epoch_is_valid(r->epoch, 1))
		return error_set(err, -EINVAL, "%s breaks its rules", round_what);
	int bad = o ? 0 : -1;
	bad |= share_json_set_u64(o, "epoch", r->epoch);
	bad |= share_json_set_id(o, "prev", &r->prev);
	bad |= share_json_set_id(o, "nonce", &r->nonce);
	bad |= share_json_set_id(o, "node", &r->node);
	bad |= share_json_set_packs(o, "condemned", &r->condemned);
	bad |= share_json_set_packs(o, "repacked", &r->repacked);
	if (bad)
		return error_set_errno(err, -ENOMEM, "%s", round_what);
	return share_json_dump(o, round_what, SHARE_ROUND_MAX, out, err);
}

int share_round_decode(const void *text, size_t len, struct share_round *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	struct share_round round = { 0 };

	int r = share_json_load(text, len, round_what, SHARE_ROUND_MAX, &o, err);
	if (r != 0)
		return r;
	struct share_fields f = { .o = o };
	round.epoch = share_get_number(&f, "epoch", 1, SHARE_GENERATION_MAX);
	share_get_id_or_none(&f, "prev", &round.prev);
	share_get_id(&f, "nonce", &round.nonce);
	share_get_id(&f, "node", &round.node);
	share_get_packs(&f, "condemned", &round.condemned);
	share_get_packs(&f, "repacked", &round.repacked);
	r = share_fields_check(&f, round_what, err);
	if (r != 0) {
		share_round_fini(&round);
		return r;
	}
	*out = round;
	return 0;
}

int share_round_done_encode(const struct share_round_done *d, struct buf *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = json_object();

	if (share_id_is_none(&d->nonce) || share_id_is_none(&d->node) ||
	    !epoch_is_valid(d->epoch, 1))
		return error_set(err, -EINVAL, "%s breaks its rules", done_what);
	int bad = o ? 0 : -1;
	bad |= share_json_set_u64(o, "epoch", d->epoch);
	bad |= share_json_set_id(o, "nonce", &d->nonce);
	bad |= share_json_set_id(o, "node", &d->node);
	if (bad)
		return error_set_errno(err, -ENOMEM, "%s", done_what);
	return share_json_dump(o, done_what, SHARE_INTENT_MAX, out, err);
}

int share_round_done_decode(const void *text, size_t len, struct share_round_done *out,
			    struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	struct share_round_done d;

	int r = share_json_load(text, len, done_what, SHARE_INTENT_MAX, &o, err);
	if (r != 0)
		return r;
	struct share_fields f = { .o = o };
	d.epoch = share_get_number(&f, "epoch", 1, SHARE_GENERATION_MAX);
	share_get_id(&f, "nonce", &d.nonce);
	share_get_id(&f, "node", &d.node);
	r = share_fields_check(&f, done_what, err);
	if (r == 0)
		*out = d;
	return r;
}
