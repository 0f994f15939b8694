/*
 * A copy of the database, of one moment, by hard links. RocksDB lists the files of tables first and
 * sizes its logs later. Content is in no log, so a record of it that was written in between would
 * be in the copy alone: whoever makes content permanent before he writes its record waits.
 */
#include <stdint.h>

#include "store/kv/kv_internal.h"

int kv_copy(struct kv *kv, const char *dir)
{
	struct kv_db *db = kv_current(kv);
	char *text = NULL;
	rocksdb_checkpoint_t *c = rocksdb_checkpoint_object_create(db->db, &text);

	if (text)
		return kv_failure(kv, "copy", text);
	/* Without a flush: the log is copied instead. I/O under the lock, as in a flush. */
	pthread_mutex_lock(&kv->flush_lock);
	rocksdb_checkpoint_create(c, dir, UINT64_MAX, &text);
	pthread_mutex_unlock(&kv->flush_lock);
	rocksdb_checkpoint_object_destroy(c);
	return text ? kv_failure(kv, "copy", text) : 0;
}
