/* short_slice: what it asks the kernel for, and what it leaves as it was. */
#include "fs/host/short_slice.h"

/* Before cmocka's; <sched.h>, which it must not meet, comes with <pthread.h>. */
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void needs_linux_6_12(void)
{
	struct utsname u;
	int major = 0, minor = 0;

	assert_int_equal(uname(&u), 0);
	assert_int_equal(sscanf(u.release, "%d.%d", &major, &minor), 2);
	if (major < 6 || (major == 6 && minor < 12))
		skip();
}

/* In a process of its own. 0, or the number of what is not as it should be. */
static int try_with(unsigned policy, int nice_value, unsigned long long slice)
{
	struct sched_attr attr = { .size = sizeof(attr),
				   .sched_policy = policy,
				   .sched_nice = nice_value };
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
			_exit(1);
		short_slice();
		if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) < 0)
			_exit(2);
		if (attr.sched_policy != policy)
			_exit(3);
		if (getpriority(PRIO_PROCESS, 0) != nice_value)
			_exit(4);
		_exit(attr.sched_runtime == slice ? 0 : 5);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

static void the_slice_is_short_and_all_else_stays(void **state)
{
	(void)state;
	needs_linux_6_12();
	assert_int_equal(try_with(SCHED_NORMAL, 0, 100000), 0);
	assert_int_equal(try_with(SCHED_NORMAL, 7, 100000), 0);
	assert_int_equal(try_with(SCHED_BATCH, 3, 100000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_slice_is_short_and_all_else_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
