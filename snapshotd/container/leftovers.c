#include "snapshotd/container/leftovers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/buf.h"

#define END_TIMEOUT_MS 10000
#define CALLS_PAUSE_MS 5

/* --- calls --- */

/* Whether a process is a call of the runtime with our --root. */
static bool is_call_of(const struct buf *mark, const char *pid)
{
	char path[64], text[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text));
	close(fd);
	return n > 0 && memmem(text, (size_t)n, mark->data, mark->len);
}

static size_t kill_calls(const struct buf *mark)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	size_t n = 0;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9' || !is_call_of(mark, e->d_name))
			continue;
		kill(atoi(e->d_name), SIGKILL);
		n++;
	}
	if (d)
		closedir(d);
	return n;
}

int leftovers_end_calls(const char *oci_dir, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf mark = BUF_INIT;
	int rc = buf_append(&mark, "--root", sizeof("--root"));

	if (rc == 0)
		rc = buf_append(&mark, oci_dir, strlen(oci_dir) + 1);
	if (rc < 0)
		return error_set(err, rc, "out of memory");
	for (int ms = 0; kill_calls(&mark) > 0; ms += CALLS_PAUSE_MS) {
		if (ms >= END_TIMEOUT_MS)
			return error_set(err, -EBUSY, "a call of the OCI runtime does not end");
		usleep(CALLS_PAUSE_MS * 1000);
	}
	return 0;
}

/* --- containers --- */

static int is_container(const struct dirent *e)
{
	return strncmp(e->d_name, CONTAINER_PREFIX, strlen(CONTAINER_PREFIX)) == 0;
}

/* Once round them all. -EBUSY: some still run. */
static int destroy_all(struct dirent *const *names, int n, const struct cgroups *cs,
		       struct error *err)
{
	int rc = 0;

	for (int i = 0; i < n; i++) {
		int r = cgroup_destroy(cs, names[i]->d_name, 0, err);

		rc = r < 0 ? r : rc;
	}
	return rc;
}

int leftovers_kill(const char *bundles_dir, const struct cgroups *cs, struct error *err)
{
	struct dirent **names = NULL;
	int n = scandir(bundles_dir, &names, is_container, alphasort), rc;

	if (n < 0)
		return error_set_errno(err, -errno, "%s", bundles_dir);
	for (int ms = 0;; ms++) {
		struct error why = ERROR_INIT;

		rc = destroy_all(names, n, cs, &why);
		if (rc == 0)
			break;
		if (ms >= END_TIMEOUT_MS) {
			error_set(err, rc, "%s", error_text(&why));
			break;
		}
		usleep(1000);
	}
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return rc;
}
