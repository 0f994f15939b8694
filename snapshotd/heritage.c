#include "snapshotd/heritage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/log.h"
#include "store/base/write_all.h"

#define LOCK_NAME HERITAGE_PREFIX "lock"
#define CONFIG_NAME HERITAGE_PREFIX "config"
#define FAILURE_NAME HERITAGE_PREFIX "failure"
#define TEXT_MAX (16 << 20) /* a config file's mebibyte, however it was written */

/* Memory of nobody's, that the keeper has: text is on no disk. */
static int put_text(struct keeper *k, const char *name, const char *text)
{
	int fd, r;

	if (!k)
		return -ENOTSUP;
	fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text, strlen(text));
	if (r >= 0)
		r = keeper_put(k, name, fd);
	close(fd);
	return r;
}

/* For the caller to free; NULL: there is none, or it cannot be read. */
static char *take_text(struct keeper *k, const char *name)
{
	int fd = keeper_take(k, name);
	char *text = NULL;
	struct stat st;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= TEXT_MAX)
		text = calloc(1, (size_t)st.st_size + 1);
	if (text && pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
		free(text);
		text = NULL;
	}
	close(fd);
	return text;
}

void heritage_take(struct keeper *k, struct heritage *out)
{
	char *text = take_text(k, CONFIG_NAME);
	int fd = keeper_take(k, LOCK_NAME);

	*out = (struct heritage){ .lock_fd = fd < 0 ? 0 : fd,
				  .failure = take_text(k, FAILURE_NAME) };
	if (text && keeper_goes_on(k)) {
		out->config = json_loads(text, 0, NULL);
		if (!out->config)
			log_warn("the predecessor's configuration is lost: the file is read");
	}
	free(text);
}

void heritage_fini(struct heritage *h)
{
	if (h->lock_fd)
		close(h->lock_fd);
	json_decref(h->config);
	free(h->failure);
	*h = (struct heritage){ 0 };
}

int heritage_load_config(const struct heritage *h, struct config *c, int argc, char *const *argv,
			 const char *env_key, struct error *err)
{
	int rc = config_load_kept(c, argc, argv, env_key, h->config, err);

	if (rc < 0 && h->config) {
		log_warn("the predecessor's configuration cannot be used: %s", error_text(err));
		*err = (struct error)ERROR_INIT;
		rc = config_load(c, argc, argv, env_key, err);
	}
	return rc;
}

void heritage_leave_config(struct keeper *k, const json_t *file)
{
	if (!keeper_is_ours(k)) {
		keeper_drop(k, CONFIG_NAME);
		return;
	}
	char *text = file ? json_dumps(file, JSON_COMPACT) : NULL;
	int r = text ? put_text(k, CONFIG_NAME, text) : -ENOMEM;

	free(text);
	if (file && r < 0)
		log_warn("a successor would read the config file: %s", strerror(-r));
}

void heritage_leave(struct keeper *k, const struct store *s, const json_t *file)
{
	int r = k ? keeper_put(k, LOCK_NAME, store_lock_fd(s)) : 0;

	if (r < 0)
		log_warn("the store is not locked after the death of this daemon: %s",
			 strerror(-r));
	heritage_leave_config(k, file);
	keeper_drop(k, FAILURE_NAME);
}

void heritage_leave_failure(struct keeper *k, const char *reason)
{
	if (keeper_is_trial(k) && !keeper_goes_on(k))
		(void)!put_text(k, FAILURE_NAME, reason);
}

void heritage_drop(struct keeper *k)
{
	keeper_drop(k, LOCK_NAME);
	keeper_drop(k, CONFIG_NAME);
}
