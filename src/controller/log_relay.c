/* One relay: a thread that reads through libcurl, and a stream that the loop feeds. Must never log
 * headers: they hold bearer tokens. */
#include "controller/log_relay.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <curl/curl.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "controller/error_body.h"
#include "controller/header_list.h"
#include "controller/node_session.h"
#include "controller/run.h"
#include "net/tls_curl.h"

#define RELAYED "plane-relayed-by"
#define RELAYS_MAX 256 /* each has a thread */
#define CONNECT_TIMEOUT_MS 2000
#define FIRST_ANSWER_TIMEOUT_MS 5000
#define WAITING_MAX ((size_t)256 << 10) /* between the thread and the loop */

struct relay {
	struct plane_controller *controller;
	char *url;
	struct curl_slist *headers;
	pthread_t thread;
	CURL *easy; /* the thread's */

	uv_mutex_t mutex;
	uv_cond_t changed;
	/* behind the mutex: */
	struct plane_buffer waiting; /* read, and not written yet */
	long status;                 /* of the answer; 0: none yet */
	CURLcode code;               /* once it is over */
	bool is_over;                /* the thread does nothing more */
	bool is_cancelled;           /* nobody reads */
	bool has_async;

	/* loop thread: */
	uv_async_t async;
	struct plane_http_stream *stream; /* NULL once closed */
};

/* ---- the thread ---- */

/* With the mutex held. */
static void tell(struct relay *relay)
{
	uv_cond_broadcast(&relay->changed);
	if (relay->has_async)
		(void)uv_async_send(&relay->async); /* succeeds */
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *data)
{
	struct relay *relay = data;
	uv_mutex_lock(&relay->mutex);
	(void)curl_easy_getinfo(relay->easy, CURLINFO_RESPONSE_CODE, &relay->status);
	while (relay->waiting.len > WAITING_MAX && !relay->is_cancelled)
		uv_cond_wait(&relay->changed, &relay->mutex);
	size_t taken = relay->is_cancelled ? 0 : size * count;
	plane_buffer_add(&relay->waiting, bytes, taken);
	tell(relay);
	uv_mutex_unlock(&relay->mutex);
	return taken == size * count ? taken : CURL_WRITEFUNC_ERROR;
}

/* The end of the head: a log may have nothing to say for long. */
static size_t on_header(char *bytes, size_t size, size_t count, void *data)
{
	struct relay *relay = data;
	long status = 0;
	bool is_last = count > 0 && (bytes[0] == '\r' || bytes[0] == '\n');
	(void)curl_easy_getinfo(relay->easy, CURLINFO_RESPONSE_CODE, &status);
	if (is_last && status >= 200) {
		uv_mutex_lock(&relay->mutex);
		relay->status = status;
		tell(relay);
		uv_mutex_unlock(&relay->mutex);
	}
	return size * count;
}

/* About once a second, whatever comes. */
static int on_progress(void *data, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct relay *relay = data;
	(void)a, (void)b, (void)c, (void)d;
	uv_mutex_lock(&relay->mutex);
	bool is_cancelled = relay->is_cancelled;
	uv_mutex_unlock(&relay->mutex);
	return is_cancelled;
}

static CURLcode perform(struct relay *relay)
{
	CURL *easy = relay->easy;
	struct plane_tls_curl tls = { .files = &relay->controller->config->peer_tls };
	if (!easy)
		return CURLE_FAILED_INIT;
	plane_tls_curl_set(easy, &tls);
	curl_easy_setopt(easy, CURLOPT_URL, relay->url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, relay->headers);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, relay);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, relay);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(easy, CURLOPT_XFERINFODATA, relay);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	CURLcode code = curl_easy_perform(easy);
	if (code != CURLE_OK && tls.err.code < 0)
		plane_warn("logs from another controller: %s", tls.err.message);
	return code;
}

static void *run(void *data)
{
	struct relay *relay = data;
	relay->easy = curl_easy_init();
	CURLcode code = perform(relay);
	curl_easy_cleanup(relay->easy);
	uv_mutex_lock(&relay->mutex);
	relay->code = code;
	relay->is_over = true;
	tell(relay);
	uv_mutex_unlock(&relay->mutex); /* the last that it does with it */
	return NULL;
}

/* ---- lifetime ---- */

/* The thread must be over, or never have been. */
static void release(struct relay *relay)
{
	atomic_fetch_sub(&relay->controller->relay_count, 1);
	plane_buffer_finish(&relay->waiting);
	curl_slist_free_all(relay->headers);
	uv_cond_destroy(&relay->changed);
	uv_mutex_destroy(&relay->mutex);
	free(relay->url);
	free(relay);
}

static void cancel(struct relay *relay)
{
	uv_mutex_lock(&relay->mutex);
	relay->is_cancelled = true;
	uv_cond_broadcast(&relay->changed);
	uv_mutex_unlock(&relay->mutex);
}

static struct relay *start(struct plane_api_call *call, const char *url)
{
	const struct plane_http_request *request = call->request;
	if (atomic_fetch_add(&call->controller->relay_count, 1) >= RELAYS_MAX) {
		atomic_fetch_sub(&call->controller->relay_count, 1);
		return NULL;
	}
	struct relay *relay = PLANE_NEW(struct relay);
	relay->controller = call->controller;
	relay->url = plane_strdupf(
		"%s%s%s%s", url, request->path, request->query[0] ? "?" : "", request->query);
	if (uv_mutex_init(&relay->mutex) < 0 || uv_cond_init(&relay->changed) < 0)
		abort(); /* only without memory */
	/* here it was looked at where the page is from: to the other one its origin means nothing
	 */
	static const char *const judged[] = { "origin", "sec-fetch-site", NULL };
	bool is_whole = plane_header_list_forward(&relay->headers, request, judged) &&
			plane_header_list_add(&relay->headers, RELAYED, call->controller->name);
	if (is_whole && pthread_create(&relay->thread, NULL, run, relay) == 0)
		return relay;
	release(relay);
	return NULL;
}

/* ---- the stream, on the loop thread ---- */

static void on_async_closed(uv_handle_t *handle)
{
	struct relay *relay = handle->data;
	struct plane_controller *controller = relay->controller;
	(void)pthread_join(relay->thread, NULL); /* it is over */
	plane_metrics_add(&controller->metrics, PLANE_METRIC_STREAMS, -1);
	release(relay);
	plane_controller_session_freed(controller);
}

static void on_async(uv_async_t *async)
{
	struct relay *relay = async->data;
	uv_mutex_lock(&relay->mutex);
	struct plane_buffer bytes = relay->waiting;
	relay->waiting = (struct plane_buffer){ 0 };
	bool is_over = relay->is_over;
	uv_cond_broadcast(&relay->changed);
	uv_mutex_unlock(&relay->mutex);
	if (relay->stream && bytes.len)
		(void)plane_http_stream_write(relay->stream, bytes.data, bytes.len); /* it closes */
	plane_buffer_finish(&bytes);
	if (!is_over || uv_is_closing((uv_handle_t *)async))
		return;
	if (relay->stream) {
		struct plane_http_stream *stream = STEAL(relay->stream);
		plane_http_stream_on_closed(stream, NULL, NULL);
		plane_http_stream_end(stream);
	}
	uv_close((uv_handle_t *)async, on_async_closed);
}

static void on_reader_gone(void *data)
{
	struct relay *relay = data;
	relay->stream = NULL;
	cancel(relay);
}

static void on_start(void *data, struct plane_http_stream *stream)
{
	struct relay *relay = data;
	relay->stream = stream;
	relay->controller->open_sessions++;
	plane_metrics_add(&relay->controller->metrics, PLANE_METRIC_STREAMS, 1);
	/* needs nothing that the loop does not have: it has other ones */
	(void)uv_async_init(&relay->controller->loop, &relay->async, on_async);
	relay->async.data = relay;
	plane_http_stream_on_closed(stream, on_reader_gone, relay);
	uv_mutex_lock(&relay->mutex);
	relay->has_async = true;
	tell(relay); /* there may be something already */
	uv_mutex_unlock(&relay->mutex);
}

/* ---- the answer ---- */

/* The answer's status; 0 when none comes in time. */
static long wait_status(struct relay *relay)
{
	uint64_t until = uv_hrtime() + (uint64_t)FIRST_ANSWER_TIMEOUT_MS * 1000000;
	uint64_t now;
	uv_mutex_lock(&relay->mutex);
	while (!relay->status && !relay->is_over && (now = uv_hrtime()) < until)
		(void)uv_cond_timedwait(&relay->changed, &relay->mutex, until - now);
	long status = relay->status;
	uv_mutex_unlock(&relay->mutex);
	return status;
}

static void answer_refused(struct plane_api_call *call, const char *name, long status)
{
	if (status == 501) {
		plane_api_fail(call->response, PLANE_API_NOT_SUPPORTED, NULL);
		return;
	}
	char what[32] = "does not answer";
	if (status)
		snprintf(what, sizeof(what), "answers with %ld", status);
	_cleanup_free_ char *message =
		plane_strdupf("The drone of this backend is connected to %s, which %s", name, what);
	plane_api_fail(call->response, PLANE_API_DRONE_NOT_CONNECTED, message);
}

void plane_log_relay_answer(struct plane_api_call *call, const char *name, const char *url)
{
	struct relay *relay = start(call, url);
	if (!relay) {
		plane_api_fail(call->response, PLANE_API_DRONE_NOT_CONNECTED,
			"Too many logs of other controllers' drones are read at once: try again");
		return;
	}
	long status = wait_status(relay);
	if (status == 200) {
		call->response->content_type = "text/plain; charset=utf-8";
		call->response->start_stream = on_start;
		call->response->start_data = relay;
		return;
	}
	cancel(relay);
	(void)pthread_join(relay->thread, NULL); /* within a second */
	plane_warn("logs from %s: %s", name, status ? "refused" : curl_easy_strerror(relay->code));
	release(relay);
	answer_refused(call, name, status);
}

bool plane_log_relay_is_relayed(const struct plane_http_request *request)
{
	return plane_http_request_header(request, RELAYED) != NULL;
}
