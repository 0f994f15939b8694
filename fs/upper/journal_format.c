/*
 * The bytes of a journal: heads, records, what is in them. Whatever is read may
 * come from a disk that has lost or damaged some: nothing here goes past its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

#include "fs/upper/journal_format.h"
#include "store/base/wire.h"

#define MAGIC "VARVEJ"
#define MAGIC_LEN 6u

/* ---- heads ---- */

void journal_head_put(uint8_t out[JOURNAL_HEAD], const struct journal_head *h)
{
	static const char magic[8] = MAGIC "2";

	memcpy(out, magic, sizeof(magic));
	wire_set64(out + 8, h->number);
	wire_set64(out + 16, h->before);
	memcpy(out + 24, h->boot, JOURNAL_BOOT_SIZE);
	wire_set32(out + 40, h->salt);
	wire_set32(out + 44, (uint32_t)crc32(0, out, 44));
}

int journal_head_get(const uint8_t *segment, struct journal_head *out)
{
	if (memcmp(segment, MAGIC, MAGIC_LEN) != 0)
		return -ENOENT;
	/* Before the checksum: another version may have that elsewhere. */
	unsigned version = (unsigned)(segment[MAGIC_LEN] - '0');

	if (version < 1 || version > JOURNAL_VERSION || segment[MAGIC_LEN + 1])
		return -EINVAL;
	const unsigned checked = version == 1 ? 40 : 44;

	if (wire_get32(segment + checked) != (uint32_t)crc32(0, segment, checked))
		return -ENOENT;
	out->version = version;
	out->salt = version == 1 ? 0 : wire_get32(segment + 40);
	out->number = wire_get64(segment + 8);
	out->before = wire_get64(segment + 16);
	memcpy(out->boot, segment + 24, JOURNAL_BOOT_SIZE);
	return 0;
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

/* ---- records ---- */

uint32_t journal_seed(const struct journal_head *h)
{
	uint8_t bytes[12];

	wire_set32(bytes, h->salt);
	wire_set64(bytes + 4, h->number);
	return (uint32_t)(h->version == 1 ? crc32(0, bytes + 4, 8) : crc32(0, bytes, 12));
}

uint32_t journal_record_crc(uint32_t seed, const void *a, size_t a_len, const void *b, size_t b_len)
{
	uLong crc = crc32(seed, a, (uInt)a_len);

	return (uint32_t)(b_len ? crc32(crc, b, (uInt)b_len) : crc);
}

size_t journal_segment_end(const uint8_t *segment, size_t size, uint32_t seed)
{
	size_t at = JOURNAL_HEAD;

	while (at + JOURNAL_RECORD <= size) {
		uint32_t len = wire_get32(segment + at);
		const uint8_t *payload = segment + at + JOURNAL_RECORD;

		if (!len || len > size - JOURNAL_RECORD - at ||
		    wire_get32(segment + at + 4) != journal_record_crc(seed, payload, len, NULL, 0))
			break;
		at = MIN(journal_align(at + JOURNAL_RECORD + len), size);
	}
	return MIN(at, size);
}

static int decode(unsigned version, const uint8_t *payload, size_t len, struct journal_record *out)
{
	struct wire_reader r;

	memset(out, 0, sizeof(*out));
	wire_reader_init(&r, payload, len);
	out->kind = (enum journal_kind)wire_u8(&r);
	if (version == 1 && out->kind <= JOURNAL_PUT) {
		out->kind = JOURNAL_OP;
		out->body = payload;
		out->len = len;
		return 0;
	}
	switch ((int)out->kind) {
	case JOURNAL_DATA:
		out->pos = wire_u64(&r);
		break;
	case JOURNAL_DATA_SYNCED:
		break;
	case JOURNAL_OP:
		out->unique = wire_u64(&r);
		out->made_ino = wire_u64(&r);
		break;
	case JOURNAL_EPOCH:
		if (version < 2 || journal_epoch_get(payload + 1, len - 1, &out->epoch))
			return -EBADMSG;
		break;
	default:
		return -EBADMSG;
	}
	if (!wire_ok(&r) || (version < 2 && out->kind == JOURNAL_OP))
		return -EBADMSG;
	out->len = wire_left(&r);
	out->body = wire_bytes(&r, out->len);
	return 0;
}

int journal_record_next(const struct journal_segment *s, size_t *at, struct journal_record *out)
{
	if (*at + JOURNAL_RECORD >= s->len)
		return 0;
	size_t len = wire_get32(s->data + *at);

	if (!len || len > s->len - JOURNAL_RECORD - *at)
		return -EBADMSG;
	const uint8_t *payload = s->data + *at + JOURNAL_RECORD;

	*at = journal_align(*at + JOURNAL_RECORD + len);
	int r = decode(s->version, payload, len, out);

	return r ? r : 1;
}

/* ---- changes ---- */

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

int journal_entry_next(struct wire_reader *r, struct journal_entry *out)
{
	if (wire_done(r))
		return 0;
	uint8_t put = wire_u8(r);

	out->klen = wire_u16(r);
	out->vlen = wire_u32(r);
	out->key = wire_bytes(r, out->klen);
	out->val = wire_bytes(r, out->vlen);
	if (!wire_ok(r) || put > JOURNAL_PUT || out->klen < 4 || out->klen > JOURNAL_KEY_MAX)
		return -EBADMSG;
	if (put == JOURNAL_DELETE)
		out->val = NULL;
	return 1;
}

uint32_t journal_entry_epoch(const struct journal_entry *e)
{
	return (uint32_t)e->key[0] << 24 | (uint32_t)e->key[1] << 16 | (uint32_t)e->key[2] << 8 |
	       e->key[3];
}

/* ---- changes of epoch ---- */

size_t journal_epoch_put(const struct journal_epoch *e, uint8_t out[JOURNAL_EPOCH_MAX])
{
	size_t len = strnlen(e->snapshot_id, sizeof(e->snapshot_id) - 1);

	wire_set32(out, e->ended);
	wire_set32(out + 4, e->begun);
	wire_set64(out + 8, e->next_ino);
	out[16] = (uint8_t)len;
	memcpy(out + 17, e->snapshot_id, len);
	return 17 + len;
}

int journal_epoch_get(const uint8_t *p, size_t len, struct journal_epoch *out)
{
	struct wire_reader r;

	memset(out, 0, sizeof(*out));
	wire_reader_init(&r, p, len);
	out->ended = wire_u32(&r);
	out->begun = wire_u32(&r);
	out->next_ino = wire_u64(&r);
	size_t id_len = wire_u8(&r);
	const uint8_t *id = wire_bytes(&r, id_len);

	if (!wire_done(&r) || id_len >= sizeof(out->snapshot_id) || memchr(id, 0, id_len) ||
	    !out->ended || out->begun != out->ended + 1)
		return -EBADMSG;
	memcpy(out->snapshot_id, id, id_len);
	return 0;
}
