/* The database as a source: near, and the only one that is written. */
#include <errno.h>
#include <stdlib.h>

#include "store/chunk/source.h"
#include "store/kv/kv.h"

struct source_kv {
	struct source source;
	struct kv *kv; /* borrowed */
};

static enum kv_family family(enum source_kind kind)
{
	return kind == SOURCE_CHUNK ? KV_CHUNK : KV_NODE;
}

static struct kv *kv_of(struct source *src)
{
	return CONTAINER_OF(src, struct source_kv, source)->kv;
}

static void release(void *pin)
{
	struct kv_value v = { .pin = pin };

	kv_value_release(&v);
}

static void get_many(struct source *src, enum source_kind kind, struct source_item *items, size_t n)
{
	for (struct source_item *it = items; it < items + n; it++) {
		struct kv_value v = { 0 };
		int r = kv_get(kv_of(src), family(kind), it->digest.b, DIGEST_SIZE, &v);

		it->result = r == -ENOENT ? -ENODATA : r;
		if (r == 0)
			it->frame = (struct source_frame){
				.data = v.data, .len = v.len, .pin = v.pin, .release = release
			};
	}
}

static void has_many(struct source *src, enum source_kind kind, struct source_item *items, size_t n)
{
	for (struct source_item *it = items; it < items + n; it++)
		it->result = kv_has(kv_of(src), family(kind), it->digest.b, DIGEST_SIZE);
}

static int put_many(struct source *src, enum source_kind kind, const struct source_item *items,
		    size_t n)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();

	if (!b)
		return -ENOMEM;
	for (const struct source_item *it = items; it < items + n; it++)
		kv_batch_put(kv_of(src), b, family(kind), it->digest.b, DIGEST_SIZE, it->frame.data,
			     it->frame.len);
	return kv_write(kv_of(src), b, KV_NO_LOG);
}

static void free_source(struct source *src)
{
	free(CONTAINER_OF(src, struct source_kv, source));
}

struct source *source_kv_new(struct kv *kv)
{
	static const struct source_ops ops = { .get_many = get_many,
					       .has_many = has_many,
					       .put_many = put_many,
					       .free = free_source };
	struct source_kv *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->source.ops = &ops;
	s->kv = kv;
	return &s->source;
}
