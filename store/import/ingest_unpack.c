#include "store/import/ingest_unpack.h"

#include <errno.h>

/* What is given out at once: some decompressors make blocks of megabytes. */
#define BLOCK_MAX ((size_t)256 << 10)

int ingest_unpack_init(struct ingest_unpack *u, ingest_read_fn fn, void *arg)
{
	*u = (struct ingest_unpack){ .raw = ingest_archive_open(INGEST_ARCHIVE_RAW, fn, arg) };
	return u->raw ? 0 : -ENOMEM;
}

void ingest_unpack_fini(struct ingest_unpack *u)
{
	ingest_archive_free(u->raw);
	u->raw = NULL;
}

/* The next block into u->data, or u->ended. */
static int next_block(struct ingest_unpack *u)
{
	struct archive_entry *e;
	const void *data;
	la_int64_t offset;
	int a = ARCHIVE_OK;

	if (!u->begun)
		a = archive_read_next_header(u->raw, &e);
	u->begun = true;
	if (a == ARCHIVE_OK || a == ARCHIVE_WARN)
		a = archive_read_data_block(u->raw, &data, &u->len, &offset);
	if (a == ARCHIVE_EOF) { /* at the header: no bytes at all */
		u->ended = true;
		u->len = 0;
		return 0;
	}
	if (a != ARCHIVE_OK && a != ARCHIVE_WARN) {
		u->len = 0;
		return -EBADMSG;
	}
	u->data = data;
	return 0;
}

ssize_t ingest_unpack_next(void *arg, const uint8_t **block)
{
	struct ingest_unpack *u = arg;

	while (u->len == 0 && !u->ended) {
		int r = next_block(u);

		if (r < 0)
			return r;
	}
	size_t n = MIN(BLOCK_MAX, u->len);
	if (n == 0)
		return 0;
	*block = u->data;
	u->data += n;
	u->len -= n;
	return (ssize_t)n;
}

const char *ingest_unpack_why(const struct ingest_unpack *u)
{
	return archive_error_string(u->raw);
}
