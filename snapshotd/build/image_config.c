#include "snapshotd/build/image_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"

#define PATH_DEFAULT "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* A growing list of "NAME=VALUE"; owned strings, NULL-terminated unless empty. */
struct vars {
	char **v;
	size_t n;
};

/* Takes text, a malloc'd "NAME=VALUE"; one of the same name gives way to it. */
static int vars_put(struct vars *vars, char *text)
{
	if (!text)
		return -ENOMEM;
	size_t name_len = (size_t)(strchr(text, '=') - text) + 1;
	for (size_t i = 0; i < vars->n; i++) {
		if (strncmp(vars->v[i], text, name_len) != 0)
			continue;
		free(vars->v[i]);
		vars->v[i] = text;
		return 0;
	}
	char **v = realloc(vars->v, (vars->n + 2) * sizeof(*v));
	if (!v) {
		free(text);
		return -ENOMEM;
	}
	vars->v = v;
	v[vars->n++] = text;
	v[vars->n] = NULL;
	return 0;
}

static int vars_set(struct vars *vars, const char *name, const char *value)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	if (!*name || strchr(name, '='))
		return -EINVAL;
	if (buf_printf(&b, "%s=%s", name, value) < 0)
		return -ENOMEM;
	return vars_put(vars, strdup((const char *)b.data));
}

/* A string without NUL, or NULL. */
static const char *plain_text(const json_t *j)
{
	const char *s = json_string_value(j);

	return s && strlen(s) == json_string_length(j) ? s : NULL;
}

static int load_env(const json_t *list, struct vars *vars)
{
	json_t *v;
	size_t i;

	json_array_foreach(list, i, v) {
		const char *s = plain_text(v);
		if (!s || !strchr(s, '=') || *s == '=')
			continue;
		int r = vars_put(vars, strdup(s));
		if (r < 0)
			return r;
	}
	return 0;
}

int image_config_load(const json_t *config, struct image_config *out)
{
	const char *workdir = plain_text(json_object_get(config, "WorkingDir"));
	const char *user = plain_text(json_object_get(config, "User"));
	struct image_config c = {
		.workdir = strdup(workdir && *workdir == '/' ? workdir : "/"),
		.user = strdup(user ? user : ""),
	};
	struct vars vars = { 0 };
	int r = c.workdir && c.user ? load_env(json_object_get(config, "Env"), &vars) : -ENOMEM;

	c.env = vars.v;
	c.n_env = vars.n;
	if (r < 0)
		image_config_fini(&c);
	else
		*out = c;
	return r;
}

void image_config_fini(struct image_config *c)
{
	strv_free(c->env);
	free(c->workdir);
	free(c->user);
	*c = (struct image_config){ 0 };
}

int image_config_setenv(struct image_config *c, const char *name, const char *value)
{
	struct vars vars = { c->env, c->n_env };
	int r = vars_set(&vars, name, value);

	c->env = vars.v;
	c->n_env = vars.n;
	return r;
}

int image_config_set_workdir(struct image_config *c, const char *path)
{
	char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	free(c->workdir);
	c->workdir = copy;
	return 0;
}

static json_t *env_list(const struct image_config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->n_env && list; i++) {
		if (json_array_append_new(list, json_string(c->env[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

json_t *image_config_merge(const json_t *old_config, const struct image_config *c)
{
	json_t *o = old_config ? json_deep_copy(old_config) : json_object();
	int r = o ? json_object_set_new(o, "Env", env_list(c)) : -1;

	if (r == 0)
		r = json_object_set_new(o, "WorkingDir", json_string(c->workdir));
	if (r == 0)
		r = json_object_set_new(o, "User", json_string(c->user));
	if (r < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static int fill_environ(struct vars *vars, const struct image_config *c, const json_t *extra)
{
	const char *name;
	json_t *v;
	int r = vars_put(vars, strdup(PATH_DEFAULT));

	if (r == 0)
		r = vars_set(vars, "LANG", "C.UTF-8");
	for (size_t i = 0; i < c->n_env && r == 0; i++)
		r = vars_put(vars, strdup(c->env[i]));
	json_object_foreach((json_t *)extra, name, v) {
		const char *value = plain_text(v);
		if (r == 0 && value)
			r = vars_set(vars, name, value);
		if (r == -EINVAL)
			r = 0; /* no name for a variable */
	}
	return r;
}

char **image_config_environ(const struct image_config *c, const json_t *extra)
{
	struct vars vars = { 0 };

	if (fill_environ(&vars, c, extra) < 0) {
		strv_free(vars.v);
		return NULL;
	}
	return vars.v;
}

void strv_free(char **v)
{
	for (char **s = v; s && *s; s++)
		free(*s);
	free(v);
}
