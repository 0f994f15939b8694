/* vectors.h - tests/vectors/manifests.json, for the tests that go through it. */
#ifndef VARVE_TEST_VECTORS_H
#define VARVE_TEST_VECTORS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <jansson.h>

/* Tests run in the directory of the sources. The caller drops it. */
static inline json_t *vectors_load(void)
{
	json_error_t err;
	json_t *j = json_load_file("tests/vectors/manifests.json",
				   JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err);

	if (!j)
		fail_msg("%s:%d: %s", err.source, err.line, err.text);
	return j;
}

static inline const char *vector_text(const json_t *v, const char *name)
{
	return json_string_value(json_object_get(v, name));
}

#endif
