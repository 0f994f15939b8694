/* A permanent bucket: what was put there stays, under its name. */
#include "tests/unit/share_fixture.h"

#include "store/share/collect.h"
#include "store/share/publish.h"
#include "store/share/share_verify.h"

#define KEY "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456"

static int permanent_hosts_setup(void **state)
{
	bucket_permanent = true;
	return hosts_setup(state);
}

static int encrypted_permanent_hosts_setup(void **state)
{
	bucket_encrypted = true;
	return permanent_hosts_setup(state);
}

/* Host A has "one", which is in the bucket under that name, and "two". */
static struct push_result two_of_which_one_is_there(struct hosts *h)
{
	make_files(h, "d", 10, 1);
	take(h, &h->a, "d", "one", NULL);
	make_files(h, "d", 3, 2);
	take(h, &h->a, "d", "two", "one");
	return push(&h->a, "one", "one");
}

static void assert_stands_for(struct hosts *h, const char *name, const struct share_id *id)
{
	struct share_record rec;

	assert_int_equal(remote_resolve(h->b.r, name, &rec, NULL), 0);
	assert_true(share_id_equal(&rec.id, id));
	share_record_fini(&rec);
}

static void nothing_is_deleted(void **state)
{
	struct collect_options opt = COLLECT_DEFAULTS;
	struct hosts *h = *state;
	struct collect_result c;
	struct push_result p = two_of_which_one_is_there(h);
	struct error err = ERROR_INIT;
	char id[SHARE_ID_SIZE];
	bool deleted;

	assert_true(remote_is_permanent(h->b.r));
	share_id_text(&p.id, id);
	assert_int_equal(remote_remove(h->b.r, "one", &deleted, &err), -EPERM);
	assert_non_null(strstr(err.msg, "is permanent"));
	assert_int_equal(remote_remove(h->b.r, id, &deleted, NULL), -EPERM);
	assert_int_equal(remote_set_name(h->b.r, "one", NULL, false, NULL), -EPERM);
	assert_int_equal(remote_delete_unnamed(h->b.r, &p.id, NULL), -EPERM);
	assert_stands_for(h, "one", &p.id);
	/* Nor is one without a name. */
	p = push(&h->a, "two", NULL);
	share_id_text(&p.id, id);
	assert_int_equal(remote_remove(h->b.r, id, &deleted, NULL), -EPERM);
	/* Garbage stays, too. */
	bucket_put(remote_objects(h->b.r), "pack/01/01000000000000000000000000000000-0", "garbage");
	opt.grace_s = 0;
	assert_int_equal(collect_run(h->b.r, &opt, NULL, &c, &err), -EPERM);
	assert_int_equal(count_objects(h, "gc/"), 0);
	opt.dry_run = true;
	assert_int_equal(collect_run(h->b.r, &opt, NULL, &c, NULL), 0);
	assert_int_equal(c.garbage_packs, 1);
	assert_int_equal(count_objects(h, "pack/"), 3);
}

static void names_stay_with_their_snapshots(void **state)
{
	const struct push_options as_one = { .name = "one" };
	const struct push_options only_new = { .name = "one", .only_new = true };
	struct hosts *h = *state;
	struct push_result p = two_of_which_one_is_there(h), q;

	assert_int_equal(push_snapshot(h->a.s, h->a.r, "two", &as_one, NULL, &q, NULL), -EPERM);
	assert_int_equal(push_snapshot(h->a.s, h->a.r, "two", &only_new, NULL, &q, NULL), -EEXIST);
	assert_stands_for(h, "one", &p.id);
	/* What is new is welcome, and what is there already no news. */
	q = push(&h->a, "two", "two");
	assert_stands_for(h, "two", &q.id);
	assert_true(push(&h->a, "one", "one").existed);
	push(&h->a, "one", "other");
	assert_stands_for(h, "other", &p.id);
	pull(&h->b, "two", "two");
	assert_same_tree(&h->a, "two", &h->b, "two");
}

static int set_image(struct hosts *h, const char *id, bool replace, struct push_result *out,
		     struct share_record *won)
{
	const struct publish_image image = { .key = KEY, .local = id, .replace = replace };

	return publish_image(h->a.s, h->a.r, &image, out, won, NULL);
}

static void publishing_gives_way(void **state)
{
	struct hosts *h = *state;
	struct push_result p = two_of_which_one_is_there(h), q;
	struct share_record won;
	struct snapshot s;
	char one[SNAPSHOT_ID_SIZE], two[SNAPSHOT_ID_SIZE];
	bool taken;

	assert_int_equal(snapshots_get(h->a.s->snapshots, "two", &s, NULL), 0);
	strcpy(two, s.id);
	snapshot_fini(&s);
	assert_int_equal(snapshots_get(h->a.s->snapshots, "one", &s, NULL), 0);
	strcpy(one, s.id);
	/* "two" takes the name of "one" on this host. */
	snapshot_fini(&s);
	assert_int_equal(snapshots_rename(h->a.s->snapshots, one, "first", NULL), 0);
	assert_int_equal(snapshots_rename(h->a.s->snapshots, two, "one", NULL), 0);
	assert_int_equal(publish_snapshot(h->a.s, h->a.r, two, NULL, &q, &taken, NULL), 0);
	assert_true(taken);
	assert_stands_for(h, "one", &p.id);
	/* So with images. */
	assert_int_equal(set_image(h, one, false, &q, &won), 0);
	assert_int_equal(set_image(h, two, true, &q, &won), 0);
	assert_int_equal(set_image(h, two, false, &q, &won), 1);
	assert_true(share_id_equal(&won.id, &p.id));
	share_record_fini(&won);
	assert_int_equal(remote_read_record(h->a.r, &q.id, &won, NULL), 0);
	assert_int_equal(won.state, SHARE_READY);
	share_record_fini(&won);
}

static void what_is_damaged_is_not_replaced(void **state)
{
	const struct push_options repair = { .name = "one", .repair = true };
	struct hosts *h = *state;
	struct push_result p = two_of_which_one_is_there(h), q;
	struct share_record rec;
	char key[SHARE_KEY_SIZE];

	assert_int_equal(push_snapshot(h->a.s, h->a.r, "one", &repair, NULL, &q, NULL), 0);
	assert_int_equal(remote_resolve(h->a.r, "one", &rec, NULL), 0);
	share_key_pack(&rec.meta[0], key);
	share_record_fini(&rec);
	assert_int_equal(object_delete(h->bucket.os, OBJECT_CONTROL, key, NULL), 0);
	assert_int_equal(push_snapshot(h->a.s, h->a.r, "one", &repair, NULL, &q, NULL), -EPERM);
	assert_int_equal(count_objects(h, "snap/"), 1); /* and none is made for it */
	assert_stands_for(h, "one", &p.id);
}

/* Open it as a host does that says so, or not. */
static int open_as(const struct hosts *h, bool permanent, const char *why)
{
	struct remote_config c;
	struct error err = ERROR_INIT;
	struct remote *r = NULL;
	bool was = bucket_permanent;
	int rc;

	bucket_permanent = permanent;
	c = bucket_config(&h->bucket);
	bucket_permanent = was;
	rc = remote_open(&c, true, &r, &err);
	if (rc < 0 && !strstr(err.msg, why))
		fail_msg("%s", err.msg);
	if (rc == 0)
		assert_true(remote_is_permanent(r) == was);
	remote_close(r);
	remote_config_fini(&c);
	return rc;
}

static void who_does_not_say_so_learns_it(void **state)
{
	assert_int_equal(open_as(*state, false, ""), 0);
}

static void a_bucket_does_not_become_one(void **state)
{
	assert_int_equal(open_as(*state, true, "only a new one can be"), -EACCES);
	assert_int_equal(open_as(*state, false, ""), 0);
}

/* Programs that do not know the feature only read; and a key is bound to it. */
static void the_format_says_so(void **state)
{
	struct hosts *h = *state;
	char *format = bucket_get(h->bucket.os, "format"), edited[1024];
	char *at = strstr(format, "\"?permanent\"");

	assert_non_null(at);
	at += strlen("\"?permanent\"");
	if (!bucket_encrypted) {
		free(format);
		return;
	}
	snprintf(edited, sizeof(edited), "%.*s%s",
		 (int)(at - format) - (int)strlen("\"?permanent\""), format, at + 1);
	bucket_put(h->bucket.os, "format", edited);
	assert_int_equal(open_as(h, false, "was changed"), -EACCES);
	bucket_put(h->bucket.os, "format", format);
	free(format);
}

#define PERMANENT(fn) cmocka_unit_test_setup_teardown(fn, permanent_hosts_setup, hosts_teardown)
#define BOTH(fn) PERMANENT(fn), ENCRYPTED(fn, permanent_hosts_setup, hosts_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(nothing_is_deleted),
		PERMANENT(names_stay_with_their_snapshots),
		PERMANENT(publishing_gives_way),
		PERMANENT(what_is_damaged_is_not_replaced),
		BOTH(who_does_not_say_so_learns_it),
		cmocka_unit_test_setup_teardown(a_bucket_does_not_become_one, hosts_setup,
						hosts_teardown),
		BOTH(the_format_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
