/* Which image of several is chosen, and what becomes of its platform. */
#include "tests/unit/oci_maker.h"

#include "store/import/oci_image.h"
#include "store/archive/oci_platform.h"

static json_t *variant(json_t *descriptor, const char *arch, const char *variant)
{
	for_platform(descriptor, "linux", arch);
	if (variant)
		json_object_set_new(json_object_get(descriptor, "platform"), "variant",
				    json_string(variant));
	return descriptor;
}

static int import_for(struct scratch *s, const char *path, const char *platform)
{
	struct ingest_options opt = { .platform = platform };

	reset(s);
	return ingest_oci(s->store, path, NULL, &opt, NULL, &s->result, &s->err);
}

/* The file v of an image says which it is; its config is for linux/ARCH[/VARIANT]. */
static json_t *add_variant(const char *layout, const char *arch, const char *name)
{
	char text[40];
	const struct layer layer = { { { '0', "v", NULL, text, 0, 0 } } };

	snprintf(text, sizeof(text), "%s/%s", arch, name ? name : "");
	json_t *image = add_image(layout, &layer, 1, text);
	char *blob = NULL;
	json_t *manifest = NULL, *config = NULL;
	assert_true(asprintf(&blob, "%s/blobs/sha256/%s", layout,
			     json_string_value(json_object_get(image, "digest")) + 7) > 0);
	manifest = json_load_file(blob, 0, NULL);
	free(blob);
	const char *digest =
		json_string_value(json_object_get(json_object_get(manifest, "config"), "digest"));
	assert_true(asprintf(&blob, "%s/blobs/sha256/%s", layout, digest + 7) > 0);
	config = json_load_file(blob, 0, NULL);
	free(blob);
	json_object_set_new(config, "architecture", json_string(arch));
	if (name)
		json_object_set_new(config, "variant", json_string(name));
	json_object_set_new(manifest, "config", add_json(layout, config, "config"));
	json_decref(image);
	return variant(add_json(layout, manifest, "manifest"), arch, name);
}

static void the_variant_that_runs_best_is_chosen(void **state)
{
	static const char *const images[][2] = {
		{ "amd64", "v9" }, { "amd64", "v3" },	{ "amd64", NULL },   { "amd64", "v2" },
		{ "arm", "v6" },   { "arm", "v7" },	{ "arm", "v5" },     { "arm64", "v9" },
		{ "arm64", "v8" }, { "ppc64le", "p9" }, { "ppc64le", NULL },
	};
	static const struct {
		const char *platform, *image; /* NULL: none fits */
	} cases[] = {
		{ "linux/amd64/v1", "amd64/" },
		{ "linux/amd64/v2", "amd64/v2" },
		{ "linux/amd64/v4", "amd64/v3" },
		{ "linux/amd64/v9", "amd64/v9" },
		{ "linux/arm/v5", "arm/v5" },
		{ "linux/arm/v6", "arm/v6" },
		{ "linux/arm", "arm/v7" },
		{ "linux/arm/v4", NULL },
		{ "linux/arm64", "arm64/v8" },
		{ "linux/arm64/v8.5", "arm64/v8" },
		{ "linux/arm64/v9.1", "arm64/v9" },
		{ "linux/ppc64le", "ppc64le/" },
		{ "linux/ppc64le/p9", "ppc64le/p9" },
		{ "linux/ppc64le/p10", "ppc64le/" },
		{ "linux/s390x", NULL },
		{ "windows/amd64", NULL },
		{ "linux", NULL },
		{ "linux/", NULL },
		{ "linux/arm/v6/x", NULL },
		{ "linux/ARM", NULL },
	};
	struct scratch *s = *state;
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(images); i++)
		json_array_append_new(list, add_variant("img", images[i][0], images[i][1]));
	write_index("img", list);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int r = import_for(s, "img", cases[i].platform);

		if (r != (cases[i].image ? 0 : -EINVAL))
			fail_msg("%s: %s", cases[i].platform, error_text(&s->err));
		if (r == 0)
			assert_content(s, "v", cases[i].image);
	}
	if (strcmp(oci_architecture(), "amd64") == 0) {
		assert_int_equal(import_for(s, "img", NULL), 0);
		assert_string_not_equal(
			json_string_value(json_object_get(s->result.config, "variant")) ?: "",
			"v9");
	}
	/* A single image is taken whatever it is for, but not where something else is wanted. */
	write_index("img", json_pack("[o]", add_variant("img", "arm", "v6")));
	assert_int_equal(import_for(s, "img", NULL), 0);
	assert_int_equal(import_for(s, "img", "linux/arm64"), -EINVAL);
	json_t *unsaid = add_variant("img", "arm", "v6");
	json_object_del(unsaid, "platform");
	write_index("img", json_pack("[o]", unsaid));
	assert_int_equal(import_for(s, "img", "linux/arm"), 0);
	assert_int_equal(import_for(s, "img", "linux/arm/v5"), -EINVAL);
	assert_non_null(strstr(error_text(&s->err), "is for linux/arm/v6, not for linux/arm/v5"));
}

static void the_platform_goes_out_as_it_came_in(void **state)
{
	struct scratch *s = *state;
	json_t *config =
		json_pack("{s:s, s:s, s:s, s:s, s:[s], s:{s:s, s:s}}", "architecture", "arm", "os",
			  "linux", "variant", "v6", "os.version", "5.10", "os.features", "sse4",
			  "config", "WorkingDir", "/w", "architecture", "of no meaning");

	assert_int_equal(mkdir("img", 0755), 0);
	json_t *manifest = json_pack("{s:o, s:[]}", "config",
				     add_json("img", json_incref(config), "config"), "layers");
	write_index("img", json_pack("[o]", add_json("img", manifest, "manifest")));
	import_oci(s, "img", NULL);
	assert_int_equal(
		export_oci(s->store,
			   &(struct export_image){ &s->result.root, s->result.config, "v1" }, "out",
			   NULL, &s->err),
		0);
	sh("for b in out/blobs/sha256/*; do grep -q diff_ids $b && cp $b config; done; true");
	json_t *got = json_load_file("config", 0, NULL);
	for (size_t i = 0; oci_platform_members[i]; i++)
		assert_true(json_equal(json_object_get(got, oci_platform_members[i]),
				       json_object_get(config, oci_platform_members[i])));
	assert_int_equal(json_object_size(json_object_get(got, "config")), 1);
	json_decref(got);
	json_decref(config);
	/* What came from no image is for this host. */
	assert_int_equal(export_oci(s->store, &(struct export_image){ &s->result.root, NULL, "v1" },
				    "ours", NULL, &s->err),
			 0);
	import_oci(s, "ours", NULL);
	assert_string_equal(json_string_value(json_object_get(s->result.config, "architecture")),
			    oci_architecture());
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
	const struct CMUnitTest tests[] = {
		T(the_variant_that_runs_best_is_chosen),
		T(the_platform_goes_out_as_it_came_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
