#include "store/base/utf8.h"

size_t utf8_len(const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t n = s[0] < 0x80	 ? 1
		   : s[0] < 0xc2 ? 0
		   : s[0] < 0xe0 ? 2
		   : s[0] < 0xf0 ? 3
		   : s[0] < 0xf5 ? 4
				 : 0;

	if (n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

int utf8_append_valid(struct buf *out, const char *s, size_t len)
{
	static const char replacement[] = "\xef\xbf\xbd";
	int rc = 0;

	for (size_t i = 0, n; i < len && rc == 0; i += n ? n : 1) {
		n = utf8_len(s + i, len - i);
		rc = buf_append(out, n ? s + i : replacement, n ? n : sizeof(replacement) - 1);
	}
	return rc;
}
