#include "fs/shared/backing.h"

#include <errno.h>
#include <sys/ioctl.h>

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define BACKING_IOC_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_IOC_CLOSE _IOW(229, 2, uint32_t)

int backing_open(int fuse_fd, int fd)
{
	struct backing_map map = { .fd = fd };
	int id = ioctl(fuse_fd, BACKING_IOC_OPEN, &map);

	if (id < 0)
		return -errno;
	return id > 0 ? id : -EIO;
}

void backing_close(int fuse_fd, int id)
{
	uint32_t number = (uint32_t)id;

	(void)!ioctl(fuse_fd, BACKING_IOC_CLOSE, &number);
}
