/*
 * Three steps. Content: from every root down, each node and chunk is read and
 * hashed once, however many snapshots share it; what is bad is remembered.
 * Structure: each tree is scanned in key order, twice (verify_tree.c), and
 * files that have a bad chunk are named. Last, nodes and chunks that no tree
 * has led to: a bad chunk there matters, because a writer with the same data
 * would refer to it.
 *
 * The trees are held (store.h), so a collection meanwhile removes nothing of them.
 * Memory: sets of digests, 16 bytes each, and 32 bytes per inode of one tree.
 */
#include "store/gc/verify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/gc/store_root.h"
#include "store/gc/verify_internal.h"

/* Beyond 10 million digests each, some are looked at (and counted) again. */
#define SET_BYTES_MAX ((size_t)256 << 20)
#define WORKERS 2
#define QUEUE_CAP 8

/* ---- roots ---- */

/* A root and what keeps it from being collected. */
struct held_root {
	struct store_root root;
	struct store_hold hold;
};

struct held_roots {
	struct store *s;
	struct held_root *v;
	size_t count;
};

static void release_roots(struct held_roots *h)
{
	for (size_t i = 0; i < h->count; i++)
		store_release(h->s, &h->v[i].hold);
	free(h->v);
}

static bool is_listed(const struct buf *roots, const struct store_root *want)
{
	const struct store_root *r = (const struct store_root *)roots->data;
	for (size_t i = 0; i < roots->len / sizeof(*r); i++) {
		if (r[i].kind == want->kind && digest_equal(&r[i].root, &want->root) &&
		    strcmp(r[i].id, want->id) == 0)
			return true;
	}
	return false;
}

/*
 * List the roots, hold them, list them again: what is still on the second list
 * is safe. Only the one with only_id, if that is not "".
 */
static int hold_roots(struct held_roots *h, const char *only_id, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf before = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf after = BUF_INIT;
	int rc = store_roots(h->s, &before, err);
	if (rc != 0)
		return rc;
	const struct store_root *r = (const struct store_root *)before.data;
	size_t n = before.len / sizeof(*r);
	h->v = calloc(n ? n : 1, sizeof(*h->v));
	if (!h->v)
		return error_set_errno(err, -ENOMEM, "cannot verify");
	for (size_t i = 0; i < n; i++) {
		if (r[i].kind == ROOT_HOLD || (only_id[0] && strcmp(r[i].id, only_id) != 0))
			continue;
		struct held_root *held = &h->v[h->count++];
		held->root = r[i];
		store_hold(h->s, &r[i].root, &held->hold);
	}
	rc = store_roots(h->s, &after, err);
	for (size_t i = 0; rc == 0 && i < h->count; i++) {
		if (!is_listed(&after, &h->v[i].root))
			h->v[i].root.label[0] = '\0'; /* deleted meanwhile */
	}
	return rc;
}

/* ---- steps ---- */

static int check_content(struct verify *v, const struct held_roots *h, struct error *err)
{
	int rc = 0;
	struct kv_stats st;
	kv_stats(v->s->kv, &st);
	verify_phase(v, "reading", st.keys[KV_NODE] + st.keys[KV_CHUNK]);
	for (size_t i = 0; rc == 0 && i < h->count; i++) {
		if (h->v[i].root.label[0])
			rc = verify_content(v, &h->v[i].root.root);
	}
	int ended = verify_content_end(v);
	rc = rc ? rc : ended;
	return rc ? error_set_errno(err, rc, "cannot verify the store's content") : 0;
}

static int check_structure(struct verify *v, const struct held_roots *h, struct error *err)
{
	struct digest_set clean;
	int rc = 0;
	digest_set_init(&clean, SET_BYTES_MAX);
	verify_phase(v, "checking", 0);
	for (size_t i = 0; rc == 0 && i < h->count; i++) {
		const struct store_root *r = &h->v[i].root;
		uint64_t problems = 0;
		if (!r->label[0])
			continue;
		v->res.snapshots += r->kind == ROOT_SNAPSHOT;
		if (digest_set_has(&clean, &r->root))
			continue;
		rc = verify_tree(v, &r->root, r->label, &problems);
		if (rc == 0 && problems == 0)
			v->res.trees += digest_set_add(&clean, &r->root);
		else
			v->res.trees++;
		if (rc != 0)
			error_set_errno(err, rc, "cannot verify %s", r->label);
	}
	digest_set_fini(&clean);
	return rc;
}

static int verify_all(struct verify *v, const char *only_id, struct error *err)
{
	CLEANUP(release_roots) struct held_roots h = { .s = v->s };
	int rc = hold_roots(&h, only_id, err);
	if (rc == 0)
		rc = check_content(v, &h, err);
	if (rc == 0)
		rc = check_structure(v, &h, err);
	if (rc != 0 || only_id[0])
		return rc;
	rc = verify_unreferenced(v);
	return rc ? error_set_errno(err, rc, "cannot verify unused chunks") : 0;
}

int verify_run(struct store *s, const char *name_or_id, struct progress *p, verify_report_fn fn,
	       void *arg, struct verify_result *out, struct error *err)
{
	struct verify v = { .s = s, .p = p, .fn = fn, .arg = arg };
	char id[SNAPSHOT_ID_SIZE] = "";
	if (name_or_id) {
		struct snapshot snap;
		int rc = snapshots_get(s->snapshots, name_or_id, &snap, err);
		if (rc != 0)
			return rc;
		memcpy(id, snap.id, sizeof(id));
		snapshot_fini(&snap);
	}
	v.pool = pool_new(WORKERS, QUEUE_CAP);
	if (!v.pool)
		return error_set_errno(err, -ENOMEM, "cannot verify");
	pthread_mutex_init(&v.lock, NULL);
	digest_set_init(&v.nodes, SET_BYTES_MAX);
	digest_set_init(&v.chunks, SET_BYTES_MAX);
	digest_set_init(&v.bad_nodes, SIZE_MAX);
	digest_set_init(&v.bad_chunks, SIZE_MAX);
	chunk_store_flush_kept(s->chunks); /* what it tells of chunks that are far */
	int rc = verify_all(&v, id, err);
	pool_free(v.pool);
	digest_set_fini(&v.nodes);
	digest_set_fini(&v.chunks);
	digest_set_fini(&v.bad_nodes);
	digest_set_fini(&v.bad_chunks);
	pthread_mutex_destroy(&v.lock);
	if (rc == 0)
		*out = v.res;
	return rc;
}
