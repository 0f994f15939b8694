/* Programs of a sandbox: what a failure to start is called; which are found, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "snapshotd/http/budget.h"
#include "snapshotd/sandbox/sandbox_exec.h"

static void failures_have_the_codes_of_a_shell(void **state)
{
	static const struct {
		int rc, code;
	} cases[] = {
		{ -ENOENT, 127 },
		{ -EACCES, 126 },
		{ -ENOEXEC, 126 },
		{ -ENOTDIR, 126 },
		{ -E2BIG, 126 },
		{ -EINVAL, 126 },
		{ -ELOOP, 126 },
		{ -ENAMETOOLONG, 126 },
		{ -EISDIR, 126 },
		{ -EPERM, 126 },
		{ -ETXTBSY, 126 },
		/* Not the program's fault: there is no result. */
		{ -ENOMEM, 0 },
		{ -EMFILE, 0 },
		{ -EAGAIN, 0 },
		{ -ESRCH, 0 },
		{ -EIO, 0 },
		{ -ECANCELED, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(exec_code_of_failure(cases[i].rc), cases[i].code);
}

static void nothing_is_kept_at_first(void **state)
{
	struct budget output;
	struct async_execs *x;

	(void)state;
	budget_init(&output, NULL, 1000);
	x = async_execs_new(&output);
	assert_non_null(x);
	async_execs_expire(x);
	async_execs_free(x);
	async_execs_free(NULL);
}

static struct async_execs *execs_new(struct budget *output)
{
	struct async_execs *x;

	budget_init(output, NULL, 1000);
	x = async_execs_new(output);
	assert_non_null(x);
	return x;
}

/* One that is about to run; its id is copied. */
static struct async_exec *one_new_as(struct async_execs *x, bool attached,
				     char id[SNAPSHOT_ID_SIZE])
{
	char *argv[] = { "true", NULL };
	struct error err = ERROR_INIT;
	struct exec_spec spec = { .argv = argv, .cwd = "/", .timeout_ms = 5, .attached = attached };
	struct async_exec *e;

	assert_int_equal(exec_control_new(NULL, &spec.control, &err), 0);
	memcpy(id, exec_control_id(spec.control), SNAPSHOT_ID_SIZE);
	e = async_exec_new(x, &spec);
	exec_control_put(spec.control); /* it holds its own */
	assert_non_null(e);
	assert_string_equal(async_exec_spec(e)->argv[0], "true");
	assert_string_equal(async_exec_spec(e)->cwd, "/");
	return e;
}

static struct async_exec *one_new(struct async_execs *x, char id[SNAPSHOT_ID_SIZE])
{
	return one_new_as(x, false, id);
}

static void one_end(struct async_exec *e, const char *text)
{
	struct exec_output out = { .exit_code = 3 };
	struct error err = ERROR_INIT;

	assert_int_equal(buf_append_str(&out.out, text), 0);
	async_exec_end(e, 0, &out, &err);
	assert_int_equal(out.out.len, 0);
}

static void only_so_many_run_at_once(void **state)
{
	struct async_exec *running[EXEC_RUNNING_MAX], *more;
	char id[SNAPSHOT_ID_SIZE], first[SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct budget output;
	struct async_execs *x = execs_new(&output);

	(void)state;
	for (int i = 0; i < EXEC_RUNNING_MAX; i++) {
		running[i] = one_new(x, i == 0 ? first : id);
		assert_int_equal(async_exec_begin(running[i], &err), 0);
	}
	more = one_new(x, id);
	assert_int_equal(async_exec_begin(more, &err), -EAGAIN);
	assert_null(async_exec_find(x, id));
	/* One whose thread cannot be started makes room. */
	async_exec_abandon(running[0]);
	async_exec_put(running[0]);
	assert_null(async_exec_find(x, first));
	assert_int_equal(async_exec_begin(more, &err), 0);
	running[0] = more;
	for (int i = 0; i < EXEC_RUNNING_MAX; i++)
		one_end(running[i], "");
	async_execs_free(x);
}

/* One whose end a predecessor has seen, at that time. */
static void one_adopt(struct async_execs *x, int64_t done_ms, char id[SNAPSHOT_ID_SIZE])
{
	struct async_exec *e = one_new(x, id);
	struct exec_output out = { 0 };
	struct error err = ERROR_INIT;
	struct exec_keep *k;

	assert_int_equal(exec_keep_new(NULL, id, "sb-1", &k, &err), 0);
	k->state->done_ms = done_ms;
	k->is_kept = true; /* by no keeper, which is as good here */
	async_exec_set_keep(e, k);
	async_exec_adopt_ended(e, 0, &out, &err);
}

static void results_of_a_predecessor_are_found(void **state)
{
	static const int64_t ends[] = { 20, 40, 10, 30 };
	struct async_exec *running[EXEC_RUNNING_MAX], *e;
	char id[SNAPSHOT_ID_SIZE], ids[ARRAY_SIZE(ends)][SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct budget output;
	struct async_execs *x = execs_new(&output);

	(void)state;
	for (int i = 0; i < EXEC_RUNNING_MAX; i++) {
		running[i] = one_new(x, id);
		assert_int_equal(async_exec_begin(running[i], &err), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		one_adopt(x, ends[i], ids[i]);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		e = async_exec_find(x, ids[i]);
		assert_non_null(e);
		assert_true(async_exec_wait(e, 0));
		async_exec_put(e);
	}
	/* The oldest end goes first, in whatever order they came. */
	for (int64_t end = 10; end <= 40; end += 10) {
		assert_true(async_execs_forget_oldest(x));
		for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
			e = async_exec_find(x, ids[i]);
			assert_true(!e == (ends[i] <= end));
			if (e)
				async_exec_put(e);
		}
	}
	for (int i = 0; i < EXEC_RUNNING_MAX; i++)
		one_end(running[i], "");
	async_execs_free(x);
}

static void the_oldest_results_are_forgotten(void **state)
{
	char first[SNAPSHOT_ID_SIZE], second[SNAPSHOT_ID_SIZE], id[SNAPSHOT_ID_SIZE];
	const struct exec_output *out;
	struct error err = ERROR_INIT;
	const struct error *why;
	struct budget output;
	struct async_execs *x = execs_new(&output);
	struct async_exec *e;

	(void)state;
	for (int i = 0; i <= EXEC_KEEP_COUNT; i++) {
		e = one_new(x, i == 0 ? first : i == 1 ? second : id);
		assert_int_equal(async_exec_begin(e, &err), 0);
		one_end(e, "ab");
	}
	assert_int_equal(async_execs_kept(x), 2 * EXEC_KEEP_COUNT);
	assert_null(async_exec_find(x, first));
	e = async_exec_find(x, second);
	assert_non_null(e);
	assert_true(async_exec_wait(e, 0));
	/* What somebody looks at stays for him. */
	assert_true(async_execs_forget_oldest(x));
	assert_null(async_exec_find(x, second));
	assert_int_equal(async_exec_outcome(e, &out, &why), 0);
	assert_int_equal(out->exit_code, 3);
	assert_memory_equal(out->out.data, "ab", 2);
	async_exec_put(e);
	async_execs_free(x);
}

/* An attached one that runs; it is ended by one_end. */
static struct async_exec *attached_begin(struct async_execs *x, char id[SNAPSHOT_ID_SIZE])
{
	struct async_exec *e = one_new_as(x, true, id);
	struct error err = ERROR_INIT;

	assert_int_equal(async_exec_begin(e, &err), 0);
	return e;
}

static bool is_there(struct async_execs *x, const char *id)
{
	struct async_exec *e = async_exec_find(x, id);

	if (e)
		async_exec_put(e);
	return e != NULL;
}

static void an_attached_one_lives_with_its_followers(void **state)
{
	char id[SNAPSHOT_ID_SIZE];
	struct budget output;
	struct async_execs *x = execs_new(&output);
	struct async_exec *e = attached_begin(x, id);
	const char *why;

	(void)state;
	/* There is time for one to come ... */
	async_execs_set_passed(x, EXEC_GRACE_MS - 1000);
	assert_false(async_exec_is_unwanted(e, &why));
	async_exec_follow(e);
	async_exec_follow(e);
	async_execs_set_passed(x, EXEC_GRACE_MS);
	assert_false(async_exec_is_unwanted(e, &why));
	async_exec_unfollow(e, FOLLOWER_LEFT);
	async_execs_set_passed(x, 2 * EXEC_GRACE_MS);
	assert_false(async_exec_is_unwanted(e, &why));
	/* ... and to come back. */
	async_exec_unfollow(e, FOLLOWER_LEFT);
	assert_false(async_exec_is_unwanted(e, &why));
	async_execs_set_passed(x, 3 * EXEC_GRACE_MS - 1000);
	assert_false(async_exec_is_unwanted(e, &why));
	async_execs_set_passed(x, 3 * EXEC_GRACE_MS);
	assert_true(async_exec_is_unwanted(e, &why));
	assert_string_equal(why, "nobody followed it any more");
	/* Then it is too late: it is being killed, and that is what it dies of. */
	async_exec_follow(e);
	assert_true(async_exec_is_unwanted(e, &why));
	async_exec_kill(e);
	assert_true(async_exec_is_unwanted(e, &why));
	assert_string_equal(why, "nobody followed it any more");
	one_end(e, "");
	assert_false(is_there(x, id));

	/* The same of a result. */
	e = attached_begin(x, id);
	one_end(e, "");
	assert_true(is_there(x, id));
	async_execs_set_passed(x, 4 * EXEC_GRACE_MS);
	async_execs_expire(x);
	assert_false(is_there(x, id));

	/* Others are nobody's. */
	e = one_new(x, id);
	async_execs_set_passed(x, 9 * EXEC_GRACE_MS);
	assert_false(async_exec_is_unwanted(e, &why));
	async_exec_put(e);
	async_execs_free(x);
}

/* An attached one, and what is kept of it. */
static struct async_exec *kept_new(struct async_execs *x, struct exec_keep **out,
				   char id[SNAPSHOT_ID_SIZE])
{
	struct async_exec *e = one_new_as(x, true, id);
	struct error err = ERROR_INIT;

	assert_int_equal(exec_keep_new(NULL, id, "sb-1", out, &err), 0);
	assert_int_equal(exec_keep_attach(*out, &err), 0);
	return e;
}

/* They stand still, and do not know that there is another daemon, or no connection. */
static void followers_that_were_lost_have_longer(void **state)
{
	char id[SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct budget output;
	struct async_execs *x = execs_new(&output);
	struct exec_keep *k;
	struct async_exec *e = kept_new(x, &k, id);

	(void)state;
	k->state->followed = true; /* a predecessor's */
	async_exec_set_keep(e, k);
	assert_int_equal(async_exec_begin(e, &err), 0);
	async_execs_set_passed(x, EXEC_LOST_GRACE_MS - 1000);
	assert_false(async_exec_is_unwanted(e, NULL));
	/* Who has come back leaves as anybody. */
	async_exec_follow(e);
	assert_true(k->state->followed);
	async_exec_unfollow(e, FOLLOWER_LEFT);
	assert_false(k->state->followed);
	async_exec_follow(e);
	async_exec_follow(e);
	async_exec_unfollow(e, FOLLOWER_LOST);
	async_exec_unfollow(e, FOLLOWER_LEFT);
	assert_true(k->state->followed);
	async_execs_set_passed(x, 2 * EXEC_LOST_GRACE_MS - 2000);
	assert_false(async_exec_is_unwanted(e, NULL));
	async_execs_set_passed(x, 2 * EXEC_LOST_GRACE_MS);
	assert_true(async_exec_is_unwanted(e, NULL));
	one_end(e, "");
	async_execs_free(x);
}

static void a_successor_kills_what_was_to_be_killed(void **state)
{
	char id[SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct exec_output out = { 0 };
	struct budget output;
	struct async_execs *x = execs_new(&output);

	(void)state;
	for (int i = 0; i < 4; i++) {
		const bool attached = i & 1, ended = i & 2;
		struct async_exec *e = one_new_as(x, attached, id);
		struct exec_keep *k;
		const char *why;

		assert_int_equal(exec_keep_new(NULL, id, "sb-1", &k, &err), 0);
		if (attached)
			assert_int_equal(exec_keep_attach(k, &err), 0);
		async_exec_set_keep(e, k);
		if (!ended) {
			assert_int_equal(async_exec_begin(e, &err), 0);
			assert_false(k->state->killed);
			async_exec_kill(e);
			assert_true(k->state->killed);
			one_end(e, "");
		} else {
			k->state->killed = true;
			async_exec_set_keep(e, k);
			assert_true(async_exec_is_unwanted(e, &why));
			assert_string_equal(why, "it was asked for");
			async_exec_adopt_ended(e, 0, &out, &err);
		}
		assert_false(is_there(x, id));
	}
	async_execs_free(x);
}

#define MIB (1u << 20)

static void write_much(struct exec_keep *k, size_t mib)
{
	char *data = calloc(1, MIB);

	assert_non_null(data);
	for (size_t i = 0; i < mib; i++)
		assert_int_equal(exec_keep_note(k, 1, data, MIB), 0);
	free(data);
}

/* One that has written some MiB, all of which was sent, and has ended. */
static struct async_exec *much_written(struct async_execs *x, size_t mib, char id[SNAPSHOT_ID_SIZE])
{
	struct exec_output out = { .budget = async_execs_budget(x), .charged = mib * MIB };
	struct error err = ERROR_INIT;
	struct exec_keep *k;
	struct async_exec *e = kept_new(x, &k, id), *found;

	async_exec_set_keep(e, k);
	assert_int_equal(async_exec_begin(e, &err), 0);
	found = async_exec_find(x, id);
	async_exec_follow(found);
	write_much(k, mib);
	assert_true(budget_charge(out.budget, out.charged));
	async_exec_note_sent(found, 1, mib * MIB);
	async_exec_end(e, 0, &out, &err);
	return found;
}

/* They are for who has lost the last bytes, and make room for others' results. */
static void those_that_were_told_take_little_room(void **state)
{
	char ids[3][SNAPSHOT_ID_SIZE], room[1];
	struct budget output;
	struct async_execs *x;

	(void)state;
	budget_init(&output, NULL, 16 * MIB);
	x = async_execs_new(&output);
	assert_non_null(x);
	for (int i = 0; i < 3; i++) {
		struct async_exec *e = much_written(x, 5, ids[i]);

		assert_true(budget_used(&output) >= 5 * MIB);
		async_exec_unfollow(e, FOLLOWER_TOLD);
		assert_true(budget_used(&output) <= (size_t)(i + 1) * MIB);
		assert_int_equal(async_exec_read(e, 1, 5 * MIB - EXEC_TOLD_BYTES, room, 1), 1);
		assert_int_equal(async_exec_read(e, 1, 3 * MIB, room, 1), -ENODATA);
		async_exec_put(e);
	}
	assert_false(async_execs_is_tight(x));
	assert_true(async_execs_forget_told(x));
	assert_false(is_there(x, ids[0]));
	assert_true(async_execs_forget_told(x));
	assert_true(async_execs_forget_told(x));
	assert_false(async_execs_forget_told(x));
	assert_int_equal(budget_used(&output), 0);

	/* One that somebody follows still is whole. */
	struct async_exec *e = much_written(x, 5, ids[0]);

	async_exec_follow(e);
	async_exec_unfollow(e, FOLLOWER_TOLD);
	assert_int_equal(async_exec_read(e, 1, 0, room, 1), 1);
	assert_false(async_execs_forget_told(x));
	async_exec_unfollow(e, FOLLOWER_LOST);
	async_exec_put(e);
	async_execs_free(x);
}

/* Windows of attached ones stay small before there is no room for results. */
static void some_room_is_left_to_results(void **state)
{
	struct budget output, *mine;
	struct async_execs *x;
	size_t taken = 0;

	(void)state;
	budget_init(&output, NULL, 16 * MIB);
	x = async_execs_new(&output);
	assert_non_null(x);
	mine = async_execs_budget(x);
	while (!async_execs_is_tight(x)) {
		assert_true(budget_charge(mine, MIB / 16));
		taken += MIB / 16;
	}
	assert_true(taken > 4 * MIB);
	assert_true(budget_charge(mine, MIB / 2));
	budget_release(mine, taken + MIB / 2);
	async_execs_free(x);
}

/* It is there all the same, as long as this daemon. */
static void a_keeper_gives_up_the_oldest_result(void **state)
{
	static const int64_t ends[] = { 20, 10, 30 };
	char id[SNAPSHOT_ID_SIZE], ids[ARRAY_SIZE(ends)][SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct budget output;
	struct async_execs *x = execs_new(&output);
	struct exec_keep *k;
	struct async_exec *e = kept_new(x, &k, id);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		one_adopt(x, ends[i], ids[i]);
	for (int64_t end = 10; end <= 30; end += 10) {
		assert_int_equal(async_execs_oldest_kept(x, false), end);
		assert_true(async_execs_let_go(x, false));
	}
	assert_int_equal(async_execs_oldest_kept(x, false), INT64_MAX);
	assert_false(async_execs_let_go(x, false));
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		assert_true(is_there(x, ids[i]));

	k->is_kept = true;
	async_exec_set_keep(e, k);
	assert_int_equal(async_exec_begin(e, &err), 0);
	async_exec_follow(e);
	assert_false(async_execs_let_go(x, true));
	async_exec_unfollow(e, FOLLOWER_LEFT);
	one_end(e, "");
	assert_false(async_execs_let_go(x, true)); /* nobody knows its end */
	e = async_exec_find(x, id);
	assert_non_null(e);
	async_exec_follow(e);
	async_exec_unfollow(e, FOLLOWER_TOLD);
	async_exec_put(e);
	assert_true(async_execs_let_go(x, true));
	assert_false(async_execs_let_go(x, true));
	assert_true(is_there(x, id));
	async_execs_free(x);
}

static void what_is_killed_is_forgotten(void **state)
{
	char id[SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct budget output;
	struct async_execs *x = execs_new(&output);

	(void)state;
	for (int i = 0; i < 4; i++) {
		const bool attached = i & 1, ended = i & 2;
		struct async_exec *e = one_new_as(x, attached, id), *found;
		const char *why;

		assert_int_equal(async_exec_begin(e, &err), 0);
		if (ended)
			one_end(e, "ab");
		found = async_exec_find(x, id);
		assert_non_null(found);
		async_exec_kill(found);
		async_exec_kill(found);
		assert_true(async_exec_is_unwanted(found, &why));
		assert_string_equal(why, "it was asked for");
		assert_int_equal(is_there(x, id), !ended);
		if (!ended)
			one_end(e, "ab");
		assert_false(is_there(x, id));
		assert_true(async_exec_wait(found, 0));
		async_exec_put(found);
		assert_int_equal(async_execs_kept(x), 0);
	}
	async_execs_free(x);
}

static void few_are_kept_that_were_told(void **state)
{
	char ids[EXEC_TOLD_COUNT + 2][SNAPSHOT_ID_SIZE], untold[SNAPSHOT_ID_SIZE];
	struct budget output;
	struct async_execs *x = execs_new(&output);
	struct async_exec *e;

	(void)state;
	one_end(attached_begin(x, untold), "");
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		struct async_exec *found;

		e = attached_begin(x, ids[i]);
		async_exec_follow(e);
		found = async_exec_find(x, ids[i]);
		one_end(e, "");
		async_exec_unfollow(found, FOLLOWER_TOLD);
		async_exec_put(found);
	}
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(is_there(x, ids[i]), i >= 2);
	/* The last to be told, not to end. */
	e = async_exec_find(x, ids[2]);
	assert_non_null(e);
	async_exec_follow(e);
	async_exec_unfollow(e, FOLLOWER_TOLD);
	async_exec_put(e);
	e = async_exec_find(x, untold);
	assert_non_null(e);
	async_exec_follow(e);
	async_exec_unfollow(e, FOLLOWER_TOLD);
	async_exec_put(e);
	assert_false(is_there(x, ids[3]));
	for (size_t i = 2; i < ARRAY_SIZE(ids); i++)
		assert_int_equal(is_there(x, ids[i]), i != 3);
	assert_true(is_there(x, untold));
	/* Nor do they take the places of others. */
	assert_false(async_execs_forget_oldest(x));
	async_execs_free(x);
}

static void only_so_many_attached_ones_are_there(void **state)
{
	struct async_exec *running[EXEC_ATTACHED_MAX], *more;
	char id[SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct budget output;
	struct async_execs *x = execs_new(&output);

	(void)state;
	for (int i = 0; i < EXEC_ATTACHED_MAX; i++)
		running[i] = attached_begin(x, id);
	more = one_new_as(x, true, id);
	assert_int_equal(async_exec_begin(more, &err), -EAGAIN);
	/* Results that nobody has been told count, too; for a while. */
	one_end(running[0], "");
	assert_int_equal(async_exec_begin(more, &err), -EAGAIN);
	async_execs_set_passed(x, EXEC_GRACE_MS);
	async_execs_expire(x);
	assert_int_equal(async_exec_begin(more, &err), 0);
	running[0] = more;
	for (int i = 0; i < EXEC_ATTACHED_MAX; i++)
		one_end(running[i], "");
	async_execs_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_attached_one_lives_with_its_followers),
		cmocka_unit_test(followers_that_were_lost_have_longer),
		cmocka_unit_test(a_successor_kills_what_was_to_be_killed),
		cmocka_unit_test(those_that_were_told_take_little_room),
		cmocka_unit_test(some_room_is_left_to_results),
		cmocka_unit_test(a_keeper_gives_up_the_oldest_result),
		cmocka_unit_test(what_is_killed_is_forgotten),
		cmocka_unit_test(few_are_kept_that_were_told),
		cmocka_unit_test(only_so_many_attached_ones_are_there),
		cmocka_unit_test(failures_have_the_codes_of_a_shell),
		cmocka_unit_test(nothing_is_kept_at_first),
		cmocka_unit_test(only_so_many_run_at_once),
		cmocka_unit_test(results_of_a_predecessor_are_found),
		cmocka_unit_test(the_oldest_results_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
