#include "snapshotd/sandbox/sandbox_patches.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/sandbox/sandboxes_internal.h"
#include "store/base/log.h"

#define OUTPUT_SHOWN 300 /* bytes of a failed patch's output */

struct patch_list {
	struct patch_record *list;
	size_t n;
};

static void patch_list_fini(struct patch_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		patch_record_fini(&l->list[i]);
	free(l->list);
}

static int load_one(void *arg, const char *rest, const void *text, size_t len)
{
	struct patch_list *l = arg;
	struct patch_record *list = reallocarray(l->list, l->n + 1, sizeof(*list));
	int rc;

	if (!list)
		return -ENOMEM;
	l->list = list;
	rc = patch_record_decode(text, len, &list[l->n]);
	if (rc == 0)
		l->n++;
	else
		log_error("patch %s cannot be read", rest);
	return rc;
}

static int by_sequence(const void *a, const void *b)
{
	const struct patch_record *x = a, *y = b;

	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static int load(struct sandboxes *ss, const char *snapshot_id, struct patch_list *out,
		struct error *err)
{
	char start[SNAPSHOT_ID_SIZE + 1];
	int rc;

	*out = (struct patch_list){ 0 };
	snprintf(start, sizeof(start), "%.36s/", snapshot_id);
	rc = meta_each(ss->store->kv, META_PATCH, start, load_one, out);
	if (rc < 0) {
		patch_list_fini(out);
		return error_set_errno(err, rc, "cannot read the patches of %s", snapshot_id);
	}
	if (out->n > 1)
		qsort(out->list, out->n, sizeof(*out->list), by_sequence);
	return 0;
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

/* Key of a patch: "SNAPSHOT/PATCH". */
#define PATCH_KEY_SIZE (2 * SNAPSHOT_ID_SIZE + 1)
static void patch_key(const char *snapshot_id, const char *patch_id, char out[PATCH_KEY_SIZE])
{
	snprintf(out, PATCH_KEY_SIZE, "%.36s/%.36s", snapshot_id, patch_id);
}

static int put(struct sandboxes *ss, const struct patch_record *p)
{
	char key[PATCH_KEY_SIZE];
	char *json;
	int rc = patch_record_encode(p, &json);

	if (rc < 0)
		return rc;
	patch_key(p->snapshot_id, p->id, key);
	return record_put(ss->store->kv, META_PATCH, key, json);
}

/* patch_lock held: two that are added at once get different numbers. */
static int add_locked(struct sandboxes *ss, struct patch_record *p, struct error *err)
{
	struct patch_list l;
	int rc = load(ss, p->snapshot_id, &l, err);

	if (rc < 0)
		return rc;
	p->sequence = l.n ? l.list[l.n - 1].sequence + 1 : 1;
	patch_list_fini(&l);
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
	} else {
		rc = error_set(err, -ENOMEM, "out of memory");
	}
	if (rc == 0 && !(*out = patch_to_json(&p)))
		rc = error_set(err, -ENOMEM, "out of memory");
	patch_record_fini(&p);
	return rc;
}

int patches_list(struct sandboxes *ss, const char *snapshot_id, json_t **out, struct error *err)
{
	struct patch_list l;
	json_t *a;
	int rc = check_snapshot(ss, snapshot_id, err);

	if (rc == 0)
		rc = load(ss, snapshot_id, &l, err);
	if (rc < 0)
		return rc;
	a = json_array();
	for (size_t i = 0; i < l.n; i++)
		if (json_array_append_new(a, patch_to_json(&l.list[i])) < 0)
			rc = error_set(err, -ENOMEM, "out of memory");
	patch_list_fini(&l);
	if (!a || rc < 0) {
		json_decref(a);
		return error_set(err, -ENOMEM, "out of memory");
	}
	*out = a;
	return 0;
}

int patches_delete(struct sandboxes *ss, const char *snapshot_id, const char *patch_id,
		   struct error *err)
{
	struct patch_list l;
	bool found = false;
	char key[PATCH_KEY_SIZE];
	int rc = check_snapshot(ss, snapshot_id, err);

	if (rc == 0)
		rc = load(ss, snapshot_id, &l, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < l.n; i++)
		found |= strcmp(l.list[i].id, patch_id) == 0;
	patch_list_fini(&l);
	if (!found)
		return error_set(err, -ENOENT, "checkpoint %s has no patch \"%.60s\"", snapshot_id,
				 patch_id);
	patch_key(snapshot_id, patch_id, key);
	rc = meta_del(ss->store->kv, META_PATCH, key, KV_LOG);
	return rc < 0 ? error_set_errno(err, rc, "cannot delete the patch's record") : 0;
}

void patches_drop(struct sandboxes *ss, const char *snapshot_id)
{
	struct error err = ERROR_INIT;
	struct patch_list l;
	int rc = load(ss, snapshot_id, &l, &err);

	if (rc < 0) {
		log_error("%s", error_text(&err));
		return;
	}
	for (size_t i = 0; i < l.n; i++) {
		char key[PATCH_KEY_SIZE];

		patch_key(snapshot_id, l.list[i].id, key);
		if (meta_del(ss->store->kv, META_PATCH, key, KV_LOG) < 0)
			log_error("patch %s: its record is left", l.list[i].id);
	}
	patch_list_fini(&l);
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

static int run_one(struct sandbox *sb, const struct patch_record *p, bool (*cancelled)(void *arg),
		   void *arg, struct error *err)
{
	/* By bash where the image has it: scripts of a page are written for it. */
	static const char shell[] = "bash=$(command -v bash) && exec \"$bash\" -c \"$0\"\n"
				    "exec /bin/sh -c \"$0\"";
	char *argv[] = { "/bin/sh", "-c", (char *)shell, p->script, NULL };
	struct exec_spec spec = { .argv = argv,
				  .timeout_ms = PATCH_TIMEOUT_S * 1000,
				  .linger_ms = EXEC_LINGER_MS };
	struct exec_output out;
	int rc = sandbox_exec(sb, &spec, cancelled, arg, &out, err);

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
	struct patch_list l;
	int rc = load(sb->owner, snapshot_id, &l, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < l.n && rc == 0; i++)
		rc = run_one(sb, &l.list[i], cancelled, arg, err);
	patch_list_fini(&l);
	return rc;
}
