#include "snapshotd/api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/import/ingest.h"

/* What is to be imported; strings borrowed from the query or the body. */
struct import {
	const char *name;
	const char *dir, *tar, *oci, *tag; /* exactly one of the first three, or stream */
	bool stream;			   /* a tar in the body */
	int place_fd;			   /* what the client may name there; -1: any */
	char place[32];			   /* its path, whatever becomes of the client's */
	struct ingest_options opt;
};

static int parse_query(struct api_call *c, struct import *im, struct error *err)
{
	const char *format;
	int rc = api_query(c, err, "name", "format", "maxBytes", "maxEntries", NULL);

	if (rc == 0)
		rc = query_u64(&c->query, "maxBytes", &im->opt.max_bytes, err);
	if (rc == 0)
		rc = query_u64(&c->query, "maxEntries", &im->opt.max_entries, err);
	if (rc < 0)
		return rc;
	im->name = query_get(&c->query, "name");
	if (!im->name)
		return error_set(err, -EINVAL, "query parameter \"name\" is missing");
	format = query_get(&c->query, "format");
	if (strcmp(format, "tar") != 0)
		return error_set(err, -EINVAL, "format \"%s\" cannot be streamed, only tar",
				 format);
	im->stream = true;
	return 0;
}

static int parse_source(const json_t *source, struct import *im, struct error *err)
{
	const struct field fields[] = {
		{ "dir", FIELD_STRING, &im->dir, false },
		{ "tar", FIELD_STRING, &im->tar, false },
		{ "oci", FIELD_STRING, &im->oci, false },
		{ "tag", FIELD_STRING, &im->tag, false },
		{ "platform", FIELD_STRING, &im->opt.platform, false },
	};
	const char *path;
	int rc = fields_parse(source, fields, ARRAY_SIZE(fields), err);

	if (rc < 0)
		return error_prefix(err, rc, "source");
	if (!!im->dir + !!im->tar + !!im->oci != 1)
		return error_set(err, -EINVAL, "source: give one of dir, tar and oci");
	if (im->tag && !im->oci)
		return error_set(err, -EINVAL, "source: tag goes with oci only");
	if (im->opt.platform && !im->oci)
		return error_set(err, -EINVAL, "source: platform goes with oci only");
	path = im->dir ? im->dir : im->tar ? im->tar : im->oci;
	if (path[0] != '/')
		return error_set(err, -EINVAL, "source: \"%s\" is not an absolute path", path);
	return 0;
}

/* From where the client may name only some places: that, and nothing put there meanwhile. */
static int take_place(struct api_call *c, struct import *im, struct error *err)
{
	const char **path = im->dir ? &im->dir : im->tar ? &im->tar : &im->oci;
	int rc = api_host_place(c, "source", *path, &im->place_fd, err);

	if (rc < 0)
		return rc;
	if (im->place_fd >= 0) {
		snprintf(im->place, sizeof(im->place), "/proc/self/fd/%d", im->place_fd);
		*path = im->place;
	}
	return 0;
}

static int parse_body(struct api_call *c, struct import *im, json_t **body, struct error *err)
{
	json_t *source = NULL;
	const struct field fields[] = {
		{ "name", FIELD_STRING, &im->name, true },
		{ "source", FIELD_OBJECT, &source, true },
		{ "oneFileSystem", FIELD_BOOL, &im->opt.one_file_system, false },
		{ "maxBytes", FIELD_U64, &im->opt.max_bytes, false },
		{ "maxEntries", FIELD_U64, &im->opt.max_entries, false },
	};
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_body(c, fields, ARRAY_SIZE(fields), body, err);
	if (rc == 0)
		rc = parse_source(source, im, err);
	if (rc == 0)
		rc = take_place(c, im, err);
	if (rc == 0 && im->opt.one_file_system && !im->dir)
		rc = error_set(err, -EINVAL, "oneFileSystem goes with a directory only");
	return rc;
}

int api_import_check(struct api_call *c, struct error *err)
{
	struct import im = { .place_fd = -1 };
	const char *type = http_header(c->rq, "Content-Type");
	int rc;

	if (!query_get(&c->query, "format"))
		return 0; /* a JSON body says it all */
	rc = parse_query(c, &im, err);
	if (rc == 0 && type && strncasecmp(type, "application/json", 16) == 0)
		rc = error_set(err, -EINVAL, "the body is to be a tar, not JSON");
	return rc < 0 ? rc : api_name_free(c, im.name, err);
}

/* A source that is not there or makes no sense is the request's fault, not the path's. */
static int source_status(int rc)
{
	switch (rc) {
	case -EINVAL:
	case -EBADMSG:
		return 422;
	case -ENOENT:
	case -ENOTDIR:
	case -EISDIR:
	case -ELOOP:
	case -ENOTCONN:
		return 400;
	default:
		return 0;
	}
}

static int tar_open(const char *path, struct error *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return error_set_errno(err, -errno, "%s", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return error_set(err, -EINVAL, "%s: not a regular file", path);
	}
	return fd;
}

/*
 * A tar ends before its file may. Take the rest, so that the client can send
 * all of it, and see whether it did: a pipe also ends where a client has gone.
 */
static int stream_finish(struct api_call *c)
{
	char rest[16384];
	ssize_t n;

	do
		n = read(http_body_fd(c->rq), rest, sizeof(rest));
	while (n > 0 || (n < 0 && errno == EINTR));
	return http_body_complete(c->rq) ? 0 : -ECANCELED;
}

static int ingest(struct api_call *c, const struct import *im, struct progress *p,
		  struct ingest_result *out, struct error *err)
{
	struct store *s = c->api->store;
	int fd, rc;

	if (im->dir)
		return ingest_dir(s, im->dir, &im->opt, p, out, err);
	if (im->oci)
		return ingest_oci(s, im->oci, im->tag, &im->opt, p, out, err);
	if (im->stream) {
		rc = ingest_tar(s, http_body_fd(c->rq), &im->opt, p, out, err);
		if (rc == 0 && (rc = stream_finish(c)) < 0)
			json_decref(out->config);
		else if (rc < 0 && !http_body_complete(c->rq) && http_cancelled(c->rq))
			rc = -ECANCELED; /* cut short by the client: the tar is not to blame */
		return rc;
	}
	fd = tar_open(im->tar, err);
	if (fd < 0) {
		c->fail_status = fd == -EINVAL ? 400 : source_status(fd);
		return fd;
	}
	rc = ingest_tar(s, fd, &im->opt, p, out, err);
	close(fd);
	return rc;
}

static int put_record(struct api_call *c, const struct import *im, struct ingest_result *r,
		      struct snapshot *s, struct error *err)
{
	const char *id = api_once_id(c);

	*s = (struct snapshot){
		.status = SNAPSHOT_READY,
		.has_root = true,
		.root = r->root,
		.size_bytes = r->size_bytes,
		.new_bytes = r->new_bytes,
		.file_count = r->file_count,
		.config = STEAL(r->config),
	};
	if (id)
		snprintf(s->id, sizeof(s->id), "%s", id);
	strcpy(s->name, im->name); /* checked */
	strcpy(s->source, im->dir ? "dir" : im->oci ? "oci" : "tar");
	return snapshots_put(c->api->store->snapshots, s, NULL, err);
}

/* Ingest and write the record, within one session: gc keeps what has no record yet. */
static int import_run(struct api_call *c, const struct import *im, struct progress *p,
		      struct snapshot *out, struct remarks *remarks, struct error *err)
{
	struct guard *g = c->api->store->guard;
	struct ingest_result r = { 0 };
	struct guard_session session;
	int rc;

	if (im->stream)
		guard_session_begin_slow(g, &session); /* gc waits for no client */
	else
		guard_session_begin(g, &session);
	rc = ingest(c, im, p, &r, err);
	if (rc < 0 && !c->fail_status)
		c->fail_status = source_status(rc);
	if (rc == 0) {
		rc = put_record(c, im, &r, out, err);
		if (rc < 0)
			snapshots_note_garbage(c->api->store->snapshots, r.new_bytes);
	}
	guard_session_end(g, &session);
	*remarks = r.remarks;
	return rc;
}

/* The snapshot, with what did not come over as it was; NULL when out of memory. */
static json_t *import_to_json(const struct snapshot *s, const struct remarks *remarks)
{
	json_t *o = snapshot_to_json(s), *list = remarks_to_json(remarks);

	if (json_array_size(list) == 0 && list)
		json_decref(list);
	else if (!o || json_object_set_new(o, "remarks", list) < 0) {
		json_decref(o);
		o = NULL;
	}
	return o;
}

int api_import(struct api_call *c, struct error *err)
{
	struct import im = { .place_fd = -1 };
	struct snapshot s = { 0 };
	struct progress *p = NULL;
	struct remarks remarks = { 0 };
	json_t *body = NULL;
	int rc;

	rc = query_get(&c->query, "format") ? parse_query(c, &im, err)
					    : parse_body(c, &im, &body, err);
	if (rc == 0 && api_once_snapshot(c, &s)) {
		rc = api_result(c, 201, import_to_json(&s, &remarks), err);
		goto out;
	}
	if (rc == 0)
		rc = api_name_free(c, im.name, err);
	if (rc == 0 && !(p = api_progress(c, err)))
		rc = err->code;
	if (rc == 0) {
		rc = import_run(c, &im, p, &s, &remarks, err);
		metrics_work(&c->api->metrics, METRICS_IMPORT, rc < 0);
	}
	if (rc == 0) {
		atomic_fetch_add_explicit(&c->api->metrics.imported_bytes, s.size_bytes,
					  memory_order_relaxed);
		rc = api_result(c, 201, import_to_json(&s, &remarks), err);
	}
out:
	snapshot_fini(&s);
	json_decref(body);
	if (im.place_fd >= 0)
		close(im.place_fd);
	return rc;
}
