/* s3_cred: how credentials are written, found, asked for and renewed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/bucket/s3_cred_internal.h"

#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

/* --- as they are written --- */

static void a_profile_is_found_in_a_file(void **state)
{
	static const char text[] =
		"# comment\n[default]\naws_access_key_id = AK1\r\n"
		"aws_secret_access_key=" SECRET "\n"
		"[other]\n  aws_access_key_id=AK2  \naws_secret_access_key = s2\n"
		"aws_session_token = t=2==\n; x\n[profile third]\nregion = x\n"
		"[fourth]\ncredential_process = /bin/give it\n";
	struct s3_keys k;
	char *process = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(s3_cred_parse_file(text, "default", &k, &process, &err), 0);
	assert_string_equal(k.access_key, "AK1");
	assert_string_equal(k.secret, SECRET);
	assert_null(k.token);
	s3_keys_fini(&k);
	assert_int_equal(s3_cred_parse_file(text, "other", &k, &process, &err), 0);
	assert_string_equal(k.token, "t=2==");
	s3_keys_fini(&k);
	assert_int_equal(s3_cred_parse_file(text, "third", &k, &process, &err), -ENOENT);
	assert_int_equal(s3_cred_parse_file(text, "none", &k, &process, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "none"));
	assert_int_equal(s3_cred_parse_file(text, "fourth", &k, &process, &err), 0);
	assert_string_equal(process, "/bin/give it");
	free(process);
}

static void what_cannot_stand_in_a_header_is_refused_without_being_shown(void **state)
{
	static const char *const bad[] = {
		"[default]\naws_access_key_id=AK\n",
		"[default]\naws_secret_access_key=" SECRET "\n",
		"[default]\naws_access_key_id=A K\naws_secret_access_key=" SECRET "\n",
		"[default]\naws_access_key_id=AK\naws_secret_access_key=" SECRET "\x01\n",
		"[default]\naws_access_key_id=AK\naws_secret_access_key=" SECRET
		"\naws_session_token=\xc3\xa4\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct s3_keys k;
		char *process = NULL;
		struct error err = ERROR_INIT;

		assert_int_equal(s3_cred_parse_file(bad[i], "default", &k, &process, &err),
				 -EBADMSG);
		assert_null(strstr(err.msg, SECRET));
		assert_non_null(strstr(err.msg, "default"));
	}
}

static int json(const char *text, struct s3_keys *k)
{
	struct error err = ERROR_INIT;
	int rc = s3_cred_parse_json(text, strlen(text), k, &err);

	assert_null(strstr(err.msg, SECRET));
	assert_true(rc == 0 || err.msg[0]);
	return rc;
}

#define PAIR "\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"" SECRET "\""

static void json_of_processes_and_of_services_is_read(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{" PAIR,
		"{\"Version\":2," PAIR "}",
		"{" PAIR ",\"Expiration\":\"soon\"}",
		"{\"AccessKeyId\":1,\"SecretAccessKey\":\"" SECRET "\"}",
		"{\"AccessKeyId\":\"A\\nK\",\"SecretAccessKey\":\"" SECRET "\"}",
	};
	struct s3_keys k;

	(void)state;
	assert_int_equal(json("{\"Version\":1," PAIR ",\"SessionToken\":\"T\","
			      "\"Expiration\":\"2026-01-02T03:04:05Z\"}",
			      &k),
			 0);
	assert_string_equal(k.token, "T");
	assert_int_equal(k.expires, 1767323045);
	s3_keys_fini(&k);
	assert_int_equal(json("{\"Code\":\"Success\"," PAIR ",\"Token\":\"T2\"}", &k), 0);
	assert_string_equal(k.token, "T2");
	assert_int_equal(k.expires, 0);
	s3_keys_fini(&k);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(json(bad[i], &k), -EBADMSG);
}

/* --- where they come from --- */

static char home[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned n_asked, n_changes; /* guarded by lock */
static const char *answer;	    /* of the last URL; guarded by lock */

static void note_change(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	n_changes++;
	pthread_mutex_unlock(&lock);
}

static bool has_header(const struct s3_cred_request *rq, const char *line)
{
	return rq->n_headers == 1 && strcmp(rq->headers[0], line) == 0;
}

/* An instance with IMDSv2, and a container's endpoint. */
static int fake_http(const struct s3_cred_request *rq, long *out_status, struct buf *out,
		     struct error *err)
{
	const char *text = NULL;

	pthread_mutex_lock(&lock);
	n_asked++;
	if (strcmp(rq->url, "http://127.0.0.1:9/latest/api/token") == 0 &&
	    strcmp(rq->method, "PUT") == 0 &&
	    has_header(rq, "X-aws-ec2-metadata-token-ttl-seconds: 21600"))
		text = "TOKEN";
	else if (strcmp(rq->url, "http://127.0.0.1:9/latest/meta-data/iam/security-credentials/") ==
			 0 &&
		 has_header(rq, "X-aws-ec2-metadata-token: TOKEN"))
		text = "my-role\n";
	else if (strcmp(rq->url,
			"http://127.0.0.1:9/latest/meta-data/iam/security-credentials/my-role") ==
			 0 &&
		 has_header(rq, "X-aws-ec2-metadata-token: TOKEN"))
		text = answer;
	else if (strcmp(rq->url, "http://127.0.0.1:9/container") == 0 &&
		 has_header(rq, "Authorization: letmein"))
		text = answer;
	pthread_mutex_unlock(&lock);
	if (!text)
		return error_set(err, -EIO, "nobody is there");
	*out_status = 200;
	return buf_append_str(out, text) < 0 ? -ENOMEM : 0;
}

static void set_answer(const char *text)
{
	pthread_mutex_lock(&lock);
	answer = text;
	pthread_mutex_unlock(&lock);
}

static unsigned changes(void)
{
	pthread_mutex_lock(&lock);
	unsigned n = n_changes;
	pthread_mutex_unlock(&lock);
	return n;
}

static int set_up(void **state)
{
	static const char *const names[] = { "AWS_ACCESS_KEY_ID",
					     "AWS_SECRET_ACCESS_KEY",
					     "AWS_SESSION_TOKEN",
					     "AWS_PROFILE",
					     "AWS_SHARED_CREDENTIALS_FILE",
					     "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
					     "AWS_CONTAINER_CREDENTIALS_FULL_URI",
					     "AWS_CONTAINER_AUTHORIZATION_TOKEN",
					     "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
					     "AWS_EC2_METADATA_DISABLED" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
	strcpy(home, "/tmp/varve-cred-XXXXXX");
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9", 1);
	n_changes = n_asked = 0;
	return mkdtemp(home) && setenv("HOME", home, 1) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
	char cmd[100];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", home);
	return system(cmd); /* NOLINT: our own mkdtemp name */
}

static void write_file(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", home, name);
	char *slash = strrchr(path, '/');
	*slash = '\0';
	mkdir(path, 0700);
	*slash = '/';
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static struct s3_cred *cred(const char *source)
{
	struct s3_cred_options o = { .source = source, .http = fake_http, .changed = note_change };
	struct s3_cred *c = NULL;
	struct error err = ERROR_INIT;

	if (s3_cred_open(&o, &c, &err) != 0)
		fail_msg("%s", error_text(&err));
	return c;
}

static int refusal(const char *source, struct error *err)
{
	struct s3_cred_options o = { .source = source, .http = fake_http, .changed = note_change };
	struct s3_cred *c = NULL;

	return s3_cred_open(&o, &c, err);
}

/* As s3_cred_get, but waits for an answer. */
static int get(struct s3_cred *c, struct s3_keys *k, struct error *err)
{
	int64_t end = monotonic_ms() + 20000;
	int rc;

	while ((rc = s3_cred_get(c, k, err)) == -EAGAIN && monotonic_ms() < end)
		usleep(1000);
	return rc;
}

static void check_key(struct s3_cred *c, const char *access_key)
{
	struct s3_keys k;
	struct error err = ERROR_INIT;

	if (get(c, &k, &err) != 0)
		fail_msg("%s", error_text(&err));
	assert_string_equal(k.access_key, access_key);
	s3_keys_fini(&k);
}

static void the_environment_goes_first(void **state)
{
	(void)state;
	write_file(".aws/credentials",
		   "[default]\naws_access_key_id=FILE\naws_secret_access_key=s\n");
	setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
	setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
	struct s3_cred *c = cred(NULL);
	check_key(c, "ENV");
	assert_false(s3_cred_refused(c, 1));
	s3_cred_close(c);
	unsetenv("AWS_ACCESS_KEY_ID");
	c = cred(NULL);
	check_key(c, "FILE");
	assert_true(s3_cred_refused(c, 1));
	s3_cred_close(c);
}

static void a_source_that_is_wrong_says_so(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(refusal("env", &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "AWS_ACCESS_KEY_ID"));
	assert_int_equal(refusal("elsewhere", &err), -EINVAL);
	assert_int_equal(refusal("file:/nowhere/at/all", &err), -ENOENT);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	assert_int_equal(refusal(NULL, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "no credentials"));
}

static void a_file_is_read_again_when_it_changes(void **state)
{
	struct s3_keys k;

	(void)state;
	write_file("c", "[default]\naws_access_key_id=ONE\naws_secret_access_key=s\n");
	char source[128];
	snprintf(source, sizeof(source), "file:%s/c", home);
	struct s3_cred *c = cred(source);
	check_key(c, "ONE");
	write_file("c", "[default]\naws_access_key_id=TWO\naws_secret_access_key=s\n");
	/* It looks once a second. */
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(s3_cred_get(c, &k, NULL), 0);
		if (k.generation == 2)
			break;
		s3_keys_fini(&k);
		usleep(10000);
	}
	assert_string_equal(k.access_key, "TWO");
	assert_int_equal(k.generation, 2);
	s3_keys_fini(&k);
	/* What was refused is looked for at once; half a file leaves what there was. */
	write_file("c", "[default]\naws_access_key_id=THREE\naws_secret_access_key=s\n");
	s3_cred_refused(c, 2);
	check_key(c, "THREE");
	write_file("c", "[default]\naws_access_key_id=FOUR\n");
	s3_cred_refused(c, 3);
	check_key(c, "THREE");
	s3_cred_close(c);
}

static void a_process_is_asked_and_its_failure_told(void **state)
{
	struct s3_keys k;
	struct error err = ERROR_INIT;

	(void)state;
	struct s3_cred *c = cred("process:echo '{\"Version\":1," PAIR "}'");
	check_key(c, "AK");
	s3_cred_close(c);
	c = cred("process:echo " SECRET "; exit 3");
	assert_int_equal(get(c, &k, &err), -EACCES);
	assert_non_null(strstr(err.msg, "exits with 3"));
	assert_null(strstr(err.msg, SECRET));
	s3_cred_close(c);
	c = cred("process:yes");
	assert_int_equal(get(c, &k, &err), -EACCES);
	assert_non_null(strstr(err.msg, "too much"));
	s3_cred_close(c);
}

static void a_process_that_nobody_waits_for_is_ended(void **state)
{
	char ran[] = "/tmp/varve-cred-XXXXXX", source[100];
	int fd = mkstemp(ran);
	int64_t from = monotonic_ms();
	struct s3_cred *c;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	snprintf(source, sizeof(source), "process:rm %s; exec sleep 50", ran);
	c = cred(source);
	while (access(ran, F_OK) == 0 && monotonic_ms() - from < 30000)
		usleep(1000);
	assert_int_not_equal(access(ran, F_OK), 0);
	from = monotonic_ms();
	s3_cred_close(c);
	assert_in_range(monotonic_ms() - from, 0, 20000);
}

static void an_instance_is_asked_by_version_2(void **state)
{
	struct s3_keys k;

	(void)state;
	set_answer("{" PAIR ",\"Token\":\"T\",\"Expiration\":\"2099-01-01T00:00:00Z\"}");
	struct s3_cred *c = cred(NULL);
	assert_int_equal(get(c, &k, NULL), 0);
	assert_string_equal(k.token, "T");
	s3_keys_fini(&k);
	assert_int_equal(n_asked, 3);
	s3_cred_close(c);
}

static void a_container_is_asked_with_its_token(void **state)
{
	struct s3_keys k;
	struct error err = ERROR_INIT;
	char path[128];

	(void)state;
	set_answer("{" PAIR ",\"Token\":\"T\"}");
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/container", 1);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "letmein", 1);
	struct s3_cred *c = cred(NULL);
	check_key(c, "AK");
	s3_cred_close(c);
	unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	write_file("token", "letmein\n");
	snprintf(path, sizeof(path), "%s/token", home);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path, 1);
	c = cred("metadata");
	check_key(c, "AK");
	s3_cred_close(c);
	/* Secrets are not fetched in the clear from just anywhere. */
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1.example.org/container", 1);
	c = cred(NULL);
	assert_int_equal(get(c, &k, &err), -EACCES);
	assert_non_null(strstr(err.msg, "must be https or on this host"));
	s3_cred_close(c);
}

static void refused_ones_are_renewed_once_while_all_wait(void **state)
{
	struct s3_keys k;

	(void)state;
	set_answer("{" PAIR "}");
	struct s3_cred *c = cred("metadata");
	check_key(c, "AK");
	assert_int_equal(n_asked, 3);
	set_answer("{\"AccessKeyId\":\"NEW\",\"SecretAccessKey\":\"s\"}");
	for (int i = 0; i < 50; i++) /* all who had them were refused */
		assert_true(s3_cred_refused(c, 1));
	assert_int_equal(get(c, &k, NULL), 0);
	assert_string_equal(k.access_key, "NEW");
	assert_int_equal(k.generation, 2);
	s3_keys_fini(&k);
	assert_true(s3_cred_refused(c, 1)); /* a late one: there are new ones already */
	usleep(50000);
	assert_true(n_asked <= 9); /* at most one more than is needed: the first was under way */
	assert_true(changes() >= 2);
	s3_cred_close(c);
}

static void they_are_renewed_before_they_expire(void **state)
{
	char text[200];
	time_t t = time(NULL) + 2;
	struct tm tm;
	char when[32];

	(void)state;
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	snprintf(text, sizeof(text), "{" PAIR ",\"Expiration\":\"%s\"}", when);
	set_answer(text);
	struct s3_cred *c = cred("metadata");
	check_key(c, "AK");
	set_answer("{\"AccessKeyId\":\"NEW\",\"SecretAccessKey\":\"s\"}");
	for (int i = 0; i < 2000 && changes() < 2; i++) {
		struct s3_keys k;
		assert_int_equal(s3_cred_get(c, &k, NULL), 0); /* nobody waits meanwhile */
		s3_keys_fini(&k);
		usleep(10000);
	}
	check_key(c, "NEW");
	s3_cred_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_profile_is_found_in_a_file),
		cmocka_unit_test(what_cannot_stand_in_a_header_is_refused_without_being_shown),
		cmocka_unit_test(json_of_processes_and_of_services_is_read),
		cmocka_unit_test_setup_teardown(the_environment_goes_first, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_source_that_is_wrong_says_so, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_file_is_read_again_when_it_changes, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_process_is_asked_and_its_failure_told, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_process_that_nobody_waits_for_is_ended, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(an_instance_is_asked_by_version_2, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_container_is_asked_with_its_token, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(refused_ones_are_renewed_once_while_all_wait,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(they_are_renewed_before_they_expire, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
