#include "snapshotd/api/api.h"

#include "snapshotd/build/manifest.h"

int api_images_list(struct api_call *c, struct error *err)
{
	struct api_list l;
	int rc = api_list_begin_plain(&l, c, err);

	if (rc < 0)
		return rc;
	rc = builds_images(c->api->builds, api_list_item, &l, err);
	return api_list_end(&l, rc, err);
}

int api_image_delete(struct api_call *c, struct error *err)
{
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = builds_image_delete(c->api->builds, api_capture(c, 0), err);
	return rc < 0 ? rc : api_no_content(c);
}

static int build_image(struct api_call *c, json_t *image, struct error *err)
{
	struct build_outcome oc = { 0 };
	struct manifest m;
	int rc = manifest_parse(image, &m, err);

	if (rc < 0)
		return rc;
	rc = api_resolve_image(c, &m, NULL, &oc, err);
	if (rc == 0)
		rc = api_result(c, 200,
				json_pack("{s:s, s:s, s:o, s:b}", "key", m.key, "snapshotID",
					  oc.snapshot_id, "buildID",
					  oc.build_id[0] ? json_string(oc.build_id) : json_null(),
					  "cached", oc.cached),
				err);
	manifest_fini(&m);
	return rc;
}

int api_image_create(struct api_call *c, struct error *err)
{
	json_t *image = NULL, *body = NULL;
	const struct field fields[] = { { "image", FIELD_OBJECT, &image, true } };
	int rc = api_query(c, err, "force", "keepFailed", NULL);

	if (rc == 0)
		rc = api_body_known(c, fields, ARRAY_SIZE(fields), &body, err);
	if (rc == 0)
		rc = build_image(c, image, err);
	json_decref(body);
	return rc;
}
