/*
 * Manifests: any JSON is taken or refused with a reason. Of what is taken, the
 * canonical text is the same when it is read again, and so is the key; contents
 * decode and encode to themselves.
 */
#include "snapshotd/build/image_config.h"
#include "snapshotd/build/manifest.h"
#include "store/base/jcs.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static void check_content(const json_t *args)
{
	CLEANUP(buf_fini_p) struct buf bytes = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	const char *s = json_string_value(json_object_get(args, "content"));

	if (!s)
		return;
	MUST(base64_decode(s, &bytes) == 0);
	MUST((int64_t)bytes.len == base64_check(s, strlen(s)));
	MUST(base64_encode(bytes.data, bytes.len, &text) == 0);
	MUST(text.len == strlen(s) && memcmp(text.data, s, text.len) == 0);
	MUST(manifest_mode(args, 0644) <= 07777);
}

static void check_again(const struct manifest *m)
{
	CLEANUP(buf_fini_p) struct buf a = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct manifest again;

	MUST(jcs_dump(m->json, &a, NULL) == 0);
	json_t *j = json_loadb((const char *)a.data, a.len, JSON_REJECT_DUPLICATES, NULL);
	MUST(j);
	MUST(jcs_dump(j, &b, NULL) == 0);
	MUST(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
	MUST(manifest_parse(j, &again, NULL) == 0);
	MUST(strcmp(m->key, again.key) == 0);
	manifest_fini(&again);
	json_decref(j);
}

static void check_config(const json_t *j)
{
	struct image_config c, again;

	MUST(image_config_load(j, &c) == 0);
	json_t *merged = image_config_merge(NULL, &c);
	MUST(merged);
	MUST(image_config_load(merged, &again) == 0);
	MUST(c.n_env == again.n_env && strcmp(c.workdir, again.workdir) == 0);
	strv_free(image_config_environ(&c, j));
	json_decref(merged);
	image_config_fini(&c);
	image_config_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char key[DIGEST_HEX_SIZE] = "0";
	struct error err = ERROR_INIT;
	struct manifest m;
	json_t *j = json_loadb((const char *)data, size,
			       JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	if (!j)
		return 0;
	check_config(j);
	int r = manifest_parse(j, &m, &err);
	json_decref(j);
	MUST(r == 0 || (r == -EINVAL && err.msg[0]));
	if (r < 0)
		return 0;
	check_again(&m);
	for (size_t i = 0; i < m.n_steps; i++) {
		MUST(manifest_step_key(key, &m.steps[i], key) == 0);
		if (m.steps[i].type == STEP_ADD_FILE)
			check_content(m.steps[i].args);
	}
	manifest_fini(&m);
	return 0;
}
