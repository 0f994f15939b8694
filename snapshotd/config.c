#include "snapshotd/config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "snapshotd/config_access.h"
#include "snapshotd/http/budget.h"
#include "snapshotd/build/builds.h"
#include "snapshotd/http/fields.h"
#include "store/gc/recompress.h"
#include "store/store.h"

#define CONNECTION_LIMIT_DEFAULT 512
#define CONNECTION_LIMIT_MAX 10000
#define BUILD_CONCURRENCY_DEFAULT 2
#define BUILD_CONCURRENCY_MAX 256
#define BUILD_MEMORY_MB_DEFAULT 4096
#define BUILD_MEMORY_MB_MAX (1u << 24)
#define BUILD_PIDS_DEFAULT 4096
#define BUILD_PIDS_MAX (1u << 22)
#define BUILD_DISK_MB_DEFAULT 32768
#define SANDBOX_DISK_MB_DEFAULT 16384
/* An upper is in the daemon's memory: several hundred bytes an inode. */
#define INODES_DEFAULT 1000000
#define INODES_MAX (1ull << 32)
#define DISK_MB_MAX (1u << 30)
#define CHECKPOINT_LIMIT_DEFAULT 20000
#define PATCH_LIMIT_DEFAULT 100
#define RECORDS_MAX (1u << 30)
/*
 * What a cgroup takes. The daemon and the host's programs have 1024: many busy processes of a
 * sandbox as heavy would make them wait for hundreds of milliseconds, and by the daemon all other
 * sandboxes.
 */
#define CPU_SHARES_MIN 2
#define CPU_SHARES_MAX 262144
#define CPU_SHARES_DEFAULT 100
#define SANDBOX_KEEP_DEFAULT (7 * 86400)
#define SANDBOX_KEEP_MAX (3650 * 86400)
#define BUILD_STEP_TIMEOUT_DEFAULT 1800
#define BUILD_TIMEOUT_DEFAULT 7200
#define TAKEOVER_TIMEOUT_DEFAULT 30
#define TAKEOVER_TIMEOUT_MAX 3600
#define TIMEOUT_MAX (30 * 86400)
#define AGE_MAX (100u * 365 * 86400) /* seconds */
#define METADATA_MIN (256ull << 20)
#define RESERVE_MAX (1ull << 40)
#define CACHE_MIN (64ull << 20)
#define THREADS_MAX 1024
#define ZSTD_LEVEL_MAX 19
#define RECOMPRESS_QUIET_DEFAULT 60

const char config_usage[] =
	"usage: snapshotd [--state DIR] [--socket PATH] [--listen HOST:PORT] [--config FILE]\n"
	"                 [--runtime PROGRAM] [--memory SIZE] [--supervise] [--foreground]\n"
	"       snapshotd --check-config --config FILE\n"
	"\n"
	"Serves filesystem snapshots: keeps them in a store, mounts them copy-on-write.\n"
	"\n"
	"  --state DIR         the store (default /var/lib/snapshotd)\n"
	"  --socket PATH       unix socket of the HTTP API (default /run/snapshotd.sock)\n"
	"  --listen HOST:PORT  serve it over TCP as well; needs an API key, from\n"
	"                      SNAPSHOTD_API_KEY or the config file\n"
	"  --config FILE       JSON object; flags override what it says\n"
	"  --runtime PROGRAM   OCI runtime of sandboxes and builds (default runc)\n"
	"  --memory SIZE       of the store's caches and write buffers: bytes, or with K, M\n"
	"                      or G (default 320M)\n"
	"  --check-config      say whether the configuration is right, and end\n"
	"  --supervise         start a successor when the daemon dies, which goes on with its\n"
	"                      mounts; needs Linux 6.9\n"
	"  --foreground        accepted; it always runs in the foreground\n"
	"  --help, --version\n";

/* What the command line said; borrowed from argv. */
struct flags {
	const char *state, *socket, *listen, *config, *runtime, *memory;
	bool help, version, check, supervise;
};

/* What the file said; strings are borrowed from the parsed object. */
struct file_values {
	const char *state, *socket, *listen, *socket_group, *api_key, *log_level;
	const char *runtime, *default_template, *build_network, *sandbox_network, *sandbox_cache;
	uint64_t recompress_level, recompress_quiet, memory, request_memory;
	uint64_t gc_interval, gc_garbage, gc_free, gc_reserve, detached_age, changed_age;
	uint64_t mount_metadata;
	uint64_t cache;
	uint64_t disk_reserve; /* UINT64_MAX: not said */
	uint64_t zstd_level, node_cache, chunk_cache, block_cache, shared_cache, threads,
		connection_limit;
	uint64_t build_concurrency, build_memory_mb, build_step_timeout, build_timeout;
	uint64_t build_pids, build_disk_mb, build_inodes, sandbox_disk_mb, sandbox_inodes,
		sandbox_cpu_shares, sandbox_keep, checkpoint_limit, patch_limit;
	const char *share;
	uint64_t share_build_timeout, takeover_timeout;
	json_t *build_env, *allowed_hosts, *host_roots, *socket_host_roots, *remotes;
};

/* Whether argv[*i] is `name`, as "--name VALUE" or "--name=VALUE"; -EINVAL without a value. */
static int flag_value(const char *name, int argc, char *const *argv, int *i, const char **out,
		      struct error *err)
{
	const char *arg = argv[*i];
	size_t len = strlen(name);

	if (strncmp(arg, name, len) != 0 || (arg[len] != '\0' && arg[len] != '='))
		return 0;
	if (arg[len] == '=')
		*out = arg + len + 1;
	else if (*i + 1 < argc)
		*out = argv[++*i];
	else
		return error_set(err, -EINVAL, "%s needs a value", name);
	if (!**out)
		return error_set(err, -EINVAL, "%s needs a value", name);
	return 1;
}

static int flags_parse(struct flags *f, int argc, char *const *argv, struct error *err)
{
	const struct {
		const char *name;
		const char **out;
	} valued[] = {
		{ "--state", &f->state },     { "--socket", &f->socket },
		{ "--listen", &f->listen },   { "--config", &f->config },
		{ "--runtime", &f->runtime }, { "--memory", &f->memory },
	};

	for (int i = 1; i < argc; i++) {
		int rc = 0;

		for (size_t k = 0; k < ARRAY_SIZE(valued) && rc == 0; k++)
			rc = flag_value(valued[k].name, argc, argv, &i, valued[k].out, err);
		if (rc < 0)
			return rc;
		if (rc > 0 || strcmp(argv[i], "--foreground") == 0)
			continue;
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			f->help = true;
		else if (strcmp(argv[i], "--version") == 0)
			f->version = true;
		else if (strcmp(argv[i], "--check-config") == 0)
			f->check = true;
		else if (strcmp(argv[i], "--supervise") == 0)
			f->supervise = true;
		else
			return error_set(err, -EINVAL, "unknown argument \"%s\"", argv[i]);
	}
	return 0;
}

static int file_values(const json_t *j, struct file_values *v, struct error *err)
{
	const struct field fields[] = {
		{ "state", FIELD_STRING, &v->state, false },
		{ "socket", FIELD_STRING, &v->socket, false },
		{ "listen", FIELD_STRING, &v->listen, false },
		{ "socketGroup", FIELD_STRING, &v->socket_group, false },
		{ "apiKey", FIELD_STRING, &v->api_key, false },
		{ "allowedHosts", FIELD_ARRAY, &v->allowed_hosts, false },
		{ "hostRoots", FIELD_ARRAY, &v->host_roots, false },
		{ "socketHostRoots", FIELD_ARRAY, &v->socket_host_roots, false },
		{ "remotes", FIELD_ARRAY, &v->remotes, false },
		{ "share", FIELD_STRING, &v->share, false },
		{ "shareBuildTimeout", FIELD_U64, &v->share_build_timeout, false },
		{ "takeoverTimeout", FIELD_U64, &v->takeover_timeout, false },
		{ "logLevel", FIELD_STRING, &v->log_level, false },
		{ "zstdLevel", FIELD_U64, &v->zstd_level, false },
		{ "recompressLevel", FIELD_U64, &v->recompress_level, false },
		{ "recompressQuiet", FIELD_U64, &v->recompress_quiet, false },
		{ "gcInterval", FIELD_U64, &v->gc_interval, false },
		{ "gcGarbageBytes", FIELD_U64, &v->gc_garbage, false },
		{ "gcFreeBytes", FIELD_U64, &v->gc_free, false },
		{ "gcReserveBytes", FIELD_U64, &v->gc_reserve, false },
		{ "cacheBytes", FIELD_U64, &v->cache, false },
		{ "diskReserveBytes", FIELD_U64, &v->disk_reserve, false },
		{ "detachedMountAge", FIELD_U64, &v->detached_age, false },
		{ "detachedChangedMountAge", FIELD_U64, &v->changed_age, false },
		{ "memoryBytes", FIELD_U64, &v->memory, false },
		{ "requestMemoryBytes", FIELD_U64, &v->request_memory, false },
		{ "nodeCacheBytes", FIELD_U64, &v->node_cache, false },
		{ "chunkCacheBytes", FIELD_U64, &v->chunk_cache, false },
		{ "blockCacheBytes", FIELD_U64, &v->block_cache, false },
		{ "sharedCacheBytes", FIELD_U64, &v->shared_cache, false },
		{ "mountMetadataBytes", FIELD_U64, &v->mount_metadata, false },
		{ "threads", FIELD_U64, &v->threads, false },
		{ "connectionLimit", FIELD_U64, &v->connection_limit, false },
		{ "runtime", FIELD_STRING, &v->runtime, false },
		{ "defaultTemplate", FIELD_STRING, &v->default_template, false },
		{ "buildEnv", FIELD_OBJECT, &v->build_env, false },
		{ "buildConcurrency", FIELD_U64, &v->build_concurrency, false },
		{ "buildMemoryMB", FIELD_U64, &v->build_memory_mb, false },
		{ "buildPids", FIELD_U64, &v->build_pids, false },
		{ "buildDiskMB", FIELD_U64, &v->build_disk_mb, false },
		{ "buildInodes", FIELD_U64, &v->build_inodes, false },
		{ "buildStepTimeout", FIELD_U64, &v->build_step_timeout, false },
		{ "buildTimeout", FIELD_U64, &v->build_timeout, false },
		{ "buildNetwork", FIELD_STRING, &v->build_network, false },
		{ "sandboxNetwork", FIELD_STRING, &v->sandbox_network, false },
		{ "sandboxCache", FIELD_STRING, &v->sandbox_cache, false },
		{ "sandboxDiskMB", FIELD_U64, &v->sandbox_disk_mb, false },
		{ "sandboxInodes", FIELD_U64, &v->sandbox_inodes, false },
		{ "sandboxCpuShares", FIELD_U64, &v->sandbox_cpu_shares, false },
		{ "sandboxKeep", FIELD_U64, &v->sandbox_keep, false },
		{ "checkpointLimit", FIELD_U64, &v->checkpoint_limit, false },
		{ "patchLimit", FIELD_U64, &v->patch_limit, false },
	};
	return fields_parse(j, fields, ARRAY_SIZE(fields), err);
}

static int log_level_parse(const char *s, enum log_level *out, struct error *err)
{
	static const char *const names[] = { [LOG_ERROR] = "error",
					     [LOG_WARN] = "warn",
					     [LOG_INFO] = "info",
					     [LOG_DEBUG] = "debug" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(s, names[i]) == 0) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return error_set(err, -EINVAL, "logLevel \"%s\" is not error, warn, info or debug", s);
}

static int numbers_set(struct config *c, const struct file_values *v, struct error *err)
{
	if (v->zstd_level > ZSTD_LEVEL_MAX)
		return error_set(err, -EINVAL, "zstdLevel must be 1 to %d", ZSTD_LEVEL_MAX);
	if (v->recompress_level > RECOMPRESS_LEVEL_MAX)
		return error_set(err, -EINVAL, "recompressLevel must be 0 to %d",
				 RECOMPRESS_LEVEL_MAX);
	if (v->recompress_quiet > TIMEOUT_MAX)
		return error_set(err, -EINVAL, "recompressQuiet must be at most %d", TIMEOUT_MAX);
	if (v->threads > THREADS_MAX)
		return error_set(err, -EINVAL, "threads must be at most %d", THREADS_MAX);
	if (v->connection_limit < 1 || v->connection_limit > CONNECTION_LIMIT_MAX)
		return error_set(err, -EINVAL, "connectionLimit must be 1 to %d",
				 CONNECTION_LIMIT_MAX);
	c->zstd_level = (int)v->zstd_level;
	c->recompress_level = (int)v->recompress_level;
	c->recompress_quiet_s = (unsigned)v->recompress_quiet;
	if (v->request_memory < REQUEST_MEMORY_MIN || v->request_memory > REQUEST_MEMORY_MAX)
		return error_set(err, -EINVAL, "requestMemoryBytes must be %u to %llu",
				 REQUEST_MEMORY_MIN, REQUEST_MEMORY_MAX);
	c->memory_bytes = v->memory;
	c->request_memory_bytes = v->request_memory;
	c->node_cache_bytes = v->node_cache;
	c->chunk_cache_bytes = v->chunk_cache;
	c->block_cache_bytes = v->block_cache;
	c->shared_cache_bytes = v->shared_cache;
	c->mount_metadata_bytes = v->mount_metadata;
	c->threads = (unsigned)v->threads;
	c->connection_limit = (unsigned)v->connection_limit;
	return 0;
}

static int space_set(struct config *c, const struct file_values *v, struct error *err)
{
	const struct {
		const char *name;
		uint64_t seconds;
		unsigned *out;
	} ages[] = { { "gcInterval", v->gc_interval, &c->gc_interval_s },
		     { "detachedMountAge", v->detached_age, &c->detached_mount_s },
		     { "detachedChangedMountAge", v->changed_age, &c->detached_changed_s } };

	for (size_t i = 0; i < ARRAY_SIZE(ages); i++) {
		if (ages[i].seconds > AGE_MAX)
			return error_set(err, -EINVAL, "%s must be at most %u", ages[i].name,
					 AGE_MAX);
		*ages[i].out = (unsigned)ages[i].seconds;
	}
	if (v->gc_reserve > RESERVE_MAX)
		return error_set(err, -EINVAL, "gcReserveBytes must be at most %llu", RESERVE_MAX);
	if (v->cache && v->cache < CACHE_MIN)
		return error_set(err, -EINVAL, "cacheBytes must be 0 or at least %llu", CACHE_MIN);
	c->cache_bytes = v->cache;
	c->gc_garbage_bytes = v->gc_garbage;
	c->gc_free_bytes = v->gc_free;
	c->gc_reserve_bytes = v->gc_reserve;
	c->disk_reserve_bytes = v->disk_reserve == UINT64_MAX ? SPACE_RESERVE_DEFAULT
				: v->disk_reserve	      ? v->disk_reserve
							      : SPACE_RESERVE_NONE;
	return 0;
}

/* A copy of the first of the two that is not NULL; both NULL: NULL. */
static int copy_first(char **out, const char *a, const char *b, struct error *err)
{
	const char *s = a ? a : b;

	if (!s)
		return 0;
	*out = strdup(s);
	return *out ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static int in_range(const char *name, uint64_t v, uint64_t max, struct error *err)
{
	if (v < 1 || v > max)
		return error_set(err, -EINVAL, "%s must be 1 to %" PRIu64, name, max);
	return 0;
}

static int build_numbers_set(struct config *c, const struct file_values *v, struct error *err)
{
	int rc = in_range("buildConcurrency", v->build_concurrency, BUILD_CONCURRENCY_MAX, err);

	if (rc == 0)
		rc = in_range("buildMemoryMB", v->build_memory_mb, BUILD_MEMORY_MB_MAX, err);
	if (rc == 0)
		rc = in_range("buildPids", v->build_pids, BUILD_PIDS_MAX, err);
	if (rc == 0 && v->build_disk_mb) /* 0: no limit */
		rc = in_range("buildDiskMB", v->build_disk_mb, DISK_MB_MAX, err);
	if (rc == 0 && v->build_inodes) /* 0: no limit */
		rc = in_range("buildInodes", v->build_inodes, INODES_MAX, err);
	if (rc == 0)
		rc = in_range("buildStepTimeout", v->build_step_timeout, TIMEOUT_MAX, err);
	if (rc == 0)
		rc = in_range("buildTimeout", v->build_timeout, TIMEOUT_MAX, err);
	if (rc < 0)
		return rc;
	c->build_concurrency = (unsigned)v->build_concurrency;
	c->build_memory_mb = v->build_memory_mb;
	c->build_pids = v->build_pids;
	c->build_disk_mb = v->build_disk_mb;
	c->build_inodes = v->build_inodes;
	c->build_step_timeout_s = (unsigned)v->build_step_timeout;
	c->build_timeout_s = (unsigned)v->build_timeout;
	return 0;
}

static int sandbox_numbers_set(struct config *c, const struct file_values *v, struct error *err)
{
	const struct {
		const char *name;
		uint64_t value, max; /* value 0: no limit */
	} limits[] = { { "sandboxDiskMB", v->sandbox_disk_mb, DISK_MB_MAX },
		       { "sandboxInodes", v->sandbox_inodes, INODES_MAX },
		       { "sandboxKeep", v->sandbox_keep, SANDBOX_KEEP_MAX },
		       { "checkpointLimit", v->checkpoint_limit, RECORDS_MAX },
		       { "patchLimit", v->patch_limit, RECORDS_MAX } };

	if (v->sandbox_cpu_shares &&
	    (v->sandbox_cpu_shares < CPU_SHARES_MIN || v->sandbox_cpu_shares > CPU_SHARES_MAX))
		return error_set(err, -EINVAL, "sandboxCpuShares must be %d to %d, or 0",
				 CPU_SHARES_MIN, CPU_SHARES_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (limits[i].value &&
		    in_range(limits[i].name, limits[i].value, limits[i].max, err) < 0)
			return -EINVAL;
	c->sandbox_disk_mb = v->sandbox_disk_mb;
	c->sandbox_inodes = v->sandbox_inodes;
	c->sandbox_cpu_shares = v->sandbox_cpu_shares;
	c->sandbox_keep_s = v->sandbox_keep;
	c->checkpoint_limit = (unsigned)v->checkpoint_limit;
	c->patch_limit = (unsigned)v->patch_limit;
	return 0;
}

/* *out: whether s, if it is there, is `other` and not `usual`. */
static int choice_parse(const char *name, const char *s, const char *usual, const char *other,
			bool *out, struct error *err)
{
	if (s && strcmp(s, usual) != 0 && strcmp(s, other) != 0)
		return error_set(err, -EINVAL, "%s \"%.100s\" is not %s or %s", name, s, usual,
				 other);
	*out = s && strcmp(s, other) == 0;
	return 0;
}

/* Takes a reference. */
static int build_env_set(struct config *c, json_t *env, struct error *err)
{
	const char *name;
	json_t *v;

	json_object_foreach(env, name, v) {
		if (!*name || strchr(name, '=') || !json_is_string(v))
			return error_set(err, -EINVAL,
					 "buildEnv: \"%.100s\" is not a variable with a string",
					 name);
	}
	c->build_env = json_incref(env);
	return 0;
}

/* The part that containers and builds use. */
static int containers_fill(struct config *c, const struct flags *f, const struct file_values *v,
			   struct error *err)
{
	int rc = build_numbers_set(c, v, err);

	if (rc == 0)
		rc = sandbox_numbers_set(c, v, err);
	if (rc == 0)
		rc = choice_parse("buildNetwork", v->build_network, "host", "none",
				  &c->build_network_none, err);
	if (rc == 0)
		rc = choice_parse("sandboxNetwork", v->sandbox_network, "host", "none",
				  &c->sandbox_network_none, err);
	if (rc == 0)
		rc = choice_parse("sandboxCache", v->sandbox_cache, "private", "shared",
				  &c->sandbox_cache_shared, err);
	if (rc == 0)
		rc = build_env_set(c, v->build_env, err);
	if (rc == 0)
		rc = copy_first(&c->runtime, f->runtime, v->runtime, err);
	if (rc == 0)
		rc = copy_first(&c->default_template, v->default_template, NULL, err);
	if (rc == 0 && (!*c->runtime || !*c->default_template))
		rc = error_set(err, -EINVAL, "runtime and defaultTemplate cannot be empty");
	return rc;
}

/* SIZE with K, M or G. */
static int size_parse(const char *s, uint64_t *out, struct error *err)
{
	static const char units[] = "KMG";
	char *end;
	const char *unit;

	errno = 0;
	unsigned long long n = strtoull(s, &end, 10);
	unsigned shift =
		*end && (unit = strchr(units, *end)) ? 10 * (unsigned)(unit - units + 1) : 0;
	if (errno || end == s || *s == '-' || end[shift > 0] || n > UINT64_MAX >> shift)
		return error_set(err, -EINVAL, "memory \"%.100s\" is not a size such as 512M", s);
	*out = n << shift;
	return 0;
}

static int memory_set(struct config *c, const char *flag, struct error *err)
{
	int rc = flag ? size_parse(flag, &c->memory_bytes, err) : 0;

	if (rc == 0 && (flag || c->memory_bytes) && c->memory_bytes < STORE_MEMORY_MIN)
		rc = error_set(err, -EINVAL, "the memory must be at least %zu bytes",
			       STORE_MEMORY_MIN);
	return rc;
}

/* Who may call, and what they may name. Takes references. */
static int access_fill(struct config *c, const struct file_values *v, const char *env_key,
		       struct error *err)
{
	const char *env = env_key && *env_key ? env_key : NULL;
	int rc = copy_first(&c->api_key, env, v->api_key, err);

	if (rc == 0 && c->api_key)
		rc = config_key_check(c->api_key, err);
	if (rc == 0)
		rc = config_hosts_check(v->allowed_hosts, err);
	if (rc == 0)
		rc = config_roots_check("hostRoots", v->host_roots, err);
	if (rc == 0)
		rc = config_roots_check("socketHostRoots", v->socket_host_roots, err);
	if (rc < 0)
		return rc;
	c->allowed_hosts = json_incref(v->allowed_hosts);
	c->host_roots = json_incref(v->host_roots);
	c->socket_host_roots = json_incref(v->socket_host_roots);
	return 0;
}

static int config_fill(struct config *c, const struct flags *f, const struct file_values *v,
		       const char *env_key, struct error *err)
{
	const char *listen = f->listen ? f->listen : v->listen;
	int rc = numbers_set(c, v, err);

	if (rc == 0)
		rc = space_set(c, v, err);
	if (rc == 0)
		rc = memory_set(c, f->memory, err);
	if (rc == 0)
		rc = copy_first(&c->state_dir, f->state, v->state, err);
	if (rc == 0)
		rc = copy_first(&c->socket_path, f->socket, v->socket, err);
	if (rc == 0)
		rc = copy_first(&c->socket_group, v->socket_group, NULL, err);
	if (rc == 0)
		rc = access_fill(c, v, env_key, err);
	if (rc == 0)
		rc = config_remotes_check(v->remotes, err);
	if (rc == 0)
		c->remotes = json_incref(v->remotes);
	if (rc == 0)
		rc = config_share(v->share, v->share_build_timeout, &c->share,
				  &c->share_build_timeout_s, err);
	if (rc == 0)
		rc = in_range("takeoverTimeout", v->takeover_timeout, TAKEOVER_TIMEOUT_MAX, err);
	c->takeover_timeout_s = (unsigned)v->takeover_timeout;
	c->supervise = f->supervise;
	if (rc == 0 && v->log_level)
		rc = log_level_parse(v->log_level, &c->log_level, err);
	if (rc == 0)
		rc = containers_fill(c, f, v, err);
	if (rc == 0 && listen)
		rc = config_parse_listen(listen, &c->listen_host, &c->listen_port, err);
	if (rc < 0)
		return rc;
	if (c->listen_host && !c->api_key)
		return error_set(err, -EINVAL,
				 "listening on TCP needs an API key: set SNAPSHOTD_API_KEY, or "
				 "apiKey in the config file");
	if (!*c->state_dir || !*c->socket_path)
		return error_set(err, -EINVAL, "state and socket cannot be empty");
	if (strlen(c->socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return error_set(err, -EINVAL, "socket path is longer than 107 bytes: %s",
				 c->socket_path);
	return 0;
}

static uint64_t metadata_default(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	uint64_t all = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;

	return MAX(all / 8, METADATA_MIN);
}

int config_load(struct config *c, int argc, char *const *argv, const char *env_key,
		struct error *err)
{
	return config_load_kept(c, argc, argv, env_key, NULL, err);
}

int config_load_kept(struct config *c, int argc, char *const *argv, const char *env_key,
		     json_t *kept, struct error *err)
{
	struct flags f = { 0 };
	struct file_values v = { .state = "/var/lib/snapshotd",
				 .socket = "/run/snapshotd.sock",
				 .recompress_level = RECOMPRESS_LEVEL_DEFAULT,
				 .recompress_quiet = RECOMPRESS_QUIET_DEFAULT,
				 .gc_interval = 6 * 3600,
				 .gc_garbage = 1ull << 30,
				 .gc_free = 2ull << 30,
				 .gc_reserve = 64ull << 20,
				 .mount_metadata = metadata_default(),
				 .disk_reserve = UINT64_MAX,
				 .share_build_timeout = SHARE_BUILD_TIMEOUT_DEFAULT,
				 .takeover_timeout = TAKEOVER_TIMEOUT_DEFAULT,
				 .detached_age = 30 * 24 * 3600,
				 .request_memory = REQUEST_MEMORY_DEFAULT,
				 .connection_limit = CONNECTION_LIMIT_DEFAULT,
				 .runtime = RUNTIME_DEFAULT,
				 .default_template = BUILDS_TEMPLATE,
				 .build_concurrency = BUILD_CONCURRENCY_DEFAULT,
				 .build_memory_mb = BUILD_MEMORY_MB_DEFAULT,
				 .build_pids = BUILD_PIDS_DEFAULT,
				 .build_disk_mb = BUILD_DISK_MB_DEFAULT,
				 .build_inodes = INODES_DEFAULT,
				 .sandbox_disk_mb = SANDBOX_DISK_MB_DEFAULT,
				 .sandbox_inodes = INODES_DEFAULT,
				 .sandbox_cpu_shares = CPU_SHARES_DEFAULT,
				 .sandbox_keep = SANDBOX_KEEP_DEFAULT,
				 .checkpoint_limit = CHECKPOINT_LIMIT_DEFAULT,
				 .patch_limit = PATCH_LIMIT_DEFAULT,
				 .build_step_timeout = BUILD_STEP_TIMEOUT_DEFAULT,
				 .build_timeout = BUILD_TIMEOUT_DEFAULT };
	json_t *file = NULL;
	int rc = flags_parse(&f, argc, argv, err);

	*c = (struct config){
		.log_level = LOG_INFO, .help = f.help, .version = f.version, .check = f.check
	};
	if (rc < 0 || f.help || f.version)
		return rc;
	if (f.config) {
		if (kept)
			file = json_incref(kept);
		else
			rc = config_file_read(f.config, &file, err);
		if (rc == 0 && (rc = file_values(file, &v, err)) < 0)
			error_prefix(err, rc, "%s", f.config);
	}
	if (rc == 0)
		rc = config_fill(c, &f, &v, env_key, err);
	c->file = file;
	if (rc < 0)
		config_fini(c);
	return rc;
}

void config_fini(struct config *c)
{
	free(c->state_dir);
	free(c->socket_path);
	free(c->socket_group);
	free(c->listen_host);
	free(c->api_key);
	free(c->runtime);
	free(c->default_template);
	free(c->share);
	json_decref(c->build_env);
	json_decref(c->allowed_hosts);
	json_decref(c->host_roots);
	json_decref(c->socket_host_roots);
	json_decref(c->remotes);
	json_decref(c->file);
	*c = (struct config){ 0 };
}
