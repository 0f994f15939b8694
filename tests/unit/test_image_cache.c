/* The image cache: what is found, what a use keeps, what goes when a name goes. */
#include "snapshotd/build/image_cache.h"

#include "snapshotd/state/json_record.h"
#include "store/base/clock.h"
#include "tests/unit/fs_fixture.h"

#define KEY_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define KEY_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define BASE_1 "1111111111111111111111111111111111111111111111111111111111111111"
#define BASE_2 "2222222222222222222222222222222222222222222222222222222222222222"
#define STEP(n) "000000000000000000000000000000000000000000000000000000000000000" #n

/* A checkpoint, as a build takes it of its mount. */
static void checkpoint(struct fx *f, const char *parent, char id[SNAPSHOT_ID_SIZE])
{
	struct snapshot s = { .status = SNAPSHOT_READY };
	struct error err = ERROR_INIT;

	strcpy(s.source, "checkpoint");
	strcpy(s.mount_id, "0a0b0c0d-0000-4000-8000-000000000001");
	strcpy(s.parent, parent);
	if (snapshots_put(f->s->snapshots, &s, NULL, &err) != 0)
		fail_msg("%s", error_text(&err));
	strcpy(id, s.id);
}

static struct image_entry entry(const char *key, const char *snapshot_id, const char *base)
{
	struct image_entry e = { .n_steps = 2, .new_bytes = 7, .created_at_ms = 1000 };

	strcpy(e.key, key);
	strcpy(e.snapshot_id, snapshot_id);
	strcpy(e.base_id, base);
	return e;
}

/* An image of two steps upon BASE_1: ids of both, the image's last. */
static void put_image(struct fx *f, const char *key, const char *step1, const char *step2,
		      const char *below, char ids[2][SNAPSHOT_ID_SIZE])
{
	json_t *config = json_pack("{s:s}", "WorkingDir", "/w");
	struct error err = ERROR_INIT;
	struct image_entry e;
	struct image_step s;

	if (below) {
		strcpy(ids[0], below);
	} else {
		checkpoint(f, "", ids[0]);
		s = (struct image_step){ step1, ids[0], "", "base", config };
		assert_int_equal(image_cache_put(f->s, &s, NULL, &err), 0);
	}
	checkpoint(f, ids[0], ids[1]);
	e = entry(key, ids[1], BASE_1);
	s = (struct image_step){ step2, ids[1], "", "base", config };
	assert_int_equal(image_cache_put(f->s, &s, &e, &err), 0);
	json_decref(config);
}

static bool finds(struct fx *f, const char *key, const char *base, const char *id)
{
	struct image_entry e;
	struct snapshot s = { 0 };
	bool same;

	if (image_cache_find(f->s, key, base, &e, &s) != 0)
		return false;
	same = strcmp(s.id, id) == 0 && strcmp(e.snapshot_id, id) == 0;
	snapshot_fini(&s);
	return same;
}

static bool finds_step(struct fx *f, const char *key, const char *id)
{
	struct snapshot s = { 0 };
	bool same;

	if (image_cache_find_step(f->s, key, &s) != 0)
		return false;
	same = strcmp(s.id, id) == 0;
	snapshot_fini(&s);
	return same;
}

static bool exists(struct fx *f, const char *id)
{
	struct snapshot s = { 0 };
	bool there = snapshots_get(f->s->snapshots, id, &s, NULL) == 0;

	snapshot_fini(&s);
	return there;
}

static uint64_t expire(struct fx *f)
{
	struct error err = ERROR_INIT;
	uint64_t n = 0;

	assert_int_equal(snapshots_expire(f->s->snapshots, clock_ms() + 10, &n, &err), 0);
	return n;
}

static void name_it(struct fx *f, const char *name, const char *key)
{
	struct snapshot s = { .status = SNAPSHOT_READY };
	struct error err = ERROR_INIT;

	strcpy(s.name, name);
	strcpy(s.source, IMAGE_CACHE_SOURCE);
	strcpy(s.content_hash, key);
	assert_int_equal(snapshots_put(f->s->snapshots, &s, NULL, &err), 0);
}

static void a_checkpoint_becomes_an_entry(void **state)
{
	struct fx *f = *state;
	char ids[2][SNAPSHOT_ID_SIZE];
	struct snapshot s = { 0 };
	struct error err = ERROR_INIT;

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, ids);
	assert_true(finds(f, KEY_A, BASE_1, ids[1]));
	assert_true(finds_step(f, STEP(1), ids[0]));
	assert_true(finds_step(f, STEP(2), ids[1]));
	assert_int_equal(snapshots_get(f->s->snapshots, ids[1], &s, &err), 0);
	assert_true(image_cache_owns(&s));
	assert_string_equal(s.content_hash, KEY_A);
	assert_string_equal(s.mount_id, "");
	assert_int_equal(s.ttl_seconds, IMAGE_CACHE_TTL_S);
	assert_string_equal(json_string_value(json_object_get(s.config, "WorkingDir")), "/w");
	snapshot_fini(&s);
	fx_reopen(f);
	assert_true(finds(f, KEY_A, BASE_1, ids[1]));
}

static void the_base_must_be_the_same_or_gone(void **state)
{
	struct fx *f = *state;
	char ids[2][SNAPSHOT_ID_SIZE];

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, ids);
	assert_false(finds(f, KEY_A, BASE_2, ids[1]));
	assert_true(finds(f, KEY_A, NULL, ids[1]));
	assert_false(finds(f, KEY_B, BASE_1, ids[1]));
}

/* What a base is called for builds: owned config, text of both as JSON. */
static void base_id(int root, const char *config, const char *env, char out[DIGEST_HEX_SIZE])
{
	struct snapshot s = { .has_root = true, .root = { { (uint8_t)root } } };
	json_t *vars = env ? json_loads(env, 0, NULL) : NULL;

	s.config = config ? json_loads(config, 0, NULL) : NULL;
	assert_int_equal(image_base_id(&s, vars, out), 0);
	json_decref(vars);
	snapshot_fini(&s);
}

static void a_base_is_its_tree_and_all_that_steps_see(void **state)
{
	static const struct {
		int root;
		const char *config, *env;
		bool same;
	} cases[] = {
		{ 1, "{\"User\":\"u\",\"Env\":[\"A=1\"]}", "{\"X\":\"1\"}", true },
		{ 1, "{\"Env\":[\"A=1\"],\"User\":\"u\"}", "{\"X\":\"1\"}", true },
		{ 1, "{\"Env\":[\"A=1\"],\"User\":\"u\"}",
		  "{\"X\":\"1\",\"HTTP_PROXY\":\"h\",\"no_proxy\":\"l\"}", true },
		{ 2, "{\"Env\":[\"A=1\"],\"User\":\"u\"}", "{\"X\":\"1\"}", false },
		{ 1, "{\"Env\":[\"A=2\"],\"User\":\"u\"}", "{\"X\":\"1\"}", false },
		{ 1, "{\"Env\":[\"A=1\"],\"User\":\"v\"}", "{\"X\":\"1\"}", false },
		{ 1, "{\"Env\":[\"A=1\"],\"User\":\"u\",\"Cmd\":[\"c\"]}", "{\"X\":\"1\"}", false },
		{ 1, "{\"Env\":[\"A=1\"],\"User\":\"u\"}", "{\"X\":\"2\"}", false },
		{ 1, "{\"Env\":[\"A=1\"],\"User\":\"u\"}", NULL, false },
		{ 1, NULL, "{\"X\":\"1\"}", false },
		{ 1, "{\"odd\":0.5}", NULL, false }, /* no canonical JSON */
	};
	char first[DIGEST_HEX_SIZE], id[DIGEST_HEX_SIZE];
	(void)state;

	base_id(cases[0].root, cases[0].config, cases[0].env, first);
	for (size_t i = 1; i < ARRAY_SIZE(cases); i++) {
		base_id(cases[i].root, cases[i].config, cases[i].env, id);
		if ((strcmp(id, first) == 0) != cases[i].same)
			fail_msg("case %zu is %s", i, cases[i].same ? "another" : "the same");
	}
	base_id(1, "{\"odd\":0.25}", NULL, first);
	assert_string_not_equal(first, id);
}

/* Its record has the root of the base's tree, which does not say enough. */
static void an_entry_of_an_earlier_version_is_no_hit(void **state)
{
	struct fx *f = *state;
	char ids[2][SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct image_entry e;
	json_t *j;

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, ids);
	j = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i}", "snapshot", ids[1], "base", "base",
		      "baseRoot", BASE_1, "steps", 2, "newBytes", 7, "createdAtMs", 1000);
	assert_int_equal(json_record_put(f->s->kv, META_IMAGE, KEY_A, j, KV_LOG), 0);
	json_decref(j);
	assert_false(finds(f, KEY_A, BASE_1, ids[1]));
	assert_false(finds(f, KEY_A, NULL, ids[1]));
	e = entry(KEY_A, ids[1], BASE_1);
	assert_int_equal(image_cache_link(f->s, &e, "base", &err), 0);
	assert_true(finds(f, KEY_A, BASE_1, ids[1]));
}

static void an_entry_without_its_snapshot_is_no_hit(void **state)
{
	struct fx *f = *state;
	char ids[2][SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	json_t *j = NULL;

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, ids);
	assert_int_equal(snapshots_delete(f->s->snapshots, ids[1], &err), 0);
	assert_false(finds(f, KEY_A, BASE_1, ids[1]));
	assert_int_equal(json_record_get(f->s->kv, META_IMAGE, KEY_A, &j), -ENOENT);
	assert_false(finds_step(f, STEP(2), ids[1]));
	assert_true(finds_step(f, STEP(1), ids[0]));
}

static void what_is_replaced_lives_an_hour(void **state)
{
	struct fx *f = *state;
	char old[2][SNAPSHOT_ID_SIZE], ids[2][SNAPSHOT_ID_SIZE];
	struct snapshot s = { 0 };
	struct error err = ERROR_INIT;

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, old);
	put_image(f, KEY_A, STEP(1), STEP(2), NULL, ids);
	assert_true(finds(f, KEY_A, BASE_1, ids[1]));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(snapshots_get(f->s->snapshots, old[i], &s, &err), 0);
		assert_int_equal(s.ttl_seconds, IMAGE_CACHE_REPLACED_TTL_S);
		snapshot_fini(&s);
	}
}

static void a_prefix_can_be_an_image(void **state)
{
	struct fx *f = *state;
	char ids[2][SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct image_entry e;

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, ids);
	e = entry(KEY_B, ids[0], BASE_1);
	assert_int_equal(image_cache_link(f->s, &e, "base", &err), 0);
	assert_true(finds(f, KEY_B, BASE_1, ids[0]));
	assert_true(finds(f, KEY_A, BASE_1, ids[1]));
}

static void the_last_name_lets_the_chain_go(void **state)
{
	struct fx *f = *state;
	char ids[2][SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, ids);
	name_it(f, "one", KEY_A);
	image_cache_release(f->s, KEY_A); /* another name is left */
	assert_int_equal(expire(f), 0);
	assert_int_equal(snapshots_delete(f->s->snapshots, "one", &err), 0);
	image_cache_release(f->s, KEY_A);
	assert_true(exists(f, ids[1]));
	assert_int_equal(expire(f), 2);
	assert_false(exists(f, ids[0]) || exists(f, ids[1]));
	assert_false(finds(f, KEY_A, BASE_1, ids[1]));
}

static void steps_of_others_stay(void **state)
{
	struct fx *f = *state;
	char a[2][SNAPSHOT_ID_SIZE], b[2][SNAPSHOT_ID_SIZE];

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, a);
	put_image(f, KEY_B, STEP(1), STEP(3), a[0], b);
	image_cache_release(f->s, KEY_A);
	assert_int_equal(expire(f), 1);
	assert_true(exists(f, a[0]) && exists(f, b[1]) && !exists(f, a[1]));
	assert_true(finds(f, KEY_B, BASE_1, b[1]));
}

static void a_use_keeps_what_was_to_go(void **state)
{
	struct fx *f = *state;
	char ids[2][SNAPSHOT_ID_SIZE];

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, ids);
	image_cache_release(f->s, KEY_A);
	assert_true(finds(f, KEY_A, BASE_1, ids[1]));
	assert_true(finds_step(f, STEP(1), ids[0]));
	assert_int_equal(expire(f), 0);
	assert_true(finds(f, KEY_A, BASE_1, ids[1]));
}

static void a_forgotten_image_is_not_found(void **state)
{
	struct fx *f = *state;
	char ids[2][SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, ids);
	assert_int_equal(image_cache_forget(f->s, KEY_A, &err), 0);
	assert_false(finds(f, KEY_A, BASE_1, ids[1]));
	assert_int_equal(expire(f), 2);
	assert_int_equal(image_cache_forget(f->s, KEY_A, &err), -ENOENT);
}

static int collect(void *arg, const char *key, const json_t *j)
{
	assert_string_equal(json_record_text(j, "key"), key);
	return json_array_append(arg, (json_t *)j) ? -ENOMEM : 0;
}

static int stop_at_once(void *arg, const char *key, const json_t *j)
{
	(void)key;
	(void)j;
	++*(unsigned *)arg;
	return 1;
}

static void the_list_has_names_and_figures(void **state)
{
	struct fx *f = *state;
	char ids[2][SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	json_t *a = json_array(), *o;
	unsigned called = 0;

	put_image(f, KEY_B, STEP(3), STEP(4), NULL, ids);
	put_image(f, KEY_A, STEP(1), STEP(2), NULL, ids);
	name_it(f, "one", KEY_A);
	assert_int_equal(image_cache_each(f->s, stop_at_once, &called, &err), 1);
	assert_int_equal(called, 1);
	assert_int_equal(image_cache_each(f->s, collect, a, &err), 0);
	assert_int_equal(json_array_size(a), 2);
	o = json_array_get(a, 1);
	assert_string_equal(json_record_text(o, "key"), KEY_B);
	assert_int_equal(json_array_size(json_object_get(o, "names")), 0);
	o = json_array_get(a, 0);
	assert_string_equal(json_record_text(o, "key"), KEY_A);
	assert_string_equal(json_record_text(o, "snapshotID"), ids[1]);
	assert_string_equal(json_record_text(o, "base"), "base");
	assert_int_equal(json_integer_value(json_object_get(o, "steps")), 2);
	assert_int_equal(json_integer_value(json_object_get(o, "newBytes")), 7);
	assert_int_equal(json_array_size(json_object_get(o, "names")), 1);
	json_decref(a);
}

static void a_sweep_drops_what_nothing_names(void **state)
{
	struct fx *f = *state;
	char a[2][SNAPSHOT_ID_SIZE], b[2][SNAPSHOT_ID_SIZE];
	json_t *m = json_pack("{s:s}", "base", "base"), *j = NULL;
	struct error err = ERROR_INIT;

	put_image(f, KEY_A, STEP(1), STEP(2), NULL, a);
	put_image(f, KEY_B, STEP(3), STEP(4), NULL, b);
	assert_int_equal(image_cache_put_manifest(f->s, KEY_A, m), 0);
	assert_int_equal(image_cache_put_manifest(f->s, KEY_B, m), 0);
	assert_int_equal(snapshots_delete(f->s->snapshots, b[1], &err), 0);
	assert_int_equal(image_cache_sweep(f->s, &err), 0);
	assert_int_equal(json_record_get(f->s->kv, META_IMAGE, KEY_B, &j), -ENOENT);
	assert_int_equal(json_record_get(f->s->kv, META_IMAGE_STEP, STEP(4), &j), -ENOENT);
	assert_null(image_cache_manifest(f->s, KEY_B));
	j = image_cache_manifest(f->s, KEY_A);
	assert_true(json_equal(j, m));
	json_decref(j);
	json_decref(m);
	assert_true(finds(f, KEY_A, BASE_1, a[1]));
	assert_true(finds_step(f, STEP(3), b[0]));
}

static void manifests_go_beside_builds(void **state)
{
	struct fx *f = *state;
	json_t *m = json_pack("{s:s}", "base", "base"), *build = json_pack("{s:s}", "key", KEY_A),
	       *j;
	struct error err = ERROR_INIT;

	/* A build, and one that has failed and whose record has gone. */
	assert_int_equal(json_record_put(f->s->kv, META_BUILD, "a-build", build, KV_LOG), 0);
	assert_int_equal(image_cache_put_manifest(f->s, KEY_A, m), 0);
	assert_int_equal(image_cache_put_manifest(f->s, KEY_B, m), 0);
	assert_int_equal(image_cache_sweep_manifests(f->s, &err), 0);
	j = image_cache_manifest(f->s, KEY_A);
	assert_true(json_equal(j, m));
	json_decref(j);
	assert_null(image_cache_manifest(f->s, KEY_B));
	json_decref(m);
	json_decref(build);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(a_checkpoint_becomes_an_entry),
		WITH_STORE(the_base_must_be_the_same_or_gone),
		cmocka_unit_test(a_base_is_its_tree_and_all_that_steps_see),
		WITH_STORE(an_entry_of_an_earlier_version_is_no_hit),
		WITH_STORE(an_entry_without_its_snapshot_is_no_hit),
		WITH_STORE(what_is_replaced_lives_an_hour),
		WITH_STORE(a_prefix_can_be_an_image),
		WITH_STORE(the_last_name_lets_the_chain_go),
		WITH_STORE(steps_of_others_stay),
		WITH_STORE(a_use_keeps_what_was_to_go),
		WITH_STORE(a_forgotten_image_is_not_found),
		WITH_STORE(the_list_has_names_and_figures),
		WITH_STORE(a_sweep_drops_what_nothing_names),
		WITH_STORE(manifests_go_beside_builds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
