/* Backend states and their JSON. */
#include "model/backend_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

static const struct {
	enum plane_backend_status status;
	const char *text;
} statuses[] = {
	{ PLANE_SCHEDULED, "scheduled" },
	{ PLANE_LOADING, "loading" },
	{ PLANE_STARTING, "starting" },
	{ PLANE_WAITING, "waiting" },
	{ PLANE_READY, "ready" },
	{ PLANE_TERMINATING, "terminating" },
	{ PLANE_HARD_TERMINATING, "hard-terminating" },
	{ PLANE_TERMINATED, "terminated" },
};

static const char *const kinds[] = { NULL, "soft", "hard" };
static const char *const reasons[] = { NULL, "swept", "external", "keyexpired", "lost",
	"startuptimeout", "internalerror" };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *plane_backend_status_text(enum plane_backend_status status)
{
	for (size_t i = 0; i < COUNT(statuses); i++)
		if (statuses[i].status == status)
			return statuses[i].text;
	return "unknown";
}

bool plane_backend_status_parse(const char *text, enum plane_backend_status *status)
{
	for (size_t i = 0; i < COUNT(statuses); i++)
		if (strcmp(statuses[i].text, text) == 0) {
			*status = statuses[i].status;
			return true;
		}
	return false;
}

enum plane_backend_status plane_backend_status_next(enum plane_backend_status status)
{
	for (size_t i = 0; i < COUNT(statuses); i++)
		if (statuses[i].status > status)
			return statuses[i].status;
	return 0;
}

const char *plane_termination_kind_text(enum plane_termination_kind kind)
{
	return kinds[kind];
}

bool plane_termination_kind_parse(const char *text, enum plane_termination_kind *kind)
{
	for (size_t i = 1; i < COUNT(kinds); i++)
		if (strcmp(kinds[i], text) == 0) {
			*kind = (enum plane_termination_kind)i;
			return true;
		}
	return false;
}

const char *plane_termination_reason_text(enum plane_termination_reason reason)
{
	return reasons[reason];
}

bool plane_termination_reason_parse(const char *text, enum plane_termination_reason *reason)
{
	for (size_t i = 1; i < COUNT(reasons); i++)
		if (strcmp(reasons[i], text) == 0) {
			*reason = (enum plane_termination_reason)i;
			return true;
		}
	return false;
}

static void set_text_or_null(json_t *object, const char *name, const char *text)
{
	json_object_set_new(object, name, text ? json_string(text) : json_null());
}

static void add_details(json_t *object, const struct plane_backend_state *state)
{
	if (state->signal)
		json_object_set_new(object, "signal", json_integer(state->signal));
	if (state->was_oom_killed)
		json_object_set_new(object, "oom_killed", json_true());
	if (state->message[0])
		json_object_set_new(object, "message", json_string(state->message));
}

json_t *plane_backend_state_write(const struct plane_backend_state *state)
{
	json_t *object = json_pack("{s:s}", "status", plane_backend_status_text(state->status));
	if (state->status == PLANE_WAITING || state->status == PLANE_READY)
		json_object_set_new(object, "address", json_string(state->address));
	if (state->status < PLANE_TERMINATING)
		return object;
	set_text_or_null(object, "last_status", plane_backend_status_text(state->last_status));
	set_text_or_null(object, "reason", plane_termination_reason_text(state->reason));
	if (state->status == PLANE_TERMINATING)
		set_text_or_null(object, "termination", "soft");
	if (state->status != PLANE_TERMINATED)
		return object;
	set_text_or_null(object, "termination", plane_termination_kind_text(state->termination));
	json_object_set_new(object, "exit_code",
		state->has_exit_code ? json_integer(state->exit_code) : json_null());
	add_details(object, state);
	return object;
}

static int read_termination(
	const json_t *json, struct plane_backend_state *state, struct plane_error *err)
{
	const char *last = NULL, *kind = NULL, *reason = NULL;
	bool is_end = state->status == PLANE_TERMINATED;
	int result = plane_json_get_text(json, "last_status", PLANE_JSON_REQUIRED, &last, err);
	if (result == 0 && state->status != PLANE_HARD_TERMINATING)
		result = plane_json_get_text(json, "termination",
			is_end ? PLANE_JSON_OPTIONAL : PLANE_JSON_REQUIRED, &kind, err);
	if (result == 0)
		result = plane_json_get_text(json, "reason",
			is_end ? PLANE_JSON_OPTIONAL : PLANE_JSON_REQUIRED, &reason, err);
	if (result < 0)
		return result;
	if (!plane_backend_status_parse(last, &state->last_status))
		return plane_error_set(err, EPROTO, "last_status: unknown status \"%.40s\"", last);
	if (kind && !plane_termination_kind_parse(kind, &state->termination))
		return plane_error_set(err, EPROTO, "termination: unknown kind \"%.40s\"", kind);
	if (reason && !plane_termination_reason_parse(reason, &state->reason))
		return plane_error_set(err, EPROTO, "reason: unknown reason \"%.40s\"", reason);
	return 0;
}

static int read_end(const json_t *json, struct plane_backend_state *state, struct plane_error *err)
{
	int64_t code = INT64_MIN, signal = 0;
	const char *message = NULL;
	int result = plane_json_get_int(
		json, "exit_code", PLANE_JSON_OPTIONAL, INT32_MIN, INT32_MAX, &code, err);
	if (result == 0)
		result = plane_json_get_int(
			json, "signal", PLANE_JSON_OPTIONAL, 0, 128, &signal, err);
	if (result == 0)
		result = plane_json_get_bool(
			json, "oom_killed", PLANE_JSON_OPTIONAL, &state->was_oom_killed, err);
	if (result == 0)
		result = plane_json_get_text(json, "message", PLANE_JSON_OPTIONAL, &message, err);
	if (result < 0)
		return result;
	state->has_exit_code = code != INT64_MIN;
	state->exit_code = state->has_exit_code ? (int)code : 0;
	state->signal = (int)signal;
	if (message && !plane_text_copy(state->message, sizeof(state->message), message))
		return plane_error_set(err, EPROTO, "message: too long");
	return 0;
}

int plane_backend_state_read(
	const json_t *json, struct plane_backend_state *state, struct plane_error *err)
{
	struct plane_backend_state read = { 0 };
	const char *status = NULL, *address = NULL;
	int result = plane_json_get_text(json, "status", PLANE_JSON_REQUIRED, &status, err);
	if (result < 0)
		return result;
	if (!plane_backend_status_parse(status, &read.status))
		return plane_error_set(err, EPROTO, "status: unknown status \"%.40s\"", status);
	if (read.status == PLANE_WAITING || read.status == PLANE_READY) {
		result = plane_json_get_text(json, "address", PLANE_JSON_REQUIRED, &address, err);
		if (result < 0)
			return result;
		if (!plane_text_copy(read.address, sizeof(read.address), address))
			return plane_error_set(err, EPROTO, "address: too long");
	}
	if (read.status >= PLANE_TERMINATING)
		result = read_termination(json, &read, err);
	if (result == 0 && read.status == PLANE_TERMINATED)
		result = read_end(json, &read, err);
	if (result == 0)
		*state = read;
	return result;
}

static enum plane_termination_kind shown_kind(const struct plane_backend_state *state)
{
	if (state->status == PLANE_TERMINATING)
		return PLANE_KIND_SOFT;
	return state->status == PLANE_HARD_TERMINATING ? PLANE_KIND_HARD : state->termination;
}

json_t *plane_backend_status_entry(const struct plane_backend_state *state, int64_t time_ms)
{
	json_t *entry = json_pack("{s:s, s:I}", "status", plane_backend_status_text(state->status),
		"time", (json_int_t)time_ms);
	if (state->status < PLANE_TERMINATING)
		return entry;
	const char *reason = plane_termination_reason_text(state->reason);
	const char *kind = plane_termination_kind_text(shown_kind(state));
	if (reason)
		json_object_set_new(entry, "termination_reason", json_string(reason));
	if (kind)
		json_object_set_new(entry, "termination_kind", json_string(kind));
	if (state->status == PLANE_TERMINATED) {
		json_object_set_new(entry, "exit_error",
			json_boolean(state->has_exit_code && state->exit_code != 0));
		if (state->has_exit_code)
			json_object_set_new(entry, "exit_code", json_integer(state->exit_code));
		add_details(entry, state);
	}
	return entry;
}
