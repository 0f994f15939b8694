/* Remotes as all calls see them: by name, and why one failed. */
#include "snapshotd/api/api.h"

#include <errno.h>

int api_share_failure(struct api_call *c, bool opening, int rc)
{
	switch (rc) {
	case -EACCES:
	case -EROFS:
		c->fail_status = 403;
		break;
	case -ETIMEDOUT:
		c->fail_status = opening ? 503 : 504;
		break;
	case -EIO:
		c->fail_status = opening ? 503 : 502;
		break;
	case -EREMOTEIO:
	case -EBADMSG:
	case -ENODATA:
	case -EFBIG:
	case -ENOTSUP:
	case -ESTALE:
		c->fail_status = 502;
		break;
	}
	return rc;
}

int api_remote_get(struct api_call *c, const char *name, struct remote **out, struct error *err)
{
	return api_share_failure(c, true, remotes_get(c->api->remotes, name, out, err));
}
