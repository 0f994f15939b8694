#include "store/tree/xattr.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "store/tree/record.h"

static bool has_prefix(const char *name, size_t len, const char *prefix)
{
	size_t n = strlen(prefix);

	return len >= n && memcmp(name, prefix, n) == 0;
}

static bool is_name(const char *name, size_t len, const char *other)
{
	return len == strlen(other) && memcmp(name, other, len) == 0;
}

int xattr_name_check(const char *name, size_t len)
{
	static const char *const known[] = { "user.", "trusted.", "security." };

	if (len > XATTR_NAME_MAX)
		return -ERANGE;
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
		if (has_prefix(name, len, known[i]))
			return len > strlen(known[i]) ? 0 : -EINVAL;
	if (is_name(name, len, ACL_XATTR_ACCESS) || is_name(name, len, ACL_XATTR_DEFAULT))
		return 0;
	return -EOPNOTSUPP;
}

bool xattr_is_shown(const char *name, size_t len, uint32_t mode)
{
	if (xattr_name_check(name, len) < 0)
		return false;
	if (has_prefix(name, len, "user."))
		return S_ISREG(mode) || S_ISDIR(mode);
	if (is_name(name, len, ACL_XATTR_DEFAULT))
		return S_ISDIR(mode);
	return !is_name(name, len, ACL_XATTR_ACCESS) || !S_ISLNK(mode);
}
