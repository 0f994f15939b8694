/* A copy of the database, of one moment, by hard links. */
#include <stdint.h>

#include "store/kv/kv_internal.h"

int kv_copy(struct kv *kv, const char *dir)
{
	struct kv_db *db = kv_current(kv);
	char *text = NULL;
	rocksdb_checkpoint_t *c = rocksdb_checkpoint_object_create(db->db, &text);

	if (text)
		return kv_failure(kv, "copy", text);
	/* Without a flush: the log is copied instead. */
	rocksdb_checkpoint_create(c, dir, UINT64_MAX, &text);
	rocksdb_checkpoint_object_destroy(c);
	return text ? kv_failure(kv, "copy", text) : 0;
}
