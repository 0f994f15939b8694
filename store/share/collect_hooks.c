#include "store/share/collect_hooks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/layout/share_key.h"

#define ASKED_MAX 256u /* pushes without a record: the next collection asks for more */

/* A push of which the mark has seen no record. */
struct asked {
	struct share_id id;
	bool dead;
};

struct hook_sweep {
	struct object_store *os;
	const struct mark *mark;
	struct progress *p;
	struct error *err;
	struct buf asked;	      /* struct asked */
	char (*keys)[SHARE_KEY_SIZE]; /* OBJECT_DELETE_MAX */
	size_t n;
};

static int delete_keys(struct hook_sweep *s)
{
	const char *names[OBJECT_DELETE_MAX];
	struct object_request rq = { .op = OBJECT_DELETE,
				     .priority = OBJECT_BACKGROUND,
				     .key = "hook",
				     .names = names,
				     .n_names = s->n };
	int rc;

	if (s->n == 0)
		return 0;
	for (size_t i = 0; i < s->n; i++)
		names[i] = s->keys[i];
	object_run(s->os, &rq, 1);
	rc = rq.result < 0 ? error_set(s->err, rq.result, "%s", error_text(&rq.err)) : 0;
	object_request_fini(&rq);
	s->n = 0;
	return rc;
}

/* 1 or 0. */
static int is_there(struct hook_sweep *s, enum share_key_kind kind, const struct share_id *id)
{
	struct object_request get = { .op = OBJECT_GET, .priority = OBJECT_BACKGROUND, .len = 1 };
	char key[SHARE_KEY_SIZE];
	int rc;

	share_key_of_id(kind, id, key);
	get.key = key;
	object_run(s->os, &get, 1);
	rc = get.result == 0 ? 1 : get.result;
	if (rc == -ENOENT)
		rc = 0;
	else if (rc < 0)
		error_set(s->err, rc, "%s", error_text(&get.err));
	object_request_fini(&get);
	return rc;
}

/*
 * A push that has neither intent nor record never gets one: it has ended. The intent is looked for
 * first, as it goes after the record was written.
 */
static int ask(struct hook_sweep *s, const struct share_id *id)
{
	const struct asked *v = (const struct asked *)s->asked.data;
	size_t n = s->asked.len / sizeof(*v);
	struct asked new = { .id = *id };
	int rc;

	for (size_t i = 0; i < n; i++)
		if (share_id_equal(&v[i].id, id))
			return v[i].dead;
	if (n == ASKED_MAX)
		return 0;
	rc = is_there(s, SHARE_KEY_PUSH, id);
	if (rc == 0)
		rc = is_there(s, SHARE_KEY_SNAP, id);
	if (rc < 0)
		return rc;
	new.dead = rc == 0;
	rc = buf_append(&s->asked, &new, sizeof(new));
	return rc < 0 ? rc : new.dead;
}

/* Whether a hook of that snapshot is of no use: 1 or 0. */
static int is_dead(struct hook_sweep *s, const struct share_id *id)
{
	if (mark_uses(s->mark, id))
		return 0;
	return mark_has_seen(s->mark, id) ? 1 : ask(s, id);
}

static int sweep_one(void *arg, const struct object_entry *e)
{
	struct hook_sweep *s = arg;
	struct share_key k;
	int rc;

	if (progress_cancelled(s->p))
		return -ECANCELED;
	if (share_key_parse(e->key, &k) < 0 || k.kind != SHARE_KEY_HOOK)
		return 0; /* not ours: it stays */
	rc = is_dead(s, &k.id);
	if (rc <= 0)
		return rc;
	strcpy(s->keys[s->n++], e->key);
	return s->n == OBJECT_DELETE_MAX ? delete_keys(s) : 0;
}

int collect_hooks_run(struct object_store *os, const struct mark *mark, struct progress *p,
		      struct error *err)
{
	struct hook_sweep s = { .os = os, .mark = mark, .p = p, .err = err };
	int rc;

	s.keys = calloc(OBJECT_DELETE_MAX, sizeof(*s.keys));
	if (!s.keys)
		return -ENOMEM;
	rc = object_each(os, OBJECT_BACKGROUND, share_key_kind_prefix(SHARE_KEY_HOOK), sweep_one,
			 &s, err);
	if (rc == 0)
		rc = delete_keys(&s);
	buf_fini(&s.asked);
	free(s.keys);
	return rc;
}
