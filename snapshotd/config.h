/* config.h - what the daemon was told: command line, then config file, then defaults. */
#ifndef VARVE_SNAPSHOTD_CONFIG_H
#define VARVE_SNAPSHOTD_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/log.h"
#include "store/base/macros.h"

/*
 * Config file: one JSON object; every member is optional and a flag of the same
 * meaning goes before it.
 *   "state", "socket", "listen"   as --state, --socket, --listen
 *   "socketGroup"                 group that owns the socket (default: the daemon's)
 *   "apiKey"                      SNAPSHOTD_API_KEY in the environment goes before it
 *   "logLevel"                    "error", "warn", "info" (default), "debug"
 *   "zstdLevel"                   1..19
 *   "nodeCacheBytes", "chunkCacheBytes", "blockCacheBytes"
 *   "threads"                     that serve the mounts; 0: two a core
 *   "connectionLimit"             HTTP connections at a time (default 512)
 */
struct config {
	char *state_dir;
	char *socket_path;
	char *socket_group; /* NULL: leave it */
	char *listen_host;  /* NULL: no TCP */
	uint16_t listen_port;
	char *api_key; /* NULL: none */
	enum log_level log_level;
	int zstd_level; /* 0: the store's default */
	uint64_t node_cache_bytes, chunk_cache_bytes, block_cache_bytes; /* 0: default */
	unsigned threads;
	unsigned connection_limit;
	bool help, version; /* asked for; nothing else was checked */
};

/*
 * From argv, the environment's key (may be NULL) and the file named by
 * --config. -EINVAL with what and where; -ENOENT, -EACCES for the file.
 */
MUST_CHECK int config_load(struct config *c, int argc, char *const *argv, const char *env_key,
			   struct error *err);
void config_fini(struct config *c);
extern const char config_usage[];

/* "HOST:PORT" or "[V6]:PORT". -EINVAL, -ENOMEM. */
MUST_CHECK int config_parse_listen(const char *s, char **out_host, uint16_t *out_port,
				   struct error *err);

#endif
