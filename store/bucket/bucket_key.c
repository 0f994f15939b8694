#include "store/bucket/bucket_key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/base64.h"
#include "store/base/hash.h"
#include "store/bucket/command.h"

#define TEXT_MAX 256u /* of a key, with white space */
#define SALT_SIZE 32u

static const char label[] = "varve bucket key 1"; /* with its NUL */

/* ---- the tenant's ---- */

/* Others' eyes have been, or may be, on it: then it is no secret. */
static int check_private(int fd, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set_errno(err, -errno, "stat");
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "it is not a regular file");
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return error_set(err, -EACCES, "it belongs to another user");
	if (st.st_mode & 077)
		return error_set(err, -EACCES,
				 "others than its owner have rights to it (mode %04o): chmod 600",
				 (unsigned)st.st_mode & 07777);
	return 0;
}

static int read_file(const char *path, struct buf *out, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int rc;

	if (fd < 0)
		return error_set_errno(err, -errno, "open");
	rc = check_private(fd, err);
	if (rc == 0)
		rc = buf_reserve(out, TEXT_MAX + 1);
	if (rc == 0) {
		ssize_t n = read(fd, out->data, TEXT_MAX + 1);
		if (n < 0)
			rc = error_set_errno(err, -errno, "read");
		else
			out->len = (size_t)n;
	}
	close(fd);
	return rc;
}

static void trim(struct buf *text)
{
	static const char white[] = " \t\r\n";
	size_t from = 0;

	while (text->len && strchr(white, text->data[text->len - 1]))
		text->len--;
	while (from < text->len && strchr(white, text->data[from]))
		from++;
	text->len -= from;
	if (from)
		memmove(text->data, text->data + from, text->len);
}

static int parse_hex(const struct buf *text, struct crypt_key *out)
{
	char hex[DIGEST_HEX_SIZE];
	struct digest d;
	int rc;

	memcpy(hex, text->data, DIGEST_HEX_SIZE - 1);
	hex[DIGEST_HEX_SIZE - 1] = '\0';
	for (char *c = hex; *c; c++)
		if (*c >= 'A' && *c <= 'F')
			*c += 'a' - 'A';
	rc = digest_from_hex(hex, &d);
	if (rc == 0)
		memcpy(out->b, d.b, sizeof(out->b));
	explicit_bzero(hex, sizeof(hex));
	explicit_bzero(&d, sizeof(d));
	return rc;
}

static int parse_base64(const struct buf *text, struct crypt_key *out)
{
	struct buf bytes = BUF_INIT;
	int rc = base64_decode_n((const char *)text->data, text->len, &bytes);

	if (rc == 0 && bytes.len != sizeof(out->b))
		rc = -EINVAL;
	if (rc == 0)
		memcpy(out->b, bytes.data, sizeof(out->b));
	command_wipe(&bytes);
	return rc;
}

static int parse_key(struct buf *text, struct crypt_key *out, struct error *err)
{
	int rc = -EINVAL;

	trim(text);
	if (text->len == 2 * CRYPT_KEY_SIZE)
		rc = parse_hex(text, out);
	else if (text->len == (CRYPT_KEY_SIZE + 2) / 3 * 4)
		rc = parse_base64(text, out);
	return rc == -EINVAL ? error_set(err, rc,
					 "not a key: 32 random bytes are needed, as 64 hex digits "
					 "(openssl rand -hex 32) or in base64")
			     : rc;
}

int tenant_key_load(const char *file, const char *command, const _Atomic bool *stop,
		    struct crypt_key *out, struct error *err)
{
	struct buf text = BUF_INIT;
	int rc = file ? read_file(file, &text, err)
		      : command_output(command, stop, TEXT_MAX, &text, err);

	if (rc == 0)
		rc = parse_key(&text, out, err);
	command_wipe(&text);
	if (rc < 0)
		return file ? error_prefix(err, rc, "key file %.200s", file)
			    : error_prefix(err, rc, "the key's command");
	return 0;
}

/* ---- the bucket's ---- */

/* The cipher that this one wrapping is sealed with. */
static int wrapper(const struct crypt_key *tenant, const char *about, const uint8_t *salt,
		   struct crypt_cipher **out)
{
	struct crypt_key CLEANUP(crypt_key_wipe_p) own = { { 0 } };
	struct buf CLEANUP(buf_fini_p) info = BUF_INIT;
	int rc = buf_append(&info, label, sizeof(label));

	if (rc == 0)
		rc = buf_append_str(&info, about);
	if (rc == 0)
		rc = crypt_derive(tenant, salt, SALT_SIZE, info.data, info.len, &own);
	if (rc < 0)
		return rc;
	*out = crypt_cipher_new(&own);
	return *out ? 0 : -ENOMEM;
}

static const uint8_t nonce[CRYPT_NONCE_SIZE]; /* its key is used once */

int bucket_key_wrap(const struct crypt_key *tenant, const char *about, const struct crypt_key *key,
		    uint8_t out[BUCKET_KEY_WRAPPED])
{
	CLEANUP(crypt_cipher_free_p) struct crypt_cipher *c = NULL;
	uint8_t *sealed = out + SALT_SIZE;
	int rc = crypt_random(out, SALT_SIZE);

	if (rc == 0)
		rc = wrapper(tenant, about, out, &c);
	if (rc == 0)
		rc = crypt_seal(c, nonce, key->b, sizeof(key->b), sealed, sealed + sizeof(key->b));
	return rc;
}

int bucket_key_unwrap(const struct crypt_key *tenant, const char *about,
		      const uint8_t wrapped[BUCKET_KEY_WRAPPED], struct crypt_key *out)
{
	CLEANUP(crypt_cipher_free_p) struct crypt_cipher *c = NULL;
	const uint8_t *sealed = wrapped + SALT_SIZE;
	int rc = wrapper(tenant, about, wrapped, &c);

	if (rc == 0)
		rc = crypt_open(c, nonce, sealed, sizeof(out->b), out->b, sealed + sizeof(out->b));
	if (rc < 0)
		crypt_key_wipe(out);
	return rc;
}
