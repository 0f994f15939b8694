/*
 * exec_xattr.c - extended attributes and POSIX ACLs.
 */
#include "tests/model/fsmodel/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

static const uint8_t *value(const struct op *op)
{
	static uint8_t data[512];

	data_fill(op->seed, data, MIN(op->len, sizeof(data)));
	return data;
}

void exec_setxattr(struct side *s, const struct op *op, struct result *r)
{
	(void)s;
	result_set(r, lsetxattr(op->path, op->name, value(op), op->len, op->flags));
}

void exec_fsetxattr(struct side *s, const struct op *op, struct result *r)
{
	result_set(r, fsetxattr(side_fd(s, op->slot), op->name, value(op), op->len, op->flags));
}

void exec_getxattr(struct side *s, const struct op *op, struct result *r)
{
	/* A short buffer sometimes: ERANGE, or the size for 0. */
	size_t cap = op->seed % 4 ? 4096 : op->len;

	(void)s;
	result_set(r, lgetxattr(op->path, op->name, r->data, cap));
	r->data_len = r->ret > 0 && cap ? (size_t)r->ret : 0;
}

void exec_removexattr(struct side *s, const struct op *op, struct result *r)
{
	(void)s;
	result_set(r, lremovexattr(op->path, op->name));
}

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void exec_listxattr(struct side *s, const struct op *op, struct result *r)
{
	char list[8192];
	char *names[256];
	size_t n = 0;

	(void)s;
	result_set(r, llistxattr(op->path, list, sizeof(list)));
	if (r->ret <= 0)
		return;
	/* Who sees trusted.* depends on a capability that our other users have kept. */
	for (char *p = list; p < list + r->ret && n < ARRAY_SIZE(names); p += strlen(p) + 1)
		if (!op->cred || strncmp(p, "trusted.", 8) != 0)
			names[n++] = p;
	r->ret = (long)n;
	qsort(names, n, sizeof(*names), name_cmp);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(names[i]) + 1;
		memcpy(r->data + r->data_len, names[i], len);
		r->data_len += len;
	}
}

/* The kernel's form (include/uapi/linux/posix_acl_xattr.h). */
struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};
#define ACL_MASK 0x10

static size_t acl_build(const struct op *op, uint8_t *out)
{
	unsigned x = op->seed;
	struct acl_entry e[5] = {
		{ 0x01, (uint16_t)(x & 7), UINT32_MAX },      /* owner */
		{ 0x02, (uint16_t)(x >> 3 & 7), 1001 },	      /* a user */
		{ 0x04, (uint16_t)(x >> 6 & 7), UINT32_MAX }, /* group */
		{ ACL_MASK, (uint16_t)(x >> 9 & 7), UINT32_MAX },
		{ 0x20, (uint16_t)(x >> 12 & 7), UINT32_MAX }, /* others */
	};
	uint32_t version = 2;
	size_t n = 4;

	memcpy(out, &version, 4);
	for (int i = 0; i < 5; i++) {
		/* flags 1: only what a mode says; 3: malformed, no mask */
		if (op->flags == 1 && (i == 1 || i == 3))
			continue;
		if (op->flags == 3 && x % 4 == 0 && e[i].tag == ACL_MASK)
			continue;
		memcpy(out + n, &e[i], sizeof(e[i]));
		n += sizeof(e[i]);
	}
	return n;
}

void exec_setacl(struct side *s, const struct op *op, struct result *r)
{
	uint8_t acl[64];

	(void)s;
	if (!op->flags) {
		result_set(r, lremovexattr(op->path, op->name));
		return;
	}
	size_t n = acl_build(op, acl);
	result_set(r, lsetxattr(op->path, op->name, acl, n, 0));
	if (r->ret)
		return;
	r->ret = lgetxattr(op->path, op->name, r->data, 256);
	r->data_len = r->ret > 0 ? (size_t)r->ret : 0;
}
