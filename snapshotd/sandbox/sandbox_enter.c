/* Entering a sandbox: its container stays while somebody is inside. */
#include "snapshotd/sandbox/sandboxes_internal.h"

#include <errno.h>

/* -EAGAIN: it is stopped because nobody used it, so sandbox_wake it. */
static int enter_awake(struct sandbox *sb, struct container **out, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&sb->lock);
	while (sb->closing && !sb->gone && sb->rec.status == SANDBOX_RUNNING &&
	       !atomic_load(&sb->owner->stopping))
		pthread_cond_wait(&sb->changed, &sb->lock);
	if (atomic_load(&sb->owner->stopping))
		rc = error_set(err, -ECANCELED, "snapshotd is stopping");
	else if (sb->gone)
		rc = error_set(err, -ENOENT, "sandbox %s has been killed", sb->id);
	else if (sb->rec.idle)
		rc = -EAGAIN;
	else if (sb->rec.status != SANDBOX_RUNNING)
		rc = error_set(err, -ENOTCONN, "sandbox %s is %s: %s", sb->id,
			       sandbox_status_names[sb->rec.status], sb->rec.reason);
	else if (!container_is_running(sb->container))
		rc = error_set(err, -ENOTCONN, "sandbox %s is stopped: its first process has died",
			       sb->id);
	if (rc == 0) {
		sb->inside++;
		*out = sb->container;
	}
	pthread_mutex_unlock(&sb->lock);
	return rc;
}

int sandbox_enter(struct sandbox *sb, struct container **out, struct error *err)
{
	int rc = enter_awake(sb, out, err);

	/* It may be stopped once more before we are inside. */
	while (rc == -EAGAIN) {
		rc = sandbox_wake(sb, err);
		if (rc == 0)
			rc = enter_awake(sb, out, err);
	}
	return rc;
}

void sandbox_leave(struct sandbox *sb)
{
	pthread_mutex_lock(&sb->lock);
	sb->used_ms = monotonic_ms();
	if (--sb->inside == 0)
		pthread_cond_broadcast(&sb->changed);
	pthread_mutex_unlock(&sb->lock);
}

bool sandbox_is_closing(struct sandbox *sb)
{
	bool closing;

	pthread_mutex_lock(&sb->lock);
	closing = sb->closing;
	pthread_mutex_unlock(&sb->lock);
	return closing;
}
