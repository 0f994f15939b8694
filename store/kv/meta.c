#include "store/kv/meta.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* None begins another, as the unit test checks. */
static const char *const prefixes[] = {
	[META_SNAPSHOT] = "snapshot/",
	[META_NAME] = "name/",
	[META_DICT] = "dict/",
	[META_PIN_TREE] = "pin/tree/",
	[META_PIN_CHUNK] = "pin/chunk/",
	[META_GC] = "gc/",
	[META_MOUNT] = "mount/",
	[META_STATS] = "stats/",
	[META_BUILD] = "build/",
	[META_IMAGE] = "image/",
	[META_IMAGE_STEP] = "imagestep/",
	[META_MANIFEST] = "manifest/",
	[META_SANDBOX] = "sandbox/",
	[META_CHECKPOINT] = "checkpoint/",
	[META_CHECKPOINTING] = "checkpointing/",
	[META_PATCH] = "patch/",
	[META_REMOTE] = "remote/",
	[META_SHARED] = "shared/",
	[META_IDEMPOTENCY] = "idempotency/",
	[META_VERIFY] = "verify/",
};
_Static_assert(ARRAY_SIZE(prefixes) == META_KIND_COUNT, "a kind lacks its prefix");

const char *meta_prefix(enum meta_kind kind)
{
	return prefixes[kind];
}

static bool make_key(enum meta_kind kind, const char *name, struct meta_key *out)
{
	size_t plen = strlen(prefixes[kind]), len = strlen(name);

	if (len > META_NAME_MAX)
		return false;
	memcpy(out->text, prefixes[kind], plen);
	memcpy(out->text + plen, name, len + 1);
	out->len = plen + len;
	return true;
}

struct meta_key meta_key(enum meta_kind kind, const char *name)
{
	struct meta_key k;
	bool fits = make_key(kind, name, &k);

	assert(fits);
	(void)fits;
	return k;
}

int meta_get(struct kv *kv, enum meta_kind kind, const char *name, struct kv_value *out)
{
	struct meta_key k;

	return make_key(kind, name, &k) ? kv_get(kv, KV_META, k.text, k.len, out) : -ENOENT;
}

int meta_has(struct kv *kv, enum meta_kind kind, const char *name)
{
	struct meta_key k;

	return make_key(kind, name, &k) ? kv_has(kv, KV_META, k.text, k.len) : 0;
}

int meta_batch_put(struct kv *kv, struct kv_batch *b, enum meta_kind kind, const char *name,
		   const void *value, size_t len)
{
	struct meta_key k;

	if (!make_key(kind, name, &k))
		return -ENAMETOOLONG;
	kv_batch_put(kv, b, KV_META, k.text, k.len, value, len);
	return 0;
}

int meta_batch_del(struct kv *kv, struct kv_batch *b, enum meta_kind kind, const char *name)
{
	struct meta_key k;

	if (!make_key(kind, name, &k))
		return -ENAMETOOLONG;
	kv_batch_del(kv, b, KV_META, k.text, k.len);
	return 0;
}

int meta_put(struct kv *kv, enum meta_kind kind, const char *name, const void *value, size_t len,
	     enum kv_durability d)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	int rc = b ? meta_batch_put(kv, b, kind, name, value, len) : -ENOMEM;

	return rc < 0 ? rc : kv_write(kv, b, d);
}

int meta_del(struct kv *kv, enum meta_kind kind, const char *name, enum kv_durability d)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	int rc = b ? meta_batch_del(kv, b, kind, name) : -ENOMEM;

	return rc < 0 ? rc : kv_write(kv, b, d);
}

int meta_each(struct kv *kv, enum meta_kind kind, const char *start, meta_fn fn, void *arg)
{
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new(kv, KV_META);
	struct meta_key k;
	size_t plen = strlen(prefixes[kind]);
	int rc = it ? 0 : -ENOMEM;

	if (rc < 0 || !make_key(kind, start, &k))
		return rc;
	for (kv_iter_seek(it, k.text, k.len); kv_iter_valid(it) && rc == 0; kv_iter_next(it)) {
		size_t klen, vlen;
		const uint8_t *key = kv_iter_key(it, &klen), *value = kv_iter_value(it, &vlen);
		char *name;

		if (klen < k.len || memcmp(key, k.text, k.len) != 0)
			break;
		name = strndup((const char *)key + plen, klen - plen);
		rc = name ? fn(arg, name, value, vlen) : -ENOMEM;
		free(name);
	}
	return rc ? rc : kv_iter_status(it);
}
