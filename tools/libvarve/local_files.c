/* local_files.c - files and directories of this machine as steps. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/base64.h"
#include "tools/libvarve/image.h"

/* Of contents in one step. A daemon takes less; this only keeps mistakes from filling memory. */
#define CONTENTS_MAX ((size_t)256 << 20)
#define PATH_LENGTH_MAX (PATH_MAX - 1)

/* A directory being read. */
struct walk {
	const char *local; /* as the caller named it; for messages */
	int root;	   /* of it */
	json_t *files, *dirs;
	struct names {
		char **v;
		size_t n;
	} found;      /* paths below root, each to be looked at; owned */
	size_t bytes; /* of contents */
};

/* ---- one file ---- */

static int read_all(int fd, size_t expected, size_t *total, struct buf *out)
{
	ssize_t n;

	do {
		int r = buf_reserve(out, MAX(expected + 1, out->len + 65536) - out->len);
		if (r < 0)
			return r;
		n = read(fd, out->data + out->len, out->cap - out->len);
		if (n < 0 && errno != EINTR)
			return -errno;
		out->len += n > 0 ? (size_t)n : 0;
		if (out->len > CONTENTS_MAX - *total)
			return -EFBIG;
	} while (n != 0);
	*total += out->len;
	return 0;
}

/* The content of a regular file, in base64, and its permission bits. */
static int read_file(int dir, const char *path, int flags, size_t *total, json_t **content,
		     json_t **mode)
{
	CLEANUP(buf_fini_p) struct buf bytes = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	struct stat st;
	/* Not blocking: opening a FIFO would wait for a writer. */
	int fd = openat(dir, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags);
	int r;

	if (fd < 0)
		return -errno;
	r = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
	if (r == 0)
		r = st.st_size > (off_t)(CONTENTS_MAX - *total)
			    ? -EFBIG
			    : read_all(fd, (size_t)st.st_size, total, &bytes);
	close(fd);
	if (r == 0)
		r = base64_encode(bytes.data, bytes.len, &text);
	if (r < 0)
		return r;
	*content = json_stringn(text.len ? (const char *)text.data : "", text.len);
	*mode = image_mode(st.st_mode);
	if (*content && *mode)
		return 0;
	json_decref(*content);
	json_decref(*mode);
	return -ENOMEM;
}

static int file_failure(int r, const char *dir, const char *path, struct error *err)
{
	const char *slash = *path && *dir ? "/" : "";

	if (r == -EINVAL)
		return error_set(err, r, "%s%s%s is not a regular file", dir, slash, path);
	if (r == -EFBIG)
		return error_set(err, r, "%s%s%s: the contents are larger than %zu MB", dir, slash,
				 path, CONTENTS_MAX >> 20);
	return error_set_errno(err, r, "%s%s%s", dir, slash, path);
}

struct varve_image *varve_image_add_local_file(struct varve_image *img, const char *local,
					       const char *path)
{
	struct error err = ERROR_INIT;
	json_t *content, *mode, *path_text;
	size_t total = 0;
	int r;

	if (varve_image_error(img))
		return varve_image_ref(img);
	if (image_text(path, "a path", &path_text, &err) < 0)
		return image_failed(&err);
	r = local ? read_file(AT_FDCWD, local, 0, &total, &content, &mode) : -ENOENT;
	if (r < 0) {
		json_decref(path_text);
		file_failure(r, "", local ? local : "NULL", &err);
		return image_failed(&err);
	}
	return image_append(img, "add_file",
			    json_pack("{s:o, s:o, s:s, s:o}", "path", path_text, "content", content,
				      "encoding", "base64", "mode", mode));
}

/* ---- a directory ---- */

static void names_fini(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

/* dir, a path below the root or "", and name. */
static int names_add(struct names *l, const char *dir, const char *name)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	if (buf_printf(&b, "%s%s%s", dir, *dir ? "/" : "", name) < 0)
		return -ENOMEM;
	if (b.len > PATH_LENGTH_MAX)
		return -ENAMETOOLONG;
	if ((l->n & (l->n - 1)) == 0) { /* a power of two: full */
		char **v = reallocarray(l->v, l->n ? l->n * 2 : 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		l->v = v;
	}
	l->v[l->n] = strdup((const char *)b.data);
	if (!l->v[l->n])
		return -ENOMEM;
	l->n++;
	return 0;
}

/* Note what is in the directory at `path` below the root ("": the root). */
static int list_directory(struct walk *w, const char *path)
{
	int fd = openat(w->root, *path ? path : ".",
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0) {
		errno = 0;
		e = readdir(d);
		if (!e) {
			r = -errno;
			break;
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = names_add(&w->found, path, e->d_name);
	}
	closedir(d);
	return r;
}

/* New: {"relativePath": path}, to which the caller adds. */
static int new_entry(const char *path, json_t **out, struct error *err)
{
	json_t *text;
	int r = image_text(path, "the name of a file", &text, err);

	if (r < 0)
		return r;
	*out = json_pack("{s:o}", "relativePath", text);
	return *out ? 0 : -ENOMEM;
}

static int read_link(struct walk *w, const char *path, json_t *entry, struct error *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(w->root, path, target, sizeof(target) - 1);
	json_t *text;

	if (n < 0)
		return -errno;
	target[n] = '\0';
	int r = image_text(target, "the target of a symbolic link", &text, err);
	return r < 0 ? r : json_object_set_new(entry, "target", text) < 0 ? -ENOMEM : 0;
}

static int add_regular(struct walk *w, const char *path, json_t *entry)
{
	json_t *content, *mode;
	int r = read_file(w->root, path, O_NOFOLLOW, &w->bytes, &content, &mode);

	if (r < 0)
		return r;
	r = json_object_set_new(entry, "content", content);
	if (json_object_set_new(entry, "mode", mode) < 0)
		r = -1;
	return r < 0 ? -ENOMEM : 0;
}

static int add_entry(struct walk *w, const char *path, struct error *err)
{
	json_t *entry = NULL, *list = w->files;
	struct stat st;
	int r = fstatat(w->root, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;

	if (r == 0)
		r = new_entry(path, &entry, err);
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode)) {
		list = w->dirs;
		r = json_object_set_new(entry, "mode", image_mode(st.st_mode));
		r = r < 0 ? -ENOMEM : list_directory(w, path);
	} else if (S_ISLNK(st.st_mode)) {
		r = read_link(w, path, entry, err);
	} else {
		r = S_ISREG(st.st_mode) ? add_regular(w, path, entry)
					: error_set(err, -EINVAL,
						    "%s/%s is neither a file, a directory nor a "
						    "symbolic link",
						    w->local, path);
	}
	if (r < 0)
		json_decref(entry);
	else if (json_array_append_new(list, entry) < 0)
		r = -ENOMEM;
	return r;
}

static int walk_all(struct walk *w, struct error *err)
{
	int r = list_directory(w, "");

	if (r < 0)
		return error_set_errno(err, r, "%s", w->local);
	/* What directories hold is noted behind them, so this comes to all. */
	for (size_t i = 0; i < w->found.n && r == 0; i++) {
		r = add_entry(w, w->found.v[i], err);
		if (r < 0 && !err->msg[0])
			file_failure(r, w->local, w->found.v[i], err);
	}
	return r;
}

static const char *entry_path(const void *entry)
{
	return json_string_value(json_object_get(*(json_t *const *)entry, "relativePath"));
}

static int compare_entries(const void *a, const void *b)
{
	return strcmp(entry_path(a), entry_path(b));
}

/* list, sorted: a new array. */
static json_t *sorted(const json_t *list)
{
	size_t n = json_array_size(list), i;
	json_t **v = calloc(n + 1, sizeof(json_t *)), *out = json_array(), *e;

	if (v && out) {
		json_array_foreach(list, i, e)
			v[i] = e;
		qsort(v, n, sizeof(json_t *), compare_entries);
		for (i = 0; i < n && out; i++) {
			if (json_array_append(out, v[i]) == 0)
				continue;
			json_decref(out);
			out = NULL;
		}
	}
	if (!v) {
		json_decref(out);
		out = NULL;
	}
	free(v);
	return out;
}

static int directory_args(const char *local, const char *path, json_t **out, struct error *err)
{
	struct walk w = { .local = local, .files = json_array(), .dirs = json_array() };
	json_t *path_text = NULL;
	int r = w.files && w.dirs ? image_text(path, "a path", &path_text, err) : -ENOMEM;

	w.root = open(local, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r == 0 && w.root < 0)
		r = error_set_errno(err, -errno, "%s", local);
	if (r == 0)
		r = walk_all(&w, err);
	if (r == 0) {
		*out = json_pack("{s:O, s:o}", "path", path_text, "files", sorted(w.files));
		if (*out && json_array_size(w.dirs) > 0 &&
		    json_object_set_new(*out, "dirs", sorted(w.dirs)) < 0)
			json_decref(STEAL(*out));
		r = *out ? 0 : -ENOMEM;
	}
	if (w.root >= 0)
		close(w.root);
	names_fini(&w.found);
	json_decref(w.files);
	json_decref(w.dirs);
	json_decref(path_text);
	return r < 0 && !err->msg[0] ? error_set_errno(err, r, "%s", local) : r;
}

struct varve_image *varve_image_add_local_dir(struct varve_image *img, const char *local,
					      const char *path)
{
	struct error err = ERROR_INIT;
	json_t *args = NULL;

	if (varve_image_error(img))
		return varve_image_ref(img);
	if (!local)
		error_set(&err, -EINVAL, "a path is NULL");
	if (!local || directory_args(local, path, &args, &err) < 0)
		return image_failed(&err);
	return image_append(img, "add_dir", args);
}
