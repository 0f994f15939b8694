/* s3_cred_internal.h - what the files of s3_cred share. */
#ifndef VARVE_S3_CRED_INTERNAL_H
#define VARVE_S3_CRED_INTERNAL_H

#include "store/bucket/s3_cred.h"

#define S3_CRED_TEXT_MAX (256u << 10) /* a credentials file, a reply */

/* Take over copies; -EBADMSG: empty, too long, or with characters that no header may have. */
MUST_CHECK int s3_keys_set(struct s3_keys *k, const char *access_key, const char *secret,
			   const char *token, struct error *err);

/*
 * A profile of a credentials file. -ENOENT: no such profile, or it has no keys; -EBADMSG. With a
 * credential_process in it instead, *out_process is that command, to be freed.
 */
MUST_CHECK int s3_cred_parse_file(const char *text, const char *profile, struct s3_keys *out,
				  char **out_process, struct error *err);
/* JSON of a process (AccessKeyId, SecretAccessKey, SessionToken) or a service (... Token). */
MUST_CHECK int s3_cred_parse_json(const char *text, size_t len, struct s3_keys *out,
				  struct error *err);

/* Ask, and wait; for a process until *stop. -EACCES or another -errno, with err set. */
MUST_CHECK int s3_cred_ask_process(const char *command, const _Atomic bool *stop,
				   struct s3_keys *out, struct error *err);
MUST_CHECK int s3_cred_ask_container(s3_cred_http_fn http, struct s3_keys *out, struct error *err);
MUST_CHECK int s3_cred_ask_metadata(s3_cred_http_fn http, struct s3_keys *out, struct error *err);

#endif
