/*
 * One tree. Pass one reads all keys in order: each inode's record comes first,
 * then what belongs to it; records, xattrs and extents are checked, and a table
 * of inodes is filled. Pass two (verify_links.c) checks the names against it.
 *
 * If nodes are damaged, the rest is still read, and pass two names files that
 * have lost their inode; but counts are not compared.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/gc/verify_internal.h"

static void end_inode(struct tree_check *t)
{
	if (!t->has_record)
		return;
	if (t->bad_extents == 1)
		tree_problem(t, t->ino, "%s", t->bad_extent);
	else if (t->bad_extents > 1)
		tree_problem(t, t->ino, "%s, and %" PRIu64 " more of its chunks are bad",
			     t->bad_extent, t->bad_extents - 1);
	if (t->incomplete)
		return;
	if (t->extent_bytes != t->rec.alloc_bytes)
		tree_problem(t, t->ino, "has %" PRIu64 " bytes of data; its inode says %" PRIu64,
			     t->extent_bytes, t->rec.alloc_bytes);
	if (t->extent_end > t->rec.size)
		tree_problem(t, t->ino, "has data up to %" PRIu64 ", beyond its size of %" PRIu64,
			     t->extent_end, t->rec.size);
}

static int add_inode(struct tree_check *t, uint64_t ino)
{
	struct seen_inode i = {
		.ino = ino,
		.nlink = t->rec.nlink,
		.type = mode_to_dtype(t->rec.mode),
		.parent = SEEN_NONE,
	};
	if (S_ISREG(t->rec.mode))
		t->data_bytes += t->rec.size;
	t->max_ino = ino;
	return buf_append(&t->inodes, &i, sizeof(i));
}

static int begin_inode(struct tree_check *t, const struct key_parts *key, const uint8_t *val,
		       size_t vlen)
{
	end_inode(t);
	t->ino = key->ino;
	t->extent_end = t->extent_bytes = t->bad_extents = 0;
	t->has_record = key->kind == KEY_INODE;
	if (!t->has_record) {
		/* If the record was in a damaged node, that has been reported. */
		if (!t->incomplete)
			tree_problem(t, 0, "inode %" PRIu64 " has data but no record", key->ino);
		return 0;
	}
	if (inode_decode(val, vlen, &t->rec) != 0) {
		t->has_record = false;
		tree_problem(t, key->ino, "its inode record is malformed");
		return 0;
	}
	return add_inode(t, key->ino);
}

static void check_super(struct tree_check *t, const uint8_t *val, size_t vlen)
{
	if (super_decode(val, vlen, &t->super) == 0)
		t->has_super = true;
	else
		tree_problem(t, 0, "the tree's super record is malformed");
}

static void check_chunk(struct tree_check *t, uint64_t offset, const struct extent_rec *e)
{
	char hex[DIGEST_HEX_SIZE];
	uint32_t raw = 0, stored;
	struct digest mark = chunk_mark(&e->digest, e->len);
	if (!digest_set_has(&t->v->bad_chunks, &mark))
		return;
	if (t->bad_extents++ > 0)
		return;
	digest_to_hex(&e->digest, hex);
	int rc = chunk_store_verify(t->v->s->chunks, &e->digest, &raw, &stored);
	if (rc == 0)
		snprintf(t->bad_extent, sizeof(t->bad_extent),
			 "chunk %s at %" PRIu64 " has %u bytes, not %u", hex, offset, raw, e->len);
	else
		snprintf(t->bad_extent, sizeof(t->bad_extent), "chunk %s at %" PRIu64 " %s", hex,
			 offset, verify_reason(rc));
}

static void check_extent(struct tree_check *t, const struct key_parts *key, const uint8_t *val,
			 size_t vlen)
{
	uint64_t offset = key_sub_u64(key);
	struct extent_rec e;
	if (!S_ISREG(t->rec.mode)) {
		tree_problem(t, key->ino, "has data, but is no regular file");
		return;
	}
	if (extent_decode(val, vlen, &e) != 0) {
		tree_problem(t, key->ino, "its extent at %" PRIu64 " is malformed", offset);
		return;
	}
	if (offset < t->extent_end)
		tree_problem(t, key->ino, "its extents overlap at %" PRIu64, offset);
	t->extent_end = offset + e.len;
	t->extent_bytes += e.len;
	if (e.kind == EXTENT_CHUNK)
		check_chunk(t, offset, &e);
}

static int pass_one(struct tree_check *t, const struct key_parts *key, const uint8_t *val,
		    size_t vlen)
{
	if (key->ino == 0) {
		check_super(t, val, vlen);
		return 0;
	}
	if (key->ino != t->ino || key->kind == KEY_INODE)
		return begin_inode(t, key, val, vlen);
	if (!t->has_record)
		return 0;
	if (key->kind == KEY_XATTR && vlen > XATTR_VALUE_MAX)
		tree_problem(t, key->ino, "an xattr is too long");
	else if (key->kind == KEY_DIRENT && !S_ISDIR(t->rec.mode))
		tree_problem(t, key->ino, "has entries, but is no directory");
	else if (key->kind == KEY_EXTENT)
		check_extent(t, key, val, vlen);
	return 0;
}

static void check_totals(struct tree_check *t)
{
	uint64_t count = t->inodes.len / sizeof(struct seen_inode);
	if (t->incomplete)
		return;
	if (!t->has_super) {
		tree_problem(t, 0, "the tree has no super record");
		return;
	}
	if (t->super.inode_count != count)
		tree_problem(t, 0,
			     "the tree has %" PRIu64 " inodes; its super record says %" PRIu64,
			     count, t->super.inode_count);
	if (t->super.data_bytes != t->data_bytes)
		tree_problem(t, 0,
			     "the files have %" PRIu64 " bytes; the super record says %" PRIu64,
			     t->data_bytes, t->super.data_bytes);
	if (t->super.next_ino <= t->max_ino)
		tree_problem(t, 0, "the next inode number, %" PRIu64 ", is in use",
			     t->super.next_ino);
}

int verify_tree(struct verify *v, const struct digest *root, const char *label,
		uint64_t *out_problems)
{
	struct tree_check t = { .v = v, .fs = store_tree(v->s, root), .label = label };
	int rc = tree_scan(&t, pass_one, true);
	if (rc == 0) {
		end_inode(&t);
		check_totals(&t);
		rc = tree_check_links(&t);
	}
	buf_fini(&t.inodes);
	if (rc == 0)
		*out_problems = t.problems;
	return rc;
}
