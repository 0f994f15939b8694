#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include "snapshotd/http/http_conns.h"

#define LIMIT 16u
#define MANY 24

static struct {
	struct conns *cs;
	struct {
		int fd, peer;
		struct conn *c;
	} all[MANY];
	size_t n;
} t;

static int setup(void **state)
{
	(void)state;
	t.n = 0;
	t.cs = conns_new(LIMIT, false);
	return t.cs ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < t.n; i++) {
		conns_remove(t.cs, t.all[i].c);
		close(t.all[i].fd);
		close(t.all[i].peer);
	}
	conns_free(t.cs);
	return 0;
}

static size_t connect_from(const char *address, int64_t now)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	const struct sockaddr *a = NULL;
	int fds[2];

	assert_true(t.n < MANY);
	if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
		a = (struct sockaddr *)&v4;
	else if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1)
		a = (struct sockaddr *)&v6;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	t.all[t.n].fd = fds[0];
	t.all[t.n].peer = fds[1];
	t.all[t.n].c = conns_add(t.cs, fds[0], a, now);
	assert_non_null(t.all[t.n].c);
	return t.n++;
}

static struct conn *conn(size_t i)
{
	return t.all[i].c;
}

static bool is_ended(size_t i)
{
	struct pollfd p = { .fd = t.all[i].peer, .events = POLLIN | POLLRDHUP };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLRDHUP);
}

static void the_oldest_without_a_key_makes_room(void **state)
{
	char address[16];

	(void)state;
	for (unsigned i = 0; i < LIMIT / 2; i++) {
		snprintf(address, sizeof(address), "10.0.0.%u", i);
		connect_from(address, 0);
	}
	conns_trust(t.cs, conn(0)); /* no longer one of them */
	connect_from("10.0.1.1", CONN_YOUNG_MS);
	assert_false(is_ended(0) || is_ended(1));
	connect_from("10.0.1.2", CONN_YOUNG_MS);
	assert_false(is_ended(0));
	assert_true(is_ended(1));
	connect_from("10.0.1.3", CONN_YOUNG_MS);
	assert_true(is_ended(2));
	assert_false(is_ended(3));
}

static void an_address_has_its_share(void **state)
{
	size_t last;

	(void)state;
	connect_from("10.0.0.1", 0);
	for (unsigned i = 0; i < LIMIT / 4; i++)
		connect_from("10.0.0.2", 0);
	assert_false(is_ended(1));
	last = connect_from("10.0.0.2", CONN_YOUNG_MS);
	assert_false(is_ended(0) || is_ended(last)); /* its own oldest goes */
	assert_true(is_ended(1));
}

static void a_network_of_ipv6_is_one_address(void **state)
{
	char address[32];

	(void)state;
	for (unsigned i = 0; i < LIMIT / 4; i++) {
		snprintf(address, sizeof(address), "2001:db8::%u", i + 1);
		connect_from(address, 0);
	}
	connect_from("2001:db8:0:1::1", CONN_YOUNG_MS);
	assert_false(is_ended(0));
	connect_from("2001:db8::ffff", CONN_YOUNG_MS);
	assert_true(is_ended(0));
}

static void a_burst_finds_room_while_there_is_any(void **state)
{
	(void)state;
	for (unsigned i = 0; i < LIMIT - LIMIT / 16; i++)
		connect_from("10.0.0.1", 0);
	assert_false(is_ended(0));
	connect_from("10.0.0.1", 0); /* there is none */
	assert_true(is_ended(0));
	assert_false(is_ended(1));
}

static void a_guarded_listener_trusts_all(void **state)
{
	(void)state;
	conns_free(t.cs);
	t.cs = conns_new(LIMIT, true);
	for (unsigned i = 0; i < LIMIT; i++)
		connect_from("", (int64_t)i * CONN_YOUNG_MS / 2);
	assert_int_equal(conns_reap(t.cs, CONN_HEADER_MS - 1), LIMIT);
	assert_int_equal(conns_reap(t.cs, CONN_HEADER_MS), LIMIT - 1); /* but waits for none */
}

static void headers_have_a_deadline_as_a_whole(void **state)
{
	size_t slow = connect_from("", 0), late = connect_from("", 5000);

	(void)state;
	conns_request(t.cs, conn(slow), 9000); /* its first line, in pieces */
	assert_int_equal(conns_reap(t.cs, CONN_HEADER_MS - 1), 2);
	assert_int_equal(conns_reap(t.cs, CONN_HEADER_MS), 1);
	assert_true(is_ended(slow) && conns_has_ended(t.cs, conn(slow)));
	assert_false(is_ended(late) || conns_has_ended(t.cs, conn(late)));
	assert_false(conns_has_ended(t.cs, NULL));
	conns_reap(t.cs, 5000 + CONN_HEADER_MS);
	assert_true(is_ended(late));
}

static void who_waits_for_us_has_none(void **state)
{
	size_t i = connect_from("", 0);

	(void)state;
	conns_trust(t.cs, conn(i));
	conns_serving(t.cs, conn(i));
	assert_int_equal(conns_reap(t.cs, INT64_MAX - 1), 1);
	conns_idle(t.cs, conn(i), 1000);
	assert_int_equal(conns_reap(t.cs, 1000 + CONN_IDLE_MS), 1);
	conns_request(t.cs, conn(i), 2000); /* another one, whose headers are slow */
	assert_int_equal(conns_reap(t.cs, 2000 + CONN_HEADER_MS), 0);
	assert_true(is_ended(i));
}

static void a_body_has_to_keep_coming(void **state)
{
	size_t trickle = connect_from("", 0), steady = connect_from("", 0);
	int64_t now, ended = 0;

	(void)state;
	conns_body(t.cs, conn(trickle), CONN_BODY_PAUSE_MS, 0);
	conns_body(t.cs, conn(steady), CONN_BODY_PAUSE_MS, 0);
	for (now = 0; now < 10 * CONN_BODY_PAUSE_MS; now += 1000) {
		conns_body_bytes(t.cs, conn(trickle), 1, now);
		conns_body_next(t.cs, conn(trickle), now);
		conns_body_bytes(t.cs, conn(steady), CONN_RATE, now);
		conns_body_next(t.cs, conn(steady), now);
		conns_reap(t.cs, now);
		if (!ended && is_ended(trickle))
			ended = now;
	}
	assert_in_range(ended, CONN_BODY_PAUSE_MS, CONN_BODY_PAUSE_MS + 2000);
	assert_false(is_ended(steady));
	/* However much has come: the pause does not grow by it. */
	conns_body_bytes(t.cs, conn(steady), 1 << 30, now);
	conns_body_next(t.cs, conn(steady), now);
	conns_reap(t.cs, now + CONN_BODY_PAUSE_MS);
	assert_true(is_ended(steady));
}

/* What somebody types: a byte now and then, for days. */
static void a_live_body_may_pause(void **state)
{
	size_t i = connect_from("", 0);
	int64_t hour = 3600000;

	(void)state;
	conns_body(t.cs, conn(i), CONN_LIVE_PAUSE_MS, 0);
	for (int64_t now = hour; now < 72 * hour; now += hour) {
		assert_int_equal(conns_reap(t.cs, now), 1);
		conns_body_bytes(t.cs, conn(i), 1, now);
		conns_body_next(t.cs, conn(i), now);
	}
	assert_false(is_ended(i));
}

static void time_that_we_take_is_not_the_clients(void **state)
{
	size_t i = connect_from("", 0);

	(void)state;
	conns_body(t.cs, conn(i), CONN_BODY_PAUSE_MS, 0);
	conns_body_bytes(t.cs, conn(i), 1, 1000);
	conns_reap(t.cs, 1000000);
	assert_false(is_ended(i));
	conns_body_next(t.cs, conn(i), 1000000);
	conns_reap(t.cs, 1000000 + CONN_BODY_PAUSE_MS - 2000);
	assert_false(is_ended(i));
	conns_reap(t.cs, 1000000 + CONN_BODY_PAUSE_MS);
	assert_true(is_ended(i));
}

static void a_reply_has_to_be_taken(void **state)
{
	size_t whole = connect_from("", 0), small = connect_from("", 0);

	(void)state;
	conns_reply(t.cs, conn(whole), 1000 * CONN_RATE, 0);
	conns_reply(t.cs, conn(small), 0, 0);
	assert_int_equal(conns_reap(t.cs, CONN_REPLY_PAUSE_MS - 1), 2);
	assert_int_equal(conns_reap(t.cs, CONN_REPLY_PAUSE_MS + 1000000 - 1), 1);
	assert_true(is_ended(small));
	assert_int_equal(conns_reap(t.cs, CONN_REPLY_PAUSE_MS + 1000000), 0);
	assert_true(is_ended(whole));
}

static void a_stream_has_to_be_taken(void **state)
{
	size_t slow = connect_from("", 0), idle = connect_from("", 0);
	const int64_t pause = 20000;
	int64_t now, ended = 0;

	(void)state;
	conns_stream(t.cs, conn(slow), (int)pause, 0);
	conns_stream(t.cs, conn(idle), (int)pause, 0);
	/* One takes a piece in two seconds that it has one for; the other waits for us. */
	for (now = 0; now < 10 * pause; now += 2000) {
		conns_stream_bytes(t.cs, conn(slow), CONN_RATE, now);
		conns_stream_next(t.cs, conn(slow), now);
		conns_stream_next(t.cs, conn(idle), now);
		conns_stream_bytes(t.cs, conn(idle), 14, now);
		conns_reap(t.cs, now + 1999);
		if (!ended && is_ended(slow))
			ended = now;
	}
	assert_in_range(ended, pause, 3 * pause);
	assert_false(is_ended(idle));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_oldest_without_a_key_makes_room, setup,
						teardown),
		cmocka_unit_test_setup_teardown(an_address_has_its_share, setup, teardown),
		cmocka_unit_test_setup_teardown(a_network_of_ipv6_is_one_address, setup, teardown),
		cmocka_unit_test_setup_teardown(a_burst_finds_room_while_there_is_any, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_guarded_listener_trusts_all, setup, teardown),
		cmocka_unit_test_setup_teardown(headers_have_a_deadline_as_a_whole, setup,
						teardown),
		cmocka_unit_test_setup_teardown(who_waits_for_us_has_none, setup, teardown),
		cmocka_unit_test_setup_teardown(a_body_has_to_keep_coming, setup, teardown),
		cmocka_unit_test_setup_teardown(a_live_body_may_pause, setup, teardown),
		cmocka_unit_test_setup_teardown(time_that_we_take_is_not_the_clients, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_reply_has_to_be_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(a_stream_has_to_be_taken, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
