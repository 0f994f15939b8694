#include "snapshotd/container/oci_spec.h"

#include "store/base/macros.h"

#define PIDS_DEFAULT 4096
#define CPU_PERIOD_US 100000
#define OPEN_FILES_SOFT 65536
#define OPEN_FILES_HARD 1048576
#define OOM_NEVER (-1000)

/*
 * Docker's default capabilities but for CAP_NET_RAW: on the host's network that
 * reads what goes over its interfaces, API keys on loopback among it. The agent
 * has CAP_SYS_RESOURCE besides, so that the programs that it starts can go back
 * to an ordinary OOM score for good; they give it up (snapshotd/container/init/exec.c).
 */
static const char *const capabilities[] = {
	"CAP_CHOWN",	   "CAP_DAC_OVERRIDE",	   "CAP_FSETID",     "CAP_FOWNER",
	"CAP_MKNOD",	   "CAP_SETGID",	   "CAP_SETUID",     "CAP_SETFCAP",
	"CAP_SETPCAP",	   "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
	"CAP_AUDIT_WRITE", "CAP_SYS_RESOURCE",
};

static const char *const masked_paths[] = {
	"/proc/acpi",	     "/proc/asound",  "/proc/interrupts",
	"/proc/kcore",	     "/proc/keys",    "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi",    "/proc/timer_list",
	"/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap",
};

static const char *const readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static json_t *strings(const char *const *v, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++) {
		if (json_array_append_new(a, json_string(v[i])) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}

/* Put part into the array; false when either is NULL. Takes part. */
static bool append(json_t *array, json_t *part)
{
	return json_array_append_new(array, part) == 0;
}

/* --- mounts --- */

#define MOUNT_OPTIONS_MAX 6

struct mount_spec {
	const char *destination, *type, *source;
	const char *options[MOUNT_OPTIONS_MAX]; /* ends with NULL, if shorter */
};

static json_t *mount_json(const struct mount_spec *m)
{
	size_t n = 0;

	while (n < MOUNT_OPTIONS_MAX && m->options[n])
		n++;
	return json_pack("{s:s, s:s, s:s, s:o}", "destination", m->destination, "type", m->type,
			 "source", m->source, "options", strings(m->options, n));
}

/* One that programs may write to. */
static json_t *name_mount(const char *dir, const char *name)
{
	return json_pack("{s:s+, s:s, s:s++, s:[s, s, s, s]}", "destination", "/etc/", name, "type",
			 "bind", "source", dir, "/", name, "options", "bind", "nosuid", "nodev",
			 "noexec");
}

static json_t *mounts(const struct oci_host *host)
{
	const struct mount_spec always[] = {
		{ "/proc", "proc", "proc", { "nosuid", "noexec", "nodev" } },
		{ "/dev",
		  "tmpfs",
		  "tmpfs",
		  { "nosuid", "strictatime", "mode=755", "size=65536k" } },
		{ "/dev/pts",
		  "devpts",
		  "devpts",
		  { "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5" } },
		{ "/dev/shm", "tmpfs", "shm", { "nosuid", "noexec", "nodev", "mode=1777" } },
		{ "/dev/mqueue", "mqueue", "mqueue", { "nosuid", "noexec", "nodev" } },
		{ "/sys", "sysfs", "sysfs", { "nosuid", "noexec", "nodev", "ro" } },
		{ CONTAINER_AGENT, "bind", host->agent, { "bind", "ro", "nosuid", "nodev" } },
	};
	const struct mount_spec cgroup = {
		"/sys/fs/cgroup", "cgroup", "cgroup", { "nosuid", "noexec", "nodev", "ro" }
	};
	const struct mount_spec resolv = { "/etc/resolv.conf",
					   "bind",
					   host->resolv_conf,
					   { "bind", "ro", "nosuid", "nodev", "noexec" } };
	static const char *const names[] = { "hosts", "hostname" };
	json_t *a = json_array();
	bool ok = a;

	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		ok = ok && append(a, mount_json(&always[i]));
	if (host->cgroup_v2)
		ok = ok && append(a, mount_json(&cgroup));
	if (host->resolv_conf)
		ok = ok && append(a, mount_json(&resolv));
	for (size_t i = 0; host->names_dir && i < ARRAY_SIZE(names); i++)
		ok = ok && append(a, name_mount(host->names_dir, names[i]));
	if (ok)
		return a;
	json_decref(a);
	return NULL;
}

/* --- limits --- */

/* Without shares a group has the usual weight, which differs between cgroup v1 and v2. */
static int add_cpu(json_t *resources, const struct container_options *o)
{
	json_t *cpu = json_object();
	int r = cpu ? 0 : -1;

	if (!r && o->cpu_shares)
		r = json_object_set_new(cpu, "shares", json_integer((json_int_t)o->cpu_shares));
	if (!r && o->cpus > 0) {
		r = json_object_set_new(cpu, "quota",
					json_integer((json_int_t)(o->cpus * CPU_PERIOD_US)));
		r = r ? r : json_object_set_new(cpu, "period", json_integer(CPU_PERIOD_US));
	}
	if (!r && json_object_size(cpu) > 0)
		r = json_object_set(resources, "cpu", cpu);
	json_decref(cpu);
	return r;
}

static json_t *resources(const struct container_options *o, const struct oci_host *host)
{
	json_t *r = json_pack("{s:[{s:b, s:s}], s:{s:I}}", "devices", "allow", 0, "access", "rwm",
			      "pids", "limit", (json_int_t)(o->pids ? o->pids : PIDS_DEFAULT));
	json_int_t bytes = (json_int_t)o->memory_bytes;
	bool ok = r;

	if (ok && bytes)
		ok = json_object_set_new(r, "memory", json_pack("{s:I}", "limit", bytes)) == 0;
	if (ok && bytes && host->limit_swap)
		ok = json_object_set_new(json_object_get(r, "memory"), "swap",
					 json_integer(bytes)) == 0;
	if (ok && add_cpu(r, o) == 0)
		return r;
	json_decref(r);
	return NULL;
}

static json_t *namespaces(const struct container_options *o, const struct oci_host *host)
{
	static const char *const types[] = { "pid", "mount", "ipc", "uts" };
	json_t *a = json_array();
	bool ok = a;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		ok = ok && append(a, json_pack("{s:s}", "type", types[i]));
	if (o->network_none)
		ok = ok && append(a, json_pack("{s:s}", "type", "network"));
	if (host->cgroup_v2)
		ok = ok && append(a, json_pack("{s:s}", "type", "cgroup"));
	if (ok)
		return a;
	json_decref(a);
	return NULL;
}

/* --- the whole --- */

static json_t *process(const struct oci_host *host)
{
	uint64_t hard = MIN(host->open_files_max, (uint64_t)OPEN_FILES_HARD);
	uint64_t soft = MIN(hard, (uint64_t)OPEN_FILES_SOFT);
	/* CAP_SYS_RESOURCE is the last one. */
	size_t n = ARRAY_SIZE(capabilities) - !host->spare_agent;
	json_t *caps = strings(capabilities, n);
	json_t *p = json_pack("{s:b, s:{s:i, s:i}, s:[s], s:[], s:s, s:{s:O, s:O, s:O, s:[], s:[]},"
			      " s:b, s:[{s:s, s:I, s:I}]}",
			      "terminal", 0, "user", "uid", 0, "gid", 0, "args", CONTAINER_AGENT,
			      "env", "cwd", "/", "capabilities", "bounding", caps, "effective",
			      caps, "permitted", caps, "inheritable", "ambient", "noNewPrivileges",
			      0, "rlimits", "type", "RLIMIT_NOFILE", "soft", (json_int_t)soft,
			      "hard", (json_int_t)hard);

	json_decref(caps);
	if (p && host->spare_agent &&
	    json_object_set_new(p, "oomScoreAdj", json_integer(OOM_NEVER)) < 0) {
		json_decref(p);
		return NULL;
	}
	return p;
}

/* Everybody may ping, as no raw socket is needed for it. The host's network keeps its own. */
static json_t *sysctls(const struct container_options *o)
{
	return o->network_none ? json_pack("{s:s}", "net.ipv4.ping_group_range", "0 2147483647")
			       : json_object();
}

static json_t *linux_part(const struct container_options *o, const struct oci_host *host)
{
	return json_pack("{s:s+, s:o, s:o, s:o, s:o, s:o, s:o}", "cgroupsPath", "/", host->cgroup,
			 "resources", resources(o, host), "namespaces", namespaces(o, host),
			 "maskedPaths", strings(masked_paths, ARRAY_SIZE(masked_paths)),
			 "readonlyPaths", strings(readonly_paths, ARRAY_SIZE(readonly_paths)),
			 "sysctl", sysctls(o), "seccomp", oci_seccomp());
}

json_t *oci_spec(const struct container_options *o, const struct oci_host *host)
{
	return json_pack("{s:s, s:o, s:{s:s, s:b}, s:s, s:o, s:o}", "ociVersion", "1.0.2",
			 "process", process(host), "root", "path", o->rootfs, "readonly", 0,
			 "hostname", o->hostname ? o->hostname : o->id, "mounts", mounts(host),
			 "linux", linux_part(o, host));
}
