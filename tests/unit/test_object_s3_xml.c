/* object_s3_xml: what services send, and what they should not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "store/bucket/object_s3_xml.h"

static const struct s3_list_query all = { .root = "p/", .prefix = "", .max_keys = 5 };

static int listing(const char *text, const struct s3_list_query *q, struct s3_listing *l)
{
	return s3_xml_listing(text, strlen(text), q, l);
}

#define HEAD                                           \
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" \
	"<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define TAIL "</ListBucketResult>"
#define OBJECT(key)                                                                         \
	"<Contents><Key>" key "</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>" \
	"<ETag>&quot;abc&quot;</ETag><Size>42</Size>"                                       \
	"<Owner><ID>x</ID><Key>not/this</Key></Owner></Contents>"
#define PREFIX(key) "<CommonPrefixes><Prefix>" key "</Prefix></CommonPrefixes>"
#define TRUNCATED(x) "<IsTruncated>" x "</IsTruncated>"

static void a_page_has_keys_and_prefixes_in_order(void **state)
{
	struct s3_listing l;

	(void)state;
	assert_int_equal(listing(HEAD "<Prefix>p/</Prefix>" TRUNCATED("true") OBJECT("p/b")
					 OBJECT("p/d%2Fe") PREFIX("p/c/") PREFIX("p%2Fa%2F") TAIL,
				 &all, &l),
			 0);
	assert_int_equal(l.n, 4);
	assert_string_equal(l.entries[0].key, "a/");
	assert_true(l.entries[0].is_prefix);
	assert_int_equal(l.entries[0].modified, 0);
	assert_string_equal(l.entries[1].key, "b");
	assert_int_equal(l.entries[1].size, 42);
	assert_int_equal(l.entries[1].modified, 1255369830);
	assert_false(l.entries[1].is_prefix);
	assert_string_equal(l.entries[2].key, "c/");
	assert_string_equal(l.entries[3].key, "d/e");
	assert_true(l.truncated);
	assert_string_equal(l.last, "p/d/e");
	s3_listing_fini(&l);
}

static void an_empty_page_is_one(void **state)
{
	struct s3_listing l;

	(void)state;
	assert_int_equal(listing(HEAD TRUNCATED("false") TAIL, &all, &l), 0);
	assert_int_equal(l.n, 0);
	assert_false(l.truncated);
	s3_listing_fini(&l);
}

static void keys_of_others_are_left_out(void **state)
{
	struct s3_listing l;

	(void)state;
	assert_int_equal(listing(HEAD TRUNCATED("true") OBJECT("p/Upper") OBJECT("p/a+b")
					 OBJECT("p/ok") OBJECT("p/%C3%A4") OBJECT("p/z%0A") TAIL,
				 &all, &l),
			 0);
	assert_int_equal(l.n, 1);
	assert_string_equal(l.entries[0].key, "ok");
	assert_string_equal(l.last, "p/\xc3\xa4");
	s3_listing_fini(&l);
}

static void what_comes_before_the_start_is_left_out(void **state)
{
	struct s3_list_query q = { .root = "", .prefix = "n/", .after = "n/a/", .max_keys = 9 };
	struct s3_listing l;

	(void)state;
	assert_int_equal(
		listing(HEAD TRUNCATED("false") PREFIX("n/a/") PREFIX("n/b/") TAIL, &q, &l), 0);
	assert_int_equal(l.n, 1);
	assert_string_equal(l.entries[0].key, "n/b/");
	s3_listing_fini(&l);
}

static void what_is_no_page_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"no",
		"<ListBucketResult>",
		HEAD,
		HEAD TAIL, /* says no end */
		HEAD TRUNCATED("maybe") TAIL,
		HEAD TRUNCATED("true") TAIL,				  /* no progress */
		HEAD TRUNCATED("false") OBJECT("q/a") TAIL,		  /* not asked */
		HEAD TRUNCATED("false") OBJECT("p/a") OBJECT("p/a") TAIL, /* twice */
		HEAD TRUNCATED("false") OBJECT("p/a%0") TAIL,
		HEAD TRUNCATED("false") OBJECT("p/a%00") TAIL,
		HEAD TRUNCATED("false") OBJECT("p/&unknown;") TAIL,
		HEAD TRUNCATED("false") OBJECT("p/&#0;") TAIL,
		HEAD TRUNCATED("false") OBJECT("p/&#xD800;") TAIL,
		HEAD TRUNCATED("false") "<Contents></Contents>" TAIL, /* no key */
		HEAD TRUNCATED("false") "<Contents><Key>p/a</Key><Size>-1</Size></Contents>" TAIL,
		HEAD TRUNCATED("false") "<Contents><Key>p/a</Key><LastModified>now</LastModified></"
					"Contents>" TAIL,
		HEAD TRUNCATED("false") OBJECT("p/1") OBJECT("p/2") OBJECT("p/3") OBJECT("p/4")
			OBJECT("p/5") OBJECT("p/6") TAIL, /* more than asked */
		HEAD "<A></B>" TRUNCATED("false") TAIL,
		HEAD TRUNCATED("false") "</Other>",
		HEAD "<A x='<'></A>" TRUNCATED("false") "<A x=></A" TAIL,
		"<!DOCTYPE x [<!ENTITY a \"b\">]>" HEAD TRUNCATED("false") TAIL,
		"<Error><Code>SlowDown</Code></Error>",
	};
	struct s3_listing l;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int rc = listing(bad[i], &all, &l);
		if (rc != -EBADMSG)
			fail_msg("%d for %s", rc, bad[i]);
		assert_null(l.entries);
	}
}

static void any_cut_of_a_page_is_refused(void **state)
{
	static const char page[] =
		HEAD TRUNCATED("true") OBJECT("p/a") PREFIX("p/b/") "<!-- x -->" TAIL;
	struct s3_listing l;

	(void)state;
	for (size_t n = 0; n < sizeof(page) - 1; n++)
		assert_int_equal(s3_xml_listing(page, n, &all, &l), -EBADMSG);
	assert_int_equal(s3_xml_listing(page, sizeof(page) - 1, &all, &l), 0);
	s3_listing_fini(&l);
}

static void a_long_key_is_not_cut(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct s3_listing l;

	(void)state;
	assert_int_equal(buf_append_str(&b, HEAD TRUNCATED("false") "<Contents><Key>p/"), 0);
	for (int i = 0; i < 5000; i++)
		assert_int_equal(buf_append_str(&b, "a"), 0);
	assert_int_equal(buf_append_str(&b, "</Key></Contents>" TAIL), 0);
	assert_int_equal(s3_xml_listing((char *)b.data, b.len, &all, &l), -EBADMSG);
}

static void failures_tell_a_code(void **state)
{
	static const char text[] =
		"<?xml version='1.0'?>\n<Error><Code>Slow<!-- -->Down</Code>"
		"<Message>a &lt;b&gt; &#228; <![CDATA[<c>]]>\n</Message></Error>";
	static const char wrapped[] =
		"<x:ErrorResponse xmlns:x=\"y\"><x:Error><x:Code>InvalidAction"
		"</x:Code></x:Error></x:ErrorResponse>";
	struct s3_failure f;

	(void)state;
	assert_int_equal(s3_xml_failure(text, strlen(text), &f), 0);
	assert_string_equal(f.code, "SlowDown");
	assert_string_equal(f.message, "a <b> ?? <c>?");
	assert_int_equal(s3_xml_failure(wrapped, strlen(wrapped), &f), 0);
	assert_string_equal(f.code, "InvalidAction");
	assert_int_equal(s3_xml_failure("<html></html>", 13, &f), -EBADMSG);
	assert_int_equal(s3_xml_failure("", 0, &f), -EBADMSG);
}

static void deletions_name_what_failed(void **state)
{
	static const char *const names[] = { "a", "b/c" };
	static const char text[] = "<DeleteResult><Deleted><Key>p/a</Key></Deleted>"
				   "<Error><Key>p/n</Key><Code>NoSuchKey</Code></Error>"
				   "<Error><Key>p/b</Key><Code>AccessDenied</Code><Message>m</"
				   "Message></Error></DeleteResult>";
	struct s3_failure f;
	struct buf b = BUF_INIT;
	size_t failed;

	(void)state;
	assert_int_equal(s3_xml_delete("p/", names, 2, &b), 0);
	assert_string_equal(buf_cstr(&b),
			    "<Delete><Quiet>true</Quiet><Object><Key>p/a</Key></Object>"
			    "<Object><Key>p/b/c</Key></Object></Delete>");
	buf_fini(&b);
	assert_int_equal(s3_xml_deleted(text, strlen(text), &failed, &f), 0);
	assert_int_equal(failed, 1);
	assert_string_equal(f.code, "AccessDenied");
	assert_int_equal(s3_xml_deleted("<DeleteResult/>", 15, &failed, &f), 0);
	assert_int_equal(failed, 0);
	assert_int_equal(s3_xml_deleted("<Other/>", 8, &failed, &f), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_has_keys_and_prefixes_in_order),
		cmocka_unit_test(an_empty_page_is_one),
		cmocka_unit_test(keys_of_others_are_left_out),
		cmocka_unit_test(what_comes_before_the_start_is_left_out),
		cmocka_unit_test(what_is_no_page_is_refused),
		cmocka_unit_test(any_cut_of_a_page_is_refused),
		cmocka_unit_test(a_long_key_is_not_cut),
		cmocka_unit_test(failures_tell_a_code),
		cmocka_unit_test(deletions_name_what_failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
