#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/stat.h>

#include "snapshotd/config.h"
#include "snapshotd/config_access.h"
#include "snapshotd/http/fields.h"

static char file_path[64];

static int make_file(void **state)
{
	int fd;

	(void)state;
	strcpy(file_path, "/tmp/test_config.XXXXXX");
	fd = mkstemp(file_path);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(file_path);
}

static void write_file(const char *text)
{
	FILE *f = fopen(file_path, "w");

	assert_non_null(f);
	fputs(text, f);
	fchmod(fileno(f), 0600);
	fclose(f);
}

/* argv of at most 6 words after the program's name. */
#define LOAD(c, env, err, ...)                                                              \
	({                                                                                  \
		char *argv_[] = { (char *)"snapshotd", ##__VA_ARGS__, NULL };               \
		config_load(c, (int)ARRAY_SIZE(argv_) - 1, (char *const *)argv_, env, err); \
	})

static void defaults_hold_without_arguments(void **state)
{
	struct config c;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(LOAD(&c, NULL, &err), 0);
	assert_string_equal(c.state_dir, "/var/lib/snapshotd");
	assert_string_equal(c.socket_path, "/run/snapshotd.sock");
	assert_null(c.listen_host);
	assert_null(c.api_key);
	assert_int_equal(c.log_level, LOG_INFO);
	assert_int_equal(c.connection_limit, 512);
	assert_string_equal(c.runtime, "runc");
	assert_string_equal(c.default_template, "debian-12");
	assert_null(c.build_env);
	assert_int_equal(c.build_concurrency, 2);
	assert_int_equal(c.build_memory_mb, 4096);
	assert_int_equal(c.build_pids, 4096);
	assert_int_equal(c.build_disk_mb, 32768);
	assert_int_equal(c.sandbox_disk_mb, 16384);
	assert_int_equal(c.sandbox_keep_s, 7 * 86400);
	assert_int_equal(c.sandbox_cpu_shares, 100);
	assert_int_equal(c.checkpoint_limit, 20000);
	assert_int_equal(c.patch_limit, 100);
	assert_int_equal(c.build_step_timeout_s, 1800);
	assert_int_equal(c.build_timeout_s, 7200);
	assert_false(c.build_network_none);
	assert_false(c.sandbox_network_none);
	assert_false(c.sandbox_cache_shared);
	assert_int_equal(c.shared_cache_bytes, 0);
	config_fini(&c);
}

static void builds_and_sandboxes_are_configured(void **state)
{
	struct config c;
	struct error err = ERROR_INIT;

	(void)state;
	write_file("{\"runtime\": \"runc\", \"defaultTemplate\": \"debian-12\","
		   "\"buildEnv\": {\"http_proxy\": \"http://127.0.0.1:3128\"},"
		   "\"buildConcurrency\": 7, \"buildMemoryMB\": 512, \"buildPids\": 99, "
		   "\"buildDiskMB\": 5,"
		   "\"buildStepTimeout\": 60,"
		   "\"buildTimeout\": 600, \"buildNetwork\": \"none\","
		   "\"sandboxNetwork\": \"host\", \"sandboxCache\": \"shared\","
		   "\"sandboxDiskMB\": 0, \"sandboxKeep\": 0, \"sandboxCpuShares\": 1024,"
		   "\"checkpointLimit\": 5, \"patchLimit\": 0,"
		   "\"sharedCacheBytes\": 123456}");
	assert_int_equal(LOAD(&c, NULL, &err, "--config", file_path, "--runtime", "/usr/bin/crun"),
			 0);
	assert_string_equal(c.runtime, "/usr/bin/crun");
	assert_string_equal(c.default_template, "debian-12");
	assert_string_equal(json_string_value(json_object_get(c.build_env, "http_proxy")),
			    "http://127.0.0.1:3128");
	assert_int_equal(c.build_concurrency, 7);
	assert_int_equal(c.build_memory_mb, 512);
	assert_int_equal(c.build_pids, 99);
	assert_int_equal(c.build_disk_mb, 5);
	assert_int_equal(c.build_step_timeout_s, 60);
	assert_int_equal(c.build_timeout_s, 600);
	assert_true(c.build_network_none);
	assert_false(c.sandbox_network_none);
	assert_true(c.sandbox_cache_shared);
	assert_int_equal(c.sandbox_disk_mb, 0);
	assert_int_equal(c.sandbox_keep_s, 0);
	assert_int_equal(c.sandbox_cpu_shares, 1024);
	assert_int_equal(c.checkpoint_limit, 5);
	assert_int_equal(c.patch_limit, 0);
	assert_int_equal(c.shared_cache_bytes, 123456);
	config_fini(&c);
}

static void flags_go_before_the_file(void **state)
{
	struct config c;
	struct error err = ERROR_INIT;

	(void)state;
	write_file("{\"state\": \"/s\", \"socket\": \"/k\", \"logLevel\": \"debug\","
		   "\"zstdLevel\": 9, \"threads\": 3, \"nodeCacheBytes\": 1000,"
		   "\"recompressLevel\": 0, \"recompressQuiet\": 5, \"memoryBytes\": 20000000}");
	assert_int_equal(LOAD(&c, NULL, &err, "--config", file_path, "--memory", "64M",
			      "--state=/other", "--foreground"),
			 0);
	assert_int_equal(c.memory_bytes, 64 << 20);
	assert_string_equal(c.state_dir, "/other");
	assert_string_equal(c.socket_path, "/k");
	assert_int_equal(c.log_level, LOG_DEBUG);
	assert_int_equal(c.zstd_level, 9);
	assert_int_equal(c.recompress_level, 0);
	assert_int_equal(c.recompress_quiet_s, 5);
	assert_int_equal(c.threads, 3);
	assert_int_equal(c.node_cache_bytes, 1000);
	config_fini(&c);
}

static void memory_is_a_size(void **state)
{
	static const struct {
		char *text;
		uint64_t want; /* 0: refused */
	} cases[] = {
		{ "16M", 16 << 20 },
		{ "20000K", 20000 << 10 },
		{ "3G", 3ull << 30 },
		{ "99999999", 99999999 },
		{ "15M", 0 },
		{ "0", 0 },
		{ "M", 0 },
		{ "-1", 0 },
		{ "64m", 0 },
		{ "64MB", 0 },
		{ "99999999999999G", 0 },
		{ "99999999999999999999", 0 },
	};
	struct config c;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = ERROR_INIT;
		int rc = LOAD(&c, NULL, &err, "--memory", cases[i].text);
		if (!cases[i].want) {
			assert_int_equal(rc, -EINVAL);
			assert_non_null(strstr(err.msg, "memory"));
			continue;
		}
		assert_int_equal(rc, 0);
		assert_int_equal(c.memory_bytes, cases[i].want);
		config_fini(&c);
	}
}

static void tcp_needs_a_key(void **state)
{
	struct config c;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(LOAD(&c, NULL, &err, "--listen", "127.0.0.1:80"), -EINVAL);
	assert_non_null(strstr(err.msg, "SNAPSHOTD_API_KEY"));
	assert_int_equal(LOAD(&c, "", &err, "--listen", "127.0.0.1:80"), -EINVAL);
	assert_int_equal(LOAD(&c, "a secret of 24 letters", &err, "--listen", "127.0.0.1:80"), 0);
	assert_string_equal(c.listen_host, "127.0.0.1");
	assert_int_equal(c.listen_port, 80);
	config_fini(&c);
}

static void key_of_the_environment_goes_before_the_file(void **state)
{
	struct config c;
	struct error err = ERROR_INIT;

	(void)state;
	write_file("{\"apiKey\": \"the key in the file\"}");
	assert_int_equal(LOAD(&c, NULL, &err, "--config", file_path), 0);
	assert_string_equal(c.api_key, "the key in the file");
	config_fini(&c);
	assert_int_equal(LOAD(&c, "the key in env...", &err, "--config", file_path), 0);
	assert_string_equal(c.api_key, "the key in env...");
	config_fini(&c);
}

static void a_key_that_others_may_read_is_refused(void **state)
{
	static const struct {
		mode_t mode;
		bool with_key;
		int rc;
	} cases[] = { { 0600, true, 0 },       { 0640, true, 0 },	{ 0400, true, 0 },
		      { 0644, true, -EACCES }, { 0604, true, -EACCES }, { 0660, true, -EACCES },
		      { 0602, true, -EACCES }, { 0644, false, 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct config c;
		struct error err = ERROR_INIT;

		write_file(cases[i].with_key ? "{\"apiKey\": \"sixteen letters!\"}" : "{}");
		assert_int_equal(chmod(file_path, cases[i].mode), 0);
		assert_int_equal(LOAD(&c, NULL, &err, "--config", file_path), cases[i].rc);
		if (cases[i].rc == 0)
			config_fini(&c);
		else if (!strstr(err.msg, file_path) || !strstr(err.msg, "chmod 600"))
			fail_msg("%s", err.msg);
	}
}

/* Of a predecessor: whatever the file is by now. */
static void what_the_file_said_before_is_taken_without_it(void **state)
{
	char *argv[] = { (char *)"snapshotd", (char *)"--config", (char *)"/none/at/all", NULL };
	json_t *kept = json_pack("{s:i, s:s}", "zstdLevel", 7, "apiKey", "0123456789abcdef");
	struct error err = ERROR_INIT;
	struct config c;

	(void)state;
	assert_int_equal(config_load_kept(&c, 3, argv, NULL, kept, &err), 0);
	assert_int_equal(c.zstd_level, 7);
	assert_string_equal(c.api_key, "0123456789abcdef");
	assert_true(json_equal(c.file, kept));
	config_fini(&c);
	json_object_set_new(kept, "ofANewerVersion", json_true());
	assert_int_equal(config_load_kept(&c, 3, argv, NULL, kept, &err), -EINVAL);
	json_decref(kept);
}

static void hosts_and_roots_are_configured(void **state)
{
	struct config c;
	struct error err = ERROR_INIT;

	(void)state;
	write_file("{\"allowedHosts\": [\"varve.example\"], \"hostRoots\": [\"/srv\", \"/mnt\"],"
		   "\"socketHostRoots\": []}");
	assert_int_equal(LOAD(&c, NULL, &err, "--config", file_path), 0);
	assert_int_equal(json_array_size(c.allowed_hosts), 1);
	assert_int_equal(json_array_size(c.host_roots), 2);
	assert_non_null(c.socket_host_roots); /* none, not: no limit */
	assert_int_equal(json_array_size(c.socket_host_roots), 0);
	config_fini(&c);
	write_file("{\"share\": \"main\", \"shareBuildTimeout\": 3}");
	assert_int_equal(LOAD(&c, NULL, &err, "--config", file_path), 0);
	assert_string_equal(c.share, "main");
	assert_int_equal(c.share_build_timeout_s, 3);
	config_fini(&c);
	write_file("{}");
	assert_int_equal(LOAD(&c, NULL, &err, "--config", file_path), 0);
	assert_null(c.share);
	assert_int_equal(c.share_build_timeout_s, 60);
	assert_null(c.socket_host_roots);
	config_fini(&c);
}

static void bad_arguments_are_named(void **state)
{
	struct config c;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(LOAD(&c, NULL, &err, "--nonsense"), -EINVAL);
	assert_non_null(strstr(err.msg, "--nonsense"));
	assert_int_equal(LOAD(&c, NULL, &err, "--statedir", "/x"), -EINVAL);
	assert_int_equal(LOAD(&c, NULL, &err, "word"), -EINVAL);
	assert_int_equal(LOAD(&c, NULL, &err, "--state"), -EINVAL);
	assert_non_null(strstr(err.msg, "--state"));
	assert_int_equal(LOAD(&c, NULL, &err, "--state="), -EINVAL);
	assert_int_equal(LOAD(&c, NULL, &err, "--config", "/nonexistent/file"), -ENOENT);
	assert_non_null(strstr(err.msg, "/nonexistent/file"));
	assert_int_equal(LOAD(&c, NULL, &err, "--config", "/"), -EINVAL);
}

static void help_and_version_need_nothing_else(void **state)
{
	struct config c;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(LOAD(&c, NULL, &err, "--help", "--config", "/nonexistent/file"), 0);
	assert_true(c.help);
	assert_int_equal(LOAD(&c, NULL, &err, "--version"), 0);
	assert_true(c.version);
}

static void bad_files_are_refused_with_the_reason(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "1:0" },
		{ "[]", "object" },
		{ "{\"state\": 1}", "\"state\"" },
		{ "{\"stat\": \"/x\"}", "\"stat\"" },
		{ "{\"state\": \"/x\", \"state\": \"/y\"}", "duplicate" },
		{ "{\"state\": \"\"}", "empty" },
		{ "{\n\"state\": \"/x\",\n}", ":3:" },
		{ "{\"logLevel\": \"loud\"}", "loud" },
		{ "{\"zstdLevel\": 20}", "zstdLevel" },
		{ "{\"zstdLevel\": -1}", "zstdLevel" },
		{ "{\"zstdLevel\": 1.5}", "zstdLevel" },
		{ "{\"memoryBytes\": 1000}", "memory" },
		{ "{\"recompressLevel\": 20}", "recompressLevel" },
		{ "{\"recompressQuiet\": 1000000000}", "recompressQuiet" },
		{ "{\"requestMemoryBytes\": 1000}", "requestMemoryBytes" },
		{ "{\"connectionLimit\": 0}", "connectionLimit" },
		{ "{\"connectionLimit\": 1000000}", "connectionLimit" },
		{ "{\"threads\": 5000}", "threads" },
		{ "{\"apiKey\": \"\"}", "at least 16" },
		{ "{\"apiKey\": \"fifteen letters\"}", "15 characters" },
		{ "{\"apiKey\": \"sixteen letters \"}", "space" },
		{ "{\"apiKey\": \"sixteen \\n letters\"}", "printable" },
		{ "{\"allowedHosts\": [\"a.example\", \"\"]}", "[1]" },
		{ "{\"allowedHosts\": [\"*\"]}", "allowedHosts" },
		{ "{\"allowedHosts\": \"a.example\"}", "an array" },
		{ "{\"hostRoots\": [\"/srv\", \"srv\"]}", "hostRoots: [1]" },
		{ "{\"socketHostRoots\": [1]}", "socketHostRoots: [0]" },
		{ "{\"share\": \"a/b\"}", "share" },
		{ "{\"share\": \"\"}", "share" },
		{ "{\"shareBuildTimeout\": 0}", "shareBuildTimeout" },
		{ "{\"shareBuildTimeout\": 3601}", "shareBuildTimeout" },
		{ "{\"runtime\": \"\"}", "runtime" },
		{ "{\"defaultTemplate\": \"\"}", "defaultTemplate" },
		{ "{\"buildEnv\": {\"A\": 1}}", "\"A\"" },
		{ "{\"buildEnv\": {\"A=B\": \"x\"}}", "A=B" },
		{ "{\"buildEnv\": []}", "buildEnv" },
		{ "{\"buildConcurrency\": 0}", "buildConcurrency" },
		{ "{\"buildMemoryMB\": 0}", "buildMemoryMB" },
		{ "{\"buildPids\": 0}", "buildPids" },
		{ "{\"buildDiskMB\": 9000000000000}", "buildDiskMB" },
		{ "{\"buildInodes\": 9000000000000}", "buildInodes" },
		{ "{\"buildStepTimeout\": 99999999}", "buildStepTimeout" },
		{ "{\"buildTimeout\": 0}", "buildTimeout" },
		{ "{\"buildNetwork\": \"bridge\"}", "bridge" },
		{ "{\"sandboxNetwork\": \"\"}", "sandboxNetwork" },
		{ "{\"sandboxCache\": \"both\"}", "private or shared" },
		{ "{\"sandboxKeep\": 999999999999}", "sandboxKeep" },
		{ "{\"sandboxCpuShares\": 1}", "sandboxCpuShares" },
		{ "{\"sandboxCpuShares\": 262145}", "sandboxCpuShares" },
		{ "{\"checkpointLimit\": 9000000000000}", "checkpointLimit" },
		{ "{\"patchLimit\": -1}", "patchLimit" },
		{ "{\"sandboxDiskMB\": 9000000000000}", "sandboxDiskMB" },
		{ "{\"sandboxInodes\": 9000000000000}", "sandboxInodes" },
		{ "{\"apiKey\": \"sixteen letters!\", \"listen\": \"nohost\"}", "nohost" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct config c;
		struct error err = ERROR_INIT;
		int rc;

		write_file(cases[i].text);
		rc = LOAD(&c, NULL, &err, "--config", file_path);
		if (rc != -EINVAL || !strstr(err.msg, cases[i].says))
			fail_msg("%s: %d %s", cases[i].text, rc, err.msg);
	}
}

static void long_socket_paths_are_refused(void **state)
{
	struct config c;
	struct error err = ERROR_INIT;
	char path[200];

	(void)state;
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[108] = '\0';
	assert_int_equal(LOAD(&c, NULL, &err, "--socket", path), -EINVAL);
	path[107] = '\0';
	assert_int_equal(LOAD(&c, NULL, &err, "--socket", path), 0);
	config_fini(&c);
}

static void listen_addresses_are_taken_apart(void **state)
{
	static const struct {
		const char *in, *host; /* NULL: refused */
		unsigned port;
	} cases[] = {
		{ "127.0.0.1:8080", "127.0.0.1", 8080 },
		{ "localhost:0", "localhost", 0 },
		{ "[::1]:65535", "::1", 65535 },
		{ "::1:80", NULL, 0 },
		{ ":80", NULL, 0 },
		{ "[]:80", NULL, 0 },
		{ "host", NULL, 0 },
		{ "host:", NULL, 0 },
		{ "host:65536", NULL, 0 },
		{ "host:8x", NULL, 0 },
		{ "host:-1", NULL, 0 },
		{ "host:999999999999", NULL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *host = NULL;
		uint16_t port = 1;
		int rc = config_parse_listen(cases[i].in, &host, &port, NULL);

		if (rc != (cases[i].host ? 0 : -EINVAL))
			fail_msg("%s: %d", cases[i].in, rc);
		if (rc == 0) {
			assert_string_equal(host, cases[i].host);
			assert_int_equal(port, cases[i].port);
		}
		free(host);
	}
}

static void fields_are_checked_by_name_and_type(void **state)
{
	static const struct {
		const char *json;
		const char *says; /* NULL: fits */
	} cases[] = {
		{ "{\"s\": \"x\"}", NULL },
		{ "{\"s\": \"x\", \"b\": true, \"n\": 5, \"o\": {}}", NULL },
		{ "{\"s\": \"x\", \"b\": null, \"n\": null, \"o\": null}", NULL },
		{ "{}", "\"s\" is missing" },
		{ "{\"s\": null}", "\"s\" is missing" },
		{ "{\"s\": 1}", "\"s\" must be a string" },
		{ "{\"s\": \"x\", \"b\": 1}", "\"b\"" },
		{ "{\"s\": \"x\", \"b\": \"true\"}", "\"b\"" },
		{ "{\"s\": \"x\", \"n\": -1}", "\"n\"" },
		{ "{\"s\": \"x\", \"n\": 1.0}", "\"n\"" },
		{ "{\"s\": \"x\", \"n\": \"1\"}", "\"n\"" },
		{ "{\"s\": \"x\", \"o\": []}", "\"o\"" },
		{ "{\"s\": \"x\", \"r\": 1.5, \"a\": [1]}", NULL },
		{ "{\"s\": \"x\", \"r\": 2}", NULL },
		{ "{\"s\": \"x\", \"r\": -0.5}", "\"r\"" },
		{ "{\"s\": \"x\", \"r\": \"1\"}", "\"r\"" },
		{ "{\"s\": \"x\", \"a\": {}}", "\"a\"" },
		{ "{\"s\": \"x\", \"t\": 1}", "unknown field \"t\"" },
		{ "{\"s\": \"x\\u0000y\"}", "\"s\" has a NUL" },
		{ "{\"s\": \"x\", \"a\": [\"\", {\"b\": [\"\\u0000\"]}]}", "\"a\" has a NUL" },
		{ "{\"s\": \"x\", \"o\": {\"b\": \"x\\u0000\"}}", "\"o\" has a NUL" },
		{ "{\"s\": \"x\", \"i\": {\"b\": \"x\\u0000\"}}", NULL },
		{ "[]", "object" },
		{ "\"s\"", "object" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *s = NULL;
		bool b = false;
		uint64_t n = 0;
		double r = 0;
		json_t *a = NULL, *o = NULL, *image = NULL;
		json_t *j = json_loads(cases[i].json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		const struct field fields[] = {
			{ "s", FIELD_STRING, &s, true },    { "b", FIELD_BOOL, &b, false },
			{ "n", FIELD_U64, &n, false },	    { "r", FIELD_NUMBER, &r, false },
			{ "a", FIELD_ARRAY, &a, false },    { "o", FIELD_OBJECT, &o, false },
			{ "i", FIELD_IMAGE, &image, false }
		};
		struct error err = ERROR_INIT;
		int rc = fields_parse(j, fields, ARRAY_SIZE(fields), &err);

		if (rc != (cases[i].says ? -EINVAL : 0) ||
		    (cases[i].says && !strstr(err.msg, cases[i].says)))
			fail_msg("%s: %d %s", cases[i].json, rc, err.msg);
		json_decref(j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_hold_without_arguments),
		cmocka_unit_test(builds_and_sandboxes_are_configured),
		cmocka_unit_test(flags_go_before_the_file),
		cmocka_unit_test(memory_is_a_size),
		cmocka_unit_test(tcp_needs_a_key),
		cmocka_unit_test(key_of_the_environment_goes_before_the_file),
		cmocka_unit_test(a_key_that_others_may_read_is_refused),
		cmocka_unit_test(what_the_file_said_before_is_taken_without_it),
		cmocka_unit_test(hosts_and_roots_are_configured),
		cmocka_unit_test(bad_arguments_are_named),
		cmocka_unit_test(help_and_version_need_nothing_else),
		cmocka_unit_test(bad_files_are_refused_with_the_reason),
		cmocka_unit_test(long_socket_paths_are_refused),
		cmocka_unit_test(listen_addresses_are_taken_apart),
		cmocka_unit_test(fields_are_checked_by_name_and_type),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
