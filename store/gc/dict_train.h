/* dict_train.h - a new dictionary (dict.h), of what a store's chunks have in common. */
#ifndef VARVE_DICT_TRAIN_H
#define VARVE_DICT_TRAIN_H

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/chunk/codec.h"
#include "store/store.h"

/* Calls fn(fn_arg) on a thread that may work for long, and returns after it. */
typedef void (*dict_run_fn)(void *arg, void (*fn)(void *fn_arg), void *fn_arg);

/*
 * The newest one, for a level; a new one where it is time for that, which makes
 * the store one of format 2. NULL: chunks are too few, or have nothing in common.
 * One at a time. Training takes some seconds and 32 MiB; run(run_arg) does it.
 */
MUST_CHECK int dict_newest(struct store *s, int level, dict_run_fn run, void *run_arg,
			   struct codec_dict **out, struct error *err);

#endif
