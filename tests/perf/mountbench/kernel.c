/* Mounts of the kernel's own filesystems, by mount(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/perf/mountbench/mountbench.h"

/* A new upper and work directory every time: those are part of making a sandbox. */
void overlay_mount(struct subject *s)
{
	static unsigned n;
	char upper[4200], work[4200], options[13000];

	snprintf(upper, sizeof(upper), "%s/upper%u", s->work, n);
	snprintf(work, sizeof(work), "%s/work%u", s->work, n++);
	if (mkdir(upper, 0755) < 0 || mkdir(work, 0755) < 0)
		die("%s", upper);
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s", s->arg, upper,
		 work);
	if (mount("overlay", s->dir, "overlay", 0, options) < 0)
		die("overlay at %s", s->dir);
}

void overlay_unmount(struct subject *s)
{
	if (umount2(s->dir, 0) < 0)
		die("unmounting %s", s->dir);
}

/* A loop device for the image, which goes away with its last user: an open descriptor. */
static int loop_attach(const char *image, char *device, size_t size)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd = -1;
	int image_fd = open(image, O_RDONLY | O_CLOEXEC);

	if (control < 0 || image_fd < 0)
		die("%s", image);
	config.fd = (unsigned)image_fd;
	for (int tries = 0; tries < 100; tries++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE);
		snprintf(device, size, "/dev/loop%d", n);
		fd = open(device, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			break;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	if (fd < 0)
		die("a loop device for %s", image);
	close(control);
	close(image_fd);
	return fd;
}

static void loop_mount(struct subject *s, const char *type)
{
	char device[64];
	int fd = loop_attach(s->arg, device, sizeof(device));

	if (mount(device, s->dir, type, MS_RDONLY, NULL) < 0)
		die("%s of %s at %s", type, device, s->dir);
	close(fd);
}

void erofs_mount(struct subject *s)
{
	loop_mount(s, "erofs");
}

void squashfs_mount(struct subject *s)
{
	loop_mount(s, "squashfs");
}

void loop_unmount(struct subject *s)
{
	overlay_unmount(s);
}
