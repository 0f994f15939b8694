/*
 * Archives: any bytes are imported or refused. What was imported verifies, and its
 * export imports to the same root.
 */
#include "store/export/export.h"
#include "store/import/ingest.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/check_tree.h"

static const struct ingest_options small = { .threads = 1,
					     .max_bytes = 8u << 20,
					     .max_entries = 2000 };

static int import(struct store *s, int fd, struct digest *out)
{
	struct ingest_result r = { 0 };
	struct error err = ERROR_INIT;

	MUST(lseek(fd, 0, SEEK_SET) == 0);
	int rc = ingest_tar(s, fd, &small, NULL, &r, &err);
	if (rc == 0)
		*out = r.root;
	else
		MUST(err.msg[0] != '\0');
	json_decref(r.config);
	return rc;
}

static int write_fd(void *arg, const void *data, size_t len)
{
	MUST(write(*(int *)arg, data, len) == (ssize_t)len);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store *s = fuzz_store();
	struct digest root, again;
	struct error err = ERROR_INIT;
	int in = memfd_create("in", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC);

	MUST(in >= 0 && out >= 0);
	MUST(size == 0 || write(in, data, size) == (ssize_t)size);
	if (import(s, in, &root) == 0) {
		check_tree(s, &root);
		MUST(export_tar(s, &root, write_fd, &out, NULL, &err) == 0);
		MUST(import(s, out, &again) == 0);
		MUST(digest_equal(&root, &again));
	}
	close(in);
	close(out);
	return 0;
}
