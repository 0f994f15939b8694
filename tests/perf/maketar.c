/*
 * maketar - write a tar of many small files to standard output, quickly.
 *
 *   maketar FILES
 *
 * 100 files a directory, 100 directories in one above, of 0 to 1,023 bytes each,
 * which differ. The same number gives the same bytes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512
#define FILES_PER_DIR 100

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void) /* xorshift64, Marsaglia 2003 */
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void put(const void *data, size_t len)
{
	if (fwrite(data, 1, len, stdout) != len) {
		perror("maketar");
		exit(1);
	}
}

/* A ustar header (POSIX.1-1988). */
static void put_header(const char *name, char type, size_t size)
{
	char h[BLOCK] = { 0 };
	unsigned sum = 0;

	snprintf(h, 100, "%s", name);
	snprintf(h + 100, 8, "%07o", type == '5' ? 0755 : 0644);
	snprintf(h + 108, 8, "%07o", 0);
	snprintf(h + 116, 8, "%07o", 0);
	snprintf(h + 124, 12, "%011zo", size);
	snprintf(h + 136, 12, "%011o", 1600000000);
	memset(h + 148, ' ', 8);
	h[156] = type;
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	put(h, BLOCK);
}

static void put_file(unsigned long i)
{
	char name[64], data[2 * BLOCK] = { 0 };
	size_t size = next_random() % 1024;

	snprintf(name, sizeof(name), "d%lu/e%lu/file%lu", i / FILES_PER_DIR / 100,
		 i / FILES_PER_DIR % 100, i);
	for (size_t n = 0; n < size; n += 8) {
		uint64_t v = next_random() & 0x3f3f3f3f3f3f3f3full; /* compresses a little */
		memcpy(data + n, &v, sizeof(v));
	}
	memset(data + size, 0, sizeof(data) - size);
	put_header(name, '0', size);
	put(data, (size + BLOCK - 1) / BLOCK * BLOCK);
}

int main(int argc, char **argv)
{
	static const char zeros[2 * BLOCK];
	static char buffer[1 << 20];
	unsigned long files = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
	char name[64];

	if (files == 0) {
		fprintf(stderr, "usage: maketar FILES > TAR\n");
		return 2;
	}
	setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
	for (unsigned long i = 0; i < files; i++) {
		if (i % (FILES_PER_DIR * 100) == 0) {
			snprintf(name, sizeof(name), "d%lu/", i / FILES_PER_DIR / 100);
			put_header(name, '5', 0);
		}
		if (i % FILES_PER_DIR == 0) {
			snprintf(name, sizeof(name), "d%lu/e%lu/", i / FILES_PER_DIR / 100,
				 i / FILES_PER_DIR % 100);
			put_header(name, '5', 0);
		}
		put_file(i);
	}
	put(zeros, sizeof(zeros));
	if (fflush(stdout) != 0) {
		perror("maketar");
		return 1;
	}
	return 0;
}
