/*
 * From a journal's records to the database. Of the changes of one key only the
 * last is written: an inode's record changes with every operation on it.
 */
#include "fs/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

#include "store/base/wire.h"

#define KEY_MAX 512u

static const char magic[8] = "VARVEJ1";

void journal_head_put(uint8_t *segment, const struct journal_head *h)
{
	memcpy(segment, magic, sizeof(magic));
	wire_set64(segment + 8, h->number);
	wire_set64(segment + 16, h->before);
	memcpy(segment + 24, h->boot, JOURNAL_BOOT_SIZE);
	wire_set32(segment + 40, (uint32_t)crc32(0, segment, 40));
	wire_set32(segment + 44, 0);
}

bool journal_head_get(const uint8_t *segment, struct journal_head *out)
{
	if (memcmp(segment, magic, sizeof(magic)) != 0 ||
	    wire_get32(segment + 40) != (uint32_t)crc32(0, segment, 40))
		return false;
	out->number = wire_get64(segment + 8);
	out->before = wire_get64(segment + 16);
	memcpy(out->boot, segment + 24, JOURNAL_BOOT_SIZE);
	return true;
}

void journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE])
{
	char text[64] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	unsigned n = 0, digit;

	memset(out, 0, JOURNAL_BOOT_SIZE);
	if (fd < 0)
		return;
	ssize_t len = read(fd, text, sizeof(text) - 1);

	close(fd);
	for (ssize_t i = 0; i < len && n < 2 * JOURNAL_BOOT_SIZE; i++) {
		if (sscanf((char[]){ text[i], 0 }, "%1x", &digit) != 1)
			continue;
		out[n / 2] = (uint8_t)(out[n / 2] << 4 | digit);
		n++;
	}
}

uint32_t journal_record_crc(uint64_t number, const void *payload, size_t len)
{
	uint8_t n[8];

	wire_set64(n, number);
	return (uint32_t)crc32(crc32(0, n, sizeof(n)), payload, (uInt)len);
}

size_t journal_segment_end(const uint8_t *segment, uint64_t number)
{
	size_t at = JOURNAL_HEAD;

	while (at + JOURNAL_RECORD <= JOURNAL_SEGMENT) {
		uint32_t len = wire_get32(segment + at);

		if (!len || len > JOURNAL_SEGMENT - JOURNAL_RECORD - at ||
		    wire_get32(segment + at + 4) !=
			    journal_record_crc(number, segment + at + JOURNAL_RECORD, len))
			break;
		at = MIN(journal_align(at + JOURNAL_RECORD + len), (size_t)JOURNAL_SEGMENT);
	}
	return at;
}

int journal_change(struct buf *op, const void *key, size_t klen, const void *val, size_t vlen)
{
	int r = buf_reserve(op, 7 + klen + vlen);

	if (r)
		return r;
	uint8_t *p = op->data + op->len;

	p[0] = val ? JOURNAL_PUT : JOURNAL_DELETE;
	p[1] = (uint8_t)klen;
	p[2] = (uint8_t)(klen >> 8);
	wire_set32(p + 3, (uint32_t)vlen);
	memcpy(p + 7, key, klen);
	if (vlen)
		memcpy(p + 7 + klen, val, vlen);
	op->len += 7 + klen + vlen;
	return 0;
}

/* ---- data ---- */

static int write_data(int fd, const uint8_t *payload, size_t len)
{
	off_t pos = (off_t)wire_get64(payload + 1);
	const uint8_t *p = payload + 9, *end = payload + len;

	while (p < end) {
		ssize_t n = pwrite(fd, p, (size_t)(end - p), pos);

		if (n < 0 && errno != EINTR)
			return -errno;
		p += n > 0 ? n : 0;
		pos += n > 0 ? n : 0;
	}
	return 0;
}

int journal_scan_data(const uint8_t *segment, uint64_t number, size_t len,
		      struct journal_data_scan *s, int fd)
{
	size_t at = JOURNAL_HEAD;
	int r = 0;

	while (!r && at + JOURNAL_RECORD < len) {
		uint32_t n = wire_get32(segment + at);
		const uint8_t *payload = segment + at + JOURNAL_RECORD;
		bool after = !s->synced_at || number > s->synced_number ||
			     (number == s->synced_number && at > s->synced_at);

		if (payload[0] == JOURNAL_DATA_SYNCED && fd < 0) {
			s->synced_number = number;
			s->synced_at = at;
			s->any = false;
		}
		if (payload[0] == JOURNAL_DATA && n < 9)
			return -EBADMSG;
		if (payload[0] == JOURNAL_DATA && after) {
			s->any = true;
			if (fd >= 0)
				r = write_data(fd, payload, n);
		}
		at = journal_align(at + JOURNAL_RECORD + n);
	}
	return r;
}

/* ---- the last change of each key ---- */

struct entries {
	struct journal_entry *e;
	size_t n, cap;
};

static int add_payload(struct entries *all, const uint8_t *data, size_t len)
{
	struct wire_reader r;

	wire_reader_init(&r, data, len);
	while (wire_left(&r)) {
		struct journal_entry e;
		uint8_t put = wire_u8(&r);

		e.klen = wire_u16(&r);
		e.vlen = wire_u32(&r);
		e.key = wire_bytes(&r, e.klen);
		e.val = wire_bytes(&r, e.vlen);
		if (!wire_ok(&r) || e.klen < 4 || e.klen > KEY_MAX)
			return -EBADMSG;
		if (!put)
			e.val = NULL;
		if (all->n == all->cap) {
			size_t cap = all->cap ? all->cap * 2 : 1024;
			struct journal_entry *p = realloc(all->e, cap * sizeof(*p));

			if (!p)
				return -ENOMEM;
			all->e = p;
			all->cap = cap;
		}
		all->e[all->n++] = e;
	}
	return 0;
}

static int add_records(struct entries *all, const uint8_t *segment, size_t len)
{
	size_t at = JOURNAL_HEAD;
	int r = 0;

	while (!r && at + JOURNAL_RECORD <= len) {
		uint32_t n = wire_get32(segment + at);

		if (segment[at + JOURNAL_RECORD] <= JOURNAL_PUT)
			r = add_payload(all, segment + at + JOURNAL_RECORD, n);
		at = journal_align(at + JOURNAL_RECORD + n);
	}
	return r;
}

static uint64_t hash_key(const struct journal_entry *e)
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */

	for (uint32_t i = 0; i < e->klen; i++)
		h = (h ^ e->key[i]) * 0x100000001b3ull;
	return h ^ h >> 29;
}

static uint32_t epoch_of(const struct journal_entry *e)
{
	return (uint32_t)e->key[0] << 24 | (uint32_t)e->key[1] << 16 | (uint32_t)e->key[2] << 8 |
	       e->key[3];
}

static void put_entry(struct kv *kv, struct kv_batch *b, const uint8_t *id,
		      const struct journal_entry *e)
{
	uint8_t key[JOURNAL_ID_SIZE + KEY_MAX];

	memcpy(key, id, JOURNAL_ID_SIZE);
	memcpy(key + JOURNAL_ID_SIZE, e->key, e->klen);
	if (e->val)
		kv_batch_put(kv, b, KV_UPPER, key, JOURNAL_ID_SIZE + e->klen, e->val, e->vlen);
	else
		kv_batch_del(kv, b, KV_UPPER, key, JOURNAL_ID_SIZE + e->klen);
}

/* Into the batch with the last change of each key: from the end, the first that is met. */
static int put_last(struct kv *kv, struct kv_batch *b, const uint8_t *id, const struct entries *all,
		    uint32_t min_epoch)
{
	size_t slots = 16;

	while (slots < 2 * all->n)
		slots *= 2;
	uint32_t *table = calloc(slots, sizeof(*table)); /* 1 + index; 0: free */

	if (!table)
		return -ENOMEM;
	for (size_t i = all->n; i-- > 0;) {
		const struct journal_entry *e = &all->e[i], *other;
		size_t at = hash_key(e) & (slots - 1);
		bool met = false;

		for (; table[at] && !met; at = (at + 1) & (slots - 1)) {
			other = &all->e[table[at] - 1];
			met = other->klen == e->klen && memcmp(other->key, e->key, e->klen) == 0;
		}
		if (met)
			continue;
		table[at] = (uint32_t)i + 1;
		if (epoch_of(e) >= min_epoch)
			put_entry(kv, b, id, e);
	}
	free(table);
	return 0;
}

static void applied_key(const uint8_t *id, uint8_t out[JOURNAL_ID_SIZE + 4])
{
	memcpy(out, id, JOURNAL_ID_SIZE);
	memset(out + JOURNAL_ID_SIZE, 0, 4);
}

int journal_applied(struct kv *kv, const uint8_t id[JOURNAL_ID_SIZE], uint64_t *out)
{
	uint8_t key[JOURNAL_ID_SIZE + 4];
	struct kv_value v = { 0 };

	applied_key(id, key);
	int r = kv_get(kv, KV_UPPER, key, sizeof(key), &v);

	*out = 0;
	if (r == -ENOENT)
		return 0;
	if (!r)
		r = v.len == 8 ? 0 : -EBADMSG;
	if (!r)
		*out = wire_get64(v.data);
	kv_value_release(&v);
	return r;
}

int journal_apply(struct kv *kv, const uint8_t id[JOURNAL_ID_SIZE], uint64_t number,
		  const uint8_t *data, size_t len, uint32_t min_epoch)
{
	struct kv_batch *b CLEANUP(kv_batch_free_p) = kv_batch_new();
	struct entries all = { NULL, 0, 0 };
	uint8_t key[JOURNAL_ID_SIZE + 4], n[8];
	int r = b ? 0 : -ENOMEM;

	if (!r)
		r = number ? add_records(&all, data, len) : add_payload(&all, data, len);
	if (!r)
		r = put_last(kv, b, id, &all, min_epoch);
	if (!r && number) {
		applied_key(id, key);
		wire_set64(n, number);
		kv_batch_put(kv, b, KV_UPPER, key, sizeof(key), n, sizeof(n));
	}
	if (!r)
		r = kv_write(kv, b, KV_SYNC);
	free(all.e);
	return r;
}
