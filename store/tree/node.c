#include "store/tree/node.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "store/base/wire.h"

#define NODE_MAGIC 0x31444e56u /* "VND1" */
#define LEAF_BOUNDARY_BITS 7
#define INNER_BOUNDARY_BITS 8

static size_t header_and_ends(uint32_t count)
{
	return NODE_HEADER_SIZE + (size_t)count * 4;
}

/* Where entry i ends, as an offset from the first entry. */
static uint32_t entry_end(const struct node_view *n, uint32_t i)
{
	return wire_get32(n->bytes + header_and_ends(i));
}

int node_key_cmp(const void *a, size_t alen, const void *b, size_t blen)
{
	size_t common = MIN(alen, blen);
	int c = common ? memcmp(a, b, common) : 0;
	if (c)
		return c;
	return (alen > blen) - (alen < blen);
}

static int check_header(const uint8_t *b, size_t len, struct node_view *out)
{
	if (len < NODE_HEADER_SIZE || len > NODE_ENCODED_MAX || wire_get32(b) != NODE_MAGIC)
		return -EBADMSG;
	uint8_t level = b[4];
	uint32_t count = wire_get32(b + 8);
	if (b[5] || b[6] || b[7] || level > NODE_LEVEL_MAX || (level > 0 && count == 0))
		return -EBADMSG;
	if (count > (len - NODE_HEADER_SIZE) / 6) /* each has an end and a key length */
		return -EBADMSG;
	if (len > NODE_MAX_BYTES && count != 1)
		return -EBADMSG;
	*out = (struct node_view){ .bytes = b, .len = len, .count = count, .level = level };
	return 0;
}

int node_check(const void *bytes, size_t len, struct node_view *out)
{
	struct node_view n;
	int r = check_header(bytes, len, &n);
	if (r < 0)
		return r;
	const uint8_t *entries = n.bytes + header_and_ends(n.count);
	size_t entries_len = len - header_and_ends(n.count);
	const uint8_t *prev = NULL;
	size_t prev_len = 0;
	size_t start = 0;
	for (uint32_t i = 0; i < n.count; i++) {
		size_t end = entry_end(&n, i);
		if (end > entries_len || end < start + 2)
			return -EBADMSG;
		size_t klen = wire_get16(entries + start);
		if (klen > NODE_KEY_MAX || klen > end - start - 2)
			return -EBADMSG;
		size_t vlen = end - start - 2 - klen;
		if (vlen > NODE_VALUE_MAX || (n.level > 0 && vlen != DIGEST_SIZE))
			return -EBADMSG;
		const uint8_t *key = entries + start + 2;
		if (i > 0 && node_key_cmp(prev, prev_len, key, klen) >= 0)
			return -EBADMSG;
		prev = key;
		prev_len = klen;
		start = end;
	}
	if (start != entries_len)
		return -EBADMSG;
	*out = n;
	return 0;
}

void node_entry(const struct node_view *n, uint32_t i, const uint8_t **key, size_t *klen,
		const uint8_t **val, size_t *vlen)
{
	assert(i < n->count);
	const uint8_t *entries = n->bytes + header_and_ends(n->count);
	const uint8_t *p = entries + (i ? entry_end(n, i - 1) : 0);
	const uint8_t *end = entries + entry_end(n, i);
	*klen = wire_get16(p);
	*key = p + 2;
	*val = p + 2 + *klen;
	*vlen = (size_t)(end - *val);
}

uint32_t node_lower_bound(const struct node_view *n, const void *key, size_t klen, bool *equal)
{
	const uint8_t *entries = n->bytes + header_and_ends(n->count);
	uint32_t lo = 0;
	uint32_t hi = n->count;
	*equal = false;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const uint8_t *p = entries + (mid ? entry_end(n, mid - 1) : 0);
		int c = node_key_cmp(p + 2, wire_get16(p), key, klen);
		if (c == 0) {
			*equal = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/*
 * A bijection of 64 bits in which every bit of the input reaches the top bits of
 * the output: an odd multiplier moves differences up, the shift brings the upper
 * half down for the second multiplier to spread again.
 */
static uint64_t mix(uint64_t x)
{
	x *= UINT64_C(0x9e3779b97f4a7c15); /* 2^64 * fraction of the golden ratio */
	x ^= x >> 32;
	x *= UINT64_C(0xa54ff53a5f1d36f1); /* 2^64 * fraction of sqrt(7) */
	x ^= x >> 29;
	return x;
}

/*
 * Eight bytes a step. It has to be even over keys that differ in few bits and
 * differently so on each level; it need not resist an adversary, because
 * NODE_MIN_ENTRIES and NODE_MAX_BYTES bound a tree of chosen keys.
 */
bool node_key_is_boundary(unsigned level, const void *key, size_t klen)
{
	const uint8_t *p = key;
	uint64_t h = mix(((uint64_t)klen + 1) << 8 | level);
	uint64_t word;
	for (; klen >= sizeof(word); p += sizeof(word), klen -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		h = mix(h ^ le64toh(word));
	}
	if (klen > 0) {
		word = 0;
		memcpy(&word, p, klen);
		h = mix(h ^ le64toh(word));
	}
	return h >> (64 - (level ? INNER_BOUNDARY_BITS : LEAF_BOUNDARY_BITS)) == 0;
}

void node_builder_init(struct node_builder *nb, unsigned level)
{
	assert(level <= NODE_LEVEL_MAX);
	*nb = (struct node_builder){ .level = (uint8_t)level };
}

void node_builder_fini(struct node_builder *nb)
{
	buf_fini(&nb->ends);
	buf_fini(&nb->entries);
}

bool node_builder_splits_before(const struct node_builder *nb, const void *key, size_t klen,
				size_t vlen)
{
	if (nb->count == 0)
		return false;
	if (header_and_ends(nb->count + 1) + nb->entries.len + 2 + klen + vlen > NODE_MAX_BYTES)
		return true;
	return nb->count >= NODE_MIN_ENTRIES && node_key_is_boundary(nb->level, key, klen);
}

int node_builder_add(struct node_builder *nb, const void *key, size_t klen, const void *val,
		     size_t vlen)
{
	assert(klen <= NODE_KEY_MAX && vlen <= NODE_VALUE_MAX);
	assert(nb->level == 0 || vlen == DIGEST_SIZE);
	int r = buf_reserve(&nb->entries, 2 + klen + vlen);
	if (r < 0)
		return r;
	r = buf_reserve(&nb->ends, 4);
	if (r < 0)
		return r;
	uint8_t *p = nb->entries.data + nb->entries.len;
	p[0] = (uint8_t)klen;
	p[1] = (uint8_t)(klen >> 8);
	if (klen > 0)
		memcpy(p + 2, key, klen);
	if (vlen > 0)
		memcpy(p + 2 + klen, val, vlen);
	nb->entries.len += 2 + klen + vlen;
	wire_set32(nb->ends.data + nb->ends.len, (uint32_t)nb->entries.len);
	nb->ends.len += 4;
	nb->count++;
	return 0;
}

int node_builder_finish(struct node_builder *nb, struct buf *out)
{
	assert(nb->count > 0 || nb->level == 0);
	int r = buf_reserve(out, header_and_ends(nb->count) + nb->entries.len);
	if (r < 0)
		return r;
	uint8_t *p = out->data + out->len;
	wire_set32(p, NODE_MAGIC);
	wire_set32(p + 4, nb->level); /* and three zero bytes */
	wire_set32(p + 8, nb->count);
	if (nb->count > 0) {
		memcpy(p + NODE_HEADER_SIZE, nb->ends.data, nb->ends.len);
		memcpy(p + NODE_HEADER_SIZE + nb->ends.len, nb->entries.data, nb->entries.len);
	}
	out->len += header_and_ends(nb->count) + nb->entries.len;
	buf_clear(&nb->ends);
	buf_clear(&nb->entries);
	nb->count = 0;
	return 0;
}
