/* Controller URLs, taken apart by libcurl's URL parser. */
#include "net/controller_url.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include <curl/curl.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"

#define TOKEN_MAX 4096
#define TOKEN_FILE_MAX ((size_t)8192)

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

/* What cannot end the header, nor be two words of it. */
static bool is_token(const char *text)
{
	size_t len = strlen(text);
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return false;
	return len > 0 && len <= TOKEN_MAX;
}

static int read_token_file(const char *path, char **token, struct plane_error *err)
{
	struct plane_buffer text = { 0 };
	int result = plane_file_read_private(path, TOKEN_FILE_MAX, &text, err);
	if (result == 0) {
		while (text.len > 0 && isspace((unsigned char)text.data[text.len - 1]))
			text.len--;
		*token = plane_strdup(plane_buffer_text(&text));
	}
	if (text.data)
		explicit_bzero(text.data, text.capacity);
	plane_buffer_finish(&text);
	return result < 0 ? plane_error_prefix(err, "controller's token") : 0;
}

int plane_controller_bearer(const struct plane_controller_url *url,
	const struct plane_controller_credentials *credentials, char **bearer,
	struct plane_error *err)
{
	const char *file = credentials ? credentials->token_file : NULL;
	char *token = NULL;
	int result = 0;
	if (url->bearer && file)
		return plane_error_set(err, EINVAL,
			"there is a token in the controller's URL and one in %s: use one of them",
			file);
	if (file)
		result = read_token_file(file, &token, err);
	else
		token = plane_strdup(
			url->bearer ? url->bearer : (credentials ? credentials->token : NULL));
	if (result == 0 && token && !is_token(token))
		result = plane_error_set(err, EINVAL,
			"the controller's token%s%s: expected one word of printable ASCII "
			"characters, at most %d",
			file ? " in " : "", file ? file : "", TOKEN_MAX);
	if (result < 0) {
		free(token);
		return result;
	}
	*bearer = token;
	return 0;
}

int plane_controller_credentials_check(const struct plane_controller_url *url,
	const struct plane_controller_credentials *credentials, struct plane_error *err)
{
	_cleanup_free_ char *bearer = NULL;
	int result = plane_controller_bearer(url, credentials, &bearer, err);
	if (result < 0 || !credentials || !plane_tls_client_files_are_given(&credentials->tls))
		return result;
	if (!url->is_tls)
		return plane_error_set(err, EINVAL,
			"there are files for TLS, but the controller's URL is one without TLS: "
			"begin it with https:// or wss://");
	SSL_CTX *context = plane_tls_client_context(&credentials->tls, err);
	plane_tls_context_free(context);
	return context ? 0 : plane_error_prefix(err, "TLS to the controller");
}

void plane_controller_url_finish(struct plane_controller_url *url)
{
	free(url->host);
	free(url->authority);
	free(url->bearer);
	*url = (struct plane_controller_url){ 0 };
}
