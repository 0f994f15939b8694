#include "snapshotd/http/fields.h"

#include <errno.h>
#include <string.h>

static const char *const type_names[] = {
	[FIELD_STRING] = "a string",
	[FIELD_BOOL] = "true or false",
	[FIELD_U64] = "a whole number, not negative",
	[FIELD_NUMBER] = "a number, not negative",
	[FIELD_OBJECT] = "an object",
	[FIELD_ARRAY] = "an array",
	[FIELD_ANY] = "anything",
	[FIELD_IMAGE] = "an image",
};

static bool field_store(const struct field *f, json_t *v)
{
	switch (f->type) {
	case FIELD_STRING:
		if (!json_is_string(v))
			return false;
		*(const char **)f->out = json_string_value(v);
		return true;
	case FIELD_BOOL:
		if (!json_is_boolean(v))
			return false;
		*(bool *)f->out = json_is_true(v);
		return true;
	case FIELD_U64:
		if (!json_is_integer(v) || json_integer_value(v) < 0)
			return false;
		*(uint64_t *)f->out = (uint64_t)json_integer_value(v);
		return true;
	case FIELD_NUMBER:
		if (!json_is_number(v) || json_number_value(v) < 0)
			return false;
		*(double *)f->out = json_number_value(v);
		return true;
	case FIELD_ANY:
	case FIELD_IMAGE:
		*(json_t **)f->out = v;
		return true;
	case FIELD_ARRAY:
		if (!json_is_array(v))
			return false;
		*(json_t **)f->out = v;
		return true;
	case FIELD_OBJECT:
		if (!json_is_object(v))
			return false;
		*(json_t **)f->out = v;
		return true;
	}
	return false;
}

/* A string that C would take for a shorter one. The parser bounds the depth. */
static bool has_nul(const json_t *j)
{
	const char *name;
	json_t *v;
	size_t i;

	if (json_is_string(j))
		return strlen(json_string_value(j)) != json_string_length(j);
	json_array_foreach(j, i, v)
		if (has_nul(v))
			return true;
	json_object_foreach((json_t *)j, name, v)
		if (has_nul(v))
			return true;
	return false;
}

const struct field *field_find(const struct field *fields, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(fields[i].name, name) == 0)
			return &fields[i];
	return NULL;
}

int fields_parse(const json_t *object, const struct field *fields, size_t n, struct error *err)
{
	const char *name;
	json_t *v;

	if (!json_is_object(object))
		return error_set(err, -EINVAL, "expected a JSON object");
	json_object_foreach((json_t *)object, name, v) {
		const struct field *f = field_find(fields, n, name);

		if (!f)
			return error_set(err, -EINVAL, "unknown field \"%.100s\"", name);
		if (!json_is_null(v) && !field_store(f, v))
			return error_set(err, -EINVAL, "field \"%s\" must be %s", name,
					 type_names[f->type]);
		if (f->type != FIELD_IMAGE && has_nul(v))
			return error_set(err, -EINVAL, "field \"%s\" has a NUL character", name);
	}
	for (size_t i = 0; i < n; i++) {
		if (!fields[i].required)
			continue;
		v = json_object_get(object, fields[i].name);
		if (!v || json_is_null(v))
			return error_set(err, -EINVAL, "field \"%s\" is missing", fields[i].name);
	}
	return 0;
}
