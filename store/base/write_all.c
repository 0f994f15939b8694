#include "store/base/write_all.h"

#include <errno.h>
#include <unistd.h>

/* How far one call got, or -errno; 0 after a signal. */
static ssize_t wrote(ssize_t n)
{
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return n > 0 ? n : -EIO;
}

int write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = wrote(write(fd, p, len));

		if (n < 0)
			return (int)n;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int pwrite_all(int fd, const void *data, size_t len, uint64_t pos)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = wrote(pwrite(fd, p, len, (off_t)pos));

		if (n < 0)
			return (int)n;
		p += n;
		pos += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}
