/* Snapshot records: any text is decoded or refused; what decodes encodes and decodes alike. */
#include "store/names/snapshot.h"
#include "store/names/snapshot_internal.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snapshot s = { 0 }, again = { 0 };
	char *text = NULL, *text2 = NULL;
	size_t len, len2;

	if (snapshot_decode(data, size, &s) != 0)
		return 0;
	MUST(snapshot_encode(&s, &text, &len) == 0);
	MUST(snapshot_decode(text, len, &again) == 0);
	MUST(snapshot_encode(&again, &text2, &len2) == 0);
	MUST(len == len2 && memcmp(text, text2, len) == 0);
	json_decref(snapshot_to_json(&s));
	snapshot_fini(&s);
	snapshot_fini(&again);
	free(text);
	free(text2);
	return 0;
}
