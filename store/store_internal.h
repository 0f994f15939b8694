/* store_internal.h - what is the store's own, for store*.c alone. */
#ifndef VARVE_STORE_INTERNAL_H
#define VARVE_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "store/store.h"

struct store_own {
	_Atomic int format;	     /* as FORMAT says; only store_need_format changes it */
	pthread_mutex_t format_lock; /* held while FORMAT is written */
	int lock_fd;		     /* of LOCK; -1: read only */
	char *scratch_dir;	     /* a reader's; else NULL */
	pthread_mutex_t hold_lock;
	LIST_HEAD(, store_hold) holds; /* guarded by hold_lock */
};

#endif
