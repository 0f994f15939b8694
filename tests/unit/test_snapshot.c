/* Snapshot records: names, changes, expiry, JSON. */
#include "store/names/snapshot.h"

#include <pthread.h>

#include "store/base/clock.h"
#include "store/names/snapshot_internal.h"
#include "tests/unit/fs_fixture.h"

static struct snapshot make(struct fx *f, const char *name)
{
	struct snapshot s = { .status = SNAPSHOT_READY };
	struct error err = ERROR_INIT;
	snprintf(s.name, sizeof(s.name), "%s", name);
	if (snapshots_put(f->s->snapshots, &s, NULL, &err) != 0)
		fail_msg("%s", error_text(&err));
	return s;
}

static void name_rules_are_said_in_words(void **state)
{
	char longest[SNAPSHOT_NAME_MAX + 2];
	struct error err = ERROR_INIT;
	(void)state;
	static const char *const good[] = { "a", "0", "Debian-12.1_x", "a..b" };
	static const char *const bad[] = { "", ".a", "-a", "_a", "a/b", "a b", "a\n", "\xc3\xa4" };
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(snapshot_name_check(good[i], &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err = (struct error)ERROR_INIT;
		assert_int_equal(snapshot_name_check(bad[i], &err), -EINVAL);
		assert_true(err.msg[0] != '\0');
	}
	memset(longest, 'x', sizeof(longest));
	longest[SNAPSHOT_NAME_MAX] = '\0';
	assert_int_equal(snapshot_name_check(longest, NULL), 0);
	longest[SNAPSHOT_NAME_MAX] = 'x';
	longest[SNAPSHOT_NAME_MAX + 1] = '\0';
	assert_int_equal(snapshot_name_check(longest, NULL), -EINVAL);
}

static void random_ids_are_uuids(void **state)
{
	char a[SNAPSHOT_ID_SIZE], b[SNAPSHOT_ID_SIZE];
	(void)state;
	id_random(a);
	id_random(b);
	assert_int_equal(strlen(a), 36);
	assert_int_equal(a[14], '4');
	assert_non_null(strchr("89ab", a[19]));
	assert_string_not_equal(a, b);
}

static void every_field_survives_reopening(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct snapshot out, s = {
		.name = "full",
		.status = SNAPSHOT_FAILED,
		.parent = "0a0b0c0d-0000-4000-8000-000000000001",
		.source = "checkpoint",
		.mount_id = "0a0b0c0d-0000-4000-8000-000000000002",
		.created_at_ms = 1700000000123,
		.last_used_at_ms = 1700000000456,
		.pinned = true,
		.ttl_seconds = 3600,
		.size_bytes = 1ull << 50,
		.new_bytes = 12,
		.file_count = 34,
		.error = "no space \xff left",
	};
	memset(s.content_hash, 'c', DIGEST_HEX_SIZE - 1);
	id_random(s.build_id);
	s.config = json_pack("{s:[s,s]}", "Env", "A=1", "B=\xc3\xa4");
	s.has_root = true;
	memset(s.root.b, 0x5a, sizeof(s.root.b));
	assert_int_equal(snapshots_put(f->s->snapshots, &s, NULL, &err), 0);
	fx_reopen(f);
	assert_int_equal(snapshots_get(f->s->snapshots, "full", &out, &err), 0);
	assert_string_equal(out.id, s.id);
	assert_int_equal(out.status, SNAPSHOT_FAILED);
	assert_string_equal(out.parent, s.parent);
	assert_string_equal(out.source, "checkpoint");
	assert_string_equal(out.mount_id, s.mount_id);
	assert_string_equal(out.content_hash, s.content_hash);
	assert_string_equal(out.build_id, s.build_id);
	assert_int_equal(out.created_at_ms, s.created_at_ms);
	assert_int_equal(out.last_used_at_ms, s.last_used_at_ms);
	assert_true(out.pinned);
	assert_int_equal(out.ttl_seconds, 3600);
	assert_int_equal(out.size_bytes, 1ull << 50);
	assert_int_equal(out.file_count, 34);
	assert_string_equal(out.error, "no space ? left");
	assert_true(out.has_root && digest_equal(&out.root, &s.root));
	assert_true(json_equal(out.config, s.config));
	snapshot_fini(&s);
	snapshot_fini(&out);
}

static void id_and_times_are_filled_in(void **state)
{
	struct fx *f = *state;
	int64_t before = clock_ms();
	struct snapshot s = make(f, "fresh");
	assert_int_equal(strlen(s.id), 36);
	assert_in_range(s.created_at_ms, before, clock_ms());
	assert_int_equal(s.last_used_at_ms, s.created_at_ms);
}

static void found_by_name_and_by_id(void **state)
{
	struct fx *f = *state;
	struct snapshot s = make(f, "both"), out;
	assert_int_equal(snapshots_get(f->s->snapshots, "both", &out, NULL), 0);
	assert_string_equal(out.id, s.id);
	assert_int_equal(snapshots_get(f->s->snapshots, s.id, &out, NULL), 0);
	assert_string_equal(out.name, "both");
}

static void unknown_name_suggests_the_nearest(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct snapshot out;
	make(f, "debian");
	make(f, "ubuntu-22.04");
	assert_int_equal(snapshots_get(f->s->snapshots, "debain", &out, &err), -ENOENT);
	assert_string_equal(err.msg, "no snapshot named \"debain\"; did you mean \"debian\"?");
	assert_int_equal(snapshots_get(f->s->snapshots, "Ubuntu-24.04", &out, &err), -ENOENT);
	assert_string_equal(err.msg,
			    "no snapshot named \"Ubuntu-24.04\"; did you mean \"ubuntu-22.04\"?");
	assert_int_equal(snapshots_get(f->s->snapshots, "fedora", &out, &err), -ENOENT);
	assert_string_equal(err.msg, "no snapshot named \"fedora\"");
	make(f, "work");
	assert_int_equal(snapshots_get(f->s->snapshots, "base", &out, &err), -ENOENT);
	assert_string_equal(err.msg, "no snapshot named \"base\"");
	assert_int_equal(snapshots_get(f->s->snapshots, "fork-1", &out, &err), -ENOENT);
	assert_string_equal(err.msg, "no snapshot named \"fork-1\"");
	assert_int_equal(snapshots_get(f->s->snapshots, "x", &out, &err), -ENOENT);
	assert_string_equal(err.msg, "no snapshot named \"x\"");
	assert_int_equal(snapshots_get(f->s->snapshots, "a\nb", &out, &err), -ENOENT);
	assert_null(strchr(err.msg, '\n'));
}

static void taken_names_are_refused(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct snapshot a = make(f, "taken"), b = { .name = "taken" }, out;
	assert_int_equal(snapshots_put(f->s->snapshots, &b, NULL, &err), -EEXIST);
	assert_string_equal(err.msg, "a snapshot named \"taken\" exists already");
	snprintf(b.name, sizeof(b.name), "%s", a.id);
	b.id[0] = '\0';
	assert_int_equal(snapshots_put(f->s->snapshots, &b, NULL, &err), -EEXIST);
	/* The same record again is no clash. */
	a.file_count = 5;
	assert_int_equal(snapshots_put(f->s->snapshots, &a, NULL, &err), 0);
	assert_int_equal(snapshots_get(f->s->snapshots, "taken", &out, &err), 0);
	assert_int_equal(out.file_count, 5);
	snprintf(b.name, sizeof(b.name), "no good");
	assert_int_equal(snapshots_put(f->s->snapshots, &b, NULL, &err), -EINVAL);
}

static void unnamed_snapshots_are_listed(void **state)
{
	struct fx *f = *state;
	struct snapshot *list, s = make(f, "");
	size_t n;
	make(f, "");
	assert_int_equal(snapshots_list(f->s->snapshots, &list, &n, NULL), 0);
	assert_int_equal(n, 2);
	snapshots_list_free(list, n);
	assert_int_equal(snapshots_get(f->s->snapshots, s.id, &s, NULL), 0);
}

/* The names of those met; deletes the one called "goes" at the first. */
struct met {
	struct fx *f;
	char names[64];
	int stop_after;
};

static int meet(void *arg, const struct snapshot *s)
{
	struct met *m = arg;
	if (!m->names[0])
		(void)!snapshots_delete(m->f->s->snapshots, "goes", NULL);
	strcat(m->names, s->name);
	strcat(m->names, " ");
	return --m->stop_after == 0 ? -ECANCELED : 0;
}

static void each_is_met_from_the_newest(void **state)
{
	struct fx *f = *state;
	struct met m = { .f = f };
	struct snapshot old = { .name = "old", .created_at_ms = 1000 },
			goes = { .name = "goes", .created_at_ms = 2000 },
			recent = { .name = "recent", .created_at_ms = 3000 };
	assert_int_equal(snapshots_each(f->s->snapshots, meet, &m, NULL), 0);
	assert_string_equal(m.names, "");
	assert_int_equal(snapshots_put(f->s->snapshots, &goes, NULL, NULL), 0);
	assert_int_equal(snapshots_put(f->s->snapshots, &recent, NULL, NULL), 0);
	assert_int_equal(snapshots_put(f->s->snapshots, &old, NULL, NULL), 0);
	assert_int_equal(snapshots_each(f->s->snapshots, meet, &m, NULL), 0);
	assert_string_equal(m.names, "recent old ");
	m = (struct met){ .f = f, .stop_after = 1 };
	assert_int_equal(snapshots_each(f->s->snapshots, meet, &m, NULL), -ECANCELED);
	assert_string_equal(m.names, "recent ");
}

static void also_is_written_with_the_record_or_not_at_all(void **state)
{
	struct fx *f = *state;
	struct snapshot s = { .name = "with" };
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	kv_batch_put(f->s->kv, b, KV_META, "mount/x", 7, "1", 1);
	assert_int_equal(snapshots_put(f->s->snapshots, &s, b, NULL), 0);
	assert_int_equal(kv_has(f->s->kv, KV_META, "mount/x", 7), 1);
	kv_batch_clear(b);
	kv_batch_put(f->s->kv, b, KV_META, "mount/y", 7, "1", 1);
	s = (struct snapshot){ .name = "with" };
	assert_int_equal(snapshots_put(f->s->snapshots, &s, b, NULL), -EEXIST);
	assert_int_equal(kv_has(f->s->kv, KV_META, "mount/y", 7), 0);
}

static void newest_comes_first(void **state)
{
	struct fx *f = *state;
	static const int64_t times[] = { 3000, 1000, 2000 };
	struct snapshot *list;
	size_t n;
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		struct snapshot s = { .created_at_ms = times[i] };
		assert_int_equal(snapshots_put(f->s->snapshots, &s, NULL, NULL), 0);
	}
	assert_int_equal(snapshots_list(f->s->snapshots, &list, &n, NULL), 0);
	assert_int_equal(n, 3);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(list[i].created_at_ms, 3000 - (int64_t)i * 1000);
	snapshots_list_free(list, n);
}

static void rename_moves_the_name(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct snapshot s = make(f, "old"), out;
	make(f, "other");
	assert_int_equal(snapshots_rename(f->s->snapshots, "old", "other", &err), -EEXIST);
	assert_int_equal(snapshots_rename(f->s->snapshots, "old", "no/good", &err), -EINVAL);
	assert_int_equal(snapshots_rename(f->s->snapshots, "none", "new", &err), -ENOENT);
	assert_int_equal(snapshots_rename(f->s->snapshots, "old", "new", &err), 0);
	assert_int_equal(snapshots_get(f->s->snapshots, "old", &out, &err), -ENOENT);
	assert_int_equal(snapshots_get(f->s->snapshots, "new", &out, &err), 0);
	assert_string_equal(out.id, s.id);
	assert_int_equal(snapshots_rename(f->s->snapshots, "new", "new", &err), 0);
	make(f, "old");
}

static void replace_takes_over_the_name(void **state)
{
	struct fx *f = *state;
	struct snapshots *ss = f->s->snapshots;
	struct error err = ERROR_INIT;
	struct snapshot old = make(f, "image"), s = make(f, "image.new"), out;
	assert_int_equal(snapshots_replace(ss, "none", "image", &err), -ENOENT);
	assert_int_equal(snapshots_replace(ss, "image.new", "no/good", &err), -EINVAL);
	assert_int_equal(snapshots_pin(ss, "image", true, 0, &err), 0);
	assert_int_equal(snapshots_replace(ss, "image.new", "image", &err), -EBUSY);
	assert_int_equal(snapshots_get(ss, "image", &out, &err), 0);
	assert_string_equal(out.id, old.id);
	assert_int_equal(snapshots_pin(ss, "image", false, 0, &err), 0);
	assert_int_equal(snapshots_replace(ss, "image.new", "image", &err), 0);
	assert_int_equal(snapshots_get(ss, "image", &out, &err), 0);
	assert_string_equal(out.id, s.id);
	assert_int_equal(snapshots_get(ss, old.id, &out, &err), -ENOENT);
	assert_int_equal(snapshots_get(ss, "image.new", &out, &err), -ENOENT);
	assert_int_equal(snapshots_replace(ss, "image", "image", &err), 0);
	assert_int_equal(snapshots_replace(ss, "image", "free", &err), 0);
	assert_int_equal(snapshots_get(ss, "free", &out, &err), 0);
	assert_string_equal(out.id, s.id);
	make(f, "image");
}

static void pinned_snapshots_are_not_deleted(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct snapshot out;
	make(f, "kept");
	assert_int_equal(snapshots_pin(f->s->snapshots, "kept", true, 60, &err), 0);
	assert_int_equal(snapshots_delete(f->s->snapshots, "kept", &err), -EBUSY);
	assert_string_equal(err.msg, "snapshot \"kept\" is pinned");
	assert_int_equal(snapshots_pin(f->s->snapshots, "kept", false, 0, &err), 0);
	assert_int_equal(snapshots_pin(f->s->snapshots, "kept", false, -1, &err), -EINVAL);
	assert_int_equal(snapshots_delete(f->s->snapshots, "kept", &err), 0);
	assert_int_equal(snapshots_get(f->s->snapshots, "kept", &out, &err), -ENOENT);
	assert_int_equal(snapshots_delete(f->s->snapshots, "kept", &err), -ENOENT);
	make(f, "kept");
}

static void only_unused_unpinned_snapshots_expire(void **state)
{
	struct fx *f = *state;
	static const struct {
		const char *name;
		int64_t used_ms, ttl;
		bool pinned;
		enum snapshot_status status;
		bool expires;
	} cases[] = {
		{ "old", 1000, 10, false, SNAPSHOT_READY, true },
		{ "failed", 1000, 10, false, SNAPSHOT_FAILED, true },
		{ "building", 1000, 10, false, SNAPSHOT_BUILDING, false },
		{ "pinned", 1000, 10, true, SNAPSHOT_READY, false },
		{ "forever", 1000, 0, false, SNAPSHOT_READY, false },
		{ "recent", 95000, 10, false, SNAPSHOT_READY, false },
		{ "far", 1000, INT64_MAX, false, SNAPSHOT_READY, false },
		{ "future", 1000000, 10, false, SNAPSHOT_READY, false },
	};
	uint64_t count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct snapshot s = { .status = cases[i].status,
				      .created_at_ms = 1,
				      .last_used_at_ms = cases[i].used_ms,
				      .ttl_seconds = cases[i].ttl,
				      .pinned = cases[i].pinned };
		snprintf(s.name, sizeof(s.name), "%s", cases[i].name);
		assert_int_equal(snapshots_put(f->s->snapshots, &s, NULL, NULL), 0);
	}
	assert_int_equal(snapshots_expire(f->s->snapshots, 100000, &count, NULL), 0);
	assert_int_equal(count, 2);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct snapshot out;
		assert_int_equal(snapshots_get(f->s->snapshots, cases[i].name, &out, NULL),
				 cases[i].expires ? -ENOENT : 0);
	}
}

static void touching_only_goes_forward(void **state)
{
	struct fx *f = *state;
	struct snapshot out, s = { .created_at_ms = 5, .last_used_at_ms = 5 };
	int64_t before = clock_ms();
	assert_int_equal(snapshots_put(f->s->snapshots, &s, NULL, NULL), 0);
	assert_int_equal(snapshots_touch(f->s->snapshots, s.id), 0);
	assert_int_equal(snapshots_get(f->s->snapshots, s.id, &out, NULL), 0);
	assert_in_range(out.last_used_at_ms, before, clock_ms());
	assert_int_equal(snapshots_touch(f->s->snapshots, "nothing"), -ENOENT);
}

static void finish(void *arg, struct snapshot *s)
{
	(void)arg;
	s->status = SNAPSHOT_READY;
	s->file_count = 7;
}

static void update_keeps_a_rename_made_meanwhile(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct snapshot out, s = { .name = "before", .status = SNAPSHOT_BUILDING };
	assert_int_equal(snapshots_put(f->s->snapshots, &s, NULL, &err), 0);
	assert_int_equal(snapshots_rename(f->s->snapshots, "before", "after", &err), 0);
	assert_int_equal(snapshots_update(f->s->snapshots, s.id, finish, NULL, NULL, &out, &err),
			 0);
	assert_string_equal(out.name, "after");
	assert_int_equal(out.status, SNAPSHOT_READY);
	assert_int_equal(snapshots_get(f->s->snapshots, "before", &out, &err), -ENOENT);
	assert_int_equal(snapshots_delete(f->s->snapshots, "after", &err), 0);
	assert_int_equal(snapshots_update(f->s->snapshots, s.id, finish, NULL, NULL, NULL, &err),
			 -ENOENT);
	assert_int_equal(snapshots_update(f->s->snapshots, "", finish, NULL, NULL, NULL, &err),
			 -ENOENT);
}

static void history_goes_to_the_oldest_known_ancestor(void **state)
{
	struct fx *f = *state;
	struct snapshot a = make(f, "a"), b = { .name = "b" }, c = { .name = "c" }, *list;
	size_t n;
	memcpy(b.parent, a.id, sizeof(a.id));
	assert_int_equal(snapshots_put(f->s->snapshots, &b, NULL, NULL), 0);
	memcpy(c.parent, b.id, sizeof(b.id));
	assert_int_equal(snapshots_put(f->s->snapshots, &c, NULL, NULL), 0);
	assert_int_equal(snapshots_history(f->s->snapshots, "c", &list, &n, NULL), 0);
	assert_int_equal(n, 3);
	assert_string_equal(list[0].name, "c");
	assert_string_equal(list[2].name, "a");
	snapshots_list_free(list, n);
	assert_int_equal(snapshots_delete(f->s->snapshots, "a", NULL), 0);
	assert_int_equal(snapshots_history(f->s->snapshots, "c", &list, &n, NULL), 0);
	assert_int_equal(n, 2);
	snapshots_list_free(list, n);
	/* A ring, as only damage makes it. */
	memcpy(b.parent, c.id, sizeof(c.id));
	assert_int_equal(snapshots_put(f->s->snapshots, &b, NULL, NULL), 0);
	assert_int_equal(snapshots_history(f->s->snapshots, "c", &list, &n, NULL), 0);
	assert_int_equal(n, 2);
	snapshots_list_free(list, n);
	assert_int_equal(snapshots_history(f->s->snapshots, "none", &list, &n, NULL), -ENOENT);
}

static int add_id(void *arg, const struct snapshot *s)
{
	return buf_printf(arg, "%s;", s->name[0] ? s->name : s->takes);
}

static void assert_unfinished(struct fx *f, const char *expected)
{
	CLEANUP(buf_fini_p) struct buf ids = BUF_INIT;
	struct error err = ERROR_INIT;

	assert_int_equal(snapshots_each_unfinished(f->s->snapshots, add_id, &ids, &err), 0);
	assert_int_equal(buf_append(&ids, "", 1), 0);
	assert_string_equal((const char *)ids.data, expected);
}

static void the_unfinished_are_found_without_the_others(void **state)
{
	struct fx *f = *state;
	struct snapshot s = { .status = SNAPSHOT_BUILDING, .name = "one" };
	struct snapshot t = { .status = SNAPSHOT_BUILDING, .takes = "ready" };
	struct error err = ERROR_INIT;

	make(f, "ready");
	/* What is damaged, and none of them, is in nobody's way. */
	assert_int_equal(meta_put(f->s->kv, META_SNAPSHOT, "damaged", "{", 1, KV_LOG), 0);
	assert_unfinished(f, "");
	assert_int_equal(snapshots_put(f->s->snapshots, &s, NULL, &err), 0);
	assert_unfinished(f, "one;");
	assert_int_equal(snapshots_update(f->s->snapshots, s.id, finish, NULL, NULL, NULL, &err),
			 0);
	assert_int_equal(snapshots_put(f->s->snapshots, &t, NULL, &err), 0);
	assert_unfinished(f, "ready;");
	/* It is to take its name even when it is built, until it has it. */
	assert_int_equal(snapshots_update(f->s->snapshots, t.id, finish, NULL, NULL, NULL, &err),
			 0);
	assert_unfinished(f, "ready;");
	assert_int_equal(snapshots_replace(f->s->snapshots, t.id, "ready", &err), 0);
	assert_unfinished(f, "");
}

static void damaged_record_is_an_error_that_names_it(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct snapshot *list;
	size_t n;
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	kv_batch_put(f->s->kv, b, KV_META, "snapshot/broken", 15, "{}", 2);
	assert_int_equal(kv_write(f->s->kv, b, KV_LOG), 0);
	assert_int_equal(snapshots_list(f->s->snapshots, &list, &n, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "snapshot/broken"));
}

static void json_of_the_api_has_its_fields(void **state)
{
	struct snapshot s = { .id = "the-id",
			      .name = "name",
			      .status = SNAPSHOT_READY,
			      .created_at_ms = 1706745599999,
			      .last_used_at_ms = -1,
			      .size_bytes = UINT64_MAX };
	(void)state;
	json_t *o = snapshot_to_json(&s);
	assert_string_equal(json_string_value(json_object_get(o, "id")), "the-id");
	assert_string_equal(json_string_value(json_object_get(o, "checkpointId")), "the-id");
	assert_string_equal(json_string_value(json_object_get(o, "name")), "name");
	assert_string_equal(json_string_value(json_object_get(o, "status")), "ready");
	assert_string_equal(json_string_value(json_object_get(o, "createdAt")),
			    "2024-01-31T23:59:59.999Z");
	assert_string_equal(json_string_value(json_object_get(o, "lastUsedAt")),
			    "1969-12-31T23:59:59.999Z");
	assert_true(json_is_null(json_object_get(o, "manifest")));
	assert_true(json_is_null(json_object_get(o, "root")));
	assert_true(json_is_null(json_object_get(o, "parent")));
	assert_null(json_object_get(o, "error"));
	assert_int_equal(json_integer_value(json_object_get(o, "sizeBytes")), INT64_MAX);
	json_decref(o);
	s.has_root = true;
	snprintf(s.error, sizeof(s.error), "why");
	o = snapshot_to_json(&s);
	assert_int_equal(json_string_length(json_object_get(o, "root")), 64);
	assert_string_equal(json_string_value(json_object_get(o, "error")), "why");
	json_decref(o);
}

struct racer {
	struct fx *f;
	int won;
	pthread_t thread;
};

static void *race_for_names(void *arg)
{
	struct racer *r = arg;
	for (int i = 0; i < 50; i++) {
		struct snapshot s = { 0 };
		snprintf(s.name, sizeof(s.name), "name-%d", i);
		r->won += snapshots_put(r->f->s->snapshots, &s, NULL, NULL) == 0;
		struct snapshot out;
		if (snapshots_get(r->f->s->snapshots, s.name, &out, NULL) == 0)
			snapshot_fini(&out);
	}
	return NULL;
}

static void a_name_is_given_once_however_many_ask(void **state)
{
	struct racer r[4];
	int won = 0;
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		r[i] = (struct racer){ .f = *state };
		assert_int_equal(pthread_create(&r[i].thread, NULL, race_for_names, &r[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		pthread_join(r[i].thread, NULL);
		won += r[i].won;
	}
	assert_int_equal(won, 50);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(name_rules_are_said_in_words),
		cmocka_unit_test(random_ids_are_uuids),
		WITH_STORE(every_field_survives_reopening),
		WITH_STORE(id_and_times_are_filled_in),
		WITH_STORE(found_by_name_and_by_id),
		WITH_STORE(unknown_name_suggests_the_nearest),
		WITH_STORE(taken_names_are_refused),
		WITH_STORE(unnamed_snapshots_are_listed),
		WITH_STORE(each_is_met_from_the_newest),
		WITH_STORE(also_is_written_with_the_record_or_not_at_all),
		WITH_STORE(newest_comes_first),
		WITH_STORE(rename_moves_the_name),
		WITH_STORE(replace_takes_over_the_name),
		WITH_STORE(pinned_snapshots_are_not_deleted),
		WITH_STORE(only_unused_unpinned_snapshots_expire),
		WITH_STORE(touching_only_goes_forward),
		WITH_STORE(update_keeps_a_rename_made_meanwhile),
		WITH_STORE(history_goes_to_the_oldest_known_ancestor),
		WITH_STORE(the_unfinished_are_found_without_the_others),
		WITH_STORE(damaged_record_is_an_error_that_names_it),
		cmocka_unit_test(json_of_the_api_has_its_fields),
		WITH_STORE(a_name_is_given_once_however_many_ask),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
