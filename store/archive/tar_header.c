#include "store/archive/tar_header.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "store/base/wire.h"

#define OCTAL7_MAX 07777777u	    /* uid, gid, device numbers */
#define OCTAL11_MAX 077777777777ull /* size, mtime */

struct ustar {
	char name[100];
	char mode[8], uid[8], gid[8];
	char size[12], mtime[12];
	char checksum[8];
	char type;
	char link[100];
	char magic[6], version[2];
	char uname[32], gname[32];
	char major[8], minor[8];
	char prefix[155];
	char pad[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK, "a ustar header is one block");

static void octal(char *field, size_t size, uint64_t v)
{
	field[size - 1] = '\0';
	for (size_t i = size - 1; i > 0; i--, v >>= 3)
		field[i - 1] = (char)('0' + (v & 7));
}

static void set_checksum(struct ustar *h)
{
	const uint8_t *p = (const uint8_t *)h;
	unsigned sum = 0;

	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += p[i];
	octal(h->checksum, 7, sum);
}

static int put_ustar(struct buf *out, const struct tar_member *m, const char *name, size_t name_len,
		     char type)
{
	struct ustar h = { .type = type };
	bool time_fits = m->mtime.tv_sec >= 0 && (uint64_t)m->mtime.tv_sec <= OCTAL11_MAX;

	memcpy(h.name, name, MIN(name_len, sizeof(h.name)));
	if (m->link)
		memcpy(h.link, m->link, MIN(m->link_len, sizeof(h.link)));
	octal(h.mode, sizeof(h.mode), m->mode & 07777);
	octal(h.uid, sizeof(h.uid), m->uid <= OCTAL7_MAX ? m->uid : 0);
	octal(h.gid, sizeof(h.gid), m->gid <= OCTAL7_MAX ? m->gid : 0);
	octal(h.size, sizeof(h.size), m->size <= OCTAL11_MAX ? m->size : 0);
	octal(h.mtime, sizeof(h.mtime), time_fits ? (uint64_t)m->mtime.tv_sec : 0);
	memcpy(h.magic, "ustar", 6);
	memcpy(h.version, "00", 2);
	if (type == TAR_CHAR || type == TAR_BLOCK_DEVICE) {
		octal(h.major, sizeof(h.major), major(m->rdev));
		octal(h.minor, sizeof(h.minor), minor(m->rdev));
	}
	set_checksum(&h);
	return buf_append(out, &h, sizeof(h));
}

int tar_put_record(struct buf *out, const char *key, size_t key_len, const void *value,
		   size_t value_len)
{
	size_t body = key_len + value_len + 3; /* space, '=', newline */
	size_t len = body + 1, digits = 1;

	/* The length counts its own digits. */
	for (size_t limit = 10; len >= limit; limit *= 10)
		len = body + ++digits;
	int r = buf_printf(out, "%zu ", len);
	if (r == 0)
		r = buf_append(out, key, key_len);
	if (r == 0)
		r = buf_append(out, "=", 1);
	if (r == 0)
		r = buf_append(out, value, value_len);
	return r < 0 ? r : buf_append(out, "\n", 1);
}

static int record(struct buf *out, const char *key, const void *value, size_t len)
{
	return tar_put_record(out, key, strlen(key), value, len);
}

static int record_u64(struct buf *out, const char *key, uint64_t v)
{
	char text[32];

	return record(out, key, text, (size_t)snprintf(text, sizeof(text), "%" PRIu64, v));
}

/* Decimal seconds; -1.5 is (-2, 500000000). Zeros at the end are dropped. */
static int record_time(struct buf *out, const struct timespec *t)
{
	int64_t sec = t->tv_sec;
	long nsec = t->tv_nsec;
	bool negative = sec < 0;
	char text[64];

	if (negative && nsec > 0) {
		sec += 1;
		nsec = 1000000000 - nsec;
	}
	int n = snprintf(text, sizeof(text), "%s%" PRIu64, negative ? "-" : "",
			 negative ? -(uint64_t)sec : (uint64_t)sec);
	if (nsec) {
		n += snprintf(text + n, sizeof(text) - (size_t)n, ".%09ld", nsec);
		while (text[n - 1] == '0')
			n--;
	}
	return record(out, "mtime", text, (size_t)n);
}

static int sparse_records(struct buf *out, const struct tar_member *m)
{
	int r = record(out, "GNU.sparse.major", "1", 1);

	if (r == 0)
		r = record(out, "GNU.sparse.minor", "0", 1);
	if (r == 0)
		r = record(out, "GNU.sparse.name", m->path, m->path_len);
	return r < 0 ? r : record_u64(out, "GNU.sparse.realsize", m->real_size);
}

static int pax_records(struct buf *out, const struct tar_member *m)
{
	int r = 0;

	if (m->sparse)
		r = sparse_records(out, m);
	else if (m->path_len > sizeof(((struct ustar *)0)->name))
		r = record(out, "path", m->path, m->path_len);
	if (r == 0 && m->link && m->link_len > sizeof(((struct ustar *)0)->link))
		r = record(out, "linkpath", m->link, m->link_len);
	if (r == 0 && m->uid > OCTAL7_MAX)
		r = record_u64(out, "uid", m->uid);
	if (r == 0 && m->gid > OCTAL7_MAX)
		r = record_u64(out, "gid", m->gid);
	if (r == 0 && m->size > OCTAL11_MAX)
		r = record_u64(out, "size", m->size);
	if (r == 0 &&
	    (m->mtime.tv_nsec || m->mtime.tv_sec < 0 || (uint64_t)m->mtime.tv_sec > OCTAL11_MAX))
		r = record_time(out, &m->mtime);
	if (r == 0 && m->extra)
		r = buf_append(out, m->extra->data, m->extra->len);
	return r;
}

/* The last component, for header fields that only programs without pax read. */
static size_t base_name(const struct tar_member *m, const char **out)
{
	size_t len = m->path_len;

	while (len > 1 && m->path[len - 1] == '/')
		len--;
	const char *slash = memrchr(m->path, '/', len);
	*out = slash ? slash + 1 : m->path;
	return len - (size_t)(*out - m->path);
}

static int put_pax(struct buf *out, const struct tar_member *m, const struct buf *records)
{
	struct tar_member pax = { .mode = 0644, .size = records->len };
	const char *base;
	size_t len = base_name(m, &base);
	char name[100];
	int n = snprintf(name, sizeof(name), "PaxHeaders/%.*s", (int)MIN(len, (size_t)80), base);
	int r = put_ustar(out, &pax, name, (size_t)n, 'x');

	if (r == 0)
		r = buf_append(out, records->data, records->len);
	return r < 0 ? r : tar_put_padding(out, records->len);
}

int tar_put_header(struct buf *out, const struct tar_member *m)
{
	struct buf records CLEANUP(buf_fini_p) = BUF_INIT;
	const char *name = m->path;
	size_t len = m->path_len;
	char sparse[100];
	int r = pax_records(&records, m);

	if (r == 0 && records.len)
		r = put_pax(out, m, &records);
	if (r < 0)
		return r;
	if (m->sparse || len > sizeof(sparse))
		len = base_name(m, &name);
	if (m->sparse) {
		len = (size_t)snprintf(sparse, sizeof(sparse), "GNUSparseFile.0/%.*s",
				       (int)MIN(len, (size_t)80), name);
		name = sparse;
	}
	return put_ustar(out, m, name, len, (char)m->type);
}

int tar_put_padding(struct buf *out, uint64_t data_bytes)
{
	static const uint8_t zeros[TAR_BLOCK];
	size_t over = (size_t)(data_bytes % TAR_BLOCK);

	return over ? buf_append(out, zeros, TAR_BLOCK - over) : 0;
}

int tar_put_end(struct buf *out)
{
	static const uint8_t zeros[2 * TAR_BLOCK];

	return buf_append(out, zeros, sizeof(zeros));
}

int tar_acl_text(const void *value, size_t len, struct buf *out)
{
	struct wire_reader w;
	int r = 0;

	wire_reader_init(&w, value, len);
	if (wire_u32(&w) != 2 || len % 8 != 4)
		return -EBADMSG;
	for (bool first = true; r == 0 && wire_left(&w) > 0; first = false) {
		unsigned tag = wire_u16(&w), perm = wire_u16(&w);
		uint32_t id = wire_u32(&w);
		const char *kind = tag == 0x01 || tag == 0x02	? "user"
				   : tag == 0x04 || tag == 0x08 ? "group"
				   : tag == 0x10		? "mask"
				   : tag == 0x20		? "other"
								: NULL;
		char who[16] = "";

		if (!kind || perm > 7)
			return -EBADMSG;
		if (tag == 0x02 || tag == 0x08)
			snprintf(who, sizeof(who), "%" PRIu32, id);
		r = buf_printf(out, "%s%s:%s:%c%c%c", first ? "" : ",", kind, who,
			       perm & 4 ? 'r' : '-', perm & 2 ? 'w' : '-', perm & 1 ? 'x' : '-');
	}
	return r;
}
