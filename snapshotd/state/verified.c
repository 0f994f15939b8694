#include "snapshotd/state/verified.h"

#include <errno.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/wire.h"
#include "store/kv/meta.h"

#define NAME "last"
#define VERSION 1
#define SIZE (1 + 8 + 8)

static void show(struct metrics *m, uint64_t damaged, uint64_t ms)
{
	atomic_store(&m->verify_damaged, damaged);
	atomic_store(&m->verify_ms, ms);
}

void verified_note(struct kv *kv, struct metrics *m, uint64_t damaged)
{
	const uint64_t ms = (uint64_t)clock_ms();
	uint8_t value[SIZE] = { VERSION };

	show(m, damaged, ms);
	wire_set64(value + 1, damaged);
	wire_set64(value + 9, ms);
	int rc = meta_put(kv, META_VERIFY, NAME, value, sizeof(value), KV_LOG);

	if (rc)
		log_warn("the result of the verification is forgotten at the next start: %s",
			 strerror(-rc));
}

void verified_load(struct kv *kv, struct metrics *m)
{
	struct kv_value v;

	if (meta_get(kv, META_VERIFY, NAME, &v))
		return;
	if (v.len == SIZE && v.data[0] == VERSION)
		show(m, wire_get64(v.data + 1), wire_get64(v.data + 9));
	kv_value_release(&v);
}
