#include "snapshotd/build/build_state.h"

#include <errno.h>
#include <string.h>

#define TO(s) (1u << (s))
#define TO_BAD_END (TO(BUILD_FAILED) | TO(BUILD_CANCELLED))

static const struct {
	const char *name;
	unsigned next; /* the states that may follow */
} states[BUILD_STATE_COUNT] = {
	[BUILD_QUEUED] = { "queued", TO(BUILD_PREPARING) | TO_BAD_END },
	[BUILD_PREPARING] = { "preparing", TO(BUILD_STEP) | TO(BUILD_READY) | TO_BAD_END },
	[BUILD_STEP] = { "step", TO(BUILD_CHECKPOINTING) | TO_BAD_END },
	[BUILD_CHECKPOINTING] = { "checkpointing", TO(BUILD_STEP) | TO(BUILD_READY) | TO_BAD_END },
	[BUILD_READY] = { "ready", 0 },
	[BUILD_FAILED] = { "failed", 0 },
	[BUILD_CANCELLED] = { "cancelled", 0 },
};

const char *build_state_name(enum build_state s)
{
	return states[s].name;
}

int build_state_parse(const char *name, enum build_state *out)
{
	for (unsigned i = 0; i < BUILD_STATE_COUNT; i++) {
		if (strcmp(name, states[i].name) == 0) {
			*out = (enum build_state)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool build_state_is_final(enum build_state s)
{
	return states[s].next == 0;
}

bool build_state_may_follow(enum build_state from, enum build_state to)
{
	return states[from].next & TO(to);
}

enum build_state build_state_after_crash(enum build_state s)
{
	return build_state_is_final(s) ? s : BUILD_FAILED;
}
