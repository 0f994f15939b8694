/*
 * cli.h - what every command of varve gets and how it ends.
 *
 * A command returns 0 (done), a negative errno with the reason in err (main
 * prints it; exit status 1), CLI_USAGE with the mistake in err (exit status
 * 2), or CLI_FAILED where it has said all itself (exit status 1).
 */
#ifndef VARVE_TOOLS_CLI_H
#define VARVE_TOOLS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "tools/cli/args.h"
#include "tools/cli/client.h"

#define CLI_FAILED 1
#define CLI_USAGE 2

#define CLI_SOCKET_DEFAULT "/run/snapshotd.sock"
#define CLI_STATE_DEFAULT "/var/lib/snapshotd"

struct lazy_index;
struct source;
struct store;
struct table;

struct cli {
	char **argv;	       /* as main() got it */
	const char *socket;    /* --socket, or NULL */
	const char *url;       /* --url, or NULL */
	struct address daemon; /* made by cli_address; its text is "" before */
	bool daemon_given;     /* then: by option or environment */
	const char *store_dir; /* --store, or NULL */
	bool json;
	struct client *client; /* owned; made by cli_client */
	struct store *store;   /* owned; made by cli_store, as are the next two */
	struct lazy_index *index;
	struct source *absent; /* of what it has in buckets alone */
	char *state_dir;       /* owned; the daemon's, once asked */
	int status;	       /* exit status of a command that succeeded: that of what it ran */
	int failure_status;    /* exit status of one that failed, instead of CLI_FAILED; or 0 */
};

typedef int command_fn(struct cli *cli, const struct args *args, struct error *err);

struct command {
	const char *name;
	const char *words; /* its arguments, as in the usage line; also guides completion */
	const char *summary;
	const char *help;		   /* paragraphs below the usage line, or NULL */
	int min_words, max_words;	   /* max -1: any number */
	const struct option_spec *options; /* or NULL */
	bool takes_store;		   /* works with --store */
	/* By the daemon; NULL: always from a store. varve-store reads it (store_program.h). */
	command_fn *run;
};

/* Ends with an empty entry; in the order of the help. */
extern const struct command cli_commands[];
extern const struct option_spec cli_global_options[];
const struct command *cli_find_command(const char *name);

/* Set the mistake; returns CLI_USAGE. */
int cli_usage(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- the daemon (daemon_access.c) ---- */

/*
 * Where it is; lent. What was given as an option, else VARVE_API_URL with VARVE_API_KEY, else
 * cli_environment_socket(). NULL with err set: -EINVAL or -ENAMETOOLONG.
 */
const struct address *cli_address(struct cli *cli, struct error *err);
/* VARVE_SOCKET or SNAPSHOTD_SOCKET, or NULL. */
const char *cli_environment_socket(void);
/*
 * Is it reached over TCP? Then this host may not be its host: paths are that one's, and its store
 * cannot be read here. False, too, where cli_address fails.
 */
bool cli_is_remote(struct cli *cli);
/* The connection, made at the first call; lent. NULL with err set. */
struct client *cli_client(struct cli *cli, struct error *err);
/* client_call with a path of one escaped argument (or none: fmt without %s). */
MUST_CHECK int cli_call(struct cli *cli, const char *method, const char *fmt, const char *arg,
			const json_t *body, json_t **out, struct error *err);

/*
 * The daemon's state directory, asked for at the first call; lent. Where no daemon answers
 * and no socket was named, the default one, if a store is there. -ENOTSUP where it is remote.
 */
MUST_CHECK int cli_state_dir(struct cli *cli, const char **out, struct error *err);
/* cli_json_path of a path on the daemon's host: -EINVAL where that is remote and it is relative. */
MUST_CHECK int cli_daemon_path(struct cli *cli, const char *path, char **out, struct error *err);
/* One SnapshotInfo of the daemon's, by name or id. */
MUST_CHECK int cli_snapshot(struct cli *cli, const char *name, json_t **out, struct error *err);

/* ---- a store (store_access.c) ---- */

/* The store of --store, opened read-only at the first call; lent. varve-store's alone. */
MUST_CHECK int cli_store(struct cli *cli, struct store **out, struct error *err);
void cli_store_close(struct cli *cli); /* if it was opened */

/* ---- what is typed and printed ---- */

/* An absolute path for a path that a user typed; malloc'd. The file need not exist. */
MUST_CHECK int cli_absolute(const char *path, char **out, struct error *err);
/* As cli_absolute, for a path that goes into JSON: -EILSEQ where it is not UTF-8. */
MUST_CHECK int cli_json_path(const char *path, char **out, struct error *err);

/* Does standard output go to a terminal (names are escaped there)? */
bool cli_on_terminal(void);
/*
 * For table_print to standard output: 0 where that is no terminal, else its columns
 * ($COLUMNS, what the terminal says, or 80), or SIZE_MAX with --wide.
 */
size_t cli_width(void);
void cli_set_wide(void);
/* The code of what stdio has just failed to write. */
int cli_write_failure(void);
/* Print o, indented, with a line end. */
MUST_CHECK int cli_print_json(const json_t *o);
/* Print a name or a path, escaped on a terminal. No line end. */
MUST_CHECK int cli_print_name(const char *s, size_t len);
/* Print the name o[key] (store/base/bytes_json.h) like that; nothing where there is none. */
MUST_CHECK int cli_print_json_name(const json_t *o, const char *key);
/*
 * Print a list: as JSON, or as a table of `columns` with a row for each, or `empty` on
 * standard error, which says what there is none of and how one is made.
 */
MUST_CHECK int cli_print_list(const struct cli *cli, const json_t *list, const char *columns,
			      void (*add_row)(struct table *t, const json_t *o), const char *empty);
/* A line on standard error; what came from elsewhere plays no tricks on a terminal. */
void cli_tell(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* Print an object's fields, one a line, aligned; sizes and times for people. */
MUST_CHECK int cli_print_fields(const json_t *o);

/* Fields of JSON objects; "" and 0 where absent or of another type. */
const char *cli_str(const json_t *o, const char *key);
uint64_t cli_num(const json_t *o, const char *key);
/* What an import or export did not carry over as it was, on standard error. */
void cli_print_remarks(const json_t *list);
bool cli_flag(const json_t *o, const char *key);

#endif
