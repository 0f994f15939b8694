/* Another key for an encrypted bucket, and its place. */
#include "store/remote/remotes.h"

int remotes_rekey(struct remotes *rs, const char *name, const struct remote_config *now, bool keep,
		  struct error *err)
{
	struct remote_config was, next;
	int rc = remotes_config(rs, name, &was, err);

	if (rc < 0)
		return rc;
	next = was; /* borrows all of it */
	next.key_file = now->key_file;
	next.key_command = now->key_command;
	rc = remote_rekey(&was, &next, keep, err);
	/* A crash before this is mended by the same call: the new key opens it already. */
	if (rc == 0)
		rc = remotes_set(rs, &next, err);
	remote_config_fini(&was);
	return rc;
}
