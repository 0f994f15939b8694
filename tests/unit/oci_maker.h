/* oci_maker.h - image layouts made layer by layer, and their import. */
#ifndef VARVE_TEST_OCI_MAKER_H
#define VARVE_TEST_OCI_MAKER_H

#include "tests/unit/tar_maker.h"

/* One layer: a list of members. */
#define MEMBERS 10
struct layer {
	struct tar_spec list[MEMBERS];
};

static inline void hex_of(const char *file, char hex[DIGEST_HEX_SIZE])
{
	struct digest d;
	struct stat st;

	assert_int_equal(stat(file, &st), 0);
	char *data = malloc((size_t)st.st_size + 1);
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
	close(fd);
	assert_int_equal(hash_bytes(data, (size_t)st.st_size, &d), 0);
	free(data);
	digest_to_hex(&d, hex);
}

/* Move a file into the layout's blobs; its descriptor. */
static inline json_t *add_blob(const char *layout, const char *file, const char *media)
{
	char hex[DIGEST_HEX_SIZE], digest[80];
	struct stat st;

	hex_of(file, hex);
	assert_int_equal(stat(file, &st), 0);
	sh("mkdir -p %s/blobs/sha256 && mv %s %s/blobs/sha256/%s", layout, file, layout, hex);
	snprintf(digest, sizeof(digest), "sha256:%s", hex);
	return json_pack("{s:s, s:s, s:I}", "mediaType", media, "digest", digest, "size",
			 (json_int_t)st.st_size);
}

static inline json_t *add_json(const char *layout, json_t *j, const char *media)
{
	assert_non_null(j);
	assert_int_equal(json_dump_file(j, "blob", JSON_COMPACT), 0);
	json_decref(j);
	return add_blob(layout, "blob", media);
}

/* An image's manifest descriptor. Layers are compressed in turn: gzip, zstd, not. */
static inline json_t *add_image(const char *layout, const struct layer *layers, size_t n,
				const char *env)
{
	static const char *const packers[] = { "gzip -n", "zstd -q", "cat" };
	json_t *list = json_array(), *ids = json_array();
	char hex[DIGEST_HEX_SIZE], id[80];

	for (size_t i = 0; i < n; i++) {
		make_tar("layer.tar", layers[i].list);
		hex_of("layer.tar", hex);
		snprintf(id, sizeof(id), "sha256:%s", hex);
		json_array_append_new(ids, json_string(id));
		sh("%s < layer.tar > layer", packers[i % 3]);
		json_array_append_new(
			list, add_blob(layout, "layer", "application/vnd.oci.image.layer.v1.tar"));
	}
	json_t *config = add_json(layout,
				  json_pack("{s:s, s:{s:[s], s:s}, s:{s:s, s:o}}", "os", "linux",
					    "config", "Env", env, "WorkingDir", "/w", "rootfs",
					    "type", "layers", "diff_ids", ids),
				  "application/vnd.oci.image.config.v1+json");
	return add_json(
		layout,
		json_pack("{s:i, s:o, s:o}", "schemaVersion", 2, "config", config, "layers", list),
		"application/vnd.oci.image.manifest.v1+json");
}

static inline json_t *named(json_t *descriptor, const char *ref)
{
	json_object_set_new(descriptor, "annotations",
			    json_pack("{s:s}", "org.opencontainers.image.ref.name", ref));
	return descriptor;
}

static inline json_t *for_platform(json_t *descriptor, const char *os, const char *arch)
{
	json_object_set_new(descriptor, "platform",
			    json_pack("{s:s, s:s}", "os", os, "architecture", arch));
	return descriptor;
}

static inline void write_index(const char *layout, json_t *manifests)
{
	char path[64];
	json_t *j = json_pack("{s:i, s:o}", "schemaVersion", 2, "manifests", manifests);

	snprintf(path, sizeof(path), "%s/index.json", layout);
	assert_int_equal(json_dump_file(j, path, 0), 0);
	json_decref(j);
	snprintf(path, sizeof(path), "%s/oci-layout", layout);
	put_file(path, "{\"imageLayoutVersion\":\"1.0.0\"}", 30);
}

static inline int try_oci(struct scratch *s, const char *path, const char *tag)
{
	reset(s);
	int r = ingest_oci(s->store, path, tag, NULL, NULL, &s->result, &s->err);

	if (r == 0)
		verify_root(s, &s->result.root);
	else
		assert_true(s->err.code == r && s->err.msg[0]);
	return r;
}

static inline void import_oci(struct scratch *s, const char *path, const char *tag)
{
	if (try_oci(s, path, tag) < 0)
		fail_msg("%s: %s", path, error_text(&s->err));
}

#endif
