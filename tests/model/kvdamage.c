/*
 * kvdamage - damage a store that no daemon has open, to test what that leads to.
 *
 *   kvdamage STORE list chunk|node
 *       digests, one a line, with the size stored
 *   kvdamage STORE delete chunk|node DIGEST
 *   kvdamage STORE flip chunk|node DIGEST
 *       invert a byte in the middle of the value
 *   kvdamage STORE swap chunk|node DIGEST DIGEST2
 *       give DIGEST the value of DIGEST2: well-formed, but not what it should be
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/hash.h"
#include "store/kv/kv.h"
#include "store/store.h"

static int list(struct kv *kv, enum kv_family f)
{
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new(kv, f);
	char hex[DIGEST_HEX_SIZE];
	size_t len;

	if (!it)
		return -ENOMEM;
	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it)) {
		const uint8_t *key = kv_iter_key(it, &len);
		struct digest d;
		if (len != DIGEST_SIZE)
			continue;
		memcpy(d.b, key, DIGEST_SIZE);
		digest_to_hex(&d, hex);
		kv_iter_value(it, &len);
		printf("%s %zu\n", hex, len);
	}
	return kv_iter_status(it);
}

/* Write what the command says; flushed, so that a reader of the files sees it. */
static int damage(struct kv *kv, enum kv_family f, const char *command, const struct digest *d,
		  const struct digest *other)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	struct kv_value v = { 0 };
	int rc = b ? kv_get(kv, f, strcmp(command, "swap") ? d->b : other->b, DIGEST_SIZE, &v)
		   : -ENOMEM;

	if (rc)
		return rc;
	uint8_t *copy = malloc(v.len + 1);
	if (!copy) {
		kv_value_release(&v);
		return -ENOMEM;
	}
	memcpy(copy, v.data, v.len);
	if (!strcmp(command, "flip") && v.len)
		copy[v.len / 2] ^= 0xff;
	if (!strcmp(command, "delete"))
		kv_batch_del(kv, b, f, d->b, DIGEST_SIZE);
	else
		kv_batch_put(kv, b, f, d->b, DIGEST_SIZE, copy, v.len);
	kv_value_release(&v);
	free(copy);
	rc = kv_write(kv, b, KV_SYNC);
	return rc ? rc : kv_flush_content(kv);
}

static int run(struct store *s, int argc, char **argv)
{
	struct digest d, other;
	enum kv_family f;

	if (!strcmp(argv[3], "chunk"))
		f = KV_CHUNK;
	else if (!strcmp(argv[3], "node"))
		f = KV_NODE;
	else
		return -EINVAL;
	if (!strcmp(argv[2], "list"))
		return list(s->kv, f);
	if (argc < 5 || digest_from_hex(argv[4], &d))
		return -EINVAL;
	other = d;
	if (!strcmp(argv[2], "swap") && (argc < 6 || digest_from_hex(argv[5], &other)))
		return -EINVAL;
	if (strcmp(argv[2], "swap") && strcmp(argv[2], "flip") && strcmp(argv[2], "delete"))
		return -EINVAL;
	return damage(s->kv, f, argv[2], &d, &other);
}

int main(int argc, char **argv)
{
	struct store_options opt = { 0 };
	struct error err = ERROR_INIT;
	CLEANUP(store_close_p) struct store *s = NULL;

	if (argc < 4) {
		fprintf(stderr, "usage: kvdamage STORE list|delete|flip|swap chunk|node "
				"[DIGEST [DIGEST2]]\n");
		return 2;
	}
	if (store_open(argv[1], &opt, &s, &err)) {
		fprintf(stderr, "kvdamage: %s\n", error_text(&err));
		return 1;
	}
	int rc = run(s, argc, argv);
	if (rc)
		fprintf(stderr, "kvdamage: %s\n", strerror(-rc));
	return rc ? 1 : 0;
}
