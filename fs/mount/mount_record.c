#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "fs/mount/mount_internal.h"
#include "store/base/bytes_json.h"
#include "store/base/clock.h"
#include "store/kv/meta.h"

void mount_record_fini(struct mount_record *r)
{
	free(r->mountpoint);
	free(r->fsname);
	r->mountpoint = r->fsname = NULL;
}

static json_t *to_json(const struct mount_record *r)
{
	char base[DIGEST_HEX_SIZE];

	digest_to_hex(&r->base, base);
	json_t *j = json_pack(
		"{s:i s:s s:s s:s s:s s:b s:b s:b s:b s:b s:i s:I s:I s:b s:b "
		"s:I s:I s:I s:s s:s s:I s:I s:b}",
		"version", MOUNT_RECORD_VERSION, "id", r->id, "snapshot", r->snapshot_id,
		"snapshotName", r->snapshot_name, "base", base, "readOnly", r->read_only,
		"volatile", r->is_volatile, "dev", r->limits.allow_dev, "suid",
		r->limits.allow_suid, "containerRoot", r->container_root, "cache", (int)r->cache,
		"quotaBytes", (json_int_t)r->limits.quota_bytes, "createdAtMs",
		(json_int_t)r->created_at_ms, "attached", r->attached, "discarding", r->discarding,
		"epoch", (json_int_t)r->epoch, "sealingEpoch", (json_int_t)r->sealing_epoch,
		"sealingNextIno", (json_int_t)r->sealing_next_ino, "sealingSnapshot",
		r->sealing_snapshot, "sealingBoot", r->sealing_boot, "detachedAtMs",
		(json_int_t)r->detached_at_ms, "quotaInodes", (json_int_t)r->limits.quota_inodes,
		"noExec", r->limits.no_exec);
	if (j && bytes_json_set(j, "mountpoint", r->mountpoint, strlen(r->mountpoint)) == 0 &&
	    bytes_json_set(j, "fsname", r->fsname, strlen(r->fsname)) == 0)
		return j;
	json_decref(j);
	return NULL;
}

static int copy_text(const char *from, char *to, size_t size)
{
	return snprintf(to, size, "%s", from) < (int)size ? 0 : -EBADMSG;
}

/* *out is malloc'd. */
static int path_from_json(const json_t *j, const char *key, char **out)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int r = bytes_json_get(j, key, &b);

	if (r == -ENOENT)
		return -EBADMSG;
	if (r == 0 && !buf_cstr(&b))
		r = -ENOMEM;
	if (r == 0)
		*out = (char *)STEAL(b.data);
	return r;
}

static int from_json(json_t *j, struct mount_record *out)
{
	const char *id, *snapshot, *name, *base, *sealing, *boot = "";
	uint8_t id_bytes[UPPER_ID_SIZE];
	int version, ro, vol, dev, suid, cache, attached, discarding, container_root = 0,
								      no_exec = 0;
	json_int_t quota, created, epoch, sealing_epoch, sealing_next, detached = 0,
								       quota_inodes = 0;

	if (json_unpack(j,
			"{s:i s:s s:s s:s s:s s:b s:b s:b s:b s:i s:I s:I s:b s:b s:I s:I "
			"s:I s:s s?s s?b s?I s?I s?b}",
			"version", &version, "id", &id, "snapshot", &snapshot, "snapshotName",
			&name, "base", &base, "readOnly", &ro, "volatile", &vol, "dev", &dev,
			"suid", &suid, "cache", &cache, "quotaBytes", &quota, "createdAtMs",
			&created, "attached", &attached, "discarding", &discarding, "epoch", &epoch,
			"sealingEpoch", &sealing_epoch, "sealingNextIno", &sealing_next,
			"sealingSnapshot", &sealing, "sealingBoot", &boot, "containerRoot",
			&container_root, "detachedAtMs", &detached, "quotaInodes", &quota_inodes,
			"noExec", &no_exec) < 0)
		return -EBADMSG;
	if (version < 1 || version > MOUNT_RECORD_VERSION ||
	    copy_text(id, out->id, sizeof(out->id)) ||
	    copy_text(snapshot, out->snapshot_id, sizeof(out->snapshot_id)) ||
	    copy_text(name, out->snapshot_name, sizeof(out->snapshot_name)) ||
	    copy_text(sealing, out->sealing_snapshot, sizeof(out->sealing_snapshot)) ||
	    copy_text(boot, out->sealing_boot, sizeof(out->sealing_boot)) ||
	    mount_id_bytes(out->id, id_bytes) || digest_from_hex(base, &out->base))
		return -EBADMSG;
	out->read_only = ro;
	out->is_volatile = vol;
	out->container_root = container_root;
	out->cache = cache == MOUNT_CACHE_SHARED ? MOUNT_CACHE_SHARED : MOUNT_CACHE_PRIVATE;
	out->limits = (struct mount_limits){ .quota_bytes = (uint64_t)quota,
					     .quota_inodes = (uint64_t)quota_inodes,
					     .allow_dev = dev,
					     .allow_suid = suid,
					     .no_exec = no_exec };
	out->created_at_ms = created;
	out->detached_at_ms = detached;
	out->attached = attached;
	out->discarding = discarding;
	out->epoch = (uint32_t)epoch;
	out->sealing_epoch = (uint32_t)sealing_epoch;
	out->sealing_next_ino = (uint64_t)sealing_next;
	int r = path_from_json(j, "mountpoint", &out->mountpoint);
	return r < 0 ? r : path_from_json(j, "fsname", &out->fsname);
}

int mount_record_decode(const void *json, size_t len, struct mount_record *out)
{
	json_t *j = json_loadb(json, len, 0, NULL);
	int r;

	memset(out, 0, sizeof(*out));
	r = j ? from_json(j, out) : -EBADMSG;
	json_decref(j);
	if (r)
		mount_record_fini(out);
	return r;
}

int mount_record_put(struct store *s, struct kv_batch *b, const struct mount_record *r)
{
	json_t *j = to_json(r);
	char *text = j ? json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	int res = text ? meta_batch_put(s->kv, b, META_MOUNT, r->id, text, strlen(text)) : -ENOMEM;

	json_decref(j);
	free(text);
	if (!res)
		store_pin_tree(s, b, r->id, &r->base);
	return res;
}

void mount_record_del(struct store *s, struct kv_batch *b, const char *id)
{
	struct meta_key k = meta_key(META_MOUNT, id);

	kv_batch_del(s->kv, b, KV_META, k.text, k.len);
	store_unpin_all(s, b, id);
}

void mount_record_set_attached(struct mount_record *r, bool attached)
{
	if (attached)
		r->detached_at_ms = 0;
	else if (r->attached || !r->detached_at_ms)
		r->detached_at_ms = clock_ms();
	r->attached = attached;
}

int mount_record_write(struct store *s, const struct mount_record *r, enum kv_durability d)
{
	struct kv_batch *b CLEANUP(kv_batch_free_p) = kv_batch_new();
	int res = b ? mount_record_put(s, b, r) : -ENOMEM;

	return res ? res : kv_write(s->kv, b, d);
}

void mount_record_become(struct mount *m, const struct mount_record *next)
{
	pthread_mutex_lock(&m->state);
	m->rec = *next;
	pthread_mutex_unlock(&m->state);
}

int mount_id_bytes(const char *id, uint8_t out[UPPER_ID_SIZE])
{
	unsigned n = 0, digit;

	for (; *id; id++) {
		if (*id == '-')
			continue;
		if (n == 2 * UPPER_ID_SIZE || sscanf((char[]){ *id, 0 }, "%1x", &digit) != 1)
			return -EBADMSG;
		out[n / 2] = (uint8_t)(n % 2 ? out[n / 2] | digit : digit << 4);
		n++;
	}
	return n == 2 * UPPER_ID_SIZE ? 0 : -EBADMSG;
}

void mount_time_text(int64_t ms, char out[MOUNT_TIME_SIZE])
{
	time_t sec = (time_t)(ms / 1000);
	struct tm tm;

	gmtime_r(&sec, &tm);
	snprintf(out, MOUNT_TIME_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000));
}

json_t *mount_info_to_json(const struct mount_info *i)
{
	char base[DIGEST_HEX_SIZE], created[MOUNT_TIME_SIZE], detached[MOUNT_TIME_SIZE];
	json_t *j;

	digest_to_hex(&i->base, base);
	mount_time_text(i->created_at_ms, created);
	mount_time_text(i->detached_at_ms, detached);
	j = json_pack(
		"{s:s s:s s:s s:s s:b s:b s:b s:s s:I s:s s:s s:I s:I s:I s:I s:b s:I s:I s:I s:I "
		"s:I s:I s:b s:b s:b s:b}",
		"id", i->id, "snapshotId", i->snapshot_id, "snapshot", i->snapshot_name, "status",
		i->attached ? "mounted"
		: i->held   ? "held"
			    : "detached",
		"attached", i->attached, "readOnly", i->read_only, "volatile", i->is_volatile,
		"cache", i->cache == MOUNT_CACHE_SHARED ? "shared" : "private", "quotaBytes",
		(json_int_t)i->limits.quota_bytes, "createdAt", created, "base", base,
		"changedInodes", (json_int_t)i->changed_inodes, "upperBytes",
		(json_int_t)i->upper_bytes, "metaBytes", (json_int_t)i->meta_bytes, "epoch",
		(json_int_t)i->epoch, "sealing", i->sealing, "sharedOpens",
		(json_int_t)i->shared_opens, "otherOpens", (json_int_t)i->other_opens,
		"quotaInodes", (json_int_t)i->limits.quota_inodes, "newInodes",
		(json_int_t)i->new_inodes, "lastPauseUs", (json_int_t)(i->last_pause_ns / 1000),
		"lastFrozenUs", (json_int_t)(i->last_frozen_ns / 1000), "allowDev",
		i->limits.allow_dev, "allowSuid", i->limits.allow_suid, "noExec", i->limits.no_exec,
		"kept", i->kept);
	if (j && bytes_json_set(j, "mountpoint", i->mountpoint, strlen(i->mountpoint)) == 0 &&
	    (!i->detached_at_ms ||
	     json_object_set_new(j, "detachedAt", json_string(detached)) == 0))
		return j;
	json_decref(j);
	return NULL;
}
