/*
 * manifest.c - from JSON to a checked manifest.
 *
 * Every kind of step has a table of its arguments, each with the function that
 * checks it; an argument that the table lacks is refused. What is left to the
 * build, then, are the failures of a sound recipe: a package that does not
 * exist, a command that fails. Sizes are bounded by what the kernel takes (a
 * path, one argument of a process) and by the body of a request as a whole.
 */
#include "snapshotd/build/manifest_internal.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "store/remote/reference.h"
#include "store/base/jcs.h"
#include "store/names/snapshot.h"

#define ARGUMENT_MAX 131071	 /* bytes of one argument of a process: MAX_ARG_STRLEN, execve(2) */
#define ARGUMENTS_MAX (1u << 20) /* bytes of all: half of what execve(2) takes by default */
#define PACKAGE_MAX 4096	 /* bytes */
#define REFERENCE_MAX 512	 /* bytes of an OCI reference */

typedef int (*check_fn)(const json_t *value, const char *name, struct error *err);

struct argument {
	const char *name;
	check_fn check;
	bool optional;
};

/* ---- one argument ---- */

static int check_packages(const json_t *list, const char *name, struct error *err)
{
	size_t i, total = 0;
	json_t *v;

	if (!json_is_array(list) || json_array_size(list) == 0)
		return error_set(err, -EINVAL, "\"%s\" must be a list of one name or more", name);
	json_array_foreach(list, i, v) {
		const char *s = manifest_text(v, PACKAGE_MAX);
		if (!s || !*s)
			return error_set(err, -EINVAL,
					 "%s[%zu] must be a string of 1 to %d bytes, without NUL",
					 name, i, PACKAGE_MAX);
		if (*s == '-')
			return error_set(err, -EINVAL, "%s[%zu] must not start with \"-\"", name,
					 i);
		if (manifest_has_control(s))
			return error_set(err, -EINVAL, "%s[%zu] has a control character", name, i);
		total += strlen(s) + 1;
	}
	if (total > ARGUMENTS_MAX)
		return error_set(err, -EINVAL, "\"%s\" is longer than %u bytes", name,
				 ARGUMENTS_MAX);
	return 0;
}

static int check_commands(const json_t *list, const char *name, struct error *err)
{
	size_t i;
	json_t *v;

	if (!json_is_array(list) || json_array_size(list) == 0)
		return error_set(err, -EINVAL, "\"%s\" must be a list of one command or more",
				 name);
	json_array_foreach(list, i, v) {
		const char *s = manifest_text(v, ARGUMENT_MAX);
		if (!s || !*s)
			return error_set(err, -EINVAL,
					 "%s[%zu] must be a string of 1 to %d bytes, without NUL",
					 name, i, ARGUMENT_MAX);
	}
	return 0;
}

static bool is_variable_name(const char *s)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
				      "0123456789";

	return *s && !(*s >= '0' && *s <= '9') && s[strspn(s, allowed)] == '\0';
}

static int check_vars(const json_t *vars, const char *name, struct error *err)
{
	const char *key;
	size_t total = 0;
	json_t *v;

	if (!json_is_object(vars))
		return error_set(err, -EINVAL, "\"%s\" must be an object of strings", name);
	json_object_foreach((json_t *)vars, key, v) {
		if (!is_variable_name(key))
			return error_set(err, -EINVAL,
					 "\"%.100s\" is no name for a variable "
					 "([A-Za-z_][A-Za-z0-9_]*)",
					 key);
		const char *s = manifest_text(v, ARGUMENT_MAX);
		if (!s || strlen(key) + 1 + strlen(s) > ARGUMENT_MAX)
			return error_set(err, -EINVAL,
					 "the value of \"%.100s\" must be a string, without NUL, "
					 "of %d bytes at most with the name",
					 key, ARGUMENT_MAX);
		total += strlen(key) + strlen(s) + 2;
	}
	if (total > ARGUMENTS_MAX)
		return error_set(err, -EINVAL, "\"%s\" is longer than %u bytes", name,
				 ARGUMENTS_MAX);
	return 0;
}

static int check_directory(const json_t *v, const char *name, struct error *err)
{
	return manifest_check_path(v, name, true, err);
}

static int check_file(const json_t *v, const char *name, struct error *err)
{
	return manifest_check_path(v, name, false, err);
}

static int check_encoding(const json_t *v, const char *name, struct error *err)
{
	const char *s = manifest_text(v, 6);

	if (!s || strcmp(s, "base64") != 0)
		return error_set(err, -EINVAL, "\"%s\" must be \"base64\"", name);
	return 0;
}

/* ---- one step ---- */

static const struct {
	const char *name;
	struct argument arguments[4];
} step_types[] = {
	[STEP_APT_INSTALL] = { "apt_install", { { "packages", check_packages, false } } },
	[STEP_PIP_INSTALL] = { "pip_install", { { "packages", check_packages, false } } },
	[STEP_RUN] = { "run", { { "commands", check_commands, false } } },
	[STEP_ENV] = { "env", { { "vars", check_vars, false } } },
	[STEP_WORKDIR] = { "workdir", { { "path", check_directory, false } } },
	[STEP_ADD_FILE] = { "add_file",
			    { { "path", check_file, false },
			      { "content", manifest_check_content, false },
			      { "encoding", check_encoding, false },
			      { "mode", manifest_check_mode, true } } },
	[STEP_ADD_DIR] = { "add_dir",
			   { { "path", check_directory, false },
			     { "files", manifest_check_files, false },
			     { "dirs", manifest_check_dirs, true } } },
};

#define ARGUMENTS_PER_STEP ARRAY_SIZE(step_types[0].arguments)

static const struct argument *argument_find(const struct argument *list, const char *name)
{
	for (size_t i = 0; i < ARGUMENTS_PER_STEP && list[i].name; i++)
		if (strcmp(list[i].name, name) == 0)
			return &list[i];
	return NULL;
}

static int check_args(const json_t *args, const struct argument *list, struct error *err)
{
	const char *name;
	json_t *v;

	if (!json_is_object(args))
		return error_set(err, -EINVAL, "\"args\" must be an object");
	json_object_foreach((json_t *)args, name, v)
		if (!argument_find(list, name))
			return error_set(err, -EINVAL, "unknown argument \"%.100s\"", name);
	for (size_t i = 0; i < ARGUMENTS_PER_STEP && list[i].name; i++) {
		v = json_object_get(args, list[i].name);
		if (!v && list[i].optional)
			continue;
		if (!v)
			return error_set(err, -EINVAL, "argument \"%s\" is missing", list[i].name);
		int r = list[i].check(v, list[i].name, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int step_members(const json_t *j, const char **type, json_t **args, struct error *err)
{
	const char *name;
	json_t *v;

	if (!json_is_object(j))
		return error_set(err, -EINVAL, "a step must be an object");
	json_object_foreach((json_t *)j, name, v)
		if (strcmp(name, "type") != 0 && strcmp(name, "args") != 0)
			return error_set(err, -EINVAL, "unknown member \"%.100s\"", name);
	*type = manifest_text(json_object_get(j, "type"), 64);
	*args = json_object_get(j, "args");
	if (!*type)
		return error_set(err, -EINVAL, "\"type\" must be the name of a step");
	if (!*args)
		return error_set(err, -EINVAL, "\"args\" is missing");
	return 0;
}

static int parse_step(json_t *j, size_t number, struct manifest_step *out, struct error *err)
{
	const char *type = NULL;
	json_t *args = NULL;
	int r = step_members(j, &type, &args, err);

	if (r < 0)
		return error_prefix(err, r, "step %zu", number);
	for (size_t i = 0; i < ARRAY_SIZE(step_types); i++) {
		if (strcmp(step_types[i].name, type) != 0)
			continue;
		r = check_args(args, step_types[i].arguments, err);
		if (r == 0 && i == STEP_ADD_DIR)
			r = manifest_check_tree(args, err);
		if (r < 0)
			return error_prefix(err, r, "step %zu (%s)", number, type);
		*out = (struct manifest_step){ (enum step_type)i, step_types[i].name, j, args };
		return 0;
	}
	return error_set(err, -EINVAL, "step %zu: unknown type \"%s\"", number, type);
}

/* ---- the whole ---- */

/* A snapshot's name, or REMOTE:NAME. */
static int check_snapshot(const char *s, struct error *err)
{
	char remote[REMOTE_NAME_MAX + 1];
	const char *name = s;

	if (reference_split(s, remote, &name) && snapshot_name_check(remote, err) < 0)
		return -EINVAL;
	return snapshot_name_check(name, err);
}

static int parse_base(const char *s, struct manifest *m, struct error *err)
{
	static const char *const names[] = { "", "base", "default", "ubuntu" };

	m->base_ref = "";
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(s, names[i]) == 0)
			return 0;
	if (strncmp(s, "snapshot:", 9) == 0) {
		m->base = BASE_SNAPSHOT;
		m->base_ref = s + 9;
		int r = check_snapshot(m->base_ref, err);
		return r < 0 ? error_prefix(err, r, "base") : 0;
	}
	if (strncmp(s, "oci:", 4) == 0) {
		m->base = BASE_OCI;
		m->base_ref = s + 4;
		if (*m->base_ref && strlen(m->base_ref) <= REFERENCE_MAX &&
		    !manifest_has_control(m->base_ref))
			return 0;
	}
	return error_set(err, -EINVAL,
			 "base must be \"base\", \"snapshot:NAME\" or \"oci:REFERENCE\", not "
			 "\"%.100s\"",
			 s);
}

static int parse_memory(const json_t *v, struct manifest *m, struct error *err)
{
	if (!v || json_is_null(v))
		return 0;
	json_int_t mb = json_integer_value(v);
	if (!json_is_integer(v) || mb < MANIFEST_MEMORY_MB_MIN || mb > MANIFEST_MEMORY_MB_MAX)
		return error_set(err, -EINVAL,
				 "\"builderMemoryMB\" must be a whole number from %d to %u",
				 MANIFEST_MEMORY_MB_MIN, MANIFEST_MEMORY_MB_MAX);
	m->builder_memory_mb = (uint64_t)mb;
	return 0;
}

static int parse_steps(const json_t *list, struct manifest *m, struct error *err)
{
	size_t n = json_array_size(list), i;
	json_t *step;

	if (!json_is_array(list))
		return error_set(err, -EINVAL, "\"steps\" must be a list");
	if (n > MANIFEST_STEPS_MAX)
		return error_set(err, -EINVAL, "more than %d steps", MANIFEST_STEPS_MAX);
	m->steps = calloc(n + 1, sizeof(*m->steps));
	if (!m->steps)
		return -ENOMEM;
	json_array_foreach(list, i, step) {
		int r = parse_step(step, i + 1, &m->steps[i], err);
		if (r < 0)
			return r;
	}
	m->n_steps = n;
	return 0;
}

static int check_members(const json_t *j, struct error *err)
{
	static const char *const names[] = { "base", "steps", "builderMemoryMB" };
	const char *name;
	json_t *v;

	if (!json_is_object(j))
		return error_set(err, -EINVAL, "an image's manifest must be an object");
	json_object_foreach((json_t *)j, name, v) {
		size_t i = 0;
		while (i < ARRAY_SIZE(names) && strcmp(names[i], name) != 0)
			i++;
		if (i == ARRAY_SIZE(names))
			return error_set(err, -EINVAL, "unknown member \"%.100s\" of the manifest",
					 name);
	}
	if (!manifest_text(json_object_get(j, "base"), ARGUMENT_MAX))
		return error_set(err, -EINVAL, "\"base\" must be a string");
	return 0;
}

static int make_key(struct manifest *m, struct error *err)
{
	json_t *o = json_pack("{s:O, s:O}", "base", json_object_get(m->json, "base"), "steps",
			      json_object_get(m->json, "steps"));
	int r = o ? jcs_hash(o, m->key, err) : -ENOMEM;

	json_decref(o);
	return r;
}

int manifest_parse(const json_t *j, struct manifest *out, struct error *err)
{
	struct manifest m = { 0 };
	int r = check_members(j, err);

	if (r == 0)
		r = parse_base(json_string_value(json_object_get(j, "base")), &m, err);
	if (r == 0)
		r = parse_memory(json_object_get(j, "builderMemoryMB"), &m, err);
	if (r == 0)
		r = parse_steps(json_object_get(j, "steps"), &m, err);
	if (r == 0) {
		m.json = json_incref((json_t *)j);
		r = make_key(&m, err);
	}
	if (r < 0)
		manifest_fini(&m);
	else
		*out = m;
	return r;
}

void manifest_fini(struct manifest *m)
{
	json_decref(m->json);
	free(m->steps);
	*m = (struct manifest){ 0 };
}

int manifest_step_key(const char *prev, const struct manifest_step *s, char out[DIGEST_HEX_SIZE])
{
	json_t *list = json_pack("[s, s, O]", "varve step 1", prev, s->json);
	int r = list ? jcs_hash(list, out, NULL) : -ENOMEM;

	json_decref(list);
	return r;
}
