#include "snapshotd/state/meta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/base/log.h"

static int make_key(const char *prefix, const char *name, struct buf *out)
{
	int rc = buf_append_str(out, prefix);

	return rc < 0 ? rc : buf_append_str(out, name);
}

int meta_get(struct kv *kv, const char *prefix, const char *name, json_t **out)
{
	CLEANUP(buf_fini_p) struct buf key = BUF_INIT;
	struct kv_value v = { 0 };
	json_t *j;
	int rc = make_key(prefix, name, &key);

	if (rc == 0)
		rc = kv_get(kv, KV_META, key.data, key.len, &v);
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

int meta_batch_put(struct kv *kv, struct kv_batch *b, const char *prefix, const char *name,
		   const json_t *j)
{
	CLEANUP(buf_fini_p) struct buf key = BUF_INIT;
	char *text = json_dumps(j, JSON_COMPACT);
	int rc = text ? make_key(prefix, name, &key) : -ENOMEM;

	if (rc == 0)
		kv_batch_put(kv, b, KV_META, key.data, key.len, text, strlen(text));
	free(text);
	return rc;
}

int meta_batch_del(struct kv *kv, struct kv_batch *b, const char *prefix, const char *name)
{
	CLEANUP(buf_fini_p) struct buf key = BUF_INIT;
	int rc = make_key(prefix, name, &key);

	if (rc == 0)
		kv_batch_del(kv, b, KV_META, key.data, key.len);
	return rc;
}

int meta_put(struct kv *kv, const char *prefix, const char *name, const json_t *j,
	     enum kv_durability d)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	int rc = b ? meta_batch_put(kv, b, prefix, name, j) : -ENOMEM;

	return rc < 0 ? rc : kv_write(kv, b, d);
}

int meta_del(struct kv *kv, const char *prefix, const char *name, enum kv_durability d)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	int rc = b ? meta_batch_del(kv, b, prefix, name) : -ENOMEM;

	return rc < 0 ? rc : kv_write(kv, b, d);
}

static int call_for(meta_fn fn, void *arg, const char *key, size_t prefix_len, const char *value,
		    size_t value_len)
{
	json_t *j = json_loadb(value, value_len, 0, NULL);
	int rc = 0;

	if (json_is_object(j))
		rc = fn(arg, key + prefix_len, j);
	else
		log_error("the record %s is damaged and left out", key);
	json_decref(j);
	return rc;
}

int meta_each(struct kv *kv, const char *prefix, meta_fn fn, void *arg)
{
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new(kv, KV_META);
	size_t prefix_len = strlen(prefix);
	int rc = it ? 0 : -ENOMEM;

	if (rc < 0)
		return rc;
	for (kv_iter_seek(it, prefix, prefix_len); kv_iter_valid(it) && rc == 0; kv_iter_next(it)) {
		size_t klen, vlen;
		const uint8_t *k = kv_iter_key(it, &klen), *v = kv_iter_value(it, &vlen);
		char *key;

		if (klen < prefix_len || memcmp(k, prefix, prefix_len) != 0)
			break;
		key = strndup((const char *)k, klen);
		rc = key ? call_for(fn, arg, key, prefix_len, (const char *)v, vlen) : -ENOMEM;
		free(key);
	}
	return rc ? rc : kv_iter_status(it);
}

const char *meta_text(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "";
}
