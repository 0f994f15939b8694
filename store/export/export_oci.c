/*
 * Export as an OCI image layout (image-spec 1.1) of one layer. The layer is the
 * tar of export_tar.c, cut into pieces of PIECE_SIZE that workers compress, each
 * as a gzip member of its own: members one after another are one gzip file (RFC
 * 1952), and unlike one long stream they use all cores. The result goes to a
 * spool first, because its digest and size come before it.
 */
#include "store/export/export.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/write_all.h"

#include "store/export/export_gzip.h"
#include "store/import/oci_image.h"
#include "store/archive/oci_platform.h"
#include "store/archive/tar_header.h"

#define COPY_SIZE (256u << 10)
#define MEDIA "application/vnd.oci.image."

struct blob {
	char name[sizeof("blobs/sha256/") + DIGEST_HEX_SIZE];
	char digest[sizeof("sha256:") + DIGEST_HEX_SIZE];
	uint64_t size;
	struct buf data; /* unused for the layer */
};

struct layout {
	int layer_fd; /* the compressed layer, from 0 */
	struct blob layer, config, manifest;
	struct buf index;
};

static const char layout_file[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

static void layout_fini(struct layout *l)
{
	if (l->layer_fd >= 0)
		close(l->layer_fd);
	buf_fini(&l->config.data);
	buf_fini(&l->manifest.data);
	buf_fini(&l->index);
}

static void blob_name(struct blob *b, const struct digest *d, uint64_t size)
{
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(d, hex);
	snprintf(b->name, sizeof(b->name), "blobs/sha256/%s", hex);
	snprintf(b->digest, sizeof(b->digest), "sha256:%s", hex);
	b->size = size;
}

/* Takes over j (may be NULL: out of memory). Canonical enough: keys sorted, no spaces. */
static int dump(json_t *j, struct buf *out)
{
	char *text = j ? json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	int r = text ? buf_append_str(out, text) : -ENOMEM;

	free(text);
	json_decref(j);
	return r;
}

static int json_blob(struct blob *b, json_t *j)
{
	struct digest d;
	int r = dump(j, &b->data);

	if (r == 0)
		r = hash_bytes(b->data.data, b->data.len, &d);
	if (r == 0)
		blob_name(b, &d, b->data.len);
	return r;
}

static json_t *descriptor(const char *media, const struct blob *b)
{
	return json_pack("{s:s, s:s, s:I}", "mediaType", media, "digest", b->digest, "size",
			 (json_int_t)b->size);
}

/*
 * The image's config: `config` (may be NULL) as its "config", except that its
 * members about the platform are moved beside it; this host's platform if it has
 * none. NULL when out of memory.
 */
static json_t *image_config(const json_t *config, const char *diff_id)
{
	json_t *run = config ? json_deep_copy(config) : json_object();
	json_t *o = json_pack("{s:s, s:s, s:s, s:{s:s, s:[s]}}", "created", "1970-01-01T00:00:00Z",
			      "architecture", oci_architecture(), "os", "linux", "rootfs", "type",
			      "layers", "diff_ids", diff_id);
	int failed = run && o ? 0 : -1;

	for (size_t i = 0; failed == 0 && oci_platform_members[i]; i++) {
		const char *key = oci_platform_members[i];
		json_t *value = json_object_get(run, key);

		if (value)
			failed = json_object_set(o, key, value);
		(void)json_object_del(run, key);
	}
	if (failed == 0 && json_object_set(o, "config", run) == 0) {
		json_decref(run);
		return o;
	}
	json_decref(run);
	json_decref(o);
	return NULL;
}

static int make_json(struct layout *l, const struct digest *diff_id, const struct export_image *img)
{
	char hex[DIGEST_HEX_SIZE], id[sizeof("sha256:") + DIGEST_HEX_SIZE];

	digest_to_hex(diff_id, hex);
	snprintf(id, sizeof(id), "sha256:%s", hex);
	int r = json_blob(&l->config, image_config(img->config, id));
	if (r == 0)
		r = json_blob(&l->manifest,
			      json_pack("{s:i, s:s, s:o, s:[o]}", "schemaVersion", 2, "mediaType",
					MEDIA "manifest.v1+json", "config",
					descriptor(MEDIA "config.v1+json", &l->config), "layers",
					descriptor(MEDIA "layer.v1.tar+gzip", &l->layer)));
	json_t *entry = descriptor(MEDIA "manifest.v1+json", &l->manifest);
	if (r == 0 && img->ref && *img->ref)
		r = json_object_set_new(
			    entry, "annotations",
			    json_pack("{s:s}", "org.opencontainers.image.ref.name", img->ref)) < 0
			    ? -ENOMEM
			    : 0;
	if (r < 0) {
		json_decref(entry);
		return r;
	}
	return dump(json_pack("{s:i, s:s, s:[o]}", "schemaVersion", 2, "mediaType",
			      MEDIA "index.v1+json", "manifests", entry),
		    &l->index);
}

static int make_layout(struct store *s, const struct export_image *img, int fd, struct layout *l,
		       struct progress *p, struct error *err)
{
	struct digest diff_id, blob;
	uint64_t size;
	int r;

	l->layer_fd = fd;
	r = export_gzip(s, img->root, fd, &diff_id, &blob, &size, p, err);

	if (r < 0)
		return r;
	blob_name(&l->layer, &blob, size);
	r = make_json(l, &diff_id, img);
	return r < 0 ? error_set_errno(err, r, "cannot describe the image") : 0;
}

static int write_file(int dir, const char *name, const void *data, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	int r = write_all(fd, data, len);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

/* Make path, or use a directory without blobs and index.json. */
static int open_target(const char *path, struct error *err)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return error_set_errno(err, -errno, "cannot make %.300s", path);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, -errno, "cannot open %.300s", path);
	int r = faccessat(fd, "index.json", F_OK, 0) == 0 ? -ENOTEMPTY : 0;
	if (r == 0 && mkdirat(fd, "blobs", 0755) < 0)
		r = errno == EEXIST ? -ENOTEMPTY : -errno;
	if (r == 0 && mkdirat(fd, "blobs/sha256", 0755) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		return error_set_errno(err, r, "cannot use %.300s", path);
	}
	return fd;
}

static int write_layout(int dir, const struct layout *l)
{
	int r = renameat(dir, "blobs/.layer", dir, l->layer.name) < 0 ? -errno : 0;

	if (r == 0)
		r = write_file(dir, l->config.name, l->config.data.data, l->config.data.len);
	if (r == 0)
		r = write_file(dir, l->manifest.name, l->manifest.data.data, l->manifest.data.len);
	if (r == 0)
		r = write_file(dir, "oci-layout", layout_file, sizeof(layout_file) - 1);
	/* Last, so that an interrupted export is not a layout. */
	return r < 0 ? r : write_file(dir, "index.json", l->index.data, l->index.len);
}

int export_oci(struct store *s, const struct export_image *img, const char *path,
	       struct progress *p, struct error *err)
{
	struct layout l = { .layer_fd = -1 };
	struct remarks remarks;
	int r = export_check(s, img->root, EXPORT_OCI, &remarks, err);
	int dir = r < 0 ? r : open_target(path, err);

	if (dir < 0)
		return dir;
	int fd = openat(dir, "blobs/.layer", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	r = fd < 0 ? error_set_errno(err, -errno, "cannot write in %.300s", path)
		   : make_layout(s, img, fd, &l, p, err);
	if (r == 0) {
		r = write_layout(dir, &l);
		if (r == 0 && syncfs(dir) < 0)
			r = -errno;
		if (r < 0)
			error_set_errno(err, r, "cannot write in %.300s", path);
	}
	layout_fini(&l);
	close(dir);
	return r;
}

struct sink {
	export_write_fn fn;
	void *arg;
};

static int put_member(const struct sink *to, enum tar_type type, const char *name, uint64_t size,
		      const void *data)
{
	struct tar_member m = { .type = type,
				.path = name,
				.path_len = strlen(name),
				.mode = type == TAR_DIRECTORY ? 0755 : 0644,
				.size = size };
	struct buf b CLEANUP(buf_fini_p) = BUF_INIT;
	int r = tar_put_header(&b, &m);

	if (r == 0 && data)
		r = buf_append(&b, data, size);
	if (r == 0 && data)
		r = tar_put_padding(&b, size);
	return r < 0 ? r : to->fn(to->arg, b.data, b.len);
}

static int put_layer(const struct sink *to, const struct layout *l)
{
	struct buf pad CLEANUP(buf_fini_p) = BUF_INIT;
	uint8_t *buf = malloc(COPY_SIZE);
	uint64_t at = 0;
	int r = buf ? put_member(to, TAR_FILE, l->layer.name, l->layer.size, NULL) : -ENOMEM;

	while (r == 0 && at < l->layer.size) {
		ssize_t n = pread(l->layer_fd, buf, COPY_SIZE, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		r = n <= 0 ? (n < 0 ? -errno : -EIO) : to->fn(to->arg, buf, (size_t)n);
		at += n > 0 ? (uint64_t)n : 0;
	}
	free(buf);
	if (r == 0)
		r = tar_put_padding(&pad, l->layer.size);
	return r < 0 || !pad.len ? r : to->fn(to->arg, pad.data, pad.len);
}

static int put_layout(const struct sink *to, const struct layout *l)
{
	struct buf end CLEANUP(buf_fini_p) = BUF_INIT;
	int r = put_member(to, TAR_FILE, "oci-layout", sizeof(layout_file) - 1, layout_file);

	if (r == 0)
		r = put_member(to, TAR_FILE, "index.json", l->index.len, l->index.data);
	if (r == 0)
		r = put_member(to, TAR_DIRECTORY, "blobs/", 0, NULL);
	if (r == 0)
		r = put_member(to, TAR_DIRECTORY, "blobs/sha256/", 0, NULL);
	if (r == 0)
		r = put_member(to, TAR_FILE, l->manifest.name, l->manifest.size,
			       l->manifest.data.data);
	if (r == 0)
		r = put_member(to, TAR_FILE, l->config.name, l->config.size, l->config.data.data);
	if (r == 0)
		r = put_layer(to, l);
	if (r == 0)
		r = tar_put_end(&end);
	return r < 0 ? r : to->fn(to->arg, end.data, end.len);
}

int export_oci_stream(struct store *s, const struct export_image *img, export_write_fn fn,
		      void *arg, struct progress *p, struct error *err)
{
	struct layout l = { .layer_fd = -1 };
	struct sink to = { fn, arg };
	struct remarks remarks;
	int r = export_check(s, img->root, EXPORT_OCI, &remarks, err);

	if (r < 0)
		return r;
	int fd = oci_spool_open(s->dir_fd);
	if (fd < 0)
		return error_set_errno(err, fd, "cannot make a spool file");
	r = make_layout(s, img, fd, &l, p, err);
	if (r == 0) {
		r = put_layout(&to, &l);
		if (r < 0)
			error_set_errno(err, r, "cannot write the image");
	}
	layout_fini(&l);
	return r;
}
