/*
 * Names of archives: any bytes clean to a path of proper names, or are refused;
 * cleaning twice changes nothing; what a whiteout hides is a proper name.
 */
#include "store/archive/archive_path.h"
#include "store/tree/key.h"
#include "store/tree/record.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static void check_component(const char *name, size_t len)
{
	const char *hidden = NULL;
	size_t hidden_len = 0;

	MUST(name_check(name, len) == 0);
	switch (archive_whiteout(name, len, &hidden, &hidden_len)) {
	case WHITEOUT_NAME:
		MUST(hidden + hidden_len == name + len);
		MUST(name_check(hidden, hidden_len) == 0);
		break;
	case WHITEOUT_NONE:
		MUST(len < 4 || memcmp(name, ".wh.", 4) != 0);
		break;
	default:
		MUST(memcmp(name, ".wh.", 4) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf clean = BUF_INIT, again = BUF_INIT;
	int r = archive_path_clean((const char *)data, size, &clean);

	MUST(r == 0 || r == -EINVAL || r == -ENAMETOOLONG);
	if (r == 0) {
		const char *at = (const char *)clean.data, *end = at ? at + clean.len : at;

		MUST(archive_path_clean((const char *)clean.data, clean.len, &again) == 0);
		MUST(again.len == clean.len);
		MUST(clean.len == 0 || memcmp(again.data, clean.data, clean.len) == 0);
		while (at < end) {
			size_t len;
			const char *name = archive_path_next(&at, end, &len);

			check_component(name, len);
		}
	}
	buf_fini(&clean);
	buf_fini(&again);
	return 0;
}
