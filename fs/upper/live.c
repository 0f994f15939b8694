#include "fs/upper/live.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define SHARDS 16u

struct slot {
	uint64_t ino; /* 0: free */
	uint64_t count;
};

struct shard {
	pthread_mutex_t lock;
	struct slot *slots; /* guarded by lock, as all below */
	size_t n_slots, used;
};

struct live {
	struct shard shards[SHARDS];
};

struct live *live_new(void)
{
	struct live *l = calloc(1, sizeof(*l));

	for (unsigned i = 0; l && i < SHARDS; i++)
		pthread_mutex_init(&l->shards[i].lock, NULL);
	return l;
}

void live_free(struct live *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < SHARDS; i++) {
		pthread_mutex_destroy(&l->shards[i].lock);
		free(l->shards[i].slots);
	}
	free(l);
}

static uint64_t mix(uint64_t ino)
{
	ino *= 0x9e3779b97f4a7c15ull;
	return ino ^ ino >> 32;
}

static struct shard *shard_of(struct live *l, uint64_t ino)
{
	return &l->shards[mix(ino) >> 60];
}

/* The slot of ino, or the free one where it belongs. The table must have a free slot. */
static struct slot *slot_of(struct shard *s, uint64_t ino)
{
	size_t i = mix(ino) & (s->n_slots - 1);

	while (s->slots[i].ino && s->slots[i].ino != ino)
		i = (i + 1) & (s->n_slots - 1);
	return &s->slots[i];
}

static int resize(struct shard *s, size_t n_slots)
{
	struct shard to = *s;

	to.n_slots = n_slots;
	to.slots = calloc(n_slots, sizeof(*to.slots));
	if (!to.slots)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_slots; i++)
		if (s->slots[i].ino)
			*slot_of(&to, s->slots[i].ino) = s->slots[i];
	free(s->slots);
	s->slots = to.slots;
	s->n_slots = n_slots;
	return 0;
}

int live_add(struct live *l, uint64_t ino, uint64_t n)
{
	struct shard *s = shard_of(l, ino);
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if ((s->used + 1) * 4 > s->n_slots * 3)
		r = resize(s, s->n_slots ? s->n_slots * 2 : 16);
	if (!r) {
		struct slot *slot = slot_of(s, ino);

		if (!slot->ino) {
			slot->ino = ino;
			s->used++;
		}
		slot->count += n;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* Free slot i and close the gap behind it (linear probing, Knuth 6.4 R). */
static void slot_clear(struct shard *s, size_t i)
{
	size_t mask = s->n_slots - 1, j = i;

	for (;;) {
		s->slots[i] = (struct slot){ 0, 0 };
		for (;;) {
			j = (j + 1) & mask;
			if (!s->slots[j].ino)
				return;
			size_t home = mix(s->slots[j].ino) & mask;

			if (((j - home) & mask) >= ((j - i) & mask))
				break;
		}
		s->slots[i] = s->slots[j];
		i = j;
	}
}

uint64_t live_sub(struct live *l, uint64_t ino, uint64_t n)
{
	struct shard *s = shard_of(l, ino);
	uint64_t left = 0;

	pthread_mutex_lock(&s->lock);
	struct slot *slot = s->n_slots ? slot_of(s, ino) : NULL;

	if (slot && slot->ino) {
		slot->count -= MIN(n, slot->count);
		left = slot->count;
		if (!left) {
			slot_clear(s, (size_t)(slot - s->slots));
			s->used--;
			if (s->n_slots > 64 && s->used * 8 < s->n_slots)
				(void)!resize(s, s->n_slots / 2);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return left;
}

void live_clear(struct live *l)
{
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *s = &l->shards[i];

		pthread_mutex_lock(&s->lock);
		free(s->slots);
		s->slots = NULL;
		s->n_slots = s->used = 0;
		pthread_mutex_unlock(&s->lock);
	}
}

uint64_t live_count(struct live *l, uint64_t ino)
{
	struct shard *s = shard_of(l, ino);

	pthread_mutex_lock(&s->lock);
	struct slot *slot = s->n_slots ? slot_of(s, ino) : NULL;
	uint64_t n = slot && slot->ino ? slot->count : 0;

	pthread_mutex_unlock(&s->lock);
	return n;
}
