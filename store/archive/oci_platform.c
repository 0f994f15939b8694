#include "store/archive/oci_platform.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#define LEVEL_UNKNOWN UINT32_MAX
#define FIT_EXACT (UINT32_MAX - 1)
#define FIT_UNNAMED 2u /* no variant, and the architecture has no known levels */
#define FIT_OTHER 1u

static bool is_word(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789._-", s[i]))
			return false;
	return len > 0 && len < sizeof(((struct oci_platform *)0)->os);
}

int oci_platform_parse(const char *text, struct oci_platform *out, struct error *err)
{
	struct oci_platform p = { 0 };
	char *const parts[] = { p.os, p.architecture, p.variant };
	const char *at = text;
	size_t n = 0;

	for (; n < ARRAY_SIZE(parts); n++) {
		size_t len = strcspn(at, "/");

		if (!is_word(at, len))
			break;
		memcpy(parts[n], at, len);
		at += len;
		if (*at != '/')
			break;
		at++;
	}
	if (*at || n == 0 || n == ARRAY_SIZE(parts) || at[-1] == '/')
		return error_set(err, -EINVAL,
				 "\"%.100s\" is no platform: os/architecture or "
				 "os/architecture/variant, as linux/arm/v7",
				 text);
	*out = p;
	return 0;
}

const char *oci_architecture(void)
{
	static const char *const names[][2] = {
		{ "x86_64", "amd64" },
		{ "aarch64", "arm64" },
		{ "armv8l", "arm" },
		{ "armv7l", "arm" },
		{ "armv6l", "arm" },
		{ "i686", "386" },
		{ "i586", "386" },
		{ "i386", "386" },
		{ "riscv64", "riscv64" },
		{ "s390x", "s390x" },
		{ "ppc64", "ppc64" },
		{ "ppc64le", "ppc64le" },
		{ "loongarch64", "loong64" },
	};
	struct utsname u;

	if (uname(&u) < 0)
		return "unknown";
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(u.machine, names[i][0]) == 0)
			return names[i][1];
	return "unknown";
}

/* The level of the x86-64 psABI; "" if it is none. */
static const char *host_variant(void)
{
#if defined(__x86_64__)
	__builtin_cpu_init();
	bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("ssse3") &&
		  __builtin_cpu_supports("popcnt");
	bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
		  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("fma");
	bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
		  __builtin_cpu_supports("avx512vl");

	return v4 ? "v4" : v3 ? "v3" : v2 ? "v2" : "v1";
#elif defined(__arm__)
	struct utsname u;

	if (uname(&u) == 0 && strncmp(u.machine, "armv", 4) == 0)
		return u.machine[4] == '8' ? "v8" : u.machine[4] == '6' ? "v6" : "v7";
	return "";
#else
	return "";
#endif
}

void oci_platform_host(struct oci_platform *out)
{
	*out = (struct oci_platform){ .os = "linux" };
	snprintf(out->architecture, sizeof(out->architecture), "%s", oci_architecture());
	snprintf(out->variant, sizeof(out->variant), "%s", host_variant());
}

/* "v8.2" is 802; 0 if it is not such a name. */
static unsigned version(const char *variant)
{
	unsigned major = 0, minor = 0;
	int end = 0;

	if (sscanf(variant, "v%3u%n", &major, &end) != 1)
		return 0;
	if (variant[end] == '.') {
		int more = 0;

		if (sscanf(variant + end, ".%2u%n", &minor, &more) != 1)
			return 0;
		end += more;
	}
	return variant[end] ? 0 : major * 100 + minor;
}

static unsigned level(const char *architecture, const char *variant)
{
	static const struct {
		const char *architecture;
		unsigned unnamed;
	} known[] = { { "amd64", 100 }, { "arm", 700 }, { "arm64", 800 } };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i].architecture, architecture) == 0)
			return *variant ? version(variant) : known[i].unnamed;
	return LEVEL_UNKNOWN;
}

static const char *str(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key)) ?: "";
}

unsigned oci_platform_fit(const struct oci_platform *on, const json_t *image)
{
	const char *variant = str(image, "variant");

	if (strcmp(str(image, "os"), on->os) != 0 ||
	    strcmp(str(image, "architecture"), on->architecture) != 0)
		return 0;
	if (strcmp(variant, on->variant) == 0)
		return FIT_EXACT;
	unsigned max = level(on->architecture, on->variant);
	unsigned has = level(on->architecture, variant);
	if (has == LEVEL_UNKNOWN)
		return *variant ? FIT_OTHER : FIT_UNNAMED;
	return has <= max ? has : 0; /* a name that is not a level has 0 */
}

void oci_platform_text(const json_t *image, char out[OCI_PLATFORM_TEXT])
{
	const char *os = str(image, "os"), *architecture = str(image, "architecture");
	const char *variant = str(image, "variant");

	snprintf(out, OCI_PLATFORM_TEXT, "%.40s/%.40s%s%.40s", *os ? os : "?",
		 *architecture ? architecture : "?", *variant ? "/" : "", variant);
}
