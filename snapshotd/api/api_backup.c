/* A backup of the whole state to a directory of this host. */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "snapshotd/state/backup.h"

static json_t *backup_to_json(const char *path, const struct backup_result *r)
{
	return json_pack("{s:o, s:I, s:I, s:b, s:I}", "path", api_text(path), "mounts",
			 (json_int_t)r->mounts, "copiedBytes", (json_int_t)r->copied_bytes,
			 "linked", r->linked, "heldMs", (json_int_t)(r->held_ns / 1000000));
}

static int run(struct api_call *c, const char *path, const char *place, struct error *err)
{
	struct progress *p = api_progress(c, err);
	struct backup_result r;
	int rc = p ? backup_run(c->api->store, c->api->mounts, place, p, &r, err) : err->code;

	if (p)
		metrics_work(&c->api->metrics, METRICS_BACKUP, rc < 0);
	return rc < 0 ? rc : api_result(c, 200, backup_to_json(path, &r), err);
}

int api_backup(struct api_call *c, struct error *err)
{
	const char *path = NULL;
	const struct field fields[] = { { "path", FIELD_STRING, &path, true } };
	json_t *body = NULL;
	char place[32];
	int fd = -1, rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);
	if (rc == 0 && path[0] != '/')
		rc = error_set(err, -EINVAL, "path: \"%s\" is not an absolute path", path);
	if (rc == 0)
		rc = api_host_place(c, "path", path, &fd, err);
	snprintf(place, sizeof(place), "/proc/self/fd/%d", fd);
	if (rc == 0)
		rc = run(c, path, fd < 0 ? path : place, err);
	if (fd >= 0)
		close(fd);
	json_decref(body);
	return rc;
}
