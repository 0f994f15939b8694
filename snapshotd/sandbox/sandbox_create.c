/* Making a sandbox: its place, mount, container and patches; then its record. */
#include "snapshotd/sandbox/sandboxes_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "snapshotd/sandbox/sandbox_patches.h"
#include "store/base/log.h"

static void record_fill(struct sandbox_record *r, const struct sandboxes *ss,
			const struct snapshot *snap, const struct sandbox_spec *spec)
{
	*r = (struct sandbox_record){ .status = SANDBOX_RUNNING,
				      .started_at_ms = clock_ms(),
				      .timeout_s = spec->timeout_s,
				      .metadata = json_incref(spec->metadata),
				      .image = json_incref(snap->config) };
	if (spec->id)
		snprintf(r->id, sizeof(r->id), "%s", spec->id);
	else
		sandbox_id_random(r->id);
	r->config = (struct sandbox_config){
		.memory_mb = spec->memory_mb ? spec->memory_mb : SANDBOX_MEMORY_MB,
		.disk_mb = spec->disk_mb ? spec->disk_mb : ss->disk_mb,
		.cpus = spec->cpus,
		.shared_cache = spec->cache ? strcmp(spec->cache, "shared") == 0 : ss->shared_cache,
		.envs = json_incref(spec->envs),
	};
	snprintf(r->config.template_id, sizeof(r->config.template_id), "%s",
		 spec->template_id ? spec->template_id : "");
	memcpy(r->snapshot_id, snap->id, sizeof(r->snapshot_id));
	memcpy(r->snapshot_name, snap->name, sizeof(r->snapshot_name));
	memcpy(r->content_hash, snap->content_hash, sizeof(r->content_hash));
}

/* Mount, container and patches. */
static int make_whole(struct sandbox *sb, const struct snapshot *snap,
		      const struct sandbox_spec *spec, struct error *err)
{
	struct mount_info info;
	int rc = sandbox_make_place(sb, err);

	if (rc == 0)
		rc = sandbox_mount_at_place(sb, snap, &sb->mount, err);
	if (rc < 0)
		return rc;
	mount_get_info(mount_entry_mount(sb->mount), &info);
	memcpy(sb->rec.mount_id, info.id, sizeof(sb->rec.mount_id));
	rc = sandbox_up(sb, err);
	return rc == 0 ? patches_run(sb, snap->id, spec->cancelled, spec->arg, err) : rc;
}

/* What make_whole has made; what is not there is not minded. */
static void unmake(struct sandbox *sb)
{
	sandbox_down(sb);
	sandbox_discard_mount(sb->owner, sb->mount);
	sb->mount = NULL;
	sandbox_remove_place(sb->owner, sb->id);
}

int sandboxes_create(struct sandboxes *ss, const struct snapshot *snap,
		     const struct sandbox_spec *spec, struct sandbox **out, struct error *err)
{
	struct sandbox_record rec;
	struct sandbox *sb;
	int rc;

	record_fill(&rec, ss, snap, spec);
	sb = sandbox_new(ss, &rec, err);
	if (!sb)
		return -ENOMEM;
	rc = make_whole(sb, snap, spec, err);
	if (rc == 0 && (rc = sandbox_put_record(sb)) < 0)
		error_set_errno(err, rc, "cannot write the sandbox's record");
	if (rc < 0) {
		unmake(sb);
		sandbox_put(sb);
		return rc;
	}
	if (snapshots_touch(ss->store->snapshots, snap->id) < 0)
		log_debug("snapshot %s is not marked as used", snap->id);
	sandbox_list(sb);
	*out = sb;
	return 0;
}
