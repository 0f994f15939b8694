/*
 * varve.h - libvarve: images described in code, and the sandboxes, snapshots and
 * checkpoints of a snapshotd. See libvarve(3).
 *
 *	struct varve_image *img = varve_image_base();
 *	varve_image_set(&img, varve_image_apt_install(img, VARVE_LIST("curl", "git")));
 *	varve_image_set(&img, varve_image_run_commands(img, VARVE_LIST("useradd me")));
 *	if (varve_sandbox_create(c, &(struct varve_sandbox_options){ .image = img }, &sb, &err) < 0)
 *		fprintf(stderr, "%s\n", err.message);
 *
 * Functions that return int return 0, or -errno with the reason in *err, which
 * may be NULL. Text is UTF-8. What the library hands out is freed with the
 * function that is named after it; all of these accept NULL. A list that goes
 * in ends in NULL, and a NULL for a list is an empty one.
 */
#ifndef VARVE_H
#define VARVE_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VARVE_API __attribute__((visibility("default")))
#define VARVE_MUST_CHECK __attribute__((warn_unused_result))

#define VARVE_LIST(...) ((const char *const[]){ __VA_ARGS__, NULL })

struct varve_error {
	int code;	   /* 0 or -errno: -ENOENT, -EEXIST (a name is taken), ... */
	int status;	   /* of the daemon's answer (HTTP), or 0 */
	char message[512]; /* one line */
};

VARVE_API const char *varve_version(void);

/* ---- images ------------------------------------------------------------- */

/*
 * What is to be in an image: a base, and steps upon it. An image never changes:
 * each call makes another, which shares the steps with the one it was made of,
 * and both are released with varve_image_unref, in any order. Images may be
 * used by several threads at once.
 *
 * No call returns NULL. One that fails returns an image with an error, and so
 * does every call on such an image: after a chain of calls one look at
 * varve_image_error is enough.
 */
struct varve_image;

#define VARVE_KEY_SIZE 65 /* 64 lower-case hex digits and a NUL */

/* Upon the daemon's default template, a snapshot (name or id), or an imported OCI image. */
VARVE_API struct varve_image *varve_image_base(void);
VARVE_API struct varve_image *varve_image_from_snapshot(const char *name);
VARVE_API struct varve_image *varve_image_from_oci(const char *reference);
/* A manifest in JSON, as varve_image_to_json writes it. */
VARVE_API struct varve_image *varve_image_from_json(const char *text, size_t len);

VARVE_API struct varve_image *varve_image_ref(struct varve_image *img);
VARVE_API void varve_image_unref(struct varve_image *img);
/* Put next, which is given up to it, in place of *img, which is released. */
VARVE_API void varve_image_set(struct varve_image **img, struct varve_image *next);
/* Why the image, or one that it was made of, could not be made; NULL if it is sound. */
VARVE_API const struct varve_error *varve_image_error(const struct varve_image *img);

VARVE_API struct varve_image *varve_image_apt_install(struct varve_image *img,
						      const char *const *packages);
VARVE_API struct varve_image *varve_image_pip_install(struct varve_image *img,
						      const char *const *packages);
/* In one /bin/sh, which keeps cd and export; the first that fails ends the build. */
VARVE_API struct varve_image *varve_image_run_commands(struct varve_image *img,
						       const char *const *commands);
/* Of "NAME=VALUE"; for the steps behind it and in every sandbox. */
VARVE_API struct varve_image *varve_image_env(struct varve_image *img, const char *const *vars);
VARVE_API struct varve_image *varve_image_workdir(struct varve_image *img, const char *path);
/* mode: permission bits, or -1 to leave them to the build (0644). */
VARVE_API struct varve_image *varve_image_add_file(struct varve_image *img, const char *path,
						   const void *content, size_t len, int mode);
/* A file of this machine with its permission bits; read now. */
VARVE_API struct varve_image *varve_image_add_local_file(struct varve_image *img, const char *local,
							 const char *path);
/*
 * A directory of this machine with all below it: files, symbolic links (not
 * followed), directories, permission bits; read now, sorted, so that the key
 * does not depend on the disk. -EINVAL for other kinds of files.
 */
VARVE_API struct varve_image *varve_image_add_local_dir(struct varve_image *img, const char *local,
							const char *path);
/* Memory of the build in MB; no part of the image, nor of its key. */
VARVE_API struct varve_image *varve_image_builder_memory(struct varve_image *img, unsigned mb);

/* The manifest, in canonical JSON (RFC 8785); free() it. */
VARVE_API VARVE_MUST_CHECK int varve_image_to_json(const struct varve_image *img, char **out,
						   struct varve_error *err);
/* The key that the image is cached by: SHA-256 of the canonical {"base", "steps"}. */
VARVE_API VARVE_MUST_CHECK int varve_image_cache_key(const struct varve_image *img,
						     char out[VARVE_KEY_SIZE],
						     struct varve_error *err);

/* ---- the daemon ---------------------------------------------------------- */

/* A connection. One thread at a time; further threads open their own. */
struct varve_client;

struct varve_client_options {
	const char *socket_path; /* of a unix socket */
	const char *url;	 /* "http://HOST:PORT", instead of the socket */
	const char *api_key;	 /* for the url */
};

/*
 * o may be NULL. Where it says neither socket nor url, the environment does: VARVE_API_URL
 * (with VARVE_API_KEY), VARVE_SOCKET, OPENCOMPUTER_API_URL (with OPENCOMPUTER_API_KEY), then
 * SNAPSHOTD_SOCKET; else it is /run/snapshotd.sock. A url without a key gets VARVE_API_KEY, or
 * else OPENCOMPUTER_API_KEY. Nothing is sent yet.
 */
VARVE_API VARVE_MUST_CHECK int varve_client_new(const struct varve_client_options *o,
						struct varve_client **out, struct varve_error *err);
VARVE_API void varve_client_free(struct varve_client *c);
/*
 * A daemon that is being replaced is waited for, and a call that it has not answered is made again:
 * 10 seconds, or those of VARVE_RETRY_SECONDS, from when none answers (0: not at all). A call that
 * changes something has an Idempotency-Key, so that it is done once. Made again is neither what
 * reads from a descriptor nor what has handed over a part of its answer. Where no daemon has
 * answered yet, none is waited for unless the seconds are set, here or in the environment.
 */
VARVE_API void varve_client_set_retry(struct varve_client *c, unsigned seconds);

/* Borrowed for the call. Return 0 to go on. */
struct varve_log {
	int step;	     /* from 1; 0: none */
	const char *type;    /* of the step or the event; "" where there is none */
	const char *message; /* a line */
	const char *stream;  /* "stdout", "stderr", or "info": the build's own words */
};
/* Not 0: stop waiting (-ECANCELED); the build goes on. */
typedef int (*varve_log_fn)(void *arg, const struct varve_log *log);

/* ---- sandboxes ----------------------------------------------------------- */

/* Each of these structs is one allocation's front: its strings are never NULL and live as long. */
struct varve_sandbox {
	const char *id;
	const char *status; /* "running", ... */
	const char *template_id;
	const char *from_checkpoint_id;
	const char *started_at; /* ISO 8601 */
	const char *json;	/* all that the daemon said */
};

/* All zero is a sandbox of the default template. */
struct varve_sandbox_options {
	struct varve_image *image; /* or */
	const char *snapshot;	   /* name or id */
	const char *const *envs;   /* "NAME=VALUE" */
	const char *const *metadata;
	unsigned timeout_s; /* of idleness, then it is stopped until the next call; 0: never */
	uint64_t memory_mb; /* 0: the daemon's defaults */
	double cpus;
	uint64_t disk_mb;
	varve_log_fn on_log; /* of the image's build; may be NULL */
	void *arg;
};

VARVE_API VARVE_MUST_CHECK int varve_sandbox_create(struct varve_client *c,
						    const struct varve_sandbox_options *o,
						    struct varve_sandbox **out,
						    struct varve_error *err);
/* A new sandbox from a checkpoint; of o (may be NULL) image and snapshot are not looked at. */
VARVE_API VARVE_MUST_CHECK int varve_sandbox_fork(struct varve_client *c, const char *checkpoint_id,
						  const struct varve_sandbox_options *o,
						  struct varve_sandbox **out,
						  struct varve_error *err);
VARVE_API VARVE_MUST_CHECK int varve_sandbox_get(struct varve_client *c, const char *id,
						 struct varve_sandbox **out,
						 struct varve_error *err);
/* *out: an array that ends in NULL. */
VARVE_API VARVE_MUST_CHECK int
varve_sandbox_list(struct varve_client *c, struct varve_sandbox ***out, struct varve_error *err);
VARVE_API int varve_sandbox_kill(struct varve_client *c, const char *id, struct varve_error *err);
VARVE_API VARVE_MUST_CHECK int varve_sandbox_set_timeout(struct varve_client *c, const char *id,
							 unsigned timeout_s,
							 struct varve_error *err);
VARVE_API void varve_sandbox_free(struct varve_sandbox *sb);
VARVE_API void varve_sandboxes_free(struct varve_sandbox **list);

/* ---- commands in a sandbox ----------------------------------------------- */

struct varve_exec_options {
	const char *const *argv; /* the program and its arguments */
	const char *const *envs; /* "NAME=VALUE", beside the sandbox's */
	const char *cwd;	 /* NULL: the image's */
	unsigned timeout_s;	 /* 0: none */
	const void *stdin_data;	 /* that it reads, at most 1 MiB; NULL: nothing */
	size_t stdin_len;
};

struct varve_exec_result {
	int running;	       /* only of varve_exec_get */
	int exit_code;	       /* 128 + signal where it was killed */
	const char *out, *err; /* what it wrote to standard output and error; NUL behind it */
	size_t out_len, err_len;
	const char *error; /* why it could not be run, or "" */
};

/* Run and wait. A command that fails is a result, not a failure. */
VARVE_API VARVE_MUST_CHECK int varve_exec_run(struct varve_client *c, const char *sandbox_id,
					      const struct varve_exec_options *o,
					      struct varve_exec_result **out,
					      struct varve_error *err);
/* Start it; *exec_id (free() it) is for varve_exec_get. */
VARVE_API VARVE_MUST_CHECK int varve_exec_start(struct varve_client *c, const char *sandbox_id,
						const struct varve_exec_options *o, char **exec_id,
						struct varve_error *err);
VARVE_API VARVE_MUST_CHECK int varve_exec_get(struct varve_client *c, const char *sandbox_id,
					      const char *exec_id, struct varve_exec_result **out,
					      struct varve_error *err);
VARVE_API void varve_exec_result_free(struct varve_exec_result *r);

/* ---- files in a sandbox -------------------------------------------------- */

struct varve_file {
	const char *name, *path;
	int is_dir;
	uint64_t size_bytes;
};

/* The bytes as they come; not 0 from on_data ends it and is returned (make it -errno). */
VARVE_API VARVE_MUST_CHECK int
varve_file_read(struct varve_client *c, const char *sandbox_id, const char *path,
		int (*on_data)(void *arg, const void *data, size_t len), void *arg,
		struct varve_error *err);
/* All of them, with a NUL behind; free() *out. */
VARVE_API VARVE_MUST_CHECK int varve_file_read_all(struct varve_client *c, const char *sandbox_id,
						   const char *path, char **out, size_t *out_len,
						   struct varve_error *err);
/* Makes missing directories. */
VARVE_API VARVE_MUST_CHECK int varve_file_write(struct varve_client *c, const char *sandbox_id,
						const char *path, const void *data, size_t len,
						struct varve_error *err);
/* What is left to be read from a descriptor. */
VARVE_API VARVE_MUST_CHECK int varve_file_write_fd(struct varve_client *c, const char *sandbox_id,
						   const char *path, int fd,
						   struct varve_error *err);
/* *out: an array that ends in NULL. */
VARVE_API VARVE_MUST_CHECK int varve_file_list(struct varve_client *c, const char *sandbox_id,
					       const char *path, struct varve_file ***out,
					       struct varve_error *err);
VARVE_API void varve_files_free(struct varve_file **list);
VARVE_API VARVE_MUST_CHECK int varve_file_mkdir(struct varve_client *c, const char *sandbox_id,
						const char *path, struct varve_error *err);
/* A directory with all below it. What is gone already is no error. */
VARVE_API VARVE_MUST_CHECK int varve_file_remove(struct varve_client *c, const char *sandbox_id,
						 const char *path, struct varve_error *err);

/* ---- checkpoints of a sandbox -------------------------------------------- */

struct varve_checkpoint {
	const char *id, *sandbox_id, *name;
	const char *status; /* "processing", "ready", "failed" */
	const char *created_at;
	const char *error; /* why it failed, or "" */
	uint64_t size_bytes;
	const char *json;
};

/* max_count: delete the oldest of the sandbox beyond so many; 0: none. -EEXIST: the name is taken.
 */
VARVE_API VARVE_MUST_CHECK int
varve_checkpoint_create(struct varve_client *c, const char *sandbox_id, const char *name,
			unsigned max_count, struct varve_checkpoint **out, struct varve_error *err);
VARVE_API VARVE_MUST_CHECK int varve_checkpoint_list(struct varve_client *c, const char *sandbox_id,
						     struct varve_checkpoint ***out,
						     struct varve_error *err);
VARVE_API VARVE_MUST_CHECK int varve_checkpoint_delete(struct varve_client *c,
						       const char *sandbox_id, const char *id,
						       struct varve_error *err);
/* Put the sandbox back to it; its processes end. */
VARVE_API VARVE_MUST_CHECK int varve_checkpoint_restore(struct varve_client *c,
							const char *sandbox_id, const char *id,
							struct varve_error *err);
VARVE_API void varve_checkpoint_free(struct varve_checkpoint *cp);
VARVE_API void varve_checkpoints_free(struct varve_checkpoint **list);

/* ---- snapshots and builds ------------------------------------------------ */

struct varve_snapshot {
	const char *id, *name;
	const char *status; /* "building", "ready", "failed" */
	const char *content_hash;
	const char *checkpoint_id;
	const char *manifest; /* JSON, or "" */
	const char *created_at, *last_used_at;
	const char *error, *root, *parent, *build_id;
	uint64_t size_bytes, new_bytes, file_count;
	const char *json;
	const char *share; /* "local", "pushed", or "lazy": parts may be in a remote alone */
};

struct varve_build_options {
	int force;	     /* build even what is cached */
	int keep_failed;     /* leave the files of a failed build to be looked at */
	varve_log_fn on_log; /* may be NULL */
	void *arg;
};

/* Build (or find) the image and keep it under a name. o may be NULL. -EEXIST: it is taken. */
VARVE_API VARVE_MUST_CHECK int varve_snapshot_create(struct varve_client *c, const char *name,
						     struct varve_image *image,
						     const struct varve_build_options *o,
						     struct varve_snapshot **out,
						     struct varve_error *err);
/* Newest first. */
VARVE_API VARVE_MUST_CHECK int
varve_snapshot_list(struct varve_client *c, struct varve_snapshot ***out, struct varve_error *err);
VARVE_API VARVE_MUST_CHECK int varve_snapshot_get(struct varve_client *c, const char *name_or_id,
						  struct varve_snapshot **out,
						  struct varve_error *err);
VARVE_API VARVE_MUST_CHECK int varve_snapshot_delete(struct varve_client *c, const char *name_or_id,
						     struct varve_error *err);
/*
 * Put a snapshot into a remote (a bucket that the daemon knows), or take one from there, by its
 * name or id there. name: of the copy; NULL: the same, "": none. *out may be NULL.
 */
VARVE_API VARVE_MUST_CHECK int varve_snapshot_push(struct varve_client *c, const char *name_or_id,
						   const char *remote, const char *name,
						   struct varve_error *err);
VARVE_API VARVE_MUST_CHECK int varve_snapshot_pull(struct varve_client *c, const char *remote,
						   const char *reference, const char *name,
						   struct varve_snapshot **out,
						   struct varve_error *err);
/* Make a bucket known under a name: s3://BUCKET[/PREFIX] or file:///DIR; or forget it. */
VARVE_API VARVE_MUST_CHECK int varve_remote_add(struct varve_client *c, const char *name,
						const char *url, struct varve_error *err);
/* How a bucket is reached, for s3:// alone up to timeout_s; varve-remotes(7). Zeroed: as usual. */
struct varve_remote_options {
	const char *endpoint; /* URL of the service; NULL: AWS */
	const char *region;
	const char *proxy;	 /* URL of an HTTP cache */
	const char *ca_file;	 /* as all files, of the daemon's host */
	const char *credentials; /* env, file:PATH, process:COMMAND or metadata; NULL: the usual */
	bool path_style;
	unsigned timeout_s;	 /* 0: the daemon's default */
	const char *key_file;	 /* of an encrypted bucket; or */
	const char *key_command; /* which prints it */
	const char *alternate;	 /* name of a remote whose packs are borrowed; it is permanent */
	bool read_only;
	bool permanent; /* nothing is ever deleted from it: of a new one alone */
};
/* The same with options; o may be NULL. */
VARVE_API VARVE_MUST_CHECK int varve_remote_add_with(struct varve_client *c, const char *name,
						     const char *url,
						     const struct varve_remote_options *o,
						     struct varve_error *err);
VARVE_API VARVE_MUST_CHECK int varve_remote_remove(struct varve_client *c, const char *name,
						   struct varve_error *err);
VARVE_API void varve_snapshot_free(struct varve_snapshot *s);
VARVE_API void varve_snapshots_free(struct varve_snapshot **list);

/* A build's log from its start; while it runs, what comes until it ends. -ENOENT. */
VARVE_API VARVE_MUST_CHECK int varve_build_logs(struct varve_client *c, const char *build_id,
						varve_log_fn on_log, void *arg,
						struct varve_error *err);
VARVE_API VARVE_MUST_CHECK int varve_build_cancel(struct varve_client *c, const char *build_id,
						  struct varve_error *err);

#ifdef __cplusplus
}
#endif

#endif
