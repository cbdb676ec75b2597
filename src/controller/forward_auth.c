/* Forward auth through libcurl. Must never log header values: they hold bearer tokens. */
#include "controller/forward_auth.h"

#include <errno.h>
#include <string.h>

#include <curl/curl.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "controller/header_list.h"
#include "net/tls_curl.h"

#define TIMEOUT_MS 10000
#define CONNECT_TIMEOUT_MS 5000

#define STUCK_MS 1000 /* without an answer, while as many as may be are awaited */
#define IDLE_MAX PLANE_FORWARD_AUTH_ASKS_MAX

struct plane_forward_auth {
	char *url;
	const struct plane_tls_client_files *tls;
	uv_mutex_t mutex;
	uv_cond_t answered;
	/* behind the mutex: */
	CURL *idle[IDLE_MAX]; /* handles with their open connections */
	int idle_count;
	int asking;
	uint64_t moved_at_ns; /* of the last answer, or since when there is room for no question */
};

static bool is_http_url(const char *url)
{
	CURLU *parsed = curl_url();
	char *scheme = NULL;
	bool is_http = parsed && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
		       curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		       (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
	curl_free(scheme);
	curl_url_cleanup(parsed);
	return is_http;
}

struct plane_forward_auth *plane_forward_auth_create(
	const char *url, const struct plane_tls_client_files *tls, struct plane_error *err)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
		plane_error_set(err, ENOMEM, "initialise libcurl");
		return NULL;
	}
	if (!is_http_url(url)) {
		plane_error_set(err, EINVAL, "forward auth: not an http or https URL");
		return NULL;
	}
	SSL_CTX *context = plane_tls_client_context(tls, err);
	plane_tls_context_free(context);
	if (!context) {
		(void)plane_error_prefix(err, "forward auth");
		return NULL;
	}
	struct plane_forward_auth *auth = PLANE_NEW(struct plane_forward_auth);
	auth->tls = tls;
	auth->url = plane_strdup(url);
	if (uv_mutex_init(&auth->mutex) < 0 || uv_cond_init(&auth->answered) < 0)
		abort(); /* only without memory */
	return auth;
}

void plane_forward_auth_destroy(struct plane_forward_auth *auth)
{
	if (!auth)
		return;
	for (int i = 0; i < auth->idle_count; i++)
		curl_easy_cleanup(auth->idle[i]);
	uv_cond_destroy(&auth->answered);
	uv_mutex_destroy(&auth->mutex);
	free(auth->url);
	free(auth);
}

/* Waits for room as long as answers come; false when they do not. */
static bool begin(struct plane_forward_auth *auth)
{
	const uint64_t stuck_ns = (uint64_t)STUCK_MS * 1000000;
	uint64_t now_ns;
	uv_mutex_lock(&auth->mutex);
	while (auth->asking >= PLANE_FORWARD_AUTH_ASKS_MAX &&
		(now_ns = uv_hrtime()) - auth->moved_at_ns < stuck_ns)
		(void)uv_cond_timedwait(
			&auth->answered, &auth->mutex, auth->moved_at_ns + stuck_ns - now_ns);
	bool has_room = auth->asking < PLANE_FORWARD_AUTH_ASKS_MAX;
	if (has_room && ++auth->asking == PLANE_FORWARD_AUTH_ASKS_MAX)
		auth->moved_at_ns = uv_hrtime();
	uv_mutex_unlock(&auth->mutex);
	return has_room;
}

static void end(struct plane_forward_auth *auth)
{
	uv_mutex_lock(&auth->mutex);
	auth->asking--;
	auth->moved_at_ns = uv_hrtime();
	uv_cond_signal(&auth->answered);
	uv_mutex_unlock(&auth->mutex);
}

static CURL *take_handle(struct plane_forward_auth *auth)
{
	uv_mutex_lock(&auth->mutex);
	CURL *easy = auth->idle_count > 0 ? auth->idle[--auth->idle_count] : NULL;
	uv_mutex_unlock(&auth->mutex);
	return easy ? easy : curl_easy_init();
}

static void give_back(struct plane_forward_auth *auth, CURL *easy)
{
	if (!easy)
		return;
	curl_easy_reset(easy); /* forgets the request's headers, keeps connections */
	uv_mutex_lock(&auth->mutex);
	bool is_kept = auth->idle_count < IDLE_MAX;
	if (is_kept)
		auth->idle[auth->idle_count++] = easy;
	uv_mutex_unlock(&auth->mutex);
	if (!is_kept)
		curl_easy_cleanup(easy);
}

static void slist_freep(struct curl_slist **list)
{
	curl_slist_free_all(*list);
}

static bool gather_headers(const struct plane_http_request *request, struct curl_slist **list)
{
	static const char *const none[] = { NULL };
	const char *path = request->path;
	if (plane_text_starts_with(path, "/ctrl/"))
		path += strlen("/ctrl");
	const char *host = plane_http_request_header(request, "host");
	return plane_header_list_add(list, "x-original-path", path) &&
	       (!host || plane_header_list_add(list, "x-forwarded-host", host)) &&
	       plane_header_list_forward(list, request, none);
}

static size_t discard(char *bytes, size_t size, size_t count, void *data)
{
	(void)bytes;
	(void)data;
	return size * count;
}

static CURLcode ask(CURL *easy, const struct plane_forward_auth *auth,
	const struct plane_http_request *request, struct curl_slist *headers, long *status)
{
	struct plane_tls_curl tls = { .files = auth->tls };
	curl_easy_setopt(easy, CURLOPT_URL, auth->url);
	plane_tls_curl_set(easy, &tls);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	if (strcmp(request->method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_MAXFILESIZE, 16L << 20);
	CURLcode code = curl_easy_perform(easy);
	if (code != CURLE_OK && tls.err.code < 0)
		plane_warn("forward auth: %s", tls.err.message);
	if (code == CURLE_OK)
		code = curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, status);
	return code;
}

static void refuse(struct plane_http_response *response, int status, const char *text)
{
	response->status = status;
	response->content_type = "text/plain; charset=utf-8";
	plane_buffer_add_text(&response->body, text);
}

static CURLcode ask_about(
	struct plane_forward_auth *auth, const struct plane_http_request *request, long *status)
{
	_cleanup_(slist_freep) struct curl_slist *headers = NULL;
	CURLcode code = CURLE_OUT_OF_MEMORY;
	CURL *easy = take_handle(auth);
	if (easy && gather_headers(request, &headers))
		code = ask(easy, auth, request, headers, status);
	give_back(auth, easy);
	return code;
}

bool plane_forward_auth_allows(struct plane_forward_auth *auth,
	const struct plane_http_request *request, struct plane_http_response *response)
{
	long status = 0;
	if (!begin(auth)) {
		plane_debug("forward auth of %s %s: the server is stuck", request->method,
			request->path);
		refuse(response, 503, "The server of forward auth does not answer. Try again.");
		return false;
	}
	CURLcode code = ask_about(auth, request, &status);
	end(auth);
	if (code != CURLE_OK) {
		plane_warn("forward auth of %s %s: %s", request->method, request->path,
			curl_easy_strerror(code));
		refuse(response, 502, "Error forwarding auth.");
		return false;
	}
	if (status >= 200 && status <= 299)
		return true;
	plane_debug("forward auth refused %s %s with %ld", request->method, request->path, status);
	refuse(response, 401, "Unauthorized");
	return false;
}
