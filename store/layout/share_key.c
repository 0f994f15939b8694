#include "store/layout/share_key.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* ---- ids ---- */

int share_id_random(struct share_id *out)
{
	struct share_id id;
	do {
		ssize_t n = getrandom(id.b, sizeof(id.b), 0);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n != (ssize_t)sizeof(id.b))
			memset(&id, 0, sizeof(id)); /* interrupted: again */
	} while (share_id_is_none(&id));
	*out = id;
	return 0;
}

bool share_id_is_none(const struct share_id *id)
{
	static const struct share_id none;
	return share_id_equal(id, &none);
}

static void put_hex(const uint8_t *b, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[b[i] >> 4];
		out[2 * i + 1] = digits[b[i] & 15];
	}
	out[2 * n] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n bytes from the first 2n characters, which may end early. */
static bool get_hex(const char *s, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(s[2 * i]);
		int low = high < 0 ? -1 : hex_digit(s[2 * i + 1]);
		if (low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

void share_id_text(const struct share_id *id, char out[SHARE_ID_SIZE])
{
	put_hex(id->b, sizeof(id->b), out);
}

int share_id_parse(const char *s, struct share_id *out)
{
	struct share_id id;
	if (!get_hex(s, id.b, sizeof(id.b)) || s[SHARE_ID_SIZE - 1] || share_id_is_none(&id))
		return -EINVAL;
	*out = id;
	return 0;
}

int pack_id_cmp(const struct pack_id *a, const struct pack_id *b)
{
	int c = share_id_cmp(&a->push, &b->push);
	return c ? c : (a->number > b->number) - (a->number < b->number);
}

void pack_id_text(const struct pack_id *p, char out[PACK_ID_SIZE])
{
	share_id_text(&p->push, out);
	snprintf(out + SHARE_ID_SIZE - 1, PACK_ID_SIZE - SHARE_ID_SIZE + 1, "-%" PRIu32,
		 p->number & PACK_NUMBER_MAX);
}

/* Decimal without leading zeros, to the text's end. */
static bool get_number(const char *s, uint32_t *out)
{
	uint32_t n = 0;
	size_t i = 0;
	for (; s[i] >= '0' && s[i] <= '9' && n <= PACK_NUMBER_MAX; i++)
		n = 10 * n + (uint32_t)(s[i] - '0');
	if (i == 0 || s[i] || (s[0] == '0' && i > 1) || n > PACK_NUMBER_MAX)
		return false;
	*out = n;
	return true;
}

int pack_id_parse(const char *s, struct pack_id *out)
{
	struct pack_id p = { .number = 0 };
	if (!get_hex(s, p.push.b, sizeof(p.push.b)) || s[SHARE_ID_SIZE - 1] != '-' ||
	    share_id_is_none(&p.push) || !get_number(s + SHARE_ID_SIZE, &p.number))
		return -EINVAL;
	*out = p;
	return 0;
}

/* ---- names ---- */

int share_name_encode(const char *name, char out[SHARE_NAME_SIZE])
{
	if (snapshot_name_check(name, NULL) != 0)
		return -EINVAL;
	for (; *name; name++) {
		char c = *name;
		if (c == '_' || (c >= 'A' && c <= 'Z'))
			*out++ = '_';
		*out++ = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
	}
	*out = '\0';
	return 0;
}

int share_name_decode(const char *text, char out[SNAPSHOT_NAME_MAX + 1])
{
	char name[SNAPSHOT_NAME_MAX + 1];
	size_t n = 0;
	for (; *text && n < SNAPSHOT_NAME_MAX; text++) {
		char c = *text;
		if (c >= 'A' && c <= 'Z')
			return -EINVAL;
		if (c == '_') {
			c = *++text;
			if (c != '_' && (c < 'a' || c > 'z'))
				return -EINVAL;
			c = c == '_' ? c : (char)(c - 'a' + 'A');
		}
		name[n++] = c;
	}
	name[n] = '\0';
	if (*text || snapshot_name_check(name, NULL) != 0)
		return -EINVAL;
	memcpy(out, name, n + 1);
	return 0;
}

/* ---- keys ---- */

/* What follows a kind's prefix, and then its suffix. */
enum body { BODY_NONE, BODY_ID, BODY_PACK, BODY_NAME, BODY_DIGEST, BODY_HOOK };

static const struct shape {
	const char *prefix;
	enum body body;
	bool has_generation;
	const char *suffix;
} shapes[] = {
	[SHARE_KEY_FORMAT] = { "format", BODY_NONE, false, "" },
	[SHARE_KEY_PACK] = { "pack/", BODY_PACK, false, "" },
	[SHARE_KEY_PUSH] = { "push/", BODY_ID, false, "" },
	[SHARE_KEY_SNAP] = { "snap/", BODY_ID, false, "" },
	[SHARE_KEY_HOT] = { "hot/", BODY_ID, false, "" },
	[SHARE_KEY_NAME] = { "name/", BODY_NAME, true, "" },
	[SHARE_KEY_NAME_HINT] = { "name/", BODY_NAME, false, "/hint" },
	[SHARE_KEY_IMAGE] = { "image/", BODY_DIGEST, true, "" },
	[SHARE_KEY_BUILD] = { "build/", BODY_DIGEST, true, "" },
	[SHARE_KEY_GC] = { "gc/", BODY_NONE, true, "" },
	[SHARE_KEY_GC_DONE] = { "gc/", BODY_NONE, true, ".done" },
	[SHARE_KEY_MOVED] = { "moved/", BODY_PACK, false, "" },
	[SHARE_KEY_META] = { "meta/", BODY_PACK, false, "" },
	[SHARE_KEY_NODE] = { "node/", BODY_ID, false, "" },
	[SHARE_KEY_HOOK] = { "hook/", BODY_HOOK, false, "" },
	[SHARE_KEY_GONE] = { "gone/", BODY_ID, false, "" },
};

/* What comes between the prefix and the generation or suffix; fits SHARE_KEY_SIZE by far. */
#define BODY_SIZE (SHARE_NAME_SIZE + SHARE_ID_SIZE)
static int body_text(const struct share_key *k, char out[BODY_SIZE])
{
	out[0] = '\0';
	switch (shapes[k->kind].body) {
	case BODY_NONE:
		return 0;
	case BODY_ID:
		share_id_text(&k->id, out);
		return share_id_is_none(&k->id) ? -EINVAL : 0;
	case BODY_PACK:
		pack_id_text(&k->pack, out);
		if (k->kind == SHARE_KEY_PACK) { /* PP/ before it */
			memmove(out + 3, out, strlen(out) + 1);
			out[2] = '/';
			memcpy(out, out + 3, 2);
		}
		return share_id_is_none(&k->pack.push) || k->pack.number > PACK_NUMBER_MAX ? -EINVAL
											   : 0;
	case BODY_NAME:
		return share_name_encode(k->name, out);
	case BODY_DIGEST:
		digest_to_hex(&k->digest, out);
		return 0;
	case BODY_HOOK:
		put_hex(k->digest.b, SHARE_HOOK_BYTES, out);
		out[2 * SHARE_HOOK_BYTES] = '/';
		share_id_text(&k->id, out + 2 * SHARE_HOOK_BYTES + 1);
		return share_id_is_none(&k->id) ? -EINVAL : 0;
	}
	return -EINVAL;
}

static bool has_body(const struct shape *s)
{
	return s->body != BODY_NONE;
}

int share_key_text(const struct share_key *k, char out[SHARE_KEY_SIZE])
{
	char body[BODY_SIZE], generation[18] = "";
	if ((unsigned)k->kind >= ARRAY_SIZE(shapes))
		return -EINVAL;
	const struct shape *s = &shapes[k->kind];
	int r = body_text(k, body);
	if (r != 0)
		return r;
	if (s->has_generation) {
		if (k->generation == 0 || k->generation > SHARE_GENERATION_MAX)
			return -EINVAL;
		snprintf(generation, sizeof(generation), "%s%016" PRIx64, has_body(s) ? "/" : "",
			 UINT64_MAX - k->generation);
	}
	int n = snprintf(out, SHARE_KEY_SIZE, "%s%s%s%s", s->prefix, body, generation, s->suffix);
	return n > 0 && n < (int)SHARE_KEY_SIZE ? 0 : -EINVAL;
}

const char *share_key_kind_prefix(enum share_key_kind kind)
{
	return shapes[kind].prefix;
}

int share_key_prefix(const struct share_key *k, char out[SHARE_KEY_SIZE])
{
	char body[BODY_SIZE] = "";
	if ((unsigned)k->kind >= ARRAY_SIZE(shapes))
		return -EINVAL;
	enum body b = shapes[k->kind].body;
	if (b == BODY_HOOK) {
		put_hex(k->digest.b, SHARE_HOOK_BYTES, body);
	} else if (b == BODY_NAME || b == BODY_DIGEST) {
		int r = body_text(k, body);
		if (r != 0)
			return r;
	}
	snprintf(out, SHARE_KEY_SIZE, "%s%s%s", shapes[k->kind].prefix, body, body[0] ? "/" : "");
	return 0;
}

void share_key_pack(const struct pack_id *p, char out[SHARE_KEY_SIZE])
{
	char text[PACK_ID_SIZE];
	pack_id_text(p, text);
	snprintf(out, SHARE_KEY_SIZE, "pack/%.2s/%s", text, text);
}

void share_key_moved(const struct pack_id *p, char out[SHARE_KEY_SIZE])
{
	char text[PACK_ID_SIZE];
	pack_id_text(p, text);
	snprintf(out, SHARE_KEY_SIZE, "%s%s", shapes[SHARE_KEY_MOVED].prefix, text);
}

void share_key_meta(const struct pack_id *p, char out[SHARE_KEY_SIZE])
{
	char text[PACK_ID_SIZE];
	pack_id_text(p, text);
	snprintf(out, SHARE_KEY_SIZE, "%s%s", shapes[SHARE_KEY_META].prefix, text);
}

void share_key_of_id(enum share_key_kind kind, const struct share_id *id, char out[SHARE_KEY_SIZE])
{
	char text[SHARE_ID_SIZE];
	share_id_text(id, text);
	snprintf(out, SHARE_KEY_SIZE, "%s%s", shapes[kind].prefix, text);
}

/* ---- and back ---- */

static int parse_body(const char *body, struct share_key *k)
{
	switch (shapes[k->kind].body) {
	case BODY_NONE:
		return body[0] ? -EINVAL : 0;
	case BODY_ID:
		return share_id_parse(body, &k->id);
	case BODY_PACK:
		if (k->kind == SHARE_KEY_PACK) {
			if (strlen(body) < 3)
				return -EINVAL;
			body += 3; /* compared with the rest in the end */
		}
		return pack_id_parse(body, &k->pack);
	case BODY_NAME:
		return share_name_decode(body, k->name);
	case BODY_DIGEST:
		return digest_from_hex(body, &k->digest);
	case BODY_HOOK:
		if (!get_hex(body, k->digest.b, SHARE_HOOK_BYTES) ||
		    body[2 * SHARE_HOOK_BYTES] != '/')
			return -EINVAL;
		return share_id_parse(body + 2 * SHARE_HOOK_BYTES + 1, &k->id);
	}
	return -EINVAL;
}

/* The text as a key of this kind, leniently: share_key_parse compares what it finds. */
static int parse_as(enum share_key_kind kind, const char *text, struct share_key *k)
{
	const struct shape *s = &shapes[kind];
	size_t len = strlen(text), before = strlen(s->prefix), after = strlen(s->suffix);
	uint8_t generation[8];
	char body[SHARE_KEY_SIZE];

	after += s->has_generation ? 16 + (has_body(s) ? 1 : 0) : 0;
	if (len > OBJECT_KEY_MAX || len < before + after || strncmp(text, s->prefix, before) != 0)
		return -EINVAL;
	*k = (struct share_key){ .kind = kind };
	if (s->has_generation) {
		const char *at = text + len - strlen(s->suffix) - 16;
		if (!get_hex(at, generation, sizeof(generation)))
			return -EINVAL;
		for (size_t i = 0; i < sizeof(generation); i++)
			k->generation = k->generation << 8 | generation[i];
		k->generation = UINT64_MAX - k->generation;
	}
	len -= before + after;
	memcpy(body, text + before, len);
	body[len] = '\0';
	return parse_body(body, k);
}

int share_key_parse(const char *text, struct share_key *out)
{
	for (size_t kind = 0; kind < ARRAY_SIZE(shapes); kind++) {
		struct share_key k;
		char again[SHARE_KEY_SIZE];
		if (parse_as((enum share_key_kind)kind, text, &k) == 0 &&
		    share_key_text(&k, again) == 0 && strcmp(text, again) == 0) {
			*out = k;
			return 0;
		}
	}
	return -EINVAL;
}
