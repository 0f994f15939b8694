#include <stdlib.h>
#include <string.h>

#include "store/bucket/object_fault_internal.h"

void fault_old_init(struct fault_old *o)
{
	pthread_mutex_init(&o->lock, NULL);
}

static void slot_clear(struct fault_old_slot *s)
{
	free(s->key);
	buf_fini(&s->now);
	buf_fini(&s->before);
	*s = (struct fault_old_slot){ 0 };
}

void fault_old_fini(struct fault_old *o)
{
	for (size_t i = 0; i < FAULT_OLD_KEYS; i++)
		slot_clear(&o->slots[i]);
	pthread_mutex_destroy(&o->lock);
}

/* FNV-1a */
static struct fault_old_slot *slot_of(struct fault_old *o, const char *key)
{
	uint32_t h = 2166136261u;

	for (; *key; key++)
		h = (h ^ (uint8_t)*key) * 16777619u;
	return &o->slots[h % FAULT_OLD_KEYS];
}

void fault_old_note(struct fault_old *o, const char *key, const void *body, size_t len)
{
	if (len > FAULT_OLD_BYTES)
		return;
	pthread_mutex_lock(&o->lock);
	struct fault_old_slot *s = slot_of(o, key);
	if (!s->key || strcmp(s->key, key) != 0) {
		slot_clear(s);
		s->key = strdup(key);
	}
	if (!s->now.data || s->now.len != len || memcmp(s->now.data, body, len) != 0) {
		buf_fini(&s->before);
		s->before = s->now;
		s->now = (struct buf)BUF_INIT;
		/* Room for one more, so that an empty body has data, too. */
		if (!s->key || buf_reserve(&s->now, len + 1) < 0 ||
		    buf_append(&s->now, body, len) < 0)
			slot_clear(s);
	}
	pthread_mutex_unlock(&o->lock);
}

bool fault_old_get(struct fault_old *o, const char *key, struct buf *out)
{
	bool found;

	pthread_mutex_lock(&o->lock);
	const struct fault_old_slot *s = slot_of(o, key);
	found = s->key && strcmp(s->key, key) == 0 && s->before.data;
	if (found) {
		buf_clear(out);
		found = buf_append(out, s->before.data, s->before.len) == 0;
	}
	pthread_mutex_unlock(&o->lock);
	return found;
}
