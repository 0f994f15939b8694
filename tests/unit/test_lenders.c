/* Remotes that borrow of another one, as a daemon has them, while that comes and goes. */
#include "tests/unit/lazy_fixture.h"

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/bucket/object_alternate.h"
#include "store/bucket/object_fault.h"
#include "store/kv/meta.h"
#include "store/lazy/pins.h"

#define FILES 20 /* of the template; a child has one more */

static struct remote_config config_of(const struct lazy_host *l, const char *name, bool permanent,
				      const char *alternate)
{
	struct remote_config c = { .name = "", .permanent = permanent };

	snprintf(c.name, sizeof(c.name), "%s", name);
	assert_true(asprintf(&c.url, "file://%s/%s", l->h->bucket.dir,
			     permanent ? "templates" : "bucket") > 0);
	c.alternate = alternate ? strdup(alternate) : NULL;
	return c;
}

static void add(struct lazy_host *l, const char *name, bool permanent, const char *alternate)
{
	struct remote_config c = config_of(l, name, permanent, alternate);
	struct error err = ERROR_INIT;

	if (remotes_add(l->rs, &c, &err) != 0)
		fail_msg("%s", error_text(&err));
	remote_config_fini(&c);
}

static struct remote *open_lender(const struct lazy_host *l)
{
	struct remote_config c = config_of(l, "templates", true, NULL);
	struct error err = ERROR_INIT;
	struct remote *r;

	if (remote_open(&c, true, &r, &err) != 0)
		fail_msg("%s", error_text(&err));
	remote_config_fini(&c);
	return r;
}

static void borrow(const struct lazy_host *l, struct remote *r)
{
	const struct remote_config c = { .url = (char *)"file:///templates" };

	assert_int_equal(remote_set_alternate(r, open_lender(l), &c, NULL), 0);
}

/* Host a has pushed a child of a template, which b has lazily. */
static int setup(void **state)
{
	struct lazy_host *l;
	struct host t;

	lazy_setup(state);
	l = *state;
	t = (struct host){ l->h->a.s, open_lender(l) };
	make_files(l->h, "d", FILES, 1);
	take(l->h, &t, "d", "base", NULL);
	push(&t, "base", "base");
	remote_close(t.r);
	borrow(l, l->h->a.r);
	borrow(l, l->h->b.r);
	make_files(l->h, "d", FILES + 1, 1);
	take(l->h, &l->h->a, "d", "child", "base");
	assert_int_equal(push(&l->h->a, "child", "child").chunks, 1);
	pull_lazily(l, "child");
	assert_int_equal(remotes_remove(l->rs, "main", true, NULL), 0);
	add(l, "templates", true, NULL);
	add(l, "main", false, "templates");
	log_set_level(LOG_ERROR);
	return 0;
}

static void move(const struct lazy_host *l, const char *from, const char *to)
{
	char a[128], b[128];

	snprintf(a, sizeof(a), "%s/%s", l->h->bucket.dir, from);
	snprintf(b, sizeof(b), "%s/%s", l->h->bucket.dir, to);
	assert_int_equal(rename(a, b), 0);
}

static int read_child(struct lazy_host *l, unsigned number)
{
	return read_file(l, "child", "child", number);
}

/* Until it can be read. */
static void assert_comes(struct lazy_host *l, unsigned number)
{
	const int64_t from = monotonic_ms();
	int rc;

	while ((rc = read_child(l, number)) != 0) {
		if (monotonic_ms() - from > 60000)
			fail_msg("%s", strerror(-rc));
		usleep(50000);
	}
}

static void what_is_borrowed_comes_back_with_its_lender(void **state)
{
	struct lazy_host *l = *state;

	move(l, "templates", "away");
	assert_int_equal(read_child(l, 0), -EIO);
	assert_int_equal(read_child(l, FILES), 0);
	assert_int_equal(read_child(l, 19), -EIO);
	move(l, "away", "templates");
	assert_comes(l, 0);
	assert_comes(l, 19);
}

/* Without being opened anew. */
static void a_bucket_is_served_while_its_lender_is_away(void **state)
{
	struct lazy_host *l = *state;
	struct remote *r, *again;
	char gate[160], plan[200];
	int64_t from;

	snprintf(gate, sizeof(gate), "%s/gate", l->h->bucket.dir);
	snprintf(plan, sizeof(plan), "frozen=%s", gate);
	assert_int_equal(remotes_get(l->rs, "main", &r, NULL), 0);
	assert_non_null(remote_alternate(r));
	remotes_release(l->rs, r);
	move(l, "templates", "away");
	remotes_reopen(l->rs, "main");
	assert_int_equal(remotes_get(l->rs, "main", &r, NULL), 0);
	assert_true(remote_lacks_alternate(r, NULL));
	move(l, "away", "templates");
	/* A lender that does not answer is waited for by a thread of its own. */
	assert_int_equal(mknod(gate, S_IFREG | 0600, 0), 0);
	setenv("VARVE_FAULTS", plan, 1);
	from = monotonic_ms();
	while (monotonic_ms() - from < 2500) {
		const int64_t began = monotonic_ms();

		assert_int_equal(remotes_get(l->rs, "main", &again, NULL), 0);
		assert_ptr_equal(again, r);
		remotes_release(l->rs, again);
		assert_true(monotonic_ms() - began < 1000);
		usleep(50000);
	}
	assert_true(remote_lacks_alternate(r, NULL));
	unsetenv("VARVE_FAULTS");
	assert_int_equal(unlink(gate), 0);
	while (!remote_alternate(r)) {
		if (monotonic_ms() - from > 60000)
			fail_msg("the lender is not found again");
		assert_int_equal(remotes_get(l->rs, "main", &again, NULL), 0);
		remotes_release(l->rs, again);
		usleep(50000);
	}
	remotes_release(l->rs, r);
}

struct wanted_gets {
	const char *name;
	uint64_t n;
};

static int add_gets(void *arg, const char *name, const char *bucket, const struct object_counts *c)
{
	struct wanted_gets *w = arg;

	(void)bucket;
	if (strcmp(name, w->name) == 0)
		w->n += c->requests[OBJECT_GET];
	return 0;
}

static uint64_t gets_of(const struct lazy_host *l, const char *name)
{
	struct wanted_gets w = { .name = name };

	assert_int_equal(remotes_each_seen(l->rs, add_gets, &w), 0);
	return w.n;
}

static void what_is_borrowed_counts_as_the_lenders_traffic(void **state)
{
	struct lazy_host *l = *state;
	uint64_t first, lent;

	assert_int_equal(read_child(l, FILES), 0);
	first = gets_of(l, "templates");
	assert_int_equal(read_child(l, 0), 0);
	lent = gets_of(l, "templates");
	assert_true(lent > first);
	/* ... also when its connection is closed. */
	remotes_reopen(l->rs, "main");
	assert_true(gets_of(l, "templates") >= lent);
	assert_int_equal(remotes_remove(l->rs, "main", true, NULL), 0);
	assert_true(gets_of(l, "templates") >= lent);
}

/* Its credentials may be others. */
static void another_config_of_a_lender_reaches_its_borrowers(void **state)
{
	struct lazy_host *l = *state;
	struct remote_config c;
	struct remote *first, *second;

	assert_int_equal(remotes_get(l->rs, "main", &first, NULL), 0);
	assert_int_equal(remotes_config(l->rs, "templates", &c, NULL), 0);
	assert_int_equal(remotes_set(l->rs, &c, NULL), 0);
	assert_int_equal(remotes_get(l->rs, "main", &second, NULL), 0);
	assert_ptr_not_equal(first, second);
	remotes_release(l->rs, first);
	remotes_release(l->rs, second);
	remote_config_fini(&c);
}

static void what_is_borrowed_is_held_by_no_pin(void **state)
{
	struct lazy_host *l = *state;
	const struct pins_options po = { .remotes = l->rs, .index = l->ix, .no_thread = true };
	struct share_packs_cursor at = { 0 };
	unsigned own = 0, borrowed = 0;
	struct error err = ERROR_INIT;
	struct share_record rec;
	struct pins_held held;
	struct pack_id id;
	struct pins *pins;

	assert_int_equal(pins_open(&po, &pins, NULL), 0);
	if (pins_confirm(pins, remote_uuid(l->h->b.r), &held, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(remote_resolve(l->h->b.r, "child", &rec, NULL), 0);
	while (share_packs_next(&rec.packs, &at, &id)) {
		bool is_own = share_id_equal(&id.push, &rec.id);

		assert_int_equal(pins_held_has(&held, &rec.id, &id), is_own);
		own += is_own;
		borrowed += !is_own;
	}
	assert_true(own > 0 && borrowed > 0);
	share_record_fini(&rec);
	pins_held_fini(&held);
	pins_close(pins);
}

static void remotes_of_a_bucket_have_one_alternate(void **state)
{
	struct lazy_host *l = *state;
	struct remote_config c = config_of(l, "plain", false, NULL);
	struct error err = ERROR_INIT;
	struct remote *r;

	remotes_set_index(l->rs, l->ix);
	assert_int_equal(remotes_add(l->rs, &c, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "remote main is the same bucket"));
	/* The config file says so: it is no substitute. */
	assert_int_equal(remotes_set(l->rs, &c, NULL), 0);
	assert_int_equal(remotes_get(l->rs, "plain", &r, NULL), 0);
	remotes_release(l->rs, r);
	assert_int_equal(remotes_get_uuid(l->rs, remote_uuid(l->h->b.r), &r, NULL), 0);
	assert_string_equal(remote_name(r), "main");
	remotes_release(l->rs, r);
	assert_int_equal(remotes_remove(l->rs, "main", false, &err), -EBUSY);
	assert_int_equal(remotes_remove(l->rs, "plain", false, NULL), 0);
	add(l, "same", false, "templates");
	assert_int_equal(remotes_remove(l->rs, "main", false, NULL), 0);
	remote_config_fini(&c);
}

static void a_wrong_alternate_makes_no_bucket(void **state)
{
	static const char *const wrong[] = { "nope", "main" };
	struct lazy_host *l = *state;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct remote_config c = { .name = "new", .alternate = (char *)wrong[i] };
		struct error err = ERROR_INIT;
		char *url;

		assert_true(asprintf(&url, "file://%s/new", l->h->bucket.dir) > 0);
		c.url = url;
		assert_true(remotes_add(l->rs, &c, &err) < 0);
		assert_non_null(strstr(err.msg, wrong[i]));
		assert_int_equal(access(url + strlen("file://"), F_OK), -1);
		free(url);
	}
}

static void one_that_cannot_be_read_stops_no_removal(void **state)
{
	struct lazy_host *l = *state;
	struct error err = ERROR_INIT;

	add(l, "other", true, NULL);
	assert_int_equal(meta_put(l->h->b.s->kv, META_REMOTE, "bad", "{}", 2, KV_SYNC), 0);
	assert_int_equal(remotes_remove(l->rs, "templates", false, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "alternate of remote main"));
	assert_int_equal(remotes_remove(l->rs, "other", false, NULL), 0);
	assert_int_equal(remotes_remove(l->rs, "bad", false, NULL), 0);
}

/* ---- reads, one by one ---- */

#define PUSH "00112233445566778899aabbccddeeff"
#define PACK "pack/00/" PUSH "-0"

static int get(struct object_store *os, const char *key, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) data = BUF_INIT;

	*err = (struct error)ERROR_INIT;
	return object_get(os, OBJECT_CONTROL, key, 0, &data, NULL, err);
}

/* That a pack is gone is known only if its bucket has rewritten it. */
static void assert_knows_what_is_its_own(const struct lazy_host *l, struct object_store *os,
					 const char *why)
{
	struct error err;

	bucket_put(l->h->bucket.os, "pack/01/" PUSH "-1", "own");
	assert_int_equal(get(os, "pack/01/" PUSH "-1", &err), 0);
	assert_int_equal(get(os, "moved/" PUSH "-0", &err), -ENOENT);
	assert_int_equal(get(os, "names/nope", &err), -ENOENT);
	assert_in_range(-get(os, PACK, &err), 3, 200);
	assert_non_null(strstr(err.msg, why));
	bucket_put(l->h->bucket.os, "moved/" PUSH "-0", "x");
	assert_int_equal(get(os, PACK, &err), -ENOENT);
	assert_int_equal(object_delete(l->h->bucket.os, OBJECT_CONTROL, "moved/" PUSH "-0", NULL),
			 0);
	bucket_put(l->h->bucket.os, "meta/" PUSH "-0", "x");
	assert_int_equal(get(os, PACK, &err), -ENOENT);
	assert_int_equal(object_delete(l->h->bucket.os, OBJECT_CONTROL, "meta/" PUSH "-0", NULL),
			 0);
}

static void a_lender_that_fails_hides_nothing_of_the_own(void **state)
{
	const struct error why = { -EIO, "it rests" };
	struct object_store *os, *other;
	struct lazy_host *l = *state;
	struct error err;
	char path[128];

	snprintf(path, sizeof(path), "%s/templates", l->h->bucket.dir);
	os = bucket_open(l->h->bucket.path, true);
	assert_int_equal(object_alternate_open(os, &why, &os, NULL), 0);
	assert_knows_what_is_its_own(l, os, "it rests");
	other = bucket_open(path, true);
	assert_int_equal(object_fault_open(other, "drop=1", &other, NULL), 0);
	object_alternate_attach(os, other);
	assert_knows_what_is_its_own(l, os, "its alternate");
	object_store_close(os);
	/* One that answers knows that it has not got it. */
	os = bucket_open(l->h->bucket.path, true);
	assert_int_equal(object_alternate_open(os, &why, &os, NULL), 0);
	object_alternate_attach(os, bucket_open(path, true));
	assert_int_equal(get(os, PACK, &err), -ENOENT);
	object_store_close(os);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, lazy_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_borrowed_comes_back_with_its_lender),
		TEST(a_bucket_is_served_while_its_lender_is_away),
		TEST(what_is_borrowed_counts_as_the_lenders_traffic),
		TEST(another_config_of_a_lender_reaches_its_borrowers),
		TEST(what_is_borrowed_is_held_by_no_pin),
		TEST(remotes_of_a_bucket_have_one_alternate),
		TEST(a_wrong_alternate_makes_no_bucket),
		TEST(one_that_cannot_be_read_stops_no_removal),
		TEST(a_lender_that_fails_hides_nothing_of_the_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
