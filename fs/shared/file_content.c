#include "fs/shared/file_content.h"

#include <errno.h>
#include <unistd.h>

#include "store/base/wire.h"
#include "store/base/write_all.h"

struct hashing {
	struct hasher *h;
	uint64_t bytes;
};

static int hash_extent(void *arg, uint64_t offset, const struct extent_rec *e)
{
	struct hashing *x = arg;
	uint8_t head[8 + 1 + 4];

	x->bytes += (e->len + 4095) & ~4095ull;
	wire_set64(head, offset);
	head[8] = (uint8_t)e->kind;
	wire_set32(head + 9, e->len);
	int r = hasher_update(x->h, head, sizeof(head));

	if (r)
		return r;
	return e->kind == EXTENT_CHUNK ? hasher_update(x->h, e->digest.b, DIGEST_SIZE)
				       : hasher_update(x->h, e->data, e->len);
}

int file_content_look(const struct tree_fs *fs, uint64_t ino, uint64_t size,
		      struct file_content *out)
{
	struct hasher *h CLEANUP(hasher_free_p) = hasher_new();
	struct hashing x = { h, 0 };
	uint8_t head[8];

	if (!h)
		return -ENOMEM;
	wire_set64(head, size);
	int r = hasher_update(h, head, sizeof(head));

	if (!r)
		r = tree_fs_extents(fs, ino, 0, size, hash_extent, &x);
	if (!r)
		r = hasher_final(h, &out->key);
	out->bytes = x.bytes;
	return r;
}

struct writing {
	const struct tree_fs *fs;
	int fd;
	uint64_t size;
};

static int write_extent(void *arg, uint64_t offset, const struct extent_rec *e)
{
	struct writing *w = arg;
	struct chunk *c CLEANUP(chunk_unref_p) = NULL;
	const uint8_t *data = e->data;

	if (offset + e->len > w->size)
		return -EBADMSG;
	if (e->kind == EXTENT_CHUNK) {
		int r = chunk_store_get(w->fs->chunks, &e->digest, &c);

		if (r)
			return r;
		if (c->len != e->len)
			return -EBADMSG;
		data = c->data;
	}
	return pwrite_all(w->fd, data, e->len, offset);
}

int file_content_write(const struct tree_fs *fs, uint64_t ino, uint64_t size, int fd)
{
	struct writing w = { fs, fd, size };

	if (ftruncate(fd, (off_t)size) < 0)
		return -errno;
	return tree_fs_extents(fs, ino, 0, size, write_extent, &w);
}
