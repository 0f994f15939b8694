/*
 * args.h - command-line arguments against a table of options. The tables also
 * feed --help and completion, so that the three cannot disagree.
 */
#ifndef VARVE_TOOLS_ARGS_H
#define VARVE_TOOLS_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "store/base/error.h"
#include "store/base/macros.h"

/* A table ends with an entry without a name. */
struct option_spec {
	char letter;	   /* 0: none */
	const char *name;  /* without "--" */
	const char *value; /* placeholder of its value ("DIR"), or "a|b" choices; NULL: a flag */
	const char *help;  /* NULL: not listed */
};

#define ARGS_OPTIONS_MAX 32

struct args {
	struct {
		const struct option_spec *spec;
		const char *value;
	} options[ARGS_OPTIONS_MAX]; /* in the order given */
	int option_count;
	char **words; /* what is no option; points into the argv, NULL-terminated */
	int count;
};

/*
 * Sort argv[0..argc) into options and words; argv is permuted, words last.
 * Both tables are looked up, `second` may be NULL. stop_at_word: the first
 * word and all behind it are words. -EINVAL with what is wrong.
 */
MUST_CHECK int args_parse(const struct option_spec *first, const struct option_spec *second,
			  bool stop_at_word, int argc, char **argv, struct args *out,
			  struct error *err);

bool args_has(const struct args *a, const char *name);
/* The last value given, or NULL. */
const char *args_get(const struct args *a, const char *name);

/* Is `word` one of the choices "a|b|c"? */
bool args_is_choice(const char *choices, const char *word);

/* One line an option, for --help. */
void args_print_options(FILE *f, const struct option_spec *table);

#endif
