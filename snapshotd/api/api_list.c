#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdlib.h>

static int write_list(void *arg, const void *data, size_t len)
{
	struct http_request *rq = ((struct api_list *)arg)->c->rq;
	int rc = 0;

	if (!http_stream_begun(rq))
		rc = http_stream_begin(rq, 200, "application/json");
	return rc < 0 ? rc : http_stream_write(rq, data, len);
}

void api_list_init(struct api_list *l, struct api_call *c)
{
	*l = (struct api_list){ .c = c };
	l->js.write = write_list;
	l->js.arg = l;
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
	return rc == 0 && http_cancelled(l->c->rq) ? -ECANCELED : rc;
}

int api_list_end(struct api_list *l, int rc, struct error *err)
{
	int end = 0;

	if (rc == 0)
		end = json_stream_raw(&l->js, l->any ? "]\n" : "[]\n");
	if (rc == 0 && end == 0)
		end = json_stream_flush(&l->js);
	json_stream_fini(&l->js);
	if (end < 0)
		return error_set_errno(err, end, "the reply");
	return rc;
}
