/* A sandbox as the API shows it. */
#include "snapshotd/sandbox/sandboxes_internal.h"

#include <unistd.h>

static int set_time(json_t *o, const char *name, int64_t ms)
{
	char text[TIME_TEXT_SIZE];

	if (!ms)
		return json_object_set_new(o, name, json_null());
	time_to_text(ms, text);
	return json_object_set_new(o, name, json_string(text));
}

/* When it was stopped, or would be if it were left alone; 0: never. */
static int64_t end_of_locked(const struct sandbox *sb)
{
	if (sb->rec.ended_at_ms || !sb->rec.timeout_s)
		return sb->rec.ended_at_ms;
	return clock_ms() + sb->used_ms - monotonic_ms() + (int64_t)sb->rec.timeout_s * 1000;
}

static json_t *cpu_count(double cpus)
{
	if (cpus == 0)
		return json_integer(sysconf(_SC_NPROCESSORS_ONLN));
	return cpus == (double)(int)cpus ? json_integer((int)cpus) : json_real(cpus);
}

static int set_state_locked(struct sandbox *sb, json_t *o)
{
	const struct sandbox_record *r = &sb->rec;
	enum sandbox_status status = r->status;
	const char *reason = r->reason;
	int rc;

	if (sb->container && !container_is_running(sb->container)) {
		status = SANDBOX_STOPPED;
		reason = "its first process has died";
	}
	rc = json_object_set_new(o, "status", json_string(sandbox_status_names[status]));
	if (status != SANDBOX_RUNNING)
		rc |= json_object_set_new(o, "reason", json_string(reason));
	rc |= set_time(o, "startedAt", r->started_at_ms);
	rc |= set_time(o, "endAt", end_of_locked(sb));
	rc |= set_time(o, "removeAt", sandbox_removal_ms_locked(sb));
	return rc | json_object_set_new(o, "timeout", json_integer((json_int_t)r->timeout_s));
}

/* The mount's own locks may be held over a write to the log: that is short. */
static int set_mount_locked(struct sandbox *sb, json_t *o)
{
	struct mount_info info = { 0 };
	int rc;

	if (sb->mount)
		mount_get_info(mount_entry_mount(sb->mount), &info);
	rc = json_object_set_new(o, "mountID", json_string(sb->rec.mount_id));
	rc |= json_object_set_new(o, "changedInodes",
				  json_integer((json_int_t)info.changed_inodes));
	return rc |
	       json_object_set_new(o, "upperBytes", json_integer((json_int_t)info.upper_bytes));
}

static json_t *text_or_null(const char *s)
{
	return *s ? json_string(s) : json_null();
}

json_t *sandbox_to_json(struct sandbox *sb)
{
	const struct sandbox_record *r = &sb->rec;
	json_t *o;
	int rc;

	pthread_mutex_lock(&sb->lock);
	o = json_pack("{s:s, s:s, s:s, s:o, s:I, s:I}", "sandboxID", sb->id, "templateID",
		      r->config.template_id, "fromCheckpointId", r->snapshot_id, "cpuCount",
		      cpu_count(r->config.cpus), "memoryMB", (json_int_t)r->config.memory_mb,
		      "diskMB", (json_int_t)r->config.disk_mb);
	rc = json_object_set_new(o, "snapshot", text_or_null(r->snapshot_name));
	rc |= json_object_set_new(o, "contentHash", text_or_null(r->content_hash));
	rc |= json_object_set_new(o, "cache",
				  json_string(r->config.shared_cache ? "shared" : "private"));
	rc |= json_object_set_new(o, "metadata",
				  r->metadata ? json_incref(r->metadata) : json_object());
	rc |= set_state_locked(sb, o);
	rc |= set_mount_locked(sb, o);
	pthread_mutex_unlock(&sb->lock);
	if (rc) {
		json_decref(o);
		return NULL;
	}
	return o;
}
