#include "tools/cli/each.h"

#include <errno.h>
#include <string.h>

/* "word" or 'word': without quotes it may be part of another. */
static bool names(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = text; (at = strpbrk(at, "\"'")); at++)
		if (strncmp(at + 1, word, len) == 0 && at[1 + len] == *at)
			return true;
	return false;
}

/* A reason that does not name the word is told with it. */
static void tell_failure(const struct each *e, const char *word, const struct error *why)
{
	bool named = names(error_text(why), word) || why->code == -ECONNREFUSED;

	cli_tell("varve: %s: %s%s%s", e->command, named ? "" : word, named ? "" : ": ",
		 error_text(why));
}

static int run_all(struct cli *cli, char *const *words, const struct each *e, json_t *given,
		   struct error *err)
{
	const bool many = words[0] && words[1];
	int result = 0;

	for (; *words; words++) {
		struct error why = ERROR_INIT;
		json_t *o = NULL;
		int r = e->one(cli, *words, e->arg, &o, many ? &why : err);

		if (r == 0 && o && json_array_append(given, o))
			r = -ENOMEM;
		json_decref(o);
		if (r != 0 && !many)
			return r;
		if (r != 0) {
			why.code = why.code ? why.code : r;
			tell_failure(e, *words, &why);
			result = CLI_FAILED;
		}
		if (r == -ECONNREFUSED)
			break;
	}
	return result;
}

int each_run(struct cli *cli, char *const *words, const struct each *e, struct error *err)
{
	const bool list = e->list || (words[0] && words[1]);
	json_t *given = json_array();
	int r = given ? run_all(cli, words, e, given, err) : -ENOMEM, printed = 0;

	if (cli->json && json_array_size(given) > 0)
		printed = cli_print_json(list ? given : json_array_get(given, 0));
	json_decref(given);
	return r ? r : printed;
}
