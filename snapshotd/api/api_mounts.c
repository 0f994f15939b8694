#include "snapshotd/api/api.h"
#include "snapshotd/sandbox/sandbox_checkpoints.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/log.h"

/* With when it goes, if nobody comes back for it. NULL without memory. */
static json_t *mount_to_json(struct api_call *c, struct mount_entry *e)
{
	struct mount_info info;
	char text[MOUNT_TIME_SIZE];

	mount_get_info(mount_entry_mount(e), &info);
	json_t *j = mount_info_to_json(&info);
	int64_t at = collector_discards_at_ms(c->api->collector, &info);

	mount_time_text(at, text);
	if (j && at && json_object_set_new(j, "discardsAt", json_string(text)) < 0) {
		json_decref(j);
		j = NULL;
	}
	return j;
}

static int reply_mount(struct api_call *c, int status, struct mount_entry *e, struct error *err)
{
	return api_result(c, status, mount_to_json(c, e), err);
}

static int list_mount(void *arg, struct mount_entry *e)
{
	struct mount_info info;
	struct api_list *l = arg;

	mount_get_info(mount_entry_mount(e), &info);
	return api_list_wants(l, info.id) ? api_list_add(l, mount_to_json(l->c, e)) : 0;
}

int api_mounts_list(struct api_call *c, struct error *err)
{
	struct api_list l;
	int rc = api_list_begin_plain(&l, c, err);

	if (rc < 0)
		return rc;
	mounts_look(c->api->mounts);
	rc = mounts_each(c->api->mounts, list_mount, &l);
	return api_list_end(&l, rc, err);
}

int api_mount_get(struct api_call *c, struct error *err)
{
	struct mount_entry *e;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = mounts_get(c->api->mounts, api_capture(c, 0), &e, err);
	if (rc < 0)
		return rc;
	rc = reply_mount(c, 200, e, err);
	mounts_put(c->api->mounts, e);
	return rc;
}

/* What a body says of a new mount. */
struct mount_request {
	const char *snapshot, *cache;
	bool force;		  /* over a directory that is not empty */
	uint64_t automount_fd;	  /* of the client; 0: none */
	struct mount_options opt; /* place_fd is api_mount_create's to close */
};

/* with_snapshot: else the snapshot is not the client's to say. *body owns the strings. */
static int mount_request_parse(struct api_call *c, bool with_snapshot, struct mount_request *mr,
			       json_t **body, struct error *err)
{
	struct mount_options *o = &mr->opt;
	const struct field fields[] = {
		{ "mountpoint", FIELD_STRING, &o->mountpoint, true },
		{ "readOnly", FIELD_BOOL, &o->read_only, false },
		{ "volatile", FIELD_BOOL, &o->is_volatile, false },
		{ "allowDev", FIELD_BOOL, &o->allow_dev, false },
		{ "allowSuid", FIELD_BOOL, &o->allow_suid, false },
		{ "noExec", FIELD_BOOL, &o->no_exec, false },
		{ "containerRoot", FIELD_BOOL, &o->container_root, false },
		{ "quotaBytes", FIELD_U64, &o->quota_bytes, false },
		{ "quotaInodes", FIELD_U64, &o->quota_inodes, false },
		{ "fsname", FIELD_STRING, &o->fsname, false },
		{ "cache", FIELD_STRING, &mr->cache, false },
		{ "force", FIELD_BOOL, &mr->force, false },
		/* The last two are of a mount of a snapshot. */
		{ "automountFD", FIELD_U64, &mr->automount_fd, false },
		{ "snapshot", FIELD_STRING, &mr->snapshot, true },
	};
	int rc;

	*mr = (struct mount_request){ 0 };
	rc = api_body(c, fields, ARRAY_SIZE(fields) - (with_snapshot ? 0 : 2), body, err);
	if (rc < 0)
		return rc;
	rc = api_host_path(c, *body, "mountpoint", &o->mountpoint, err);
	if (rc == 0 && mr->cache)
		rc = mount_cache_parse(mr->cache, &o->cache, err);
	if (rc == 0 && strlen(o->mountpoint) >= sizeof(((struct mount_info *)0)->mountpoint))
		rc = error_set(err, -EINVAL, "the mountpoint's path is too long");
	if (rc == 0 && o->fsname && strlen(o->fsname) > SNAPSHOT_NAME_MAX)
		rc = error_set(err, -EINVAL, "fsname is longer than %d bytes", SNAPSHOT_NAME_MAX);
	if (rc < 0) {
		json_decref(*body);
		*body = NULL;
	}
	return rc;
}

/* Whether a daemon that has died has made the mount for this call: then it replies. */
static bool find_made(struct api_call *c, const struct mount_request *mr, int *rc,
		      struct error *err)
{
	int (*const get)(struct mounts *, const char *, struct mount_entry **, struct error *) =
		mr->automount_fd ? mounts_get_at : mounts_get;
	struct error ignored = ERROR_INIT;
	struct mount_info info;
	struct mount_entry *e;
	bool made;

	if (!c->once.again || get(c->api->mounts, mr->opt.mountpoint, &e, &ignored) < 0)
		return false;
	mount_get_info(mount_entry_mount(e), &info);
	made = info.attached && api_once_made(c, info.created_at_ms);
	if (made)
		*rc = reply_mount(c, 201, e, err);
	mounts_put(c->api->mounts, e);
	return made;
}

static int mount_ready_snapshot(struct api_call *c, const struct snapshot *snap,
				const struct mount_options *opt, struct error *err)
{
	struct mount_entry *e;
	int rc = mounts_create(c->api->mounts, snap, opt, &e, err);

	metrics_work(&c->api->metrics, METRICS_MOUNT, rc < 0);
	if (rc < 0)
		return rc;
	if (snapshots_touch(c->api->store->snapshots, snap->id) < 0)
		log_debug("snapshot %s is not marked as used", snap->id);
	rc = reply_mount(c, 201, e, err);
	mounts_put(c->api->mounts, e);
	return rc;
}

int api_mount_create(struct api_call *c, struct error *err)
{
	struct mount_request mr = { 0 };
	struct snapshot s = { 0 };
	json_t *body = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = mount_request_parse(c, true, &mr, &body, err);
	if (rc == 0 && find_made(c, &mr, &rc, err))
		goto out;
	if (rc == 0)
		rc = api_ready_snapshot(c, mr.snapshot, &s, err);
	if (rc == 0)
		rc = api_automount(c, mr.automount_fd, mr.opt.mountpoint, &mr.opt.place_fd, err);
	if (rc == 0 && !mr.opt.place_fd)
		rc = mounts_check_place(c->api->mounts, mr.opt.mountpoint, mr.force, err);
	if (rc == 0)
		rc = mount_ready_snapshot(c, &s, &mr.opt, err);
out:
	if (mr.opt.place_fd)
		close(mr.opt.place_fd);
	snapshot_fini(&s);
	json_decref(body);
	return rc;
}

/* Mounts that somebody else of the daemon works on and ends. */
static int check_free(struct api_call *c, const struct mount_info *info, struct error *err)
{
	const char *dir = c->api->store->dir, *below = "/sandboxes/";
	size_t len = strlen(dir);

	if (strncmp(info->mountpoint, dir, len) == 0 &&
	    strncmp(info->mountpoint + len, below, strlen(below)) == 0)
		return error_set(err, -EBUSY, "mount %s is a sandbox's: it goes with it", info->id);
	if (builds_owns_mount(c->api->builds, info->id))
		return error_set(err, -EBUSY, "mount %s is that of a build: cancel that", info->id);
	return 0;
}

/* Unmount it, and discard it if asked to; *gone: there is no entry any more. */
static int delete_mount(struct api_call *c, struct mount_entry *e, enum mount_detach_how how,
			bool discard, bool *gone, struct error *err)
{
	struct mounts *ms = c->api->mounts;
	struct mount_info info;
	int rc;

	mount_get_info(mount_entry_mount(e), &info);
	rc = check_free(c, &info, err);
	if (rc == 0 && (info.attached || info.held))
		rc = mounts_detach(ms, e, how, discard, err);
	else if (rc == 0 && !discard && !c->once.again)
		rc = error_set(err, -ENOTCONN,
			       "mount %s is detached already; ?discard=1 deletes what it holds",
			       info.id);
	if (rc == 0 && discard)
		rc = mounts_discard(ms, e, err);
	*gone = rc == 0 && discard;
	return rc;
}

int api_mount_delete(struct api_call *c, struct error *err)
{
	bool discard = false, lazy = false, force = false, gone;
	struct mount_entry *e;
	int rc = api_query(c, err, "discard", "lazy", "force", NULL);

	if (rc == 0)
		rc = query_bool(&c->query, "discard", &discard, err);
	if (rc == 0)
		rc = query_bool(&c->query, "lazy", &lazy, err);
	if (rc == 0)
		rc = query_bool(&c->query, "force", &force, err);
	if (rc == 0)
		rc = mounts_get(c->api->mounts, api_capture(c, 0), &e, err);
	if (rc < 0)
		return rc;
	rc = delete_mount(c, e,
			  force	 ? MOUNT_FORCED
			  : lazy ? MOUNT_LAZILY
				 : MOUNT_GENTLY,
			  discard, &gone, err);
	if (!gone)
		mounts_put(c->api->mounts, e);
	return rc < 0 ? rc : api_no_content(c);
}

static bool quota_widens(uint64_t was, uint64_t next)
{
	return was && (!next || next > was);
}

/* Whether what is mounted may do more than before. */
static bool limits_widen(const struct mount_limits *was, const struct mount_limits *next)
{
	return (next->allow_dev && !was->allow_dev) || (next->allow_suid && !was->allow_suid) ||
	       (was->no_exec && !next->no_exec) ||
	       quota_widens(was->quota_bytes, next->quota_bytes) ||
	       quota_widens(was->quota_inodes, next->quota_inodes);
}

/* A mount may come back where it was, but gets more there only from who may name the place. */
static int check_same_place(struct api_call *c, const struct mount_info *info,
			    const struct mount_limits *next, struct error *err)
{
	int fd, rc;

	if (!limits_widen(&info->limits, next))
		return 0;
	rc = api_host_place(c, "mountpoint", info->mountpoint, &fd, err);
	if (fd >= 0)
		close(fd);
	return rc;
}

int api_mount_attach(struct api_call *c, struct error *err)
{
	const char *mountpoint = NULL;
	bool force = false;
	uint64_t automount_fd = 0;
	struct mount_info info;
	struct mount_limits l; /* what the body leaves out stays as it is */
	const struct field fields[] = { { "mountpoint", FIELD_STRING, &mountpoint, false },
					{ "force", FIELD_BOOL, &force, false },
					{ "automountFD", FIELD_U64, &automount_fd, false },
					{ "quotaBytes", FIELD_U64, &l.quota_bytes, false },
					{ "quotaInodes", FIELD_U64, &l.quota_inodes, false },
					{ "allowDev", FIELD_BOOL, &l.allow_dev, false },
					{ "allowSuid", FIELD_BOOL, &l.allow_suid, false },
					{ "noExec", FIELD_BOOL, &l.no_exec, false } };
	int place_fd = 0;
	struct mount_entry *e = NULL;
	json_t *body = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = mounts_get(c->api->mounts, api_capture(c, 0), &e, err);
	if (rc < 0)
		return rc;
	mount_get_info(mount_entry_mount(e), &info);
	l = info.limits;
	rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);
	if (rc == 0 && json_object_size(body)) /* a sandbox's comes back as it was, if at all */
		rc = check_free(c, &info, err);
	if (rc == 0 && !mountpoint)
		rc = check_same_place(c, &info, &l, err);
	if (rc == 0)
		rc = api_host_path(c, body, "mountpoint", &mountpoint, err);
	if (rc == 0)
		rc = api_automount(c, automount_fd, mountpoint, &place_fd, err);
	if (rc == 0 && mountpoint && !place_fd &&
	    !info.attached) /* where it was, it may be again */
		rc = mounts_check_place(c->api->mounts, mountpoint, force, err);
	if (rc == 0)
		rc = mounts_attach(c->api->mounts, e, mountpoint, place_fd, &l, err);
	if (rc == 0)
		rc = reply_mount(c, 200, e, err);
	mounts_put(c->api->mounts, e);
	if (place_fd)
		close(place_fd);
	json_decref(body);
	return rc;
}

/* Of a checkpoint that only makes a fork possible: its mounts keep the tree by themselves. */
#define FORK_TTL_S (30 * 86400)

struct checkpoint_wish {
	const char *id;		   /* that no snapshot has; or NULL: a new one */
	const char *name, *cgroup; /* or NULL */
	bool wait;		   /* until it is sealed */
	uint64_t ttl_s;		   /* 0: none */
};

/* *out is its record, once it is sealed or before. */
static int take_checkpoint(struct api_call *c, struct mount *m, const struct checkpoint_wish *wish,
			   struct snapshot *out, struct checkpoint_times *times, struct error *err)
{
	struct snapshots *ss = c->api->store->snapshots;
	struct snapshot s = { 0 };
	int rc = wish->id ? mount_checkpoint_as(m, wish->id, wish->name, wish->cgroup, &s, err)
			  : mount_checkpoint(m, wish->name, wish->cgroup, &s, err);

	if (rc == 0) {
		*times = (struct checkpoint_times){ mount_last_pause_ns(m),
						    mount_last_frozen_ns(m) };
		atomic_store_explicit(&c->api->metrics.checkpoint_pause_ns, times->pause_ns,
				      memory_order_relaxed);
		atomic_store_explicit(&c->api->metrics.checkpoint_frozen_ns, times->frozen_ns,
				      memory_order_relaxed);
	}
	/* While it is being sealed it does not expire, and sealing leaves this as it is. */
	if (rc == 0 && wish->ttl_s) {
		s.ttl_seconds = (int64_t)wish->ttl_s;
		if (snapshots_pin(ss, s.id, false, s.ttl_seconds, NULL) < 0)
			log_warn("checkpoint %s stays until it is removed", s.id);
	}
	if (rc == 0 && wish->wait && s.status == SNAPSHOT_BUILDING) {
		char id[SNAPSHOT_ID_SIZE];
		struct error sealed = ERROR_INIT;

		memcpy(id, s.id, sizeof(id));
		snapshot_fini(&s);
		s = (struct snapshot){ 0 };
		/* Another's checkpoint may be the last one by now: our record says how it went. */
		rc = mount_wait_sealed(m, &sealed);
		if (rc < 0 && rc != -EIO)
			log_debug("sealing: %s", error_text(&sealed));
		rc = snapshots_get(ss, id, &s, err);
	}
	metrics_work(&c->api->metrics, METRICS_CHECKPOINT, rc < 0 || s.status == SNAPSHOT_FAILED);
	if (rc == 0 && s.status == SNAPSHOT_FAILED) {
		c->fail_status = 500;
		rc = error_set(err, -EIO, "the checkpoint failed: %s", s.error);
		snapshot_fini(&s);
	}
	if (rc == 0)
		*out = s;
	return rc;
}

/* One that a daemon which has died has taken for this call. */
static int reply_made(struct api_call *c, struct snapshot *s, bool wait, struct error *err)
{
	struct error sealed = ERROR_INIT;
	struct mount_entry *e;

	if (wait && mounts_get(c->api->mounts, api_capture(c, 0), &e, &sealed) == 0) {
		char id[SNAPSHOT_ID_SIZE];

		memcpy(id, s->id, sizeof(id));
		(void)!mount_wait_sealed(mount_entry_mount(e), &sealed);
		mounts_put(c->api->mounts, e);
		snapshot_fini(s);
		*s = (struct snapshot){ 0 };
		int rc = snapshots_get(c->api->store->snapshots, id, s, err);
		if (rc < 0)
			return rc;
	}
	return api_result(c, 201, snapshot_to_json(s), err);
}

int api_mount_checkpoint(struct api_call *c, struct error *err)
{
	struct checkpoint_wish wish = { .id = api_once_id(c) };
	const struct field fields[] = {
		{ "name", FIELD_STRING, &wish.name, false },
		{ "freezeCgroup", FIELD_STRING, &wish.cgroup, false },
		{ "wait", FIELD_BOOL, &wish.wait, false },
		{ "ttl", FIELD_U64, &wish.ttl_s, false },
	};
	struct checkpoint_times times = { 0 };
	struct mount_entry *e;
	struct snapshot s = { 0 };
	json_t *body = NULL, *reply;
	int rc = api_query(c, err, "wait", NULL);

	if (rc == 0)
		rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);
	if (rc == 0)
		rc = query_bool(&c->query, "wait", &wish.wait, err);
	if (rc == 0 && wish.cgroup && wish.cgroup[0] != '/')
		rc = error_set(err, -EINVAL, "freezeCgroup is not an absolute path");
	if (rc == 0)
		rc = api_host_path(c, body, "freezeCgroup", &wish.cgroup, err);
	if (rc == 0 && api_once_snapshot(c, &s)) {
		rc = reply_made(c, &s, wish.wait, err);
		goto out;
	}
	if (rc == 0 && wish.name && *wish.name)
		rc = api_name_free(c, wish.name, err);
	if (rc == 0)
		rc = mounts_get(c->api->mounts, api_capture(c, 0), &e, err);
	if (rc == 0) {
		rc = take_checkpoint(c, mount_entry_mount(e), &wish, &s, &times, err);
		mounts_put(c->api->mounts, e);
	}
	if (rc == 0) {
		reply = snapshot_to_json(&s);
		rc = reply ? checkpoint_times_tell(&times, reply) : -ENOMEM;
		rc = rc == 0 ? api_result(c, 201, reply, err) : error_set(err, rc, "out of memory");
	}
out:
	snapshot_fini(&s);
	json_decref(body);
	return rc;
}

int api_mount_fork(struct api_call *c, struct error *err)
{
	struct mount_request mr;
	struct mount_entry *e;
	struct checkpoint_times times = { 0 };
	struct snapshot s = { 0 };
	json_t *body = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = mount_request_parse(c, false, &mr, &body, err);
	if (rc == 0 && find_made(c, &mr, &rc, err))
		goto out;
	if (rc == 0) /* before there is a checkpoint that nobody wants */
		rc = mounts_check_place(c->api->mounts, mr.opt.mountpoint, mr.force, err);
	if (rc == 0)
		rc = mounts_get(c->api->mounts, api_capture(c, 0), &e, err);
	if (rc == 0) {
		rc = take_checkpoint(c, mount_entry_mount(e),
				     &(struct checkpoint_wish){ .wait = true, .ttl_s = FORK_TTL_S },
				     &s, &times, err);
		mounts_put(c->api->mounts, e);
	}
	if (rc == 0)
		rc = mount_ready_snapshot(c, &s, &mr.opt, err);
out:
	snapshot_fini(&s);
	json_decref(body);
	return rc;
}
