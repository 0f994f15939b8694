/* System calls by a child: what they do is done here, their errors come back. */
#include "fs/host/child.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <setjmp.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/varve-child.XXXXXX";

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	umount2(dir, MNT_DETACH);
	return rmdir(dir);
}

static dev_t dev_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_dev;
}

/* Unmount the topmost mount at dir, as far as its id and device are right. */
static int unmount_dir(uint64_t id_off, dev_t dev_off, int flags)
{
	struct statx stx;

	assert_int_equal(statx(AT_FDCWD, dir, 0, STATX_MNT_ID, &stx), 0);
	return child_umount(dir, stx.stx_mnt_id + id_off, dev_of(dir) + dev_off, flags);
}

static void child_umount_takes_no_other_mount(void **state)
{
	(void)state;
	if (mount("none", dir, "tmpfs", 0, NULL) < 0)
		skip();
	assert_int_equal(unmount_dir(1, 0, MNT_DETACH), -EXDEV);
	assert_int_equal(unmount_dir(0, 1, MNT_DETACH), -EXDEV);
	assert_int_equal(unmount_dir(0, 0, MNT_DETACH), 0);
}

static void child_umount_unmounts_for_us(void **state)
{
	dev_t below = dev_of(dir);

	(void)state;
	if (mount("none", dir, "tmpfs", 0, NULL) < 0)
		skip();
	assert_int_not_equal(dev_of(dir), below);
	assert_int_equal(unmount_dir(0, 0, UMOUNT_NOFOLLOW), 0);
	assert_int_equal(dev_of(dir), below);
}

static void child_umount_says_what_failed(void **state)
{
	int fd;

	(void)state;
	assert_int_equal(child_umount("/nowhere/at/all", 1, 1, 0), -ENOENT);
	if (mount("none", dir, "tmpfs", 0, NULL) < 0)
		skip();
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	assert_int_equal(unmount_dir(0, 0, 0), -EBUSY);
	close(fd);
	assert_int_equal(unmount_dir(0, 0, 0), 0);
	assert_int_equal(unmount_dir(0, 0, 0), -EINVAL);
}

static void child_leaves_our_descriptors_alone(void **state)
{
	int fd[2], d = open(dir, O_PATH | O_DIRECTORY);
	dev_t dev = dev_of(dir);
	char c = 0;

	(void)state;
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(child_syncfs(dir, dev), 0);
	assert_int_equal(child_syncfs(dir, dev + 1), -ENODEV);
	assert_int_equal(child_syncfs("/nowhere/at/all", dev), -ENOENT);
	assert_int_equal(child_syncfs_fd(d), 0);
	assert_int_equal(child_syncfs_fd(-1), -EBADF);
	close(d);
	assert_int_equal(write(fd[1], "x", 1), 1);
	assert_int_equal(read(fd[0], &c, 1), 1);
	assert_int_equal(c, 'x');
	close(fd[0]);
	close(fd[1]);
}

static void child_write_back_wants_the_right_filesystem(void **state)
{
	(void)state;
	assert_int_equal(child_write_back(dir, dev_of(dir) + 1, 1), -ENODEV);
	assert_int_equal(child_write_back("/nowhere/at/all", 1, 1), -ENOENT);
}

static void child_looks_at_files(void **state)
{
	char path[300], link[300];

	(void)state;
	snprintf(path, sizeof(path), "%s/file", dir);
	snprintf(link, sizeof(link), "%s/link", dir);
	assert_int_equal(child_file_type(path), -ENOENT);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(symlink("file", link), 0);
	assert_int_equal(child_file_type(dir), S_IFDIR);
	assert_int_equal(child_file_type(path), S_IFREG);
	assert_int_equal(child_file_type(link), S_IFLNK);
	assert_int_equal(child_same_file(path, link), 0);
	assert_int_equal(child_same_file(path, dir), -EXDEV);
	assert_int_equal(child_same_file("/nowhere/at/all", dir), -ENOENT);
	unlink(link);
	unlink(path);
}

static void child_reads_below_a_root(void **state)
{
	char path[300], link[300], room[8] = "";

	(void)state;
	snprintf(path, sizeof(path), "%s/file", dir);
	snprintf(link, sizeof(link), "%s/link", dir);
	assert_int_equal(child_read_in_root(dir, "file", room, sizeof(room)), -ENOENT);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, "0123456789", 10), 10);
	close(fd);
	assert_int_equal(symlink("/../file", link), 0);
	assert_int_equal(child_read_in_root(dir, "link", room, 4), 4);
	assert_memory_equal(room, "0123", 5);
	assert_int_equal(child_read_in_root(dir, "/file", room, sizeof(room)), 8);
	assert_int_equal(child_read_in_root(dir, ".", room, sizeof(room)), -EINVAL);
	assert_int_equal(child_read_in_root("/nowhere/at/all", "x", room, sizeof(room)), -ENOENT);
	unlink(link);
	unlink(path);
}

static void *sync_often(void *arg)
{
	dev_t dev = dev_of(dir);
	int *bad = arg;

	for (int i = 0; i < 50; i++)
		*bad += child_syncfs(dir, dev) != 0;
	return NULL;
}

static void children_of_several_threads_do_not_meet(void **state)
{
	pthread_t t[4];
	int bad[4] = { 0 };

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, sync_often, &bad[i]), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(bad[i], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(child_umount_unmounts_for_us),
		cmocka_unit_test(child_umount_takes_no_other_mount),
		cmocka_unit_test(child_umount_says_what_failed),
		cmocka_unit_test(child_leaves_our_descriptors_alone),
		cmocka_unit_test(child_looks_at_files),
		cmocka_unit_test(child_reads_below_a_root),
		cmocka_unit_test(child_write_back_wants_the_right_filesystem),
		cmocka_unit_test(children_of_several_threads_do_not_meet),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
