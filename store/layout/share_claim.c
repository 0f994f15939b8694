#include "store/layout/share_claim.h"

#include <errno.h>
#include <string.h>

#include "store/layout/share_json.h"

static const char what[] = "claim of a build";
static const char *const states[] = {
	[SHARE_HELD] = "held", [SHARE_FREE] = "free", [SHARE_FAILED] = "failed"
};

int share_claim_encode(const struct share_claim *c, struct buf *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = json_object();

	if (share_id_is_none(&c->nonce) || share_id_is_none(&c->holder) || c->generation < 1 ||
	    c->generation > SHARE_GENERATION_MAX || c->beat_ms < SHARE_BEAT_MIN_MS ||
	    c->beat_ms > SHARE_BEAT_MAX_MS)
		return error_set(err, -EINVAL, "%s breaks its rules", what);
	int bad = o ? 0 : -1;
	bad |= share_json_set_u64(o, "generation", c->generation);
	bad |= share_json_set_id(o, "prev", &c->prev);
	bad |= share_json_set_id(o, "nonce", &c->nonce);
	bad |= share_json_set_id(o, "holder", &c->holder);
	bad |= share_json_set_text(o, "state", states[c->state]);
	bad |= share_json_set_u64(o, "beatMs", c->beat_ms);
	bad |= share_json_set_text(o, "error", c->error);
	if (bad)
		return error_set_errno(err, -ENOMEM, "%s", what);
	return share_json_dump(o, what, SHARE_CLAIM_MAX, out, err);
}

static void get_state(struct share_fields *f, enum share_claim_state *out)
{
	char text[16];

	share_get_text(f, "state", text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		if (strcmp(text, states[i]) == 0) {
			*out = (enum share_claim_state)i;
			return;
		}
	}
	share_get_fail(f, "state", -EBADMSG);
}

int share_claim_decode(const void *text, size_t len, struct share_claim *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	struct share_claim c = { 0 };
	int r = share_json_load(text, len, what, SHARE_CLAIM_MAX, &o, err);

	if (r != 0)
		return r;
	struct share_fields f = { .o = o };
	c.generation = share_get_number(&f, "generation", 1, SHARE_GENERATION_MAX);
	share_get_id_or_none(&f, "prev", &c.prev);
	share_get_id(&f, "nonce", &c.nonce);
	share_get_id(&f, "holder", &c.holder);
	get_state(&f, &c.state);
	c.beat_ms = (unsigned)share_get_number(&f, "beatMs", SHARE_BEAT_MIN_MS, SHARE_BEAT_MAX_MS);
	share_get_text(&f, "error", c.error, sizeof(c.error));
	r = share_fields_check(&f, what, err);
	if (r == 0)
		*out = c;
	return r;
}
