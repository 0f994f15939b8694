/*
 * image.c - images. One is a node that points to the image it was made of; what
 * it adds (a step as canonical JSON, or the builder's memory) never changes once
 * it is made, so nodes are shared without a lock and only counted. The manifest
 * is put together of these texts when somebody asks for it.
 */
#include "tools/libvarve/image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/base64.h"
#include "store/base/version.h"
#include "store/base/jcs.h"

struct varve_image {
	atomic_uint refs;
	struct varve_image *parent; /* a reference; NULL at the base */
	char *base;		    /* canonical JSON, a string; only at the base */
	char *step;		    /* canonical JSON, or NULL: this node adds none */
	size_t n_steps;		    /* of the whole chain */
	json_int_t memory_mb;	    /* of the chain; 0: unset */
	struct varve_error *error;  /* or NULL */
};

static struct varve_error no_memory_error = { -ENOMEM, 0, "out of memory" };
static struct varve_error no_image_error = { -EINVAL, 0, "the image is NULL" };
/* Never freed: what a call returns that has no memory for anything else, and what NULL counts as.
 */
static struct varve_image no_memory = { .error = &no_memory_error };
static struct varve_image no_image = { .error = &no_image_error };

static bool is_constant(const struct varve_image *img)
{
	return img == &no_memory || img == &no_image;
}

const char *varve_version(void)
{
	return VARVE_VERSION;
}

int image_report(const struct error *err, int code, struct varve_error *out)
{
	if (!out || code == 0)
		return code;
	*out = (struct varve_error){ .code = code };
	const char *text = err && err->msg[0] ? err->msg : strerror(-code);
	snprintf(out->message, sizeof(out->message), "%s", text);
	return code;
}

/* ---- nodes ---- */

struct varve_image *varve_image_ref(struct varve_image *img)
{
	if (!img)
		return &no_image;
	if (!is_constant(img))
		atomic_fetch_add_explicit(&img->refs, 1, memory_order_relaxed);
	return img;
}

void varve_image_unref(struct varve_image *img)
{
	/* A loop: a chain may be longer than the stack is deep. */
	while (img && !is_constant(img) &&
	       atomic_fetch_sub_explicit(&img->refs, 1, memory_order_acq_rel) == 1) {
		struct varve_image *parent = img->parent;
		free(img->base);
		free(img->step);
		free(img->error);
		free(img);
		img = parent;
	}
}

void varve_image_set(struct varve_image **img, struct varve_image *next)
{
	struct varve_image *before = *img;

	*img = next;
	varve_image_unref(before);
}

const struct varve_error *varve_image_error(const struct varve_image *img)
{
	return img ? img->error : &no_image_error;
}

/* A node upon parent (NULL: a base), or NULL. */
static struct varve_image *node_new(struct varve_image *parent)
{
	struct varve_image *img = calloc(1, sizeof(*img));

	if (!img)
		return NULL;
	atomic_init(&img->refs, 1);
	if (parent) {
		img->parent = varve_image_ref(parent);
		img->n_steps = parent->n_steps;
		img->memory_mb = parent->memory_mb;
	}
	return img;
}

struct varve_image *image_failed(const struct error *err)
{
	struct varve_image *img = err->code == -ENOMEM ? NULL : node_new(NULL);

	if (!img)
		return &no_memory;
	img->error = calloc(1, sizeof(*img->error));
	if (!img->error) {
		varve_image_unref(img);
		return &no_memory;
	}
	image_report(err, err->code, img->error);
	return img;
}

/* The canonical text of j, which is given up to it; NULL for j means that memory ran out. */
static int text_of(json_t *j, char **out, struct error *err)
{
	json_auto_t *owned = j;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int r = j ? jcs_dump(j, &b, err) : -ENOMEM;

	if (r == 0 && !buf_cstr(&b))
		r = -ENOMEM;
	if (r == 0)
		*out = (char *)STEAL(b.data);
	return r == -ENOMEM ? error_set(err, r, "out of memory") : r;
}

struct varve_image *image_append(struct varve_image *img, const char *type, json_t *args)
{
	struct error err = ERROR_INIT;
	struct varve_image *next;
	char *step = NULL;

	if (varve_image_error(img)) {
		json_decref(args);
		return varve_image_ref(img);
	}
	if (text_of(args ? json_pack("{s:s, s:o}", "type", type, "args", args) : NULL, &step,
		    &err) < 0)
		return image_failed(&err);
	next = node_new(img);
	if (!next) {
		free(step);
		return &no_memory;
	}
	next->step = step;
	next->n_steps++;
	return next;
}

/* ---- text ---- */

int image_text(const char *s, const char *what, json_t **out, struct error *err)
{
	if (!s)
		return error_set(err, -EINVAL, "%s is NULL", what);
	*out = json_string(s);
	if (!*out)
		return error_set(err, -EILSEQ, "%s is not UTF-8: \"%.100s\"", what, s);
	return 0;
}

json_t *image_mode(unsigned mode)
{
	char text[8];

	snprintf(text, sizeof(text), "%04o", mode & 07777);
	return json_string(text);
}

static int text_list(const char *const *list, const char *what, json_t **out, struct error *err)
{
	json_auto_t *array = json_array();
	json_t *s;

	for (; list && *list && array; list++) {
		int r = image_text(*list, what, &s, err);
		if (r < 0)
			return r;
		if (json_array_append_new(array, s) < 0)
			return error_set(err, -ENOMEM, "out of memory");
	}
	if (!array)
		return error_set(err, -ENOMEM, "out of memory");
	*out = STEAL(array);
	return 0;
}

static int add_pair(json_t *object, const char *text, const char *what, struct error *err)
{
	const char *equals = strchr(text, '=');
	json_t *value;

	if (!equals)
		return error_set(err, -EINVAL, "%s is not NAME=VALUE: \"%.100s\"", what, text);
	int r = image_text(equals + 1, what, &value, err);
	if (r < 0)
		return r;
	json_auto_t *name = json_stringn(text, (size_t)(equals - text));
	if (!name) {
		json_decref(value);
		return error_set(err, -EILSEQ, "%s is not UTF-8: \"%.100s\"", what, text);
	}
	if (json_object_set_new(object, json_string_value(name), value) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	return 0;
}

int image_pairs(const char *const *list, const char *what, json_t **out, struct error *err)
{
	json_auto_t *object = json_object();
	int r = object ? 0 : error_set(err, -ENOMEM, "out of memory");

	for (; r == 0 && list && *list; list++)
		r = add_pair(object, *list, what, err);
	if (r == 0)
		*out = STEAL(object);
	return r;
}

/* ---- bases ---- */

/* An image upon prefix + name; owns nothing of them. */
static struct varve_image *on_base(const char *prefix, const char *name)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct error err = ERROR_INIT;
	struct varve_image *img;
	char *text = NULL;
	json_t *base;

	if (!name) {
		error_set(&err, -EINVAL, "the image's base is NULL");
		return image_failed(&err);
	}
	if (buf_printf(&b, "%s%s", prefix, name) < 0)
		return &no_memory;
	if (image_text((const char *)b.data, "the image's base", &base, &err) < 0 ||
	    text_of(base, &text, &err) < 0)
		return image_failed(&err);
	img = node_new(NULL);
	if (!img) {
		free(text);
		return &no_memory;
	}
	img->base = text;
	return img;
}

struct varve_image *varve_image_base(void)
{
	return on_base("", "base");
}

struct varve_image *varve_image_from_snapshot(const char *name)
{
	return on_base("snapshot:", name);
}

struct varve_image *varve_image_from_oci(const char *reference)
{
	return on_base("oci:", reference);
}

static struct varve_image *with_memory(struct varve_image *img, json_int_t mb)
{
	struct varve_image *next;

	if (varve_image_error(img))
		return varve_image_ref(img);
	next = node_new(img);
	if (!next)
		return &no_memory;
	next->memory_mb = mb;
	return next;
}

/* base, steps and memory are all that j has, each of its type. */
static bool is_manifest(const json_t *j, const char **base, const json_t **steps, const json_t **mb)
{
	*base = json_string_value(json_object_get(j, "base"));
	*steps = json_object_get(j, "steps");
	*mb = json_object_get(j, "builderMemoryMB");
	return *base && json_is_array(*steps) && (!*mb || json_is_integer(*mb)) &&
	       json_object_size(j) == (*mb ? 3 : 2);
}

static struct varve_image *from_manifest(const json_t *j)
{
	const char *base;
	const json_t *steps, *mb;
	struct error err = ERROR_INIT;
	json_t *step;
	size_t i;

	if (!is_manifest(j, &base, &steps, &mb)) {
		error_set(&err, -EINVAL,
			  "a manifest is {\"base\", \"steps\"}, with \"builderMemoryMB\" or not");
		return image_failed(&err);
	}
	struct varve_image *img = on_base("", base);
	json_array_foreach(steps, i, step) {
		const char *type = json_string_value(json_object_get(step, "type"));
		json_t *args = json_object_get(step, "args");
		if (!type || !args || json_object_size(step) != 2) {
			error_set(&err, -EINVAL, "step %zu is not {\"type\", \"args\"}", i + 1);
			varve_image_unref(img);
			return image_failed(&err);
		}
		varve_image_set(&img, image_append(img, type, json_incref(args)));
	}
	if (mb)
		varve_image_set(&img, with_memory(img, json_integer_value(mb)));
	return img;
}

struct varve_image *varve_image_from_json(const char *text, size_t len)
{
	struct error err = ERROR_INIT;
	json_error_t why;
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);

	if (!j) {
		error_set(&err, -EINVAL, "a manifest that is not JSON: line %d: %s", why.line,
			  why.text);
		return image_failed(&err);
	}
	struct varve_image *img = from_manifest(j);
	json_decref(j);
	return img;
}

/* ---- steps ---- */

/* A step whose one argument, `name`, is value: given up to it, unless r says why there is none. */
static struct varve_image *append_one(struct varve_image *img, const char *type, const char *name,
				      json_t *value, int r, const struct error *err)
{
	if (varve_image_error(img)) {
		if (r == 0)
			json_decref(value);
		return varve_image_ref(img);
	}
	return r < 0 ? image_failed(err) : image_append(img, type, json_pack("{s:o}", name, value));
}

struct varve_image *varve_image_apt_install(struct varve_image *img, const char *const *packages)
{
	struct error err = ERROR_INIT;
	json_t *list = NULL;
	int r = text_list(packages, "a package", &list, &err);

	return append_one(img, "apt_install", "packages", list, r, &err);
}

struct varve_image *varve_image_pip_install(struct varve_image *img, const char *const *packages)
{
	struct error err = ERROR_INIT;
	json_t *list = NULL;
	int r = text_list(packages, "a package", &list, &err);

	return append_one(img, "pip_install", "packages", list, r, &err);
}

struct varve_image *varve_image_run_commands(struct varve_image *img, const char *const *commands)
{
	struct error err = ERROR_INIT;
	json_t *list = NULL;
	int r = text_list(commands, "a command", &list, &err);

	return append_one(img, "run", "commands", list, r, &err);
}

struct varve_image *varve_image_env(struct varve_image *img, const char *const *vars)
{
	struct error err = ERROR_INIT;
	json_t *object = NULL;
	int r = image_pairs(vars, "a variable", &object, &err);

	return append_one(img, "env", "vars", object, r, &err);
}

struct varve_image *varve_image_workdir(struct varve_image *img, const char *path)
{
	struct error err = ERROR_INIT;
	json_t *text = NULL;
	int r = image_text(path, "a path", &text, &err);

	return append_one(img, "workdir", "path", text, r, &err);
}

static int file_args(const char *path, const void *content, size_t len, int mode, json_t **out,
		     struct error *err)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	json_auto_t *args = NULL;
	json_t *path_text;
	int r = image_text(path, "a path", &path_text, err);

	if (r < 0)
		return r;
	r = base64_encode(content, len, &text);
	args = json_pack("{s:o, s:s, s:s%}", "path", path_text, "encoding", "base64", "content",
			 r == 0 && text.len ? (const char *)text.data : "", (size_t)text.len);
	if (r == 0 && args && mode >= 0)
		r = json_object_set_new(args, "mode", image_mode((unsigned)mode));
	if (r < 0 || !args)
		return error_set(err, -ENOMEM, "out of memory");
	*out = STEAL(args);
	return 0;
}

struct varve_image *varve_image_add_file(struct varve_image *img, const char *path,
					 const void *content, size_t len, int mode)
{
	struct error err = ERROR_INIT;
	json_t *args = NULL;

	if (varve_image_error(img))
		return varve_image_ref(img);
	if (file_args(path, content, len, mode, &args, &err) < 0)
		return image_failed(&err);
	return image_append(img, "add_file", args);
}

struct varve_image *varve_image_builder_memory(struct varve_image *img, unsigned mb)
{
	return with_memory(img, mb);
}

/* ---- manifests ---- */

/* The steps in order; *base is what is at the end of the chain. */
static int list_steps(const struct varve_image *img, const char ***out, const char **base)
{
	size_t n = img->n_steps;
	const char **list = calloc(n + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (; img->parent; img = img->parent)
		if (img->step)
			list[--n] = img->step;
	*base = img->base;
	*out = list;
	return 0;
}

/* Its members come in the order that RFC 8785 wants, so that this is canonical as a whole. */
static int put_manifest(const struct varve_image *img, bool with_memory, struct buf *out)
{
	const char **steps, *base;
	int r = list_steps(img, &steps, &base);

	if (r < 0)
		return r;
	r = buf_printf(out, "{\"base\":%s,", base);
	if (r == 0 && with_memory && img->memory_mb)
		r = buf_printf(out, "\"builderMemoryMB\":%lld,", (long long)img->memory_mb);
	if (r == 0)
		r = buf_append_str(out, "\"steps\":[");
	for (size_t i = 0; steps[i] && r == 0; i++) {
		r = i > 0 ? buf_append_str(out, ",") : 0;
		if (r == 0)
			r = buf_append_str(out, steps[i]);
	}
	free(steps);
	return r < 0 ? r : buf_append_str(out, "]}");
}

static int make_text(const struct varve_image *img, bool with_memory, struct buf *out,
		     struct error *err)
{
	const struct varve_error *why = varve_image_error(img);

	if (why)
		return error_set(err, why->code, "%s", why->message);
	if (put_manifest(img, with_memory, out) < 0 || !buf_cstr(out))
		return error_set(err, -ENOMEM, "out of memory");
	return 0;
}

int image_manifest(const struct varve_image *img, json_t **out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int r = make_text(img, true, &b, err);

	if (r < 0)
		return r;
	json_t *j = json_loadb((const char *)b.data, b.len, JSON_ALLOW_NUL, NULL);
	if (!j)
		return error_set(err, -ENOMEM, "out of memory");
	*out = j;
	return 0;
}

int varve_image_to_json(const struct varve_image *img, char **out, struct varve_error *err)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct error why = ERROR_INIT;
	int r = make_text(img, true, &b, &why);

	if (r == 0)
		*out = (char *)STEAL(b.data);
	return image_report(&why, r, err);
}

int varve_image_cache_key(const struct varve_image *img, char out[VARVE_KEY_SIZE],
			  struct varve_error *err)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct error why = ERROR_INIT;
	struct digest d;
	int r = make_text(img, false, &b, &why);

	if (r == 0)
		r = hash_bytes(b.data, b.len, &d);
	if (r == 0)
		digest_to_hex(&d, out);
	return image_report(&why, r, err);
}
