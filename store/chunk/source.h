/*
 * source.h - where chunks and tree nodes come from: a table of functions.
 *
 * A source gives frames (codec.h) by digest. The first source of every store is its
 * database (source_kv.c), which is near: it answers as fast as the disk does. A store may
 * have a second one (chunk_store_set_far, node_store_set_far), which is far: an answer may
 * take seconds, fail, or be wrong.
 *
 * Owns: a source owns its connections and what it lends in a frame. It keeps no cache;
 * chunk_store and node_store do, and they alone store what a far source gave. They decode and
 * verify it, too: so a source need not be trusted, bytes that do not hash to their digest are
 * -EBADMSG, reach no reader and are kept nowhere. A source that had to do so itself, to ask
 * elsewhere for what is damaged, lends the chunk with the frame, and it is not done twice.
 *
 * Errors, for each item: -ENODATA, the source does not have it; -EIO and others, it cannot say.
 * A failure is of that call alone: the next one asks again. Calls end by themselves, within a
 * time limit of the source's own, and are cut short by `stop`.
 *
 * Threads: any number may call at once. A far source is asked by a thread that may wait,
 * which holds no lock of a mount or a pool: want.h says how that is made sure of. A source whose
 * answers come to a thread of its own begins all items of a call, and waits until each has come,
 * failed or run out of time. What an answer that is late belongs to outlives the call.
 */
#ifndef VARVE_SOURCE_H
#define VARVE_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/chunk/chunk.h"

enum source_kind { SOURCE_CHUNK, SOURCE_NODE };

/* Bytes that a source lends. A zeroed one is empty. */
struct source_frame {
	const uint8_t *data;
	size_t len;
	void *pin;		    /* the source's */
	void (*release)(void *pin); /* NULL: nothing to release */
	/* What it decodes to, compared with its digest, a reference; NULL: not done yet. */
	struct chunk *chunk;
};
static inline void source_frame_release(struct source_frame *f)
{
	if (f->release)
		f->release(f->pin);
	chunk_unref(f->chunk);
	*f = (struct source_frame){ 0 };
}

struct source_item {
	struct digest digest;
	int result; /* out: see the functions */
	struct source_frame
		frame; /* get_many: out, of the caller where result is 0; put_many: in */
};

/* At most this many items a call. */
#define SOURCE_ITEMS_MAX 64

struct source;
struct source_ops {
	/* Each result is 0 and the frame set, or a failure. */
	void (*get_many)(struct source *src, enum source_kind kind, struct source_item *items,
			 size_t n);
	/*
	 * What can be given at once, also to a thread that may not wait: 0, or a failure, after
	 * which get_many is to be asked. NULL: nothing ever is.
	 */
	int (*get_ready)(struct source *src, enum source_kind kind, const struct digest *d,
			 struct source_frame *out);
	/* Each result is 1 (it has the item), 0 or a failure. */
	void (*has_many)(struct source *src, enum source_kind kind, struct source_item *items,
			 size_t n);
	/*
	 * Store all of the items, or none. 0, -EROFS (the source only gives), -ENOSPC or another
	 * failure. What was put is readable at once; when it is permanent is the source's to say.
	 */
	int (*put_many)(struct source *src, enum source_kind kind, const struct source_item *items,
			size_t n);
	/*
	 * The process ends: calls under way and later ones return soon, what they have not got by
	 * then as -ECANCELED. Called while others are inside. NULL: none of its calls takes long.
	 */
	void (*stop)(struct source *src);
	/* Nobody is inside any more. */
	void (*free)(struct source *src);
	/*
	 * Where the item should be, for a person who could not have it: of `size` bytes, "" if the
	 * source knows nothing of it. NULL: it never does.
	 */
	void (*where)(struct source *src, enum source_kind kind, const struct digest *d, char *out,
		      size_t size);
};

/* The first member of every source. */
struct source {
	const struct source_ops *ops;
};

/* One item. The frame is the caller's. */
MUST_CHECK static inline int source_get(struct source *src, enum source_kind kind,
					const struct digest *d, struct source_frame *out)
{
	struct source_item it = { .digest = *d };

	src->ops->get_many(src, kind, &it, 1);
	if (it.result == 0)
		*out = it.frame;
	return it.result;
}

/* 1, 0 or a failure. */
MUST_CHECK static inline int source_has(struct source *src, enum source_kind kind,
					const struct digest *d)
{
	struct source_item it = { .digest = *d };

	src->ops->has_many(src, kind, &it, 1);
	return it.result;
}

MUST_CHECK static inline int source_put(struct source *src, enum source_kind kind,
					const struct digest *d, const void *frame, size_t len)
{
	const struct source_item it = { .digest = *d, .frame = { .data = frame, .len = len } };

	return src->ops->put_many(src, kind, &it, 1);
}

/* NULL is accepted. */
static inline void source_free(struct source *src)
{
	if (src)
		src->ops->free(src);
}
DEFINE_CLEANUP(struct source *, source_free)

/*
 * The database as a source (borrowed). What is put is KV_NO_LOG: permanent after
 * kv_flush_content. NULL when out of memory.
 */
struct kv;
struct source *source_kv_new(struct kv *kv);

#endif
