#include "snapshotd/reload.h"

#include <string.h>

#include "store/base/log.h"

static const char *const live_names[] = { "logLevel",
					  "remotes",
					  "gcInterval",
					  "gcGarbageBytes",
					  "gcFreeBytes",
					  "detachedMountAge",
					  "detachedChangedMountAge" };

struct collector_reasons config_collector_reasons(const struct config *c)
{
	return (struct collector_reasons){ .interval_s = c->gc_interval_s,
					   .garbage_bytes = c->gc_garbage_bytes,
					   .free_bytes = c->gc_free_bytes,
					   .detached_s = c->detached_mount_s,
					   .changed_s = c->detached_changed_s };
}

static bool is_live(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(live_names); i++)
		if (strcmp(name, live_names[i]) == 0)
			return true;
	return false;
}

static bool has_changed(const struct config *old, const struct config *now, const char *name)
{
	json_t *a = json_object_get(old->file, name), *b = json_object_get(now->file, name);

	return a != b && (!a || !b || !json_equal(a, b));
}

/* Whatever of `names` is not, or not the same, in the other file; each once. */
static int tell_changes(const struct config *old, const struct config *now)
{
	json_t *names = json_object(), *value;
	const char *name;
	int count = 0;

	(void)json_object_update(names, old->file);
	(void)json_object_update(names, now->file);
	json_object_foreach(names, name, value) {
		if (!has_changed(old, now, name))
			continue;
		count++;
		if (is_live(name))
			log_info("config: %s has changed", name);
		else
			log_warn("config: %s has changed, which needs a restart", name);
	}
	json_decref(names);
	return count;
}

static void set_remotes(const struct config *now, struct remotes *remotes)
{
	const json_t *j;
	size_t i;

	json_array_foreach(now->remotes, i, j) {
		struct error err = ERROR_INIT;
		struct remote_config rc;

		if (remote_config_parse(j, &rc, &err) == 0) {
			if (remotes_set(remotes, &rc, &err) < 0)
				log_error("config: remotes: %s", error_text(&err));
			remote_config_fini(&rc);
		} else {
			log_error("config: remotes: %s", error_text(&err));
		}
	}
}

/* What runs now, as the next reload compares with. */
static void keep(struct config *c, const struct config *now)
{
	c->log_level = now->log_level;
	c->gc_interval_s = now->gc_interval_s;
	c->gc_garbage_bytes = now->gc_garbage_bytes;
	c->gc_free_bytes = now->gc_free_bytes;
	c->detached_mount_s = now->detached_mount_s;
	c->detached_changed_s = now->detached_changed_s;
	for (size_t i = 0; i < ARRAY_SIZE(live_names); i++) {
		json_t *v = json_object_get(now->file, live_names[i]);

		if (v)
			(void)json_object_set(c->file, live_names[i], v);
		else
			(void)json_object_del(c->file, live_names[i]);
	}
}

void reload_config(struct config *c, int argc, char *const *argv, struct remotes *remotes,
		   struct collector *collector)
{
	struct error err = ERROR_INIT;
	struct config now;

	if (!c->file) {
		log_info("config: there is no file to read again (--config)");
		return;
	}
	/* The key of the environment has been taken out of it. */
	if (config_load(&now, argc, argv, c->api_key, &err) < 0) {
		log_error("config: %s; everything stays as it was", error_text(&err));
		return;
	}
	int count = tell_changes(c, &now);
	bool other_remotes = has_changed(c, &now, "remotes");

	keep(c, &now);
	log_set_level(c->log_level);
	if (other_remotes)
		set_remotes(&now, remotes);
	const struct collector_reasons reasons = config_collector_reasons(c);
	collector_set_reasons(collector, &reasons);
	log_info("config: read again; %d setting%s changed", count, count == 1 ? " has" : "s have");
	config_fini(&now);
}
