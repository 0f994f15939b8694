#include "store/lazy/presence.h"

#include <errno.h>

#include "store/chunk/digest_set.h"
#include "store/tree/key.h"
#include "store/tree/record.h"
#include "store/tree/tree.h"

#define SEEN_MAX ((size_t)64 << 20) /* bytes of the set: 2 million chunks; more count twice */

struct walk {
	struct store *s;
	struct digest_set seen;
	struct presence *out;
};

static int add_extent(struct walk *w, const uint8_t *val, size_t len)
{
	struct extent_rec e;
	int rc = extent_decode(val, len, &e);

	if (rc < 0)
		return rc;
	if (e.kind == EXTENT_INLINE) {
		w->out->here_bytes += e.len;
		return 0;
	}
	if (!digest_set_add(&w->seen, &e.digest))
		return 0;
	rc = chunk_store_has(w->s->chunks, &e.digest);
	if (rc >= 0)
		*(rc ? &w->out->here_bytes : &w->out->far_bytes) += e.len;
	return MIN(rc, 0);
}

static int add_entry(struct walk *w, const struct tree_iter *it)
{
	size_t klen, vlen;
	const uint8_t *key = tree_iter_key(it, &klen), *val = tree_iter_value(it, &vlen);
	struct key_parts parts;
	int rc = key_parse(key, klen, &parts);

	return rc < 0 || parts.kind != KEY_EXTENT ? rc : add_extent(w, val, vlen);
}

static int walk(struct walk *w, const struct digest *root, struct progress *p)
{
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(w->s->nodes, root);
	int rc = it ? tree_iter_seek(it, "", 0) : -ENOMEM;

	while (rc == 1) {
		if (progress_cancelled(p))
			return -ECANCELED;
		rc = add_entry(w, it);
		if (rc == 0)
			rc = tree_iter_next(it);
	}
	return rc;
}

int presence_of(struct store *s, const struct digest *root, struct progress *p,
		struct presence *out, struct error *err)
{
	struct walk w = { .s = s, .out = out };
	int rc;

	*out = (struct presence){ 0 };
	digest_set_init(&w.seen, SEEN_MAX);
	chunk_store_flush_kept(s->chunks);
	rc = walk(&w, root, p);
	digest_set_fini(&w.seen);
	return rc < 0 ? error_set_errno(err, rc, "cannot tell how much of it is here") : 0;
}

int presence_tell(const struct presence *p, json_t *o)
{
	return json_object_set_new(o, "hereBytes", json_integer((json_int_t)p->here_bytes)) < 0 ||
			       json_object_set_new(o, "farBytes",
						   json_integer((json_int_t)p->far_bytes)) < 0
		       ? -ENOMEM
		       : 0;
}
