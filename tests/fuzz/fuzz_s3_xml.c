/* XML of an object store: what is accepted keeps its promises. */
#include "store/bucket/object_s3_xml.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static void check_listing(const char *text, size_t len, const struct s3_list_query *q)
{
	struct s3_listing l;
	int rc = s3_xml_listing(text, len, q, &l);

	MUST(rc == 0 || rc == -EBADMSG || rc == -ENOMEM);
	if (rc != 0) {
		MUST(!l.entries && !l.last);
		return;
	}
	MUST(l.n <= q->max_keys);
	MUST(!l.truncated || l.last);
	for (size_t i = 0; i < l.n; i++) {
		const char *key = l.entries[i].key;

		MUST(i == 0 || strcmp(l.entries[i - 1].key, key) < 0);
		MUST(strncmp(key, q->prefix, strlen(q->prefix)) == 0);
		MUST(!q->after || strcmp(key, q->after) > 0);
		MUST(l.entries[i].is_prefix || object_key_check(key) == 0);
	}
	s3_listing_fini(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct s3_list_query plain = { .root = "", .prefix = "", .max_keys = 1000 };
	static const struct s3_list_query narrow = {
		.root = "p/", .prefix = "a", .after = "a/", .max_keys = 3
	};
	char *text = malloc(size ? size : 1); /* a byte read behind it is noticed */
	struct s3_failure f;
	size_t failed;

	MUST(text);
	if (size)
		memcpy(text, data, size);
	check_listing(text, size, &plain);
	check_listing(text, size, &narrow);
	if (s3_xml_failure(text, size, &f) == 0)
		MUST(f.code[0] && strlen(f.code) < sizeof(f.code));
	if (s3_xml_deleted(text, size, &failed, &f) == 0)
		MUST(failed || !f.code[0]);
	free(text);
	return 0;
}
