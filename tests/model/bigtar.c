/*
 * bigtar N - write a tar of N small files to standard output: dA/dB/fC, 100 files
 * a directory and 100 directories a directory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* POSIX.1-1988 ustar */
struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
	char magic[8], rest[247];
};

static void entry(const char *name, char type, const char *data)
{
	static const char zeros[512];
	struct header h;
	unsigned sum = 0;
	size_t len = strlen(data);

	memset(&h, 0, sizeof(h));
	snprintf(h.name, sizeof(h.name), "%s", name);
	snprintf(h.mode, sizeof(h.mode), "%07o", type == '5' ? 0755u : 0644u);
	snprintf(h.uid, sizeof(h.uid), "%07o", 0u);
	snprintf(h.gid, sizeof(h.gid), "%07o", 0u);
	snprintf(h.size, sizeof(h.size), "%011o", (unsigned)len);
	snprintf(h.mtime, sizeof(h.mtime), "%011o", 1000000000u);
	memset(h.sum, ' ', sizeof(h.sum));
	h.type = type;
	memcpy(h.magic, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((unsigned char *)&h)[i];
	snprintf(h.sum, sizeof(h.sum), "%06o", sum);
	fwrite(&h, sizeof(h), 1, stdout);
	if (len) {
		fwrite(data, len, 1, stdout);
		fwrite(zeros, 512 - len % 512, 1, stdout);
	}
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 0;
	char name[100], data[100];

	if (n <= 0) {
		fprintf(stderr, "usage: bigtar N\n");
		return 2;
	}
	for (long i = 0; i < n; i++) {
		long f = i % 100, b = i / 100 % 100, a = i / 10000;
		if (f == 0 && b == 0) {
			snprintf(name, sizeof(name), "d%ld/", a);
			entry(name, '5', "");
		}
		if (f == 0) {
			snprintf(name, sizeof(name), "d%ld/d%ld/", a, b);
			entry(name, '5', "");
		}
		snprintf(name, sizeof(name), "d%ld/d%ld/f%ld", a, b, f);
		snprintf(data, sizeof(data), "file %ld of %ld/%ld\n", f, a, b);
		entry(name, '0', data);
	}
	static const char end[1024];
	fwrite(end, sizeof(end), 1, stdout);
	return fflush(stdout) ? 1 : 0;
}
