#include "store/share/push_intent.h"

#include <errno.h>

#include "store/base/clock.h"
#include "store/remote/register.h"

static void intent_key(const struct push_intent *i, char key[SHARE_KEY_SIZE])
{
	share_key_of_id(SHARE_KEY_PUSH, &i->intent.id, key);
}

/* What the newest round may delete, unless it has ended. */
static int read_round(struct push_intent *i, struct error *err)
{
	struct share_key k = { .kind = SHARE_KEY_GC_DONE, .generation = i->intent.epoch };
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct share_round round = { 0 };
	char key[SHARE_KEY_SIZE];
	int rc = i->intent.epoch ? share_key_text(&k, key) : -EINVAL;

	if (i->intent.epoch == 0)
		return 0;
	if (rc == 0)
		rc = object_get(remote_objects(i->r), OBJECT_CONTROL, key, SHARE_ROUND_MAX, &text,
				NULL, err);
	if (rc != -ENOENT)
		return rc;
	k.kind = SHARE_KEY_GC;
	rc = share_key_text(&k, key);
	if (rc == 0)
		rc = object_get(remote_objects(i->r), OBJECT_CONTROL, key, SHARE_ROUND_MAX, &text,
				NULL, err);
	if (rc == 0)
		rc = share_round_decode(text.data, text.len, &round, err);
	if (rc == 0)
		rc = share_packs_add_all(&i->gone, &round.condemned);
	if (rc == 0)
		rc = share_packs_add_all(&i->gone, &round.repacked);
	share_round_fini(&round);
	return rc;
}

int push_intent_declare(struct push_intent *i, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	int64_t date;
	uint64_t again;
	int rc = register_generation(remote_objects(i->r), "gc", &i->intent.epoch, &date, err);

	if (rc == 0)
		rc = share_id_random(&i->intent.id);
	if (rc == 0)
		rc = share_id_random(&i->intent.nonce);
	i->intent.node = i->node;
	if (rc == 0 && share_id_is_none(&i->node)) /* nobody writes that one */
		rc = share_id_random(&i->intent.node);
	i->intent.started_at_ms = clock_ms();
	if (rc == 0)
		rc = share_intent_encode(&i->intent, &text, err);
	if (rc < 0)
		return rc;
	intent_key(i, key);
	rc = object_put_once(remote_objects(i->r), OBJECT_CONTROL, key, text.data, text.len, date,
			     err);
	if (rc < 0)
		return rc == -EEXIST || rc == -ESTALE ? -EAGAIN : rc;
	rc = register_generation(remote_objects(i->r), "gc", &again, NULL, err);
	if (rc == 0 && again != i->intent.epoch)
		rc = -EAGAIN;
	return rc < 0 ? rc : read_round(i, err);
}

/* Whose record is it? 0: ours. -EAGAIN: a collector gave us up. */
static int read_decision(struct push_intent *i, struct error *err)
{
	struct share_record found;
	int rc = remote_read_record(i->r, &i->intent.id, &found, err);

	if (rc < 0)
		return rc == -ENOENT ? -EAGAIN : rc;
	rc = found.state == SHARE_READY && share_id_equal(&found.nonce, &i->intent.nonce) ? 0
											  : -EAGAIN;
	share_record_fini(&found);
	return rc;
}

/* The intent is there, as of *out_date. -EAGAIN: it is not. */
static int check_intent(struct push_intent *i, int64_t *out_date, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	int rc;

	intent_key(i, key);
	rc = object_get(remote_objects(i->r), OBJECT_CONTROL, key, SHARE_INTENT_MAX, &text,
			out_date, err);
	return rc == -ENOENT ? -EAGAIN : rc;
}

int push_intent_decide(struct push_intent *i, const struct share_record *rec, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	int64_t date;
	int rc = share_record_encode(rec, &text, err);

	if (rc == 0)
		rc = check_intent(i, &date, err);
	if (rc < 0)
		return rc;
	share_key_of_id(SHARE_KEY_SNAP, &i->intent.id, key);
	rc = object_put_once(remote_objects(i->r), OBJECT_CONTROL, key, text.data, text.len, date,
			     err);
	/* Refused, too, may be the second attempt of a request whose first reply was lost. */
	if (rc == -EEXIST || rc == -ESTALE || rc == -ETIMEDOUT) {
		int decided = read_decision(i, rc == -ETIMEDOUT ? NULL : err);

		i->stays = rc == -ETIMEDOUT && decided < 0;
		if (!i->stays)
			rc = decided;
	}
	return rc;
}

void push_intent_end(struct push_intent *i)
{
	char key[SHARE_KEY_SIZE];

	intent_key(i, key);
	if (!i->stays && !share_id_is_none(&i->intent.id))
		(void)!object_delete(remote_objects(i->r), OBJECT_CONTROL, key, NULL);
	share_packs_fini(&i->gone);
}
