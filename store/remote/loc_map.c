#include "store/remote/loc_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES 16

struct loc_slot {
	uint8_t key[KEY_BYTES];
	uint32_t pack; /* index + 1; 0: the slot is free */
	uint32_t offset, len;
	uint32_t zero;
};

void loc_map_fini(struct loc_map *m)
{
	free(m->slots);
	free(m->packs);
	*m = (struct loc_map){ 0 };
}

/* The digest's slot, or the free one where it belongs. */
static struct loc_slot *find(const struct loc_map *m, const uint8_t key[KEY_BYTES])
{
	uint64_t at;

	memcpy(&at, key, sizeof(at));
	for (;; at++) {
		struct loc_slot *s = &m->slots[at & (m->cap - 1)];
		if (!s->pack || memcmp(s->key, key, KEY_BYTES) == 0)
			return s;
	}
}

static int grow(struct loc_map *m)
{
	struct loc_map bigger = { .cap = m->cap ? 2 * m->cap : 1024 };

	bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->cap; i++)
		if (m->slots[i].pack)
			*find(&bigger, m->slots[i].key) = m->slots[i];
	free(m->slots);
	m->slots = bigger.slots;
	m->cap = bigger.cap;
	return 0;
}

/* Its index. Neighbours mostly lie in one pack, so that one is looked at first. */
static int pack_index(struct loc_map *m, const struct pack_id *pack, uint32_t *out)
{
	struct pack_id *grown;

	if (m->n_packs && pack_id_cmp(&m->packs[m->last_pack], pack) == 0) {
		*out = (uint32_t)m->last_pack;
		return 0;
	}
	for (m->last_pack = 0; m->last_pack < m->n_packs; m->last_pack++)
		if (pack_id_cmp(&m->packs[m->last_pack], pack) == 0)
			break;
	if (m->last_pack == m->n_packs) {
		if (m->n_packs == m->packs_cap) {
			size_t cap = m->packs_cap ? 2 * m->packs_cap : 16;
			grown = realloc(m->packs, cap * sizeof(*grown));
			if (!grown) {
				m->last_pack = 0;
				return -ENOMEM;
			}
			m->packs = grown;
			m->packs_cap = cap;
		}
		m->packs[m->n_packs++] = *pack;
	}
	*out = (uint32_t)m->last_pack;
	return 0;
}

int loc_map_add(struct loc_map *m, const struct digest *d, const struct share_loc *p)
{
	struct loc_slot *s;
	uint32_t pack;
	int rc = m->count + m->count / 2 < m->cap ? 0 : grow(m);

	if (rc < 0)
		return rc;
	s = find(m, d->b);
	if (s->pack)
		return 0;
	rc = pack_index(m, &p->pack, &pack);
	if (rc < 0)
		return rc;
	memcpy(s->key, d->b, KEY_BYTES);
	s->pack = pack + 1;
	s->offset = p->offset;
	s->len = p->len;
	m->count++;
	return 0;
}

bool loc_map_get(const struct loc_map *m, const struct digest *d, struct share_loc *out)
{
	const struct loc_slot *s = m->cap ? find(m, d->b) : NULL;

	if (!s || !s->pack)
		return false;
	*out = (struct share_loc){ m->packs[s->pack - 1], s->offset, s->len };
	return true;
}
