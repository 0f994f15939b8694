#include "snapshotd/api/api.h"

#include "snapshotd/sandbox/sandbox_patches.h"
#include "snapshotd/sandbox/sandboxes.h"

int api_patch_create(struct api_call *c, struct error *err)
{
	const char *script = NULL, *description = "";
	const struct field fields[] = {
		{ "script", FIELD_STRING, &script, true },
		{ "description", FIELD_STRING, &description, false },
	};
	json_t *body = NULL, *j;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_body_known(c, fields, ARRAY_SIZE(fields), &body, err);
	if (rc == 0)
		rc = patches_add(c->api->sandboxes, api_capture(c, 0), script, description, &j,
				 err);
	json_decref(body);
	return rc < 0 ? rc : api_result(c, 201, json_pack("{s:o}", "patch", j), err);
}

int api_patches_list(struct api_call *c, struct error *err)
{
	struct api_list l;
	int rc = api_list_begin_plain(&l, c, err);

	if (rc < 0)
		return rc;
	rc = patches_each(c->api->sandboxes, api_capture(c, 0), api_list_item, &l, err);
	return api_list_end(&l, rc, err);
}

int api_patch_delete(struct api_call *c, struct error *err)
{
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = patches_delete(c->api->sandboxes, api_capture(c, 0), api_capture(c, 1), err);
	return rc < 0 ? rc : api_no_content(c);
}
