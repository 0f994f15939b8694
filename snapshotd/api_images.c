#include "snapshotd/api.h"

int api_images_list(struct api_call *c, struct error *err)
{
	json_t *j = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = builds_images(c->api->builds, &j, err);
	return rc < 0 ? rc : api_result(c, 200, j, err);
}

int api_image_delete(struct api_call *c, struct error *err)
{
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = builds_image_delete(c->api->builds, api_capture(c, 0), err);
	return rc < 0 ? rc : api_no_content(c);
}
