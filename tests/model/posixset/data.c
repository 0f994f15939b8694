/* data.c - what files hold: ranges, holes, maps, direct I/O. */
#include "tests/model/posixset/posixset.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1 << 20)

static bool is_zero(int fd, off_t from, size_t len)
{
	char *buf = malloc(len);
	bool zero = buf && pread(fd, buf, len, from) == (ssize_t)len;

	for (size_t i = 0; zero && i < len; i++)
		zero = !buf[i];
	free(buf);
	return zero;
}

static int sparse_files_show_their_holes(void)
{
	static char data[MIB];
	fill(1, data, MIB);
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	CHECK(fd >= 0 && pwrite(fd, data, MIB, 10 * MIB) == MIB && !ftruncate(fd, 30 * MIB));
	/* Nothing was synced: data still in the page cache must be seen as well. */
	off_t at = lseek(fd, 0, SEEK_DATA);
	CHECK(at >= 0 && at <= 10 * MIB);
	at = lseek(fd, 10 * MIB, SEEK_DATA);
	CHECK(at == 10 * MIB);
	at = lseek(fd, 10 * MIB, SEEK_HOLE);
	CHECK(at >= 11 * MIB && at <= 30 * MIB);
	CHECK(!fsync(fd));
	CHECK(lseek(fd, 0, SEEK_DATA) <= 10 * MIB && lseek(fd, 10 * MIB, SEEK_HOLE) >= 11 * MIB);
	CHECK(lseek(fd, 0, SEEK_HOLE) <= 30 * MIB);
	CHECK_ERR(lseek(fd, 30 * MIB, SEEK_DATA), ENXIO);
	CHECK_ERR(lseek(fd, 30 * MIB, SEEK_HOLE), ENXIO);
	CHECK(is_zero(fd, 0, MIB) && is_zero(fd, 29 * MIB, MIB));
	CHECK(stat_of("f").st_blocks >= MIB / 512 && stat_of("f").st_blocks < 4 * MIB / 512);
	return CASE_PASS;
}

static int punched_holes_read_as_zeros(void)
{
	static char data[MIB];
	fill(2, data, MIB);
	CHECK(put_file("f", data, MIB));
	int fd = open("f", O_RDWR);
	CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100000, 500000));
	CHECK(is_zero(fd, 100000, 500000) && stat_of("f").st_size == MIB);
	memset(data + 100000, 0, 500000);
	CHECK(file_is("f", data, MIB));
	CHECK(!fsync(fd) && stat_of("f").st_blocks * 512 <= MIB - 400000);
	off_t hole = lseek(fd, 0, SEEK_HOLE);
	CHECK(hole >= 100000 && hole <= 104 * 1024);
	CHECK(!fallocate(fd, FALLOC_FL_ZERO_RANGE, MIB - 1000, 2000));
	CHECK(stat_of("f").st_size == MIB + 1000 && is_zero(fd, MIB - 1000, 2000));
	CHECK(!fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4 * MIB));
	CHECK(stat_of("f").st_size == MIB + 1000 && is_zero(fd, 0, MIB + 1000));
	return CASE_PASS;
}

static int fallocate_extends_or_not(void)
{
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	CHECK(fd >= 0 && !fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, MIB));
	CHECK(stat_of("f").st_size == 0);
	CHECK(!posix_fallocate(fd, 0, MIB) && stat_of("f").st_size == MIB && is_zero(fd, 0, MIB));
	CHECK_ERR(fallocate(fd, 0, 0, 0), EINVAL);
	CHECK_ERR(fallocate(fd, 0, -1, 10), EINVAL);
	return CASE_PASS;
}

static int truncated_bytes_never_come_back(void)
{
	char data[10000];
	fill(3, data, sizeof(data));
	CHECK(put_file("f", data, sizeof(data)));
	CHECK(!truncate("f", 5000) && !truncate("f", 9000));
	memset(data + 5000, 0, 5000);
	CHECK(file_is("f", data, 9000));
	int fd = open("f", O_RDWR);
	CHECK(fd >= 0 && !ftruncate(fd, 100) && pwrite(fd, "x", 1, 8191) == 1);
	memset(data + 100, 0, 9900);
	data[8191] = 'x';
	CHECK(file_is("f", data, 8192));
	CHECK_ERR(truncate("f", -1), EINVAL);
	return CASE_PASS;
}

static int appends_go_to_the_end(void)
{
	int a = open("f", O_WRONLY | O_CREAT | O_APPEND, 0644), b = open("f", O_RDWR | O_APPEND);
	CHECK(a >= 0 && b >= 0 && write(a, "one", 3) == 3 && write(b, "two", 3) == 3);
	CHECK(pwrite(a, "three", 5, 0) == 5 && has_text("f", "onetwothree"));
	CHECK(!ftruncate(b, 3) && write(a, "!", 1) == 1 && has_text("f", "one!"));
	return CASE_PASS;
}

static int many_processes_append_without_loss(void)
{
	char line[64];
	memset(line, 'l', sizeof(line));
	line[63] = '\n';
	for (int p = 0; p < 4; p++) {
		if (fork())
			continue;
		int fd = open("f", O_WRONLY | O_CREAT | O_APPEND, 0644);
		for (int i = 0; i < 500; i++)
			if (write(fd, line, 64) != 64)
				_exit(1);
		_exit(0);
	}
	for (int p = 0, status; p < 4; p++)
		CHECK(wait(&status) > 0 && status == 0);
	CHECK(stat_of("f").st_size == 4 * 500 * 64);
	int fd = open("f", O_RDONLY);
	for (int i = 0; i < 2000; i++) {
		char got[64];
		CHECK(read(fd, got, 64) == 64 && !memcmp(got, line, 64));
	}
	return CASE_PASS;
}

static int direct_io_and_the_page_cache_agree(void)
{
	char *buf = aligned_alloc(4096, 65536), *got = aligned_alloc(4096, 65536);
	fill(4, buf, 65536);
	CHECK(put_file("f", buf, 65536));
	int d = open("f", O_RDWR | O_DIRECT), n = open("f", O_RDWR);
	CHECK(d >= 0 && n >= 0 && pread(d, got, 65536, 0) == 65536 && !memcmp(buf, got, 65536));
	fill(5, buf + 8192, 4096);
	CHECK(pwrite(d, buf + 8192, 4096, 8192) == 4096);
	CHECK(pread(n, got, 65536, 0) == 65536 && !memcmp(buf, got, 65536));
	fill(6, buf + 100, 10);
	CHECK(pwrite(n, buf + 100, 10, 100) == 10);
	CHECK(pread(d, got, 4096, 0) == 4096 && !memcmp(buf, got, 4096));
	CHECK(pwrite(d, buf, 4096, 65536) == 4096 && stat_of("f").st_size == 69632);
	CHECK(pread(d, got, 65536, 65536) == 4096 && !memcmp(buf, got, 4096));
	return CASE_PASS;
}

static int shared_maps_are_the_file(void)
{
	char data[20000];
	fill(8, data, sizeof(data));
	CHECK(put_file("f", data, sizeof(data)));
	int fd = open("f", O_RDWR);
	char *m = mmap(NULL, 20000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(m != MAP_FAILED && !memcmp(m, data, 20000));
	memcpy(m + 5000, "mapped", 6);
	memcpy(data + 5000, "mapped", 6);
	CHECK(file_is("f", data, 20000));
	CHECK(pwrite(fd, "written", 7, 12000) == 7 && !memcmp(m + 12000, "written", 7));
	CHECK(!msync(m, 20000, MS_SYNC));
	int status;
	if (!fork()) {
		m[0] = '#'; /* a shared map in another process */
		_exit(0);
	}
	CHECK(wait(&status) > 0 && m[0] == '#');
	char got;
	CHECK(pread(fd, &got, 1, 0) == 1 && got == '#');
	CHECK(!munmap(m, 20000) && !close(fd));
	return CASE_PASS;
}

static int private_maps_are_not(void)
{
	char data[8192];
	fill(9, data, sizeof(data));
	CHECK(put_file("f", data, sizeof(data)));
	int fd = open("f", O_RDONLY);
	char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK(m != MAP_FAILED && !memcmp(m, data, 8192));
	memset(m, 0, 8192);
	CHECK(file_is("f", data, 8192));
	CHECK(!close(fd) && !unlink("f") && !m[0]);
	return CASE_PASS;
}

static int programs_run(void)
{
	int in = open("/bin/true", O_RDONLY), out = open("true", O_WRONLY | O_CREAT, 0755);
	struct stat st;
	CHECK(in >= 0 && out >= 0 && !fstat(in, &st));
	for (off_t at = 0; at < st.st_size;)
		CHECK(sendfile(out, in, &at, (size_t)(st.st_size - at)) > 0);
	CHECK(!close(out));
	int status;
	pid_t pid = fork();
	if (!pid) {
		execl("./true", "true", (char *)NULL);
		_exit(1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	return CASE_PASS;
}

static int ranges_are_copied(void)
{
	static char data[MIB];
	fill(10, data, MIB);
	CHECK(put_file("a", data, MIB) && put_text("b", ""));
	int a = open("a", O_RDWR), b = open("b", O_RDWR);
	off_t from = 1000, to = 77;
	for (size_t left = 500000; left;) {
		ssize_t n = copy_file_range(a, &from, b, &to, left, 0);
		CHECK(n > 0);
		left -= (size_t)n;
	}
	char *got = malloc(500077);
	CHECK(pread(b, got, 500077, 0) == 500077 && !memcmp(got + 77, data + 1000, 500000));
	CHECK(is_zero(b, 0, 77));
	off_t x = 0, y = 10;
	CHECK_ERR(copy_file_range(a, &x, a, &y, 100, 0), EINVAL);
	return CASE_PASS;
}

static int large_offsets_work(void)
{
	char got[5] = "";
	off_t far = 1ll << 40;
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	CHECK(fd >= 0 && pwrite(fd, "far", 3, far) == 3 && stat_of("f").st_size == far + 3);
	CHECK(pread(fd, got, 5, far) == 3 && !strcmp(got, "far") &&
	      pread(fd, got, 5, far + 3) == 0);
	CHECK(is_zero(fd, far - 4096, 4096) && stat_of("f").st_blocks < 1000);
	CHECK(!fsync(fd) && lseek(fd, 0, SEEK_DATA) > far - MIB);
	CHECK(!ftruncate(fd, 20ll << 30) && is_zero(fd, (20ll << 30) - 100, 100));
	return CASE_PASS;
}

static int handles_refuse_what_they_were_not_opened_for(void)
{
	char c;
	CHECK(put_text("f", "abc"));
	int r = open("f", O_RDONLY), w = open("f", O_WRONLY), d = open(".", O_RDONLY);
	CHECK_ERR(write(r, "x", 1), EBADF);
	CHECK_ERR(read(w, &c, 1), EBADF);
	CHECK_ERR(ftruncate(r, 0), EINVAL);
	CHECK_ERR(read(d, &c, 1), EISDIR);
	CHECK_ERR(mmap(NULL, 10, PROT_WRITE, MAP_SHARED, r, 0) == MAP_FAILED ? -1 : 0, EACCES);
	CHECK_ERR(fallocate(r, 0, 0, 10), EBADF);
	CHECK(!fsync(r) && !fdatasync(w) && !fsync(d) && !syncfs(d));
	return CASE_PASS;
}

static int statfs_tells_sane_figures(void)
{
	struct statvfs v;
	CHECK(!statvfs(".", &v) && v.f_namemax == 255 && v.f_bsize >= 512 && v.f_frsize >= 512);
	CHECK(v.f_blocks > 0 && v.f_bfree <= v.f_blocks && v.f_bavail <= v.f_bfree);
	return CASE_PASS;
}

static int random_small_writes_add_up(void)
{
	enum { SIZE = 600000 };
	static char want[SIZE];
	uint32_t x = 99;
	int fd = open("f", O_RDWR | O_CREAT, 0644);
	CHECK(fd >= 0 && !ftruncate(fd, SIZE));
	for (int i = 0; i < 3000; i++) {
		x = x * 1664525 + 1013904223;
		size_t len = 1 + (x >> 8) % 700, at = (x >> 4) % (SIZE - 700);
		fill(x, want + at, len);
		CHECK(pwrite(fd, want + at, len, (off_t)at) == (ssize_t)len);
		if (i % 500 == 0)
			CHECK(!fdatasync(fd));
	}
	CHECK(!close(fd) && file_is("f", want, SIZE));
	return CASE_PASS;
}

const struct posix_case data_cases[] = {
	CASE(sparse_files_show_their_holes),
	CASE(punched_holes_read_as_zeros),
	CASE(fallocate_extends_or_not),
	CASE(truncated_bytes_never_come_back),
	CASE(appends_go_to_the_end),
	CASE(many_processes_append_without_loss),
	CASE(direct_io_and_the_page_cache_agree),
	CASE(shared_maps_are_the_file),
	CASE(private_maps_are_not),
	CASE(programs_run),
	CASE(ranges_are_copied),
	CASE(large_offsets_work),
	CASE(handles_refuse_what_they_were_not_opened_for),
	CASE(statfs_tells_sane_figures),
	CASE(random_small_writes_add_up),
	{ NULL, NULL },
};
