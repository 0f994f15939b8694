/*
 * Import of an OCI image: its layers' tars into one namespace, lower ones first,
 * with whiteouts (ingest_tar.c), then one tree. A layer's file is read once: its
 * bytes are hashed for the blob's digest, decompressed, hashed again for the
 * diff id, and read as a tar.
 */
#include "store/import/ingest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/import/ingest_tar.h"
#include "store/import/ingest_unpack.h"
#include "store/import/oci_image.h"

#define DRAIN_SIZE (64u << 10)

struct layer_reader {
	const struct oci_layer *layer;
	struct oci_file file;
	struct hasher *file_hash, *tar_hash;
	struct ingest_unpack unpack;
};

static ssize_t read_blob(void *arg, void *buf, size_t len)
{
	struct layer_reader *l = arg;
	ssize_t n = oci_file_read(&l->file, buf, len);
	int r = n > 0 ? hasher_update(l->file_hash, buf, (size_t)n) : 0;

	return r < 0 ? r : n;
}

static ssize_t next_of_layer(void *arg, const uint8_t **block)
{
	struct layer_reader *l = arg;
	ssize_t n = ingest_unpack_next(&l->unpack, block);
	int r = n > 0 ? hasher_update(l->tar_hash, *block, (size_t)n) : 0;

	return r < 0 ? r : n;
}

/* Read what the tar reader left (padding), so that all of it is hashed. */
static int drain(struct layer_reader *l)
{
	uint8_t *buf = malloc(DRAIN_SIZE);
	const uint8_t *block;
	ssize_t n = buf ? 1 : -ENOMEM;

	while (n > 0)
		n = next_of_layer(l, &block);
	while (n == 0 && l->file.at < l->file.end) {
		n = read_blob(l, buf, DRAIN_SIZE);
		if (n > 0)
			n = 0;
	}
	free(buf);
	return (int)n;
}

static int check_digests(struct ingest *in, struct layer_reader *l, const char *label)
{
	struct digest blob, tar;
	int r = drain(l);

	if (r == 0)
		r = hasher_final(l->file_hash, &blob);
	if (r == 0)
		r = hasher_final(l->tar_hash, &tar);
	if (r < 0)
		return ingest_fail(in, r, "%scannot read: %s", label, strerror(-r));
	if (l->layer->has_digest && !digest_equal(&blob, &l->layer->digest))
		return ingest_fail(in, -EBADMSG, "%sthe blob does not have its digest", label);
	if (l->layer->has_diff_id && !digest_equal(&tar, &l->layer->diff_id))
		return ingest_fail(in, -EBADMSG, "%sthe tar does not have its diff_id", label);
	return 0;
}

static int read_tar(struct ingest *in, struct layer_reader *l, uint16_t index, const char *label)
{
	struct ingest_tar_source src = {
		.next = next_of_layer,
		.arg = l,
		.unpack = &l->unpack,
		.is_layer = true,
		.layer = index,
		.label = label,
	};

	return ingest_tar_stream(in, &src);
}

static int import_layer(struct ingest *in, struct oci_files *files, const struct oci_layer *layer,
			uint16_t index)
{
	struct layer_reader l = { .layer = layer };
	char label[64];
	int r = oci_files_find(files, layer->file, &l.file);

	snprintf(label, sizeof(label), "layer %u: ", index + 1u);
	if (r < 0)
		return ingest_fail(in, r, "%s%.200s: %s", label, layer->file, strerror(-r));
	l.file_hash = hasher_new();
	l.tar_hash = hasher_new();
	if (ingest_unpack_init(&l.unpack, read_blob, &l) < 0 || !l.file_hash || !l.tar_hash)
		r = ingest_fail(in, -ENOMEM, "out of memory");
	if (r == 0)
		r = read_tar(in, &l, index, label);
	if (r == 0)
		r = check_digests(in, &l, label);
	ingest_unpack_fini(&l.unpack);
	hasher_free(l.file_hash);
	hasher_free(l.tar_hash);
	oci_file_close(&l.file);
	return r;
}

static int import_image(struct store *s, struct oci_files *files, struct oci_image *img,
			const struct ingest_options *opt, struct progress *p,
			struct ingest_result *out, struct error *err)
{
	struct ingest in;
	int r = ingest_init(&in, s, opt, true, p, err);

	if (r == 0) {
		for (size_t i = 0; r == 0 && i < img->n_layers; i++)
			r = import_layer(&in, files, &img->layers[i], (uint16_t)i);
		r = ingest_finish(&in, r, out, err);
	}
	ingest_fini(&in);
	if (r == 0)
		out->config = STEAL(img->config);
	return r;
}

int ingest_oci(struct store *s, const char *path, const char *tag, const struct ingest_options *opt,
	       struct progress *p, struct ingest_result *out, struct error *err)
{
	struct oci_files *files CLEANUP(oci_files_close_p) = NULL;
	uint64_t max_bytes = opt && opt->max_bytes ? opt->max_bytes : INGEST_MAX_BYTES;
	struct oci_image img = { 0 };
	int r = oci_files_open(path, s, max_bytes, p, &files, err);

	if (r < 0)
		return r;
	r = oci_image_find(files, tag, opt ? opt->platform : NULL, &img, err);
	if (r == 0)
		r = import_image(s, files, &img, opt, p, out, err);
	oci_image_fini(&img);
	return r < 0 ? error_prefix(err, r, "%.200s", path) : 0;
}
