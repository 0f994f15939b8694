/*
 * An open remote is in the list while it has a configuration, and lives while somebody uses it. One
 * that was removed, or replaced, leaves the list at once and is closed by its last user.
 */
#include "store/share/remotes.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "store/base/buf.h"
#include "store/kv/meta.h"

struct open_remote {
	LIST_ENTRY(open_remote) link;
	char name[REMOTE_NAME_MAX + 1];
	struct remote *r;
	unsigned users;
	bool listed; /* has a configuration */
};

struct remotes {
	struct kv *kv;
	pthread_mutex_t lock;
	LIST_HEAD(, open_remote) list; /* guarded by lock; those in use too, listed or not */
};

struct remotes *remotes_new(struct kv *kv)
{
	struct remotes *rs = calloc(1, sizeof(*rs));

	if (!rs)
		return NULL;
	rs->kv = kv;
	pthread_mutex_init(&rs->lock, NULL);
	LIST_INIT(&rs->list);
	return rs;
}

/* Take it out of the list if nobody needs it: the caller closes it, without the lock. */
static struct open_remote *drop_unused(struct open_remote *o)
{
	if (o->users || o->listed)
		return NULL;
	LIST_REMOVE(o, link);
	return o;
}

static void close_remote(struct open_remote *o)
{
	if (!o)
		return;
	remote_close(o->r);
	free(o);
}

void remotes_free(struct remotes *rs)
{
	struct open_remote *o;

	if (!rs)
		return;
	while ((o = LIST_FIRST(&rs->list))) {
		LIST_REMOVE(o, link);
		close_remote(o);
	}
	pthread_mutex_destroy(&rs->lock);
	free(rs);
}

static struct open_remote *find(struct remotes *rs, const char *name)
{
	struct open_remote *o;

	LIST_FOREACH(o, &rs->list, link)
	if (o->listed && strcmp(o->name, name) == 0)
		return o;
	return NULL;
}

/* What was open under a name is not what it stands for any more. */
static void unlist(struct remotes *rs, const char *name)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	o = find(rs, name);
	if (o) {
		o->listed = false;
		unused = drop_unused(o);
	}
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
}

/* ---- configurations ---- */

static int parse(const void *text, size_t len, struct remote_config *out, struct error *err)
{
	json_error_t why;
	json_t *j = json_loadb(text, len, 0, &why);
	int rc = 0;

	if (!j || json_integer_value(json_object_get(j, "version")) != 1)
		rc = error_set(err, -EBADMSG, "a remote's record is damaged or newer than this");
	if (rc == 0) {
		json_object_del(j, "version");
		rc = remote_config_parse(j, out, err);
	}
	json_decref(j);
	return rc;
}

static int write_config(struct remotes *rs, const struct remote_config *c)
{
	json_t *j = remote_config_json(c);
	char *text = NULL;
	int rc = -ENOMEM;

	if (j && json_object_set_new(j, "version", json_integer(1)) == 0)
		text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
	if (text)
		rc = meta_put(rs->kv, META_REMOTE, c->name, text, strlen(text), KV_SYNC);
	free(text);
	json_decref(j);
	return rc;
}

int remotes_add(struct remotes *rs, const struct remote_config *c, bool replace, struct error *err)
{
	struct remote *r;
	int rc = meta_has(rs->kv, META_REMOTE, c->name);

	if (rc == 1 && !replace)
		return error_set(err, -EEXIST, "there is a remote \"%s\" already", c->name);
	if (rc >= 0)
		rc = remote_open(c, &r, err);
	if (rc < 0)
		return rc;
	remote_close(r); /* it works; whoever needs it opens it */
	rc = write_config(rs, c);
	unlist(rs, c->name);
	return rc < 0 ? error_set_errno(err, rc, "write the remote's record") : 0;
}

int remotes_remove(struct remotes *rs, const char *name, struct error *err)
{
	struct remote_config c;
	int rc = remotes_config(rs, name, &c, err);

	if (rc < 0)
		return rc;
	remote_config_fini(&c);
	rc = meta_del(rs->kv, META_REMOTE, name, KV_SYNC);
	unlist(rs, name);
	return rc < 0 ? error_set_errno(err, rc, "delete the remote's record") : 0;
}

static int add_name(void *arg, const char *name, const void *value, size_t len)
{
	struct buf *all = arg;

	(void)value, (void)len;
	return all->len > 200 ? 0 : buf_printf(all, "%s%s", all->len ? ", " : "", name);
}

/* With the remotes that there are. */
static int no_remote(struct remotes *rs, const char *name, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) all = BUF_INIT;
	const char *text;

	if (meta_each(rs->kv, META_REMOTE, "", add_name, &all) < 0 || !(text = buf_cstr(&all)))
		return error_set(err, -ENOENT, "no remote \"%.80s\"", name);
	return error_set(err, -ENOENT, "no remote \"%.80s\"; there %s %s", name,
			 *text ? "is:" : "are", *text ? text : "none");
}

int remotes_config(struct remotes *rs, const char *name, struct remote_config *out,
		   struct error *err)
{
	struct kv_value v = { 0 };
	int rc = strlen(name) > REMOTE_NAME_MAX ? -ENOENT : meta_get(rs->kv, META_REMOTE, name, &v);

	if (rc == -ENOENT)
		return no_remote(rs, name, err);
	if (rc == 0)
		rc = parse(v.data, v.len, out, err);
	kv_value_release(&v);
	return rc;
}

struct each {
	remotes_fn fn;
	void *arg;
	struct error *err;
};

static int each_one(void *arg, const char *name, const void *value, size_t len)
{
	const struct each *e = arg;
	struct remote_config c;
	int rc = parse(value, len, &c, e->err);

	if (rc < 0)
		return error_prefix(e->err, rc, "remote %s", name);
	rc = e->fn(e->arg, &c);
	remote_config_fini(&c);
	return rc;
}

int remotes_each(struct remotes *rs, remotes_fn fn, void *arg, struct error *err)
{
	struct each e = { fn, arg, err };

	return meta_each(rs->kv, META_REMOTE, "", each_one, &e);
}

/* ---- open ones ---- */

static struct remote *use_open(struct remotes *rs, const char *name)
{
	struct open_remote *o;

	pthread_mutex_lock(&rs->lock);
	o = find(rs, name);
	if (o)
		o->users++;
	pthread_mutex_unlock(&rs->lock);
	return o ? o->r : NULL;
}

/* Unless somebody else has opened it meanwhile: then that one. */
static struct remote *use_new(struct remotes *rs, struct open_remote *new)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	o = find(rs, new->name);
	if (o) {
		unused = new;
	} else {
		LIST_INSERT_HEAD(&rs->list, new, link);
		o = new;
	}
	o->users++;
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
	return o->r;
}

int remotes_get(struct remotes *rs, const char *name, struct remote **out, struct error *err)
{
	struct open_remote *new;
	struct remote_config c;
	int rc;

	rc = remotes_config(rs, name, &c, err);
	if (rc < 0)
		return rc;
	*out = use_open(rs, name);
	if (*out) {
		remote_config_fini(&c);
		return 0;
	}
	new = calloc(1, sizeof(*new));
	rc = new ? remote_open(&c, &new->r, err) : -ENOMEM;
	remote_config_fini(&c);
	if (rc < 0) {
		free(new);
		return rc;
	}
	snprintf(new->name, sizeof(new->name), "%s", name);
	new->listed = true;
	*out = use_new(rs, new);
	return 0;
}

void remotes_release(struct remotes *rs, struct remote *r)
{
	struct open_remote *o, *unused = NULL;

	pthread_mutex_lock(&rs->lock);
	LIST_FOREACH(o, &rs->list, link)
	if (o->r == r)
		break;
	o->users--;
	unused = drop_unused(o);
	pthread_mutex_unlock(&rs->lock);
	close_remote(unused);
}

bool remotes_split(const char *text, char remote[REMOTE_NAME_MAX + 1], const char **out_reference)
{
	const char *colon = strchr(text, ':');

	if (!colon || colon == text || colon - text > (ptrdiff_t)REMOTE_NAME_MAX || !colon[1])
		return false;
	memcpy(remote, text, (size_t)(colon - text));
	remote[colon - text] = '\0';
	*out_reference = colon + 1;
	return true;
}
