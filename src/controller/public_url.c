/* Cutting a URL down to scheme and host. */
#include "controller/public_url.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"

char *plane_public_url(const char *controller_url, struct plane_error *err)
{
	static const char *const schemes[][2] = { { "http://", "http" }, { "https://", "https" },
		{ "ws://", "http" }, { "wss://", "https" } };
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		if (!plane_text_starts_with(controller_url, schemes[i][0]))
			continue;
		const char *authority = controller_url + strlen(schemes[i][0]);
		size_t len = strcspn(authority, "/?#");
		for (size_t j = len; j > 0; j--) {
			if (authority[j - 1] == '@') {
				authority += j;
				len -= j;
				break;
			}
		}
		bool is_plain = len > 0;
		for (size_t j = 0; j < len; j++)
			is_plain = is_plain && authority[j] > ' ' && authority[j] < 0x7f &&
				   !strchr("\"<>\\^`{|}", authority[j]);
		if (is_plain)
			return plane_strdupf("%s://%.*s", schemes[i][1], (int)len, authority);
	}
	plane_error_set(err, EINVAL, "controller URL: expected http(s)://host[:port]");
	return NULL;
}
