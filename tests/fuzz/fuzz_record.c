/*
 * Keys and records of a tree. The first byte says which decoder gets the rest;
 * what decodes is canonical: it encodes to the same bytes.
 */
#include "store/tree/record.h"

#include <string.h>

#include "store/base/wire.h"
#include "tests/fuzz/fuzz.h"

static void same(const struct buf *b, const uint8_t *data, size_t size)
{
	MUST(b->len == size && memcmp(b->data, data, size) == 0);
}

static void fuzz_super(const uint8_t *data, size_t size, struct buf *b)
{
	struct super_rec r;

	if (super_decode(data, size, &r) != 0)
		return;
	MUST(super_encode(&r, b) == 0);
	same(b, data, size);
}

static void fuzz_inode(const uint8_t *data, size_t size, struct buf *b)
{
	struct inode_rec r;

	if (inode_decode(data, size, &r) != 0)
		return;
	MUST(S_ISLNK(r.mode) == (r.target_len > 0));
	MUST(inode_encode(&r, b) == 0);
	same(b, data, size);
}

static void fuzz_dirents(const uint8_t *data, size_t size, struct buf *b)
{
	CLEANUP(buf_fini_p) struct buf without = BUF_INIT;
	struct dirent_reader reader;
	struct dirent_rec e = { 0 }, found, first = { 0 };
	int n = 0, rc;

	dirent_reader_init(&reader, data, size);
	while ((rc = dirent_next(&reader, &e)) == 1) {
		MUST(name_check(e.name, e.name_len) == 0);
		if (n++ == 0)
			first = e;
	}
	if (rc != 0 || n == 0)
		return;
	MUST(dirent_find(data, size, first.name, first.name_len, &found) == 0);
	MUST(found.ino == first.ino && found.type == first.type);
	MUST(dirent_list_del(data, size, first.name, first.name_len, &without) == 0);
	MUST((without.len == 0) == (n == 1));
	MUST(dirent_list_put(without.data, without.len, &first, b) == 0);
	same(b, data, size);
}

static void fuzz_extent(const uint8_t *data, size_t size, struct buf *b)
{
	struct extent_rec r;

	if (extent_decode(data, size, &r) != 0)
		return;
	MUST(r.len > 0 && r.len <= (r.kind == EXTENT_CHUNK ? CHUNK_MAX : INLINE_MAX));
	MUST(extent_encode(&r, b) == 0);
	same(b, data, size);
}

static void fuzz_key(const uint8_t *data, size_t size, struct buf *b)
{
	struct key_parts p;
	struct key k = { 0 };

	(void)b;
	if (key_parse(data, size, &p) != 0)
		return;
	if (p.kind == KEY_INODE)
		key_inode(&k, p.ino);
	else if (p.kind == KEY_XATTR)
		key_xattr(&k, p.ino, (const char *)p.sub, p.sub_len);
	else if (p.kind == KEY_DIRENT)
		key_dirent(&k, p.ino, key_sub_u64(&p));
	else if (p.kind == KEY_EXTENT)
		key_extent(&k, p.ino, key_sub_u64(&p));
	else
		key_backref(&k, p.ino, key_sub_u64(&p), wire_get64be(p.sub + 8));
	MUST(k.len == size && memcmp(k.bytes, data, size) == 0);
}

/* The first half says what to read from the second; what was read is written again. */
static void fuzz_wire(const uint8_t *data, size_t size, struct buf *b)
{
	const uint8_t *from = data + size / 2;
	struct wire_reader r;
	size_t read = 0;
	int rc = 0;

	wire_reader_init(&r, from, size - size / 2);
	for (size_t i = 0; i < size / 2 && rc == 0; i++) {
		size_t left = wire_left(&r), len = data[i] % 8;
		static const size_t widths[] = { 1, 2, 4, 8 };
		size_t want = data[i] & 0x80 ? len : widths[len % 4];

		if (data[i] & 0x80) {
			const uint8_t *p = wire_bytes(&r, len);
			if (wire_ok(&r))
				rc = buf_append(b, p, len);
		} else if (len % 4 == 0) {
			rc = wire_put_u8(b, wire_u8(&r));
		} else if (len % 4 == 1) {
			rc = wire_put_u16(b, wire_u16(&r));
		} else if (len % 4 == 2) {
			rc = wire_put_u32(b, wire_u32(&r));
		} else {
			rc = wire_put_u64(b, wire_u64(&r));
		}
		MUST(wire_ok(&r) ? want <= left : wire_left(&r) == 0 && !wire_done(&r));
		read += wire_ok(&r) ? want : 0;
	}
	MUST(rc == 0 && b->len >= read && (read == 0 || memcmp(b->data, from, read) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const decoders[])(const uint8_t *, size_t,
					struct buf *) = { fuzz_super,  fuzz_inode, fuzz_dirents,
							  fuzz_extent, fuzz_key,   fuzz_wire };
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	if (size > 0)
		decoders[data[0] % ARRAY_SIZE(decoders)](data + 1, size - 1, &b);
	return 0;
}
