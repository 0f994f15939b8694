#include "snapshotd/state/json_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/log.h"

int json_record_get(struct kv *kv, enum meta_kind kind, const char *name, json_t **out)
{
	struct kv_value v = { 0 };
	int rc = meta_get(kv, kind, name, &v);
	json_t *j;

	if (rc < 0)
		return rc;
	j = json_loadb((const char *)v.data, v.len, 0, NULL);
	kv_value_release(&v);
	if (!json_is_object(j)) {
		json_decref(j);
		return -EBADMSG;
	}
	*out = j;
	return 0;
}

int json_record_batch_put(struct kv *kv, struct kv_batch *b, enum meta_kind kind, const char *name,
			  const json_t *j)
{
	char *text = json_dumps(j, JSON_COMPACT);
	int rc = text ? meta_batch_put(kv, b, kind, name, text, strlen(text)) : -ENOMEM;

	free(text);
	return rc;
}

int json_record_put(struct kv *kv, enum meta_kind kind, const char *name, const json_t *j,
		    enum kv_durability d)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	int rc = b ? json_record_batch_put(kv, b, kind, name, j) : -ENOMEM;

	return rc < 0 ? rc : kv_write(kv, b, d);
}

struct walk {
	enum meta_kind kind;
	json_record_fn fn;
	void *arg;
};

static int call_for(void *arg, const char *name, const void *value, size_t len)
{
	const struct walk *w = arg;
	json_t *j = json_loadb(value, len, 0, NULL);
	int rc = 0;

	if (json_is_object(j))
		rc = w->fn(w->arg, name, j);
	else
		log_error("the record %s%s is damaged and left out", meta_prefix(w->kind), name);
	json_decref(j);
	return rc;
}

int json_record_each(struct kv *kv, enum meta_kind kind, json_record_fn fn, void *arg)
{
	struct walk w = { kind, fn, arg };

	return meta_each(kv, kind, "", call_for, &w);
}

const char *json_record_text(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "";
}
