#include "tools/commands/recipe.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/buf.h"
#include "store/base/hash.h"

#define SUFFIX ".json"
#define RECIPE_MAX_BYTES (16u << 20)

/* A word that mmdebstrap takes as one: no option, no list, nothing to expand. */
static bool is_word(const json_t *v)
{
	const char *s = json_string_value(v);

	if (!s || !isalnum((unsigned char)*s) || strlen(s) != json_string_length(v))
		return false;
	return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-:~_/"
			   "=")] == '\0';
}

static int take_word(const json_t *o, const char *key, const char *def, const char **out,
		     struct error *err)
{
	const json_t *v = json_object_get(o, key);

	*out = v ? json_string_value(v) : def;
	if (!*out)
		return error_set(err, -EINVAL, "bootstrap needs a %s", key);
	return !v || is_word(v) ? 0 : error_set(err, -EINVAL, "bootstrap: %s is no word", key);
}

static int take_words(const json_t *o, const char *key, json_t **out, struct error *err)
{
	json_t *list = json_object_get(o, key), *v;
	size_t i;

	if (list && !json_is_array(list))
		return error_set(err, -EINVAL, "bootstrap: %s is no array", key);
	json_array_foreach(list, i, v)
		if (!is_word(v))
			return error_set(err, -EINVAL, "bootstrap: %s[%zu] is no word", key, i);
	*out = list;
	return 0;
}

/* Only these members may be there; NULL-terminated. */
static int check_members(json_t *o, const char *what, const char *const *known, struct error *err)
{
	const char *key;
	json_t *v;

	json_object_foreach(o, key, v) {
		size_t i = 0;
		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return error_set(err, -EINVAL, "%s has no member \"%.60s\"", what, key);
	}
	return 0;
}

static int parse_bootstrap(json_t *o, struct recipe *r, struct error *err)
{
	static const char *const known[] = { "suite",	"variant",	  "components", "packages",
					     "keyring", "keyringPackage", NULL };
	const json_t *keyring = json_object_get(o, "keyring");

	if (!json_is_object(o))
		return error_set(err, -EINVAL, "a recipe needs an object \"bootstrap\"");
	int rc = check_members(o, "bootstrap", known, err);
	if (rc == 0)
		rc = take_word(o, "suite", NULL, &r->suite, err);
	if (rc == 0)
		rc = take_word(o, "variant", "minbase", &r->variant, err);
	if (rc == 0)
		rc = take_word(o, "keyringPackage", "", &r->keyring_package, err);
	if (rc == 0)
		rc = take_words(o, "components", &r->components, err);
	if (rc == 0)
		rc = take_words(o, "packages", &r->packages, err);
	r->keyring = keyring ? json_string_value(keyring) : "";
	if (rc == 0 && (!r->keyring || (keyring && r->keyring[0] != '/')))
		rc = error_set(err, -EINVAL, "bootstrap: keyring is no absolute path");
	return rc;
}

int recipe_parse(const char *name, json_t *json, struct recipe *out, struct error *err)
{
	static const char *const known[] = { "description", "bootstrap", "steps", NULL };
	const json_t *text = json_object_get(json, "description");
	struct recipe r = { 0 };

	if (!json_is_object(json))
		return error_set(err, -EINVAL, "a recipe is an object");
	int rc = check_members(json, "a recipe", known, err);
	r.description = text ? json_string_value(text) : "";
	if (rc == 0 && !r.description)
		rc = error_set(err, -EINVAL, "description is no string");
	if (rc == 0)
		rc = parse_bootstrap(json_object_get(json, "bootstrap"), &r, err);
	r.steps = json_object_get(json, "steps");
	if (rc == 0 && !json_is_array(r.steps))
		rc = error_set(err, -EINVAL, "a recipe needs an array \"steps\"");
	if (rc == 0 && !(r.name = strdup(name)))
		rc = -ENOMEM;
	if (rc < 0)
		return rc;
	r.json = json_incref(json);
	*out = r;
	return 0;
}

void recipe_fini(struct recipe *r)
{
	json_decref(r->json);
	free(r->name);
	free(r->path);
	*r = (struct recipe){ 0 };
}

/* ---- finding them ---- */

int recipe_dir(const char *given, char **out, struct error *err)
{
	static const char *const beside[] = { "../share/varve/templates", "../../tools/templates" };
	const char *env = getenv("VARVE_TEMPLATES");
	char exe[PATH_MAX], path[PATH_MAX + 64];

	if (!given && env && *env)
		given = env;
	if (given) {
		*out = strdup(given);
		return *out ? 0 : -ENOMEM;
	}
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n < 0)
		return error_set_errno(err, -errno, "the program's own path");
	exe[n] = '\0';
	const char *dir = dirname(exe);
	for (size_t i = 0; i < ARRAY_SIZE(beside); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, beside[i]);
		*out = access(path, X_OK) == 0 ? realpath(path, NULL) : NULL;
		if (*out)
			return 0;
	}
	return error_set(err, -ENOENT,
			 "no templates are installed beside %s; name their directory "
			 "with --templates",
			 dir);
}

static bool is_file_name(const char *name)
{
	size_t n = strlen(name);

	return n > strlen(SUFFIX) && strcmp(name + n - strlen(SUFFIX), SUFFIX) == 0;
}

static int load_file(const char *path, json_t **out, struct error *err)
{
	json_error_t je;
	FILE *f = fopen(path, "re");

	if (!f)
		return error_set_errno(err, -errno, "%s", path);
	json_t *o = json_loadf(f, JSON_REJECT_DUPLICATES, &je);
	fclose(f);
	if (!o)
		return error_set(err, -EINVAL, "%s: line %d: %s", path, je.line, je.text);
	*out = o;
	return 0;
}

int recipe_load(const char *dir, const char *name, struct recipe *out, struct error *err)
{
	bool by_path = is_file_name(name);
	char *path = NULL, *base = NULL;
	json_t *json = NULL;
	int n, r = 0;

	if (!by_path && (strchr(name, '/') || name[0] == '.' || !*name))
		return error_set(err, -EINVAL, "\"%s\" is no template's name", name);
	n = by_path ? asprintf(&path, "%s", name) : asprintf(&path, "%s/%s" SUFFIX, dir, name);
	if (n < 0)
		return -ENOMEM;
	const char *slash = strrchr(path, '/');
	base = strdup(slash ? slash + 1 : path);
	if (base)
		base[strlen(base) - strlen(SUFFIX)] = '\0';
	else
		r = -ENOMEM;
	if (r == 0)
		r = load_file(path, &json, err);
	if (r == -ENOENT && !by_path)
		error_set(err, r,
			  "there is no template \"%s\" in %s; 'varve template list' has them", name,
			  dir);
	if (r == 0) {
		r = recipe_parse(base, json, out, err);
		if (r < 0)
			error_prefix(err, r, "%s", path);
		else
			out->path = STEAL(path);
	}
	json_decref(json);
	free(base);
	free(path);
	return r;
}

static int is_recipe(const struct dirent *e)
{
	return e->d_name[0] != '.' && is_file_name(e->d_name);
}

int recipe_names(const char *dir, char ***out, struct error *err)
{
	struct dirent **list = NULL;
	int n = scandir(dir, &list, is_recipe, alphasort), r = 0;

	if (n < 0)
		return error_set_errno(err, -errno, "%s", dir);
	char **names = calloc((size_t)n + 1, sizeof(*names));
	for (int i = 0; i < n; i++) {
		if (names)
			names[i] =
				strndup(list[i]->d_name, strlen(list[i]->d_name) - strlen(SUFFIX));
		if (!names || !names[i])
			r = -ENOMEM;
		free(list[i]);
	}
	free(list);
	if (r == 0 && names)
		*out = names;
	else
		recipe_names_free(names);
	return names ? r : -ENOMEM;
}

void recipe_names_free(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
}

/* ---- what is made of them ---- */

struct words {
	char **list;
	size_t n;
	int failed;
};

PRINTF_LIKE(2, 3) static void add_word(struct words *w, const char *fmt, ...)
{
	char **grown = realloc(w->list, (w->n + 2) * sizeof(*grown));
	va_list ap;

	if (!grown) {
		w->failed = -ENOMEM;
		return;
	}
	w->list = grown;
	va_start(ap, fmt);
	if (vasprintf(&grown[w->n], fmt, ap) < 0)
		w->failed = -ENOMEM;
	else
		w->n++;
	va_end(ap);
	grown[w->n] = NULL;
}

static void add_list(struct words *w, const char *option, const json_t *list)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	const json_t *v;
	size_t i;

	json_array_foreach(list, i, v)
		if (buf_printf(&b, "%s%s", i ? "," : "", json_string_value(v)) < 0)
			w->failed = -ENOMEM;
	if (b.len > 0 && buf_cstr(&b))
		add_word(w, "--%s=%s", option, (const char *)b.data);
}

static const char *keyring_of(const struct recipe *r, const struct recipe_options *o)
{
	if (o->keyring)
		return o->keyring;
	return *r->keyring && access(r->keyring, R_OK) == 0 ? r->keyring : NULL;
}

/* The host's name servers and name, which mmdebstrap brings in, are taken out again. */
int recipe_argv(const struct recipe *r, const struct recipe_options *o, char ***out)
{
	const char *keyring = keyring_of(r, o);
	struct words w = { 0 };

	add_word(&w, "mmdebstrap");
	add_word(&w, "--variant=%s", r->variant);
	add_list(&w, "components", r->components);
	add_list(&w, "include", r->packages);
	if (keyring)
		add_word(&w, "--keyring=%s", keyring);
	add_word(&w, "--format=tar");
	add_word(&w, "--customize-hook=rm -f \"$1/etc/resolv.conf\" \"$1/etc/hostname\"");
	add_word(&w, "--");
	add_word(&w, "%s", o->suite ? o->suite : r->suite);
	add_word(&w, "-");
	for (size_t i = 0; o->mirrors && o->mirrors[i]; i++)
		add_word(&w, "%s", o->mirrors[i]);
	if (w.failed < 0) {
		recipe_names_free(w.list);
		return w.failed;
	}
	*out = w.list;
	return 0;
}

int recipe_key(const struct recipe *r, const struct recipe_options *o, char out[RECIPE_KEY_SIZE])
{
	char **argv = NULL, hex[DIGEST_HEX_SIZE];
	CLEANUP(hasher_free_p) struct hasher *h = hasher_new();
	struct digest d;
	int rc = h ? recipe_argv(r, o, &argv) : -ENOMEM;

	for (size_t i = 0; rc == 0 && argv[i]; i++)
		if (strncmp(argv[i], "--keyring=", 10) != 0)
			rc = hasher_update(h, argv[i], strlen(argv[i]) + 1);
	if (rc == 0)
		rc = hasher_final(h, &d);
	if (rc == 0) {
		digest_to_hex(&d, hex);
		snprintf(out, RECIPE_KEY_SIZE, "%.8s", hex);
	}
	recipe_names_free(argv);
	return rc;
}

json_t *recipe_manifest(const struct recipe *r, const char *base)
{
	return json_pack("{s:s+, s:O}", "base", "snapshot:", base, "steps", r->steps);
}
