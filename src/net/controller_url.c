/* Controller URLs, taken apart by libcurl's URL parser. */
#include "net/controller_url.h"

#include <errno.h>
#include <string.h>

#include <curl/curl.h>

#include "base/alloc.h"
#include "base/cleanup.h"

static void curl_url_cleanupp(CURLU **handle)
{
	curl_url_cleanup(*handle);
}

/* One part as a copy; NULL when it is not there. */
static char *get_part(CURLU *handle, CURLUPart part, unsigned flags)
{
	char *text = NULL;
	if (curl_url_get(handle, part, &text, flags) != CURLUE_OK)
		return NULL;
	char *copy = plane_strdup(text);
	curl_free(text);
	return copy;
}

static bool is_scheme(const char *scheme, const char *plain, const char *tls, bool *is_tls)
{
	*is_tls = scheme && strcmp(scheme, tls) == 0;
	return *is_tls || (scheme && strcmp(scheme, plain) == 0);
}

int plane_controller_url_parse(
	const char *text, struct plane_controller_url *url, struct plane_error *err)
{
	_cleanup_(curl_url_cleanupp) CURLU *handle = curl_url();
	if (!handle ||
		curl_url_set(handle, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		return plane_error_set(err, -EINVAL,
			"the controller's URL is malformed: expected http://host:port or "
			"https://TOKEN@host");
	_cleanup_free_ char *scheme = get_part(handle, CURLUPART_SCHEME, 0);
	bool is_tls;
	if (!is_scheme(scheme, "http", "https", &is_tls) &&
		!is_scheme(scheme, "ws", "wss", &is_tls))
		return plane_error_set(err, -EINVAL,
			"the controller's URL begins with %s: expected http, https, ws or wss",
			scheme ? scheme : "no scheme");
	_cleanup_free_ char *host = get_part(handle, CURLUPART_HOST, 0);
	if (!host || !*host)
		return plane_error_set(err, -EINVAL, "the controller's URL has no host");
	_cleanup_free_ char *port = get_part(handle, CURLUPART_PORT, 0);
	int number = port ? atoi(port) : is_tls ? 443 : 80; /* libcurl has checked all but zero */
	if (number == 0)
		return plane_error_set(
			err, -EINVAL, "the controller's URL has port 0: expected 1 to 65535");
	url->authority = port ? plane_strdupf("%s:%s", host, port) : plane_strdup(host);
	url->port = number;
	url->is_tls = is_tls;
	url->bearer = get_part(handle, CURLUPART_USER, 0);
	size_t len = strlen(host);
	url->host = host[0] == '[' ? plane_strndup(host + 1, len - 2) : STEAL(host);
	return 0;
}

void plane_controller_url_finish(struct plane_controller_url *url)
{
	free(url->host);
	free(url->authority);
	free(url->bearer);
	*url = (struct plane_controller_url){ 0 };
}
