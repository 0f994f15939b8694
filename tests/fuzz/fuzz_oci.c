/*
 * Images as `docker save` writes them, unpacked in a directory. The first byte says what
 * follows: from 0x80 on the bytes of manifest.json; below, the layers: each but the last
 * is a u16 length and bytes. What is imported verifies.
 */
#include "store/base/wire.h"
#include "store/import/ingest.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/check_tree.h"

#define LAYERS_MAX 4

static const struct ingest_options small = { .threads = 1,
					     .max_bytes = 8u << 20,
					     .max_entries = 2000 };

/* Into the directory beside the store's files. */
static void write_file(const char *dir, const char *name, const void *data, size_t len)
{
	char path[8400];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	MUST(fd >= 0);
	MUST(len == 0 || write(fd, data, len) == (ssize_t)len);
	close(fd);
}

static void write_layers(const char *dir, struct wire_reader *r, unsigned layers)
{
	CLEANUP(buf_fini_p) struct buf manifest = BUF_INIT;

	MUST(buf_printf(&manifest, "[{\"Config\": \"config\", \"RepoTags\": null, \"Layers\": [") ==
	     0);
	for (unsigned i = 0; i < layers; i++) {
		size_t len = i + 1 < layers ? wire_u16(r) : wire_left(r);
		char name[16];

		len = MIN(len, wire_left(r));
		snprintf(name, sizeof(name), "layer%u", i);
		write_file(dir, name, wire_bytes(r, len), len);
		MUST(buf_printf(&manifest, "%s\"%s\"", i ? ", " : "", name) == 0);
	}
	MUST(buf_printf(&manifest, "]}]") == 0);
	write_file(dir, "manifest.json", manifest.data, manifest.len);
}

static const char *image_dir(void)
{
	static const char config[] = "{\"config\": {\"Env\": [\"A=b\"]}}";
	static char dir[sizeof(fuzz_dir) + 8];

	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "%s.image", fuzz_dir);
		MUST(mkdir(dir, 0755) == 0);
		write_file(dir, "config", config, sizeof(config) - 1);
	}
	return dir;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store *s = fuzz_store();
	const char *dir = image_dir();
	struct ingest_result result = { 0 };
	struct error err = ERROR_INIT;
	struct wire_reader r;

	if (size == 0)
		return 0;
	wire_reader_init(&r, data + 1, size - 1);
	if (data[0] & 0x80)
		write_file(dir, "manifest.json", data + 1, size - 1);
	else
		write_layers(dir, &r, 1 + data[0] % LAYERS_MAX);
	if (ingest_oci(s, dir, NULL, &small, NULL, &result, &err) == 0)
		check_tree(s, &result.root);
	else
		MUST(err.msg[0] != '\0');
	json_decref(result.config);
	return 0;
}
