/* What one host pushes, another pulls: all of it, and no more than it lacks. */
#include "tests/unit/share_fixture.h"

#include "store/remote/share_ids.h"
#include "store/share/share_verify.h"

static const struct pull_options unnamed, as_one = { .name = "one" };

static void a_snapshot_travels(void **state)
{
	struct hosts *h = *state;
	struct push_result p;
	struct pull_result g;

	make_files(h, "d", 300, 1);
	take(h, &h->a, "d", "base", NULL);
	p = push(&h->a, "base", "base");
	assert_false(p.existed);
	assert_true(p.chunks >= 300 && p.packs >= 1 && p.bytes > 300 * 20000);
	g = pull(&h->b, "base", "base");
	assert_false(g.existed);
	assert_int_equal(g.chunks, p.chunks);
	assert_int_equal(g.nodes, p.nodes);
	assert_same_tree(&h->a, "base", &h->b, "base");
	assert_whole(&h->b);
	g = pull(&h->b, "base", NULL);
	assert_true(g.existed);
	assert_int_equal(g.bytes, 0);
}

static void an_id_is_a_reference(void **state)
{
	struct hosts *h = *state;
	char id[SHARE_ID_SIZE];
	struct push_result p;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "base", NULL);
	p = push(&h->a, "base", NULL);
	share_id_text(&p.id, id);
	assert_false(pull(&h->b, id, "mine").existed);
	assert_same_tree(&h->a, "base", &h->b, "mine");
	assert_whole(&h->b);
}

static void a_child_carries_what_is_new(void **state)
{
	struct hosts *h = *state;
	struct push_result p;
	struct pull_result g;

	make_files(h, "d", 300, 1);
	take(h, &h->a, "d", "one", NULL);
	push(&h->a, "one", "one");
	pull(&h->b, "one", "one");
	make_files(h, "d", 5, 2);
	take(h, &h->a, "d", "two", "one");
	p = push(&h->a, "two", "two");
	assert_in_range(p.chunks, 5, 20);
	assert_int_equal(p.packs, 1);
	assert_in_range(p.bytes, 5 * 20000, 400000);
	g = pull(&h->b, "two", "two");
	assert_int_equal(g.chunks, p.chunks);
	assert_same_tree(&h->a, "two", &h->b, "two");
	assert_whole(&h->b);
	/* The other host goes on from there. */
	make_files(h, "d", 5, 3);
	take(h, &h->b, "d", "three", "two");
	p = push(&h->b, "three", "three");
	assert_in_range(p.chunks, 5, 20);
	pull(&h->a, "three", "three");
	assert_same_tree(&h->a, "three", &h->b, "three");
	assert_whole(&h->a);
}

/* Metadata is written anew before it lies in too many containers. */
static void a_long_line_stays_readable(void **state)
{
	struct hosts *h = *state;
	char name[16], parent[16] = "s0";
	struct share_record rec;

	make_files(h, "d", 40, 1);
	take(h, &h->a, "d", "s0", NULL);
	push(&h->a, "s0", "s0");
	for (unsigned i = 1; i <= 14; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		make_files(h, "d", 1, 100 + i);
		take(h, &h->a, "d", name, parent);
		assert_in_range(push(&h->a, name, name).chunks, 1, 3);
		strcpy(parent, name);
	}
	assert_int_equal(remote_resolve(h->b.r, "s14", &rec, NULL), 0);
	assert_in_range(rec.n_meta, 1, SHARE_META_MAX);
	share_record_fini(&rec);
	pull(&h->b, "s14", "s14");
	assert_same_tree(&h->a, "s14", &h->b, "s14");
	assert_whole(&h->b);
}

/* Without a common ancestor, too. */
static void content_that_is_there_is_not_sent(void **state)
{
	struct hosts *h = *state;

	make_files(h, "d", 100, 1);
	take(h, &h->a, "d", "one", NULL);
	push(&h->a, "one", "one");
	make_files(h, "d", 110, 1);
	take(h, &h->a, "d", "two", NULL);
	assert_in_range(push(&h->a, "two", "two").chunks, 10, 30);
	pull(&h->b, "two", "two");
	assert_same_tree(&h->a, "two", &h->b, "two");
	assert_whole(&h->b);
}

static void twice_is_once(void **state)
{
	struct hosts *h = *state;
	struct push_result first, second;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "base", NULL);
	first = push(&h->a, "base", "x");
	second = push(&h->a, "base", "y");
	assert_true(second.existed);
	assert_true(share_id_equal(&first.id, &second.id));
	assert_false(pull(&h->b, "y", "y").existed);
	assert_true(pull(&h->b, "x", NULL).existed);
	/* Under a second name there is a second snapshot. */
	assert_true(pull(&h->b, "x", "x").existed);
	assert_same_tree(&h->b, "x", &h->b, "y");
	/* What was pulled is known to be there. */
	assert_true(push(&h->b, "x", "z").existed);
	assert_whole(&h->b);
}

static void names_move(void **state)
{
	const struct push_options only_new = { .name = "n", .only_new = true };
	struct hosts *h = *state;
	struct push_result res;
	struct error err = ERROR_INIT;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	push(&h->a, "one", "n");
	make_files(h, "d", 3, 2);
	take(h, &h->a, "d", "two", "one");
	assert_int_equal(push_snapshot(h->a.s, h->a.r, "two", &only_new, NULL, &res, &err),
			 -EEXIST);
	assert_non_null(strstr(err.msg, "\"n\""));
	push(&h->a, "two", "n");
	pull(&h->b, "n", "n");
	assert_same_tree(&h->a, "two", &h->b, "n");
	/* More often than generations are kept. */
	for (int i = 0; i < 20; i++)
		push(&h->a, i % 2 ? "one" : "two", "n");
	pull(&h->b, "n", "m");
	assert_same_tree(&h->a, "one", &h->b, "m");
}

static int count_name(void *arg, const char *name, const struct share_record *rec)
{
	char *all = arg;

	assert_int_equal(rec->state, SHARE_READY);
	strcat(strcat(all, name), " ");
	return 0;
}

static void names_are_listed_and_removed(void **state)
{
	struct hosts *h = *state;
	struct share_record rec;
	struct error err = ERROR_INIT;
	struct pull_result g;
	char all[200] = "", id[SHARE_ID_SIZE];
	struct push_result p;
	bool deleted;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	p = push(&h->a, "one", "Base_1.x");
	push(&h->a, "one", "other");
	assert_int_equal(remote_each_name(h->b.r, count_name, all, NULL), 0);
	assert_string_equal(all, "Base_1.x other ");
	assert_int_equal(remote_remove(h->b.r, "other", &deleted, &err), 0);
	assert_false(deleted);
	assert_int_equal(remote_remove(h->b.r, "other", &deleted, &err), -ENOENT);
	assert_int_equal(remote_resolve(h->b.r, "Base_1.x", &rec, &err), 0);
	share_record_fini(&rec);
	assert_int_equal(remote_remove(h->b.r, "Base_1.x", &deleted, &err), 0);
	assert_true(deleted);
	share_id_text(&p.id, id);
	assert_int_equal(remote_resolve(h->a.r, id, &rec, &err), -ENOENT);
	assert_int_equal(pull_snapshot(h->b.s, h->b.r, "Base_1.x", &unnamed, NULL, &g, &err),
			 -ENOENT);
	all[0] = '\0';
	assert_int_equal(remote_each_name(h->b.r, count_name, all, NULL), 0);
	assert_string_equal(all, "");
	/* It can be pushed again, as a new one. */
	assert_false(push(&h->a, "one", "again").existed);
	pull(&h->b, "again", "again");
	assert_same_tree(&h->a, "one", &h->b, "again");
	/* By id, its names go as well. */
	assert_int_equal(remote_resolve(h->b.r, "again", &rec, &err), 0);
	share_id_text(&rec.id, id);
	share_record_fini(&rec);
	assert_int_equal(remote_remove(h->a.r, id, &deleted, &err), 0);
	assert_int_equal(remote_resolve(h->b.r, "again", &rec, &err), -ENOENT);
}

static enum share_state state_of(struct host *h, const struct share_id *id)
{
	struct share_record rec;

	assert_int_equal(remote_read_record(h->r, id, &rec, NULL), 0);
	share_record_fini(&rec);
	return rec.state;
}

static void what_is_being_deleted_is_pushed_anew(void **state)
{
	const struct push_options only_new = { .name = "three", .only_new = true };
	struct hosts *h = *state;
	struct push_result first, second, third;
	struct error err = ERROR_INIT;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	first = push(&h->a, "one", "one");
	assert_int_equal(remote_mark_gone(h->b.r, &first.id, &err), 0);
	second = push(&h->a, "one", "two");
	assert_false(second.existed);
	assert_int_equal(second.chunks, 0); /* they are there */
	assert_false(share_id_equal(&first.id, &second.id));
	assert_int_equal(state_of(&h->b, &first.id), SHARE_READY); /* it has a name */
	assert_true(push(&h->a, "one", "two").existed);
	assert_int_equal(remote_mark_gone(h->b.r, &second.id, &err), 0);
	assert_int_equal(push_snapshot(h->a.s, h->a.r, "one", &only_new, NULL, &third, &err), 0);
	assert_false(share_id_equal(&second.id, &third.id));
	/* Who was about to delete it finds no name. */
	assert_int_equal(remote_delete_unnamed(h->b.r, &second.id, &err), 1);
	assert_int_equal(remote_delete_unnamed(h->b.r, &third.id, &err), 1);
	for (int i = 0; i < 3; i++)
		pull(&h->b, ((const char *[]){ "one", "two", "three" })[i], NULL);
}

/* Else nobody would ever delete it: it has no name, and gets none. */
static void what_was_spared_for_a_name_that_moved_on_is_deleted(void **state)
{
	struct hosts *h = *state;
	struct push_result first, second;
	struct error err = ERROR_INIT;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	first = push(&h->a, "one", NULL);
	/* Who deletes it sees the name, and leaves the rest to who gives that. */
	assert_int_equal(remote_mark_gone(h->b.r, &first.id, &err), 0);
	second = push(&h->a, "one", "one");
	assert_false(share_id_equal(&first.id, &second.id));
	assert_int_equal(state_of(&h->b, &first.id), SHARE_DELETED);
	assert_int_equal(state_of(&h->b, &second.id), SHARE_READY);
	pull(&h->b, "one", "one");
	assert_whole(&h->b);
}

/* Whose containers a collection has deleted, too. */
static void a_deleted_snapshot_is_called_so_when_it_is_empty(void **state)
{
	struct hosts *h = *state;
	struct pull_options lazy = { .lazy = true };
	char packs[96], away[96];
	struct error err = ERROR_INIT;
	struct push_result p;
	struct pull_result g;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	p = push(&h->a, "one", "one");
	bury(&h->b, &p.id);
	snprintf(packs, sizeof(packs), "%s/pack", h->bucket.path);
	snprintf(away, sizeof(away), "%s/away", h->bucket.path);
	assert_int_equal(rename(packs, away), 0);
	assert_int_equal(lazy_index_open(h->b.s->dir_fd, &lazy.index, &err), 0);
	assert_int_equal(pull_snapshot(h->b.s, h->b.r, "one", &lazy, NULL, &g, &err), -ENOENT);
	if (!strstr(err.msg, "the name stands for a snapshot that was deleted"))
		fail_msg("%s", error_text(&err));
	lazy_index_free(lazy.index);
}

static void note_named_problem(void *arg, const char *key, const char *problem)
{
	snprintf(arg, 200, "%s: %s", key, problem);
}

static void a_name_of_a_deleted_snapshot_is_noticed(void **state)
{
	struct hosts *h = *state;
	struct share_verify_result v;
	struct error err = ERROR_INIT;
	struct pull_options lazy = { .lazy = true };
	struct pull_result g;
	char found[200] = "";
	struct push_result p;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	p = push(&h->a, "one", "one");
	assert_int_equal(share_verify_run(h->b.r, false, NULL, note_named_problem, found, &v, &err),
			 0);
	assert_int_equal(v.damaged, 0);
	bury(&h->b, &p.id);
	assert_int_equal(share_verify_run(h->b.r, false, NULL, note_named_problem, found, &v, &err),
			 0);
	assert_int_equal(v.damaged, 1);
	assert_non_null(strstr(found, "name/one: "));
	/* Nothing is left there that may go; what is still there can be fetched. */
	assert_int_equal(lazy_index_open(h->b.s->dir_fd, &lazy.index, &err), 0);
	assert_int_equal(pull_snapshot(h->b.s, h->b.r, "one", &lazy, NULL, &g, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "was deleted"));
	lazy_index_free(lazy.index);
	pull(&h->b, "one", "one");
	assert_whole(&h->b);
}

/* One name that nobody can read hides nothing else; but what it leads to may not be deleted. */
static void a_damaged_name_is_noticed(void **state)
{
	struct hosts *h = *state;
	struct share_verify_result v;
	char found[200] = "", key[SHARE_KEY_SIZE];
	struct error err = ERROR_INIT;
	struct push_result p;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	push(&h->a, "one", "one");
	p = push(&h->a, "one", "two");
	snprintf(key, sizeof(key), "name/one/%016llx", (unsigned long long)(UINT64_MAX - 1));
	assert_int_equal(count_objects(h, key), 1);
	bucket_put(h->bucket.os, key, "garbage");
	assert_int_equal(share_verify_run(h->b.r, true, NULL, note_named_problem, found, &v, &err),
			 0);
	assert_int_equal(v.damaged, 1);
	assert_non_null(strstr(found, key));
	assert_true(v.read_packs > 0);
	assert_int_equal(remote_delete_unnamed(h->b.r, &p.id, &err), -EBADMSG);
}

/* Every byte of every pack matters, or is noticed. */
static void damage_is_noticed_and_kept_nowhere(void **state)
{
	struct hosts *h = *state;
	struct pull_result g;
	struct error err = ERROR_INIT;
	char path[200], id[SHARE_ID_SIZE];
	struct push_result p;
	long size;
	FILE *f;

	make_files(h, "d", 2, 1);
	take(h, &h->a, "d", "one", NULL);
	p = push(&h->a, "one", "one");
	assert_int_equal(p.packs, 1);
	share_id_text(&p.id, id);
	snprintf(path, sizeof(path), "%s/pack/%.2s/%s-0", h->bucket.path, id, id);
	f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fseek(f, 0, SEEK_END), 0);
	size = ftell(f);
	for (long at = 64; at < size; at += MAX(size / 50, 1)) {
		int byte, rc;

		assert_int_equal(fseek(f, at, SEEK_SET), 0);
		byte = fgetc(f);
		assert_int_equal(fseek(f, at, SEEK_SET), 0);
		fputc(byte ^ 4, f);
		fflush(f);
		rc = pull_snapshot(h->b.s, h->b.r, "one", &as_one, NULL, &g, &err);
		assert_true(rc == -EBADMSG || rc == -ENOTSUP);
		assert_whole(&h->b); /* what came before it is collected */
		assert_int_equal(fseek(f, at, SEEK_SET), 0);
		fputc(byte, f);
		fflush(f);
	}
	fclose(f);
	pull(&h->b, "one", "one");
	assert_same_tree(&h->a, "one", &h->b, "one");
	assert_whole(&h->b);
}

static void nothing_refers_to_a_snapshot_that_is_gone(void **state)
{
	struct hosts *h = *state;
	char local[SNAPSHOT_ID_SIZE];
	struct push_result p;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	p = push(&h->a, "one", "one");
	pull(&h->b, "one", "one");
	assert_int_equal(share_ids_from(h->b.s->kv, remote_uuid(h->b.r), &p.id, local), 0);
	assert_int_equal(snapshots_delete(h->b.s->snapshots, "one", NULL), 0);
	assert_false(pull(&h->b, "one", "one").existed);
	assert_same_tree(&h->a, "one", &h->b, "one");
	assert_whole(&h->b);
}

static void a_name_that_is_taken_is_refused(void **state)
{
	struct hosts *h = *state;
	struct pull_result g;
	struct error err = ERROR_INIT;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "one", NULL);
	push(&h->a, "one", "one");
	make_files(h, "d", 3, 2);
	take(h, &h->b, "d", "one", NULL);
	assert_int_equal(pull_snapshot(h->b.s, h->b.r, "one", &as_one, NULL, &g, &err), -EEXIST);
	assert_false(pull(&h->b, "one", "two").existed);
	assert_same_tree(&h->a, "one", &h->b, "two");
}

static void a_name_moves_between_snapshots_of_one_bucket(void **state)
{
	const struct pull_options same = { .same_name = true, .move_name = true };
	struct hosts *h = *state;
	struct pull_result first, second, g;
	struct error err = ERROR_INIT;
	struct snapshot s;

	make_files(h, "d", 3, 1);
	take(h, &h->a, "d", "old", NULL);
	push(&h->a, "old", "one");
	assert_int_equal(pull_snapshot(h->b.s, h->b.r, "one", &same, NULL, &first, &err), 0);
	assert_string_equal(first.snapshot.name, "one");
	assert_int_equal(first.snapshot.ttl_seconds, 0);
	make_files(h, "d", 3, 2);
	take(h, &h->a, "d", "new", NULL);
	push(&h->a, "new", "one");
	assert_int_equal(pull_snapshot(h->b.s, h->b.r, "one", &same, NULL, &second, &err), 0);
	assert_string_equal(second.snapshot.name, "one");
	assert_string_not_equal(second.snapshot.id, first.snapshot.id);
	assert_same_tree(&h->a, "new", &h->b, "one");
	assert_int_equal(snapshots_get(h->b.s->snapshots, first.snapshot.id, &s, &err), 0);
	assert_string_equal(s.name, "");
	assert_same_tree(&h->a, "old", &h->b, s.id);
	snapshot_fini(&s);
	snapshot_fini(&first.snapshot);
	snapshot_fini(&second.snapshot);

	/* One that the bucket does not have keeps its name, and nothing is fetched. */
	assert_int_equal(snapshots_delete(h->b.s->snapshots, "one", NULL), 0);
	take(h, &h->b, "d", "mine", NULL);
	assert_int_equal(snapshots_rename(h->b.s->snapshots, "mine", "one", NULL), 0);
	assert_int_equal(pull_snapshot(h->b.s, h->b.r, "one", &same, NULL, &g, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "--name"));
	assert_int_equal(g.bytes, 0);
	assert_whole(&h->b);
}

static int count_two(void *arg, const char *name, const struct share_record *rec)
{
	(void)name, (void)rec;
	return ++*(unsigned *)arg == 2;
}

static void a_list_ends_when_it_is_told_to(void **state)
{
	struct hosts *h = *state;
	char name[16];
	unsigned seen = 0;

	make_files(h, "d", 1, 1);
	take(h, &h->a, "d", "one", NULL);
	for (int i = 0; i < 34; i++) {
		snprintf(name, sizeof(name), "name-%02d", i);
		push(&h->a, "one", name);
	}
	assert_int_equal(remote_each_name(h->b.r, count_two, &seen, NULL), 1);
	assert_int_equal(seen, 2);
}

static bool cancel_late(void *arg)
{
	return ++*(unsigned *)arg > 3;
}

static void what_is_cancelled_leaves_no_trace(void **state)
{
	struct hosts *h = *state;
	const struct push_options opt = { .name = "one" };
	unsigned asked = 0;
	struct progress p = { .cancelled = cancel_late, .arg = &asked };
	struct push_result res;
	struct pull_result g;
	struct share_record rec;
	struct error err = ERROR_INIT;

	make_files(h, "d", 400, 1);
	take(h, &h->a, "d", "one", NULL);
	assert_int_equal(push_snapshot(h->a.s, h->a.r, "one", &opt, &p, &res, &err), -ECANCELED);
	assert_int_equal(remote_resolve(h->b.r, "one", &rec, &err), -ENOENT);
	push(&h->a, "one", "one");
	asked = 0;
	assert_int_equal(pull_snapshot(h->b.s, h->b.r, "one", &as_one, &p, &g, &err), -ECANCELED);
	assert_int_equal(snapshots_get(h->b.s->snapshots, "one", &g.snapshot, NULL), -ENOENT);
	pull(&h->b, "one", "one");
	assert_whole(&h->b);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, hosts_setup, hosts_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_snapshot_travels),
		TEST(an_id_is_a_reference),
		TEST(a_child_carries_what_is_new),
		TEST(a_long_line_stays_readable),
		TEST(content_that_is_there_is_not_sent),
		TEST(twice_is_once),
		TEST(names_move),
		TEST(names_are_listed_and_removed),
		TEST(what_is_being_deleted_is_pushed_anew),
		TEST(what_was_spared_for_a_name_that_moved_on_is_deleted),
		TEST(a_name_of_a_deleted_snapshot_is_noticed),
		TEST(a_deleted_snapshot_is_called_so_when_it_is_empty),
		TEST(a_damaged_name_is_noticed),
		TEST(damage_is_noticed_and_kept_nowhere),
		TEST(nothing_refers_to_a_snapshot_that_is_gone),
		TEST(a_name_that_is_taken_is_refused),
		TEST(a_name_moves_between_snapshots_of_one_bucket),
		TEST(a_list_ends_when_it_is_told_to),
		TEST(what_is_cancelled_leaves_no_trace),
		ENCRYPTED(a_snapshot_travels, hosts_setup, hosts_teardown),
		ENCRYPTED(a_long_line_stays_readable, hosts_setup, hosts_teardown),
		ENCRYPTED(names_move, hosts_setup, hosts_teardown),
		ENCRYPTED(damage_is_noticed_and_kept_nowhere, hosts_setup, hosts_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
