/* The table of remotes, while others change it. */
#include "tests/unit/lazy_fixture.h"

#include <pthread.h>

#include "store/base/log.h"

static void what_snapshots_need_is_not_removed(void **state)
{
	struct lazy_host *l = *state;
	struct error err = ERROR_INIT;
	struct remote_config c;
	struct remote *r;

	remotes_set_index(l->rs, l->ix);
	push_files(l, 3);
	pull_lazily(l, "base");
	assert_int_equal(remotes_remove(l->rs, "main", false, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "pull"));
	/* Another one that is the same bucket will do. */
	assert_int_equal(remotes_config(l->rs, "main", &c, NULL), 0);
	strcpy(c.name, "other");
	assert_int_equal(remotes_add(l->rs, &c, NULL), 0);
	remote_config_fini(&c);
	assert_int_equal(remotes_remove(l->rs, "main", false, NULL), 0);
	assert_int_equal(remotes_remove(l->rs, "other", false, NULL), -EBUSY);
	assert_int_equal(snapshots_delete(l->h->b.s->snapshots, "base", NULL), 0);
	collect(l);
	assert_int_equal(remotes_remove(l->rs, "other", false, NULL), 0);
	assert_int_equal(remotes_get(l->rs, "other", &r, NULL), -ENOENT);
	assert_int_equal(remotes_remove(l->rs, "other", true, NULL), -ENOENT);
}

static void *open_it(void *arg)
{
	struct lazy_host *l = arg;
	struct error err = ERROR_INIT;
	struct remote *r;
	int rc = remotes_get(l->rs, "main", &r, &err);

	if (rc == 0)
		remotes_release(l->rs, r);
	return (void *)(intptr_t)rc;
}

/* One that is being opened for the first time does not come back when it was removed. */
static void one_that_was_removed_while_it_opens_stays_away(void **state)
{
	struct lazy_host *l = *state;
	char plan[200], gate[160];
	struct remote_config c;
	pthread_t thread;
	void *rc;
	FILE *f;

	assert_int_equal(remotes_config(l->rs, "main", &c, NULL), 0);
	/* Its bucket is not known: this one was never open. */
	assert_int_equal(remotes_remove(l->rs, "main", true, NULL), 0);
	assert_int_equal(remotes_set(l->rs, &c, NULL), 0);
	remote_config_fini(&c);
	snprintf(gate, sizeof(gate), "%s/gate", l->h->bucket.dir);
	snprintf(plan, sizeof(plan), "frozen=%s", gate);
	f = fopen(gate, "w");
	assert_non_null(f);
	fclose(f);
	setenv("VARVE_FAULTS", plan, 1);
	assert_int_equal(pthread_create(&thread, NULL, open_it, l), 0);
	usleep(300000); /* it waits for the bucket */
	unsetenv("VARVE_FAULTS");
	assert_int_equal(remotes_remove(l->rs, "main", true, NULL), 0);
	assert_int_equal(unlink(gate), 0);
	assert_int_equal(pthread_join(thread, &rc), 0);
	assert_int_equal((int)(intptr_t)rc, -ENOENT);
	assert_int_equal(remotes_config(l->rs, "main", &c, NULL), -ENOENT);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, lazy_setup, lazy_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_snapshots_need_is_not_removed),
		TEST(one_that_was_removed_while_it_opens_stays_away),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
