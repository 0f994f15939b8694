/* A bucket that lost or changed bytes, and a host that still has them. */
#include "tests/unit/share_fixture.h"

#include "store/share/repair.h"
#include "store/share/share_verify.h"

static void ignore_problem(void *arg, const char *key, const char *problem)
{
	(void)arg;
	(void)key;
	(void)problem;
}

static uint64_t damage_of(struct host *h)
{
	struct share_verify_result res;
	struct error err = ERROR_INIT;

	if (share_verify_run(h->r, true, NULL, ignore_problem, NULL, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	return res.damaged;
}

static struct push_result repair(struct host *h, const char *snapshot, const char *name)
{
	const struct push_options opt = { .name = name, .repair = true };
	struct push_result res = { 0 };
	struct error err = ERROR_INIT;

	if (push_snapshot(h->s, h->r, snapshot, &opt, NULL, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	return res;
}

static struct share_record record_of(struct host *h, const char *name)
{
	struct share_record rec;

	assert_int_equal(remote_resolve(h->r, name, &rec, NULL), 0);
	return rec;
}

/* The path of the first pack of the record that wrote it itself. */
static void own_pack(const struct hosts *h, const struct share_record *rec, char *path, size_t size)
{
	struct share_packs_cursor c = { 0 };
	char key[SHARE_KEY_SIZE];
	struct pack_id id;

	while (share_packs_next(&rec->packs, &c, &id))
		if (share_id_equal(&id.push, &rec->id))
			break;
	share_key_pack(&id, key);
	snprintf(path, size, "%s/%s", h->bucket.path, key);
}

static void flip_byte(const char *path, long at)
{
	FILE *f = fopen(path, "r+");
	int c;

	assert_non_null(f);
	assert_int_equal(fseek(f, at, SEEK_SET), 0);
	c = fgetc(f);
	assert_int_equal(fseek(f, at, SEEK_SET), 0);
	assert_int_equal(fputc(c ^ 1, f), c ^ 1);
	assert_int_equal(fclose(f), 0);
}

static void damaged_and_lost_packs_are_sent_anew(void **state)
{
	struct hosts *h = *state;
	struct share_record one, two;
	struct push_result res;
	char path[700];

	make_files(h, "d", 100, 1);
	take(h, &h->a, "d", "one", NULL);
	push(&h->a, "one", "one");
	make_files(h, "d", 10, 2);
	take(h, &h->a, "d", "two", "one");
	push(&h->a, "two", "two");
	push(&h->a, "two", "also");
	one = record_of(&h->a, "one");
	two = record_of(&h->a, "two");
	own_pack(h, &one, path, sizeof(path));
	flip_byte(path, 100000);
	assert_true(damage_of(&h->a) > 0);

	/* Only what was in the bad pack travels again; the first one is repaired from the second.
	 */
	assert_true(push(&h->a, "two", "two").existed);
	res = repair(&h->a, "two", "two");
	assert_false(res.existed);
	assert_int_equal(res.damaged, 1);
	assert_in_range(res.chunks, 90, 100);
	assert_int_equal(repair(&h->a, "one", "one").damaged, 1);
	assert_int_equal(damage_of(&h->a), 0);
	share_record_fini(&one);
	assert_int_equal(remote_read_record(h->a.r, &two.id, &one, NULL), 0);
	assert_int_equal(one.state, SHARE_DELETED);
	pull(&h->b, "also", "also"); /* the other name moved, too */
	pull(&h->b, "one", "one");
	assert_same_tree(&h->a, "two", &h->b, "also");
	assert_same_tree(&h->a, "one", &h->b, "one");
	assert_whole(&h->b);

	share_record_fini(&two);
	two = record_of(&h->a, "two");
	own_pack(h, &two, path, sizeof(path));
	assert_int_equal(unlink(path), 0);
	assert_true(damage_of(&h->a) > 0);
	assert_true(repair(&h->b, "also", "also").damaged >= 1); /* by whoever has it */
	repair(&h->a, "one", "one");
	assert_int_equal(damage_of(&h->b), 0);
	share_record_fini(&one);
	share_record_fini(&two);
}

static void what_is_whole_stays(void **state)
{
	struct hosts *h = *state;
	struct push_result first, again;

	make_files(h, "d", 5, 1);
	take(h, &h->a, "d", "one", NULL);
	first = repair(&h->a, "one", "one");
	assert_false(first.existed);
	again = repair(&h->a, "one", "one");
	assert_true(again.existed);
	assert_int_equal(again.damaged, 0);
	assert_true(share_id_equal(&first.id, &again.id));
	assert_int_equal(damage_of(&h->a), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, hosts_setup, hosts_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(damaged_and_lost_packs_are_sent_anew),
		TEST(what_is_whole_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
