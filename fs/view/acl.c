#include "fs/view/acl.h"

#include <errno.h>
#include <sys/stat.h>

#include "store/base/wire.h"

#define ACL_VERSION 2u
enum {
	TAG_USER_OBJ = 1,
	TAG_USER = 2,
	TAG_GROUP_OBJ = 4,
	TAG_GROUP = 8,
	TAG_MASK = 16,
	TAG_OTHER = 32
};

#define HEADER 4u
#define ENTRY 8u

static size_t entries(size_t len)
{
	return len < HEADER ? 0 : (len - HEADER) / ENTRY;
}

static uint8_t *entry(const void *acl, size_t i)
{
	return (uint8_t *)acl + HEADER + i * ENTRY;
}

static uint16_t perm(const uint8_t *e)
{
	return wire_get16(e + 2);
}

static void set_perm(uint8_t *e, uint32_t p)
{
	e[2] = (uint8_t)(p & 7);
	e[3] = 0;
}

int acl_check(const void *acl, size_t len)
{
	unsigned seen = 0, named = 0;

	if (len < HEADER || (len - HEADER) % ENTRY || wire_get32(acl) != ACL_VERSION)
		return -EINVAL;
	for (size_t i = 0; i < entries(len); i++) {
		uint16_t tag = wire_get16(entry(acl, i));

		if (perm(entry(acl, i)) > 7)
			return -EINVAL;
		switch (tag) {
		case TAG_USER:
		case TAG_GROUP:
			named++;
			break;
		case TAG_USER_OBJ:
		case TAG_GROUP_OBJ:
		case TAG_MASK:
		case TAG_OTHER:
			if (seen & tag)
				return -EINVAL;
			seen |= tag;
			break;
		default:
			return -EINVAL;
		}
	}
	if (!entries(len))
		return 0;
	if ((seen & (TAG_USER_OBJ | TAG_GROUP_OBJ | TAG_OTHER)) !=
	    (TAG_USER_OBJ | TAG_GROUP_OBJ | TAG_OTHER))
		return -EINVAL;
	return named && !(seen & TAG_MASK) ? -EINVAL : 0;
}

/* The entry that stands for the group bits: the mask if there is one. */
static uint8_t *group_class(const void *acl, size_t len)
{
	uint8_t *found = NULL;

	for (size_t i = 0; i < entries(len); i++) {
		uint16_t tag = wire_get16(entry(acl, i));

		if (tag == TAG_MASK || (tag == TAG_GROUP_OBJ && !found))
			found = entry(acl, i);
	}
	return found;
}

int acl_inherit(const void *default_acl, size_t len, uint32_t *mode, struct buf *out)
{
	uint32_t m = *mode;
	bool minimal;
	int r = acl_check(default_acl, len);

	if (!r)
		r = buf_append(out, default_acl, len);
	if (r)
		return r;
	for (size_t i = 0; i < entries(len); i++) {
		uint8_t *e = entry(out->data, i);
		uint16_t tag = wire_get16(e);

		if (tag == TAG_USER_OBJ) {
			set_perm(e, perm(e) & (m >> 6));
			m = (m & ~(uint32_t)S_IRWXU) | (uint32_t)perm(e) << 6;
		} else if (tag == TAG_OTHER) {
			set_perm(e, perm(e) & m);
			m = (m & ~(uint32_t)S_IRWXO) | perm(e);
		}
	}
	uint8_t *g = group_class(out->data, len);

	if (g) {
		set_perm(g, perm(g) & (m >> 3));
		m = (m & ~(uint32_t)S_IRWXG) | (uint32_t)perm(g) << 3;
	}
	acl_to_mode(out->data, len, m, &minimal);
	if (minimal)
		buf_clear(out);
	*mode = m;
	return 0;
}

uint32_t acl_to_mode(const void *acl, size_t len, uint32_t mode, bool *out_minimal)
{
	uint8_t *g = group_class(acl, len);

	*out_minimal = true;
	for (size_t i = 0; i < entries(len); i++) {
		uint8_t *e = entry(acl, i);
		uint16_t tag = wire_get16(e);

		if (tag == TAG_USER_OBJ)
			mode = (mode & ~(uint32_t)S_IRWXU) | (uint32_t)perm(e) << 6;
		else if (tag == TAG_OTHER)
			mode = (mode & ~(uint32_t)S_IRWXO) | perm(e);
		else if (tag != TAG_GROUP_OBJ)
			*out_minimal = false;
	}
	if (g)
		mode = (mode & ~(uint32_t)S_IRWXG) | (uint32_t)perm(g) << 3;
	return mode;
}

void acl_chmod(void *acl, size_t len, uint32_t mode)
{
	uint8_t *g = group_class(acl, len);

	for (size_t i = 0; i < entries(len); i++) {
		uint8_t *e = entry(acl, i);
		uint16_t tag = wire_get16(e);

		if (tag == TAG_USER_OBJ)
			set_perm(e, mode >> 6);
		else if (tag == TAG_OTHER)
			set_perm(e, mode);
	}
	if (g)
		set_perm(g, mode >> 3);
}
