/* Path patterns of whole segments. */
#include "controller/router.h"

#include <ctype.h>
#include <string.h>

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	int lower = tolower((unsigned char)c);
	return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool decode(const char *from, size_t len, char to[PLANE_ROUTE_PARAM_SIZE])
{
	size_t used = 0;
	for (size_t i = 0; i < len; i++) {
		char c = from[i];
		if (c == '%') {
			if (len - i < 3)
				return false;
			int high = hex_value(from[i + 1]), low = hex_value(from[i + 2]);
			if (high < 0 || low < 0)
				return false;
			c = (char)(high * 16 + low);
			i += 2;
		}
		if (c == '\0' || c == '/' || used + 1 >= PLANE_ROUTE_PARAM_SIZE)
			return false;
		to[used++] = c;
	}
	to[used] = '\0';
	return used > 0;
}

bool plane_route_match(const char *pattern, const char *path, struct plane_route_params *params)
{
	params->count = 0;
	while (*pattern) {
		if (*pattern != ':') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		size_t len = strcspn(path, "/");
		if (params->count >= PLANE_ROUTE_PARAMS_MAX ||
			!decode(path, len, params->values[params->count]))
			return false;
		params->count++;
		path += len;
		pattern++;
	}
	return *path == '\0';
}
