/* Tree nodes: a node that passes the check can be read whole and encodes to the same bytes. */
#include "store/tree/node.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static void read_back(const struct node_view *n, struct node_builder *nb)
{
	const uint8_t *key, *val, *last = NULL;
	size_t klen, vlen, last_len = 0;
	bool equal;

	for (uint32_t i = 0; i < n->count; i++) {
		node_entry(n, i, &key, &klen, &val, &vlen);
		MUST(!last || node_key_cmp(last, last_len, key, klen) < 0);
		MUST(node_lower_bound(n, key, klen, &equal) == i && equal);
		MUST(node_builder_add(nb, key, klen, val, vlen) == 0);
		last = key;
		last_len = klen;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(buf_fini_p) struct buf again = BUF_INIT;
	struct node_builder nb;
	struct node_view n;
	bool equal;

	if (node_check(data, size, &n) != 0)
		return 0;
	MUST(node_lower_bound(&n, data, size < NODE_KEY_MAX ? size : NODE_KEY_MAX, &equal) <=
	     n.count);
	node_builder_init(&nb, n.level);
	read_back(&n, &nb);
	MUST(node_builder_finish(&nb, &again) == 0);
	MUST(again.len == size && memcmp(again.data, data, size) == 0);
	node_builder_fini(&nb);
	return 0;
}
