/*
 * ingest.h - from files to a tree: directories, tar archives, OCI images.
 *
 * The same content gives the same root, however it is imported: inodes are
 * numbered breadth first from the root directory, children in the order of
 * their name hash; atime and ctime are set to mtime; holes are those of the
 * source plus zero runs (chunker.h). (A tar that does not say where holes are
 * gives another root for sparse files with holes below CHUNK_ZERO_RUN.)
 *
 * Each call runs in its own guard session and returns with chunks and nodes
 * flushed; the caller writes the record while it still holds an outer session:
 *   guard_session_begin; ingest_*; snapshots_put; guard_session_end.
 */
#ifndef VARVE_INGEST_H
#define VARVE_INGEST_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/progress.h"
#include "store/archive/remarks.h"
#include "store/store.h"

struct ingest_options {
	unsigned threads;     /* 0: one per core */
	bool one_file_system; /* directories: do not cross into mounts */
	const char *platform; /* OCI: "os/architecture[/variant]"; NULL: what this host runs */
	uint64_t max_bytes;   /* 0: 1 TiB. Unpacked data beyond it: -EFBIG */
	uint64_t max_entries; /* 0: 50 million. -EFBIG */
};

struct ingest_result {
	struct digest root;
	uint64_t file_count; /* inodes */
	uint64_t size_bytes; /* logical */
	uint64_t new_bytes;  /* frames newly stored */
	json_t *config; /* OCI only: {"Env": [], "WorkingDir", "User", "Entrypoint", "Cmd", ...}
			   and "architecture", "os", "variant", "os.version", "os.features"
			   as the image has them; owned */
	struct remarks remarks; /* what did not come over as it was */
};

/* dir: any readable directory; a symlink to one is followed. */
MUST_CHECK int ingest_dir(struct store *s, const char *dir, const struct ingest_options *opt,
			  struct progress *p, struct ingest_result *out, struct error *err);
/*
 * fd: a tar in any form and compression that libarchive reads, file or pipe,
 * borrowed. Hostile input (absolute or ".." names, links that lead out, a device
 * where a directory was, sizes that lie) is refused with -EINVAL or -EBADMSG and
 * the entry's name; "./" and a leading "/" are stripped as tar does. A symlink on
 * the way to a name is followed inside the archive's root. A later entry replaces
 * an earlier one of the same path, but only a directory may replace a directory.
 * ACL entries for names unknown to this host are left out and counted; xattrs
 * that no mount shows (xattr.h) are kept and counted.
 */
MUST_CHECK int ingest_tar(struct store *s, int fd, const struct ingest_options *opt,
			  struct progress *p, struct ingest_result *out, struct error *err);
/*
 * path: an OCI image layout (directory or tar) or docker-archive; tag: which
 * image ("" or NULL: the only one, else "latest", else -EINVAL with a list). Of an
 * index, the image that runs best on opt->platform.
 * Blobs' digests are checked. Whiteouts and opaque directories are applied.
 */
MUST_CHECK int ingest_oci(struct store *s, const char *path, const char *tag,
			  const struct ingest_options *opt, struct progress *p,
			  struct ingest_result *out, struct error *err);

#endif
