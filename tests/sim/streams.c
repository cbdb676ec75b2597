/* Status streams: who looks on at backends, whatever becomes of the controller that was asked; and
 * the answers of HTTP that are written bit by bit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/text.h"
#include "cluster.h"
#include "controller/status_stream.h"
#include "invariants.h"

#define WATCHERS_MAX 64
#define LATE (10 * SIM_SECOND)

/* A client, which resumes with the last id that it has read. */
struct watcher {
	char backend[PLANE_NAME_SIZE];
	enum plane_backend_status last; /* 0: none yet */
	int64_t number;                 /* of the answer that it reads; others come too late */
};

struct plane_http_stream {
	struct sim_process *server;
	struct watcher *watcher;
	int64_t number;
	int64_t arrives_at; /* what was written last */
	struct sim_event *closing;
	void (*on_closed)(void *data);
	void *data;
	struct plane_http_stream *prev, *next;
};

/* On its way to a watcher. */
struct arrival {
	struct watcher *watcher;
	int64_t number;
	char *text; /* NULL: the end of the answer, as the watcher sees it */
};

static struct watcher watchers[WATCHERS_MAX];
static size_t watcher_count;
static struct plane_http_stream *streams;
static int64_t last_number;

static void ask(void *data);

static void ask_in(struct watcher *watcher, int64_t delay)
{
	watcher->number = 0;
	if (watcher->last != PLANE_TERMINATED)
		(void)sim_after(NULL, delay, ask, watcher);
}

/* ---- what a watcher reads ---- */

static void read_state(struct watcher *watcher, const char *id)
{
	char name[32];
	enum plane_backend_status status = 0;
	(void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(id, "\n"), id);
	if (!plane_backend_status_parse(name, &status))
		sim_fail("a stream of %s has the id %s", watcher->backend, name);
	sim_trace("a stream of %s says %s", watcher->backend, name);
	sim_check_told(watcher->backend, watcher->last, status);
	watcher->last = status;
}

static void arrive(void *data)
{
	struct arrival arrival = *(struct arrival *)data;
	const char *id = arrival.text ? strstr(arrival.text, "\nid: ") : NULL;
	free(data);
	if (arrival.number == arrival.watcher->number && id)
		read_state(arrival.watcher, id + strlen("\nid: "));
	if (arrival.number == arrival.watcher->number && !arrival.text)
		ask_in(arrival.watcher, sim_between(SIM_MS, 3 * SIM_SECOND));
	free(arrival.text);
}

static void arrive_in(const struct plane_http_stream *stream, int64_t delay, char *owned_text)
{
	struct arrival *arrival = PLANE_NEW(struct arrival);
	*arrival = (struct arrival){ stream->watcher, stream->number, owned_text };
	(void)sim_after(NULL, delay, arrive, arrival);
}

static void send_text(struct plane_http_stream *stream, char *owned_text)
{
	int64_t at = sim_now() + sim_network_latency();
	stream->arrives_at = at > stream->arrives_at ? at : stream->arrives_at;
	arrive_in(stream, stream->arrives_at - sim_now(), owned_text);
}

/* ---- net/http_server.h ---- */

static void close_stream(void *data)
{
	struct plane_http_stream *stream = data;
	DL_DELETE(streams, stream);
	if (stream->on_closed)
		stream->on_closed(stream->data);
	free(stream);
}

/* Or sooner, when it is ended already. */
static void end_in(struct plane_http_stream *stream, int64_t delay)
{
	if (stream->closing && delay > 0)
		return;
	sim_cancel(stream->closing);
	stream->closing = sim_after(&stream->server->owner, delay, close_stream, stream);
}

bool plane_http_stream_write(struct plane_http_stream *stream, const void *bytes, size_t len)
{
	if (!stream->closing)
		send_text(stream, plane_strdupf("%.*s", (int)len, (const char *)bytes));
	return true;
}

void plane_http_stream_end(struct plane_http_stream *stream)
{
	if (!stream->closing)
		send_text(stream, NULL);
	end_in(stream, 0);
}

void plane_http_stream_on_closed(
	struct plane_http_stream *stream, void (*on_closed)(void *data), void *data)
{
	stream->on_closed = on_closed;
	stream->data = data;
}

void sim_streams_close(const struct sim_process *server)
{
	struct plane_http_stream *stream;
	DL_FOREACH (streams, stream)
		if (stream->server == server)
			plane_http_stream_end(stream);
}

void sim_streams_process_died(const struct sim_process *server)
{
	struct plane_http_stream *stream, *next;
	DL_FOREACH_SAFE (streams, stream, next) {
		if (stream->server != server)
			continue;
		arrive_in(stream, sim_between(0, LATE), NULL);
		DL_DELETE(streams, stream); /* its memory stays with the process */
	}
}

/* ---- asking ---- */

struct beginning {
	struct plane_http_stream *stream;
	struct plane_http_response response;
};

static void begin(void *data)
{
	struct beginning beginning = *(struct beginning *)data;
	free(data);
	beginning.response.start_stream(beginning.response.start_data, beginning.stream);
}

/* The watcher goes away without a word, or the network loses the connection. */
static void break_stream(void *data)
{
	const struct arrival *breaking = data;
	struct plane_http_stream *stream;
	DL_FOREACH (streams, stream)
		if (stream->number == breaking->number)
			break;
	if (stream)
		end_in(stream, sim_chance(600) ? 0 : sim_between(0, 60 * SIM_SECOND));
	arrive(data);
}

static void take(struct watcher *watcher, const struct plane_http_response *response)
{
	struct plane_http_stream *stream = PLANE_NEW(struct plane_http_stream);
	struct beginning *beginning = PLANE_NEW(struct beginning);
	struct arrival *breaking = PLANE_NEW(struct arrival);
	stream->server = sim_current();
	stream->watcher = watcher;
	stream->number = watcher->number = ++last_number;
	DL_APPEND(streams, stream);
	*beginning = (struct beginning){ stream, *response };
	(void)sim_after(&stream->server->owner, 0, begin, beginning);
	*breaking = (struct arrival){ watcher, stream->number, NULL };
	/* once it is quiet, they last: what they say then, they hear of */
	if (sim_cluster.is_quiet)
		free(breaking);
	else
		(void)sim_after(NULL,
			sim_between(0, sim_chance(500) ? 2 * SIM_SECOND : 60 * SIM_SECOND),
			break_stream, breaking);
}

/* As the API does. */
static void run_ask(void *data_controller, void *data)
{
	struct plane_controller *controller = data_controller;
	struct watcher *watcher = data;
	struct plane_http_response response = { 0 };
	struct plane_store_backend backend;
	struct plane_error err = { 0 };
	int after = sim_options.mutant == SIM_MUTANT_FORGOTTEN_ID ? 0 : (int)watcher->last;
	int64_t number = watcher->number = ++last_number;
	if (plane_store_backend_find(controller->store, watcher->backend, &backend, &err) < 0) {
		if (number == watcher->number)
			ask_in(watcher, sim_between(SIM_MS, SIM_SECOND));
	} else if (number == watcher->number && sim_current()->server) {
		plane_status_stream_answer(controller, watcher->backend, after, &response);
		plane_buffer_finish(&response.extra_headers);
		take(watcher, &response);
	}
}

static void ask(void *data)
{
	struct watcher *watcher = data;
	struct arrival *asking = PLANE_NEW(struct arrival);
	if (!sim_network_call(sim_cluster_pick_controller(), run_ask, watcher)) {
		free(asking);
		ask_in(watcher, sim_between(SIM_MS, SIM_SECOND));
		return;
	}
	/* it may be killed before it answers: its number is another one once it has */
	*asking = (struct arrival){ watcher, watcher->number, NULL };
	(void)sim_after(NULL, LATE, arrive, asking);
}

void sim_streams_watch(const char *backend)
{
	if (watcher_count == WATCHERS_MAX)
		return;
	struct watcher *watcher = &watchers[watcher_count++];
	(void)plane_text_copy(watcher->backend, sizeof(watcher->backend), backend);
	ask_in(watcher, sim_between(0, SIM_SECOND));
}

void sim_streams_check(void)
{
	for (size_t i = 0; i < watcher_count; i++)
		sim_check_told_all(watchers[i].backend, watchers[i].last);
}
