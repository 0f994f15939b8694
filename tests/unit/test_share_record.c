/* JSON records of a bucket: the documented text, what is refused and by what name, limits. */
#include "store/layout/share_record.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/layout/share_format.h"
#include "store/layout/share_pins.h"
#include "store/layout/share_round.h"

#define A "a0000000000000000000000000000000"
#define B "b0000000000000000000000000000000"
#define C "c0000000000000000000000000000000"
#define ROOT "00000000000000000000000000000000000000000000000000000000000000ff"
static const struct share_id id_a = { { 0xa0 } }, id_b = { { 0xb0 } }, id_c = { { 0xc0 } };

static const char ready_text[] =
	"{\"epoch\":3,\"hot\":\"" C "\",\"id\":\"" A "\",\"meta\":[\"" B "-9\",\"" A "-4\"],"
	"\"nonce\":\"" C "\",\"packs\":[[\"" A "\",\"0-4\"],[\"" B "\",\"2\"],[\"" B
	"\",\"9\"]],\"root\":\"" ROOT "\",\"snapshot\":{\"config\":{\"Cmd\":[\"sh\"],\"x\":0.5},"
	"\"contentHash\":\"" ROOT "\",\"createdAtMs\":1700000000000,\"fileCount\":12,"
	"\"name\":\"App_1\",\"parent\":\"" B "\",\"sizeBytes\":4096,\"source\":\"oci\"},"
	"\"state\":\"ready\",\"varve\":1}";

static void add_range(struct share_packs *p, struct share_id push, uint32_t first, uint32_t last)
{
	struct share_range r = { push, first, last };
	assert_int_equal(share_packs_add_range(p, &r), 0);
}

static struct share_record make_ready(void)
{
	struct share_record r = {
		.state = SHARE_READY,
		.id = id_a,
		.nonce = id_c,
		.epoch = 3,
		.meta = { { id_b, 9 }, { id_a, 4 } },
		.n_meta = 2,
		.hot = id_c,
		.snapshot = { .name = "App_1",
			      .parent = id_b,
			      .source = "oci",
			      .content_hash = ROOT,
			      .created_at_ms = 1700000000000,
			      .size_bytes = 4096,
			      .file_count = 12 },
	};
	r.root.b[DIGEST_SIZE - 1] = 0xff;
	add_range(&r.packs, id_b, 9, 9);
	add_range(&r.packs, id_a, 0, 4);
	add_range(&r.packs, id_b, 2, 2);
	r.snapshot.config = json_pack("{s[s]sf}", "Cmd", "sh", "x", 0.5);
	assert_non_null(r.snapshot.config);
	return r;
}

static void check_text(const struct buf *b, const char *expected)
{
	if (b->len != strlen(expected) || memcmp(b->data, expected, b->len) != 0)
		fail_msg("%.*s\nis not\n%s", (int)b->len, (const char *)b->data, expected);
}

static void records_have_the_documented_text(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	CLEANUP(share_record_fini_p) struct share_record r = make_ready();
	struct share_record back;

	assert_int_equal(share_record_encode(&r, &b, NULL), 0);
	check_text(&b, ready_text);
	assert_int_equal(share_record_decode(b.data, b.len, &back, NULL), 0);
	assert_true(share_id_equal(&back.id, &id_a) && share_id_equal(&back.nonce, &id_c));
	assert_true(share_id_equal(&back.hot, &id_c) && back.epoch == 3);
	assert_true(digest_equal(&back.root, &r.root));
	assert_int_equal(back.packs.n, 3);
	assert_int_equal(back.n_meta, 2);
	assert_int_equal(pack_id_cmp(&back.meta[1], &r.meta[1]), 0);
	assert_string_equal(back.snapshot.name, "App_1");
	assert_true(json_equal(back.snapshot.config, r.snapshot.config));
	back.state = SHARE_DELETED; /* keeps its lists */
	buf_clear(&b);
	assert_int_equal(share_record_encode(&back, &b, NULL), 0);
	share_record_fini(&back);
	assert_int_equal(share_record_decode(b.data, b.len, &back, NULL), 0);
	assert_int_equal(back.state, SHARE_DELETED);
	assert_int_equal(share_packs_count(&back.packs), 7);
	share_record_fini(&back);
}

static void records_say_of_whom_they_borrow(void **state)
{
	(void)state;
	static const char lent[] =
		"\"alternate\":{\"bucket\":\"01234567-89ab-cdef-0123-456789abcdef\","
		"\"url\":\"s3://t\"}";
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	CLEANUP(share_record_fini_p) struct share_record r = make_ready();
	struct share_record back;
	char *found;

	strcpy(r.alternate.url, "s3://t"); /* of no bucket */
	assert_int_equal(share_record_encode(&r, &b, NULL), -EINVAL);
	strcpy(r.alternate.bucket, "01234567-89ab-cdef-0123-456789abcdef");
	assert_int_equal(share_record_encode(&r, &b, NULL), 0);
	assert_non_null(buf_cstr(&b));
	found = strstr((char *)b.data, lent);
	assert_non_null(found);
	assert_int_equal(share_record_decode(b.data, b.len, &back, NULL), 0);
	assert_string_equal(back.alternate.bucket, r.alternate.bucket);
	assert_string_equal(back.alternate.url, "s3://t");
	share_record_fini(&back);
	found[strlen("\"alternate\":{\"bucket\":\"")] = 'x'; /* no uuid */
	assert_int_equal(share_record_decode(b.data, b.len, &back, NULL), -EBADMSG);
	memcpy(found, "\"alternate\":{\"busket\"", 22);
	assert_int_equal(share_record_decode(b.data, b.len, &back, NULL), -EBADMSG);
}

static void records_say_how_long_their_metadata_is(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	CLEANUP(share_record_fini_p) struct share_record r = make_ready();
	struct share_record back;
	char *found;

	r.meta_bytes[0] = 1234567;
	assert_int_equal(share_record_encode(&r, &b, NULL), 0);
	assert_non_null(buf_cstr(&b));
	found = strstr((char *)b.data, "\"metaBytes\":[1234567,0]");
	assert_non_null(found);
	assert_int_equal(share_record_decode(b.data, b.len, &back, NULL), 0);
	assert_int_equal(back.meta_bytes[0], 1234567);
	assert_int_equal(back.meta_bytes[1], 0);
	share_record_fini(&back);
	memcpy(found, "\"metaBytes\":[123456789]", 23); /* one for two containers */
	assert_int_equal(share_record_decode(b.data, b.len, &back, NULL), -EBADMSG);
	memcpy(found, "\"metaBytes\":[1,-234567]", 23);
	assert_int_equal(share_record_decode(b.data, b.len, &back, NULL), -EBADMSG);
}

static void an_aborted_record_has_nothing_else(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct share_record r = { .state = SHARE_ABORTED, .id = id_a, .nonce = id_b }, back;
	assert_int_equal(share_record_encode(&r, &b, NULL), 0);
	check_text(&b, "{\"epoch\":0,\"id\":\"" A "\",\"nonce\":\"" B
		       "\",\"state\":\"aborted\",\"varve\":1}");
	assert_int_equal(share_record_decode(b.data, b.len, &back, NULL), 0);
	assert_int_equal(back.state, SHARE_ABORTED);
	share_record_fini(&back);
}

static void a_register_embeds_the_record(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	CLEANUP(share_register_fini_p)
	struct share_register r = {
		.generation = 7,
		.prev = id_b,
		.nonce = id_c,
		.has_record = true,
		.record = make_ready(),
	};
	struct share_register back;
	assert_int_equal(share_register_encode(&r, &b, NULL), 0);
	assert_int_equal(share_register_decode(b.data, b.len, &back, NULL), 0);
	assert_true(back.has_record && back.generation == 7);
	assert_true(share_id_equal(&back.prev, &id_b) && share_id_equal(&back.nonce, &id_c));
	buf_clear(&b);
	assert_int_equal(share_record_encode(&back.record, &b, NULL), 0);
	check_text(&b, ready_text);
	share_register_fini(&back);

	struct share_register none = { .generation = 1, .nonce = id_c };
	buf_clear(&b);
	assert_int_equal(share_register_encode(&none, &b, NULL), 0);
	check_text(&b, "{\"generation\":1,\"nonce\":\"" C
		       "\",\"prev\":null,\"record\":null,\"varve\":1}");
	assert_int_equal(share_register_decode(b.data, b.len, &back, NULL), 0);
	assert_false(back.has_record);
	assert_true(share_id_is_none(&back.prev));

	/* Only a snapshot that is there has a name. */
	r.record.state = SHARE_DELETED;
	assert_int_equal(share_register_encode(&r, &b, NULL), -EINVAL);
	r.record.state = SHARE_READY;
	r.generation = 0;
	assert_int_equal(share_register_encode(&r, &b, NULL), -EINVAL);
}

/* The text with one part replaced; the caller frees it. */
static char *replaced(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	char *out = NULL;
	if (!at)
		fail_msg("no %s", from);
	assert_true(asprintf(&out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) > 0);
	return out;
}

static void damaged_records_are_refused_and_the_member_named(void **state)
{
	(void)state;
	static const struct {
		const char *from, *to, *why;
	} cases[] = {
		{ "\"id\":\"" A "\"", "\"id\":null", "\"id\"" },
		{ "\"id\":\"a0", "\"id\":\"A0", "\"id\"" },
		{ "\"id\":\"a0", "\"id\":\"00", "\"id\"" },
		{ "\"nonce\":\"" C "\",", "", "\"nonce\"" },
		{ "\"epoch\":3", "\"epoch\":-1", "\"epoch\"" },
		{ "\"epoch\":3", "\"epoch\":3.0", "\"epoch\"" },
		{ "\"epoch\":3", "\"epoch\":9007199254740992", "\"epoch\"" },
		{ "\"ready\"", "\"gone\"", "\"state\"" },
		{ "\"ready\"", "1", "\"state\"" },
		{ ROOT, "00", "\"root\"" },
		{ "[\"" B "-9\",\"" A "-4\"]", "[]", "\"meta\"" },
		{ "[\"" B "-9\",\"" A "-4\"]", "{}", "\"meta\"" },
		{ "\"" B "-9\"", "\"" A "-4\"", "\"meta\"" }, /* twice */
		{ "\"" B "-9\"", "\"" B "-8\"", "\"meta\"" }, /* not in packs */
		{ "\"" B "-9\"", "7", "\"meta\"" },
		{ "\"" B "-9\"",
		  "\"" A "-0\",\"" A "-1\",\"" A "-2\",\"" A "-3\",\"" B "-2\",\"" B "-9\"",
		  "\"meta\"" }, /* seven */
		{ "\"0-4\"", "\"4-0\"", "\"packs\"" },
		{ "\"0-4\"", "\"0-1048576\"", "\"packs\"" },
		{ "\"0-4\"", "\"00-4\"", "\"packs\"" },
		{ "\"0-4\"", "\"0-4 \"", "\"packs\"" },
		{ "\"0-4\"", "\" 0-4\"", "\"packs\"" },
		{ "\"0-4\"", "\"-4\"", "\"packs\"" },
		{ "\"0-4\"", "\"0-\"", "\"packs\"" },
		{ "\"0-4\"", "\"4-4\"", "\"packs\"" },
		{ "\"2\"", "\"9\"", "\"packs\"" },
		{ "\"2\"", "\"8\"", "\"packs\"" },  /* touches the next */
		{ "\"2\"", "\"10\"", "\"packs\"" }, /* order */
		{ "[\"" A "\",\"0-4\"]", "[\"" A "\"]", "\"packs\"" },
		{ "\"hot\":\"" C "\"", "\"hot\":\"\"", "\"hot\"" },
		{ "App_1", "-", "\"name\"" },
		{ "App_1", "..", "\"name\"" },
		{ "App_1", "a/b", "\"name\"" },
		{ "\"oci\"", "\"\\u001b[1m\"", "\"source\"" },
		{ "\"oci\"", "null", "\"source\"" },
		{ "\"sizeBytes\":4096", "\"sizeBytes\":-1", "\"sizeBytes\"" },
		{ "\"sizeBytes\":4096", "\"sizeBytes\":\"1\"", "\"sizeBytes\"" },
		{ "\"fileCount\":12,", "", "\"fileCount\"" },
		{ "\"createdAtMs\":1700000000000,", "", "\"createdAtMs\"" },
		{ "{\"Cmd\":[\"sh\"],\"x\":0.5}", "[]", "\"config\"" },
		{ "\"parent\":\"b0", "\"parent\":\"xx", "\"parent\"" },
		{ "{\"epoch\":3", "{\"id\":\"" B "\",\"epoch\":3", "no JSON object" }, /* twice */
		{ "{\"epoch\"", "[{\"epoch\"", "no JSON object" },
		{ "\"varve\":1", "\"varve\":\"1\"", "\"varve\"" },
		{ ",\"varve\":1", "", "\"varve\"" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = ERROR_INIT;
		struct share_record r;
		char *text = replaced(ready_text, cases[i].from, cases[i].to);
		int rc = share_record_decode(text, strlen(text), &r, &err);
		if (rc != -EBADMSG || !strstr(err.msg, cases[i].why))
			fail_msg("%s: %d, %s", text, rc, err.msg);
		free(text);
	}
}

static void every_truncation_is_refused(void **state)
{
	(void)state;
	struct share_record r;
	for (size_t len = 0; len < strlen(ready_text); len++) {
		char *copy = malloc(len + 1);
		assert_non_null(copy);
		memcpy(copy, ready_text, len);
		assert_int_equal(share_record_decode(copy, len, &r, NULL), -EBADMSG);
		free(copy);
	}
}

static void unknown_members_are_ignored_and_versions_are_not(void **state)
{
	(void)state;
	struct error err = ERROR_INIT;
	struct share_record r;
	char *text = replaced(ready_text, "{\"epoch\"", "{\"later\":{\"a\":[1]},\"epoch\"");
	assert_int_equal(share_record_decode(text, strlen(text), &r, NULL), 0);
	share_record_fini(&r);
	free(text);
	text = replaced(ready_text, "\"varve\":1", "\"varve\":2");
	assert_int_equal(share_record_decode(text, strlen(text), &r, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "version 2"));
	free(text);
}

static void records_are_bounded(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	CLEANUP(share_record_fini_p) struct share_record r = make_ready();
	struct share_record back;
	char *large = calloc(1, SHARE_RECORD_MAX + 1);

	for (uint32_t i = 100; i < 60000; i += 2)
		add_range(&r.packs, id_c, i, i);
	assert_int_equal(share_record_encode(&r, &b, NULL), -EFBIG);
	assert_int_equal(b.len, 0);
	assert_non_null(large);
	memset(large, ' ', SHARE_RECORD_MAX + 1);
	memcpy(large, ready_text, strlen(ready_text));
	assert_int_equal(share_record_decode(large, SHARE_RECORD_MAX + 1, &back, NULL), -EFBIG);
	assert_int_equal(share_record_decode(large, SHARE_RECORD_MAX, &back, NULL), 0);
	share_record_fini(&back);
	free(large);
}

static void what_breaks_a_rule_is_not_written(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	CLEANUP(share_record_fini_p) struct share_record r = make_ready();
	struct error err = ERROR_INIT;
	struct share_record bad = r;
	bad.n_meta = 0;
	assert_int_equal(share_record_encode(&bad, &b, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "meta"));
	bad = r;
	bad.meta[0].number = 8;
	assert_int_equal(share_record_encode(&bad, &b, NULL), -EINVAL);
	bad = r;
	bad.id = (struct share_id){ 0 };
	assert_int_equal(share_record_encode(&bad, &b, NULL), -EINVAL);
	bad = r;
	strcpy(bad.snapshot.source, "a\nb");
	assert_int_equal(share_record_encode(&bad, &b, NULL), -EINVAL);
	assert_int_equal(b.len, 0);
}

static void snapshots_go_there_and_back(void **state)
{
	(void)state;
	struct snapshot s = { .id = "x",
			      .name = "n",
			      .source = "dir",
			      .created_at_ms = 5,
			      .size_bytes = 6,
			      .file_count = 7,
			      .pinned = true };
	struct snapshot back;
	struct share_snapshot shared;
	s.config = json_object();
	share_snapshot_from(&shared, &s, &id_b);
	assert_true(share_id_equal(&shared.parent, &id_b));
	share_snapshot_to(&shared, &back);
	assert_string_equal(back.id, "");
	assert_string_equal(back.name, "n");
	assert_string_equal(back.source, "dir");
	assert_true(back.created_at_ms == 5 && back.size_bytes == 6 && back.file_count == 7);
	assert_false(back.pinned);
	assert_ptr_equal(back.config, s.config);
	json_decref(shared.config);
	snapshot_fini(&back);
	share_snapshot_from(&shared, &s, NULL);
	assert_true(share_id_is_none(&shared.parent));
	json_decref(shared.config);
	snapshot_fini(&s);
}

/* ---- sets of packs ---- */

/* Against a plain table of 64 packs, with two pushes. */
static void sets_of_packs_agree_with_a_plain_table(void **state)
{
	(void)state;
	unsigned seed = 1;
	for (int turn = 0; turn < 300; turn++) {
		CLEANUP(share_packs_fini_p) struct share_packs p = { 0 };
		CLEANUP(share_packs_fini_p) struct share_packs back = { 0 };
		bool has[64] = { false };
		unsigned count = 0, seen = 0;
		for (int i = 0; i < turn % 20; i++) {
			seed = seed * 1103515245 + 12345;
			uint32_t first = seed >> 16 & 31,
				 last = first + (seed >> 24) % (32 - first);
			unsigned push = seed >> 10 & 1;
			add_range(&p, push ? id_b : id_a, first, last);
			memset(has + 32 * push + first, true, last - first + 1);
		}
		for (uint32_t i = 0; i < 64; i++) {
			struct pack_id id = { i < 32 ? id_a : id_b, i % 32 };
			assert_int_equal(share_packs_has(&p, &id), has[i]);
			count += has[i];
		}
		assert_int_equal(share_packs_count(&p), count);
		struct share_packs_cursor c = { 0 };
		for (struct pack_id id; share_packs_next(&p, &c, &id); seen++)
			assert_true(share_packs_has(&p, &id));
		assert_int_equal(seen, count);
		json_t *j = share_packs_to_json(&p); /* takes only what is in order and joined */
		assert_int_equal(share_packs_from_json(j, &back), 0);
		json_decref(j);
		assert_int_equal(back.n, p.n);
		assert_int_equal(share_packs_meet(&p, &back), count > 0);
	}
}

static void sets_of_packs_meet_in_a_pack(void **state)
{
	(void)state;
	CLEANUP(share_packs_fini_p) struct share_packs a = { 0 };
	CLEANUP(share_packs_fini_p) struct share_packs b = { 0 };
	struct pack_id wrong = { { { 0 } }, 1 };
	add_range(&a, id_a, 0, 4);
	add_range(&a, id_b, 10, 20);
	add_range(&b, id_a, 5, 9);
	add_range(&b, id_b, 0, 9);
	add_range(&b, id_c, 0, 100);
	assert_false(share_packs_meet(&a, &b));
	assert_false(share_packs_meet(&b, &a));
	add_range(&b, id_b, 20, 30);
	assert_true(share_packs_meet(&a, &b));
	assert_true(share_packs_meet(&b, &a));
	assert_int_equal(share_packs_add_all(&a, &b), 0);
	assert_int_equal(a.n, 3);
	assert_int_equal(share_packs_count(&a), 10 + 31 + 101);
	assert_int_equal(share_packs_add(&a, &wrong), -EINVAL);
	wrong = (struct pack_id){ id_a, PACK_NUMBER_MAX + 1 };
	assert_int_equal(share_packs_add(&a, &wrong), -EINVAL);
	wrong.number = UINT32_MAX;
	assert_int_equal(share_packs_add(&a, &wrong), -EINVAL);
}

/* ---- intents, rounds, format ---- */

static void intents_and_rounds_have_the_documented_text(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct share_intent in = { .id = id_a,
				   .nonce = id_b,
				   .node = id_c,
				   .epoch = 2,
				   .started_at_ms = 9 },
			    in2;
	assert_int_equal(share_intent_encode(&in, &b, NULL), 0);
	check_text(&b, "{\"epoch\":2,\"id\":\"" A "\",\"node\":\"" C "\",\"nonce\":\"" B
		       "\",\"startedAtMs\":9,\"varve\":1}");
	assert_int_equal(share_intent_decode(b.data, b.len, &in2, NULL), 0);
	assert_int_equal(memcmp(&in, &in2, sizeof(in)), 0);
	assert_int_equal(share_intent_decode(b.data, b.len - 1, &in2, NULL), -EBADMSG);

	CLEANUP(share_round_fini_p)
	struct share_round r = { .epoch = 4, .prev = id_a, .nonce = id_b, .node = id_c };
	CLEANUP(share_round_fini_p) struct share_round r2 = { 0 };
	add_range(&r.condemned, id_a, 0, 3);
	add_range(&r.repacked, id_b, 1, 1);
	buf_clear(&b);
	assert_int_equal(share_round_encode(&r, &b, NULL), 0);
	check_text(&b, "{\"condemned\":[[\"" A "\",\"0-3\"]],\"epoch\":4,\"node\":\"" C
		       "\",\"nonce\":\"" B "\",\"prev\":\"" A "\",\"repacked\":[[\"" B
		       "\",\"1\"]],\"varve\":1}");
	assert_int_equal(share_round_decode(b.data, b.len, &r2, NULL), 0);
	assert_int_equal(share_packs_count(&r2.condemned), 4);
	assert_int_equal(share_packs_count(&r2.repacked), 1);
	r.epoch = 0;
	assert_int_equal(share_round_encode(&r, &b, NULL), -EINVAL);

	struct share_round_done d = { .epoch = 4, .nonce = id_b, .node = id_c }, d2;
	buf_clear(&b);
	assert_int_equal(share_round_done_encode(&d, &b, NULL), 0);
	check_text(&b, "{\"epoch\":4,\"node\":\"" C "\",\"nonce\":\"" B "\",\"varve\":1}");
	assert_int_equal(share_round_done_decode(b.data, b.len, &d2, NULL), 0);
	assert_int_equal(memcmp(&d, &d2, sizeof(d)), 0);
}

static void pins_have_the_documented_text(void **state)
{
	static const char text[] =
		"{\"counter\":7,\"id\":\"" C "\",\"pins\":[\"" A "\",\"" B "\"],\"varve\":1}";
	static const char *const refused[] = {
		"{\"counter\":7,\"id\":\"" C "\",\"pins\":[\"" B "\",\"" A "\"],\"varve\":1}",
		"{\"counter\":7,\"id\":\"" C "\",\"pins\":[\"" A "\",\"" A "\"],\"varve\":1}",
		"{\"counter\":7,\"id\":\"" C "\",\"pins\":[7],\"varve\":1}",
		"{\"counter\":7,\"id\":\"" C "\",\"varve\":1}",
		"{\"counter\":0,\"id\":\"" C "\",\"pins\":[],\"varve\":1}",
		"{\"counter\":7,\"pins\":[],\"varve\":1}",
	};
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct share_id v[] = { id_b, id_a, id_b };
	struct share_pins p = { .id = id_c, .counter = 7, .v = v, .n = 3 }, p2;

	(void)state;
	assert_int_equal(share_pins_encode(&p, &b, NULL), -EINVAL);
	share_pins_sort(&p);
	assert_int_equal(p.n, 2);
	assert_int_equal(share_pins_encode(&p, &b, NULL), 0);
	check_text(&b, text);
	assert_int_equal(share_pins_decode(b.data, b.len, &p2, NULL), 0);
	assert_int_equal(p2.counter, 7);
	assert_true(share_pins_has(&p2, &id_a) && share_pins_has(&p2, &id_b));
	assert_false(share_pins_has(&p2, &id_c));
	share_pins_fini(&p2);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		assert_int_equal(share_pins_decode(refused[i], strlen(refused[i]), &p2, NULL),
				 -EBADMSG);
	p.n = SHARE_PINS_COUNT + 1;
	p.v = calloc(p.n, sizeof(*p.v));
	for (size_t i = 0; i < p.n; i++)
		p.v[i] = (struct share_id){ { 1, (uint8_t)(i >> 16), (uint8_t)(i >> 8),
					      (uint8_t)i } };
	assert_int_equal(share_pins_encode(&p, &b, NULL), -EINVAL);
	p.n--;
	buf_clear(&b);
	assert_int_equal(share_pins_encode(&p, &b, NULL), 0);
	free(p.v);
}

#define UUID "0f3a2a34-5b1e-4c50-8f51-3d3c14a4e8f1"
static void a_bucket_says_what_it_is(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct share_format f = { .uuid = UUID }, back;
	assert_int_equal(share_format_encode(&f, &b, NULL), 0);
	check_text(&b, "{\"features\":[],\"uuid\":\"" UUID "\",\"varve\":1}");
	assert_int_equal(share_format_decode(b.data, b.len, &back, NULL), 0);
	assert_string_equal(back.uuid, UUID);
	assert_int_equal(share_format_writable(&back, NULL), 0);
	f.uuid[3] = 'X';
	assert_int_equal(share_format_encode(&f, &b, NULL), -EINVAL);
}

static void unknown_features_are_refused_by_name(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int result;
		const char *why;
	} cases[] = {
		{ "{\"varve\":1,\"uuid\":\"" UUID "\",\"features\":[\"?moved\",\"sealed-v2\"]}",
		  -ENOTSUP, "\"sealed-v2\"" },
		{ "{\"varve\":3,\"features\":7}", -ENOTSUP, "version 3" },
		{ "{\"varve\":1,\"uuid\":\"" UUID "\"}", -EBADMSG, "features" },
		{ "{\"varve\":1,\"uuid\":\"" UUID "\",\"features\":[7]}", -EBADMSG, "name" },
		{ "{\"varve\":1,\"uuid\":\"" UUID "\",\"features\":[\"?\"]}", -EBADMSG, "name" },
		{ "{\"varve\":1,\"uuid\":\"" UUID "\",\"features\":[\"\\u001b\"]}", -EBADMSG,
		  "name" },
		{ "{\"varve\":1,\"uuid\":\"x\",\"features\":[]}", -EBADMSG, "uuid" },
		{ "{\"varve\":1,\"features\":[]}", -EBADMSG, "uuid" },
		{ "", -EBADMSG, "JSON" },
		{ "[]", -EBADMSG, "varve" },
	};
	struct share_format f;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = ERROR_INIT;
		int r = share_format_decode(cases[i].text, strlen(cases[i].text), &f, &err);
		if (r != cases[i].result || !strstr(err.msg, cases[i].why))
			fail_msg("%s: %d, %s", cases[i].text, r, err.msg);
	}
	struct error err = ERROR_INIT;
	static const char readable[] =
		"{\"varve\":1,\"kdf\":{},\"uuid\":\"" UUID "\",\"features\":[\"?plans\",\"?b\"]}";
	assert_int_equal(share_format_decode(readable, strlen(readable), &f, NULL), 0);
	assert_int_equal(share_format_writable(&f, &err), -EROFS);
	assert_non_null(strstr(err.msg, "\"plans\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_have_the_documented_text),
		cmocka_unit_test(records_say_how_long_their_metadata_is),
		cmocka_unit_test(records_say_of_whom_they_borrow),
		cmocka_unit_test(an_aborted_record_has_nothing_else),
		cmocka_unit_test(a_register_embeds_the_record),
		cmocka_unit_test(damaged_records_are_refused_and_the_member_named),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(unknown_members_are_ignored_and_versions_are_not),
		cmocka_unit_test(records_are_bounded),
		cmocka_unit_test(what_breaks_a_rule_is_not_written),
		cmocka_unit_test(snapshots_go_there_and_back),
		cmocka_unit_test(sets_of_packs_agree_with_a_plain_table),
		cmocka_unit_test(sets_of_packs_meet_in_a_pack),
		cmocka_unit_test(intents_and_rounds_have_the_documented_text),
		cmocka_unit_test(pins_have_the_documented_text),
		cmocka_unit_test(a_bucket_says_what_it_is),
		cmocka_unit_test(unknown_features_are_refused_by_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
