#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int write_list(void *arg, const void *data, size_t len)
{
	struct http_request *rq = ((struct api_list *)arg)->c->rq;
	int rc = 0;

	if (!http_stream_begun(rq))
		rc = http_stream_begin(rq, 200, "application/json");
	return rc < 0 ? rc : http_stream_write(rq, data, len);
}

int api_list_begin(struct api_list *l, struct api_call *c, struct error *err)
{
	int rc;

	*l = (struct api_list){ .c = c, .left = UINT64_MAX };
	l->js.write = write_list;
	l->js.arg = l;
	l->after = query_get(&c->query, "after");
	rc = query_u64(&c->query, "limit", &l->left, err);
	if (rc == 0 && l->left == 0)
		rc = error_set(err, -EINVAL, "query parameter \"limit\": it is at least 1");
	if (rc == 0 && l->after && !*l->after)
		rc = error_set(err, -EINVAL,
			       "query parameter \"after\" is empty: give the last item's id, or "
			       "leave it out for the first page");
	return rc;
}

int api_list_begin_plain(struct api_list *l, struct api_call *c, struct error *err)
{
	int rc = api_query(c, err, API_LIST_QUERY, NULL);

	return rc < 0 ? rc : api_list_begin(l, c, err);
}

bool api_list_wants(struct api_list *l, const char *id)
{
	if (!l->after)
		return true;
	if (strcmp(l->after, id) == 0)
		l->after = NULL;
	return false;
}

int api_list_add(struct api_list *l, json_t *j)
{
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	int rc = text ? json_stream_raw(&l->js, l->any ? "," : "[") : -ENOMEM;

	json_decref(j);
	if (rc == 0)
		rc = json_stream_raw(&l->js, text);
	free(text);
	l->any = true;
	if (rc == 0 && http_cancelled(l->c->rq))
		rc = -ECANCELED;
	return rc < 0 ? rc : --l->left == 0;
}

int api_list_item(void *list, const char *id, const json_t *item)
{
	struct api_list *l = list;

	return api_list_wants(l, id) ? api_list_add(l, json_incref((json_t *)item)) : 0;
}

int api_list_end(struct api_list *l, int rc, struct error *err)
{
	if (rc >= 0 && l->after) {
		rc = error_set(err, -EINVAL,
			       "query parameter \"after\": \"%.200s\" is not in the list, or no "
			       "more: begin again without it",
			       l->after);
	} else if (rc >= 0) {
		rc = json_stream_raw(&l->js, l->any ? "]\n" : "[]\n");
		if (rc == 0)
			rc = json_stream_flush(&l->js);
	}
	json_stream_fini(&l->js);
	if (rc < 0 && err && !err->code) /* of api_list_add */
		error_set_errno(err, rc, "the reply");
	return rc;
}
