/*
 * Pass two: names against inodes. Every name leads to an inode of its type;
 * every inode has as many names as its record says, and says where they are; a
 * directory has one, and going up from it ends at the root.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "store/base/wire.h"
#include "store/gc/verify_internal.h"

static struct seen_inode *seen_at(const struct tree_check *t, uint32_t i)
{
	return (struct seen_inode *)t->inodes.data + i;
}

static uint32_t seen_count(const struct tree_check *t)
{
	return (uint32_t)(t->inodes.len / sizeof(struct seen_inode));
}

/* Index of an inode, or SEEN_NONE. */
static uint32_t find_seen(const struct tree_check *t, uint64_t ino)
{
	uint32_t from = 0, to = seen_count(t);
	while (from < to) {
		uint32_t mid = from + (to - from) / 2;
		if (seen_at(t, mid)->ino == ino)
			return mid;
		if (seen_at(t, mid)->ino < ino)
			from = mid + 1;
		else
			to = mid;
	}
	return SEEN_NONE;
}

/* A problem with a name in the current directory. */
static void name_problem(struct tree_check *t, const struct dirent_rec *e, const char *problem)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	int rc = tree_fs_path(&t->fs, t->ino, &path);
	if (rc == 0)
		rc = buf_printf(&path, "%s%.*s", path.len ? "/" : "", e->name_len, e->name);
	t->problems++;
	const char *p = rc == 0 ? buf_cstr(&path) : NULL;
	if (p)
		verify_report(t->v, t->label, p, "%s (inode %" PRIu64 ")", problem, e->ino);
	else
		verify_report(t->v, t->label, NULL,
			      "name \"%.*s\" in inode %" PRIu64 ": %s (inode %" PRIu64 ")",
			      e->name_len, e->name, t->ino, problem, e->ino);
}

static void check_name(struct tree_check *t, uint64_t hash, const struct dirent_rec *e)
{
	if (name_hash(e->name, e->name_len) != hash)
		name_problem(t, e, "its name stands under another name's hash");
	uint32_t i = find_seen(t, e->ino);
	if (i == SEEN_NONE) {
		name_problem(t, e,
			     t->incomplete ? "is lost: its inode was in a damaged tree node"
					   : "has no inode record");
		return;
	}
	struct seen_inode *s = seen_at(t, i);
	if (s->type != e->type)
		name_problem(t, e, "its directory entry has the wrong type");
	s->names++;
	if (s->type == DT_DIR) {
		t->subdirs++;
		s->parent = t->index;
	}
}

static void check_names(struct tree_check *t, const struct key_parts *key, const uint8_t *val,
			size_t vlen)
{
	struct dirent_reader reader;
	struct dirent_rec e;
	int rc;
	dirent_reader_init(&reader, val, vlen);
	while ((rc = dirent_next(&reader, &e)) == 1)
		check_name(t, key_sub_u64(key), &e);
	if (rc != 0 || vlen == 0)
		tree_problem(t, key->ino, "one of its directory entries is malformed");
}

/*
 * Is there an entry (parent, hash) for the inode, under the name if one is
 * given? 1, 0, or a failure. A damaged node on the way says nothing: 1.
 */
static int has_entry(struct tree_check *t, uint64_t parent, uint64_t hash, const uint8_t *name,
		     size_t len)
{
	CLEANUP(tree_value_release_p) struct tree_value v = { 0 };
	struct dirent_reader reader;
	struct dirent_rec e;
	struct key k;
	key_dirent(&k, parent, hash);
	int rc = tree_get(t->fs.nodes, &t->fs.root, k.bytes, k.len, &v);
	if (verify_is_damage(rc))
		return 1;
	if (rc != 0)
		return rc == -ENOENT ? 0 : rc;
	dirent_reader_init(&reader, v.data, v.len);
	while (dirent_next(&reader, &e) == 1) {
		if (e.ino == t->ino &&
		    (!name || (e.name_len == len && memcmp(e.name, name, len) == 0)))
			return 1;
	}
	return 0;
}

static int check_place(struct tree_check *t)
{
	const struct inode_rec *r = &t->rec;
	if (t->ino == ROOT_INO) {
		if (!S_ISDIR(r->mode) || r->parent != ROOT_INO || r->name_hash != 0)
			tree_problem(t, t->ino, "the root's inode record is wrong");
		return 0;
	}
	if (r->nlink == 0)
		tree_problem(t, t->ino, "its inode has no links");
	if (!S_ISDIR(r->mode) && r->nlink != 1) {
		if (r->parent != 0 || r->name_hash != 0)
			tree_problem(t, t->ino, "has several links, but one place");
		return 0;
	}
	int rc = has_entry(t, r->parent, r->name_hash, NULL, 0);
	if (rc == 0)
		tree_problem(t, t->ino, "no directory has an entry where its inode says");
	return rc < 0 ? rc : 0;
}

static int check_backref(struct tree_check *t, const struct key_parts *key, const uint8_t *name,
			 size_t len)
{
	uint64_t hash = wire_get64be(key->sub + 8);
	t->backrefs++;
	if (name_check((const char *)name, len) != 0 ||
	    name_hash((const char *)name, len) != hash) {
		tree_problem(t, key->ino, "a back reference is malformed");
		return 0;
	}
	int rc = has_entry(t, key_sub_u64(key), hash, name, len);
	if (rc == 0)
		tree_problem(t, key->ino, "no directory has an entry where a back reference says");
	return rc < 0 ? rc : 0;
}

static void end_links(struct tree_check *t)
{
	if (!t->has_record || t->incomplete)
		return;
	if (S_ISDIR(t->rec.mode) && t->rec.nlink != 2 + t->subdirs)
		tree_problem(t, t->ino, "has %" PRIu64 " subdirectories, but a link count of %u",
			     t->subdirs, t->rec.nlink);
	uint64_t want = S_ISDIR(t->rec.mode) || t->rec.nlink == 1 ? 0 : t->rec.nlink;
	if (t->backrefs != want)
		tree_problem(t, t->ino, "has %" PRIu64 " back references, not %" PRIu64,
			     t->backrefs, want);
}

static int begin_links(struct tree_check *t, const struct key_parts *key, const uint8_t *val,
		       size_t vlen)
{
	end_links(t);
	t->ino = key->ino;
	t->backrefs = t->subdirs = 0;
	t->has_record = key->kind == KEY_INODE && inode_decode(val, vlen, &t->rec) == 0;
	t->index = find_seen(t, key->ino);
	return t->has_record ? check_place(t) : 0;
}

static int pass_two(struct tree_check *t, const struct key_parts *key, const uint8_t *val,
		    size_t vlen)
{
	int rc = 0;
	if (key->ino == 0)
		return 0;
	if (key->ino != t->ino || key->kind == KEY_INODE)
		rc = begin_links(t, key, val, vlen);
	if (rc == 0 && key->kind == KEY_DIRENT)
		check_names(t, key, val, vlen);
	else if (rc == 0 && key->kind == KEY_BACKREF)
		rc = check_backref(t, key, val, vlen);
	return rc;
}

/* ---- after the scan ---- */

static void check_name_counts(struct tree_check *t)
{
	for (uint32_t i = 0; i < seen_count(t); i++) {
		const struct seen_inode *s = seen_at(t, i);
		uint32_t want = s->ino == ROOT_INO ? 0 : s->type == DT_DIR ? 1 : s->nlink;
		if (s->names == want || t->incomplete)
			continue;
		if (s->names == 0)
			tree_problem(t, 0, "inode %" PRIu64 " has no name in any directory",
				     s->ino);
		else
			tree_problem(t, s->ino, "has %u names, not %u", s->names, want);
	}
}

/* Go up from a directory to one that is known to be below the root, then mark those on the way. */
static void check_way_up(struct tree_check *t, uint32_t start)
{
	uint32_t i = start;
	while (i != SEEN_NONE && seen_at(t, i)->walk == 0 && seen_at(t, i)->ino != ROOT_INO) {
		seen_at(t, i)->walk = 1;
		i = seen_at(t, i)->parent;
	}
	if (i != SEEN_NONE && seen_at(t, i)->walk == 1)
		tree_problem(t, 0, "the directories above inode %" PRIu64 " form a ring",
			     seen_at(t, start)->ino);
	for (i = start; i != SEEN_NONE && seen_at(t, i)->walk == 1; i = seen_at(t, i)->parent)
		seen_at(t, i)->walk = 2;
}

int tree_check_links(struct tree_check *t)
{
	t->ino = 0;
	t->has_record = false;
	int rc = tree_scan(t, pass_two, false); /* pass one has reported the same damage */
	if (rc != 0)
		return rc;
	end_links(t);
	if (!t->incomplete && find_seen(t, ROOT_INO) == SEEN_NONE)
		tree_problem(t, 0, "the tree has no root directory");
	check_name_counts(t);
	for (uint32_t i = 0; i < seen_count(t); i++) {
		if (seen_at(t, i)->type == DT_DIR)
			check_way_up(t, i);
	}
	return 0;
}
