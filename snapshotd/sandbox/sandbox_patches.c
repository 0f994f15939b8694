#include "snapshotd/sandbox/sandbox_patches.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/sandbox/sandbox_exec.h"
#include "snapshotd/sandbox/sandboxes_internal.h"
#include "store/base/listed.h"
#include "store/base/log.h"

#define OUTPUT_SHOWN 300 /* bytes of a failed patch's output */

static int note_one(void *arg, const char *rest, const void *text, size_t len)
{
	struct patch_record p = { 0 };
	int rc = patch_record_decode(text, len, &p);

	if (rc < 0) {
		log_error("patch %s cannot be read", rest);
		return rc;
	}
	rc = listed_add(arg, (int64_t)p.sequence, p.id);
	patch_record_fini(&p);
	return rc;
}

/* The sequences and ids of a snapshot's patches, in their order: *out, borrowed from list. */
static int list_patches(struct sandboxes *ss, const char *snapshot_id, struct buf *list,
			const struct listed **out, size_t *out_n, struct error *err)
{
	char start[SNAPSHOT_ID_SIZE + 1];
	int rc;

	snprintf(start, sizeof(start), "%.36s/", snapshot_id);
	rc = meta_each(ss->store->kv, META_PATCH, start, note_one, list);
	if (rc < 0)
		return error_set_errno(err, rc, "cannot read the patches of %s", snapshot_id);
	*out = listed_sort(list, out_n);
	return 0;
}

/* Key of a patch: "SNAPSHOT/PATCH". */
#define PATCH_KEY_SIZE (2 * SNAPSHOT_ID_SIZE + 1)
static void patch_key(const char *snapshot_id, const char *patch_id, char out[PATCH_KEY_SIZE])
{
	snprintf(out, PATCH_KEY_SIZE, "%.36s/%.36s", snapshot_id, patch_id);
}

/* -ENOENT. patch_record_fini it. */
static int get(struct sandboxes *ss, const char *snapshot_id, const char *patch_id,
	       struct patch_record *out)
{
	char key[PATCH_KEY_SIZE];
	struct kv_value v = { 0 };
	int rc;

	patch_key(snapshot_id, patch_id, key);
	rc = meta_get(ss->store->kv, META_PATCH, key, &v);
	if (rc < 0)
		return rc;
	rc = patch_record_decode(v.data, v.len, out);
	kv_value_release(&v);
	return rc;
}

/* Call fn for each in their order, one in memory at a time; other than 0 ends it, as below 0. */
static int each(struct sandboxes *ss, const char *snapshot_id,
		int (*fn)(void *arg, const struct patch_record *p, struct error *err), void *arg,
		struct error *err)
{
	CLEANUP(buf_fini_p) struct buf list = BUF_INIT;
	const struct listed *l;
	size_t n = 0;
	int rc = list_patches(ss, snapshot_id, &list, &l, &n, err);

	for (size_t i = 0; i < n && rc == 0; i++) {
		struct patch_record p = { 0 };

		rc = get(ss, snapshot_id, l[i].id, &p);
		if (rc == 0)
			rc = fn(arg, &p, err);
		else if (rc == -ENOENT) /* deleted meanwhile */
			rc = 0;
		else
			error_set_errno(err, rc, "cannot read patch %s", l[i].id);
		patch_record_fini(&p);
	}
	return rc;
}

static json_t *patch_to_json(const struct patch_record *p)
{
	char created[TIME_TEXT_SIZE];

	time_to_text(p->created_at_ms, created);
	return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s}", "id", p->id, "checkpointId",
			 p->snapshot_id, "sequence", (json_int_t)p->sequence, "script", p->script,
			 "description", p->description, "strategy", "on_create", "createdAt",
			 created);
}

/* The id of the snapshot is what was asked for, and there is one. */
static int check_snapshot(struct sandboxes *ss, const char *id, struct error *err)
{
	struct snapshot s;
	int rc = snapshots_get(ss->store->snapshots, id, &s, NULL);

	if (rc == 0) {
		if (strcmp(s.id, id) != 0) /* a name */
			rc = -ENOENT;
		snapshot_fini(&s);
	}
	if (rc == -ENOENT)
		return error_set(err, rc, "there is no checkpoint \"%.60s\"", id);
	return rc < 0 ? error_set_errno(err, rc, "checkpoint %.60s", id) : 0;
}

static int put(struct sandboxes *ss, const struct patch_record *p)
{
	char key[PATCH_KEY_SIZE];
	char *json;
	int rc = patch_record_encode(p, &json);

	if (rc < 0)
		return rc;
	patch_key(p->snapshot_id, p->id, key);
	return record_put(ss->store->kv, META_PATCH, key, json, KV_LOG);
}

/* patch_lock held: two that are added at once get different numbers. */
static int add_locked(struct sandboxes *ss, struct patch_record *p, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf list = BUF_INIT;
	const struct listed *l;
	size_t n;
	int rc = list_patches(ss, p->snapshot_id, &list, &l, &n, err);

	if (rc < 0)
		return rc;
	if (ss->patch_limit && n >= ss->patch_limit)
		return error_set(err, -EBUSY,
				 "checkpoint %s has %zu patches, and patchLimit allows %u: delete "
				 "some first",
				 p->snapshot_id, n, ss->patch_limit);
	p->sequence = n ? (uint64_t)l[n - 1].order + 1 : 1;
	rc = put(ss, p);
	return rc < 0 ? error_set_errno(err, rc, "cannot write the patch's record") : 0;
}

int patches_add(struct sandboxes *ss, const char *snapshot_id, const char *script,
		const char *description, json_t **out, struct error *err)
{
	struct patch_record p = { .created_at_ms = clock_ms() };
	int rc = check_snapshot(ss, snapshot_id, err);

	if (rc < 0)
		return rc;
	if (strlen(script) > PATCH_SCRIPT_MAX)
		return error_set(err, -EFBIG, "a patch's script has at most %u bytes",
				 PATCH_SCRIPT_MAX);
	id_random(p.id);
	snprintf(p.snapshot_id, sizeof(p.snapshot_id), "%s", snapshot_id);
	p.script = strdup(script);
	p.description = strdup(description);
	if (p.script && p.description) {
		pthread_mutex_lock(&ss->patch_lock);
		rc = add_locked(ss, &p, err);
		pthread_mutex_unlock(&ss->patch_lock);
		if (rc == 0 && (rc = kv_sync_log(ss->store->kv)) < 0)
			error_set_errno(err, rc, "cannot sync the patch's record");
	} else {
		rc = error_set(err, -ENOMEM, "out of memory");
	}
	if (rc == 0 && !(*out = patch_to_json(&p)))
		rc = error_set(err, -ENOMEM, "out of memory");
	patch_record_fini(&p);
	return rc;
}

struct shown {
	json_record_fn fn;
	void *arg;
};

static int show(void *arg, const struct patch_record *p, struct error *err)
{
	const struct shown *s = arg;
	json_t *j = patch_to_json(p);
	int rc = j ? s->fn(s->arg, p->id, j) : error_set(err, -ENOMEM, "out of memory");

	json_decref(j);
	return rc;
}

int patches_each(struct sandboxes *ss, const char *snapshot_id, json_record_fn fn, void *arg,
		 struct error *err)
{
	struct shown s = { fn, arg };
	int rc = check_snapshot(ss, snapshot_id, err);

	return rc < 0 ? rc : each(ss, snapshot_id, show, &s, err);
}

int patches_delete(struct sandboxes *ss, const char *snapshot_id, const char *patch_id,
		   struct error *err)
{
	struct patch_record p = { 0 };
	char key[PATCH_KEY_SIZE];
	bool same = false;
	int rc = check_snapshot(ss, snapshot_id, err);

	if (rc < 0)
		return rc;
	rc = get(ss, snapshot_id, patch_id, &p);
	same = rc == 0 && strcmp(p.id, patch_id) == 0; /* a key holds no more than an id's bytes */
	patch_record_fini(&p);
	if (rc == -ENOENT || (rc == 0 && !same))
		return error_set(err, -ENOENT, "checkpoint %s has no patch \"%.60s\"", snapshot_id,
				 patch_id);
	if (rc < 0)
		return error_set_errno(err, rc, "cannot read the patch's record");
	patch_key(snapshot_id, patch_id, key);
	rc = meta_del(ss->store->kv, META_PATCH, key, KV_SYNC);
	return rc < 0 ? error_set_errno(err, rc, "cannot delete the patch's record") : 0;
}

void patches_drop(struct sandboxes *ss, const char *snapshot_id)
{
	CLEANUP(buf_fini_p) struct buf list = BUF_INIT;
	struct error err = ERROR_INIT;
	const struct listed *l;
	size_t n;

	if (list_patches(ss, snapshot_id, &list, &l, &n, &err) < 0) {
		log_error("%s", error_text(&err));
		return;
	}
	for (size_t i = 0; i < n; i++) {
		char key[PATCH_KEY_SIZE];

		patch_key(snapshot_id, l[i].id, key);
		if (meta_del(ss->store->kv, META_PATCH, key, KV_LOG) < 0)
			log_error("patch %s: its record is left", l[i].id);
	}
}

struct sweep {
	struct sandboxes *ss;
	char kept[SNAPSHOT_ID_SIZE]; /* the last snapshot that is there; patches come by snapshot */
};

static int sweep_one(void *arg, const char *rest, const void *text, size_t len)
{
	struct sweep *sw = arg;
	size_t id_len = strcspn(rest, "/");
	char id[SNAPSHOT_ID_SIZE];
	struct snapshot s;
	int rc;

	(void)text;
	(void)len;
	if (id_len >= sizeof(id))
		return 0;
	memcpy(id, rest, id_len);
	id[id_len] = '\0';
	if (strcmp(id, sw->kept) == 0)
		return 0;
	rc = snapshots_get(sw->ss->store->snapshots, id, &s, NULL);
	if (rc == 0) {
		snapshot_fini(&s);
		memcpy(sw->kept, id, sizeof(id));
		return 0;
	}
	return rc == -ENOENT ? meta_del(sw->ss->store->kv, META_PATCH, rest, KV_LOG) : rc;
}

int patches_sweep(struct sandboxes *ss, struct error *err)
{
	struct sweep sw = { .ss = ss };
	int rc = meta_each(ss->store->kv, META_PATCH, "", sweep_one, &sw);

	return rc < 0 ? error_set_errno(err, rc, "cannot look through the patches") : 0;
}

/* ---- running ---- */

/* "patch 2 (apt): exit code 3: the end of its output". */
static int report(const struct patch_record *p, const struct exec_output *o, struct error *err)
{
	const struct buf *b = o->err.len ? &o->err : &o->out;
	size_t len = MIN(b->len, (size_t)OUTPUT_SHOWN), at = b->len - len;
	char text[OUTPUT_SHOWN + 1];

	for (size_t i = 0; i < len; i++)
		text[i] = (char)(b->data[at + i] < ' ' ? ' ' : b->data[at + i]);
	while (len > 0 && text[len - 1] == ' ')
		len--;
	text[len] = '\0';
	return error_set(err, -ECHILD, "patch %llu (%.60s%s%.36s): exit code %d%s%s",
			 (unsigned long long)p->sequence, p->description,
			 *p->description ? ", " : "", p->id, o->exit_code, len ? ": " : "", text);
}

struct running {
	struct sandbox *sb;
	bool (*cancelled)(void *arg);
	void *arg;
};

static int run_one(void *arg, const struct patch_record *p, struct error *err)
{
	const struct running *r = arg;
	/* By bash where the image has it: scripts of a page are written for it. */
	static const char shell[] = "bash=$(command -v bash) && exec \"$bash\" -c \"$0\"\n"
				    "exec /bin/sh -c \"$0\"";
	char *argv[] = { "/bin/sh", "-c", (char *)shell, p->script, NULL };
	struct exec_spec spec = { .argv = argv,
				  .timeout_ms = PATCH_TIMEOUT_S * 1000,
				  .linger_ms = EXEC_LINGER_MS };
	struct exec_output out;
	int rc = sandbox_exec(r->sb, &spec, r->cancelled, r->arg, &out, err);

	if (rc < 0)
		return error_prefix(err, rc, "patch %llu", (unsigned long long)p->sequence);
	if (out.exit_code != 0)
		rc = report(p, &out, err);
	exec_output_fini(&out);
	return rc;
}

int patches_run(struct sandbox *sb, const char *snapshot_id, bool (*cancelled)(void *arg),
		void *arg, struct error *err)
{
	struct running r = { sb, cancelled, arg };

	return each(sb->owner, snapshot_id, run_one, &r, err);
}
