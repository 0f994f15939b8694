/* config.h - what the daemon was told: command line, then config file, then defaults. */
#ifndef VARVE_SNAPSHOTD_CONFIG_H
#define VARVE_SNAPSHOTD_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/log.h"
#include "store/base/macros.h"

#define RUNTIME_DEFAULT "runc"

/*
 * Config file: one JSON object; every member is optional and a flag of the same
 * meaning goes before it. Members whose names begin with "//" are comments.
 *   "state", "socket", "listen"   as --state, --socket, --listen
 *   "socketGroup"                 group that owns the socket (default: the daemon's)
 *   "apiKey"                      SNAPSHOTD_API_KEY in the environment goes before it; at
 *                                 least 16 characters; the file must then be closed to others
 *   "allowedHosts"                array of names that clients may call this host by, beside
 *                                 its loopback addresses and the one it listens on
 *   "hostRoots"                   array of directories beneath which TCP clients may name
 *                                 places of this host (default: none)
 *   "socketHostRoots"             the same for the unix socket (default: no limit)
 *   "remotes"                     array of objects as POST /api/remotes takes them: each replaces
 *                                 the remote of its name
 *   "share"                       name of a remote: images are built once for all hosts that share
 *                                 it, named snapshots are pushed (default: none)
 *   "shareBuildTimeout"           1..3600, seconds that a builder on another host may be silent
 *                                 before its build is taken over (default 60)
 *   "takeoverTimeout"             1..3600, seconds that mounts wait for a daemon that comes after
 *                                 one that died (--supervise; default 30)
 *   "logLevel"                    "error", "warn", "info" (default), "debug"
 *   "zstdLevel"                   1..19
 *   "recompressLevel"             1..19 (default 15): chunks are stored anew at it
 *                                 while nothing else goes on; 0: never
 *   "recompressQuiet"             seconds that nothing goes on before (default 60)
 *   "gcInterval"                  seconds between two collections of garbage (default
 *                                 21600); 0: only by need
 *   "gcGarbageBytes"              collect once deleted snapshots had so many (default
 *                                 1 GiB); 0: not for that
 *   "gcFreeBytes"                 ... or less is free on the disk (default 2 GiB); 0: ditto
 *   "gcReserveBytes"              disk that is put by, when less than twice that is free, to
 *                                 collect with (default 64 MiB); 0: none
 *   "diskReserveBytes"            of the state directory's disk, kept back for the daemon: mounts,
 *                                 imports and builds are refused it (default a twentieth of
 *                                 the disk, 96 MiB to 1 GiB; 0: none)
 *   "cacheBytes"                  the store's database may take: beyond, what a bucket has, too,
 *                                 is deleted here and fetched when it is read (default 0: no
 *                                 limit; else at least 64 MiB)
 *   "detachedMountAge"            seconds that a mount stays detached which differs in
 *                                 nothing from its snapshot (default 30 days); 0: for ever
 *   "detachedChangedMountAge"     the same of one that was written to (default 0: for ever)
 *   "memoryBytes"                 as --memory: of all caches and write buffers of the
 *                                 store (default 320 MiB, at least 16 MiB)
 *   "requestMemoryBytes"          of what requests hold: bodies, replies, output of programs
 *                                 (default 256 MiB, at least 128 MiB)
 *   "nodeCacheBytes", "chunkCacheBytes", "blockCacheBytes"  in place of their parts of it
 *   "sharedCacheBytes"            disk for files that mounts share (default 4 GiB, or a
 *                                 quarter of what is free)
 *   "mountMetadataBytes"          memory of the daemon that what a mount has changed may take
 *                                 beside files' data, until its checkpoint (default an eighth
 *                                 of the machine's memory, at least 256 MiB; 0: no limit)
 *   "threads"                     that serve the mounts; 0: four a core
 *   "connectionLimit"             HTTP connections at a time (default 512)
 *   "runtime"                     OCI runtime, as --runtime (default "runc")
 *   "defaultTemplate"             snapshot below images without a base of their own
 *   "buildEnv"                    object of strings: environment of build steps only
 *   "buildConcurrency"            builds at a time (default 2)
 *   "buildMemoryMB"               of a build container (default 4096)
 *   "buildPids"                   processes of a build (default 4096)
 *   "buildDiskMB"                 that one step may write (default 32768; 0: no limit)
 *   "buildInodes"                 that one step may make (default 1,000,000; 0: no limit)
 *   "buildStepTimeout", "buildTimeout"  seconds (default 1800 and 7200)
 *   "buildNetwork", "sandboxNetwork"    "host" (default) or "none"
 *   "sandboxCache"                cache mode of sandboxes' mounts: "private" (default), "shared"
 *   "sandboxDiskMB"               that a sandbox may write where nobody says (default 16384;
 *                                 0: no limit)
 *   "sandboxInodes"               that a sandbox may make (default 1,000,000; 0: no limit)
 *   "sandboxCpuShares"            of a sandbox where processors are short; a program of the host
 *                                 has 1024 (default 100; 0: as that)
 *   "sandboxKeep"                 seconds that a sandbox which was stopped is kept, if it has
 *                                 a timeout (default a week; 0: until it is killed)
 *   "checkpointLimit"             checkpoints of all sandboxes together (default 20,000; 0: no
 *                                 limit)
 *   "patchLimit"                  patches of one checkpoint (default 100; 0: no limit)
 */
struct config {
	char *state_dir;
	char *socket_path;
	char *socket_group; /* NULL: leave it */
	char *listen_host;  /* NULL: no TCP */
	uint16_t listen_port;
	char *api_key;						/* NULL: none */
	json_t *allowed_hosts, *host_roots, *socket_host_roots; /* arrays of strings, or NULL */
	json_t *remotes;					/* an array, or NULL */
	char *share;						/* a remote's name, or NULL */
	unsigned share_build_timeout_s;
	enum log_level log_level;
	int zstd_level;	      /* 0: the store's default */
	int recompress_level; /* 0: never */
	unsigned recompress_quiet_s;
	unsigned gc_interval_s;					    /* 0: only by need */
	uint64_t gc_garbage_bytes, gc_free_bytes, gc_reserve_bytes; /* 0: not */
	uint64_t disk_reserve_bytes;				    /* as space_init takes it */
	uint64_t cache_bytes;					    /* 0: no limit */
	unsigned detached_mount_s, detached_changed_s;		    /* 0: for ever */
	uint64_t memory_bytes;					    /* 0: the store's default */
	uint64_t request_memory_bytes;
	uint64_t node_cache_bytes, chunk_cache_bytes, block_cache_bytes; /* 0: a part of it */
	uint64_t shared_cache_bytes;					 /* 0: default */
	uint64_t mount_metadata_bytes;					 /* 0: no limit */
	unsigned threads;
	unsigned connection_limit;
	char *runtime;
	char *default_template;
	json_t *build_env; /* object of strings; NULL: empty */
	unsigned build_concurrency;
	uint64_t build_memory_mb, build_pids;
	uint64_t build_disk_mb, sandbox_disk_mb; /* 0: no limit */
	uint64_t build_inodes, sandbox_inodes;	 /* 0: no limit */
	uint64_t sandbox_cpu_shares;		 /* 0: the usual */
	uint64_t sandbox_keep_s;		 /* 0: for ever */
	unsigned checkpoint_limit, patch_limit;	 /* 0: no limit */
	unsigned build_step_timeout_s, build_timeout_s;
	bool build_network_none, sandbox_network_none;
	bool sandbox_cache_shared;
	unsigned takeover_timeout_s;
	bool supervise;
	bool help, version; /* asked for; nothing else was checked */
	bool check;	    /* only that was asked for */
	json_t *file;	    /* what the file said; NULL: there was none */
};

/*
 * From argv, the environment's key (may be NULL) and the file named by
 * --config. -EINVAL with what and where; -ENOENT, -EACCES for the file.
 */
MUST_CHECK int config_load(struct config *c, int argc, char *const *argv, const char *env_key,
			   struct error *err);
/*
 * The same, but the file is not read: this is what it said. kept is borrowed; NULL: read it.
 * -EINVAL, too, where this program takes it no more.
 */
MUST_CHECK int config_load_kept(struct config *c, int argc, char *const *argv, const char *env_key,
				json_t *kept, struct error *err);
void config_fini(struct config *c);
extern const char config_usage[];

#endif
