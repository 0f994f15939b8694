#include "store/base/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void fields_are_little_endian_and_round_trip(void **state)
{
	static const uint8_t want[] = { 0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f,
					0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08 };
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct wire_reader r;
	(void)state;

	assert_int_equal(wire_put_u8(&b, 0x01), 0);
	assert_int_equal(wire_put_u16(&b, 0x0203), 0);
	assert_int_equal(wire_put_u32(&b, 0x04050607), 0);
	assert_int_equal(wire_put_u64(&b, 0x08090a0b0c0d0e0full), 0);
	assert_int_equal(b.len, sizeof(want));
	assert_memory_equal(b.data, want, sizeof(want));
	wire_reader_init(&r, b.data, b.len);
	assert_int_equal(wire_u8(&r), 0x01);
	assert_int_equal(wire_u16(&r), 0x0203);
	assert_int_equal(wire_u32(&r), 0x04050607);
	assert_int_equal(wire_left(&r), 8);
	assert_false(wire_done(&r));
	assert_true(wire_u64(&r) == 0x08090a0b0c0d0e0full);
	assert_true(wire_done(&r));
}

static void reader_stops_at_its_end_and_stays_failed(void **state)
{
	static const uint8_t data[] = { 1, 2, 3 };
	struct wire_reader r;
	(void)state;

	wire_reader_init(&r, data, sizeof(data));
	assert_int_equal(wire_u32(&r), 0);
	assert_false(wire_ok(&r));
	assert_int_equal(wire_left(&r), 0);
	/* A byte was there, but the input has proved malformed. */
	assert_int_equal(wire_u8(&r), 0);
	assert_null(wire_bytes(&r, 1));
	assert_false(wire_done(&r));

	wire_reader_init(&r, data, sizeof(data));
	assert_null(wire_bytes(&r, SIZE_MAX));
	assert_false(wire_ok(&r));
}

static void empty_input_is_done_at_once(void **state)
{
	struct wire_reader r;
	(void)state;

	wire_reader_init(&r, NULL, 0);
	assert_true(wire_done(&r));
	assert_non_null(wire_bytes(&r, 0));
	assert_int_equal(wire_u8(&r), 0);
	assert_false(wire_ok(&r));
}

static void bytes_point_into_the_input(void **state)
{
	static const uint8_t data[] = { 1, 2, 3 };
	struct wire_reader r;
	(void)state;

	wire_reader_init(&r, data, sizeof(data));
	assert_ptr_equal(wire_bytes(&r, 2), data);
	assert_ptr_equal(wire_bytes(&r, 1), data + 2);
	assert_true(wire_done(&r));
}

static void fixed_place_accessors_round_trip(void **state)
{
	uint8_t p[8];
	(void)state;

	wire_set32(p, 0xfedcba98u);
	assert_int_equal(p[0], 0x98);
	assert_true(wire_get32(p) == 0xfedcba98u);
	assert_int_equal(wire_get16(p), 0xba98);
	wire_set64(p, 0xfedcba9876543210ull);
	assert_true(wire_get64(p) == 0xfedcba9876543210ull);
	wire_set64be(p, 0xfedcba9876543210ull);
	assert_int_equal(p[0], 0xfe);
	assert_true(wire_get64be(p) == 0xfedcba9876543210ull);
}

static void buffer_grows_and_prints(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	(void)state;

	assert_string_equal(buf_cstr(&b), "");
	assert_int_equal(buf_append(&b, NULL, 0), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_printf(&b, "%d,", i), 0);
	assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
	assert_memory_equal(buf_cstr(&b) + b.len - 8, "998,999,", 9);
	buf_clear(&b);
	assert_int_equal(buf_append_str(&b, "x"), 0);
	assert_string_equal(buf_cstr(&b), "x");
}

static void buffer_refuses_impossible_sizes(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	(void)state;

	assert_int_equal(buf_append_str(&b, "x"), 0);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -EOVERFLOW);
	assert_int_equal(buf_reserve(&b, SIZE_MAX / 2 + 1), -EOVERFLOW);
	assert_string_equal(buf_cstr(&b), "x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_are_little_endian_and_round_trip),
		cmocka_unit_test(reader_stops_at_its_end_and_stays_failed),
		cmocka_unit_test(empty_input_is_done_at_once),
		cmocka_unit_test(bytes_point_into_the_input),
		cmocka_unit_test(fixed_place_accessors_round_trip),
		cmocka_unit_test(buffer_grows_and_prints),
		cmocka_unit_test(buffer_refuses_impossible_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
