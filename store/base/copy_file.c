#include "store/base/copy_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/write_all.h"

#define PIECE (8u << 20) /* of copying, until the next look at whether to go on */
#define BUFFER (256u << 10)

/* Between filesystems that cannot help each other. Up to BUFFER bytes. */
static ssize_t copy_by_hand(int from, int to, uint64_t at, uint64_t len)
{
	void *buf = malloc(BUFFER);
	ssize_t n = buf ? pread(from, buf, MIN(len, (uint64_t)BUFFER), (off_t)at) : -1;
	int r = !buf ? -ENOMEM : n < 0 ? -errno : pwrite_all(to, buf, (size_t)n, at);

	free(buf);
	return r < 0 ? r : n;
}

/* Some bytes at `at`: how many, 0 at the end of the file, or -errno. */
static ssize_t copy_some(int from, int to, uint64_t at, uint64_t len)
{
	loff_t in = (loff_t)at, out = (loff_t)at;
	ssize_t n = copy_file_range(from, &in, to, &out, MIN(len, (uint64_t)PIECE), 0);

	if (n > 0)
		return n;
	if (n < 0 && errno != EXDEV && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* Some filesystems say that there is nothing to copy where they cannot tell. */
	return copy_by_hand(from, to, at, len);
}

static int copy_data(int from, int to, uint64_t at, uint64_t end, struct progress *p)
{
	while (at < end) {
		ssize_t n = progress_cancelled(p) ? -ECANCELED : copy_some(from, to, at, end - at);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return (int)n;
		at += (uint64_t)n;
		if (p)
			p->done_bytes += (uint64_t)n;
		progress_tick(p, false);
	}
	return 0;
}

int copy_file(int from, int to, uint64_t len, struct progress *p)
{
	uint64_t at = 0;
	int r = ftruncate(to, (off_t)len) < 0 ? -errno : 0;

	while (!r && at < len) {
		off_t data = lseek(from, (off_t)at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);

		if (data < 0 && errno == ENXIO) /* a hole to the end */
			break;
		if (hole < 0)
			return -errno;
		r = copy_data(from, to, (uint64_t)data, MIN((uint64_t)hole, len), p);
		at = (uint64_t)hole;
	}
	return r;
}

int copy_file_at(int from_dir, const char *from, int to_dir, const char *to, struct progress *p)
{
	struct stat st;
	int in = openat(from_dir, from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out, r;

	if (in < 0)
		return -errno;
	r = fstat(in, &st) < 0 ? -errno : !S_ISREG(st.st_mode) ? -EINVAL : 0;
	out = r ? -1 : openat(to_dir, to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (!r && out < 0)
		r = -errno;
	if (!r)
		r = copy_file(in, out, (uint64_t)st.st_size, p);
	if (!r && fsync(out) < 0)
		r = -errno;
	close(in);
	if (out >= 0)
		close(out);
	return r;
}
