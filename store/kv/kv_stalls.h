/* kv_stalls.h - whether the database keeps up with what is written to it. Any thread. */
#ifndef VARVE_KV_STALLS_H
#define VARVE_KV_STALLS_H

#include <stdbool.h>
#include <stdint.h>

struct kv;
struct kv_stalls {
	bool stopped;		/* writes wait until it has caught up */
	uint64_t rate_bytes;	/* a second, that writes are slowed down to; 0: they are not */
	uint64_t pending_bytes; /* estimated: that compactions are behind with */
	uint64_t errors;	/* of its background work, since the start */
};
/* Of all families: the worst. */
void kv_get_stalls(struct kv *kv, struct kv_stalls *out);

#endif
