#include "fs/upper/journal_requests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"

#define REQUEST_SIZE 16u

void journal_requests_fini(struct journal_requests *l)
{
	free(l->r);
	*l = (struct journal_requests){ NULL, 0, 0 };
}

static struct journal_request *find(const struct journal_requests *l, uint64_t unique)
{
	/* The latest are at the end; a list has as many as there are threads, at most some more. */
	for (size_t i = l->n; i-- > 0;)
		if (l->r[i].unique == unique)
			return &l->r[i];
	return NULL;
}

const struct journal_request *journal_requests_find(const struct journal_requests *l,
						    uint64_t unique)
{
	return find(l, unique);
}

int journal_requests_add(struct journal_requests *l, uint64_t unique, uint64_t made_ino)
{
	struct journal_request *r = find(l, unique);

	if (r) { /* what it makes is in one of its records */
		r->made_ino = made_ino ? made_ino : r->made_ino;
		return 0;
	}
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 16;
		struct journal_request *p = realloc(l->r, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->r = p;
		l->cap = cap;
	}
	l->r[l->n++] = (struct journal_request){ unique, made_ino, false };
	return 0;
}

void journal_requests_set_logged(struct journal_requests *l, uint64_t unique)
{
	struct journal_request *r = find(l, unique);

	if (r)
		r->is_logged = true;
}

void journal_requests_remove(struct journal_requests *l, uint64_t unique)
{
	struct journal_request *r = find(l, unique);

	if (r)
		*r = l->r[--l->n];
}

int journal_requests_copy(const struct journal_requests *l, struct journal_requests *out)
{
	*out = (struct journal_requests){ NULL, 0, 0 };
	if (!l->n)
		return 0;
	out->r = malloc(l->n * sizeof(*out->r));
	if (!out->r)
		return -ENOMEM;
	out->cap = l->n;
	for (size_t i = 0; i < l->n; i++)
		if (l->r[i].is_logged)
			out->r[out->n++] = l->r[i];
	return 0;
}

/* ---- in the database ---- */

#define KEY_SIZE (JOURNAL_ID_SIZE + 4u + 1u)

static void make_key(const uint8_t *id, uint8_t out[KEY_SIZE])
{
	memcpy(out, id, JOURNAL_ID_SIZE);
	memset(out + JOURNAL_ID_SIZE, 0, 4);
	out[KEY_SIZE - 1] = 'R';
}

int journal_requests_put(struct kv *kv, struct kv_batch *b, const uint8_t id[JOURNAL_ID_SIZE],
			 const struct journal_requests *l)
{
	uint8_t key[KEY_SIZE], *value;

	make_key(id, key);
	if (!l->n) {
		kv_batch_del(kv, b, KV_UPPER, key, sizeof(key));
		return 0;
	}
	value = malloc(l->n * REQUEST_SIZE);
	if (!value)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++) {
		wire_set64(value + i * REQUEST_SIZE, l->r[i].unique);
		wire_set64(value + i * REQUEST_SIZE + 8, l->r[i].made_ino);
	}
	kv_batch_put(kv, b, KV_UPPER, key, sizeof(key), value, l->n * REQUEST_SIZE);
	free(value);
	return 0;
}

int journal_requests_get(struct kv *kv, const uint8_t id[JOURNAL_ID_SIZE],
			 struct journal_requests *l)
{
	uint8_t key[KEY_SIZE];
	struct kv_value v = { 0 };

	make_key(id, key);
	int r = kv_get(kv, KV_UPPER, key, sizeof(key), &v);

	if (r == -ENOENT)
		return 0;
	if (!r && v.len % REQUEST_SIZE)
		r = -EBADMSG;
	for (size_t at = 0; !r && at < v.len; at += REQUEST_SIZE) {
		r = journal_requests_add(l, wire_get64(v.data + at), wire_get64(v.data + at + 8));
		journal_requests_set_logged(l, wire_get64(v.data + at));
	}
	kv_value_release(&v);
	return r;
}
