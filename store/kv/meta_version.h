/*
 * meta_version.h - records of a version that this program does not know are found before
 * anything is changed: a newer program has written them, and takes them for what they are.
 */
#ifndef VARVE_META_VERSION_H
#define VARVE_META_VERSION_H

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/kv/meta.h"

/*
 * Of a kind whose records are JSON objects with a member `version`. -EINVAL, with a reason, where
 * one is newer than `newest`; what is no such object is its owner's business. -ENOMEM, -EIO.
 */
MUST_CHECK int meta_check_versions(struct kv *kv, enum meta_kind kind, int newest,
				   struct error *err);

#endif
