#include "tools/inspect/inspect_json.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "store/base/bytes_json.h"
#include "tools/cli/text.h"

static json_t *time_json(const struct timespec *t)
{
	char text[TEXT_TIME_MAX];

	text_time_iso(t->tv_sec, (uint32_t)t->tv_nsec, text);
	return json_string(text);
}

json_t *inspect_file_json(const struct inspect_file *f, const char *key, const char *path,
			  size_t len)
{
	const struct inode_rec *r = &f->rec;
	char mode[8];

	snprintf(mode, sizeof(mode), "%04o", r->mode & 07777u);
	json_t *o = json_object();
	int failed = !o || bytes_json_set(o, key, path, len) < 0;
	json_t *rest = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "type",
				 text_type(r->mode), "mode", mode, "uid", (json_int_t)r->uid, "gid",
				 (json_int_t)r->gid, "nlink", (json_int_t)r->nlink, "ino",
				 (json_int_t)f->ino, "size", (json_int_t)r->size, "allocBytes",
				 (json_int_t)r->alloc_bytes, "mtime", time_json(&r->mtime), "ctime",
				 time_json(&r->ctime));
	failed |= !rest || json_object_update(o, rest);
	json_decref(rest);
	if (S_ISLNK(r->mode))
		failed |= bytes_json_set(o, "target", r->target, r->target_len) < 0;
	if (S_ISCHR(r->mode) || S_ISBLK(r->mode))
		failed |= json_object_set_new(
			o, "rdev", json_sprintf("%u:%u", major(r->rdev), minor(r->rdev)));
	if (failed) {
		json_decref(o);
		return NULL;
	}
	return o;
}

int json_stream_add(struct json_stream *js, json_t *o)
{
	if (!o)
		return -ENOMEM;
	fputs(js->begun ? ",\n " : "[\n ", stdout);
	js->begun = true;
	int r = json_dumpf(o, stdout, JSON_COMPACT) < 0 || ferror(stdout) ? cli_write_failure() : 0;
	json_decref(o);
	return r;
}

int json_stream_end(struct json_stream *js)
{
	fputs(js->begun ? "\n]\n" : "[]\n", stdout);
	return ferror(stdout) ? cli_write_failure() : 0;
}
