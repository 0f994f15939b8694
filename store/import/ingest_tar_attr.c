/* Attributes of a tar entry: numbers, xattrs, and ACLs in the kernel's form. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "store/base/wire.h"
#include "store/import/ingest_tar.h"
#include "store/archive/tar_records.h"
#include "store/tree/xattr.h"

/* linux/posix_acl_xattr.h: u32 version, then { u16 tag, u16 perm, u32 id } each. */
#define ACL_VERSION 2u
#define ACL_ENTRY_SIZE 8u
#define ACL_ENTRIES_MAX 1024u
#define ACL_NO_ID UINT32_MAX

enum acl_tag {
	ACL_TAG_USER_OBJ = 0x01,
	ACL_TAG_USER = 0x02,
	ACL_TAG_GROUP_OBJ = 0x04,
	ACL_TAG_GROUP = 0x08,
	ACL_TAG_MASK = 0x10,
	ACL_TAG_OTHER = 0x20,
};

struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};

static uint16_t acl_tag(int tag)
{
	switch (tag) {
	case ARCHIVE_ENTRY_ACL_USER_OBJ:
		return ACL_TAG_USER_OBJ;
	case ARCHIVE_ENTRY_ACL_USER:
		return ACL_TAG_USER;
	case ARCHIVE_ENTRY_ACL_GROUP_OBJ:
		return ACL_TAG_GROUP_OBJ;
	case ARCHIVE_ENTRY_ACL_GROUP:
		return ACL_TAG_GROUP;
	case ARCHIVE_ENTRY_ACL_MASK:
		return ACL_TAG_MASK;
	case ARCHIVE_ENTRY_ACL_OTHER:
		return ACL_TAG_OTHER;
	default:
		return 0;
	}
}

/* GNU tar writes names without numbers: the names are this host's. */
static bool name_to_id(uint16_t tag, const char *name, uint32_t *out)
{
	char buf[16384], *end;
	struct passwd pw, *found_pw = NULL;
	struct group gr, *found_gr = NULL;

	if (!name || !*name)
		return false;
	unsigned long n = strtoul(name, &end, 10);
	if (*end == '\0' && n < ACL_NO_ID) {
		*out = (uint32_t)n;
		return true;
	}
	if (tag == ACL_TAG_USER) {
		if (getpwnam_r(name, &pw, buf, sizeof(buf), &found_pw) || !found_pw)
			return false;
		*out = pw.pw_uid;
	} else {
		if (getgrnam_r(name, &gr, buf, sizeof(buf), &found_gr) || !found_gr)
			return false;
		*out = gr.gr_gid;
	}
	return true;
}

static int cmp_acl(const void *a, const void *b)
{
	const struct acl_entry *x = a, *y = b;

	if (x->tag != y->tag)
		return x->tag < y->tag ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int collect_acl(struct ingest *in, struct archive_entry *e, int want, struct acl_entry *list,
		       size_t *n)
{
	int type, perm, tag, id;
	const char *name;

	*n = 0;
	archive_entry_acl_reset(e, want);
	while (archive_entry_acl_next(e, want, &type, &perm, &tag, &id, &name) == ARCHIVE_OK) {
		struct acl_entry a = { acl_tag(tag), perm & 7, ACL_NO_ID };

		if (a.tag == 0)
			continue;
		if (*n == ACL_ENTRIES_MAX)
			return -E2BIG;
		if (a.tag == ACL_TAG_USER || a.tag == ACL_TAG_GROUP) {
			a.id = (uint32_t)id;
			if (id < 0 && !name_to_id(a.tag, name, &a.id)) {
				ingest_remark(in, REMARK_ACL_ENTRY, archive_entry_pathname(e));
				continue;
			}
		}
		list[(*n)++] = a;
	}
	qsort(list, *n, sizeof(*list), cmp_acl);
	return 0;
}

static int put_acl(struct ingest_inode *i, const char *xattr, const struct acl_entry *list,
		   size_t n)
{
	struct buf value CLEANUP(buf_fini_p) = BUF_INIT;
	int r = wire_put_u32(&value, ACL_VERSION);

	for (size_t k = 0; k < n && r == 0; k++) {
		r = wire_put_u16(&value, list[k].tag);
		if (r == 0)
			r = wire_put_u16(&value, list[k].perm);
		if (r == 0)
			r = wire_put_u32(&value, list[k].id);
	}
	return r < 0 ? r : ingest_inode_put_xattr(i, xattr, strlen(xattr), value.data, value.len);
}

/* With an access ACL the mode's bits are its owner, mask (or group) and other entries. */
static void mode_from_acl(struct ingest_inode *i, const struct acl_entry *list, size_t n)
{
	uint32_t bits = i->mode & 0777;

	for (size_t k = 0; k < n; k++) /* ascending tags: the mask comes after the group */
		switch (list[k].tag) {
		case ACL_TAG_USER_OBJ:
			bits = (bits & 077) | (uint32_t)list[k].perm << 6;
			break;
		case ACL_TAG_GROUP_OBJ:
		case ACL_TAG_MASK:
			bits = (bits & 0707) | (uint32_t)list[k].perm << 3;
			break;
		case ACL_TAG_OTHER:
			bits = (bits & 0770) | list[k].perm;
			break;
		}
	i->mode = (i->mode & ~0777u) | bits;
}

/* The kernel accepts named entries only with a mask: add one that allows what they say. */
static void add_mask(struct acl_entry *list, size_t *n)
{
	struct acl_entry mask = { ACL_TAG_MASK, 0, ACL_NO_ID };
	bool named = false;

	for (size_t k = 0; k < *n; k++) {
		if (list[k].tag == ACL_TAG_MASK)
			return;
		named |= list[k].tag == ACL_TAG_USER || list[k].tag == ACL_TAG_GROUP;
		if (list[k].tag != ACL_TAG_USER_OBJ && list[k].tag != ACL_TAG_OTHER)
			mask.perm |= list[k].perm;
	}
	if (!named || *n == ACL_ENTRIES_MAX)
		return;
	list[(*n)++] = mask;
	qsort(list, *n, sizeof(*list), cmp_acl);
}

static int copy_acls(struct ingest *in, struct archive_entry *e, struct ingest_inode *i)
{
	static const struct {
		int type;
		const char *xattr;
	} kinds[] = {
		{ ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access" },
		{ ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default" },
	};
	struct acl_entry *list = NULL;
	int r = 0;

	if (archive_entry_acl_count(e, ARCHIVE_ENTRY_ACL_TYPE_NFS4) > 0)
		ingest_remark(in, REMARK_ACL_ENTRY, archive_entry_pathname(e));
	for (size_t k = 0; k < ARRAY_SIZE(kinds) && r == 0; k++) {
		size_t n;

		if (archive_entry_acl_count(e, kinds[k].type) == 0)
			continue;
		if (!list && !(list = malloc(ACL_ENTRIES_MAX * sizeof(*list))))
			return -ENOMEM;
		r = collect_acl(in, e, kinds[k].type, list, &n);
		if (r < 0 || n == 0)
			continue;
		add_mask(list, &n);
		if (kinds[k].type == ARCHIVE_ENTRY_ACL_TYPE_ACCESS)
			mode_from_acl(i, list, n);
		if (!ingest_inode_has_xattr(i, kinds[k].xattr))
			r = put_acl(i, kinds[k].xattr, list, n);
	}
	free(list);
	return r;
}

#define SCHILY "SCHILY.xattr."
#define LIBARCHIVE "LIBARCHIVE.xattr."

/* What an entry's pax records say. */
struct records {
	struct ingest *in;
	struct ingest_inode *inode;
	struct archive_entry *entry;
	bool by_libarchive; /* then SCHILY.xattr repeats the same, not encoded */
	const char *why;
};

static bool is_key(const struct tar_record *r, const char *key)
{
	return r->key_len == strlen(key) && memcmp(r->key, key, r->key_len) == 0;
}

static bool has_prefix(const struct tar_record *r, const char *prefix)
{
	return r->key_len >= strlen(prefix) && memcmp(r->key, prefix, strlen(prefix)) == 0;
}

/* libarchive silently leaves out what it cannot parse. */
static void check_acl(struct records *all, const struct tar_record *r)
{
	bool access = is_key(r, "SCHILY.acl.access");
	size_t n = tar_acl_entries(r->value, r->value_len, access);
	int has = archive_entry_acl_count(all->entry, access ? ARCHIVE_ENTRY_ACL_TYPE_ACCESS
							     : ARCHIVE_ENTRY_ACL_TYPE_DEFAULT);

	if (access && has > 0)
		has -= 3; /* those of the mode */
	if (n > (size_t)MAX(has, 0))
		ingest_remark(all->in, REMARK_ACL_ENTRY, archive_entry_pathname(all->entry));
}

/* First pass: the time, who wrote it, and what does not come over. */
static int read_record(void *arg, const struct tar_record *r)
{
	struct records *all = arg;

	if (r->global) {
		/* Neither libarchive nor we apply these; git's commit is not an attribute. */
		if (!is_key(r, "comment"))
			ingest_remark(all->in, REMARK_ARCHIVE, archive_entry_pathname(all->entry));
		return 0;
	}
	all->by_libarchive |= has_prefix(r, LIBARCHIVE);
	if (is_key(r, "SCHILY.acl.access") || is_key(r, "SCHILY.acl.default"))
		check_acl(all, r);
	if (!is_key(r, "mtime"))
		return 0;
	int rc = tar_record_time(r->value, r->value_len, &all->inode->mtime);
	if (rc < 0)
		all->why = "time is malformed or out of range";
	return rc;
}

static int put_xattr(struct records *all, const struct buf *name, const void *value, size_t len)
{
	int r = memchr(name->data, 0, name->len) ? -EINVAL : 0;

	if (!xattr_is_shown((const char *)name->data, name->len, all->inode->mode))
		ingest_remark(all->in, REMARK_XATTR_HIDDEN, archive_entry_pathname(all->entry));
	if (r == 0)
		r = ingest_inode_put_xattr(all->inode, (const char *)name->data, name->len, value,
					   len);
	if (r == 0)
		r = ingest_count_meta(all->in, name->len + len);
	all->why = r == -EINVAL ? "an extended attribute's name holds a zero byte" : all->why;
	return r;
}

/* Second pass: xattrs. */
static int read_xattr(void *arg, const struct tar_record *rec)
{
	struct records *all = arg;
	struct buf name CLEANUP(buf_fini_p) = BUF_INIT, value CLEANUP(buf_fini_p) = BUF_INIT;
	const char *prefix = all->by_libarchive ? LIBARCHIVE : SCHILY;
	size_t n = strlen(prefix);
	int r;

	if (rec->global || !has_prefix(rec, prefix) || rec->key_len == n)
		return 0;
	if (!all->by_libarchive) {
		r = tar_xattr_decode(rec->key + n, rec->key_len - n, &name);
		return r < 0 ? r : put_xattr(all, &name, rec->value, rec->value_len);
	}
	r = tar_xattr_libarchive(rec, n, &name, &value);
	if (r == -EINVAL)
		all->why = "a LIBARCHIVE.xattr is not in base64";
	return r < 0 ? r : put_xattr(all, &name, value.data, value.len);
}

static int copy_records(struct ingest *in, const struct ingest_tar_entry *e, struct ingest_inode *i,
			const char **why)
{
	struct records all = { .in = in, .inode = i, .entry = e->entry };
	int r = tar_records_walk(e->headers, e->headers_len, read_record, &all);

	if (r == 0)
		r = tar_records_walk(e->headers, e->headers_len, read_xattr, &all);
	if (r == -EBADMSG)
		all.why = "a malformed pax record";
	if (r < 0)
		*why = all.why	     ? all.why
		       : r == -E2BIG ? "too many or too large extended attributes"
				     : strerror(-r);
	return r;
}

static int copy_numbers(struct archive_entry *e, struct ingest_inode *i, const char **why)
{
	int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);

	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX) {
		*why = "owner is out of range";
		return -EINVAL;
	}
	i->uid = (uint32_t)uid;
	i->gid = (uint32_t)gid;
	i->mode = (i->mode & S_IFMT) | (archive_entry_mode(e) & 07777);
	if (S_ISBLK(i->mode) || S_ISCHR(i->mode))
		i->rdev = archive_entry_rdev(e);
	i->mtime = (struct timespec){ 0 };
	if (archive_entry_mtime_is_set(e)) {
		i->mtime.tv_sec = archive_entry_mtime(e);
		i->mtime.tv_nsec = archive_entry_mtime_nsec(e);
	}
	if (i->mtime.tv_nsec < 0 || i->mtime.tv_nsec >= 1000000000) {
		*why = "time is out of range";
		return -EINVAL;
	}
	return 0;
}

int ingest_tar_attributes(struct ingest *in, const struct ingest_tar_entry *e,
			  struct ingest_inode *i, const char **why)
{
	int r = copy_numbers(e->entry, i, why);

	if (r < 0)
		return r;
	buf_clear(&i->xattrs);
	r = copy_records(in, e, i, why);
	if (r < 0 || S_ISLNK(i->mode))
		return r;
	r = copy_acls(in, e->entry, i);
	if (r < 0)
		*why = r == -E2BIG ? "too many or too large extended attributes" : strerror(-r);
	return r;
}
