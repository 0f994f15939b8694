/* build_state.h - the states of a build and which may follow which (pure). */
#ifndef VARVE_SNAPSHOTD_BUILD_STATE_H
#define VARVE_SNAPSHOTD_BUILD_STATE_H

#include <stdbool.h>

#include "store/base/macros.h"

/*
 * queued -> preparing -> step -> checkpointing -> step ... -> ready. Whatever
 * has not ended can fail or be cancelled; a build whose steps are all cached
 * goes from preparing to ready.
 */
enum build_state {
	BUILD_QUEUED,
	BUILD_PREPARING, /* mounting its base, starting its container */
	BUILD_STEP,	 /* running a step */
	BUILD_CHECKPOINTING,
	BUILD_READY,
	BUILD_FAILED,
	BUILD_CANCELLED,
	BUILD_STATE_COUNT
};

/* As the API has it: "queued", "preparing", ... */
const char *build_state_name(enum build_state s);
/* -EINVAL. */
MUST_CHECK int build_state_parse(const char *name, enum build_state *out);
bool build_state_is_final(enum build_state s);
bool build_state_may_follow(enum build_state from, enum build_state to);
/* What a build is found to be once the daemon that ran it is gone. */
enum build_state build_state_after_crash(enum build_state s);

#endif
