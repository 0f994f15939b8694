/* Snapshots that borrow packs of another bucket, a permanent one. */
#include "tests/unit/share_fixture.h"

#include "store/share/collect.h"
#include "store/share/share_verify.h"

#define KEY "echo 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

struct pair {
	struct hosts h;		 /* with a bucket of their own */
	struct bucket templates; /* another, permanent */
};

static bool encrypted;

static struct remote *open_bucket(const struct bucket *b, const char *name, bool permanent)
{
	struct remote_config c = { .name = "", .permanent = permanent };
	struct error err = ERROR_INIT;
	struct remote *r;

	snprintf(c.name, sizeof(c.name), "%s", name);
	assert_true(asprintf(&c.url, "file://%s", b->path) > 0);
	c.alternate = permanent ? NULL : strdup("templates");
	c.key_command = encrypted ? strdup(permanent ? KEY : KEY " | rev") : NULL;
	if (remote_open(&c, true, &r, &err) != 0)
		fail_msg("%s", error_text(&err));
	remote_config_fini(&c);
	return r;
}

static void open_host(const struct pair *p, struct host *h, const char *name)
{
	struct error err = ERROR_INIT;
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", p->h.bucket.dir, name);
	if (store_open(path, NULL, &h->s, &err) != 0)
		fail_msg("%s", error_text(&err));
	h->r = open_bucket(&p->h.bucket, "main", false);
}

static void borrow(const struct pair *p, struct host *h)
{
	const struct remote_config c = { .url = (char *)"file:///templates" };
	struct remote *alternate = open_bucket(&p->templates, "templates", true);
	struct error err = ERROR_INIT;

	if (remote_set_alternate(h->r, alternate, &c, &err) != 0)
		fail_msg("%s", error_text(&err));
}

/* The template is pushed by one host, and the other has it. */
static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct host t;

	assert_non_null(p);
	bucket_init(&p->h.bucket);
	bucket_init(&p->templates);
	open_host(p, &p->h.a, "a");
	open_host(p, &p->h.b, "b");
	t = (struct host){ p->h.a.s, open_bucket(&p->templates, "templates", true) };
	make_files(&p->h, "d", 60, 1);
	take(&p->h, &t, "d", "base", NULL);
	push(&t, "base", "base");
	t.s = p->h.b.s;
	pull(&t, "base", "base");
	remote_close(t.r);
	*state = p;
	return 0;
}

/* Each bucket has a key of its own. */
static int encrypted_setup(void **state)
{
	encrypted = true;
	return setup(state);
}

static int teardown(void **state)
{
	struct pair *p = *state;

	encrypted = false;
	host_close(&p->h.a);
	host_close(&p->h.b);
	bucket_fini(&p->h.bucket);
	bucket_fini(&p->templates);
	free(p);
	return 0;
}

static struct push_result push_child(struct pair *p)
{
	borrow(p, &p->h.b);
	make_files(&p->h, "d", 61, 1);
	take(&p->h, &p->h.b, "d", "child", "base");
	return push(&p->h.b, "child", "child");
}

static void tell(void *arg, const char *key, const char *problem)
{
	(void)key;
	snprintf(arg, 400, "%s", problem);
}

/* *out_bad: what is damaged, or was not checked. */
static int verify(struct host *h, uint64_t *out_bad, char why[400])
{
	struct share_verify_result res;
	int rc = share_verify_run(h->r, true, NULL, tell, why, &res, NULL);

	*out_bad = res.damaged + res.unchecked;
	return rc;
}

static int try_pull(struct host *h, const char *name, struct error *err)
{
	const struct pull_options opt = { .name = name };
	struct pull_result res;
	int rc = pull_snapshot(h->s, h->r, name, &opt, NULL, &res, err);

	if (rc == 0)
		snapshot_fini(&res.snapshot);
	return rc;
}

static void a_child_of_a_template_pushes_only_its_own(void **state)
{
	struct pair *p = *state;
	struct push_result res = push_child(p);
	struct error err = ERROR_INIT;
	struct share_record rec;
	uint64_t damaged;
	char why[400] = "", *format;

	assert_int_equal(res.chunks, 1);
	assert_true(res.bytes < 40000);
	assert_int_equal(remote_resolve(p->h.b.r, "child", &rec, NULL), 0);
	assert_string_equal(rec.alternate.bucket, remote_uuid(remote_alternate(p->h.b.r)));
	assert_string_equal(rec.alternate.url, "file:///templates");
	assert_true(share_id_is_none(&rec.snapshot.parent));
	format = bucket_get(p->h.bucket.os, "format");
	assert_non_null(strstr(format, "\"features\":[\"alternates\""));
	free(format);
	/* Who has not the alternate learns which bucket that is. */
	assert_int_equal(try_pull(&p->h.a, "child", &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, rec.alternate.bucket));
	assert_non_null(strstr(err.msg, "file:///templates"));
	assert_int_equal(verify(&p->h.a, &damaged, why), 0);
	assert_int_equal(damaged, 1);
	assert_non_null(strstr(why, rec.alternate.bucket));
	borrow(p, &p->h.a);
	assert_int_equal(verify(&p->h.a, &damaged, why), 0);
	assert_int_equal(damaged, 0);
	assert_int_equal(try_pull(&p->h.a, "child", NULL), 0);
	assert_same_tree(&p->h.a, "child", &p->h.b, "child");
	share_record_fini(&rec);
}

static void what_borrows_is_borrowed_of_again(void **state)
{
	struct pair *p = *state;
	struct share_record rec;
	struct host fresh;

	push_child(p);
	make_files(&p->h, "d", 62, 1);
	take(&p->h, &p->h.b, "d", "grandchild", "child");
	assert_int_equal(push(&p->h.b, "grandchild", "grandchild").chunks, 1);
	assert_int_equal(remote_resolve(p->h.b.r, "grandchild", &rec, NULL), 0);
	assert_true(rec.alternate.bucket[0]);
	assert_false(share_id_is_none(&rec.snapshot.parent));
	share_record_fini(&rec);
	open_host(p, &fresh, "fresh");
	borrow(p, &fresh);
	pull(&fresh, "grandchild", "grandchild");
	assert_same_tree(&fresh, "grandchild", &p->h.b, "grandchild");
	/* The template itself has nothing that is to be pushed. */
	assert_int_equal(push(&p->h.b, "base", "base").packs, 0);
	pull(&fresh, "base", "base");
	assert_same_tree(&fresh, "base", &p->h.b, "base");
	host_close(&fresh);
}

static int count_one(void *arg, const struct object_entry *e)
{
	(void)e;
	++*(unsigned *)arg;
	return 0;
}

static unsigned count_packs(const struct bucket *b)
{
	unsigned n = 0;

	assert_int_equal(object_each(b->os, OBJECT_CONTROL, "pack/", count_one, &n, NULL), 0);
	return n;
}

static void a_collection_leaves_what_is_borrowed(void **state)
{
	const struct collect_options opt = { .free_s = COLLECT_FREE_S };
	struct pair *p = *state;
	struct collect_result c;
	uint64_t damaged;
	char why[400];
	bool deleted;

	push_child(p);
	make_files(&p->h, "few", 10, 1);
	take(&p->h, &p->h.b, "few", "few", "child");
	assert_int_equal(push(&p->h.b, "few", "few").chunks, 0);
	assert_int_equal(remote_remove(p->h.b.r, "child", &deleted, NULL), 0);
	assert_int_equal(collect_run(p->h.b.r, &opt, NULL, &c, NULL), 0);
	assert_int_equal(verify(&p->h.b, &damaged, why), 0);
	assert_int_equal(damaged, 0);
	assert_int_equal(remote_remove(p->h.b.r, "few", &deleted, NULL), 0);
	assert_int_equal(collect_run(p->h.b.r, &opt, NULL, &c, NULL), 0);
	assert_int_equal(count_packs(&p->h.bucket), 0);
	assert_int_equal(count_packs(&p->templates), 1);
}

/* What borrows cannot be read then, and nothing is deleted; all else works. */
static void an_alternate_that_is_away_is_said(void **state)
{
	const struct collect_options opt = { .free_s = COLLECT_FREE_S };
	struct pair *p = *state;
	struct error why = ERROR_INIT, err = ERROR_INIT;
	struct collect_result c;
	struct host fresh;

	push_child(p);
	make_files(&p->h, "own", 3, 7);
	take(&p->h, &p->h.a, "own", "own", NULL);
	push(&p->h.a, "own", "own");
	open_host(p, &fresh, "fresh");
	(void)!error_set(&why, -EIO, "it rests");
	assert_int_equal(remote_lack_alternate(fresh.r, &why, NULL), 0);
	assert_int_equal(try_pull(&fresh, "own", NULL), 0);
	assert_int_equal(try_pull(&fresh, "child", &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "it rests"));
	assert_int_equal(collect_run(fresh.r, &opt, NULL, &c, NULL), 0);
	assert_int_equal(c.deleted_packs, 0);
	host_close(&fresh);
}

/* What is the bucket's own is deleted, and pushed, without it. */
static void the_own_bucket_needs_no_lender(void **state)
{
	const struct collect_options opt = { .free_s = COLLECT_FREE_S };
	struct error why = ERROR_INIT, err = ERROR_INIT;
	struct pair *p = *state;
	struct collect_result c;
	struct host fresh;
	bool deleted;

	push_child(p);
	make_files(&p->h, "own", 3, 7);
	take(&p->h, &p->h.a, "own", "own", NULL);
	push(&p->h.a, "own", "own");
	assert_int_equal(remote_remove(p->h.a.r, "own", &deleted, NULL), 0);
	open_host(p, &fresh, "fresh");
	error_set(&why, -EIO, "it rests");
	assert_int_equal(remote_lack_alternate(fresh.r, &why, NULL), 0);
	if (collect_run(fresh.r, &opt, NULL, &c, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(c.deleted_packs, 1);
	take(&p->h, &fresh, "own", "own", NULL);
	assert_int_equal(push(&fresh, "own", "own").chunks, 3);
	host_close(&fresh);
}

/* All that such a snapshot may need of a pack stays, as its tree is not known. */
static void packs_of_what_borrows_are_looked_at_without_its_lender(void **state)
{
	const struct collect_options opt = { .free_s = COLLECT_FREE_S };
	struct error why = ERROR_INIT, err = ERROR_INIT;
	struct pair *p = *state;
	struct collect_result c;
	struct host fresh;
	uint64_t damaged;
	char text[400];
	bool deleted;

	borrow(p, &p->h.b);
	make_files(&p->h, "d", 100, 1);
	take(&p->h, &p->h.b, "d", "big", "base");
	assert_int_equal(push(&p->h.b, "big", "big").chunks, 40);
	make_files(&p->h, "few", 65, 1);
	take(&p->h, &p->h.b, "few", "few", "big");
	assert_int_equal(push(&p->h.b, "few", "few").chunks, 0);
	assert_int_equal(remote_remove(p->h.b.r, "big", &deleted, NULL), 0);
	open_host(p, &fresh, "fresh");
	error_set(&why, -EIO, "it rests");
	assert_int_equal(remote_lack_alternate(fresh.r, &why, NULL), 0);
	if (collect_run(fresh.r, &opt, NULL, &c, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(c.repacked.packs, 0);
	host_close(&fresh);
	/* With it, what is needed is known. */
	assert_int_equal(collect_run(p->h.b.r, &opt, NULL, &c, NULL), 0);
	assert_int_equal(c.repacked.packs, 1);
	assert_int_equal(verify(&p->h.b, &damaged, text), 0);
	assert_int_equal(damaged, 0);
}

/* Of two snapshots one borrows, of a bucket that answers no read of a pack. */
static void what_a_lender_keeps_back_is_not_checked(void **state)
{
	struct pair *p = *state;
	struct share_verify_result res;
	char why[400], key[SHARE_KEY_SIZE];
	struct share_record rec;

	push_child(p);
	make_files(&p->h, "own", 5, 77);
	take(&p->h, &p->h.b, "own", "own", NULL);
	assert_int_equal(push(&p->h.b, "own", "own").chunks, 5);
	assert_int_equal(share_verify_run(p->h.b.r, true, NULL, tell, why, &res, NULL), 0);
	assert_int_equal(res.snapshots, 2);
	assert_int_equal(res.unchecked + res.damaged, 0);
	remote_close(p->h.b.r);
	p->h.b.r = open_bucket(&p->h.bucket, "main", false);
	setenv("VARVE_FAULTS", "drop=1,under=pack/", 1);
	borrow(p, &p->h.b);
	unsetenv("VARVE_FAULTS");
	assert_int_equal(share_verify_run(p->h.b.r, true, NULL, tell, why, &res, NULL), 0);
	assert_int_equal(res.snapshots, 1);
	assert_int_equal(res.unchecked, 1);
	assert_int_equal(res.damaged, 0);
	assert_non_null(strstr(why, "not all of it was checked"));
	/* What is certainly the bucket's own is looked for. */
	assert_int_equal(remote_resolve(p->h.b.r, "child", &rec, NULL), 0);
	for (uint32_t i = 0; i < 3; i++) {
		const struct pack_id id = { .push = rec.id, .number = i };

		share_key_pack(&id, key);
		assert_int_equal(object_delete(p->h.bucket.os, OBJECT_DEMAND, key, NULL), 0);
	}
	share_record_fini(&rec);
	assert_int_equal(share_verify_run(p->h.b.r, true, NULL, tell, why, &res, NULL), 0);
	assert_int_equal(res.snapshots, 1);
	assert_true(res.damaged > 0);
}

/* A repair would take all that is borrowed for lost. */
static void what_borrows_is_not_repaired_without_its_lender(void **state)
{
	const struct push_options opt = { .repair = true };
	struct pair *p = *state;
	struct error why = ERROR_INIT, err = ERROR_INIT;
	struct push_result res;
	struct remote *r;

	push_child(p);
	r = p->h.b.r;
	p->h.b.r = open_bucket(&p->h.bucket, "main", false);
	assert_int_equal(push_snapshot(p->h.b.s, p->h.b.r, "child", &opt, NULL, &res, &err),
			 -ENOTSUP);
	error_set(&why, -EIO, "it rests");
	assert_int_equal(remote_lack_alternate(p->h.b.r, &why, NULL), 0);
	assert_int_equal(push_snapshot(p->h.b.s, p->h.b.r, "child", &opt, NULL, &res, &err),
			 -ENOTSUP);
	assert_non_null(strstr(err.msg, "it rests"));
	remote_close(p->h.b.r);
	p->h.b.r = r;
	assert_int_equal(push_snapshot(p->h.b.s, r, "child", &opt, NULL, &res, &err), 0);
	assert_int_equal(res.damaged, 0);
}

static void a_url_that_is_not_plain_is_not_told(void **state)
{
	struct pair *p = *state;
	const struct remote_config c = { .url = (char *)"file:///vorl\u00e4ufig" };
	struct remote *alternate = open_bucket(&p->templates, "templates", true);
	struct error err = ERROR_INIT;
	struct share_record rec;

	assert_int_equal(remote_set_alternate(p->h.b.r, alternate, &c, NULL), 0);
	make_files(&p->h, "d", 61, 1);
	take(&p->h, &p->h.b, "d", "child", "base");
	push(&p->h.b, "child", "child");
	assert_int_equal(remote_resolve(p->h.b.r, "child", &rec, NULL), 0);
	assert_true(rec.alternate.bucket[0]);
	assert_string_equal(rec.alternate.url, "");
	assert_int_equal(try_pull(&p->h.a, "child", &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, rec.alternate.bucket));
	share_record_fini(&rec);
}

/* A bucket where other hosts write over what is put, so often. */
struct contested {
	struct object_store base;
	unsigned left;
};

static void contested_submit(struct object_store *os, struct object_request *r)
{
	struct contested *x = CONTAINER_OF(os, struct contested, base);

	if (r->op == OBJECT_PUT && x->left) {
		x->left--;
		r->done(r);
		return;
	}
	object_submit(os->inner, r);
}

static void contested_close(struct object_store *os)
{
	object_store_close(os->inner);
}

static void a_feature_that_is_overwritten_is_set_again(void **state)
{
	static const struct object_store_ops ops = { .submit = contested_submit,
						     .close = contested_close };
	struct pair *p = *state;
	struct contested x = { .base = { .ops = &ops }, .left = 2 };
	struct error err = ERROR_INIT;
	struct remote *r;
	char *format;

	x.base.inner = bucket_open(p->h.bucket.path, false);
	assert_int_equal(remote_open_store("main", &x.base, &r, &err), 0);
	assert_int_equal(remote_need_moved(r, true, &err), 0);
	format = bucket_get(p->h.bucket.os, "format");
	assert_non_null(strstr(format, "\"features\":[\"moved\",\"moved-meta\"]"));
	free(format);
	remote_close(r);
}

/* Which only who has the bucket's own key can make. */
static void hooks_keep_their_names(void **state)
{
	struct pair *p = *state;
	const struct digest d = { { 1, 2, 3 } };
	struct digest before, after;

	assert_int_equal(remote_hook(p->h.a.r, &d, &before), 0);
	borrow(p, &p->h.a);
	assert_int_equal(remote_hook(p->h.a.r, &d, &after), 0);
	assert_true(digest_equal(&before, &after));
}

static void only_a_permanent_bucket_lends(void **state)
{
	struct pair *p = *state;
	const struct remote_config c = { .url = (char *)"file:///x" };
	struct error err = ERROR_INIT;

	assert_int_equal(remote_set_alternate(p->h.a.r, p->h.b.r, &c, &err), -EPERM);
	assert_non_null(strstr(err.msg, "not permanent"));
	struct remote *one = open_bucket(&p->templates, "one", true);
	struct remote *two = open_bucket(&p->templates, "two", true);
	assert_int_equal(remote_set_alternate(one, two, &c, &err), -EINVAL);
	remote_close(one);
	remote_close(two);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_child_of_a_template_pushes_only_its_own),
		ENCRYPTED(a_child_of_a_template_pushes_only_its_own, setup, teardown),
		TEST(what_borrows_is_borrowed_of_again),
		TEST(a_collection_leaves_what_is_borrowed),
		TEST(an_alternate_that_is_away_is_said),
		TEST(a_feature_that_is_overwritten_is_set_again),
		TEST(the_own_bucket_needs_no_lender),
		TEST(packs_of_what_borrows_are_looked_at_without_its_lender),
		TEST(what_a_lender_keeps_back_is_not_checked),
		TEST(what_borrows_is_not_repaired_without_its_lender),
		TEST(a_url_that_is_not_plain_is_not_told),
		ENCRYPTED(hooks_keep_their_names, setup, teardown),
		TEST(only_a_permanent_bucket_lends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
