#include "store/remote/share_ids.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/kv/meta.h"

#define NAME_SIZE (SNAPSHOT_ID_SIZE + sizeof("/from/") + SNAPSHOT_ID_SIZE)

static void to_name(const char *uuid, const char *local, char out[NAME_SIZE])
{
	snprintf(out, NAME_SIZE, "%s/to/%s", uuid, local);
}

static void from_name(const char *uuid, const struct share_id *remote, char out[NAME_SIZE])
{
	char text[SHARE_ID_SIZE];

	share_id_text(remote, text);
	snprintf(out, NAME_SIZE, "%s/from/%s", uuid, text);
}

int share_ids_put(struct kv *kv, struct kv_batch *b, const char *uuid, const char *local,
		  const struct share_id *remote)
{
	char name[NAME_SIZE], text[SHARE_ID_SIZE];
	int rc;

	share_id_text(remote, text);
	to_name(uuid, local, name);
	rc = meta_batch_put(kv, b, META_SHARED, name, text, strlen(text));
	from_name(uuid, remote, name);
	return rc < 0 ? rc : meta_batch_put(kv, b, META_SHARED, name, local, strlen(local));
}

/* A value as text. 0, -ENOENT, -EIO; -EBADMSG: it is too long. */
static int get_text(struct kv *kv, const char *name, char *out, size_t size)
{
	struct kv_value v = { 0 };
	int rc = meta_get(kv, META_SHARED, name, &v);

	if (rc < 0)
		return rc;
	if (v.len >= size)
		rc = -EBADMSG;
	else
		snprintf(out, size, "%.*s", (int)v.len, (const char *)v.data);
	kv_value_release(&v);
	return rc;
}

int share_ids_to(struct kv *kv, const char *uuid, const char *local, struct share_id *out)
{
	char name[NAME_SIZE], text[SHARE_ID_SIZE];
	int rc;

	to_name(uuid, local, name);
	rc = get_text(kv, name, text, sizeof(text));
	if (rc == 0 && share_id_parse(text, out) < 0)
		rc = -EBADMSG;
	return rc;
}

int share_ids_from(struct kv *kv, const char *uuid, const struct share_id *remote,
		   char out_local[SNAPSHOT_ID_SIZE])
{
	char name[NAME_SIZE];

	from_name(uuid, remote, name);
	return get_text(kv, name, out_local, SNAPSHOT_ID_SIZE);
}

int share_ids_drop(struct kv *kv, const char *uuid, const char *local,
		   const struct share_id *remote)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	char name[NAME_SIZE];
	int rc;

	if (!b)
		return -ENOMEM;
	to_name(uuid, local, name);
	rc = meta_batch_del(kv, b, META_SHARED, name);
	from_name(uuid, remote, name);
	if (rc == 0)
		rc = meta_batch_del(kv, b, META_SHARED, name);
	return rc < 0 ? rc : kv_write(kv, b, KV_LOG);
}

struct each {
	size_t skip; /* bytes before the local id */
	share_ids_fn fn;
	void *arg;
};

static int each_one(void *arg, const char *name, const void *value, size_t len)
{
	const struct each *e = arg;
	char text[SHARE_ID_SIZE];
	struct share_id id;

	if (len >= sizeof(text))
		return 0;
	snprintf(text, sizeof(text), "%.*s", (int)len, (const char *)value);
	return share_id_parse(text, &id) < 0 ? 0 : e->fn(e->arg, name + e->skip, &id);
}

int share_ids_each(struct kv *kv, const char *uuid, share_ids_fn fn, void *arg)
{
	char start[NAME_SIZE];
	struct each e = { .fn = fn, .arg = arg };

	to_name(uuid, "", start);
	e.skip = strlen(start);
	return meta_each(kv, META_SHARED, start, each_one, &e);
}

/* ---- what was published ---- */

#define NOTE_NAME_SIZE (SNAPSHOT_ID_SIZE + sizeof("/image/") + DIGEST_HEX_SIZE)

static void note_name(const char *uuid, enum share_note kind, const char *subject,
		      char out[NOTE_NAME_SIZE])
{
	snprintf(out, NOTE_NAME_SIZE, "%s/%s/%s", uuid, kind == SHARE_NOTE_NAME ? "name" : "image",
		 subject);
}

int share_note_get(struct kv *kv, const char *uuid, enum share_note kind, const char *subject,
		   char out[SHARE_NOTE_SIZE])
{
	char name[NOTE_NAME_SIZE];

	note_name(uuid, kind, subject, name);
	return get_text(kv, name, out, SHARE_NOTE_SIZE);
}

int share_note_put(struct kv *kv, const char *uuid, enum share_note kind, const char *subject,
		   const char *value)
{
	char name[NOTE_NAME_SIZE];

	note_name(uuid, kind, subject, name);
	return meta_put(kv, META_SHARED, name, value, strlen(value), KV_LOG);
}

int share_note_drop(struct kv *kv, const char *uuid, enum share_note kind, const char *subject)
{
	char name[NOTE_NAME_SIZE];

	note_name(uuid, kind, subject, name);
	return meta_del(kv, META_SHARED, name, KV_LOG);
}

struct each_note {
	size_t skip; /* bytes before the subject */
	share_note_fn fn;
	void *arg;
};

static int each_note(void *arg, const char *name, const void *value, size_t len)
{
	const struct each_note *e = arg;
	char text[SHARE_NOTE_SIZE];

	if (len >= sizeof(text))
		return 0;
	snprintf(text, sizeof(text), "%.*s", (int)len, (const char *)value);
	return e->fn(e->arg, name + e->skip, text);
}

int share_note_each(struct kv *kv, const char *uuid, enum share_note kind, share_note_fn fn,
		    void *arg)
{
	char start[NOTE_NAME_SIZE];
	struct each_note e = { .fn = fn, .arg = arg };

	note_name(uuid, kind, "", start);
	e.skip = strlen(start);
	return meta_each(kv, META_SHARED, start, each_note, &e);
}
