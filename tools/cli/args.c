#include "tools/cli/args.h"

#include <errno.h>
#include <string.h>

static const struct option_spec *find_letter(const struct option_spec *table, char letter)
{
	for (; table && table->name; table++)
		if (table->letter == letter)
			return table;
	return NULL;
}

static const struct option_spec *find_name(const struct option_spec *table, const char *name,
					   size_t len)
{
	for (; table && table->name; table++)
		if (strlen(table->name) == len && memcmp(table->name, name, len) == 0)
			return table;
	return NULL;
}

bool args_is_choice(const char *choices, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = choices; p; p = strchr(p, '|')) {
		if (*p == '|')
			p++;
		size_t len = strcspn(p, "|");
		if (len == n && memcmp(p, word, n) == 0)
			return true;
	}
	return false;
}

static int add_option(struct args *a, const struct option_spec *spec, const char *value,
		      struct error *err)
{
	if (a->option_count == ARGS_OPTIONS_MAX)
		return error_set(err, -EINVAL, "too many options");
	if (value && strchr(spec->value, '|') && !args_is_choice(spec->value, value))
		return error_set(err, -EINVAL, "--%s is one of %s, not '%s'", spec->name,
				 spec->value, value);
	a->options[a->option_count].spec = spec;
	a->options[a->option_count++].value = value;
	return 0;
}

struct parse {
	const struct option_spec *first, *second;
	int argc, next;
	char **argv;
	struct args *out;
};

static int parse_long(struct parse *p, const char *word, struct error *err)
{
	size_t len = strcspn(word, "=");
	const char *value = word[len] ? word + len + 1 : NULL;
	const struct option_spec *spec = find_name(p->first, word, len);

	if (!spec)
		spec = find_name(p->second, word, len);
	if (!spec)
		return error_set(err, -EINVAL, "unknown option '--%.*s'", (int)len, word);
	if (!spec->value && value)
		return error_set(err, -EINVAL, "--%s takes no value", spec->name);
	if (spec->value && !value) {
		if (p->next == p->argc)
			return error_set(err, -EINVAL, "--%s needs a value (%s)", spec->name,
					 spec->value);
		value = p->argv[p->next++];
	}
	return add_option(p->out, spec, value, err);
}

static int parse_letters(struct parse *p, const char *word, struct error *err)
{
	for (; *word; word++) {
		const struct option_spec *spec = find_letter(p->first, *word);
		if (!spec)
			spec = find_letter(p->second, *word);
		if (!spec)
			return error_set(err, -EINVAL, "unknown option '-%c'", *word);
		if (!spec->value) {
			int r = add_option(p->out, spec, NULL, err);
			if (r < 0)
				return r;
			continue;
		}
		if (word[1])
			return add_option(p->out, spec, word + 1, err);
		if (p->next == p->argc)
			return error_set(err, -EINVAL, "-%c needs a value (%s)", *word,
					 spec->value);
		return add_option(p->out, spec, p->argv[p->next++], err);
	}
	return 0;
}

int args_parse(const struct option_spec *first, const struct option_spec *second, bool stop_at_word,
	       int argc, char **argv, struct args *out, struct error *err)
{
	struct parse p = { first, second, argc, 0, argv, out };
	int kept = 0; /* words so far, moved to the front */

	*out = (struct args){ .words = argv };
	while (p.next < argc) {
		char *word = argv[p.next++];
		int r = 0;
		if (word[0] != '-' || word[1] == '\0') {
			argv[kept++] = word;
			if (!stop_at_word)
				continue;
		} else if (strcmp(word, "--") != 0) {
			r = word[1] == '-' ? parse_long(&p, word + 2, err)
					   : parse_letters(&p, word + 1, err);
			if (r < 0)
				return r;
			continue;
		}
		while (p.next < argc)
			argv[kept++] = argv[p.next++];
	}
	argv[kept] = NULL; /* argv[argc] is NULL and may be written */
	out->count = kept;
	return 0;
}

bool args_has(const struct args *a, const char *name)
{
	for (int i = 0; i < a->option_count; i++)
		if (strcmp(a->options[i].spec->name, name) == 0)
			return true;
	return false;
}

const char *args_get(const struct args *a, const char *name)
{
	for (int i = a->option_count - 1; i >= 0; i--)
		if (strcmp(a->options[i].spec->name, name) == 0)
			return a->options[i].value;
	return NULL;
}

void args_print_options(FILE *f, const struct option_spec *table)
{
	for (; table && table->name; table++) {
		if (!table->help)
			continue;
		int n = table->letter ? fprintf(f, "  -%c, --%s", table->letter, table->name)
				      : fprintf(f, "      --%s", table->name);
		if (table->value)
			n += fprintf(f, " %s", table->value);
		if (n > 26)
			n = fprintf(f, "\n") - 1;
		fprintf(f, "%*s%s\n", 28 - n, "", table->help);
	}
}
