#include <errno.h>

#include "store/layout/vpk.h"
#include "store/remote/moved.h"
#include "store/share/share_verify.h"

bool share_is_damage(int rc)
{
	return rc == -EBADMSG || rc == -ENOTSUP || rc == -ENOENT || rc == -EFBIG || rc == -ENODATA;
}

/* The bytes of a pack, or of what has its chunks now: *id. Nothing, if none of them was needed. */
static int get_pack(struct object_store *os, struct pack_id *id, struct buf *out, struct error *err)
{
	const struct moved_bucket b = { os, "", OBJECT_BACKGROUND };
	struct share_moved_head head;
	char key[SHARE_KEY_SIZE];
	int rc = -ENOENT;

	for (unsigned hops = 0; rc == -ENOENT && hops <= SHARE_MOVED_HOPS; hops++) {
		share_key_pack(id, key);
		rc = object_get(os, OBJECT_BACKGROUND, key, VPK_SIZE_MAX, out, NULL, err);
		if (rc != -ENOENT)
			break;
		rc = moved_head(&b, id, &head, err);
		if (rc < 0 || head.none)
			return rc;
		*id = head.to;
		rc = -ENOENT;
	}
	return rc;
}

int share_verify_pack(struct remote *r, const struct pack_id *pack, uint64_t *out_bytes,
		      struct error *err)
{
	struct buf CLEANUP(buf_fini_p) bytes = BUF_INIT;
	struct pack_id now = *pack;
	struct vpk_view view;
	int rc = get_pack(remote_objects(r), &now, &bytes, err);

	if (rc == 0 && bytes.len)
		rc = vpk_view_whole(&view, &now, bytes.data, bytes.len, err);
	if (rc == 0 && bytes.len)
		rc = vpk_check_frames(&view, bytes.data, err);
	*out_bytes = bytes.len;
	return rc;
}
