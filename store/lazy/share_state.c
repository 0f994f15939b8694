#include "store/lazy/share_state.h"

#include <errno.h>
#include <stddef.h>

#include "store/kv/meta.h"
#include "store/remote/share_ids.h"

struct holders {
	struct kv *kv;
	struct lazy_index *ix;
	const char *local;
	json_t *list;
	const char *state;
};

/* A remote's record, as remotes.h has it; the uuid is that of its bucket. */
static int add_holder(void *arg, const char *name, const void *value, size_t len)
{
	struct holders *p = arg;
	json_t *j = json_loadb(value, len, 0, NULL);
	const char *bucket = json_string_value(json_object_get(j, "uuid"));
	char id[SHARE_ID_SIZE];
	struct share_id remote;
	int rc = 0;

	if (bucket && share_ids_to(p->kv, bucket, p->local, &remote) == 0) {
		share_id_text(&remote, id);
		if (p->ix && lazy_index_has_push(p->ix, bucket, &remote))
			p->state = "lazy";
		else if (!p->state)
			p->state = "pushed";
		if (json_array_append_new(p->list,
					  json_pack("{s:s, s:s}", "remote", name, "id", id)) < 0)
			rc = -ENOMEM;
	}
	json_decref(j);
	return rc;
}

int share_state_tell(struct kv *kv, struct lazy_index *ix, const char *local, json_t *o)
{
	struct holders p = { .kv = kv, .ix = ix, .local = local, .list = json_array() };
	int rc = p.list ? meta_each(kv, META_REMOTE, "", add_holder, &p) : -ENOMEM;

	if (rc == 0 &&
	    (json_object_set(o, "remotes", p.list) < 0 ||
	     json_object_set_new(o, "share", json_string(p.state ? p.state : "local")) < 0))
		rc = -ENOMEM;
	json_decref(p.list);
	return rc;
}
