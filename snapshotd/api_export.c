/*
 * The bytes are sent as they are made: a failure before the first has a status,
 * a later one breaks the connection off. The tree is held: the snapshot may be
 * deleted meanwhile.
 */
#include "snapshotd/api.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/base/log.h"
#include "store/export.h"

struct export_reply {
	struct api_call *c;
	char disposition[256];
};

static int export_write(void *arg, const void *data, size_t len)
{
	struct export_reply *r = arg;
	struct http_request *rq = r->c->rq;

	if (!http_stream_begun(rq)) {
		int rc;

		http_reply_header(rq, "Content-Disposition", r->disposition);
		rc = http_stream_begin(rq, 200, "application/x-tar");
		if (rc < 0)
			return rc;
	}
	return http_stream_write(rq, data, len);
}

int api_export(struct api_call *c, struct error *err)
{
	struct export_reply r = { .c = c };
	struct store *store = c->api->store;
	const char *name = api_capture(c, 0), *format;
	struct snapshot s = { 0 };
	struct store_hold hold;
	bool oci;
	int rc = api_query(c, err, "format", NULL);

	if (rc < 0)
		return rc;
	format = query_get(&c->query, "format");
	oci = format && strcmp(format, "oci") == 0;
	if (format && !oci && strcmp(format, "tar") != 0)
		return error_set(err, -EINVAL, "format \"%s\" is not tar or oci", format);
	rc = api_hold_snapshot(c, name, &s, &hold, err);
	if (rc < 0)
		return rc;
	if (snapshots_touch(store->snapshots, s.id) < 0)
		log_debug("snapshot %s is not marked as used", s.id);
	/* Names are of letters that need no quoting (snapshot_name_check). */
	snprintf(r.disposition, sizeof(r.disposition), "attachment; filename=\"%s%s.tar\"",
		 s.name[0] ? s.name : s.id, oci ? ".oci" : "");
	if (oci)
		rc = export_oci_stream(store, &s.root, s.config, s.name[0] ? s.name : s.id,
				       export_write, &r, api_cancellation(c), err);
	else
		rc = export_tar(store, &s.root, export_write, &r, api_cancellation(c), err);
	metrics_work(&c->api->metrics, METRICS_EXPORT, rc < 0);
	store_release(store, &hold);
	snapshot_fini(&s);
	return rc;
}
