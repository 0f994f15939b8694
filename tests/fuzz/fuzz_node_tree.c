/*
 * Trees of hostile nodes: the input is a list of nodes whose children are any
 * nodes of the list, stored under names that are not their hashes. Whatever
 * their levels, ranges and cycles, walks end; and a tree that can be scanned
 * keeps every promise: each key is found, a batch applies, a diff is the batch.
 *
 * A node is u8 (level: 3 bits, entries: 5 bits), an entry is u8 (key length: 3
 * bits), the key, and u8: which child, or how long the value is.
 */
#include "store/chunk/codec.h"
#include "store/tree/tree.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "store/base/wire.h"

#define NODES_MAX 32

static struct digest name_of(uint64_t run, uint64_t node)
{
	struct digest d = { { 0 } };
	wire_set64(d.b, (run + 1) * UINT64_C(0x9e3779b97f4a7c15));
	wire_set64(d.b + 8, node);
	return d;
}

static void encode(struct wire_reader *r, uint64_t run, struct buf *frame)
{
	static const uint8_t zeros[256];
	CLEANUP(buf_fini_p) struct buf raw = BUF_INIT;
	const uint8_t *last = NULL;
	size_t last_len = 0;
	struct node_builder nb;
	uint8_t head = wire_u8(r);
	node_builder_init(&nb, head >> 5);
	for (unsigned i = 0; i < (head & 31u); i++) {
		size_t klen = wire_u8(r) & 7;
		const uint8_t *key = wire_bytes(r, klen);
		uint8_t x = wire_u8(r);
		if (!wire_ok(r) || (i && node_key_cmp(key, klen, last, last_len) <= 0))
			break;
		struct digest child = name_of(run, x % NODES_MAX);
		MUST(node_builder_add(&nb, key, klen, nb.level ? child.b : zeros,
				      nb.level ? DIGEST_SIZE : x) == 0);
		last = key;
		last_len = klen;
	}
	if (nb.count == 0)
		nb.level = 0;
	MUST(node_builder_finish(&nb, &raw) == 0);
	MUST(codec_encode(1, raw.data, raw.len, frame) == 0);
	node_builder_fini(&nb);
}

/* Returns how many nodes there are; the last is the root. */
static uint64_t plant(struct store *s, struct wire_reader *r, uint64_t run)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	uint64_t n = 0;
	for (; n < NODES_MAX && wire_left(r) > 0; n++) {
		CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
		struct digest d = name_of(run, n);
		encode(r, run, &frame);
		kv_batch_put(s->kv, b, KV_NODE, d.b, DIGEST_SIZE, frame.data, frame.len);
	}
	MUST(kv_write(s->kv, b, KV_NO_LOG) == 0);
	return n;
}

static void uproot(struct store *s, uint64_t run, uint64_t n)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	while (n-- > 0) {
		struct digest d = name_of(run, n);
		kv_batch_del(s->kv, b, KV_NODE, d.b, DIGEST_SIZE);
	}
	MUST(kv_write(s->kv, b, KV_NO_LOG) == 0);
}

/* The number of entries, or the failure; in order, and each is found. */
static int scan(struct store *s, const struct digest *root, size_t limit)
{
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(s->nodes, root);
	uint8_t last[8];
	size_t last_len = 0;
	int r, n = 0;
	while ((r = tree_iter_next(it)) == 1) {
		size_t klen, vlen;
		const uint8_t *key = tree_iter_key(it, &klen);
		(void)tree_iter_value(it, &vlen);
		MUST(n == 0 || node_key_cmp(last, last_len, key, klen) < 0);
		memcpy(last, key, klen);
		last_len = klen;
		struct tree_value v = { 0 };
		MUST(tree_get(s->nodes, root, key, klen, &v) == 0 && v.len == vlen);
		tree_value_release(&v);
		MUST((size_t)++n <= limit);
	}
	return r < 0 ? r : n;
}

static int visit(void *arg, const struct node *n)
{
	size_t *left = arg;
	MUST(n->view.len && (*left)-- > 0);
	return 1;
}

static int count_change(void *arg, const struct tree_span *key, const struct tree_span *a,
			const struct tree_span *b)
{
	size_t *left = arg;
	MUST(key->len <= 8 && (a || b) && (*left)-- > 0);
	return 0;
}

static int put_change(void *arg, const struct tree_span *key, const struct tree_span *a,
		      const struct tree_span *b)
{
	(void)a;
	return b ? tree_batch_put(arg, key->data, key->len, b->data, b->len)
		 : tree_batch_del(arg, key->data, key->len);
}

/* Changes from the end of the input. */
static void take_changes(struct tree_batch *b, const uint8_t *data, size_t size)
{
	for (size_t i = 0; i + 2 <= size && i < 20; i += 2) {
		size_t klen = MIN((size_t)data[i] & 3, size - i - 1);
		if (data[i] & 0x80)
			MUST(tree_batch_del(b, data + i + 1, klen) == 0);
		else
			MUST(tree_batch_put(b, data + i + 1, klen, data, data[i] % 3) == 0);
	}
}

static void apply(struct store *s, const struct digest *root, const uint8_t *data, size_t size,
		  int entries)
{
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	struct digest changed, again;
	size_t changes = 40, limit = size + 40;
	take_changes(b, data, size);
	int r = tree_apply(s->nodes, root, b, &changed, NULL);
	if (entries < 0) { /* may go well where it does not meet what is bad */
		if (r == 0)
			(void)!scan(s, &changed, limit);
		return;
	}
	MUST(r == 0);
	MUST(scan(s, &changed, limit) >= 0);
	MUST(tree_diff(s->nodes, root, &changed, count_change, &changes) == 0);
	tree_batch_clear(b);
	MUST(tree_diff(s->nodes, root, &changed, put_change, b) == 0);
	MUST(tree_apply(s->nodes, root, b, &again, NULL) == 0);
	changes = 0;
	MUST(tree_diff(s->nodes, &changed, &again, count_change, &changes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint64_t run;
	struct store *s = fuzz_store();
	struct wire_reader r;
	struct digest empty;
	wire_reader_init(&r, data, size);
	uint64_t n = plant(s, &r, ++run);
	if (n == 0)
		return 0;
	MUST(tree_empty(s->nodes, &empty) == 0);
	for (uint64_t i = n; i-- > 0;) {
		struct digest root = name_of(run, i);
		struct digest first = name_of(run, 0);
		size_t limit = size + 1, visits = NODES_MAX;
		int entries = scan(s, &root, limit);
		int visited = tree_visit(s->nodes, &root, visit, &visits);
		MUST((visited < 0) == (entries < 0));
		int r1 = tree_diff(s->nodes, &root, &empty, count_change, &limit);
		MUST((r1 < 0) == (entries < 0));
		limit = 2 * size + 2;
		(void)!tree_diff(s->nodes, &first, &root, count_change, &limit);
		CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(s->nodes, &root);
		(void)!tree_iter_seek_last(it);
		(void)!tree_iter_seek_le(it, data, MIN(size, (size_t)4));
		(void)!tree_iter_seek(it, data + size / 2, MIN(size - size / 2, (size_t)4));
		apply(s, &root, data + size / 2, size - size / 2, entries);
	}
	uproot(s, run, n);
	return 0;
}
