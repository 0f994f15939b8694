/* Hashes: one thread walks the nodes, workers read and hash the chunks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"
#include "store/chunk/codec.h"
#include "store/gc/verify_internal.h"

#define JOB_CHUNKS 32

struct chunk_job {
	struct verify *v;
	bool is_unreferenced;
	unsigned count;
	struct {
		struct digest digest;
		uint32_t len; /* as the extent says, or 0 if there is none */
	} chunk[JOB_CHUNKS];
};

struct digest chunk_mark(const struct digest *d, uint32_t len)
{
	struct digest mark = *d;
	wire_set32(mark.b, wire_get32(mark.b) ^ len);
	return mark;
}

/* ---- chunks ---- */

static void note_chunk(struct chunk_job *job, unsigned i, int rc, uint32_t raw, uint32_t stored)
{
	struct verify *v = job->v;
	uint32_t len = job->chunk[i].len;
	char hex[DIGEST_HEX_SIZE];
	if (rc == 0 && len != 0 && raw != len)
		rc = -EBADMSG;
	/* Collected meanwhile; or it is in use and already known to be bad. */
	if (job->is_unreferenced &&
	    (rc == -ENODATA || (rc != 0 && digest_set_has(&v->bad_chunks, &job->chunk[i].digest))))
		return;
	if (rc == -ENODATA && v->s->far &&
	    source_has(v->s->far, SOURCE_CHUNK, &job->chunk[i].digest) == 1) {
		v->res.far_chunks++;
		return;
	}
	v->res.chunks++;
	if (rc == 0) {
		v->res.raw_bytes += job->is_unreferenced ? 0 : raw;
		v->res.stored_bytes += job->is_unreferenced ? 0 : stored;
	} else if (!verify_is_damage(rc)) {
		v->failure = rc;
	} else if (job->is_unreferenced) {
		digest_to_hex(&job->chunk[i].digest, hex);
		verify_report(v, "", NULL, "unused chunk %s %s", hex, verify_reason(rc));
	} else {
		struct digest mark = chunk_mark(&job->chunk[i].digest, len);
		(void)digest_set_add(&v->bad_chunks, &mark);
		(void)digest_set_add(&v->bad_chunks, &job->chunk[i].digest);
	}
}

static void check_chunks(void *arg)
{
	struct chunk_job *job = arg;
	struct verify *v = job->v;
	for (unsigned i = 0; i < job->count; i++) {
		uint32_t raw = 0, stored = 0;
		int rc = chunk_store_verify(v->s->chunks, &job->chunk[i].digest, &raw, &stored);
		pthread_mutex_lock(&v->lock);
		note_chunk(job, i, rc, raw, stored);
		pthread_mutex_unlock(&v->lock);
	}
	free(job);
}

static struct chunk_job *job_new(struct verify *v, bool is_unreferenced)
{
	struct chunk_job *job = malloc(sizeof(*job));
	if (job) {
		job->v = v;
		job->is_unreferenced = is_unreferenced;
		job->count = 0;
	}
	return job;
}

/* Add a chunk to *job, and hand that to the workers when it is full. */
static int add_chunk(struct verify *v, struct chunk_job **job, const struct digest *d, uint32_t len,
		     bool is_unreferenced)
{
	if (!*job)
		*job = job_new(v, is_unreferenced);
	if (!*job)
		return -ENOMEM;
	(*job)->chunk[(*job)->count].digest = *d;
	(*job)->chunk[(*job)->count].len = len;
	if (++(*job)->count == JOB_CHUNKS)
		pool_submit(v->pool, check_chunks, STEAL(*job));
	return 0;
}

static void submit_rest(struct verify *v, struct chunk_job **job)
{
	if (*job)
		pool_submit(v->pool, check_chunks, STEAL(*job));
}

/* ---- nodes ---- */

static int leaf_entry(struct verify *v, struct chunk_job **job, const uint8_t *key, size_t klen,
		      const uint8_t *val, size_t vlen)
{
	struct key_parts parts;
	struct extent_rec e;
	/* The check of the tree's structure reports what does not decode. */
	if (key_parse(key, klen, &parts) != 0 || parts.kind != KEY_EXTENT ||
	    extent_decode(val, vlen, &e) != 0 || e.kind != EXTENT_CHUNK)
		return 0;
	struct digest mark = chunk_mark(&e.digest, e.len);
	if (!digest_set_add(&v->chunks, &mark))
		return 0;
	return add_chunk(v, job, &e.digest, e.len, false);
}

static int check_node(struct verify *v, struct chunk_job **job, const struct digest *d, int level)
{
	CLEANUP(node_unref_p) struct node *n = NULL;
	uint32_t raw, stored;
	if (!digest_set_add(&v->nodes, d))
		return 0;
	int rc = node_store_verify(v->s->nodes, d, &raw, &stored);
	if (rc == 0)
		rc = node_store_peek(v->s->nodes, d, &n);
	if (rc == 0 && level >= 0 && n->view.level != level)
		rc = -EBADMSG;
	if (rc != 0 && !verify_is_damage(rc))
		return rc;
	v->res.nodes++;
	if (rc != 0) {
		(void)digest_set_add(&v->bad_nodes, d);
		return verify_step(v);
	}
	rc = verify_step(v);
	for (uint32_t i = 0; rc == 0 && i < n->view.count; i++) {
		const uint8_t *key, *val;
		size_t klen, vlen;
		struct digest child;
		node_entry(&n->view, i, &key, &klen, &val, &vlen);
		if (n->view.level == 0) {
			rc = leaf_entry(v, job, key, klen, val, vlen);
		} else if (vlen == DIGEST_SIZE) {
			memcpy(child.b, val, DIGEST_SIZE);
			rc = check_node(v, job, &child, n->view.level - 1);
		}
	}
	return rc;
}

int verify_content(struct verify *v, const struct digest *root)
{
	struct chunk_job *job = NULL;
	int rc = check_node(v, &job, root, -1);
	submit_rest(v, &job);
	return rc;
}

int verify_content_end(struct verify *v)
{
	pool_drain(v->pool);
	return v->failure;
}

/* ---- what no tree has led to ---- */

static int unreferenced_chunks(struct verify *v)
{
	struct chunk_job *job = NULL;
	int rc = 0;
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new_heads(v->s->kv, KV_CHUNK);
	if (!it)
		return -ENOMEM;
	for (kv_iter_seek(it, "", 0); rc == 0 && kv_iter_valid(it); kv_iter_next(it)) {
		size_t len, head_len;
		struct digest d;
		const uint8_t *key = kv_iter_key(it, &len);
		const uint8_t *head = kv_iter_value(it, &head_len);
		int64_t raw = codec_head_raw_len(head, head_len, kv_iter_value_len(it));
		if (len != DIGEST_SIZE)
			continue;
		memcpy(d.b, key, DIGEST_SIZE);
		struct digest mark = chunk_mark(&d, raw > 0 ? (uint32_t)raw : 0);
		if (raw <= 0 || !digest_set_has(&v->chunks, &mark))
			rc = add_chunk(v, &job, &d, 0, true);
		if (rc == 0)
			rc = verify_step(v);
	}
	submit_rest(v, &job);
	pool_drain(v->pool);
	return rc ? rc : kv_iter_status(it);
}

static int unreferenced_nodes(struct verify *v)
{
	int rc = 0;
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new_heads(v->s->kv, KV_NODE);
	if (!it)
		return -ENOMEM;
	for (kv_iter_seek(it, "", 0); rc == 0 && kv_iter_valid(it); kv_iter_next(it)) {
		char hex[DIGEST_HEX_SIZE];
		uint32_t raw, stored;
		struct digest d;
		size_t len;
		const uint8_t *key = kv_iter_key(it, &len);
		if (len != DIGEST_SIZE)
			continue;
		memcpy(d.b, key, DIGEST_SIZE);
		rc = verify_step(v);
		if (rc != 0 || digest_set_has(&v->nodes, &d))
			continue;
		int bad = node_store_verify(v->s->nodes, &d, &raw, &stored);
		if (bad == -ENODATA)
			continue; /* collected meanwhile */
		v->res.nodes++;
		digest_to_hex(&d, hex);
		if (verify_is_damage(bad))
			verify_report(v, "", NULL, "unused tree node %s %s", hex,
				      verify_reason(bad));
		else
			rc = bad;
	}
	return rc ? rc : kv_iter_status(it);
}

int verify_unreferenced(struct verify *v)
{
	verify_phase(v, "reading what is unused", 0);
	int rc = unreferenced_nodes(v);
	if (rc == 0)
		rc = unreferenced_chunks(v);
	return rc ? rc : v->failure;
}
