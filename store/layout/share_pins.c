#include "store/layout/share_pins.h"

#include <errno.h>
#include <stdlib.h>

#include "store/layout/share_json.h"

static const char what[] = "pins of an instance";

void share_pins_fini(struct share_pins *p)
{
	free(p->v);
	p->v = NULL;
	p->n = 0;
}

static int by_id(const void *a, const void *b)
{
	return share_id_cmp(a, b);
}

void share_pins_sort(struct share_pins *p)
{
	size_t kept = 0;

	if (p->n == 0)
		return;
	qsort(p->v, p->n, sizeof(p->v[0]), by_id);
	for (size_t i = 0; i < p->n; i++)
		if (kept == 0 || !share_id_equal(&p->v[kept - 1], &p->v[i]))
			p->v[kept++] = p->v[i];
	p->n = kept;
}

bool share_pins_has(const struct share_pins *p, const struct share_id *push)
{
	return p->n && bsearch(push, p->v, p->n, sizeof(p->v[0]), by_id);
}

static const char *flaw(const struct share_pins *p)
{
	if (share_id_is_none(&p->id))
		return "id";
	if (p->counter == 0 || p->counter > SHARE_GENERATION_MAX)
		return "counter";
	if (p->n > SHARE_PINS_COUNT)
		return "pins";
	for (size_t i = 0; i < p->n; i++)
		if (share_id_is_none(&p->v[i]) || (i && share_id_cmp(&p->v[i - 1], &p->v[i]) >= 0))
			return "pins";
	return NULL;
}

static json_t *ids_json(const struct share_pins *p)
{
	CLEANUP(share_json_free_p) json_t *list = json_array();
	char text[SHARE_ID_SIZE];

	for (size_t i = 0; list && i < p->n; i++) {
		share_id_text(&p->v[i], text);
		if (json_array_append_new(list, json_string(text)) != 0)
			return NULL;
	}
	return STEAL(list);
}

int share_pins_encode(const struct share_pins *p, struct buf *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = json_object();
	const char *bad_member = flaw(p);

	if (bad_member)
		return error_set(err, -EINVAL, "%s: %s is wrong", what, bad_member);
	int bad = o ? 0 : -1;
	bad |= share_json_set_id(o, "id", &p->id);
	bad |= share_json_set_u64(o, "counter", p->counter);
	bad |= json_object_set_new(o, "pins", ids_json(p));
	if (bad)
		return error_set_errno(err, -ENOMEM, "%s", what);
	return share_json_dump(o, what, SHARE_PINS_MAX, out, err);
}

static void get_ids(struct share_fields *f, struct share_pins *out)
{
	const json_t *list = json_object_get(f->o, "pins");
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n > SHARE_PINS_COUNT) {
		share_get_fail(f, "pins", -EBADMSG);
		return;
	}
	if (n == 0)
		return;
	out->v = calloc(n, sizeof(out->v[0]));
	if (!out->v) {
		share_get_fail(f, "pins", -ENOMEM);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (!s || share_id_parse(s, &out->v[out->n++]) != 0)
			share_get_fail(f, "pins", -EBADMSG);
	}
}

int share_pins_decode(const void *text, size_t len, struct share_pins *out, struct error *err)
{
	CLEANUP(share_json_free_p) json_t *o = NULL;
	CLEANUP(share_pins_fini_p) struct share_pins p = { 0 };
	int rc = share_json_load(text, len, what, SHARE_PINS_MAX, &o, err);

	if (rc != 0)
		return rc;
	struct share_fields f = { .o = o };
	share_get_id(&f, "id", &p.id);
	p.counter = share_get_number(&f, "counter", 1, SHARE_GENERATION_MAX);
	get_ids(&f, &p);
	if (!f.bad && flaw(&p))
		share_get_fail(&f, flaw(&p), -EBADMSG);
	rc = share_fields_check(&f, what, err);
	if (rc != 0)
		return rc;
	*out = p;
	p = (struct share_pins){ 0 };
	return 0;
}
