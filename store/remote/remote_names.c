/*
 * Records, and the registers of names that lead to them (register.h).
 *
 * A name's hint is a copy of its newest entry, read at the same time as the LIST that says which
 * entry is the newest. It counts only if it is that one. It may be late or missing at any time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/bucket/object_window.h"
#include "store/remote/register.h"
#include "store/remote/remote.h"
#include "store/remote/remote_state_internal.h"
#include "store/layout/share_key.h"

#define KEEP_GENERATIONS 16u
#define NAME_TRIES 20

/* "name/NAME" of a snapshot's name. */
static int name_path(const char *name, char out[SHARE_KEY_SIZE], struct error *err)
{
	char encoded[SHARE_NAME_SIZE];

	if (share_name_encode(name, encoded) < 0)
		return error_set(err, -EINVAL, "\"%.140s\" is not a snapshot's name", name);
	snprintf(out, SHARE_KEY_SIZE, "name/%s", encoded);
	return 0;
}

int remote_read_record(struct remote *r, const struct share_id *id, struct share_record *out,
		       struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	int rc;

	share_key_of_id(SHARE_KEY_SNAP, id, key);
	rc = object_get(r->os, OBJECT_CONTROL, key, SHARE_RECORD_MAX, &text, NULL, err);
	if (rc < 0)
		return rc;
	rc = share_record_decode(text.data, text.len, out, err);
	return rc < 0 ? error_prefix(err, rc, "%s", key) : 0;
}

/* A name's newest entry; generation 0 if it never stood for anything. */
struct name_state {
	struct share_register entry;
	int64_t date;
};

/* The hint's entry, if it is of that generation. */
static bool use_hint(const struct object_request *hint, uint64_t generation,
		     struct share_register *out)
{
	if (hint->result < 0 ||
	    share_register_decode(hint->data.data, hint->data.len, out, NULL) < 0)
		return false;
	if (out->generation == generation)
		return true;
	share_register_fini(out);
	return false;
}

static int read_entry(struct remote *r, const char *path, uint64_t generation,
		      struct share_register *out, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	char key[SHARE_KEY_SIZE + 24];
	int rc;

	snprintf(key, sizeof(key), "%s/%016llx", path,
		 (unsigned long long)(UINT64_MAX - generation));
	rc = object_get(r->os, OBJECT_CONTROL, key, SHARE_REGISTER_MAX, &text, NULL, err);
	if (rc == 0)
		rc = share_register_decode(text.data, text.len, out, err);
	return rc < 0 ? error_prefix(err, rc, "%s", key) : 0;
}

static int read_name(struct remote *r, const char *path, struct name_state *out, struct error *err)
{
	char prefix[SHARE_KEY_SIZE + 1], hint[SHARE_KEY_SIZE + 8];
	struct object_request rq[2] = {
		{ .op = OBJECT_LIST, .priority = OBJECT_CONTROL, .key = prefix, .max_keys = 1 },
		{ .op = OBJECT_GET,
		  .priority = OBJECT_CONTROL,
		  .key = hint,
		  .max_len = SHARE_REGISTER_MAX },
	};
	uint64_t generation;
	int rc;

	*out = (struct name_state){ 0 };
	snprintf(prefix, sizeof(prefix), "%s/", path);
	snprintf(hint, sizeof(hint), "%s/hint", path);
	object_run(r->os, rq, 2);
	rc = rq[0].result;
	if (rc < 0)
		error_set(err, rc, "%s", error_text(&rq[0].err));
	generation = rq[0].n_entries ? register_key_generation(path, rq[0].entries[0].key) : 0;
	if (rc == 0 && generation && !use_hint(&rq[1], generation, &out->entry))
		rc = read_entry(r, path, generation, &out->entry, err);
	out->date = rq[0].date;
	object_request_fini(&rq[0]);
	object_request_fini(&rq[1]);
	return rc;
}

static int resolve_name(struct remote *r, const char *name, struct share_record *out,
			struct error *err)
{
	char path[SHARE_KEY_SIZE];
	struct name_state st;
	int rc = name_path(name, path, err);

	if (rc == 0)
		rc = read_name(r, path, &st, err);
	if (rc < 0)
		return rc;
	if (!st.entry.has_record) {
		share_register_fini(&st.entry);
		return error_set(err, -ENOENT, "remote %s has no snapshot \"%.140s\"", r->name,
				 name);
	}
	*out = st.entry.record; /* taken over */
	return 0;
}

int remote_resolve(struct remote *r, const char *reference, struct share_record *out,
		   struct error *err)
{
	struct share_id id;
	int rc;

	if (share_id_parse(reference, &id) < 0)
		return resolve_name(r, reference, out, err);
	rc = remote_read_record(r, &id, out, err);
	if (rc == -ENOENT)
		return error_set(err, rc, "remote %s has no snapshot %s", r->name, reference);
	if (rc == 0 && out->state != SHARE_READY) {
		share_record_fini(out);
		return error_set(err, -ENOENT, "snapshot %s was deleted from remote %s", reference,
				 r->name);
	}
	return rc;
}

/* One attempt, upon what was seen. -EEXIST: another host was first. */
static int append_name(struct remote *r, const char *path, const struct name_state *seen,
		       const struct share_record *rec, struct error *err)
{
	const struct register_value on = { .generation = seen->entry.generation,
					   .date = seen->date };
	struct share_register next = { .generation = on.generation + 1, .prev = seen->entry.nonce };
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	char hint[SHARE_KEY_SIZE + 8];
	int rc = share_id_random(&next.nonce);

	next.has_record = rec != NULL;
	if (rec)
		next.record = *rec; /* borrowed */
	if (rc == 0)
		rc = share_register_encode(&next, &text, err);
	if (rc == 0)
		rc = register_append(r->os, path, &on, text.data, text.len, err);
	if (rc < 0)
		return rc;
	/* Both only save work for others. */
	snprintf(hint, sizeof(hint), "%s/hint", path);
	(void)!object_put(r->os, OBJECT_CONTROL, hint, text.data, text.len, NULL);
	(void)!register_trim(r->os, path, next.generation, KEEP_GENERATIONS, NULL);
	return 0;
}

/* What a name is to stand for. */
struct wanted {
	const struct share_record *rec; /* NULL: nothing */
	bool only_new;
	const struct share_id *instead; /* what it may stand for with only_new; or NULL */
	const struct share_id *only_of; /* if it stands for anything else, it stays; or NULL */
};

/* By what the name stands for: 1 nothing is to be done, 0 go on, -EEXIST or -EPERM. */
static int judge(const struct remote *r, const char *name, const struct share_register *now,
		 const struct wanted *w, struct error *err)
{
	const struct share_id *id = &now->record.id;

	if (!now->has_record)
		return !w->rec;
	if ((w->rec && share_id_equal(id, &w->rec->id)) ||
	    (w->only_of && !share_id_equal(id, w->only_of)))
		return 1;
	if (w->only_new && !(w->instead && share_id_equal(id, w->instead)))
		return error_set(err, -EEXIST,
				 "remote %s has another snapshot with the name \"%s\"", r->name,
				 name);
	return remote_deletable(r, err);
}

static int change_name(struct remote *r, const char *name, const struct wanted *w,
		       struct error *err)
{
	char path[SHARE_KEY_SIZE];
	int rc = remote_writable(r, err);

	if (rc == 0)
		rc = name_path(name, path, err);
	if (rc < 0)
		return rc;
	for (int tries = 0; tries < NAME_TRIES; tries++) {
		struct name_state st;

		rc = read_name(r, path, &st, err);
		if (rc < 0)
			return rc;
		rc = judge(r, name, &st.entry, w, err);
		if (rc == 0) {
			rc = append_name(r, path, &st, w->rec, err);
			share_register_fini(&st.entry);
			/* Refused: this host slept after it had read. */
			if (rc != -EEXIST && rc != -ESTALE)
				return rc;
			continue;
		}
		share_register_fini(&st.entry);
		return rc < 0 ? rc : 0;
	}
	return error_set(err, -EAGAIN, "remote %s: other hosts keep changing the name \"%s\"",
			 r->name, name);
}

int remote_set_name(struct remote *r, const char *name, const struct share_record *rec,
		    bool only_new, struct error *err)
{
	const struct wanted w = { .rec = rec, .only_new = only_new && rec };

	return change_name(r, name, &w, err);
}

int remote_replace_name(struct remote *r, const char *name, const struct share_record *rec,
			const struct share_id *instead, struct error *err)
{
	const struct wanted w = { .rec = rec, .only_new = true, .instead = instead };

	return change_name(r, name, &w, err);
}

int remote_drop_name(struct remote *r, const char *name, const struct share_id *of,
		     struct error *err)
{
	const struct wanted w = { .only_of = of };

	return change_name(r, name, &w, err);
}

/* ---- all names ---- */

#define NAMES_WIDTH 32

/* What is known of a name while they are listed. */
struct listed_name {
	char path[SHARE_KEY_SIZE]; /* without the '/' at its end */
	char prefix[SHARE_KEY_SIZE];
	uint64_t generation;
	struct name_list *all;
};

struct name_list {
	struct remote *r;
	struct buf names; /* of struct listed_name */
	remote_name_fn fn;
	remote_unreadable_fn unreadable; /* NULL: such an entry ends it */
	void *arg;
	int ended; /* what one of them ended it with */
};

static int note_name(void *arg, const struct object_entry *e)
{
	struct name_list *l = arg;
	struct listed_name n = { .all = l };
	size_t len = strlen(e->key);

	if (!e->is_prefix || len >= sizeof(n.path))
		return 0;
	snprintf(n.prefix, sizeof(n.prefix), "%s", e->key);
	snprintf(n.path, sizeof(n.path), "%.*s", (int)len - 1, e->key);
	return buf_append(&l->names, &n, sizeof(n));
}

static int take_generation(void *arg, struct object_request *r, struct error *err)
{
	struct listed_name *n = arg;

	if (r->result < 0)
		return error_set(err, r->result, "%s", error_text(&r->err));
	n->generation = r->n_entries ? register_key_generation(n->path, r->entries[0].key) : 0;
	return 0;
}

static int tell_unreadable(struct name_list *l, const struct object_request *r, int rc,
			   const char *text, struct error *err)
{
	struct error why = ERROR_INIT;

	if (!l->unreadable)
		return error_set(err, rc, "%s", text);
	error_set(&why, rc, "%s", text);
	return l->ended = l->unreadable(l->arg, r->key, &why);
}

static int take_entry(void *arg, struct object_request *r, struct error *err)
{
	struct error own = ERROR_INIT;
	struct listed_name *n = arg;
	char name[SNAPSHOT_NAME_MAX + 1];
	struct share_register entry;
	int rc;

	if (n->all->ended)
		return n->all->ended; /* it was under way */
	if (r->result == -ENOENT)
		return 0; /* trimmed: it has changed meanwhile */
	if (r->result < 0)
		return tell_unreadable(n->all, r, r->result, error_text(&r->err), err);
	if (share_name_decode(n->path + strlen("name/"), name) < 0)
		return 0; /* nobody's name */
	rc = share_register_decode(r->data.data, r->data.len, &entry, &own);
	if (rc < 0) {
		error_prefix(&own, rc, "%s", r->key);
		return tell_unreadable(n->all, r, rc, error_text(&own), err);
	}
	if (entry.has_record)
		rc = n->all->ended = n->all->fn(n->all->arg, name, &entry.record);
	share_register_fini(&entry);
	return rc;
}

static int list_generations(struct name_list *l, struct object_window *w, struct error *err)
{
	struct listed_name *n = (struct listed_name *)l->names.data;
	size_t count = l->names.len / sizeof(*n);
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		const struct object_request rq = { .op = OBJECT_LIST,
						   .priority = OBJECT_CONTROL,
						   .key = n[i].prefix,
						   .max_keys = 1 };

		rc = object_window_add(w, &rq, take_generation, &n[i], err);
	}
	return rc < 0 ? rc : object_window_drain(w, err);
}

static int list_entries(struct name_list *l, struct object_window *w, struct error *err)
{
	struct listed_name *n = (struct listed_name *)l->names.data;
	size_t count = l->names.len / sizeof(*n);
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		const struct object_request rq = { .op = OBJECT_GET,
						   .priority = OBJECT_CONTROL,
						   .key = n[i].prefix, /* the whole key now */
						   .max_len = SHARE_REGISTER_MAX };

		if (!n[i].generation)
			continue;
		snprintf(n[i].prefix, sizeof(n[i].prefix), "%.*s/%016llx",
			 (int)(sizeof(n[i].prefix) - 18), n[i].path,
			 (unsigned long long)(UINT64_MAX - n[i].generation));
		rc = object_window_add(w, &rq, take_entry, &n[i], err);
	}
	return rc != 0 ? rc : object_window_drain(w, err);
}

/* The common prefixes below name/. */
static int list_names(struct name_list *l, struct error *err)
{
	char after[SHARE_KEY_SIZE] = "";
	bool more = true;
	int rc = 0;

	while (rc == 0 && more) {
		struct object_request rq = { .op = OBJECT_LIST,
					     .priority = OBJECT_CONTROL,
					     .key = "name/",
					     .delimited = true,
					     .after = *after ? after : NULL };

		object_run(l->r->os, &rq, 1);
		rc = rq.result;
		if (rc < 0)
			error_set(err, rc, "%s", error_text(&rq.err));
		for (size_t i = 0; i < rq.n_entries && rc == 0; i++)
			rc = note_name(l, &rq.entries[i]);
		more = rq.more && rq.n_entries;
		if (more)
			snprintf(after, sizeof(after), "%s", rq.entries[rq.n_entries - 1].key);
		object_request_fini(&rq);
	}
	return rc;
}

int remote_check_names(struct remote *r, remote_name_fn fn, remote_unreadable_fn unreadable,
		       void *arg, struct error *err)
{
	struct object_window *w = object_window_new(r->os, NAMES_WIDTH);
	struct name_list l = { .r = r, .fn = fn, .unreadable = unreadable, .arg = arg };
	int rc = w ? list_names(&l, err) : -ENOMEM;

	if (rc == 0)
		rc = list_generations(&l, w, err);
	if (rc == 0)
		rc = list_entries(&l, w, err);
	object_window_free(w); /* what is under way still looks at the names */
	buf_fini(&l.names);
	return rc;
}

int remote_each_name(struct remote *r, remote_name_fn fn, void *arg, struct error *err)
{
	return remote_check_names(r, fn, NULL, arg, err);
}
