#include "tools/libvarve/records.h"

#include <errno.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>

#include "tools/libvarve/image.h"

/* Stands before the struct that a caller sees. */
struct record {
	json_t *json;  /* what it was made of */
	json_t *texts; /* an array: JSON of it, as text */
	alignas(max_align_t) char visible[];
};

static struct record *record_of(const void *visible)
{
	return CONTAINER_OF(visible, struct record, visible);
}

/* The text of v, which the record keeps. NULL: out of memory. */
static const char *keep_text(struct record *r, const json_t *v)
{
	char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	json_t *kept = text ? json_string(text) : NULL;

	free(text);
	return kept && json_array_append_new(r->texts, kept) == 0 ? json_string_value(kept) : NULL;
}

static int fill(struct record *r, const struct record_field *f)
{
	const json_t *v = json_object_get(r->json, f->name);
	void *to = r->visible + f->offset;
	const char *text = json_is_string(v) ? json_string_value(v) : "";

	switch (f->type) {
	case RECORD_JSON:
		text = v && !json_is_null(v) ? keep_text(r, v) : "";
		*(const char **)to = text;
		return text ? 0 : -ENOMEM;
	case RECORD_TEXT:
		*(const char **)to = text;
		return 0;
	case RECORD_NUMBER:
		*(uint64_t *)to = (uint64_t)json_integer_value(v);
		return 0;
	case RECORD_FLAG:
		*(int *)to = json_is_true(v);
		return 0;
	}
	return -EINVAL;
}

static int fill_all(struct record *r, const struct record_type *type)
{
	int rc = r->texts ? 0 : -ENOMEM;

	for (size_t i = 0; i < type->n_fields && rc == 0; i++)
		rc = fill(r, &type->fields[i]);
	if (rc == 0 && type->json_offset != NO_JSON) {
		const char *text = keep_text(r, r->json);
		*(const char **)(void *)(r->visible + type->json_offset) = text;
		rc = text ? 0 : -ENOMEM;
	}
	return rc;
}

static int unexpected(const char *what, struct varve_error *err)
{
	struct error why = ERROR_INIT;

	error_set(&why, -EBADMSG, "snapshotd's answer is not %s", what);
	return image_report(&why, -EBADMSG, err);
}

int record_new(const struct record_type *type, json_t *j, void **out, struct varve_error *err)
{
	struct record *r;

	if (!json_is_object(j)) {
		json_decref(j);
		return unexpected(type->what, err);
	}
	r = calloc(1, sizeof(*r) + type->size);
	if (!r) {
		json_decref(j);
		return image_report(NULL, -ENOMEM, err);
	}
	r->json = j;
	r->texts = json_array();
	int rc = fill_all(r, type);
	if (rc < 0)
		record_free(r->visible);
	else
		*out = r->visible;
	return image_report(NULL, rc, err);
}

void record_free(void *record)
{
	if (!record)
		return;
	struct record *r = record_of(record);
	json_decref(r->json);
	json_decref(r->texts);
	free(r);
}

const json_t *record_json(const void *record)
{
	return record_of(record)->json;
}

int records_new(const struct record_type *type, json_t *j, void ***out, struct varve_error *err)
{
	json_auto_t *owned = j;
	json_t *v;
	size_t i;
	int r = 0;

	if (!json_is_array(j))
		return unexpected("a list", err);
	void **list = calloc(json_array_size(j) + 1, sizeof(*list));
	if (!list)
		return image_report(NULL, -ENOMEM, err);
	json_array_foreach(j, i, v) {
		r = record_new(type, json_incref(v), &list[i], err);
		if (r < 0)
			break;
	}
	if (r < 0)
		records_free(list);
	else
		*out = list;
	return r;
}

void records_free(void **list)
{
	for (void **p = list; p && *p; p++)
		record_free(*p);
	free(list);
}
