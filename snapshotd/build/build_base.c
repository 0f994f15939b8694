/* What an image is built upon. */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <string.h>

#include "snapshotd/build/image_cache.h"
#include "snapshotd/state/sharer.h"
#include "store/share/pull.h"

/* The default of earlier versions, for stores that have no other. */
#define TEMPLATE_FORMER "ubuntu-22.04"

/*
 * A base that is not here, from what all hosts share. It gets its name here, so that later builds
 * have the same one, also while the bucket is away.
 */
static int get_shared(struct builds *b, const char *name, struct snapshot *out)
{
	struct pull_options opt = { .same_name = true,
				    .index = remotes_index(b->opt.remotes),
				    .lazy = true };
	struct error err = ERROR_INIT;
	struct pull_result res;
	struct remote *r;
	int rc = sharer_get(b->opt.sharer, &r, &err);

	if (rc < 0)
		return rc;
	opt.lazy = opt.index != NULL;
	rc = pull_snapshot(b->opt.store, r, name, &opt, NULL, &res, &err);
	sharer_failed(b->opt.sharer, rc, &err);
	remotes_release(b->opt.remotes, r);
	if (rc == 0)
		*out = res.snapshot; /* taken over */
	return rc;
}

static int get_ready(struct builds *b, const char *name, struct snapshot *out, struct error *err)
{
	struct snapshot s = { 0 };
	int rc = pull_find(b->opt.store, b->opt.remotes, name, NULL, &s, err);

	if (rc == -ENOENT && b->opt.sharer && snapshot_name_check(name, NULL) == 0 &&
	    get_shared(b, name, &s) == 0)
		rc = 0;
	if (rc == 0 && s.status != SNAPSHOT_READY) {
		rc = error_set(err, -EBUSY, "snapshot \"%s\" %s", name,
			       s.status == SNAPSHOT_BUILDING ? "is still being built"
							     : "has failed");
		snapshot_fini(&s);
	}
	if (rc == 0)
		*out = s;
	return rc;
}

int builds_template(struct builds *b, struct snapshot *out, struct error *err)
{
	const char *name = b->opt.default_template;
	int rc = get_ready(b, name, out, err);

	if (rc == -ENOENT && strcmp(name, BUILDS_TEMPLATE) == 0 &&
	    get_ready(b, TEMPLATE_FORMER, out, NULL) == 0)
		return 0;
	if (rc == -ENOENT)
		error_set(err, rc,
			  "there is no template \"%s\": make it with `varve template build %s`",
			  name, name);
	return rc;
}

/* A reference as the name of a snapshot: what a name cannot have becomes '-'. */
static void reference_to_name(const char *ref, char out[SNAPSHOT_NAME_MAX + 1])
{
	size_t i;

	for (i = 0; i < SNAPSHOT_NAME_MAX && ref[i]; i++) {
		bool plain = (ref[i] >= 'a' && ref[i] <= 'z') || (ref[i] >= 'A' && ref[i] <= 'Z') ||
			     (ref[i] >= '0' && ref[i] <= '9') || strchr("._-", ref[i]);

		out[i] = plain ? ref[i] : '-';
	}
	out[i] = '\0';
}

/* The snapshot that was imported from an OCI image under the reference's name. */
static int oci_base(struct builds *b, const char *ref, struct snapshot *out, struct error *err)
{
	char name[SNAPSHOT_NAME_MAX + 1];
	int rc;

	reference_to_name(ref, name);
	rc = get_ready(b, name, out, err);
	if (rc == 0 && strcmp(out->source, "oci") != 0) {
		snapshot_fini(out);
		rc = -ENOENT;
	}
	if (rc == -ENOENT)
		error_set(err, rc,
			  "no OCI image \"%s\" has been imported: `varve import %s oci PATH`", ref,
			  name);
	return rc;
}

int builds_base(struct builds *b, const struct manifest *m, struct build_base *out,
		struct error *err)
{
	struct build_base base = { 0 };
	int rc = m->base == BASE_TEMPLATE   ? builds_template(b, &base.snap, err)
		 : m->base == BASE_SNAPSHOT ? get_ready(b, m->base_ref, &base.snap, err)
					    : oci_base(b, m->base_ref, &base.snap, err);

	if (rc < 0)
		return error_prefix(err, rc, "the image's base");
	rc = image_base_id(&base.snap, b->opt.env, base.id);
	if (rc < 0) {
		build_base_fini(&base);
		return error_set_errno(err, rc, "the image's base");
	}
	*out = base;
	return 0;
}
