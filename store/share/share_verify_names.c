/* That names can be read, and lead to no snapshot which was deleted. */
#include <errno.h>
#include <stdlib.h>

#include "store/share/share_verify_internal.h"

static int by_id(const void *a, const void *b)
{
	return share_id_cmp(a, b);
}

/* 1: it is ready, 0: it is not there, or was deleted. */
static int is_ready(struct verify *v, const struct share_id *id)
{
	const size_t size = sizeof(*id);
	struct share_record rec;
	bool ready;
	int rc;

	if (v->ready.len && bsearch(id, v->ready.data, v->ready.len / size, size, by_id))
		return 1;
	rc = remote_read_record(v->r, id, &rec, v->err); /* newer than the list, or damaged */
	if (rc < 0)
		return rc == -ENOENT ? 0 : share_is_damage(rc) ? 1 : rc;
	ready = rec.state == SHARE_READY;
	share_record_fini(&rec);
	return ready;
}

/* It may have been moved, or taken away, since it was listed. */
static bool leads_there(struct verify *v, const char *name, const struct share_id *id)
{
	struct share_record now;
	bool same;

	if (remote_resolve(v->r, name, &now, NULL) < 0)
		return false;
	same = share_id_equal(&now.id, id);
	share_record_fini(&now);
	return same;
}

static int check_name(void *arg, const char *name, const struct share_record *rec)
{
	struct verify *v = arg;
	char text[100], id[SHARE_ID_SIZE], key[SHARE_KEY_SIZE];
	int rc = progress_cancelled(v->p) ? -ECANCELED : is_ready(v, &rec->id);

	if (rc != 0 || !leads_there(v, name, &rec->id))
		return MIN(rc, 0);
	share_id_text(&rec->id, id);
	snprintf(key, sizeof(key), "name/%s", name);
	snprintf(text, sizeof(text), "it stands for snapshot %s, which was deleted", id);
	share_verify_tell(v, key, text);
	return 0;
}

static int tell_unreadable(void *arg, const char *key, const struct error *why)
{
	struct verify *v = arg;

	if (!share_is_damage(why->code))
		return error_set(v->err, why->code, "%s", error_text(why));
	share_verify_tell(v, key, error_text(why));
	return 0;
}

int share_verify_names(struct verify *v)
{
	if (v->ready.len)
		qsort(v->ready.data, v->ready.len / sizeof(struct share_id),
		      sizeof(struct share_id), by_id);
	return remote_check_names(v->r, check_name, tell_unreadable, v, v->err);
}
