/* cmd_cachekey.c - cachekey: the key that an image is cached by, without a daemon. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands/commands.h"
#include "tools/commands/image_build.h"

int cmd_cachekey(struct cli *cli, const struct args *args, struct error *err)
{
	char key[DIGEST_HEX_SIZE];
	json_t *manifest = NULL;
	int r = image_read(args->words[0], &manifest, err);

	if (r == 0)
		r = image_key(manifest, key, err);
	json_decref(manifest);
	if (r < 0)
		return r;
	if (!cli->json)
		return puts(key) == EOF ? cli_write_failure() : 0;
	json_t *o = json_pack("{s:s}", "key", key);
	r = o ? cli_print_json(o) : -ENOMEM;
	json_decref(o);
	return r;
}
