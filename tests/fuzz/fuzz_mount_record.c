/* Mounts' records: any text is decoded or refused; what decodes is the same when it is read back.
 */
#include <string.h>

#include "fs/mount/mount_internal.h"
#include "store/kv/meta.h"
#include "tests/fuzz/fuzz.h"

/* The record as the database has it after a write of r. */
static void write_back(struct store *s, const struct mount_record *r, struct kv_value *out)
{
	MUST(mount_record_write(s, r, KV_LOG) == 0);
	MUST(meta_get(s->kv, META_MOUNT, r->id, out) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store *s = fuzz_store();
	struct mount_record r, again;
	struct kv_value text, text2;

	if (mount_record_decode(data, size, &r) != 0)
		return 0;
	write_back(s, &r, &text);
	MUST(mount_record_decode(text.data, text.len, &again) == 0);
	MUST(strcmp(r.mountpoint, again.mountpoint) == 0);
	MUST(r.attached == again.attached && r.epoch == again.epoch);
	MUST(digest_equal(&r.base, &again.base));
	write_back(s, &again, &text2);
	MUST(text.len == text2.len && memcmp(text.data, text2.data, text.len) == 0);
	kv_value_release(&text);
	kv_value_release(&text2);
	MUST(meta_del(s->kv, META_MOUNT, r.id, KV_LOG) == 0);
	mount_record_fini(&r);
	mount_record_fini(&again);
	return 0;
}
