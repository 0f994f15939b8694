/* oci_spec: what a runtime is told of a container. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "snapshotd/container/oci_spec.h"
#include "store/base/macros.h"

static const struct oci_host plain = { .agent = "/state/run/varve-init",
				       .cgroup = "varve-x",
				       .open_files_max = 1u << 30 };

/* "linux.resources.pids.limit", arrays by index; NULL where there is none. */
static json_t *at(json_t *j, const char *path)
{
	char key[64];

	while (j && *path) {
		size_t n = strcspn(path, ".");

		snprintf(key, sizeof(key), "%.*s", (int)n, path);
		j = json_is_array(j) ? json_array_get(j, (size_t)atoi(key))
				     : json_object_get(j, key);
		path += n + (path[n] == '.');
	}
	return j;
}

static json_t *find(json_t *array, const char *key, const char *value)
{
	json_t *e;
	size_t i;

	json_array_foreach(array, i, e) {
		const char *s = json_string_value(json_is_string(e) ? e : json_object_get(e, key));

		if (s && strcmp(s, value) == 0)
			return e;
	}
	return NULL;
}

static const char *text(json_t *j, const char *path)
{
	const char *s = json_string_value(at(j, path));

	return s ? s : "(none)";
}

static void the_least_is_safe(void **state)
{
	static const char *const private[] = { "pid", "mount", "ipc", "uts" };
	static const char *const readonly[] = { "/proc/sysrq-trigger", "/proc/sys", "/proc/bus" };
	const struct container_options o = { .id = "x", .rootfs = "/r" };
	json_t *s = oci_spec(&o, &plain);

	(void)state;
	assert_non_null(s);
	assert_string_equal(text(s, "root.path"), "/r");
	assert_string_equal(text(s, "hostname"), "x");
	assert_string_equal(text(s, "process.args.0"), CONTAINER_AGENT);
	assert_int_equal(json_array_size(at(s, "process.args")), 1);
	assert_string_equal(text(s, "linux.cgroupsPath"), "/varve-x");
	assert_int_equal(json_integer_value(at(s, "linux.resources.pids.limit")), 4096);
	assert_null(at(s, "linux.resources.memory"));
	assert_null(at(s, "linux.resources.cpu"));
	assert_true(json_is_false(at(s, "linux.resources.devices.0.allow")));
	assert_string_equal(text(s, "linux.resources.devices.0.access"), "rwm");
	assert_null(at(s, "process.oomScoreAdj"));
	for (size_t i = 0; i < ARRAY_SIZE(private); i++)
		assert_non_null(find(at(s, "linux.namespaces"), "type", private[i]));
	assert_null(find(at(s, "linux.namespaces"), "type", "network"));
	assert_null(find(at(s, "linux.namespaces"), "type", "cgroup"));
	for (size_t i = 0; i < ARRAY_SIZE(readonly); i++)
		assert_non_null(find(at(s, "linux.readonlyPaths"), NULL, readonly[i]));
	assert_non_null(find(at(s, "linux.maskedPaths"), NULL, "/proc/kcore"));
	assert_null(find(at(s, "mounts"), "destination", "/etc/resolv.conf"));
	assert_non_null(find(at(find(at(s, "mounts"), "destination", CONTAINER_AGENT), "options"),
			     NULL, "ro"));
	assert_non_null(
		find(at(find(at(s, "mounts"), "destination", "/sys"), "options"), NULL, "ro"));
	json_decref(s);
}

static void options_become_limits(void **state)
{
	const struct container_options o = { .id = "x",
					     .rootfs = "/r",
					     .hostname = "box",
					     .memory_bytes = 1ull << 33,
					     .cpus = 1.5,
					     .cpu_shares = 70,
					     .pids = 100,
					     .network_none = true };
	struct oci_host host = plain;
	json_t *s;

	(void)state;
	host.cgroup_v2 = host.limit_swap = host.spare_agent = true;
	host.resolv_conf = "/run/resolv.conf";
	s = oci_spec(&o, &host);
	assert_string_equal(text(s, "hostname"), "box");
	assert_int_equal(json_integer_value(at(s, "linux.resources.pids.limit")), 100);
	assert_int_equal(json_integer_value(at(s, "linux.resources.memory.limit")), 1ull << 33);
	assert_int_equal(json_integer_value(at(s, "linux.resources.memory.swap")), 1ull << 33);
	assert_int_equal(json_integer_value(at(s, "linux.resources.cpu.shares")), 70);
	assert_int_equal(json_integer_value(at(s, "linux.resources.cpu.quota")), 150000);
	assert_int_equal(json_integer_value(at(s, "linux.resources.cpu.period")), 100000);
	assert_int_equal(json_integer_value(at(s, "process.oomScoreAdj")), -1000);
	assert_non_null(find(at(s, "linux.namespaces"), "type", "network"));
	assert_non_null(find(at(s, "linux.namespaces"), "type", "cgroup"));
	assert_non_null(find(at(s, "mounts"), "destination", "/etc/resolv.conf"));
	assert_non_null(find(at(s, "mounts"), "destination", "/sys/fs/cgroup"));
	json_decref(s);
}

static void capabilities_are_few(void **state)
{
	static const char *const never[] = { "CAP_SYS_ADMIN",	    "CAP_SYS_PTRACE",
					     "CAP_SYS_MODULE",	    "CAP_SYS_RAWIO",
					     "CAP_NET_ADMIN",	    "CAP_SYS_BOOT",
					     "CAP_DAC_READ_SEARCH", "CAP_BPF",
					     "CAP_SYSLOG",	    "CAP_NET_RAW" };
	const struct container_options o = { .id = "x", .rootfs = "/r" };
	struct oci_host host = plain;

	(void)state;
	for (int spare = 0; spare < 2; spare++) {
		json_t *s, *bounding;

		host.spare_agent = spare;
		s = oci_spec(&o, &host);
		bounding = at(s, "process.capabilities.bounding");
		assert_int_equal(json_array_size(bounding), 13 + spare);
		assert_int_equal(!!find(bounding, NULL, "CAP_SYS_RESOURCE"), spare);
		assert_true(json_equal(bounding, at(s, "process.capabilities.effective")));
		assert_int_equal(json_array_size(at(s, "process.capabilities.inheritable")), 0);
		assert_int_equal(json_array_size(at(s, "process.capabilities.ambient")), 0);
		for (size_t i = 0; i < ARRAY_SIZE(never); i++)
			assert_null(find(bounding, NULL, never[i]));
		json_decref(s);
	}
}

static void open_files_stay_below_the_daemons(void **state)
{
	const struct container_options o = { .id = "x", .rootfs = "/r" };
	static const uint64_t cases[][3] = {
		{ UINT64_MAX, 65536, 1048576 },
		{ 100000, 65536, 100000 },
		{ 1000, 1000, 1000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct oci_host host = plain;
		json_t *s;

		host.open_files_max = cases[i][0];
		s = oci_spec(&o, &host);
		assert_int_equal(json_integer_value(at(s, "process.rlimits.0.soft")), cases[i][1]);
		assert_int_equal(json_integer_value(at(s, "process.rlimits.0.hard")), cases[i][2]);
		json_decref(s);
	}
}

/* Each call is in one rule, but for those that are allowed by their arguments. */
static void system_calls_are_allowed_by_name(void **state)
{
	static const struct {
		const char *name, *action;
	} cases[] = {
		{ "openat", "SCMP_ACT_ALLOW" },	    { "execve", "SCMP_ACT_ALLOW" },
		{ "chroot", "SCMP_ACT_ALLOW" },	    { "mount", "SCMP_ACT_ERRNO" },
		{ "unshare", "SCMP_ACT_ERRNO" },    { "setns", "SCMP_ACT_ERRNO" },
		{ "bpf", "SCMP_ACT_ERRNO" },	    { "clone3", "SCMP_ACT_ERRNO" },
		{ "kexec_load", "SCMP_ACT_ERRNO" }, { "open_by_handle_at", "SCMP_ACT_ERRNO" },
	};
	json_t *s = oci_seccomp(), *seen = json_object(), *rule, *name;
	size_t i, k;

	(void)state;
	assert_string_equal(text(s, "defaultAction"), "SCMP_ACT_ERRNO");
	json_array_foreach(at(s, "syscalls"), i, rule) {
		json_array_foreach(at(rule, "names"), k, name) {
			const char *n = json_string_value(name);

			if (!at(rule, "args") && json_object_get(seen, n))
				fail_msg("%s is there twice", n);
			json_object_set(seen, n, at(rule, "action"));
		}
	}
	for (i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(text(seen, cases[i].name), cases[i].action);
	json_decref(seen);
	json_decref(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_least_is_safe),
		cmocka_unit_test(options_become_limits),
		cmocka_unit_test(capabilities_are_few),
		cmocka_unit_test(open_files_stay_below_the_daemons),
		cmocka_unit_test(system_calls_are_allowed_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
