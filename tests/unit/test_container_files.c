/* container: the agent's file commands, and what a container cannot reach. */
#include "tests/unit/container_fixture.h"

#include "snapshotd/container/container.h"

#include <fcntl.h>

/* A file command; input may be NULL. */
static void file_command(struct cf *f, const char *verb, const char *path, const char *input,
			 struct cf_output *o)
{
	const char *const argv[] = { CONTAINER_AGENT, verb, path, NULL };
	struct exec_request rq = EXEC_REQUEST_INIT;
	int in[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	if (input)
		assert_int_equal(write(in[1], input, strlen(input)), strlen(input));
	close(in[1]);
	rq.argv = (char *const *)argv;
	rq.stdin_fd = in[0];
	cf_run(f, &rq, NULL, o);
	close(in[0]);
	assert_int_equal(o->rc, 0);
}

/* rc: 0 or the errno that it begins with. */
static void expect_file(struct cf *f, const char *verb, const char *path, const char *input, int rc,
			const char *out)
{
	struct cf_output o;

	file_command(f, verb, path, input, &o);
	if (o.result.exit_code != (rc ? 1 : 0) || (rc && atoi(cf_err(&o)) != rc) ||
	    (out && strcmp(cf_out(&o), out) != 0))
		fail_msg("%s %s: exit status %d, \"%s\", \"%s\"", verb, path, o.result.exit_code,
			 cf_out(&o), cf_err(&o));
	cf_output_fini(&o);
}

static void files_are_written_and_read(void **state)
{
	struct cf f;

	(void)state;
	cf_open_started(&f);
	expect_file(&f, "file-write", "/tmp/a/b/c", "text", 0, "");
	expect_file(&f, "file-read", "/tmp/a/b/c", NULL, 0, "text");
	cf_expect(&f, "stat -c %a:%u /tmp/a/b/c /tmp/a/b; ls -A /tmp/a/b", "644:0\n755:0\nc\n");
	cf_expect(&f, "chown 7:8 /tmp/a/b/c; chmod 4751 /tmp/a/b/c", "");
	expect_file(&f, "file-write", "/tmp/a/b/c", "", 0, "");
	expect_file(&f, "file-read", "/tmp/a/b/c", NULL, 0, "");
	cf_expect(&f, "stat -c %a:%u:%g /tmp/a/b/c", "4751:7:8\n");
	expect_file(&f, "file-write", "relative", "x", 0, "");
	expect_file(&f, "file-read", "/relative", NULL, 0, "x");

	expect_file(&f, "file-read", "/nosuch", NULL, ENOENT, "");
	expect_file(&f, "file-read", "/tmp", NULL, EISDIR, "");
	expect_file(&f, "file-read", "/dev/zero", NULL, EINVAL, "");
	expect_file(&f, "file-read", "/tmp/a/b/c/d", NULL, ENOTDIR, "");
	expect_file(&f, "file-read", "", NULL, EINVAL, "");
	expect_file(&f, "file-write", "/tmp", "x", EISDIR, "");
	expect_file(&f, "file-write", "/tmp/new/", "x", EISDIR, "");
	expect_file(&f, "file-write", "/dev/null", "x", EINVAL, "");
	expect_file(&f, "file-write", "/etc/passwd/x", "x", ENOTDIR, "");
	expect_file(&f, "file-nonsense", "/tmp", NULL, EINVAL, "");
	cf_expect(&f, "ls -A /tmp /tmp/a/b", "/tmp:\na\n\n/tmp/a/b:\nc\n");
	cf_close(&f);
}

static void fifos_do_not_hang_it(void **state)
{
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_expect(&f, "mkfifo /tmp/fifo", "");
	expect_file(&f, "file-read", "/tmp/fifo", NULL, EINVAL, "");
	expect_file(&f, "file-write", "/tmp/fifo", "x", EINVAL, "");
	expect_file(&f, "file-remove", "/tmp/fifo", NULL, 0, "");
	cf_close(&f);
}

/* The root is a directory of the host's, so what leads out would be seen there. */
static void symlinks_do_not_lead_out(void **state)
{
	char path[160];
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_sh("echo host >%s/outside; mkdir %s/dir; touch %s/dir/kept", f.dir, f.dir, f.dir);
	cf_expect(&f,
		  "ln -s /etc/passwd /tmp/abs; ln -s ../../../../../../../outside /tmp/up;"
		  "ln -s / /tmp/root; ln -s .. /tmp/parent; ln -s target /tmp/near; ln -s l /tmp/l",
		  "");
	expect_file(&f, "file-read", "/tmp/abs", NULL, 0,
		    "root:x:0:0::/root:/bin/sh\nbob:x:1000:1001::/home/bob:/bin/sh\n");
	expect_file(&f, "file-read", "/tmp/up", NULL, ENOENT, "");
	expect_file(&f, "file-read", "/../../../../outside", NULL, ENOENT, "");
	expect_file(&f, "file-write", "/tmp/up", "inside", 0, "");
	expect_file(&f, "file-write", "/tmp/near", "near", 0, "");
	expect_file(&f, "file-write", "/tmp/root/../../made", "x", 0, "");
	expect_file(&f, "file-read", "/tmp/l", NULL, ELOOP, "");
	expect_file(&f, "file-write", "/tmp/l", "x", ELOOP, "");
	cf_expect(&f, "cat /outside /tmp/target /made; readlink /tmp/near", "insidenearxtarget\n");
	cf_sh("[ `cat %s/outside` = host ] && [ ! -e %s/made ]", f.dir, f.dir);

	/* Removal takes the link. */
	expect_file(&f, "file-remove", "/tmp/root", NULL, 0, "");
	snprintf(path, sizeof(path), "/tmp/%s", "abs");
	expect_file(&f, "file-remove", path, NULL, 0, "");
	cf_expect(&f, "ls /etc/passwd", "/etc/passwd\n");
	cf_sh("[ -e %s/dir/kept ]", f.dir);
	cf_close(&f);
}

static void directories_are_listed(void **state)
{
	struct cf_output o;
	json_t *list;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_expect(&f,
		  "mkdir -p /tmp/d/sub; cd /tmp/d; printf 12345 >file; ln -s / link; : >'q\"\\'; "
		  ": >`printf 'a\\nb'`; : >`printf '\\377'`; : >`printf '\\303\\251'`",
		  "");
	file_command(&f, "file-list", "/tmp/d/", NULL, &o);
	list = json_loadb(cf_out(&o), o.text[0].len, 0, NULL);
	assert_int_equal(json_array_size(list), 7);
	for (size_t i = 0; i < 7; i++) {
		static const struct {
			const char *name;
			bool is_dir;
			int size; /* -1: any */
		} want[] = { { "a\nb", false, 0 },	  { "file", false, 5 },
			     { "link", false, 1 },	  { "q\"\\", false, 0 },
			     { "sub", true, -1 },	  { "\xc3\xa9", false, 0 },
			     { "\xef\xbf\xbd", false, 0 } };
		json_t *e = json_array_get(list, i);
		char path[64];

		snprintf(path, sizeof(path), "/tmp/d/%s", want[i].name);
		assert_string_equal(json_string_value(json_object_get(e, "name")), want[i].name);
		assert_string_equal(json_string_value(json_object_get(e, "path")), path);
		assert_int_equal(json_is_true(json_object_get(e, "isDir")), want[i].is_dir);
		if (want[i].size >= 0)
			assert_int_equal(json_integer_value(json_object_get(e, "size")),
					 want[i].size);
		/* All bytes of a name that is not UTF-8, and nothing beside one that is. */
		const char *base64 = json_string_value(json_object_get(e, "nameBase64"));
		const char *whole = json_string_value(json_object_get(e, "pathBase64"));
		assert_string_equal(base64 ? base64 : "", i == 6 ? "/w==" : "");
		assert_string_equal(whole ? whole : "", i == 6 ? "L3RtcC9kL/8=" : "");
	}
	json_decref(list);
	cf_output_fini(&o);
	cf_expect(&f, "mkdir /tmp/empty", "");
	expect_file(&f, "file-list", "/tmp/empty", NULL, 0, "[]");
	expect_file(&f, "file-list", "/etc/passwd", NULL, ENOTDIR, "");
	expect_file(&f, "file-list", "/nosuch", NULL, ENOENT, "");
	cf_close(&f);
}

static void directories_are_made_and_removed(void **state)
{
	struct cf f;

	(void)state;
	cf_open_started(&f);
	expect_file(&f, "file-mkdir", "/tmp/x/y/z/", NULL, 0, "");
	expect_file(&f, "file-mkdir", "/tmp/x/y/z", NULL, 0, "");
	expect_file(&f, "file-mkdir", "/", NULL, 0, "");
	expect_file(&f, "file-mkdir", "/etc/passwd", NULL, ENOTDIR, "");
	expect_file(&f, "file-mkdir", "/etc/passwd/x", NULL, ENOTDIR, "");
	cf_expect(&f, "touch /tmp/x/f /tmp/x/y/z/g; ln -s /etc /tmp/x/etc", "");
	expect_file(&f, "file-remove", "/tmp/x", NULL, 0, "");
	cf_expect(&f, "ls -A /tmp; ls /etc/passwd", "/etc/passwd\n");
	expect_file(&f, "file-remove", "/tmp/x", NULL, ENOENT, "");
	expect_file(&f, "file-remove", "/", NULL, EBUSY, "");
	expect_file(&f, "file-remove", "/tmp/..", NULL, EBUSY, "");
	cf_expect(&f,
		  "i=0; cd /tmp; while [ $i -lt 700 ]; do mkdir d; cd d; : >f; i=$((i+1)); done",
		  "");
	expect_file(&f, "file-remove", "/tmp/d", NULL, 0, "");
	cf_expect(&f, "ls -A /tmp", "");
	cf_close(&f);
}

/* ---- what a container cannot ---- */

static void the_host_is_out_of_reach(void **state)
{
	static const char *const refused[] = {
		"mount -t tmpfs x /tmp",
		"mount -o bind /etc /tmp",
		"mount -o remount,rw /proc/sys",
		"umount /proc",
		"umount /dev/varve-init",
		"unshare -m true",
		"unshare -r true",
		"nsenter -t 1 -m true",
		"echo h >/proc/sysrq-trigger",
		"echo x >/proc/sys/kernel/core_pattern",
		"echo 1 >/proc/sys/vm/drop_caches",
		"echo x >/sys/power/state",
		"mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk",
		"mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg",
		"hostname other",
		"date -s 2020-01-01; [ `date +%Y` = 2020 ]",
		"echo x >/dev/varve-init",
		"rm -f /dev/varve-init",
		"mv /dev/varve-init /dev/moved",
		/* the agent's channel and memory */
		"readlink /proc/1/fd/3",
		"cat /proc/1/fd/3",
		"echo x >/proc/1/fd/3",
		"head -c 1 /proc/1/mem",
		"ls /proc/1/cwd/",
		"readlink /proc/1/exe",
		"cat /proc/1/environ",
		"reboot -f",
		"insmod /bin/busybox",
		"swapoff -a && swapoff /tmp/x",
		"dmesg",
		"chroot /proc/1/root true",
	};
	const struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		cf_run(&f, &rq, refused[i], &o);
		if (o.rc || o.result.exit_code == 0)
			fail_msg("%s: %d, \"%s\" \"%s\"", refused[i], o.rc, cf_out(&o), cf_err(&o));
		cf_output_fini(&o);
	}
	assert_true(container_is_running(f.c));
	cf_close(&f);
}

/* What a program is given of the host. */
static void descriptors_are_no_way_out(void **state)
{
	struct stat before, after;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	assert_int_equal(stat("/dev/null", &before), 0);
	cf_expect(&f, "chmod 600 /proc/self/fd/0; chown 5 /proc/self/fd/0; stat -c %a:%u /dev/null",
		  "600:5\n");
	assert_int_equal(stat("/dev/null", &after), 0);
	assert_int_equal(after.st_mode, before.st_mode);
	assert_int_equal(after.st_uid, before.st_uid);
	cf_close(&f);
}

static void the_agent_cannot_be_killed_from_inside(void **state)
{
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_expect(&f, "for s in 1 2 9 11 15 17 19; do kill -$s 1; done; kill -9 -1; echo no",
		  "no\n");
	cf_expect(&f, "echo alive", "alive\n");
	assert_true(container_is_running(f.c));
	cf_close(&f);
}

static void capabilities_are_the_defaults(void **state)
{
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_expect(&f,
		  "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)|^Seccomp:' /proc/self/status | tr -d '\\t'",
		  "CapInh:0000000000000000\nCapPrm:00000000a80405fb\nCapEff:00000000a80405fb\n"
		  "CapBnd:00000000a80405fb\nCapAmb:0000000000000000\nSeccomp:2\n");
	rq.user = "bob";
	cf_run(&f, &rq, "grep CapEff /proc/self/status; echo >/etc/passwd; echo >/root/x", &o);
	assert_string_equal(cf_out(&o), "CapEff:\t0000000000000000\n");
	assert_int_not_equal(o.result.exit_code, 0);
	cf_output_fini(&o);
	cf_close(&f);
}

static void namespaces_are_its_own(void **state)
{
	struct cf f;
	struct container *alone;

	(void)state;
	cf_open_started(&f);
	cf_expect(&f, "hostname | cut -c1-5; ps | wc -l | grep -c -E '^[1-6]$'", "test-\n1\n");
	cf_sh("readlink /proc/self/ns/net >%s/root/host-net", f.dir);
	cf_expect(&f, "[ `cat /host-net` = `readlink /proc/self/ns/net` ] && echo same", "same\n");
	cf_start(&f,
		 &(struct container_options){ .id = "n", .network_none = true, .hostname = "box" },
		 &alone);
	container_stop(f.c);
	f.c = alone;
	cf_expect(&f, "hostname; [ `cat /host-net` = `readlink /proc/self/ns/net` ] || echo own",
		  "box\nown\n");
	cf_expect(&f, "grep -c : /proc/net/dev", "1\n");
	cf_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_written_and_read),
		cmocka_unit_test(fifos_do_not_hang_it),
		cmocka_unit_test(symlinks_do_not_lead_out),
		cmocka_unit_test(directories_are_listed),
		cmocka_unit_test(directories_are_made_and_removed),
		cmocka_unit_test(the_host_is_out_of_reach),
		cmocka_unit_test(descriptors_are_no_way_out),
		cmocka_unit_test(the_agent_cannot_be_killed_from_inside),
		cmocka_unit_test(capabilities_are_the_defaults),
		cmocka_unit_test(namespaces_are_its_own),
	};

	return cf_run_group(tests);
}
