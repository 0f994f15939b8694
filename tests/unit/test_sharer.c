/* What the daemon shares with other hosts, and when it takes the bucket for away. */
#include "tests/unit/lazy_fixture.h"

#include "snapshotd/state/sharer.h"
#include "store/base/log.h"

static bool is_away(struct sharer *sh)
{
	struct sharer_stats st;

	sharer_stats(sh, &st);
	return st.away;
}

/* An image that is not at hand, say, as it borrows of another bucket. */
static void a_snapshot_alone_makes_no_remote_away(void **state)
{
	static const int of_snapshot[] = { -ENOENT, -EBADMSG, -ENOTSUP };
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_snapshot_alone_makes_no_remote_away, lazy_setup,
						lazy_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
