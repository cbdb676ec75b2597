/* Error messages that tell the story on the way up. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static void mark_cut(char *text, size_t size, int wanted)
{
	if (wanted < 0)
		text[0] = '\0';
	else if ((size_t)wanted >= size)
		memcpy(text + size - 4, "...", 4);
}

static int negative(int code)
{
	return code > 0 ? -code : code;
}

int plane_error_set(struct plane_error *err, int code, const char *format, ...)
{
	if (err) {
		va_list args;
		va_start(args, format);
		int len = vsnprintf(err->message, sizeof(err->message), format, args);
		va_end(args);
		mark_cut(err->message, sizeof(err->message), len);
		plane_text_make_utf8(err->message);
		err->code = negative(code);
	}
	return negative(code);
}

int plane_error_errno(struct plane_error *err, const char *format, ...)
{
	int code = errno ? errno : EIO;
	if (err) {
		char what[sizeof(err->message)];
		va_list args;
		va_start(args, format);
		int len = vsnprintf(what, sizeof(what), format, args);
		va_end(args);
		mark_cut(what, sizeof(what), len);
		plane_error_set(err, code, "%s: %s", what, strerror(code));
	}
	return -code;
}

int plane_error_prefix(struct plane_error *err, const char *format, ...)
{
	if (!err)
		return -EIO;
	char what[sizeof(err->message)];
	char why[sizeof(err->message)];
	va_list args;
	va_start(args, format);
	int len = vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	mark_cut(what, sizeof(what), len);
	memcpy(why, err->message, sizeof(why));
	return plane_error_set(err, err->code ? err->code : EIO, "%s: %s", what, why);
}
