/* dict_train.h - trains a dictionary (dict.h) on what a store's chunks have in common. */
#ifndef VARVE_DICT_TRAIN_H
#define VARVE_DICT_TRAIN_H

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/chunk/codec.h"
#include "store/store.h"

/* Calls fn(fn_arg) on a thread that may work for long, and returns when it has returned. */
typedef void (*dict_run_fn)(void *arg, void (*fn)(void *fn_arg), void *fn_arg);

/*
 * Load the newest dictionary, for a level. When it is time for a new one, train
 * it, which raises the store to format 2. *out is NULL if chunks are too few or
 * have nothing in common. One call at a time. Training takes some seconds and 32
 * MiB, and happens inside run(run_arg, ...).
 */
MUST_CHECK int dict_newest(struct store *s, int level, dict_run_fn run, void *run_arg,
			   struct codec_dict **out, struct error *err);

#endif
