/*
 * main.c - snapshotd: opens the store, brings the mounts back, serves the API
 * until SIGTERM or SIGINT, and takes everything down in the reverse order.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/fuse/session_pool.h"
#include "fs/host/keeper.h"
#include "fs/shared/shared_files.h"
#include "snapshotd/api/api.h"
#include "snapshotd/build/image_cache.h"
#include "snapshotd/config.h"
#include "snapshotd/config_check.h"
#include "snapshotd/formats.h"
#include "snapshotd/heritage.h"
#include "snapshotd/reload.h"
#include "snapshotd/service.h"
#include "snapshotd/state/backup.h"
#include "snapshotd/state/idempotency.h"
#include "snapshotd/state/verified.h"
#include "snapshotd/supervise.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/log_journal.h"
#include "store/base/version.h"
#include "store/share/claim.h"
#include "store/lazy/evict.h"
#include "store/lazy/far.h"
#include "store/lazy/pins.h"

#define ARENA_CORES 4	    /* that share one of malloc's arenas */
#define STOP_GRACE_MS 10000 /* for requests under way */
#define HAND_OVER_GRACE_MS 500

struct daemon_parts {
	struct config config;
	int argc;
	char **argv;
	struct api api;
	struct http_server *http;
	struct lazy_index *index;
	struct keeper *keeper; /* NULL: none */
	struct heritage heritage;
};

/* Every mount, cache file and connection is a descriptor. */
static void raise_open_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) < 0)
		log_warn("cannot raise the limit of open files: %s", strerror(errno));
}

/*
 * Arenas that are many and used by turns keep what caches have given up: with
 * malloc's own limit (8 a core) a walk of a million files took 100 MiB more.
 */
static void limit_arenas(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	(void)mallopt(M_ARENA_MAX, (int)MAX(cores / ARENA_CORES, 2));
}

/* The signals that main() waits for, blocked here and so in every thread. */
static void block_signals(sigset_t *stop)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	sigemptyset(stop);
	sigaddset(stop, SIGTERM);
	sigaddset(stop, SIGINT);
	sigaddset(stop, SIGHUP);
	sigaddset(stop, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, stop, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

static int open_store(struct daemon_parts *d, struct error *err)
{
	struct store_options opt = {
		.zstd_level = d->config.zstd_level,
		.memory_bytes = d->config.memory_bytes,
		.node_cache_bytes = d->config.node_cache_bytes,
		.chunk_cache_bytes = d->config.chunk_cache_bytes,
		.block_cache_bytes = d->config.block_cache_bytes,
		.reserve_bytes = d->config.disk_reserve_bytes,
		.lock_fd = d->heritage.lock_fd,
	};
	int rc = store_open(d->config.state_dir, &opt, &d->api.store, err);

	d->heritage.lock_fd = 0;
	if (rc == -EBUSY)
		error_prefix(err, rc, "snapshotd is already running on this store");
	if (rc == 0)
		rc = formats_check_store(d->api.store, err);
	if (rc == 0)
		keeper_writes(d->keeper);
	if (rc == 0)
		backup_sweep(d->api.store);
	if (rc == 0)
		verified_load(d->api.store->kv, &d->api.metrics);
	return rc;
}

/*
 * Those of the config file replace records of their names. None is opened yet: a bucket that cannot
 * be reached fails who uses it, and is tried again by the next.
 */
static int open_remotes(struct daemon_parts *d, struct error *err)
{
	struct remote_config c;
	const json_t *j;
	size_t i;
	int rc = remotes_open(d->api.store->kv, &d->api.remotes, err);

	json_array_foreach(d->config.remotes, i, j) {
		if (rc == 0)
			rc = remote_config_parse(j, &c, err);
		if (rc < 0)
			return rc;
		rc = remotes_set(d->api.remotes, &c, err);
		remote_config_fini(&c);
	}
	return rc;
}

/* Tests have no half a minute. */
static unsigned trace_ms(void)
{
	const char *text = getenv("VARVE_TRACE_MS");
	unsigned long ms = text ? strtoul(text, NULL, 10) : 0;

	return ms && ms <= PREFETCH_TRACE_MS ? (unsigned)ms : PREFETCH_TRACE_MS;
}

/* What reads chunks from buckets: before anybody reads. */
static int open_far(struct daemon_parts *d, struct error *err)
{
	int rc = lazy_index_open(d->api.store->dir_fd, &d->index, err);

	if (rc < 0)
		return rc;
	d->api.far = far_new(d->index, d->api.remotes);
	if (!d->api.far)
		return error_set(err, -ENOMEM, "out of memory");
	rc = prefetch_new(d->api.store, d->api.remotes, trace_ms(), &d->api.prefetch);
	if (rc < 0)
		return error_set_errno(err, rc, "cannot start prefetching");
	far_set_prefetch(d->api.far, d->api.prefetch);
	store_set_far(d->api.store, d->api.far);
	remotes_set_index(d->api.remotes, d->index);
	remotes_set_prefetch(d->api.remotes, d->api.prefetch);
	return 0;
}

/* What keeps the store below its limit, and what it needs in the buckets. */
static int open_evictor(struct daemon_parts *d, struct error *err)
{
	const struct pins_options pins = { .remotes = d->api.remotes, .index = d->index };
	int rc = pins_open(&pins, &d->api.pins, err);

	if (rc == 0)
		remotes_set_pins(d->api.remotes, d->api.pins);
	if (rc < 0 || !d->config.cache_bytes)
		return rc;
	const struct evictor_options opt = { .store = d->api.store,
					     .remotes = d->api.remotes,
					     .index = d->index,
					     .pins = d->api.pins,
					     .limit_bytes = d->config.cache_bytes };
	d->api.evictor = evictor_new(&opt);
	return d->api.evictor ? 0 : error_set(err, -ENOMEM, "out of memory");
}

/* Sockets never close as long as the keeper has them: nobody is refused meanwhile. */
static int listen_unix(struct daemon_parts *d, struct listener *l, struct error *err)
{
	static const char name[] = KEEPER_OWN_SOCKETS "unix";
	const struct config *c = &d->config;
	int fd = keeper_take(d->keeper, name), rc;

	l->fd = service_socket();
	if (l->fd < 0)
		l->fd = keeper_take(d->keeper, KEEPER_SERVICE_SOCKET);
	if (l->fd >= 0) {
		if (fd >= 0 && fd != l->fd) {
			close(fd);
			keeper_drop(d->keeper, name);
		}
		return 0;
	}
	if (fd >= 0 && listener_adopt(l, fd, c->socket_path) == 0)
		return 0;
	if (fd >= 0)
		keeper_drop(d->keeper, name);
	rc = listener_unix(l, c->socket_path, c->socket_group, err);
	if (rc == 0)
		(void)!keeper_put(d->keeper, name, l->fd);
	return rc;
}

static int listen_tcp(struct daemon_parts *d, struct listener *l, struct error *err)
{
	const struct config *c = &d->config;
	char name[KEEPER_NAME_MAX + 1];
	uint16_t port = 0;

	snprintf(name, sizeof(name), KEEPER_OWN_SOCKETS "tcp-%u-%.40s", c->listen_port,
		 c->listen_host);
	for (char *p = name; (p = strpbrk(p, ":%_"));)
		*p = '.';
	int fd = keeper_take(d->keeper, name), rc;

	if (fd >= 0 && listener_adopt(l, fd, NULL) == 0)
		return 0;
	rc = listener_tcp(l, c->listen_host, c->listen_port, &port, err);
	if (rc == 0)
		log_info("listening on %s port %u", c->listen_host, port);
	if (rc == 0)
		(void)!keeper_put(d->keeper, name, l->fd);
	return rc;
}

/* Mounts and sandboxes are a predecessor's, and another daemon goes on with them if we do not. */
static bool is_successor(const struct daemon_parts *d)
{
	return d->keeper && d->config.supervise && keeper_generation(d->keeper) > 1;
}

static int listen_all(struct daemon_parts *d, struct error *err)
{
	struct listener l = LISTENER_NONE;
	int rc = listen_unix(d, &l, err);

	if (rc == 0)
		rc = http_server_listen(d->http, &l, false, err);
	if (rc == 0 && d->config.listen_host) {
		rc = listen_tcp(d, &l, err);
		if (rc == 0)
			rc = http_server_listen(d->http, &l, true, err);
	}
	if (!is_successor(d))
		listener_unlink(&l);
	listener_fini(&l);
	return rc;
}

static int open_runtime(struct daemon_parts *d, struct error *err)
{
	const struct runtime_options opt = { .program = d->config.runtime,
					     .state_dir = d->api.store->dir,
					     .keeper = d->keeper };

	return runtime_open(&opt, &d->api.runtime, err);
}

/* What all hosts share. A remote that is not there, or not yet, shares nothing. */
static int open_sharer(struct daemon_parts *d, struct error *err)
{
	const struct sharer_options opt = { .store = d->api.store,
					    .remotes = d->api.remotes,
					    .metrics = &d->api.metrics,
					    .remote = d->config.share,
					    .lost = builds_take_image,
					    .beat_ms = d->config.share_build_timeout_s * 1000 /
						       CLAIM_PATIENCE };

	return d->config.share ? sharer_open(&opt, &d->api.sharer, err) : 0;
}

static int open_builds(struct daemon_parts *d, struct error *err)
{
	const struct config *c = &d->config;
	const struct builds_options opt = {
		.store = d->api.store,
		.remotes = d->api.remotes,
		.sharer = d->api.sharer,
		.mounts = d->api.mounts,
		.runtime = d->api.runtime,
		.state_dir = d->api.store->dir,
		.default_template = c->default_template,
		.max_concurrent = c->build_concurrency,
		.memory_mb = c->build_memory_mb,
		.pids = c->build_pids,
		.quota_bytes = c->build_disk_mb << 20,
		.quota_inodes = c->build_inodes,
		.step_timeout_s = c->build_step_timeout_s,
		.total_timeout_s = c->build_timeout_s,
		.network_none = c->build_network_none,
		.goes_on = d->api.generation > 1,
		.env = c->build_env,
	};

	return builds_open(&opt, &d->api.builds, err);
}

static int open_sandboxes(struct daemon_parts *d, struct error *err)
{
	const struct sandboxes_options opt = { .store = d->api.store,
					       .mounts = d->api.mounts,
					       .runtime = d->api.runtime,
					       .keeper = d->keeper,
					       .network_none = d->config.sandbox_network_none,
					       .shared_cache = d->config.sandbox_cache_shared,
					       .disk_mb = d->config.sandbox_disk_mb,
					       .cpu_shares = d->config.sandbox_cpu_shares,
					       .inodes = d->config.sandbox_inodes,
					       .keep_s = d->config.sandbox_keep_s,
					       .checkpoint_limit = d->config.checkpoint_limit,
					       .patch_limit = d->config.patch_limit,
					       .output = &d->api.memory.output };

	return sandboxes_open(&opt, &d->api.sandboxes, err);
}

static int open_recompressor(struct daemon_parts *d, struct error *err)
{
	const struct recompressor_options opt = { .store = d->api.store,
						  .pool = d->api.pool,
						  .level = d->config.recompress_level,
						  .quiet_s = d->config.recompress_quiet_s };

	return recompressor_open(&opt, &d->api.recompressor, err);
}

static int open_collector(struct daemon_parts *d, struct error *err)
{
	const struct config *c = &d->config;
	const struct collector_options opt = { .store = d->api.store,
					       .pool = d->api.pool,
					       .mounts = d->api.mounts,
					       .metrics = &d->api.metrics,
					       .index = d->index,
					       .evictor = d->api.evictor,
					       .reasons = config_collector_reasons(c),
					       .reserve_bytes = c->gc_reserve_bytes,
					       .tidy = image_cache_sweep_manifests };

	return collector_open(&opt, &d->api.collector, err);
}

/* Without them, all mounts are private. */
static void share_files(struct daemon_parts *d)
{
	struct error err = ERROR_INIT;

	if (shared_files_open(d->api.store, d->config.shared_cache_bytes, &d->api.shared, &err))
		log_warn("mounts will share no page cache: %s", error_text(&err));
	else
		session_pool_share(d->api.pool, d->api.shared);
}

static int start(struct daemon_parts *d, struct error *err)
{
	struct http_app app = api_app(&d->api);
	int rc = formats_check_kept(d->keeper, err);

	if (rc == 0)
		rc = open_store(d, err);
	d->api.started_ms = monotonic_ms();
	d->api.generation = keeper_generation(d->keeper);
	d->api.keeper = d->keeper;
	d->api.upgrade_failure = d->heritage.failure;
	request_memory_init(&d->api.memory, d->config.request_memory_bytes);
	d->api.api_key = d->config.api_key;
	d->api.listen_host = d->config.listen_host;
	d->api.host_roots = d->config.host_roots;
	d->api.socket_host_roots = d->config.socket_host_roots;
	d->api.allowed_hosts = d->config.allowed_hosts;
	keeper_sign_of_life(d->keeper);
	if (rc == 0)
		rc = open_remotes(d, err);
	if (rc == 0)
		rc = open_far(d, err);
	if (rc == 0)
		rc = open_evictor(d, err);
	if (rc == 0)
		rc = api_gate_init(&d->api, err);
	if (rc < 0)
		return rc;
	d->api.pool = session_pool_new(d->config.threads, err);
	if (!d->api.pool)
		return err->code ? err->code : error_set(err, -ENOMEM, "out of memory");
	session_pool_keep(d->api.pool, d->keeper);
	session_pool_limit_metadata(d->api.pool, d->config.mount_metadata_bytes);
	share_files(d);
	keeper_sign_of_life(d->keeper);
	rc = mounts_open(d->api.store, d->api.pool, &d->api.mounts, err);
	if (rc == 0)
		rc = open_runtime(d, err);
	if (rc == 0)
		rc = open_sharer(d, err);
	if (rc == 0)
		rc = open_builds(d, err);
	keeper_sign_of_life(d->keeper);
	if (rc == 0)
		rc = open_sandboxes(d, err);
	keeper_sign_of_life(d->keeper);
	if (rc == 0)
		rc = stats_history_open(d->api.store, &d->api.history, err);
	if (rc == 0)
		rc = stats_history_start(d->api.history, err);
	if (rc == 0)
		rc = open_recompressor(d, err);
	if (rc == 0)
		rc = open_collector(d, err);
	if (rc == 0)
		rc = idempotency_open(d->api.store->kv, &d->api.idempotency, err);
	if (rc == 0)
		rc = http_server_new(&app, d->config.connection_limit, &d->http, err);
	if (rc == 0)
		rc = listen_all(d, err);
	if (rc == 0) {
		keeper_drop_untaken(d->keeper);
		keeper_ready(d->keeper);
		heritage_leave(d->keeper, d->api.store, d->config.file);
		d->api.ready = true; /* from now on it may be told to upgrade */
	}
	return rc;
}

static void stop(struct daemon_parts *d)
{
	if (d->api.store) {
		kv_compact_stop(d->api.store->kv);
		store_stop_far(d->api.store);
		prefetch_stop(d->api.prefetch);
	}
	/* A bucket may not answer: no request that has begun is worth waiting for. */
	remotes_stop(d->api.remotes);
	if (d->http)
		http_server_stop(d->http, STOP_GRACE_MS);
	http_server_free(d->http);
	idempotency_close(d->api.idempotency);
	collector_close(d->api.collector);
	recompressor_close(d->api.recompressor);
	stats_history_close(d->api.history);
	sandboxes_close(d->api.sandboxes);
	builds_close(d->api.builds);
	sharer_close(d->api.sharer);
	runtime_close(d->api.runtime);
	mounts_close(d->api.mounts);
	if (d->api.pool)
		session_pool_free(d->api.pool);
	shared_files_close(d->api.shared);
	evictor_stop(d->api.evictor);
	pins_close(d->api.pins);
	remotes_close(d->api.remotes);
	store_close(d->api.store);
	evictor_free(d->api.evictor);
	source_free(d->api.far);
	prefetch_free(d->api.prefetch);
	lazy_index_free(d->index);
	heritage_drop(d->keeper);
	heritage_fini(&d->heritage);
	keeper_close(d->keeper);
	config_fini(&d->config);
}

static void warn_of_network(const struct config *c)
{
	if (c->listen_host && !c->sandbox_network_none)
		log_warn("sandboxes share this host's network: programs in them reach what listens "
			 "on it, port %u of this daemon included (sandboxNetwork: none)",
			 (unsigned)c->listen_port);
}

static void alive(void *arg)
{
	struct daemon_parts *d = arg;

	keeper_sign_of_life(d->keeper);
}

static void reload(void *arg)
{
	struct daemon_parts *d = arg;

	reload_config(&d->config, d->argc, d->argv, d->api.remotes, d->api.collector);
	heritage_leave_config(d->keeper, d->config.file);
}

/*
 * Requests under way get some time; whatever else there is, the keeper has, and mounts' requests
 * that are not answered come to the successor. Nothing is unmounted, nobody is stopped.
 */
static void hand_over(struct daemon_parts *d)
{
	sigset_t pending;

	if (!d->keeper || !d->config.supervise) {
		log_warn("SIGUSR2: nobody would go on (--supervise)");
		return;
	}
	log_info("leaving to a successor");
	http_server_leave(d->http, HAND_OVER_GRACE_MS);
	if (sigpending(&pending) == 0 &&
	    (sigismember(&pending, SIGTERM) > 0 || sigismember(&pending, SIGINT) > 0))
		return; /* told to end meanwhile: in order */
	_exit(SUPERVISE_HANDED_OVER);
}

static int serve(struct daemon_parts *d)
{
	/* A keeper feeds systemd, and is fed itself. */
	const struct service_calls calls = { reload, keeper_watches(d->keeper) ? alive : NULL };
	struct error err = ERROR_INIT;
	sigset_t signals;
	int rc, sig;

	limit_arenas();
	umask(077); /* nothing of the store is for others; what is, is made so */
	block_signals(&signals);
	raise_open_files();
	rc = start(d, &err);
	if (rc < 0) {
		log_error("%s", error_text(&err));
		if (is_successor(d)) {
			heritage_leave_failure(d->keeper, error_text(&err));
			_exit(SUPERVISE_NOT_STARTED);
		}
	} else {
		warn_of_network(&d->config);
		log_info("snapshotd %s serves %s on %s", VARVE_VERSION VARVE_COMMIT,
			 d->api.store->dir, d->config.socket_path);
		service_notify("READY=1\nSTATUS=serving");
		while ((sig = service_wait(&signals, &calls, d)) == SIGUSR2)
			hand_over(d);
		log_info("stopping (%s)", sig == SIGTERM ? "SIGTERM" : "SIGINT");
	}
	service_notify("STOPPING=1");
	keeper_stopping(d->keeper);
	stop(d);
	if (rc == 0)
		log_info("stopped");
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static struct daemon_parts d;
	const bool has_supervisor = getenv("VARVE_KEEPER");
	struct error err = ERROR_INIT;

	d.argc = argc;
	d.argv = argv;
	if (has_supervisor) {
		d.keeper = keeper_open();
		heritage_take(d.keeper, &d.heritage);
	}
	if (heritage_load_config(&d.heritage, &d.config, argc, argv, getenv("SNAPSHOTD_API_KEY"),
				 &err) < 0) {
		fprintf(stderr, "snapshotd: %s\n", error_text(&err));
		heritage_leave_failure(d.keeper, error_text(&err));
		return SUPERVISE_MISUSED;
	}
	if (d.config.help) {
		fputs(config_usage, stdout);
		return EXIT_SUCCESS;
	}
	if (d.config.version) {
		puts("snapshotd " VARVE_VERSION VARVE_COMMIT);
		return EXIT_SUCCESS;
	}
	if (d.config.check && config_check_host(&d.config, &err) < 0) {
		fprintf(stderr, "snapshotd: %s\n", error_text(&err));
		return SUPERVISE_MISUSED;
	}
	if (d.config.check) {
		puts("the configuration is right");
		config_fini(&d.config);
		return EXIT_SUCCESS;
	}
	log_detect_journal();
	log_set_level(d.config.log_level);
	if (d.config.supervise && !has_supervisor)
		return supervise(argv, d.config.takeover_timeout_s);
	unsetenv("SNAPSHOTD_API_KEY"); /* not for children to see */
	if (!has_supervisor) {
		d.keeper = keeper_open();
		heritage_take(d.keeper, &d.heritage);
	}
	service_begin();
	keeper_sign_of_life(d.keeper);
	return serve(&d);
}
