#include "store/base/open_beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRIES 10000 /* somebody may rename for ever */

int open_beneath(int dir_fd, const char *path, int flags, enum open_beneath how)
{
	struct open_how arg = { .flags = (uint64_t)flags | O_CLOEXEC,
				.resolve = RESOLVE_NO_MAGICLINKS };
	int fd = -1;

	arg.resolve |= how == OPEN_IN_ROOT ? RESOLVE_IN_ROOT : RESOLVE_BENEATH;
	for (int i = 0; i < TRIES; i++) {
		fd = (int)syscall(SYS_openat2, dir_fd, path, &arg, sizeof(arg));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd < 0 ? -errno : fd;
}
