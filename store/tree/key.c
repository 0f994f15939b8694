#include "store/tree/key.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "store/base/wire.h"
#include "store/base/hash.h"

#define NAME_HASH_MIN 16ull
#define TOP_BIT (1ull << 63)

void key_kind_start(struct key *k, uint64_t ino, enum key_kind kind)
{
	wire_set64be(k->bytes, ino);
	k->bytes[8] = (uint8_t)kind;
	k->len = KEY_PREFIX_SIZE;
}

static void append_u64(struct key *k, uint64_t v)
{
	wire_set64be(k->bytes + k->len, v);
	k->len += 8;
}

void key_super(struct key *k)
{
	key_kind_start(k, 0, KEY_INODE);
}

void key_inode(struct key *k, uint64_t ino)
{
	key_kind_start(k, ino, KEY_INODE);
}

void key_xattr(struct key *k, uint64_t ino, const char *name, size_t name_len)
{
	assert(name_len <= XATTR_NAME_MAX);
	key_kind_start(k, ino, KEY_XATTR);
	memcpy(k->bytes + k->len, name, name_len);
	k->len += (uint16_t)name_len;
}

void key_dirent(struct key *k, uint64_t dir, uint64_t hash)
{
	key_kind_start(k, dir, KEY_DIRENT);
	append_u64(k, hash);
}

void key_extent(struct key *k, uint64_t ino, uint64_t offset)
{
	key_kind_start(k, ino, KEY_EXTENT);
	append_u64(k, offset);
}

void key_backref(struct key *k, uint64_t ino, uint64_t parent, uint64_t hash)
{
	key_kind_start(k, ino, KEY_BACKREF);
	append_u64(k, parent);
	append_u64(k, hash);
}

static bool hash_is_valid(uint64_t hash)
{
	return hash >= NAME_HASH_MIN && !(hash & TOP_BIT);
}

static bool sub_is_valid(const struct key_parts *p)
{
	switch (p->kind) {
	case KEY_INODE:
		return p->sub_len == 0;
	case KEY_XATTR:
		return p->sub_len >= 1 && p->sub_len <= XATTR_NAME_MAX &&
		       !memchr(p->sub, 0, p->sub_len);
	case KEY_DIRENT:
		return p->sub_len == 8 && hash_is_valid(wire_get64be(p->sub));
	case KEY_EXTENT:
		return p->sub_len == 8 && !(wire_get64be(p->sub) & TOP_BIT);
	case KEY_BACKREF:
		return p->sub_len == 16 && wire_get64be(p->sub) != 0 &&
		       hash_is_valid(wire_get64be(p->sub + 8));
	case KEY_KIND_COUNT:
		break;
	}
	return false;
}

int key_parse(const void *bytes, size_t len, struct key_parts *out)
{
	const uint8_t *p = bytes;
	if (len < KEY_PREFIX_SIZE || p[8] >= KEY_KIND_COUNT)
		return -EBADMSG;
	struct key_parts parts = {
		.ino = wire_get64be(p),
		.kind = (enum key_kind)p[8],
		.sub = p + KEY_PREFIX_SIZE,
		.sub_len = len - KEY_PREFIX_SIZE,
	};
	if (!sub_is_valid(&parts) || (parts.ino == 0 && parts.kind != KEY_INODE))
		return -EBADMSG;
	*out = parts;
	return 0;
}

uint64_t key_sub_u64(const struct key_parts *p)
{
	assert(p->sub_len >= 8);
	return wire_get64be(p->sub);
}

uint64_t name_hash(const char *name, size_t len)
{
	struct digest d;
	/*
	 * A wrong hash would lose a name, and there is no code to return. What can
	 * fail is the allocation of the thread's first context: wait for memory.
	 */
	while (hash_bytes(name, len, &d) != 0)
		usleep(1000);
	uint64_t hash = wire_get64be(d.b) & ~TOP_BIT;
	return hash < NAME_HASH_MIN ? hash + NAME_HASH_MIN : hash;
}
