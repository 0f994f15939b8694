/*
 * heritage.h - what a daemon leaves to its successor beside its parts' own: the store, locked all
 * the time, so that no other daemon takes it meanwhile, and the configuration that it has accepted,
 * so that a mistake in the file is no successor's. One that was to follow, and could not, leaves
 * why. The keeper (fs/host/keeper.h) has it, under names of HERITAGE_PREFIX.
 */
#ifndef VARVE_SNAPSHOTD_HERITAGE_H
#define VARVE_SNAPSHOTD_HERITAGE_H

#include <jansson.h>

#include "fs/host/keeper.h"
#include "snapshotd/config.h"
#include "store/store.h"

#define HERITAGE_PREFIX "daemon-"

/* All zeros: nothing. */
struct heritage {
	int lock_fd;	/* for store_open; 0: none */
	json_t *config; /* what the config file said; NULL: it is to be read */
	char *failure;	/* why the program that was to follow did not; NULL: it did */
};

/* What this process finds; the caller's. */
void heritage_take(struct keeper *k, struct heritage *out);
void heritage_fini(struct heritage *h);
/* config_load, with what the predecessor has accepted in place of the file, if this program can. */
MUST_CHECK int heritage_load_config(const struct heritage *h, struct config *c, int argc,
				    char *const *argv, const char *env_key, struct error *err);

/*
 * Once this process is ready, and a keeper would start no program from before the last upgrade: one
 * that does not know of this would not get the lock. file: of the configuration; NULL: none.
 */
void heritage_leave(struct keeper *k, const struct store *s, const json_t *file);
/* The configuration has changed. A service manager gets none: its next daemon reads the file. */
void heritage_leave_config(struct keeper *k, const json_t *file);
/* In an upgrade: this program does not come up. */
void heritage_leave_failure(struct keeper *k, const char *reason);
/* This process has ended what there was, and has no successor. */
void heritage_drop(struct keeper *k);

#endif
