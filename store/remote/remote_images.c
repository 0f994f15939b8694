/*
 * Images: the registers image/KEY. An entry only leads to a snapshot: it counts while the record
 * of that, read again, is ready.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/layout/share_key.h"
#include "store/remote/register.h"
#include "store/remote/remote.h"

#define KEEP_GENERATIONS 16u
#define SET_TRIES 20
#define FIND_WIDTH 32u /* keys that are asked for at once */

#define IMAGE_PATH_SIZE (sizeof("image/") + DIGEST_HEX_SIZE)

static void image_path(const char *key, char out[IMAGE_PATH_SIZE])
{
	snprintf(out, IMAGE_PATH_SIZE, "image/%s", key);
}

/* An entry and what it leads to now. 1: *out is ready; 0: there is none. */
static int follow(struct remote *r, const struct buf *text, struct share_record *out,
		  struct share_id *out_nonce, struct error *err)
{
	struct share_register e;
	int rc = share_register_decode(text->data, text->len, &e, err);

	if (rc < 0)
		return rc;
	*out_nonce = e.nonce;
	rc = e.has_record ? remote_read_record(r, &e.record.id, out, err) : -ENOENT;
	share_register_fini(&e);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (out->state == SHARE_READY)
		return 1;
	share_record_fini(out);
	return 0;
}

static int read_image(struct remote *r, const char *path, uint64_t generation,
		      struct share_record *out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	struct share_id nonce;
	int rc;

	snprintf(key, sizeof(key), "%s/%016llx", path,
		 (unsigned long long)(UINT64_MAX - generation));
	rc = object_get(remote_objects(r), OBJECT_CONTROL, key, SHARE_REGISTER_MAX, &text, NULL,
			err);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	rc = follow(r, &text, out, &nonce, err);
	return rc < 0 ? error_prefix(err, rc, "%s", key) : rc;
}

/* Of at most FIND_WIDTH keys. 1 and *out_at, or 0. */
static int find_among(struct remote *r, const char (*keys)[DIGEST_HEX_SIZE], size_t n,
		      unsigned timeout_ms, size_t *out_at, struct share_record *out,
		      struct error *err)
{
	struct object_request rq[FIND_WIDTH] = { 0 };
	char prefixes[FIND_WIDTH][IMAGE_PATH_SIZE + 1];
	char path[IMAGE_PATH_SIZE];
	int rc = 0;

	for (size_t i = 0; i < n; i++) {
		snprintf(prefixes[i], sizeof(prefixes[i]), "image/%s/", keys[i]);
		rq[i].op = OBJECT_LIST;
		rq[i].priority = OBJECT_DEMAND;
		rq[i].key = prefixes[i];
		rq[i].max_keys = 1;
		rq[i].timeout_ms = timeout_ms;
	}
	object_run(remote_objects(r), rq, n);
	for (size_t i = n; rc == 0 && i > 0; i--) {
		const struct object_request *q = &rq[i - 1];
		uint64_t generation;

		if (q->result < 0) {
			rc = error_set(err, q->result, "%s", error_text(&q->err));
			break;
		}
		image_path(keys[i - 1], path);
		generation = q->n_entries ? register_key_generation(path, q->entries[0].key) : 0;
		if (generation)
			rc = read_image(r, path, generation, out, err);
		if (rc == 1)
			*out_at = i - 1;
	}
	for (size_t i = 0; i < n; i++)
		object_request_fini(&rq[i]);
	return rc;
}

int remote_find_image(struct remote *r, const char (*keys)[DIGEST_HEX_SIZE], size_t n,
		      unsigned timeout_ms, size_t *out_at, struct share_record *out,
		      struct error *err)
{
	int rc = 0;

	while (rc == 0 && n > 0) {
		size_t from = n > FIND_WIDTH ? n - FIND_WIDTH : 0;

		rc = find_among(r, keys + from, n - from, timeout_ms, out_at, out, err);
		if (rc == 1)
			*out_at += from;
		n = from;
	}
	if (rc == 1)
		return 0;
	return rc < 0 ? error_prefix(err, rc, "remote %s", remote_name(r))
		      : error_set(err, -ENOENT, "remote %s has no such image", remote_name(r));
}

/* One attempt. -EEXIST: another host was first. */
static int try_set(struct remote *r, const char *path, const struct share_record *rec, bool replace,
		   struct share_record *out, struct error *err)
{
	struct register_value seen = { 0 };
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	struct share_register next = { .has_record = true, .record = *rec /* borrowed */ };
	int rc = register_newest(remote_objects(r), path, SHARE_REGISTER_MAX, &seen, err);

	if (rc == 0 && seen.generation)
		rc = follow(r, &seen.body, out, &next.prev, err);
	if (rc == 1 && (replace || share_id_equal(&out->id, &rec->id))) {
		bool is_it = share_id_equal(&out->id, &rec->id);

		share_record_fini(out);
		rc = is_it ? 0 : remote_deletable(r, err);
		if (is_it || rc < 0) {
			register_value_fini(&seen);
			return rc;
		}
	}
	next.generation = seen.generation + 1;
	if (rc == 0)
		rc = share_id_random(&next.nonce);
	if (rc == 0)
		rc = share_register_encode(&next, &text, err);
	if (rc == 0)
		rc = register_append(remote_objects(r), path, &seen, text.data, text.len, err);
	if (rc == 0)
		(void)!register_trim(remote_objects(r), path, next.generation, KEEP_GENERATIONS,
				     NULL);
	register_value_fini(&seen);
	return rc;
}

int remote_set_image(struct remote *r, const char *key, const struct share_record *rec,
		     bool replace, struct share_record *out, struct error *err)
{
	char path[IMAGE_PATH_SIZE];
	int rc = remote_writable(r, err);

	image_path(key, path);
	if (rc < 0)
		return rc;
	for (int i = 0; i < SET_TRIES; i++) {
		rc = try_set(r, path, rec, replace, out, err);
		if (rc != -EEXIST && rc != -ESTALE && rc != -ENOENT)
			return rc < 0 ? error_prefix(err, rc, "%s", path) : rc;
	}
	return error_set(err, -EAGAIN, "remote %s: other hosts keep changing %s", remote_name(r),
			 path);
}
