/*
 * Choosing an image: collect the candidates of index.json (or manifest.json)
 * with their names, narrow them by the tag, then by the host's platform, which
 * may lead into a nested index.
 */
#include "store/import/oci_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/archive/oci_platform.h"

#define JSON_MAX (4u << 20) /* the limit that registries put on manifests */
#define INDEX_DEPTH 4
#define REF_NAME "org.opencontainers.image.ref.name"
#define CONTAINERD_NAME "io.containerd.image.name"

const char *const oci_platform_members[] = { "architecture", "os",	    "variant",
					     "os.version",   "os.features", NULL };

/* What the image must run on. */
struct choice {
	struct oci_platform platform;
	bool asked; /* not just this host's */
	char text[OCI_PLATFORM_TEXT];
};

void oci_image_fini(struct oci_image *img)
{
	for (size_t i = 0; i < img->n_layers; i++)
		free(img->layers[i].file);
	free(img->layers);
	json_decref(img->config);
	*img = (struct oci_image){ 0 };
}

static json_t *parse(const char *name, const struct buf *b, struct error *err)
{
	json_error_t why;
	json_t *j = json_loadb((const char *)b->data, b->len, JSON_REJECT_DUPLICATES, &why);

	if (!j)
		error_set(err, -EBADMSG, "%s: %s", name, why.text);
	return j;
}

static int load_json(struct oci_files *f, const char *name, json_t **out, struct error *err)
{
	struct buf b CLEANUP(buf_fini_p) = BUF_INIT;
	int r = oci_files_load(f, name, JSON_MAX, &b);

	if (r < 0)
		return error_set_errno(err, r, "%s", name);
	*out = parse(name, &b, err);
	return *out ? 0 : -EBADMSG;
}

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* "sha256:HEX" to the digest and to the blob's file name. */
static int parse_digest(const char *text, struct digest *d, char **file, struct error *err)
{
	if (strncmp(text, "sha256:", 7) != 0)
		return error_set(err, strchr(text, ':') ? -ENOTSUP : -EBADMSG,
				 "digest \"%.100s\" is not sha256", text);
	if (digest_from_hex(text + 7, d) < 0)
		return error_set(err, -EBADMSG, "malformed digest \"%.100s\"", text);
	if (file && asprintf(file, "blobs/sha256/%s", text + 7) < 0)
		return error_set_errno(err, -ENOMEM, "digest");
	return 0;
}

/* The blob of a descriptor, as JSON, with its digest checked. */
static int load_blob(struct oci_files *f, const json_t *descriptor, json_t **out, struct error *err)
{
	struct buf b CLEANUP(buf_fini_p) = BUF_INIT;
	struct digest want, got;
	char *file = NULL;
	int r = parse_digest(str(descriptor, "digest"), &want, &file, err);

	if (r < 0)
		return r;
	r = oci_files_load(f, file, JSON_MAX, &b);
	if (r == 0)
		r = hash_bytes(b.data, b.len, &got);
	if (r < 0)
		error_set_errno(err, r, "%s", file);
	else if (!digest_equal(&want, &got))
		r = error_set(err, -EBADMSG, "%s does not have its digest", file);
	else
		r = (*out = parse(file, &b, err)) ? 0 : -EBADMSG;
	free(file);
	return r;
}

/* "repo/name:tag" or "tag" for `tag`: equal, or its last part is. */
static bool name_matches(const char *name, const char *tag)
{
	size_t n = strlen(name), t = strlen(tag);

	if (strcmp(name, tag) == 0)
		return true;
	return t > 0 && n > t && strcmp(name + n - t, tag) == 0 &&
	       (name[n - t - 1] == ':' || (name[n - t - 1] == '/' && strchr(tag, ':')));
}

static bool is_image(const json_t *m)
{
	const json_t *platform = json_object_get(m, "platform");

	/* Attestations and signatures are listed beside images as "unknown". */
	return json_is_object(m) && strcmp(str(platform, "os"), "unknown") != 0 &&
	       !json_object_get(m, "artifactType");
}

static const char *entry_name(const json_t *m, unsigned which)
{
	return str(json_object_get(m, "annotations"), which ? CONTAINERD_NAME : REF_NAME);
}

static bool entry_matches(const json_t *m, const char *tag)
{
	return name_matches(entry_name(m, 0), tag) || name_matches(entry_name(m, 1), tag);
}

static const char *full_name(const json_t *m)
{
	const char *name = entry_name(m, 1);

	return *name ? name : entry_name(m, 0);
}

static int no_such_tag(const char *tag, const struct buf *names, struct error *err)
{
	const char *all = names->len ? (const char *)names->data : " none";

	if (!names->len)
		return error_set(err, -EINVAL, "no image in it has a name to choose it by");
	if (tag && *tag)
		return error_set(err, -EINVAL, "no image \"%.100s\"; there are:%.300s", tag, all);
	return error_set(err, -EINVAL, "several images, choose one:%.300s", all);
}

static int list_name(struct buf *names, const char *name)
{
	int r = *name ? buf_printf(names, "%s%s", names->len ? ", " : " ", name) : 0;

	return r == 0 && !buf_cstr(names) ? -ENOMEM : r;
}

/* The entries of an index that the tag selects: a new array of borrowed entries. */
static json_t *by_tag(const json_t *entries, const char *tag)
{
	json_t *found = json_array(), *m;
	size_t i;

	json_array_foreach(entries, i, m)
		if (is_image(m) && (!tag || entry_matches(m, tag)))
			json_array_append(found, m);
	return found;
}

static int list_entries(const json_t *entries, struct buf *names)
{
	json_t *m;
	size_t i;
	int r = 0;

	json_array_foreach(entries, i, m) {
		r = r < 0 || !is_image(m) ? r : list_name(names, full_name(m));
	}
	return r;
}

/*
 * Of several entries, the one that runs best; NULL with err if none runs. A
 * single one is taken as it is, unless a platform is asked for.
 */
static json_t *by_platform(const json_t *entries, const struct choice *want, struct error *err)
{
	struct buf all CLEANUP(buf_fini_p) = BUF_INIT;
	json_t *m, *found = NULL;
	unsigned best = 0;
	size_t i;
	int r = 0;

	if (json_array_size(entries) == 1 &&
	    !(want->asked && json_object_get(json_array_get(entries, 0), "platform")))
		return json_array_get(entries, 0);
	json_array_foreach(entries, i, m) {
		const json_t *platform = json_object_get(m, "platform");
		unsigned fit = oci_platform_fit(&want->platform, platform);
		char text[OCI_PLATFORM_TEXT];

		if (fit > best) {
			best = fit;
			found = m;
		}
		oci_platform_text(platform, text);
		r |= buf_printf(&all, " %s", text);
	}
	if (!found)
		error_set(err, -EINVAL, "no image for %s; there are:%.300s", want->text,
			  r == 0 && buf_cstr(&all) ? (char *)all.data : "");
	return found;
}

static bool is_index(const json_t *j)
{
	return json_is_array(json_object_get(j, "manifests"));
}

static bool has_several_names(const json_t *entries)
{
	const char *first = full_name(json_array_get(entries, 0));
	json_t *m;
	size_t i;

	json_array_foreach(entries, i, m)
		if (strcmp(first, full_name(m)) != 0)
			return true;
	return false;
}

/* Narrow index.json by the tag: *out is a new array. */
static int choose_by_tag(const json_t *index, const char *tag, json_t **out, struct error *err)
{
	const json_t *entries = json_object_get(index, "manifests");
	struct buf names CLEANUP(buf_fini_p) = BUF_INIT;
	bool any = !tag || !*tag;
	json_t *found = by_tag(entries, any ? NULL : tag);

	if (any && has_several_names(found)) {
		json_decref(found);
		found = by_tag(entries, "latest");
	}
	if (json_array_size(found) == 0 || has_several_names(found)) {
		json_decref(found);
		int r = list_entries(entries, &names);
		return r < 0 ? error_set_errno(err, r, "index.json")
			     : no_such_tag(tag, &names, err);
	}
	*out = found;
	return 0;
}

static int copy_layers(struct oci_files *f, const json_t *manifest, struct oci_image *out,
		       struct error *err)
{
	json_t *layers = json_object_get(manifest, "layers"), *l;
	size_t i;

	(void)f;
	if (!json_is_array(layers) || json_array_size(layers) > OCI_LAYERS_MAX)
		return error_set(err, -EBADMSG, "manifest without layers, or with too many");
	out->layers = calloc(json_array_size(layers) + 1, sizeof(*out->layers));
	if (!out->layers)
		return error_set_errno(err, -ENOMEM, "layers");
	json_array_foreach(layers, i, l) {
		struct oci_layer *to = &out->layers[out->n_layers];

		if (strstr(str(l, "mediaType"), "encrypted"))
			return error_set(err, -ENOTSUP, "layer %zu is encrypted", i + 1);
		int r = parse_digest(str(l, "digest"), &to->digest, &to->file, err);
		if (r < 0)
			return error_prefix(err, r, "layer %zu", i + 1);
		to->has_digest = true;
		out->n_layers++;
	}
	return 0;
}

/* The run configuration, with what the image says about its platform. */
static json_t *run_config(const json_t *config)
{
	json_t *run = json_object_get(config, "config"), *value;
	json_t *o = json_is_object(run) ? json_deep_copy(run) : json_object();

	for (size_t i = 0; o && oci_platform_members[i]; i++) {
		const char *key = oci_platform_members[i];

		(void)json_object_del(o, key); /* it means nothing inside "config" */
		value = json_object_get(config, key);
		if (!json_is_string(value) && !json_is_array(value))
			continue;
		if (json_object_set_new(o, key, json_deep_copy(value)) < 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

/* Take the run configuration and the layers' diff ids. */
static int use_config(const json_t *config, const struct choice *want, struct oci_image *out,
		      struct error *err)
{
	const json_t *ids = json_object_get(json_object_get(config, "rootfs"), "diff_ids");
	char text[OCI_PLATFORM_TEXT];

	oci_platform_text(config, text);
	if (want->asked && !oci_platform_fit(&want->platform, config))
		return error_set(err, -EINVAL, "the image is for %s, not for %s", text, want->text);
	out->config = run_config(config);
	if (!out->config)
		return error_set_errno(err, -ENOMEM, "image config");
	if (!json_is_array(ids))
		return 0;
	if (json_array_size(ids) != out->n_layers)
		return error_set(err, -EBADMSG, "image config lists %zu layers, manifest %zu",
				 json_array_size(ids), out->n_layers);
	for (size_t i = 0; i < out->n_layers; i++) {
		const char *id = json_string_value(json_array_get(ids, i));
		int r = parse_digest(id ? id : "", &out->layers[i].diff_id, NULL, err);

		if (r < 0)
			return error_prefix(err, r, "diff_id %zu", i + 1);
		out->layers[i].has_diff_id = true;
	}
	return 0;
}

static int use_manifest(struct oci_files *f, const json_t *manifest, const struct choice *want,
			struct oci_image *out, struct error *err)
{
	json_t *config = NULL;
	int r = copy_layers(f, manifest, out, err);

	if (r == 0)
		r = load_blob(f, json_object_get(manifest, "config"), &config, err);
	if (r == 0)
		r = use_config(config, want, out, err);
	json_decref(config);
	return r;
}

static int find_in_layout(struct oci_files *f, const char *tag, const struct choice *want,
			  struct oci_image *out, struct error *err)
{
	json_t *at = NULL, *next = NULL, *found = NULL;
	int r = load_json(f, "index.json", &at, err);

	if (r == 0 && !is_index(at))
		r = error_set(err, -EBADMSG, "index.json has no manifests");
	if (r == 0)
		r = choose_by_tag(at, tag, &found, err);
	for (int depth = 0; r == 0 && is_index(at); depth++) {
		const json_t *entry = by_platform(found, want, err);

		if (!entry)
			r = -EINVAL;
		else if (depth == INDEX_DEPTH)
			r = error_set(err, -EBADMSG, "indexes nested too deep");
		else
			r = load_blob(f, entry, &next, err);
		if (r < 0)
			break;
		json_decref(at);
		at = STEAL(next);
		json_decref(found);
		found = is_index(at) ? by_tag(json_object_get(at, "manifests"), NULL) : NULL;
	}
	if (r == 0)
		r = use_manifest(f, at, want, out, err);
	json_decref(found);
	json_decref(at);
	return r;
}

static bool docker_matches(const json_t *image, const char *tag)
{
	json_t *name;
	size_t i;

	json_array_foreach(json_object_get(image, "RepoTags"), i, name)
		if (json_is_string(name) && name_matches(json_string_value(name), tag))
			return true;
	return false;
}

static int choose_docker(const json_t *list, const char *tag, const json_t **out, struct error *err)
{
	struct buf names CLEANUP(buf_fini_p) = BUF_INIT;
	const char *want = tag && *tag ? tag : "latest";
	json_t *image, *name;
	size_t i, k;
	int r = 0;

	if (json_array_size(list) == 0)
		return error_set(err, -EINVAL, "manifest.json lists no image");
	if ((!tag || !*tag) && json_array_size(list) == 1) {
		*out = json_array_get(list, 0);
		return 0;
	}
	json_array_foreach(list, i, image) {
		if (docker_matches(image, want)) {
			*out = image;
			return 0;
		}
		json_array_foreach(json_object_get(image, "RepoTags"), k, name)
			r = r < 0 ? r : list_name(&names, json_string_value(name) ?: "");
	}
	return r < 0 ? error_set_errno(err, r, "manifest.json") : no_such_tag(tag, &names, err);
}

static int copy_docker_layers(const json_t *image, struct oci_image *out, struct error *err)
{
	json_t *layers = json_object_get(image, "Layers"), *l;
	size_t i;

	if (!json_is_array(layers) || json_array_size(layers) > OCI_LAYERS_MAX)
		return error_set(err, -EBADMSG, "manifest.json without layers, or with too many");
	out->layers = calloc(json_array_size(layers) + 1, sizeof(*out->layers));
	if (!out->layers)
		return error_set_errno(err, -ENOMEM, "layers");
	json_array_foreach(layers, i, l) {
		if (!json_is_string(l))
			return error_set(err, -EBADMSG, "manifest.json: layer %zu is no name",
					 i + 1);
		out->layers[i].file = strdup(json_string_value(l));
		if (!out->layers[i].file)
			return error_set_errno(err, -ENOMEM, "layers");
		out->n_layers++;
	}
	return 0;
}

static int find_in_docker(struct oci_files *f, const char *tag, const struct choice *want,
			  struct oci_image *out, struct error *err)
{
	json_t *list = NULL, *config = NULL;
	const json_t *image = NULL;
	int r = load_json(f, "manifest.json", &list, err);

	if (r == 0 && !json_is_array(list))
		r = error_set(err, -EBADMSG, "manifest.json is not a list");
	if (r == 0)
		r = choose_docker(list, tag, &image, err);
	if (r == 0)
		r = copy_docker_layers(image, out, err);
	if (r == 0)
		r = load_json(f, str(image, "Config"), &config, err);
	if (r == 0)
		r = use_config(config, want, out, err);
	json_decref(config);
	json_decref(list);
	return r;
}

static int make_choice(const char *platform, struct choice *out, struct error *err)
{
	struct oci_platform *p = &out->platform;
	struct oci_platform host;

	oci_platform_host(&host);
	*out = (struct choice){ .platform = host, .asked = platform && *platform };
	if (out->asked) {
		int r = oci_platform_parse(platform, p, err);

		if (r < 0)
			return r;
	}
	snprintf(out->text, sizeof(out->text), "%s/%s%s%s", p->os, p->architecture,
		 *p->variant ? "/" : "", p->variant);
	/* Without a variant, use this host's if its system and architecture are the same. */
	if (!*p->variant && strcmp(p->os, host.os) == 0 &&
	    strcmp(p->architecture, host.architecture) == 0)
		*p = host;
	return 0;
}

static bool has_file(struct oci_files *f, const char *name)
{
	struct oci_file probe;

	if (oci_files_find(f, name, &probe) < 0)
		return false;
	oci_file_close(&probe);
	return true;
}

static int not_an_image(struct oci_files *f, struct error *err)
{
	if (has_file(f, "repositories"))
		return error_set(
			err, -EINVAL,
			"written by docker save before Docker 1.10, without manifest.json: "
			"docker load it, and docker save it again");
	return error_set(err, -EINVAL,
			 "neither an OCI layout (index.json) nor a docker-archive (manifest.json); "
			 "a filesystem's own tar or directory is imported as tar or dir");
}

int oci_image_find(struct oci_files *f, const char *tag, const char *platform,
		   struct oci_image *out, struct error *err)
{
	struct oci_image img = { 0 };
	struct choice want;
	int r;

	if (make_choice(platform, &want, err) < 0)
		return -EINVAL;
	if (has_file(f, "index.json"))
		r = find_in_layout(f, tag, &want, &img, err);
	else if (has_file(f, "manifest.json"))
		r = find_in_docker(f, tag, &want, &img, err);
	else
		r = not_an_image(f, err);
	if (r < 0)
		oci_image_fini(&img);
	else
		*out = img;
	return r;
}
