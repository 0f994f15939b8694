/* One build, and finding one that is active. Calls nothing else of the controller. */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"

void build_free(struct build *bd)
{
	if (!bd)
		return;
	manifest_fini(&bd->m);
	image_config_fini(&bd->config);
	json_decref(bd->base_config);
	json_decref(bd->failure);
	build_log_free(bd->log);
	free(bd->named);
	free(bd->dir);
	free(bd);
}

void build_unref(struct build *bd)
{
	struct builds *b;
	bool last;

	if (!bd)
		return;
	b = bd->owner;
	pthread_mutex_lock(&b->lock);
	last = --bd->refs == 0;
	pthread_mutex_unlock(&b->lock);
	if (last)
		build_free(bd);
}

int build_new(struct builds *b, const struct manifest *m, const struct build_request *rq,
	      const struct build_past *past, struct build **out, struct error *err)
{
	/* Its own: another thread's references to what it uses are no business of jansson's. */
	json_t *own = json_deep_copy(m->json);
	struct build *bd = own ? calloc(1, sizeof(*bd)) : NULL;
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	int rc = bd ? manifest_parse(own, &bd->m, err) : error_set(err, -ENOMEM, "out of memory");

	json_decref(own);
	if (rc < 0) {
		free(bd);
		return rc;
	}
	bd->owner = b;
	bd->force = rq->force;
	atomic_init(&bd->keep_failed, rq->keep_failed);
	atomic_init(&bd->cancelled, false);
	if (past) {
		bd->created_at_ms = past->created_at_ms;
		bd->restarts = past->restarts;
		snprintf(bd->id, sizeof(bd->id), "%s", past->id);
	} else {
		bd->created_at_ms = clock_ms();
		id_random(bd->id);
	}
	if (rq->name)
		strncpy(bd->name, rq->name, sizeof(bd->name) - 1);
	bd->dir = builds_path(b, bd->id, "");
	if (!bd->dir || buf_printf(&path, "%s.log", bd->dir) < 0 || !buf_cstr(&path))
		rc = error_set(err, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = build_log_open((const char *)path.data, past != NULL, &bd->log, err);
	if (rc < 0)
		build_free(bd);
	else
		*out = bd;
	return rc;
}

struct build *builds_find(struct builds *b, const char *id)
{
	struct build *bd;

	pthread_mutex_lock(&b->lock);
	LIST_FOREACH(bd, &b->active, link)
	if (strcmp(bd->id, id) == 0)
		break;
	if (bd)
		bd->refs++;
	pthread_mutex_unlock(&b->lock);
	return bd;
}

bool builds_owns_mount(struct builds *b, const char *mount_id)
{
	const struct build *bd;

	pthread_mutex_lock(&b->lock);
	LIST_FOREACH(bd, &b->active, link)
	if (mount_id[0] && strcmp(bd->mount_id, mount_id) == 0)
		break;
	pthread_mutex_unlock(&b->lock);
	return bd != NULL;
}
