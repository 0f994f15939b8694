#include "store/remote/share_walk.h"

#include <errno.h>
#include <string.h>

#include "store/chunk/digest_set.h"
#include "store/tree/node.h"

struct walking {
	struct share_walk *w;
	struct digest_set named, met;
};

static int name_children(struct walking *k, const struct node_view *v)
{
	if (v->level == 0)
		return share_leaf_chunks(v, k->w->chunk, k->w->arg);
	for (uint32_t i = 0; i < v->count; i++) {
		const uint8_t *key, *val;
		size_t klen, vlen;
		struct digest d;

		node_entry(v, i, &key, &klen, &val, &vlen);
		if (vlen != DIGEST_SIZE)
			return -EBADMSG;
		memcpy(d.b, val, DIGEST_SIZE);
		digest_set_add(&k->named, &d);
	}
	return 0;
}

static int take_node(void *arg, const struct share_node *n)
{
	struct walking *k = arg;
	struct node_view v;
	int rc;

	if (!digest_set_has(&k->named, &n->digest) || !digest_set_add(&k->met, &n->digest))
		return 0;
	rc = node_check(n->bytes, n->len, &v);
	if (rc == 0)
		rc = name_children(k, &v);
	if (rc == 0 && (k->named.full || k->met.full))
		rc = -EFBIG;
	if (rc == 0 && k->w->node)
		rc = k->w->node(k->w->arg, n);
	return rc == 0 && progress_cancelled(k->w->p) ? -ECANCELED : rc;
}

int share_walk_run(struct share_walk *w, struct error *err)
{
	struct walking k = { .w = w };
	int rc;

	digest_set_init(&k.named, w->memory);
	digest_set_init(&k.met, w->memory);
	digest_set_add(&k.named, &w->root);
	rc = share_meta_each_node(w->meta, take_node, &k, err);
	w->nodes = k.met.count;
	w->lacks = k.named.count - k.met.count;
	digest_set_fini(&k.named);
	digest_set_fini(&k.met);
	return rc;
}
