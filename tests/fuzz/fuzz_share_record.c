/*
 * The bucket's JSON and its keys: any text is decoded or refused; what decodes encodes to a text
 * that decodes and encodes to the same. The first byte chooses what it is read as.
 */
#include "store/layout/share_record.h"

#include <string.h>

#include "store/layout/share_format.h"
#include "store/layout/share_pins.h"
#include "store/layout/share_round.h"
#include "tests/fuzz/fuzz.h"

static void same(const struct buf *a, const struct buf *b)
{
	MUST(a->len == b->len && memcmp(a->data, b->data, a->len) == 0);
}

#define ROUND_TRIP(type, name, fini)                                      \
	static void name##_trip(const uint8_t *data, size_t size)         \
	{                                                                 \
		CLEANUP(buf_fini_p) struct buf text = BUF_INIT;           \
		CLEANUP(buf_fini_p) struct buf again = BUF_INIT;          \
		struct error err = ERROR_INIT;                            \
		type v, v2;                                               \
		int r = name##_decode(data, size, &v, &err);              \
		MUST(r <= 0 && (r == 0 || err.msg[0]));                   \
		if (r != 0)                                               \
			return;                                           \
		MUST(name##_encode(&v, &text, NULL) == 0);                \
		MUST(name##_decode(text.data, text.len, &v2, NULL) == 0); \
		MUST(name##_encode(&v2, &again, NULL) == 0);              \
		same(&text, &again);                                      \
		fini(&v);                                                 \
		fini(&v2);                                                \
	}
#define NOTHING(v) (void)(v)
ROUND_TRIP(struct share_record, share_record, share_record_fini)
ROUND_TRIP(struct share_register, share_register, share_register_fini)
ROUND_TRIP(struct share_intent, share_intent, NOTHING)
ROUND_TRIP(struct share_round, share_round, share_round_fini)
ROUND_TRIP(struct share_round_done, share_round_done, NOTHING)
ROUND_TRIP(struct share_format, share_format, NOTHING)
ROUND_TRIP(struct share_pins, share_pins, share_pins_fini)

static void key_trip(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), again[SHARE_KEY_SIZE];
	char name[SNAPSHOT_NAME_MAX + 1], encoded[SHARE_NAME_SIZE];
	struct share_key k;

	MUST(text);
	if (share_key_parse(text, &k) == 0) {
		MUST(object_key_check(text) == 0);
		MUST(share_key_text(&k, again) == 0 && strcmp(text, again) == 0);
		MUST(share_key_prefix(&k, again) == 0);
		MUST(k.kind == SHARE_KEY_FORMAT || strncmp(text, again, strlen(again)) == 0);
	}
	if (share_name_encode(text, encoded) == 0)
		MUST(share_name_decode(encoded, name) == 0 && strcmp(name, text) == 0);
	if (share_name_decode(text, name) == 0)
		MUST(share_name_encode(name, encoded) == 0 && strcmp(encoded, text) == 0);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const trips[])(const uint8_t *, size_t) = {
		key_trip,	  share_record_trip,	 share_register_trip, share_intent_trip,
		share_round_trip, share_round_done_trip, share_format_trip,   share_pins_trip,
	};
	if (size == 0)
		return 0;
	trips[data[0] % ARRAY_SIZE(trips)](data + 1, size - 1);
	return 0;
}
