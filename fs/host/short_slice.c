/* In a file of its own, because this header and <sched.h> both define struct sched_param. */
#include "fs/host/short_slice.h"

#include <errno.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The shortest that Linux grants. */
#define SLICE_NS 100000u

void short_slice(void)
{
	struct sched_attr attr = { .size = sizeof(attr),
				   .sched_flags = SCHED_FLAG_KEEP_POLICY,
				   .sched_runtime = SLICE_NS };

	errno = 0;
	attr.sched_nice = getpriority(PRIO_PROCESS, 0);
	if (errno == 0)
		(void)!syscall(SYS_sched_setattr, 0, &attr, 0);
}
