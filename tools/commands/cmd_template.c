/*
 * cmd_template.c - template list, show, build: base images from recipes.
 *
 * A build has two parts. The base system comes from mmdebstrap and is kept as a
 * snapshot whose name ends with a digest of what mmdebstrap was told: where that
 * is there already, this part is skipped. It expires when it has not been used for
 * BASE_TTL. The recipe's steps are then an ordinary image build upon it. What
 * replaces a snapshot is built under another name and takes over the name at the
 * end, so that a failure leaves the old one.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/names/snapshot.h"
#include "tools/commands/bootstrap.h"
#include "tools/commands/commands.h"
#include "tools/commands/image_build.h"
#include "tools/commands/recipe.h"
#include "tools/cli/snapshots_view.h"
#include "tools/cli/table.h"

#define BASE_TTL (30 * 24 * 3600)

const struct option_spec options_template[] = {
	{ 0, "templates", "DIR", "look for recipes here (default $VARVE_TEMPLATES)" },
	{ 0, "name", "SNAPSHOT", "build: name it this (default: as the template)" },
	{ 'f', "force", NULL, "build: even what is there already, and replace it" },
	{ 0, "mirror", "URL",
	  "build: packages from here, or a line as in sources.list; repeatable" },
	{ 0, "suite", "SUITE", "build: another release than the recipe's" },
	{ 0, "keyring", "FILE", "build: keys that sign the packages" },
	{ 'q', "quiet", NULL, "build: no log of the steps" },
	{ 0 },
};

/* ---- list and show ---- */

static int list_recipes(const struct cli *cli, const char *dir, struct error *err)
{
	CLEANUP(table_free_p) struct table *t = table_new("NAME|SUITE|>STEPS|DESCRIPTION");
	json_t *array = json_array();
	char **names = NULL;
	int r = t && array ? recipe_names(dir, &names, err) : -ENOMEM;

	for (size_t i = 0; r == 0 && names[i]; i++) {
		struct recipe rec;
		r = recipe_load(dir, names[i], &rec, err);
		if (r < 0)
			break;
		table_name(t, rec.name, strlen(rec.name));
		table_cell(t, "%s", rec.suite);
		table_cell(t, "%zu", json_array_size(rec.steps));
		table_name(t, rec.description, strlen(rec.description));
		if (json_array_append_new(array, json_pack("{s:s, s:s, s:I, s:s, s:s}", "name",
							   rec.name, "suite", rec.suite, "steps",
							   (json_int_t)json_array_size(rec.steps),
							   "description", rec.description, "path",
							   rec.path)))
			r = -ENOMEM;
		recipe_fini(&rec);
	}
	if (r == 0 && cli->json)
		r = cli_print_json(array);
	else if (r == 0 && table_rows(t) == 0)
		cli_tell("no recipes of templates in %s", dir);
	else if (r == 0)
		r = table_print(t, stdout, cli_width());
	recipe_names_free(names);
	json_decref(array);
	return r;
}

/* Text of a recipe, on lines of its own; a failure to write shows at the end. */
PRINTF_LIKE(1, 2) static void line(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n >= 0 && cli_print_name(text, (size_t)n) == 0)
		putchar('\n');
	if (n >= 0)
		free(text);
}

static void print_words(const char *label, const json_t *list)
{
	const json_t *v;
	size_t i;

	if (json_array_size(list) == 0)
		return;
	printf("  %-11s", label);
	json_array_foreach(list, i, v) {
		putchar(' ');
		if (cli_print_name(json_string_value(v), json_string_length(v)) < 0)
			break;
	}
	putchar('\n');
}

/* What a step does, in a few words or lines. */
static void print_step(size_t number, const json_t *step)
{
	const json_t *args = json_object_get(step, "args"), *v, *list;
	const char *key;
	size_t i;

	line("%zu. %s", number, cli_str(step, "type"));
	list = json_object_get(args, "packages");
	print_words("packages", list);
	json_array_foreach(json_object_get(args, "commands"), i, v)
		line("  $ %s", json_string_value(v) ? json_string_value(v) : "?");
	list = json_object_get(args, "vars");
	json_object_foreach((json_t *)(uintptr_t)list, key, v)
		line("  %s=%s", key, json_string_value(v) ? json_string_value(v) : "?");
	if (*cli_str(args, "path"))
		line("  %s", cli_str(args, "path"));
}

static int show_recipe(const struct cli *cli, const struct recipe *r)
{
	const json_t *step;
	size_t i;

	if (cli->json)
		return cli_print_json(r->json);
	line("%s: %s", r->name, r->description);
	line("(%s)", r->path);
	printf("\nbootstrap\n");
	line("  %-11s %s", "suite", r->suite);
	line("  %-11s %s", "variant", r->variant);
	print_words("components", r->components);
	print_words("packages", r->packages);
	if (*r->keyring)
		line("  %-11s %s", "keyring", r->keyring);
	json_array_foreach(r->steps, i, step)
		print_step(i + 1, step);
	return 0;
}

/* ---- build ---- */

struct template_build {
	struct cli *cli;
	const struct args *args;
	const struct recipe *recipe;
	struct recipe_options options;
	bool force;
	char target[SNAPSHOT_NAME_MAX + 1];
	char base[SNAPSHOT_NAME_MAX + 1];
	char temporary[SNAPSHOT_NAME_MAX + 1];
};

PRINTF_LIKE(3, 4)
static int set_name(char out[SNAPSHOT_NAME_MAX + 1], struct error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(out, SNAPSHOT_NAME_MAX + 1, fmt, ap);
	va_end(ap);
	if (n > SNAPSHOT_NAME_MAX)
		return error_set(err, -ENAMETOOLONG, "the template's name is too long");
	return snapshot_name_check(out, err);
}

PRINTF_LIKE(1, 2) static void say(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) >= 0) {
		cli_tell("==> %s", text);
		free(text);
	}
	va_end(ap);
}

static int find_snapshot(struct cli *cli, const char *name, json_t **out, struct error *err)
{
	struct error e = ERROR_INIT;
	int r = cli_snapshot(cli, name, out, &e);

	if (r == -ENOENT) {
		*out = NULL;
		return 0;
	}
	return r < 0 ? error_set(err, r, "%s", error_text(&e)) : 0;
}

static int rename_over(struct cli *cli, const char *from, const char *to, json_t **out,
		       struct error *err)
{
	json_t *body = json_pack("{s:s, s:b}", "name", to, "replace", 1);
	int r = body ? cli_call(cli, "PATCH", "/api/snapshots/%s", from, body, out, err) : -ENOMEM;

	json_decref(body);
	return r;
}

/* The base system as the snapshot t->base. */
static int make_base(struct template_build *t, struct error *err)
{
	json_t *old = NULL, *body = json_pack("{s:b, s:i}", "pinned", 0, "ttl", BASE_TTL);
	const char *name = t->base;
	int r = body ? find_snapshot(t->cli, t->base, &old, err) : -ENOMEM;
	bool ready = strcmp(cli_str(old, "status"), "ready") == 0;

	if (r == 0 && ready && !t->force) {
		say("bootstrap: %s is there already", t->base);
	} else if (r == 0) {
		say("bootstrap: %s, as snapshot %s",
		    t->options.suite ? t->options.suite : t->recipe->suite, t->base);
		if (old)
			r = set_name(t->temporary, err, "%s.%d", t->base, (int)getpid());
		if (r == 0 && old)
			name = t->temporary;
		if (r == 0)
			r = bootstrap_import(t->cli, t->recipe, &t->options, name, err);
		if (r == 0 && old)
			r = rename_over(t->cli, name, t->base, NULL, err);
		if (r == 0)
			r = cli_call(t->cli, "PATCH", "/api/snapshots/%s", t->base, body, NULL,
				     err);
	}
	json_decref(body);
	json_decref(old);
	return r;
}

/* 1: what is asked for is there. */
static int check_target(struct template_build *t, const json_t *old, const json_t *manifest,
			struct error *err)
{
	if (!old || t->force)
		return 0;
	if (strcmp(cli_str(old, "status"), "building") == 0)
		return error_set(err, -EBUSY, "snapshot %s is being built already", t->target);
	if (strcmp(cli_str(old, "status"), "failed") == 0)
		return 0;
	if (json_equal(json_object_get(old, "manifest"), manifest))
		return 1;
	return error_set(err, -EEXIST,
			 "a snapshot named %s exists, made otherwise; --force replaces it",
			 t->target);
}

static int make_image(struct template_build *t, const json_t *manifest, bool replace, json_t **out,
		      struct error *err)
{
	const char *name = t->target;
	struct error ignored = ERROR_INIT;
	int r = 0;

	if (replace) {
		r = set_name(t->temporary, err, "%s.new-%d", t->target, (int)getpid());
		name = t->temporary;
	}
	json_t *body = json_pack("{s:s, s:O}", "name", name, "image", manifest);
	if (r == 0 && !body)
		r = -ENOMEM;
	if (r == 0) {
		struct image_build b = { .path = "/api/snapshots",
					 .body = body,
					 .force = t->force,
					 .quiet = args_has(t->args, "quiet") };
		r = image_build(t->cli, &b, out, err);
		if (r < 0 && replace) /* its failed record */
			(void)!cli_call(t->cli, "DELETE", "/api/snapshots/%s", name, NULL, NULL,
					&ignored);
	}
	if (r == 0 && replace) {
		json_decref(*out);
		*out = NULL;
		r = rename_over(t->cli, name, t->target, out, err);
	}
	json_decref(body);
	return r;
}

static int build_template(struct template_build *t, struct error *err)
{
	json_t *old = NULL, *made = NULL, *manifest = NULL;
	char key[RECIPE_KEY_SIZE];
	const char *name = args_get(t->args, "name");
	int r = set_name(t->target, err, "%s", name ? name : t->recipe->name);

	if (r == 0)
		r = recipe_key(t->recipe, &t->options, key);
	if (r == 0)
		r = set_name(t->base, err, "template-%s-bootstrap-%s", t->recipe->name, key);
	if (r == 0 && !(manifest = recipe_manifest(t->recipe, t->base)))
		r = -ENOMEM;
	if (r == 0)
		r = find_snapshot(t->cli, t->target, &old, err);
	if (r == 0)
		r = check_target(t, old, manifest, err);
	if (r == 1) {
		say("%s is there already, made from this recipe", t->target);
		made = json_incref(old);
		r = 0;
	} else if (r == 0) {
		bool replace = old && strcmp(cli_str(old, "status"), "failed") != 0;
		r = make_base(t, err);
		if (r == 0)
			r = make_image(t, manifest, replace, &made, err);
	}
	if (r == 0)
		r = snapshot_print_new(t->cli, made);
	json_decref(manifest);
	json_decref(made);
	json_decref(old);
	return r;
}

/* The values of every --mirror. */
static void mirrors_of(const struct args *args, const char *out[ARGS_OPTIONS_MAX + 1])
{
	size_t n = 0;

	for (int i = 0; i < args->option_count; i++)
		if (strcmp(args->options[i].spec->name, "mirror") == 0)
			out[n++] = args->options[i].value;
	out[n] = NULL;
}

static int run_build(struct cli *cli, const struct args *args, const struct recipe *r,
		     struct error *err)
{
	const char *mirrors[ARGS_OPTIONS_MAX + 1];
	struct template_build t = { .cli = cli,
				    .args = args,
				    .recipe = r,
				    .force = args_has(args, "force"),
				    .options = { .suite = args_get(args, "suite"),
						 .keyring = args_get(args, "keyring"),
						 .mirrors = mirrors } };

	mirrors_of(args, mirrors);
	if (t.options.suite && (t.options.suite[0] == '-' || strpbrk(t.options.suite, " \t\n,/")))
		return cli_usage(err, "'%s' is no suite", t.options.suite);
	if (t.options.keyring && access(t.options.keyring, R_OK) < 0)
		return error_set_errno(err, -errno, "%s", t.options.keyring);
	return build_template(&t, err);
}

int cmd_template(struct cli *cli, const struct args *args, struct error *err)
{
	const char *what = args->words[0], *name = args->words[1];
	struct recipe rec;
	char *dir = NULL;
	int r;

	if (!args_is_choice("list|show|build", what))
		return cli_usage(err, "lists, shows or builds, not '%s'", what);
	if ((strcmp(what, "list") == 0) != (name == NULL))
		return cli_usage(err, name ? "list takes no name" : "%s needs a template's name",
				 what);
	r = recipe_dir(args_get(args, "templates"), &dir, err);
	if (r == 0 && !name) {
		r = list_recipes(cli, dir, err);
	} else if (r == 0) {
		r = recipe_load(dir, name, &rec, err);
		if (r == 0) {
			r = strcmp(what, "show") == 0 ? show_recipe(cli, &rec)
						      : run_build(cli, args, &rec, err);
			recipe_fini(&rec);
		}
	}
	free(dir);
	return r;
}
