/* What the daemon shares with other hosts, and when it takes the bucket for away. */
#include "tests/unit/lazy_fixture.h"

#include <pthread.h>

#include "snapshotd/state/sharer.h"
#include "store/base/clock.h"
#include "store/base/log.h"

static struct metrics metrics;

static bool is_away(struct sharer *sh)
{
	struct sharer_stats st;

	sharer_stats(sh, &st);
	return st.away;
}

/* An image that is not at hand, say, as it borrows of another bucket. */
static void a_snapshot_alone_makes_no_remote_away(void **state)
{
	static const int of_snapshot[] = { -ENOENT, -EBADMSG, -ENOTSUP, -EREMOTEIO };
	struct lazy_host *l = *state;
	const struct sharer_options opt = { .store = l->h->b.s,
					    .remotes = l->rs,
					    .remote = "main" };
	struct error err = ERROR_INIT;
	struct sharer *sh;
	struct remote *r;

	log_set_level(LOG_ERROR);
	assert_int_equal(sharer_open(&opt, &sh, &err), 0);
	if (sharer_get(sh, &r, &err) != 0)
		fail_msg("%s", error_text(&err));
	remotes_release(l->rs, r);
	for (size_t i = 0; i < ARRAY_SIZE(of_snapshot); i++) {
		error_set(&err, of_snapshot[i], "so");
		sharer_failed(sh, of_snapshot[i], &err);
		assert_false(is_away(sh));
	}
	error_set(&err, -ETIMEDOUT, "no answer");
	sharer_failed(sh, -ETIMEDOUT, &err);
	assert_true(is_away(sh));
	sharer_close(sh);
}

static struct sharer_stats shared_of(struct sharer *sh)
{
	struct sharer_stats st;

	sharer_stats(sh, &st);
	return st;
}

/* Wait for it, for a minute at most. */
#define UNTIL(what)                                       \
	do {                                              \
		int64_t end = monotonic_ms() + 60 * 1000; \
		while (!(what) && monotonic_ms() < end)   \
			usleep(10 * 1000);                \
		assert_true(what);                        \
	} while (0)

/* Where a directory of the bucket should be, a file is: LISTs elsewhere do not mind. */
static void what_failed_is_tried_again(void **state)
{
	struct lazy_host *l = *state;
	const struct sharer_options opt = { .store = l->h->b.s,
					    .remotes = l->rs,
					    .metrics = &metrics,
					    .remote = "main",
					    .again_ms = 100 };
	struct error err = ERROR_INIT;
	struct sharer *sh;
	uint64_t failed;
	char path[200];
	FILE *f;

	log_set_level(LOG_ERROR);
	snprintf(path, sizeof(path), "%s/pack", l->h->bucket.path);
	f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	make_files(l->h, "d", 3, 1);
	take(l->h, &l->h->b, "d", "one", NULL);
	assert_int_equal(sharer_open(&opt, &sh, &err), 0);
	UNTIL(shared_of(sh).failed > 0);
	UNTIL(shared_of(sh).skipped == 1 || shared_of(sh).failed > 1);
	assert_int_equal(shared_of(sh).queue, 1);
	assert_int_equal(shared_of(sh).published, 0);
	/* Also while it is tried again, and whatever that says. */
	UNTIL(shared_of(sh).skipped == 1);
	failed = shared_of(sh).failed;
	for (int i = 0; i < 60000 && shared_of(sh).failed == failed; i++) {
		assert_int_equal(shared_of(sh).skipped, 1);
		usleep(1000);
	}
	assert_int_equal(unlink(path), 0);
	UNTIL(shared_of(sh).published == 1);
	UNTIL(shared_of(sh).queue == 0 && shared_of(sh).skipped == 0);
	pull(&l->h->a, "one", "one");
	sharer_close(sh);
}

/* The chunks of one are in a bucket that is away; the other one has nothing to do with that. */
static void a_snapshot_that_cannot_be_read_stops_no_other(void **state)
{
	struct lazy_host *l = *state;
	const struct sharer_options opt = {
		.store = l->h->b.s, .remotes = l->rs, .metrics = &metrics, .remote = "other"
	};
	struct remote_config other = { .name = "other" };
	struct error err = ERROR_INIT;
	struct sharer *sh;
	struct remote *r;

	log_set_level(LOG_ERROR);
	push_files(l, 3);
	pull_lazily(l, "base");
	make_files(l->h, "e", 3, 2);
	take(l->h, &l->h->b, "e", "here", NULL);
	assert_true(asprintf(&other.url, "file://%s/other", l->h->bucket.dir) > 0);
	assert_int_equal(remotes_add(l->rs, &other, &err), 0);
	remote_config_fini(&other);
	assert_int_equal(remotes_get(l->rs, "main", &r, &err), 0);
	remotes_release(l->rs, r);
	assert_int_equal(nftw(l->h->bucket.path, bucket_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	assert_int_equal(sharer_open(&opt, &sh, &err), 0);
	for (int64_t end = monotonic_ms() + 60 * 1000;
	     (shared_of(sh).published == 0 || shared_of(sh).failed == 0) && monotonic_ms() < end;
	     usleep(10 * 1000))
		assert_false(is_away(sh));
	assert_int_equal(shared_of(sh).published, 1);
	assert_int_equal(shared_of(sh).failed, 1);
	UNTIL(shared_of(sh).skipped == 1 && shared_of(sh).queue == 1);
	assert_false(is_away(sh));
	sharer_close(sh);
}

/* Which no request of its own waits for. */
static void an_image_waits_for_no_other_push(void **state)
{
	static const char key[] = "0123456789abcdef0123456789abcdef"
				  "0123456789abcdef0123456789abcdef";
	struct lazy_host *l = *state;
	const struct sharer_options opt = {
		.store = l->h->b.s, .remotes = l->rs, .metrics = &metrics, .remote = "main"
	};
	char frozen[200], plan[300];
	struct error err = ERROR_INIT;
	struct share_record won;
	struct snapshot s;
	struct sharer *sh;
	FILE *f;

	log_set_level(LOG_ERROR);
	make_files(l->h, "image", 3, 2);
	take(l->h, &l->h->b, "image", "image", NULL);
	push(&l->h->b, "image", "image"); /* there is nothing to upload any more */
	make_files(l->h, "d", 3, 1);
	take(l->h, &l->h->b, "d", "slow", NULL);
	snprintf(frozen, sizeof(frozen), "%s/frozen", l->h->bucket.dir);
	f = fopen(frozen, "w");
	assert_non_null(f);
	fclose(f);
	snprintf(plan, sizeof(plan), "frozen=%s,ops=put,under=pack/", frozen);
	setenv("VARVE_FAULTS", plan, 1);
	assert_int_equal(snapshots_get(l->h->b.s->snapshots, "slow", &s, NULL), 0);
	assert_int_equal(sharer_open(&opt, &sh, &err), 0);
	UNTIL(strcmp(shared_of(sh).now, s.id) == 0);
	snapshot_fini(&s);
	assert_int_equal(snapshots_get(l->h->b.s->snapshots, "image", &s, NULL), 0);
	if (sharer_publish_image(sh, key, s.id, false, &won, &err) != 0)
		fail_msg("%s", error_text(&err));
	snapshot_fini(&s);
	assert_int_equal(shared_of(sh).queue > 0, 1);
	assert_true(shared_of(sh).now[0]);
	unlink(frozen);
	UNTIL(shared_of(sh).queue == 0);
	sharer_close(sh);
	unsetenv("VARVE_FAULTS");
}

struct image_push {
	struct sharer *sh;
	char local[SNAPSHOT_ID_SIZE];
	int rc;
};

static void *push_image(void *arg)
{
	static const char key[] = "0123456789abcdef0123456789abcdef"
				  "0123456789abcdef0123456789abcdef";
	struct image_push *p = arg;
	struct share_record won;

	p->rc = sharer_publish_image(p->sh, key, p->local, false, &won, NULL);
	return NULL;
}

/* Else all that they share would be uploaded twice. */
static void an_image_waits_for_its_ancestor(void **state)
{
	struct lazy_host *l = *state;
	const struct sharer_options opt = {
		.store = l->h->b.s, .remotes = l->rs, .metrics = &metrics, .remote = "main"
	};
	struct image_push image = { 0 };
	char frozen[200], plan[300];
	struct error err = ERROR_INIT;
	struct snapshot s;
	pthread_t thread;
	FILE *f;

	log_set_level(LOG_ERROR);
	make_files(l->h, "d", 20, 1);
	take(l->h, &l->h->b, "d", "parent", NULL);
	snprintf(frozen, sizeof(frozen), "%s/frozen", l->h->bucket.dir);
	f = fopen(frozen, "w");
	assert_non_null(f);
	fclose(f);
	snprintf(plan, sizeof(plan), "frozen=%s,ops=put,under=pack/", frozen);
	setenv("VARVE_FAULTS", plan, 1);
	assert_int_equal(snapshots_get(l->h->b.s->snapshots, "parent", &s, NULL), 0);
	assert_int_equal(sharer_open(&opt, &image.sh, &err), 0);
	UNTIL(strcmp(shared_of(image.sh).now, s.id) == 0);
	snapshot_fini(&s);
	make_files(l->h, "d", 1, 2);
	take(l->h, &l->h->b, "d", "child", "parent");
	assert_int_equal(snapshots_get(l->h->b.s->snapshots, "child", &s, NULL), 0);
	memcpy(image.local, s.id, sizeof(image.local));
	snapshot_fini(&s);
	assert_int_equal(pthread_create(&thread, NULL, push_image, &image), 0);
	/* It would have begun long before this is over. */
	for (int i = 0; i < 30 && count_objects(l->h, "push/") < 2; i++)
		usleep(10 * 1000);
	unlink(frozen);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(image.rc, 0);
	UNTIL(shared_of(image.sh).queue == 0);
	/* 20 files of 20 KB, and one of them anew. */
	assert_in_range(shared_of(image.sh).bytes, 20 * 20000, 25 * 20000);
	sharer_close(image.sh);
	unsetenv("VARVE_FAULTS");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_snapshot_alone_makes_no_remote_away, lazy_setup,
						lazy_teardown),
		cmocka_unit_test_setup_teardown(what_failed_is_tried_again, lazy_setup,
						lazy_teardown),
		cmocka_unit_test_setup_teardown(a_snapshot_that_cannot_be_read_stops_no_other,
						lazy_setup, lazy_teardown),
		cmocka_unit_test_setup_teardown(an_image_waits_for_no_other_push, lazy_setup,
						lazy_teardown),
		cmocka_unit_test_setup_teardown(an_image_waits_for_its_ancestor, lazy_setup,
						lazy_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
