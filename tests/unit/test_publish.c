/* What a store shows to other hosts by itself: once, under the name that it has. */
#include "tests/unit/share_fixture.h"

#include "store/share/publish.h"
#include "store/remote/share_ids.h"

#define KEY "aa00000000000000000000000000000000000000000000000000000000000000"

static void id_of(const struct host *h, const char *name, char out[SNAPSHOT_ID_SIZE])
{
	struct snapshot s;

	assert_int_equal(snapshots_get(h->s->snapshots, name, &s, NULL), 0);
	memcpy(out, s.id, SNAPSHOT_ID_SIZE);
	snapshot_fini(&s);
}

static int wants(struct host *h, const char *name)
{
	struct snapshot s;
	int rc;

	assert_int_equal(snapshots_get(h->s->snapshots, name, &s, NULL), 0);
	rc = publish_wants(h->s, remote_uuid(h->r), &s);
	snapshot_fini(&s);
	return rc;
}

static struct push_result publish(struct host *h, const char *name, bool expect_taken)
{
	char id[SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct push_result res;
	bool taken;

	id_of(h, name, id);
	if (publish_snapshot(h->s, h->r, id, NULL, &res, &taken, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(taken, expect_taken);
	return res;
}

/* The name leads to that in the bucket; or to nothing. */
static void assert_leads(struct host *h, const char *name, const struct share_id *id)
{
	struct share_record rec;
	int rc = remote_resolve(h->r, name, &rec, NULL);

	if (!id) {
		assert_int_equal(rc, -ENOENT);
		return;
	}
	assert_int_equal(rc, 0);
	assert_true(share_id_equal(&rec.id, id));
	share_record_fini(&rec);
}

static void what_has_a_name_is_published_once(void **state)
{
	struct hosts *h = *state;
	struct push_result p;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	assert_int_equal(wants(&h->a, "one"), 1);
	p = publish(&h->a, "one", false);
	assert_int_equal(wants(&h->a, "one"), 0);
	assert_leads(&h->a, "one", &p.id);
	/* A new name is told; the bytes are there. */
	assert_int_equal(snapshots_rename(h->a.s->snapshots, "one", "two", NULL), 0);
	assert_int_equal(wants(&h->a, "two"), 1);
	assert_true(publish(&h->a, "two", false).existed);
	assert_leads(&h->a, "two", &p.id);
	/* What came from there is not sent back under the name it has here. */
	pull(&h->b, "one", "mine");
	assert_int_equal(wants(&h->b, "mine"), 0);
}

static void a_snapshot_without_a_name_or_tree_is_not_wanted(void **state)
{
	struct hosts *h = *state;
	struct snapshot s = { .status = SNAPSHOT_BUILDING, .name = "b" };

	assert_int_equal(publish_wants(h->a.s, remote_uuid(h->a.r), &s), 0);
	s.status = SNAPSHOT_READY;
	s.has_root = true;
	s.name[0] = '\0';
	assert_int_equal(publish_wants(h->a.s, remote_uuid(h->a.r), &s), 0);
}

static void a_name_of_another_host_stays(void **state)
{
	struct hosts *h = *state;
	struct push_result a, b;
	struct share_record rec;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	a = publish(&h->a, "one", false);
	make_files(h, "e", 3, 2);
	take(h, &h->b, "e", "one", NULL);
	b = publish(&h->b, "one", true);
	assert_int_equal(wants(&h->b, "one"), 0); /* or it would be tried for ever */
	assert_leads(&h->b, "one", &a.id);
	assert_int_equal(remote_read_record(h->b.r, &b.id, &rec, NULL), 0);
	assert_int_equal(rec.state, SHARE_READY);
	share_record_fini(&rec);
}

/* Who gave it that name died before it looked whether somebody deletes the snapshot. */
static void a_name_that_was_left_on_what_is_gone_is_taken(void **state)
{
	struct hosts *h = *state;
	struct push_result left, now;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	left = push(&h->a, "one", "one");
	assert_int_equal(remote_mark_gone(h->b.r, &left.id, NULL), 0);
	bury(&h->b, &left.id);
	assert_int_equal(wants(&h->a, "one"), 1);
	now = publish(&h->a, "one", false);
	assert_leads(&h->b, "one", &now.id);
	pull(&h->b, "one", "one");
	assert_whole(&h->b);
}

/* Its record was freed, too; and another host's snapshot comes. */
static void a_name_of_no_record_is_free(void **state)
{
	struct hosts *h = *state;
	struct push_result left, now;
	char key[SHARE_KEY_SIZE];

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	left = push(&h->a, "one", "one");
	share_key_of_id(SHARE_KEY_SNAP, &left.id, key);
	assert_int_equal(object_delete(h->bucket.os, OBJECT_CONTROL, key, NULL), 0);
	make_files(h, "e", 3, 2);
	take(h, &h->b, "e", "one", NULL);
	now = publish(&h->b, "one", false);
	assert_leads(&h->a, "one", &now.id);
}

static void a_name_moves_with_what_takes_its_place(void **state)
{
	struct hosts *h = *state;
	struct push_result next;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	publish(&h->a, "one", false);
	make_files(h, "d", 3, 2);
	take(h, &h->a, "d", "two", "one");
	assert_int_equal(snapshots_replace(h->a.s->snapshots, "two", "one", NULL), 0);
	assert_int_equal(wants(&h->a, "one"), 1);
	next = publish(&h->a, "one", false);
	assert_leads(&h->b, "one", &next.id);
}

static void the_same_tree_is_sent_once(void **state)
{
	struct hosts *h = *state;
	struct push_result first, second;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	take(h, &h->a, "d", "two", NULL);
	first = publish(&h->a, "one", false);
	second = publish(&h->a, "two", false);
	assert_true(second.existed);
	assert_true(share_id_equal(&first.id, &second.id));
	assert_int_equal(second.bytes, 0);
	assert_leads(&h->a, "two", &first.id);
}

static int publish_key(struct host *h, const char *name, struct push_result *out,
		       struct share_record *won)
{
	char id[SNAPSHOT_ID_SIZE];
	const struct publish_image image = { .key = KEY, .local = id };
	int rc;

	id_of(h, name, id);
	assert_int_equal(publish_wants_image(h->s, remote_uuid(h->r), KEY, id), 1);
	rc = publish_image(h->s, h->r, &image, out, won, NULL);
	assert_int_equal(publish_wants_image(h->s, remote_uuid(h->r), KEY, id), 0);
	return rc;
}

static void the_second_image_of_a_key_gives_way(void **state)
{
	struct hosts *h = *state;
	struct share_record won, rec;
	struct push_result a, b;
	char id[SNAPSHOT_ID_SIZE];
	struct share_id none;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	make_files(h, "e", 3, 2);
	take(h, &h->b, "e", "one", NULL);
	assert_int_equal(publish_key(&h->a, "one", &a, &won), 0);
	assert_int_equal(publish_key(&h->b, "one", &b, &won), 1);
	assert_true(share_id_equal(&won.id, &a.id));
	share_record_fini(&won);
	assert_int_equal(remote_read_record(h->b.r, &b.id, &rec, NULL), 0);
	assert_int_equal(rec.state, SHARE_DELETED);
	share_record_fini(&rec);
	id_of(&h->b, "one", id);
	assert_int_equal(share_ids_to(h->b.s->kv, remote_uuid(h->b.r), id, &none), -ENOENT);
}

static void an_image_that_is_being_deleted_is_pushed_anew(void **state)
{
	const char keys[1][DIGEST_HEX_SIZE] = { KEY };
	struct hosts *h = *state;
	struct share_record won, rec;
	struct push_result first, image;
	size_t at;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	first = push(&h->a, "one", NULL);
	assert_int_equal(remote_mark_gone(h->b.r, &first.id, NULL), 0);
	assert_int_equal(publish_key(&h->a, "one", &image, &won), 0);
	assert_false(share_id_equal(&first.id, &image.id));
	/* Who was about to delete it does so. */
	assert_int_equal(remote_delete_unnamed(h->b.r, &first.id, NULL), 0);
	assert_int_equal(remote_find_image(h->b.r, keys, 1, 0, &at, &rec, NULL), 0);
	assert_true(share_id_equal(&rec.id, &image.id));
	share_record_fini(&rec);
}

/* It is somebody's by its name, too: then it stays, although it is no image. */
static void what_was_there_for_itself_is_not_deleted(void **state)
{
	struct hosts *h = *state;
	struct share_record won;
	struct push_result a, b, named;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	make_files(h, "e", 3, 2);
	take(h, &h->b, "e", "two", NULL);
	assert_int_equal(publish_key(&h->a, "one", &a, &won), 0);
	named = publish(&h->b, "two", false);
	assert_int_equal(publish_key(&h->b, "two", &b, &won), 1);
	share_record_fini(&won);
	assert_leads(&h->a, "two", &named.id);
	pull(&h->a, "two", "two");
}

static void notes_of_what_is_gone_are_dropped(void **state)
{
	struct hosts *h = *state;
	char id[SNAPSHOT_ID_SIZE], value[SHARE_NOTE_SIZE];
	const char *uuid = remote_uuid(h->a.r);
	struct share_record won;
	struct push_result p;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	id_of(&h->a, "one", id);
	publish(&h->a, "one", false);
	assert_int_equal(publish_key(&h->a, "one", &p, &won), 0);
	assert_int_equal(publish_sweep(h->a.s, uuid), 0);
	assert_int_equal(wants(&h->a, "one"), 0);
	assert_int_equal(snapshots_delete(h->a.s->snapshots, id, NULL), 0);
	assert_int_equal(publish_sweep(h->a.s, uuid), 0);
	assert_int_equal(share_note_get(h->a.s->kv, uuid, SHARE_NOTE_NAME, id, value), -ENOENT);
	assert_int_equal(share_note_get(h->a.s->kv, uuid, SHARE_NOTE_IMAGE, KEY, value), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, hosts_setup, hosts_teardown)
		T(what_has_a_name_is_published_once),
		T(a_snapshot_without_a_name_or_tree_is_not_wanted),
		T(a_name_of_another_host_stays),
		T(a_name_that_was_left_on_what_is_gone_is_taken),
		T(a_name_of_no_record_is_free),
		T(a_name_moves_with_what_takes_its_place),
		T(the_same_tree_is_sent_once),
		T(the_second_image_of_a_key_gives_way),
		T(an_image_that_is_being_deleted_is_pushed_anew),
		T(what_was_there_for_itself_is_not_deleted),
		T(notes_of_what_is_gone_are_dropped),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
