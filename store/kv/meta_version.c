#include "store/kv/meta_version.h"

#include <errno.h>

#include <jansson.h>

struct check {
	enum meta_kind kind;
	int newest;
	struct error *err;
};

static int check_one(void *arg, const char *name, const void *value, size_t len)
{
	const struct check *c = arg;
	json_t *o = json_loadb(value, len, 0, NULL);
	json_int_t version = json_integer_value(json_object_get(o, "version"));

	json_decref(o);
	if (version <= c->newest)
		return 0;
	return error_set(c->err, -EINVAL,
			 "the record %s%s is of version %" JSON_INTEGER_FORMAT
			 ", which this program does not know",
			 meta_prefix(c->kind), name, version);
}

int meta_check_versions(struct kv *kv, enum meta_kind kind, int newest, struct error *err)
{
	struct check c = { kind, newest, err };
	int rc = meta_each(kv, kind, "", check_one, &c);

	return rc && rc != -EINVAL ? error_set_errno(err, rc, "cannot read records") : rc;
}
