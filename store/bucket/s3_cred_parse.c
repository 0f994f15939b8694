/* Credentials as they are written: AWS's files and JSON. Pure. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/bucket/s3_cred_internal.h"

void s3_keys_fini(struct s3_keys *k)
{
	if (k->token)
		explicit_bzero(k->token, strlen(k->token));
	free(k->token);
	explicit_bzero(k, sizeof(*k));
}

/* They stand in headers. */
static bool is_visible(const char *s, size_t max)
{
	size_t n = strnlen(s, max + 1);

	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] >= 0x7f)
			return false;
	return n > 0 && n <= max;
}

int s3_keys_set(struct s3_keys *k, const char *access_key, const char *secret, const char *token,
		struct error *err)
{
	*k = (struct s3_keys){ 0 };
	if (!access_key || !is_visible(access_key, sizeof(k->access_key) - 1))
		return error_set(err, -EBADMSG, "the access key is missing or is none");
	if (!secret || !is_visible(secret, sizeof(k->secret) - 1))
		return error_set(err, -EBADMSG, "the secret key is missing or is none");
	if (token && !*token)
		token = NULL;
	if (token && !is_visible(token, S3_TOKEN_MAX))
		return error_set(err, -EBADMSG, "the session token is none");
	k->token = token ? strdup(token) : NULL;
	if (token && !k->token)
		return error_set_errno(err, -ENOMEM, "session token");
	strcpy(k->access_key, access_key);
	strcpy(k->secret, secret);
	return 0;
}

/* --- files --- */

static char *trim(char *s)
{
	s += strspn(s, " \t\r");
	for (size_t n = strlen(s); n && strchr(" \t\r", s[n - 1]); n--)
		s[n - 1] = '\0';
	return s;
}

/* What a profile says, pointing into the file's text. */
struct profile {
	char *access_key, *secret, *token, *process;
};

/* "[NAME]" of a credentials file, "[profile NAME]" of a config file. */
static bool is_section(char *line, const char *profile)
{
	size_t n = strlen(line);

	if (n < 2 || line[n - 1] != ']')
		return false;
	line[n - 1] = '\0';
	char *name = trim(line + 1);
	if (strncmp(name, "profile ", 8) == 0)
		name = trim(name + 8);
	return strcmp(name, profile) == 0;
}

static void take_setting(struct profile *p, char *line)
{
	char *value = strchr(line, '=');

	if (!value)
		return;
	*value = '\0';
	value = trim(value + 1);
	line = trim(line);
	if (strcmp(line, "aws_access_key_id") == 0)
		p->access_key = value;
	else if (strcmp(line, "aws_secret_access_key") == 0)
		p->secret = value;
	else if (strcmp(line, "aws_session_token") == 0)
		p->token = value;
	else if (strcmp(line, "credential_process") == 0)
		p->process = value;
}

int s3_cred_parse_file(const char *text, const char *profile, struct s3_keys *out,
		       char **out_process, struct error *err)
{
	char *copy = strdup(text), *rest = copy, *line;
	struct profile p = { 0 };
	bool in_it = false, found = false;
	int rc = 0;

	if (!copy)
		return error_set_errno(err, -ENOMEM, "credentials file");
	while ((line = strsep(&rest, "\n"))) {
		line = trim(line);
		if (!*line || *line == '#' || *line == ';')
			continue;
		if (*line == '[') {
			in_it = is_section(line, profile);
			found = found || in_it;
		} else if (in_it) {
			take_setting(&p, line);
		}
	}
	if (!found)
		rc = error_set(err, -ENOENT, "no profile \"%.100s\"", profile);
	else if (p.access_key || p.secret)
		rc = s3_keys_set(out, p.access_key, p.secret, p.token, err);
	else if (!p.process)
		rc = error_set(err, -ENOENT, "profile \"%.100s\" has no aws_access_key_id",
			       profile);
	else if (!(*out_process = strdup(p.process)))
		rc = error_set_errno(err, -ENOMEM, "credentials file");
	if (rc < 0 && rc != -ENOENT && rc != -ENOMEM)
		error_prefix(err, rc, "profile \"%.100s\"", profile);
	explicit_bzero(copy, strlen(text));
	free(copy);
	return rc;
}

/* --- JSON --- */

/* "2026-01-02T03:04:05Z", or with "+00:00". 0: no time. */
static int64_t parse_expiry(const char *s)
{
	struct tm tm = { 0 };
	const char *rest = s ? strptime(s, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;

	if (!rest)
		return 0;
	if (*rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	return strcmp(rest, "Z") == 0 || strcmp(rest, "+00:00") == 0 ? timegm(&tm) : 0;
}

int s3_cred_parse_json(const char *text, size_t len, struct s3_keys *out, struct error *err)
{
	json_t *o = len <= S3_CRED_TEXT_MAX ? json_loadb(text, len, 0, NULL) : NULL;
	const char *access_key = json_string_value(json_object_get(o, "AccessKeyId"));
	const char *secret = json_string_value(json_object_get(o, "SecretAccessKey"));
	const char *token = json_string_value(json_object_get(o, "SessionToken"));
	const char *expires = json_string_value(json_object_get(o, "Expiration"));
	const json_t *version = json_object_get(o, "Version");
	int rc;

	if (!token)
		token = json_string_value(json_object_get(o, "Token"));
	if (!o)
		rc = error_set(err, -EBADMSG, "no JSON");
	else if (version && json_integer_value(version) != 1)
		rc = error_set(err, -EBADMSG, "the JSON's Version is not 1");
	else if (!access_key || !secret)
		rc = error_set(err, -EBADMSG, "the JSON has no AccessKeyId and SecretAccessKey");
	else
		rc = s3_keys_set(out, access_key, secret, token, err);
	if (rc == 0 && expires) {
		out->expires = parse_expiry(expires);
		if (!out->expires) {
			s3_keys_fini(out);
			rc = error_set(err, -EBADMSG, "the JSON's Expiration is no time");
		}
	}
	json_decref(o);
	return rc;
}
