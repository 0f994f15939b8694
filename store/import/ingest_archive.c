#include "store/import/ingest_archive.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#define ARCHIVE_BLOCK (256u << 10)

struct archive_input {
	ingest_read_fn read;
	void *arg;
	uint8_t block[ARCHIVE_BLOCK];
};

struct block_input {
	ingest_block_fn next;
	void *arg;
};

/* What a read gave, as libarchive is to be told. */
static ssize_t given(struct archive *a, ssize_t n)
{
	if (n >= 0)
		return n;
	archive_set_error(a, (int)-n, "cannot read: %s", strerror((int)-n));
	return -1;
}

static ssize_t input_read(struct archive *a, void *arg, const void **block)
{
	struct archive_input *input = arg;

	*block = input->block;
	return given(a, input->read(input->arg, input->block, sizeof(input->block)));
}

static ssize_t block_input_read(struct archive *a, void *arg, const void **block)
{
	struct block_input *input = arg;
	const uint8_t *data = NULL;
	ssize_t n = given(a, input->next(input->arg, &data));

	*block = data;
	return n;
}

static int input_close(struct archive *a, void *arg)
{
	(void)a;
	free(arg);
	return ARCHIVE_OK;
}

static void add_filters(struct archive *a)
{
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_bzip2(a);
	archive_read_support_filter_compress(a);
	archive_read_support_filter_lz4(a);
	archive_read_support_filter_lzip(a);
	archive_read_support_filter_lzma(a);
	archive_read_support_filter_xz(a);
	archive_read_support_filter_zstd(a);
}

struct archive *ingest_archive_open(enum ingest_archive kind, ingest_read_fn fn, void *arg)
{
	struct archive *a = archive_read_new();
	struct archive_input *input = malloc(sizeof(*input));

	if (!a || !input) {
		free(input);
		archive_read_free(a);
		return NULL;
	}
	input->read = fn;
	input->arg = arg;
	add_filters(a);
	if (kind == INGEST_ARCHIVE_RAW)
		archive_read_support_format_raw(a);
	else
		archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	/* A failure shows at the first header, with its text. */
	(void)archive_read_open(a, input, NULL, input_read, input_close);
	return a;
}

struct archive *ingest_archive_open_blocks(ingest_block_fn fn, void *arg)
{
	struct archive *a = archive_read_new();
	struct block_input *input = malloc(sizeof(*input));

	if (!a || !input) {
		free(input);
		archive_read_free(a);
		return NULL;
	}
	*input = (struct block_input){ fn, arg };
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	/* A failure shows at the first header, with its text. */
	(void)archive_read_open(a, input, NULL, block_input_read, input_close);
	return a;
}

void ingest_archive_free(struct archive *a)
{
	if (a)
		archive_read_free(a);
}

void ingest_locale_enter(struct ingest_locale *l)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);

	l->ours = (void *)c;
	l->before = c ? (void *)uselocale(c) : NULL;
}

void ingest_locale_leave(struct ingest_locale *l)
{
	if (!l->ours)
		return;
	uselocale((locale_t)l->before);
	freelocale((locale_t)l->ours);
}
