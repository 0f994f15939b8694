#include "store/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Keep the message to one line, whatever file name or library text it contains. */
static void make_one_line(char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = *s == '\n' || *s == '\t' ? ' ' : '?';
	}
}

/* Writes the text of errno `code` to buf. GNU and XSI strerror_r differ; this is the former. */
static const char *code_text(int code, char *buf, size_t size)
{
	return strerror_r(code < 0 ? -code : code, buf, size);
}

/* Appends ": more" to text, as much of it as fits. */
static void append_text(char *text, size_t size, const char *more)
{
	size_t len = strlen(text);

	for (const char *p = ": "; *p && len + 1 < size; p++)
		text[len++] = *p;
	for (; *more && len + 1 < size; more++)
		text[len++] = *more;
	text[len] = '\0';
}

static void set_message(struct error *err, const char *text)
{
	size_t len = strnlen(text, sizeof(err->msg) - 1);

	while (len > 0 && text[len - 1] == '\n')
		len--;
	memmove(err->msg, text, len);
	err->msg[len] = '\0';
	make_one_line(err->msg);
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
	char text[sizeof(err->msg)]; /* an argument may point into err->msg */
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err->code = code;
	set_message(err, text);
	return code;
}

int error_set_errno(struct error *err, int code, const char *fmt, ...)
{
	char text[sizeof(err->msg)], reason[128];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	append_text(text, sizeof(text), code_text(code, reason, sizeof(reason)));
	err->code = code;
	set_message(err, text);
	return code;
}

int error_prefix(struct error *err, int code, const char *fmt, ...)
{
	char text[sizeof(err->msg)], reason[128];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	append_text(text, sizeof(text),
		    err->msg[0] ? err->msg : code_text(code, reason, sizeof(reason)));
	err->code = code;
	set_message(err, text);
	return code;
}

const char *error_text(const struct error *err)
{
	if (!err)
		return "unknown error";
	if (err->msg[0])
		return err->msg;
	/* strerrordesc_np() is static text and thread-safe (glibc 2.32). */
	const char *text = strerrordesc_np(err->code < 0 ? -err->code : err->code);
	return text ? text : "unknown error";
}
