/*
 * A mount's journal: the input is a segment, from its head on. The fuzzer cannot
 * guess checksums, so it gets them mended: what is behind them is to be decoded.
 */
#include <stdlib.h>
#include <string.h>

#include "fs/upper/journal_internal.h"
#include "store/base/wire.h"
#include "tests/fuzz/fuzz.h"

#define SIZE_MAX_HERE (64u << 10)

static void decode_changes(const struct journal_record *rec)
{
	CLEANUP(buf_fini_p) struct buf again = BUF_INIT;
	struct journal_entry e;
	struct wire_reader r;
	int step;

	wire_reader_init(&r, rec->body, rec->len);
	while ((step = journal_entry_next(&r, &e)) > 0) {
		(void)journal_entry_epoch(&e);
		MUST(journal_change(&again, e.key, e.klen, e.val, e.val ? e.vlen : 0) == 0);
	}
	MUST(again.len <= rec->len);
}

static void decode(const uint8_t *data, size_t len, const struct journal_head *h)
{
	struct journal_segment s = { data, len, h->number, h->version };
	struct journal_record rec;
	size_t at = JOURNAL_HEAD;

	while (journal_record_next(&s, &at, &rec) > 0) {
		if (rec.kind == JOURNAL_OP)
			decode_changes(&rec);
		if (rec.kind == JOURNAL_EPOCH) {
			uint8_t again[JOURNAL_EPOCH_MAX];
			struct journal_epoch e;

			MUST(journal_epoch_get(again, journal_epoch_put(&rec.epoch, again), &e) ==
			     0);
			MUST(e.ended == rec.epoch.ended && e.begun == rec.epoch.begun);
			MUST(e.next_ino == rec.epoch.next_ino);
			MUST(strcmp(e.snapshot_id, rec.epoch.snapshot_id) == 0);
		}
	}
}

/* Give every record whose length fits the checksum that it should have. */
static void mend(uint8_t *data, size_t len, const struct journal_head *h)
{
	size_t at = JOURNAL_HEAD;

	while (at + JOURNAL_RECORD < len) {
		size_t n = wire_get32(data + at);

		if (!n || n > len - JOURNAL_RECORD - at)
			return;
		wire_set32(data + at + 4,
			   journal_record_crc(journal_seed(h), data + at + JOURNAL_RECORD, n, NULL,
					      0));
		at = journal_align(at + JOURNAL_RECORD + n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct journal_head h = { 0 };
	uint8_t *data;

	if (size < JOURNAL_HEAD || size > SIZE_MAX_HERE)
		return 0;
	data = malloc(size);
	MUST(data);
	memcpy(data, input, size);
	if (journal_head_get(data, &h) != 0)
		h = (struct journal_head){ .number = 1, .version = 1 + data[7] % 2 };
	(void)journal_segment_end(data, size, journal_seed(&h));
	mend(data, size, &h);
	decode(data, journal_segment_end(data, size, journal_seed(&h)), &h);
	/* As it is: nothing goes past its end even where nothing checks. */
	decode(data, size, &h);
	free(data);
	return 0;
}
