/*
 * object_s3_xml.h - the XML that S3 speaks: listings, replies to deletions, errors. Pure.
 *
 * A parser for what such services send: elements, attributes (which are passed over), text, CDATA,
 * the five named entities and characters by number. It expands nothing else: a document with a
 * DOCTYPE is refused. What it keeps of a document is bounded by its length and the caller's limits.
 */
#ifndef VARVE_OBJECT_S3_XML_H
#define VARVE_OBJECT_S3_XML_H

#include "store/base/buf.h"
#include "store/base/macros.h"
#include "store/bucket/object_store.h"

/* One page of a listing. A zeroed struct is an empty one. */
struct s3_listing {
	struct object_entry *entries; /* ascending; keys without the bucket's prefix; owned */
	size_t n;
	bool truncated;
	char *last; /* the page's greatest key as the bucket has it, also if not ours; or NULL;
		       owned */
};
void s3_listing_fini(struct s3_listing *l);

struct s3_list_query {
	const char *root; /* what every key begins with: the bucket's prefix with its '/', or "" */
	const char *prefix; /* after the root */
	const char *after;  /* after the root; NULL: none */
	unsigned max_keys;
};
/*
 * The reply to a ListObjectsV2 with encoding-type=url. Keys that object_key_check refuses are not
 * ours and left out. -EBADMSG: no listing, more keys than asked, keys that were not asked, a key
 * twice. -ENOMEM.
 */
MUST_CHECK int s3_xml_listing(const char *text, size_t len, const struct s3_list_query *q,
			      struct s3_listing *out);

/* Text of a service is cut, and what is not printable ASCII becomes '?'. */
struct s3_failure {
	char code[64];
	char message[200];
};
/* The body of a failure. -EBADMSG: no such document. */
MUST_CHECK int s3_xml_failure(const char *text, size_t len, struct s3_failure *out);

/* A request to delete: whole keys, each after root. -ENOMEM. */
MUST_CHECK int s3_xml_delete(const char *root, const char *const *names, size_t n, struct buf *out);
/* Its reply: how many keys failed for another reason than that they are absent, and one of them. */
MUST_CHECK int s3_xml_deleted(const char *text, size_t len, size_t *out_failed,
			      struct s3_failure *out);

#endif
