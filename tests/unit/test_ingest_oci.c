/* Import of OCI layouts and docker-archives. */
#include "tests/unit/oci_maker.h"

#include "store/import/oci_image.h"
#include "store/archive/oci_platform.h"

static void make_simple(const char *layout, const struct layer *layers, size_t n)
{
	write_index(layout, json_pack("[o]", add_image(layout, layers, n, "A=b")));
}

static const struct layer two[] = {
	{ { { '5', "etc", NULL, NULL, 0755, 0 },
	    { '0', "etc/a", NULL, "lower a", 0, 0 },
	    { '0', "etc/b", NULL, "lower b", 0, 0 } } },
	{ { { '0', "etc/b", NULL, "upper b", 0, 0 }, { '0', "etc/c", NULL, "c", 0, 0 } } },
};

static void layers_are_applied_in_order(void **state)
{
	struct scratch *s = *state;

	make_simple("img", two, 2);
	import_oci(s, "img", NULL);
	assert_content(s, "etc/a", "lower a");
	assert_content(s, "etc/b", "upper b");
	assert_content(s, "etc/c", "c");
}

static void the_config_is_kept(void **state)
{
	struct scratch *s = *state;

	make_simple("img", two, 2);
	import_oci(s, "img", NULL);
	assert_string_equal(
		json_string_value(json_array_get(json_object_get(s->result.config, "Env"), 0)),
		"A=b");
	assert_string_equal(json_string_value(json_object_get(s->result.config, "WorkingDir")),
			    "/w");
}

static void whiteouts_hide_what_is_below_only(void **state)
{
	static const struct layer layers[] = {
		{ { { '0', "gone", NULL, "x", 0, 0 },
		    { '0', "dir/gone", NULL, "x", 0, 0 },
		    { '0', "dir/kept", NULL, "x", 0, 0 },
		    { '0', "tree/a/b/c", NULL, "x", 0, 0 },
		    { '0', "again", NULL, "old", 0, 0 },
		    { '0', "re/old", NULL, "x", 0, 0 } } },
		{ { { '0', ".wh.gone", NULL, "", 0, 0 },
		    { '0', "dir/.wh.gone", NULL, "", 0, 0 },
		    { '0', ".wh.tree", NULL, "", 0, 0 },
		    { '0', "again", NULL, "new", 0, 0 },
		    { '0', ".wh.again", NULL, "", 0, 0 }, /* after its new one */
		    { '0', "re/new", NULL, "x", 0, 0 },
		    { '0', ".wh.re", NULL, "", 0, 0 },
		    { '0', "no/such/.wh.thing", NULL, "", 0, 0 },
		    { '0', ".wh..wh.plnk", NULL, "", 0, 0 } } },
	};
	struct scratch *s = *state;

	make_simple("img", layers, 2);
	import_oci(s, "img", NULL);
	assert_false(exists(s, "gone"));
	assert_false(exists(s, "dir/gone"));
	assert_true(exists(s, "dir/kept"));
	assert_false(exists(s, "tree"));
	assert_content(s, "again", "new");
	assert_true(exists(s, "re/new"));
	assert_false(exists(s, "re/old"));
	assert_false(exists(s, "no"));
	assert_false(exists(s, ".wh.gone"));
	assert_false(exists(s, ".wh..wh.plnk"));
}

static void opaque_directories_hide_all_below(void **state)
{
	static const struct layer layers[] = {
		{ { { '0', "o/old", NULL, "x", 0, 0 },
		    { '0', "o/sub/old", NULL, "x", 0, 0 },
		    { '0', "o/both/old", NULL, "x", 0, 0 },
		    { '0', "other", NULL, "x", 0, 0 } } },
		{ { { '0', "o/both/new", NULL, "x", 0, 0 },
		    { '0', "o/.wh..wh..opq", NULL, "", 0, 0 },
		    { '0', "o/new", NULL, "x", 0, 0 } } },
	};
	struct scratch *s = *state;

	make_simple("img", layers, 2);
	import_oci(s, "img", NULL);
	assert_false(exists(s, "o/old"));
	assert_false(exists(s, "o/sub"));
	assert_false(exists(s, "o/both/old"));
	assert_true(exists(s, "o/both/new"));
	assert_true(exists(s, "o/new"));
	assert_true(exists(s, "other"));
}

static void a_layer_may_replace_anything_by_anything(void **state)
{
	static const struct layer layers[] = {
		{ { { '0', "d/in", NULL, "x", 0, 0 },
		    { '0', "f", NULL, "x", 0, 0 },
		    { '2', "s", "d", NULL, 0, 0 },
		    { '5', "usr/lib", NULL, NULL, 0755, 0 },
		    { '2', "lib", "usr/lib", NULL, 0, 0 } } },
		{ { { '0', "d", NULL, "now a file", 0, 0 },
		    { '5', "f", NULL, NULL, 0700, 0 },
		    { '0', "f/in", NULL, "in", 0, 0 },
		    { '5', "s", NULL, NULL, 0755, 0 },
		    { '0', "lib/x", NULL, "through the link", 0, 0 },
		    { '1', "hard", "lib/x", NULL, 0, 0 } } },
	};
	struct scratch *s = *state;
	struct inode_rec rec;

	make_simple("img", layers, 2);
	import_oci(s, "img", NULL);
	assert_content(s, "d", "now a file");
	assert_content(s, "f/in", "in");
	lookup(s, "s", &rec);
	assert_true(S_ISDIR(rec.mode));
	assert_content(s, "usr/lib/x", "through the link");
	assert_content(s, "hard", "through the link");
}

/* What other tools write for a layer that changes nothing, and gzip in several members. */
static void a_layer_may_be_empty_in_any_way(void **state)
{
	static const char *const ways[] = {
		"true",
		"gzip -n </dev/null",
		"zstd -q </dev/null",
		"head -c 1024 /dev/zero",
		"head -c 10240 /dev/zero | gzip -n",
		"(head -c 700 /dev/zero | gzip -n; head -c 324 /dev/zero | gzip -n)",
		"(head -c 700 /dev/zero | zstd -q; head -c 324 /dev/zero | zstd -q)",
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		json_t *list = json_array();

		sh("rm -rf img && mkdir img");
		make_tar("layer.tar", two[0].list);
		json_array_append_new(list, add_blob("img", "layer.tar", "tar"));
		sh("(%s) >layer", ways[i]);
		json_array_append_new(list, add_blob("img", "layer", "tar"));
		json_t *config = add_json("img", json_object(), "config");
		write_index("img", json_pack("[o]", add_json("img",
							     json_pack("{s:o, s:o}", "config",
								       config, "layers", list),
							     "manifest")));
		if (try_oci(s, "img", NULL) < 0)
			fail_msg("%s: %s", ways[i], error_text(&s->err));
		assert_content(s, "etc/a", "lower a");
	}
}

static void the_tag_chooses_the_image(void **state)
{
	static const struct layer v1 = { { { '0', "v", NULL, "1", 0, 0 } } },
				  v2 = { { { '0', "v", NULL, "2", 0, 0 } } };
	struct scratch *s = *state;

	write_index("img", json_pack("[o, o]", named(add_image("img", &v1, 1, "V=1"), "v1"),
				     named(add_image("img", &v2, 1, "V=2"), "v2")));
	import_oci(s, "img", "v1");
	assert_content(s, "v", "1");
	import_oci(s, "img", "v2");
	assert_content(s, "v", "2");
	assert_int_equal(try_oci(s, "img", NULL), -EINVAL);
	assert_non_null(strstr(error_text(&s->err), "v1, v2"));
	assert_int_equal(try_oci(s, "img", "v3"), -EINVAL);
	assert_non_null(strstr(error_text(&s->err), "no image \"v3\"; there are: v1, v2"));
	write_index("img",
		    json_pack("[o, o]", named(add_image("img", &v1, 1, "V=1"), "old"),
			      named(add_image("img", &v2, 1, "V=2"), "repo.org/name:latest")));
	import_oci(s, "img", "");
	assert_content(s, "v", "2");
	import_oci(s, "img", "repo.org/name:latest");
}

static void a_nested_index_is_searched_for_this_hosts_platform(void **state)
{
	static const struct layer ours = { { { '0', "v", NULL, "ours", 0, 0 } } },
				  theirs = { { { '0', "v", NULL, "theirs", 0, 0 } } };
	struct scratch *s = *state;
	json_t *list = json_pack(
		"[o, o, o]", for_platform(add_image("img", &theirs, 1, "V=1"), "linux", "vax"),
		for_platform(add_image("img", &ours, 1, "V=1"), "linux", oci_architecture()),
		for_platform(add_image("img", &theirs, 1, "V=2"), "unknown", "unknown"));

	write_index("img",
		    json_pack("[o]", named(add_json("img",
						    json_pack("{s:i, s:o}", "schemaVersion", 2,
							      "manifests", list),
						    "application/vnd.oci.image.index.v1+json"),
					   "multi")));
	import_oci(s, "img", NULL);
	assert_content(s, "v", "ours");
	write_index("img",
		    json_pack("[o, o]",
			      for_platform(add_image("img", &theirs, 1, "V=1"), "linux", "vax"),
			      for_platform(add_image("img", &theirs, 1, "V=2"), "plan9", "mips")));
	assert_int_equal(try_oci(s, "img", NULL), -EINVAL);
	assert_non_null(strstr(error_text(&s->err), "linux/vax"));
	assert_non_null(strstr(error_text(&s->err), "plan9/mips"));
}

static void an_archive_is_as_good_as_a_directory(void **state)
{
	struct scratch *s = *state;

	make_simple("img", two, 2);
	import_oci(s, "img", NULL);
	struct digest want = s->result.root;
	sh("tar -C img -cf img.tar . && gzip -k img.tar");
	import_oci(s, "img.tar", NULL);
	assert_same_root(want, s->result.root);
	import_oci(s, "img.tar.gz", NULL);
	assert_same_root(want, s->result.root);
}

/* docker save of old: layers as ID/layer.tar, one of them a symlink to another. */
static void make_docker(const char *dir)
{
	char hex[2][DIGEST_HEX_SIZE], a[80], b[80], name[128];

	sh("mkdir -p %s/one %s/two %s/three", dir, dir, dir);
	for (int i = 0; i < 2; i++) {
		make_tar("l.tar", two[i].list);
		hex_of("l.tar", hex[i]);
		sh("mv l.tar %s/%s/layer.tar", dir, i ? "two" : "one");
	}
	sh("ln -s ../one/layer.tar %s/three/layer.tar", dir);
	snprintf(a, sizeof(a), "sha256:%s", hex[0]);
	snprintf(b, sizeof(b), "sha256:%s", hex[1]);
	json_t *config = json_pack("{s:{s:[s]}, s:{s:[s, s, s]}}", "config", "Cmd", "/bin/sh",
				   "rootfs", "diff_ids", a, b, a);
	snprintf(name, sizeof(name), "%s/config.json", dir);
	assert_int_equal(json_dump_file(config, name, 0), 0);
	json_decref(config);
	json_t *list = json_pack("[{s:s, s:[s, s], s:[s, s, s]}, {s:s, s:[s], s:[s]}]", "Config",
				 "config.json", "RepoTags", "foo/bar:latest", "foo/bar:v1",
				 "Layers", "one/layer.tar", "two/layer.tar", "three/layer.tar",
				 "Config", "nope", "RepoTags", "other:v9", "Layers", "x");
	snprintf(name, sizeof(name), "%s/manifest.json", dir);
	assert_int_equal(json_dump_file(list, name, 0), 0);
	json_decref(list);
}

static void docker_archives_are_read(void **state)
{
	static const char *const tags[] = { NULL, "latest", "v1", "bar:v1", "foo/bar:v1" };
	struct scratch *s = *state;

	make_docker("dk");
	sh("tar -C dk -cf dk.tar .");
	for (size_t i = 0; i < 2 * ARRAY_SIZE(tags); i++) {
		import_oci(s, i % 2 ? "dk" : "dk.tar", tags[i / 2]);
		assert_content(s, "etc/b", "lower b"); /* the third layer is the first again */
		assert_content(s, "etc/c", "c");
		assert_non_null(json_object_get(s->result.config, "Cmd"));
	}
	assert_int_equal(try_oci(s, "dk.tar", "v2"), -EINVAL);
	assert_non_null(strstr(error_text(&s->err), "foo/bar:latest, foo/bar:v1, other:v9"));
	assert_int_equal(try_oci(s, "dk.tar", "other:v9"), -ENOENT);
}

static void what_is_no_image_is_told(void **state)
{
	static const struct {
		const char *make, *says;
	} cases[] = {
		{ "rm dk/manifest.json; echo {} >dk/repositories", "before Docker 1.10" },
		{ "rm dk/manifest.json", "nor a docker-archive" },
		{ "echo '[]' >dk/manifest.json", "lists no image" },
		{ "echo '[{}, {}]' >dk/manifest.json", "no image in it has a name" },
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		sh("rm -rf dk");
		make_docker("dk");
		sh("%s", cases[i].make);
		assert_int_equal(try_oci(s, "dk", NULL), -EINVAL);
		if (!strstr(error_text(&s->err), cases[i].says))
			fail_msg("%s: %s", cases[i].make, error_text(&s->err));
	}
}

static void damaged_blobs_are_refused(void **state)
{
	struct scratch *s = *state;

	make_simple("img", two, 2);
	sh("cp -r img bad && for b in bad/blobs/sha256/*; do grep -q diff_ids $b && "
	   "sed -i 's/A=b/A=c/' $b; done; true");
	assert_int_equal(try_oci(s, "bad", NULL), -EBADMSG);
	assert_non_null(strstr(error_text(&s->err), "digest"));
	/* A layer, replaced by another gzip of the same tar. */
	sh("rm -rf bad && cp -r img bad && for b in bad/blobs/sha256/*; do "
	   "gzip -t < $b 2>/dev/null && zcat < $b | gzip -1 -c -N > n && mv n $b; done; true");
	assert_int_equal(try_oci(s, "bad", NULL), -EBADMSG);
	assert_non_null(strstr(error_text(&s->err), "layer 1"));
	sh("rm -rf bad && cp -r img bad && for b in bad/blobs/sha256/*; do "
	   "gzip -t < $b 2>/dev/null && rm $b; done; true");
	assert_int_equal(try_oci(s, "bad", NULL), -ENOENT);
	sh("rm -rf bad && cp -r img bad && for b in bad/blobs/sha256/*; do "
	   "gzip -t < $b 2>/dev/null && truncate -s -5 $b; done; true");
	assert_int_equal(try_oci(s, "bad", NULL), -EBADMSG);
}

static void diff_ids_are_checked(void **state)
{
	struct scratch *s = *state;

	make_docker("dk");
	sh("cp dk/two/layer.tar dk/one/layer.tar");
	assert_int_equal(try_oci(s, "dk", "v1"), -EBADMSG);
	assert_non_null(strstr(error_text(&s->err), "diff_id"));
}

static void hostile_layouts_are_refused(void **state)
{
	static const struct {
		const char *index;
		int result;
	} cases[] = {
		{ "", -EBADMSG },
		{ "[]", -EBADMSG },
		{ "{\"manifests\": 1}", -EBADMSG },
		{ "{\"manifests\": []}", -EINVAL },
		{ "{\"manifests\": [1, null, \"x\"]}", -EINVAL },
		{ "{\"manifests\": [{}]}", -EBADMSG },
		{ "{\"manifests\": [{\"digest\": \"sha256:../../etc/passwd\"}]}", -EBADMSG },
		{ "{\"manifests\": [{\"digest\": \"sha512:abc\"}]}", -ENOTSUP },
		{ "{\"manifests\": [{\"digest\": \"sha256:"
		  "00000000000000000000000000000000000000000000000000000000000000zz\"}]}",
		  -EBADMSG },
		{ "{\"manifests\": [{\"digest\": \"sha256:"
		  "0000000000000000000000000000000000000000000000000000000000000000\"}]}",
		  -ENOENT },
	};
	struct scratch *s = *state;

	sh("mkdir -p h/blobs/sha256");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		put_file("h/index.json", cases[i].index, strlen(cases[i].index));
		int r = try_oci(s, "h", NULL);
		if (r != cases[i].result)
			fail_msg("case %zu: %d, %s", i, r, error_text(&s->err));
	}
	sh("rm -rf h && mkdir h");
	assert_int_equal(try_oci(s, "h", NULL), -EINVAL);
	assert_int_equal(try_oci(s, "no/such", NULL), -ENOENT);
	sh("ln -s /etc/passwd h/index.json");
	assert_int_equal(try_oci(s, "h", NULL), -EINVAL);
	put_file("junk", "junk junk junk", 14);
	assert_int_equal(try_oci(s, "junk", NULL), -EBADMSG);
}

static void docker_names_cannot_lead_out(void **state)
{
	static const char text[] =
		"[{\"Config\": \"../../../../../../etc/passwd\", \"Layers\": []}]",
			  text2[] = "[{\"Config\": \"c\", \"Layers\": [\"/etc/passwd\"]}]",
			  text3[] = "[{\"Config\": \"out\", \"Layers\": []}]";
	struct scratch *s = *state;

	assert_int_equal(mkdir("dk", 0755), 0);
	put_file("dk/c", "{}", 2);
	put_file("dk/manifest.json", text, strlen(text));
	assert_int_equal(try_oci(s, "dk", NULL), -EINVAL);
	put_file("dk/manifest.json", text2, strlen(text2));
	assert_int_equal(try_oci(s, "dk", NULL), -ENOENT);
	sh("ln -s /etc/passwd dk/out");
	put_file("dk/manifest.json", text3, strlen(text3));
	assert_int_equal(try_oci(s, "dk", NULL), -EINVAL);
}

static void limits_count_over_all_layers(void **state)
{
	static const struct layer big[] = {
		{ { { '0', "a", NULL, "0123456789", 0, 0 } } },
		{ { { '0', "a", NULL, "0123456789", 0, 0 } } },
	};
	struct scratch *s = *state;
	struct ingest_options opt = { .max_bytes = 15 };

	make_simple("img", big, 2);
	assert_int_equal(ingest_oci(s->store, "img", NULL, &opt, NULL, &s->result, &s->err),
			 -EFBIG);
	assert_non_null(strstr(error_text(&s->err), "img"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
	const struct CMUnitTest tests[] = {
		T(layers_are_applied_in_order),
		T(the_config_is_kept),
		T(whiteouts_hide_what_is_below_only),
		T(opaque_directories_hide_all_below),
		T(a_layer_may_replace_anything_by_anything),
		T(a_layer_may_be_empty_in_any_way),
		T(the_tag_chooses_the_image),
		T(a_nested_index_is_searched_for_this_hosts_platform),
		T(an_archive_is_as_good_as_a_directory),
		T(docker_archives_are_read),
		T(what_is_no_image_is_told),
		T(damaged_blobs_are_refused),
		T(diff_ids_are_checked),
		T(hostile_layouts_are_refused),
		T(docker_names_cannot_lead_out),
		T(limits_count_over_all_layers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
