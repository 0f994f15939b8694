/* exec_control: what a program is told, by pipes alone. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "snapshotd/sandbox/exec_control.h"

static void signals_have_names_and_numbers(void **state)
{
	static const struct {
		const char *text;
		int sig;
	} cases[] = {
		{ "TERM", SIGTERM },  { "SIGTERM", SIGTERM }, { "15", SIGTERM },
		{ "1", SIGHUP },      { "64", 64 },	      { "USR1", SIGUSR1 },
		{ "0", -EINVAL },     { "65", -EINVAL },      { "-1", -EINVAL },
		{ "", -EINVAL },      { "SIG", -EINVAL },     { "term", -EINVAL },
		{ "TERM ", -EINVAL }, { "015", -EINVAL },     { "9x", -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (signal_parse(cases[i].text, NULL) != cases[i].sig)
			fail_msg("\"%s\"", cases[i].text);
}

static void signals_come_until_the_end(void **state)
{
	struct exec_control *ec;
	uint8_t got[4];
	int rc = 0;

	(void)state;
	assert_int_equal(exec_control_new(NULL, &ec, NULL), 0);
	assert_int_equal(exec_control_signal(ec, SIGTERM, NULL), 0);
	assert_int_equal(exec_control_signal(ec, SIGINT, NULL), 0);
	assert_int_equal(read(exec_control_signal_fd(ec), got, sizeof(got)), 2);
	assert_int_equal(got[0], SIGTERM);
	assert_int_equal(got[1], SIGINT);
	exec_control_wake(ec);
	assert_int_equal(read(exec_control_signal_fd(ec), got, sizeof(got)), 1);
	assert_int_equal(got[0], 0); /* no signal */
	/* One that takes none does not make them pile up. */
	for (int i = 0; i < 1 << 20 && rc == 0; i++)
		rc = exec_control_signal(ec, SIGUSR1, NULL);
	assert_int_equal(rc, -EAGAIN);
	exec_control_end(ec);
	assert_int_equal(exec_control_signal(ec, SIGTERM, NULL), -ENOTCONN);
	exec_control_wake(ec);
	exec_control_put(ec);
}

static void input_at_once_is_bounded_and_fixed(void **state)
{
	char *big = calloc(1, EXEC_STDIN_MAX + 1), got[8];
	struct exec_control *ec;

	(void)state;
	assert_non_null(big);
	assert_int_equal(exec_control_new(NULL, &ec, NULL), 0);
	assert_int_equal(exec_control_stdin_fd(ec), -1);
	assert_int_equal(exec_control_give_input(ec, big, EXEC_STDIN_MAX + 1, NULL), -EINVAL);
	assert_int_equal(exec_control_give_input(ec, "input", 5, NULL), 0);
	assert_int_equal(read(exec_control_stdin_fd(ec), got, sizeof(got)), 5);
	assert_true(write(exec_control_stdin_fd(ec), "more", 4) < 0);
	assert_true(ftruncate(exec_control_stdin_fd(ec), 1 << 20) < 0);
	assert_int_equal(exec_control_can_feed(ec, NULL), -EBUSY);
	exec_control_put(ec);
	free(big);
}

static void a_feed_ends_with_its_source(void **state)
{
	struct exec_control *ec;
	char got[8];
	int fds[2];

	(void)state;
	assert_int_equal(exec_control_new(NULL, &ec, NULL), 0);
	assert_int_equal(exec_control_open_input(ec, NULL), 0);
	assert_int_equal(exec_control_can_feed(ec, NULL), 0);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "input", 5), 5);
	close(fds[1]);
	assert_int_equal(exec_control_feed(ec, fds[0], NULL, NULL, NULL), 0);
	assert_int_equal(read(exec_control_stdin_fd(ec), got, sizeof(got)), 5);
	assert_int_equal(read(exec_control_stdin_fd(ec), got, sizeof(got)), 0);
	/* Once. */
	assert_int_equal(exec_control_feed(ec, fds[0], NULL, NULL, NULL), -EBUSY);
	close(fds[0]);
	exec_control_put(ec);
}

static bool end_it(void *arg)
{
	exec_control_end(arg);
	return false;
}

static bool stop_it(void *arg)
{
	(void)arg;
	return true;
}

/* Nobody reads what is fed, and its source has no end. */
static void a_feed_does_not_wait_for_ever(void **state)
{
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	struct exec_control *ec;

	(void)state;
	assert_true(zero >= 0);
	assert_int_equal(exec_control_new(NULL, &ec, NULL), 0);
	assert_int_equal(exec_control_open_input(ec, NULL), 0);
	assert_int_equal(exec_control_feed(ec, zero, end_it, ec, NULL), 0);
	assert_int_equal(exec_control_feed(ec, zero, NULL, NULL, NULL), -ENOTCONN);
	exec_control_put(ec);

	assert_int_equal(exec_control_new(NULL, &ec, NULL), 0);
	assert_int_equal(exec_control_open_input(ec, NULL), 0);
	assert_int_equal(exec_control_feed(ec, zero, stop_it, NULL, NULL), -ECANCELED);
	exec_control_put(ec);
	close(zero);
}

static void others_find_what_is_listed(void **state)
{
	struct exec_control *ec, *found;
	struct exec_controls cs;

	(void)state;
	exec_controls_init(&cs);
	assert_int_equal(exec_control_new(NULL, &ec, NULL), 0);
	assert_null(exec_controls_find(&cs, exec_control_id(ec)));
	exec_controls_add(&cs, ec);
	found = exec_controls_find(&cs, exec_control_id(ec));
	assert_ptr_equal(found, ec);
	exec_controls_remove(&cs, ec);
	assert_null(exec_controls_find(&cs, exec_control_id(ec)));
	exec_control_put(ec);
	exec_control_put(found);
	exec_controls_fini(&cs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signals_have_names_and_numbers),
		cmocka_unit_test(signals_come_until_the_end),
		cmocka_unit_test(input_at_once_is_bounded_and_fixed),
		cmocka_unit_test(a_feed_ends_with_its_source),
		cmocka_unit_test(a_feed_does_not_wait_for_ever),
		cmocka_unit_test(others_find_what_is_listed),
	};

	signal(SIGPIPE, SIG_IGN); /* as the daemon */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
