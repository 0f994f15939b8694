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
static struct async_exec *one_new(struct async_execs *x, char id[SNAPSHOT_ID_SIZE])
{
	char *argv[] = { "true", NULL };
	struct error err = ERROR_INIT;
	struct exec_spec spec = { .argv = argv, .cwd = "/", .timeout_ms = 5 };
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failures_have_the_codes_of_a_shell),
		cmocka_unit_test(nothing_is_kept_at_first),
		cmocka_unit_test(only_so_many_run_at_once),
		cmocka_unit_test(results_of_a_predecessor_are_found),
		cmocka_unit_test(the_oldest_results_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
