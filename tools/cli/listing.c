#include "tools/cli/listing.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "store/base/buf.h"

bool listing_fits(const char *text, const char *pattern)
{
	return fnmatch(pattern, text, 0) == 0;
}

const char *listing_id(const json_t *o)
{
	return cli_str(o, "id");
}

const char *listing_name(const json_t *o)
{
	return cli_str(o, "name");
}

static bool is_filter(const struct args *args, int i)
{
	return strcmp(args->options[i].spec->name, "filter") == 0;
}

/* The key that "KEY=VALUE" begins with, or NULL. */
static const struct listing_key *find_key(const struct listing *l, const char *filter)
{
	size_t len = strcspn(filter, "=");

	for (const struct listing_key *k = l->keys; k->key; k++) {
		size_t n = strlen(k->key);

		if (strncmp(filter, k->key, n) == 0 && (k->key[n - 1] == '.' ? n < len : n == len))
			return k;
	}
	return NULL;
}

static int unknown_key(const struct listing *l, const char *filter, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf known = BUF_INIT;

	for (const struct listing_key *k = l->keys; k->key; k++) {
		const char *between = k == l->keys ? "" : k[1].key ? ", " : " and ";

		if (buf_printf(&known, "%s%s%s", between, k->key,
			       k->key[strlen(k->key) - 1] == '.' ? "NAME" : "") < 0)
			return -ENOMEM;
	}
	if (!buf_cstr(&known))
		return -ENOMEM;
	return cli_usage(err, "there is no filter '%.*s': the keys are %s",
			 (int)MIN(strcspn(filter, "="), 50ul), filter, (const char *)known.data);
}

int listing_check(const struct cli *cli, const struct args *args, const struct listing *l,
		  struct error *err)
{
	if (cli->json && args_has(args, "quiet"))
		return cli_usage(err, "give --quiet or --json, not both");
	for (int i = 0; i < args->option_count; i++) {
		const char *filter = args->options[i].value;

		if (!is_filter(args, i))
			continue;
		if (!strchr(filter, '='))
			return cli_usage(err, "'%.100s' is no KEY=VALUE", filter);
		if (!find_key(l, filter))
			return unknown_key(l, filter, err);
	}
	return 0;
}

/* o's member with the name that `text` begins with, up to a '='. */
static const json_t *member_of(const json_t *o, const char *text)
{
	size_t len = strcspn(text, "=");
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o, name, v)
		if (strlen(name) == len && memcmp(name, text, len) == 0)
			return v;
	return NULL;
}

static bool fits(const json_t *o, const struct listing_key *k, const char *filter)
{
	const char *pattern = strchr(filter, '=') + 1;
	const json_t *v;

	if (k->fits)
		return k->fits(o, pattern);
	v = json_object_get(o, k->member);
	if (k->key[strlen(k->key) - 1] == '.')
		v = member_of(v, filter + strlen(k->key));
	if (json_is_boolean(v))
		return listing_fits(json_is_true(v) ? "yes" : "no", pattern);
	return listing_fits(json_is_string(v) ? json_string_value(v) : "", pattern);
}

/* Are these of one key? */
static bool same_key(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return n == strcspn(b, "=") && memcmp(a, b, n) == 0;
}

/* Whether one of the filters that have the key of number i fits. */
static bool one_fits(const struct args *args, const struct listing *l, int i, const json_t *o)
{
	const char *filter = args->options[i].value;
	const struct listing_key *k = find_key(l, filter);

	for (int n = 0; n < args->option_count; n++)
		if (is_filter(args, n) && same_key(filter, args->options[n].value) &&
		    fits(o, k, args->options[n].value))
			return true;
	return false;
}

static bool all_fit(const struct args *args, const struct listing *l, const json_t *o)
{
	for (int i = 0; i < args->option_count; i++)
		if (is_filter(args, i) && !one_fits(args, l, i, o))
			return false;
	return true;
}

static int print_labels(const struct listing *l, const json_t *list)
{
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o) {
		const char *label = l->label(o);
		int r = cli_print_name(label, strlen(label));

		if (r < 0)
			return r;
		if (putchar('\n') == EOF)
			return cli_write_failure();
	}
	return 0;
}

int listing_print(const struct cli *cli, const struct args *args, const struct listing *l,
		  const json_t *list)
{
	json_t *fitting = json_array(), *o;
	size_t i;
	int r = fitting ? 0 : -ENOMEM;

	json_array_foreach(list, i, o)
		if (r == 0 && all_fit(args, l, o) && json_array_append(fitting, o))
			r = -ENOMEM;
	if (r == 0)
		r = args_has(args, "quiet")
			    ? print_labels(l, fitting)
			    : cli_print_list(cli, fitting, l->columns, l->add_row,
					     json_array_size(list) ? "none that fits the filter"
								   : l->empty);
	json_decref(fitting);
	return r;
}
