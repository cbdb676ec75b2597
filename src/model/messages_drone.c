/* Messages between drone and controller. */
#include "model/messages.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "model/names.h"
#include "model/tagged.h"

static const struct {
	const char *name;
	size_t offset;
} metric_fields[] = {
	{ "mem_used", offsetof(struct plane_backend_metrics, mem_used) },
	{ "mem_total", offsetof(struct plane_backend_metrics, mem_total) },
	{ "mem_active", offsetof(struct plane_backend_metrics, mem_active) },
	{ "mem_inactive", offsetof(struct plane_backend_metrics, mem_inactive) },
	{ "mem_unevictable", offsetof(struct plane_backend_metrics, mem_unevictable) },
	{ "mem_limit", offsetof(struct plane_backend_metrics, mem_limit) },
	{ "cpu_used", offsetof(struct plane_backend_metrics, cpu_used) },
	{ "sys_cpu", offsetof(struct plane_backend_metrics, sys_cpu) },
};

#define METRIC_COUNT (sizeof(metric_fields) / sizeof(metric_fields[0]))

static int64_t *metric_at(struct plane_backend_metrics *metrics, size_t i)
{
	return (int64_t *)(void *)((char *)metrics + metric_fields[i].offset);
}

static json_t *write_metrics(const struct plane_drone_message *message)
{
	struct plane_backend_metrics metrics = message->metrics;
	json_t *content = json_pack("{s:s}", "backend_id", message->backend);
	for (size_t i = 0; i < METRIC_COUNT; i++)
		json_object_set_new(
			content, metric_fields[i].name, json_integer(*metric_at(&metrics, i)));
	return content;
}

static json_t *write_epoch(int64_t epoch)
{
	return epoch ? json_integer(epoch) : json_null();
}

json_t *plane_drone_message_write(const struct plane_drone_message *m)
{
	switch (m->kind) {
	case PLANE_DRONE_HEARTBEAT:
		return json_pack(
			"{s:{s:I}}", "Heartbeat", "local_time", (json_int_t)m->local_time_ms);
	case PLANE_DRONE_BACKEND_EVENT:
		return json_pack("{s:{s:I,s:s,s:o,s:I}}", "BackendEvent", "event_id",
			(json_int_t)m->event_id, "backend_id", m->backend, "state",
			plane_backend_state_write(&m->state), "timestamp",
			(json_int_t)m->timestamp_ms);
	case PLANE_DRONE_BACKEND_METRICS:
		return plane_tagged_write("BackendMetrics", write_metrics(m));
	case PLANE_DRONE_ACK_ACTION:
		return json_pack("{s:{s:s}}", "AckAction", "action_id", m->action_id);
	case PLANE_DRONE_RENEW_LEASE:
		return json_pack("{s:{s:o,s:I,s:s,s:I,s:o*,s:o*}}", "RenewLease", "epoch",
			write_epoch(m->epoch), "last_epoch", (json_int_t)m->last_epoch, "journal",
			m->journal, "local_time", (json_int_t)m->local_time_ms, "hard_in_ms",
			m->hard_in_ms ? json_integer((json_int_t)m->hard_in_ms) : NULL, "resources",
			m->has_resources ? plane_drone_resources_write(&m->resources) : NULL);
	case PLANE_DRONE_INVENTORY:
		return json_pack("{s:{s:O,s:o*}}", "Inventory", "backends", m->inventory,
			"has_more", m->has_more ? json_true() : NULL);
	case PLANE_DRONE_RENEW_KEY:
		return json_pack("{s:{s:s,s:I}}", "RenewKey", "backend", m->backend, "local_time",
			(json_int_t)m->local_time_ms);
	case PLANE_DRONE_REFUSE_ACTION:
		return json_pack("{s:{s:s,s:s}}", "RefuseAction", "action_id", m->action_id,
			"reason", m->reason);
	case PLANE_DRONE_METRICS_REPORT:
		return json_pack("{s:{s:O}}", "MetricsReport", "backends", m->backends);
	case PLANE_DRONE_LOGS_CHUNK:
		return json_pack("{s:{s:I,s:s,s:b,s:s*}}", "LogsChunk", "request_id",
			(json_int_t)m->request_id, "data", m->data, "end", m->is_end, "error",
			m->error);
	}
	return NULL;
}

static int read_event(const json_t *json, struct plane_drone_message *m, struct plane_error *err)
{
	json_t *state = NULL;
	int result = plane_json_get_int(
		json, "event_id", PLANE_JSON_REQUIRED, 0, INT64_MAX, &m->event_id, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "backend_id", PLANE_JSON_REQUIRED, &m->backend, err);
	if (result == 0)
		result = plane_json_get_object(json, "state", PLANE_JSON_REQUIRED, &state, err);
	if (result == 0)
		result = plane_json_get_int(json, "timestamp", PLANE_JSON_REQUIRED, INT64_MIN,
			INT64_MAX, &m->timestamp_ms, err);
	return result < 0 ? result : plane_backend_state_read(state, &m->state, err);
}

static int read_metrics(const json_t *json, struct plane_drone_message *m, struct plane_error *err)
{
	int result = plane_json_get_text(json, "backend_id", PLANE_JSON_REQUIRED, &m->backend, err);
	for (size_t i = 0; i < METRIC_COUNT && result == 0; i++)
		result = plane_json_get_int(json, metric_fields[i].name, PLANE_JSON_REQUIRED, 0,
			INT64_MAX, metric_at(&m->metrics, i), err);
	return result;
}

static int read_renew(const json_t *json, struct plane_drone_message *m, struct plane_error *err)
{
	int result = plane_json_get_text(json, "backend", PLANE_JSON_REQUIRED, &m->backend, err);
	if (result == 0)
		result = plane_json_get_int(json, "local_time", PLANE_JSON_REQUIRED, INT64_MIN,
			INT64_MAX, &m->local_time_ms, err);
	return result;
}

/* Null or a number from 1 on. */
static int read_epoch(
	const json_t *json, const char *field, int64_t *epoch, struct plane_error *err)
{
	const json_t *value = json_object_get(json, field);
	return value && !json_is_null(value) ? plane_json_get_int(json, field, PLANE_JSON_REQUIRED,
						       1, INT64_MAX, epoch, err)
					     : 0;
}

static int read_renew_lease(
	const json_t *json, struct plane_drone_message *m, struct plane_error *err)
{
	json_t *resources = NULL;
	m->kind = PLANE_DRONE_RENEW_LEASE;
	int result = read_epoch(json, "epoch", &m->epoch, err);
	if (result == 0)
		result = plane_json_get_int(json, "last_epoch", PLANE_JSON_REQUIRED, 0,
			INT64_MAX / 2, &m->last_epoch, err);
	if (result == 0)
		result =
			plane_json_get_text(json, "journal", PLANE_JSON_REQUIRED, &m->journal, err);
	if (result == 0)
		result = plane_json_get_int(json, "local_time", PLANE_JSON_REQUIRED, INT64_MIN,
			INT64_MAX, &m->local_time_ms, err);
	if (result == 0)
		result = plane_json_get_int(json, "hard_in_ms", PLANE_JSON_OPTIONAL, 0,
			INT64_MAX / 2, &m->hard_in_ms, err);
	if (result == 0)
		result = plane_text_check(m->journal, "journal", err);
	if (result == 0)
		result = plane_json_get_object(
			json, "resources", PLANE_JSON_OPTIONAL, &resources, err);
	m->has_resources = resources != NULL;
	return result < 0 || !resources ? result
					: plane_drone_resources_read(resources, &m->resources, err);
}

static int read_refusal(const json_t *json, struct plane_drone_message *m, struct plane_error *err)
{
	m->kind = PLANE_DRONE_REFUSE_ACTION;
	int result =
		plane_json_get_text(json, "action_id", PLANE_JSON_REQUIRED, &m->action_id, err);
	return result < 0
		       ? result
		       : plane_json_get_text(json, "reason", PLANE_JSON_REQUIRED, &m->reason, err);
}

#define USE_COUNT 3

json_t *plane_backend_use_write(const struct plane_backend_use *use)
{
	return json_pack("[I,I,I]", (json_int_t)use->memory_bytes,
		(json_int_t)use->memory_limit_bytes, (json_int_t)use->cpu_ns);
}

struct plane_backend_use plane_backend_use_read(const json_t *entry)
{
	return (struct plane_backend_use){
		.memory_bytes = json_integer_value(json_array_get(entry, 0)),
		.memory_limit_bytes = json_integer_value(json_array_get(entry, 1)),
		.cpu_ns = json_integer_value(json_array_get(entry, 2)),
	};
}

static bool is_use(const json_t *entry)
{
	bool is_valid = json_is_array(entry) && json_array_size(entry) >= USE_COUNT;
	for (size_t i = 0; i < USE_COUNT && is_valid; i++) {
		const json_t *number = json_array_get(entry, i);
		is_valid = json_is_integer(number) && json_integer_value(number) >= 0;
	}
	return is_valid;
}

static int read_report(const json_t *json, struct plane_drone_message *m, struct plane_error *err)
{
	json_t *backends = NULL, *entry = NULL;
	const char *name;
	m->kind = PLANE_DRONE_METRICS_REPORT;
	int result = plane_json_get_object(json, "backends", PLANE_JSON_REQUIRED, &backends, err);
	if (result < 0)
		return result;
	if (json_object_size(backends) > PLANE_METRICS_REPORT_MAX)
		return plane_error_set(
			err, EPROTO, "backends: more than %d", PLANE_METRICS_REPORT_MAX);
	json_object_foreach (backends, name, entry)
		if (plane_name_check(name, NULL, err) < 0 || !is_use(entry))
			return plane_error_set(
				err, EPROTO, "backends: expected numbers by the names of backends");
	m->backends = backends;
	return 0;
}

int64_t plane_inventory_epoch(const json_t *entry)
{
	return json_integer_value(entry);
}

json_t *plane_inventory_entry(int64_t epoch)
{
	return write_epoch(epoch);
}

static bool is_epoch(const json_t *value)
{
	return json_is_null(value) || (json_is_integer(value) && json_integer_value(value) > 0);
}

static int read_inventory(
	const json_t *json, struct plane_drone_message *m, struct plane_error *err)
{
	json_t *backends = NULL, *epoch = NULL;
	const char *name;
	m->kind = PLANE_DRONE_INVENTORY;
	int result = plane_json_get_object(json, "backends", PLANE_JSON_REQUIRED, &backends, err);
	if (result < 0)
		return result;
	if (json_object_size(backends) > PLANE_INVENTORY_MAX)
		return plane_error_set(err, EPROTO, "backends: more than %d", PLANE_INVENTORY_MAX);
	json_object_foreach (backends, name, epoch)
		if (plane_name_check(name, NULL, NULL) < 0 || !is_epoch(epoch))
			return plane_error_set(
				err, EPROTO, "backends: expected epochs by the names of backends");
	m->inventory = backends;
	return plane_json_get_bool(json, "has_more", PLANE_JSON_OPTIONAL, &m->has_more, err);
}

static int read_chunk(const json_t *json, struct plane_drone_message *m, struct plane_error *err)
{
	int result = plane_json_get_int(
		json, "request_id", PLANE_JSON_REQUIRED, 0, INT64_MAX, &m->request_id, err);
	if (result == 0)
		result = plane_json_get_text(json, "data", PLANE_JSON_REQUIRED, &m->data, err);
	if (result == 0)
		result = plane_json_get_bool(json, "end", PLANE_JSON_REQUIRED, &m->is_end, err);
	if (result == 0)
		result = plane_json_get_text(json, "error", PLANE_JSON_OPTIONAL, &m->error, err);
	return result;
}

static int read_drone_content(const char *tag, const json_t *content, struct plane_drone_message *m,
	struct plane_error *err)
{
	if (strcmp(tag, "Heartbeat") == 0) {
		m->kind = PLANE_DRONE_HEARTBEAT;
		return plane_json_get_int(content, "local_time", PLANE_JSON_REQUIRED, INT64_MIN,
			INT64_MAX, &m->local_time_ms, err);
	}
	if (strcmp(tag, "BackendEvent") == 0) {
		m->kind = PLANE_DRONE_BACKEND_EVENT;
		return read_event(content, m, err);
	}
	if (strcmp(tag, "BackendMetrics") == 0) {
		m->kind = PLANE_DRONE_BACKEND_METRICS;
		return read_metrics(content, m, err);
	}
	if (strcmp(tag, "AckAction") == 0) {
		m->kind = PLANE_DRONE_ACK_ACTION;
		return plane_json_get_text(
			content, "action_id", PLANE_JSON_REQUIRED, &m->action_id, err);
	}
	if (strcmp(tag, "RenewKey") == 0) {
		m->kind = PLANE_DRONE_RENEW_KEY;
		return read_renew(content, m, err);
	}
	if (strcmp(tag, "RenewLease") == 0)
		return read_renew_lease(content, m, err);
	if (strcmp(tag, "Inventory") == 0)
		return read_inventory(content, m, err);
	if (strcmp(tag, "RefuseAction") == 0)
		return read_refusal(content, m, err);
	if (strcmp(tag, "MetricsReport") == 0)
		return read_report(content, m, err);
	if (strcmp(tag, "LogsChunk") == 0) {
		m->kind = PLANE_DRONE_LOGS_CHUNK;
		return read_chunk(content, m, err);
	}
	return plane_error_set(err, ENOTSUP, "unknown message \"%.40s\" from a drone", tag);
}

int plane_drone_message_read(
	const json_t *json, struct plane_drone_message *message, struct plane_error *err)
{
	struct plane_drone_message read = { 0 };
	const char *tag;
	const json_t *content;
	int result = plane_tagged_read(json, &tag, &content, err);
	if (result < 0)
		return result;
	result = read_drone_content(tag, content, &read, err);
	if (result == 0)
		*message = read;
	return result == 0 || result == -ENOTSUP ? result : plane_error_prefix(err, "%.40s", tag);
}

static json_t *write_deadlines(const struct plane_deadlines *deadlines)
{
	return json_pack("{s:I,s:I,s:I}", "renew_at", (json_int_t)deadlines->renew_at_ms,
		"soft_terminate_at", (json_int_t)deadlines->soft_terminate_at_ms,
		"hard_terminate_at", (json_int_t)deadlines->hard_terminate_at_ms);
}

static json_t *write_action(const struct plane_drone_order *o, json_t *owned_action)
{
	return json_pack("{s:{s:s,s:s,s:I,s:o}}", "Action", "action_id", o->action_id, "backend_id",
		o->backend, "drone_id", (json_int_t)o->drone_id, "action", owned_action);
}

static json_t *write_spawn(const struct plane_drone_order *o)
{
	json_t *key = json_pack("{s:{s:s,s:s,s:s},s:o,s:I}", "key", "name", o->key_name,
		"namespace", o->key_namespace, "tag", o->key_tag, "deadlines",
		write_deadlines(&o->deadlines), "token", (json_int_t)o->fencing_token);
	json_t *spawn = json_pack("{s:O,s:o,s:s?}", "executable", o->executable, "key", key,
		"static_token", o->static_token);
	if (o->epoch)
		json_object_set_new(spawn, "lease_epoch", json_integer(o->epoch));
	if (o->has_resources)
		json_object_set_new(spawn, "resources", plane_resources_write(&o->resources));
	return plane_tagged_write("Spawn", spawn);
}

json_t *plane_drone_order_write(const struct plane_drone_order *o)
{
	switch (o->kind) {
	case PLANE_ORDER_SPAWN:
		return write_action(o, write_spawn(o));
	case PLANE_ORDER_TERMINATE:
		return write_action(o, json_pack("{s:{s:s,s:s?}}", "Terminate", "kind",
					       plane_termination_kind_text(o->termination),
					       "reason", plane_termination_reason_text(o->reason)));
	case PLANE_ORDER_ACK_EVENT:
		return json_pack("{s:{s:I}}", "AckEvent", "event_id", (json_int_t)o->event_id);
	case PLANE_ORDER_RENEW_KEY_RESPONSE:
		return json_pack("{s:{s:s,s:o}}", "RenewKeyResponse", "backend", o->backend,
			"deadlines",
			o->has_deadlines ? write_deadlines(&o->deadlines) : json_null());
	case PLANE_ORDER_LEASE_RESPONSE:
		return json_pack("{s:{s:o,s:I,s:o}}", "LeaseResponse", "epoch",
			write_epoch(o->epoch), "local_time", (json_int_t)o->local_time_ms,
			"deadlines",
			o->has_deadlines ? write_deadlines(&o->deadlines) : json_null());
	case PLANE_ORDER_END_BACKENDS:
		return json_pack("{s:{s:O}}", "EndBackends", "backends", o->ended);
	case PLANE_ORDER_METRICS_REQUEST:
		return json_pack("{s:{s:I,s:I}}", "MetricsRequest", "interval_ms",
			(json_int_t)o->interval_ms, "duration_ms", (json_int_t)o->duration_ms);
	case PLANE_ORDER_LOGS_REQUEST:
		return json_pack("{s:{s:I,s:s,s:I,s:b}}", "LogsRequest", "request_id",
			(json_int_t)o->request_id, "backend_id", o->backend, "tail",
			(json_int_t)o->tail_lines, "follow", o->is_follow);
	case PLANE_ORDER_LOGS_CANCEL:
		return json_pack(
			"{s:{s:I}}", "LogsCancel", "request_id", (json_int_t)o->request_id);
	}
	return NULL;
}

static int read_deadlines(
	const json_t *json, struct plane_deadlines *deadlines, struct plane_error *err)
{
	int result = plane_json_get_int(json, "renew_at", PLANE_JSON_REQUIRED, INT64_MIN, INT64_MAX,
		&deadlines->renew_at_ms, err);
	if (result == 0)
		result = plane_json_get_int(json, "soft_terminate_at", PLANE_JSON_REQUIRED,
			INT64_MIN, INT64_MAX, &deadlines->soft_terminate_at_ms, err);
	if (result == 0)
		result = plane_json_get_int(json, "hard_terminate_at", PLANE_JSON_REQUIRED,
			INT64_MIN, INT64_MAX, &deadlines->hard_terminate_at_ms, err);
	return result;
}

static int read_acquired_key(
	const json_t *acquired, struct plane_drone_order *o, struct plane_error *err)
{
	json_t *key = NULL, *deadlines = NULL;
	o->key_namespace = o->key_tag = "";
	int result = plane_json_get_object(acquired, "key", PLANE_JSON_REQUIRED, &key, err);
	if (result == 0)
		result = plane_json_get_object(
			acquired, "deadlines", PLANE_JSON_REQUIRED, &deadlines, err);
	if (result == 0)
		result = plane_json_get_int(acquired, "token", PLANE_JSON_REQUIRED, INT64_MIN,
			INT64_MAX, &o->fencing_token, err);
	if (result == 0)
		result = plane_json_get_text(key, "name", PLANE_JSON_REQUIRED, &o->key_name, err);
	if (result == 0)
		result = plane_json_get_text(
			key, "namespace", PLANE_JSON_DEFAULT, &o->key_namespace, err);
	if (result == 0)
		result = plane_json_get_text(key, "tag", PLANE_JSON_DEFAULT, &o->key_tag, err);
	return result < 0 ? result : read_deadlines(deadlines, &o->deadlines, err);
}

static int read_asked(const json_t *json, struct plane_drone_order *o, struct plane_error *err)
{
	json_t *resources = NULL;
	int result = plane_json_get_object(json, "resources", PLANE_JSON_OPTIONAL, &resources, err);
	o->has_resources = resources != NULL;
	return result < 0 || !resources ? result
					: plane_resources_read(resources, true, &o->resources, err);
}

static int read_spawn(const json_t *json, struct plane_drone_order *o, struct plane_error *err)
{
	json_t *acquired = NULL, *executable = NULL;
	int result = plane_json_get_any(json, "executable", PLANE_JSON_REQUIRED, &executable, err);
	if (result == 0)
		result = plane_json_get_object(json, "key", PLANE_JSON_REQUIRED, &acquired, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "static_token", PLANE_JSON_OPTIONAL, &o->static_token, err);
	if (result == 0)
		result = read_epoch(json, "lease_epoch", &o->epoch, err);
	if (result == 0)
		result = read_asked(json, o, err);
	if (result < 0)
		return result;
	o->kind = PLANE_ORDER_SPAWN;
	o->executable = executable;
	return read_acquired_key(acquired, o, err);
}

static int read_terminate(const json_t *json, struct plane_drone_order *o, struct plane_error *err)
{
	const char *kind = NULL, *reason = NULL;
	int result = plane_json_get_text(json, "kind", PLANE_JSON_REQUIRED, &kind, err);
	if (result == 0)
		result = plane_json_get_text(json, "reason", PLANE_JSON_REQUIRED, &reason, err);
	if (result < 0)
		return result;
	o->kind = PLANE_ORDER_TERMINATE;
	if (!plane_termination_kind_parse(kind, &o->termination))
		return plane_error_set(err, EPROTO, "kind: unknown kind \"%.40s\"", kind);
	if (!plane_termination_reason_parse(reason, &o->reason))
		return plane_error_set(err, EPROTO, "reason: unknown reason \"%.40s\"", reason);
	return 0;
}

static int read_action(const json_t *json, struct plane_drone_order *o, struct plane_error *err)
{
	json_t *action = NULL;
	const char *tag;
	const json_t *content;
	int result =
		plane_json_get_text(json, "action_id", PLANE_JSON_REQUIRED, &o->action_id, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "backend_id", PLANE_JSON_REQUIRED, &o->backend, err);
	if (result == 0)
		result = plane_json_get_int(json, "drone_id", PLANE_JSON_REQUIRED, INT64_MIN,
			INT64_MAX, &o->drone_id, err);
	if (result == 0)
		result = plane_json_get_object(json, "action", PLANE_JSON_REQUIRED, &action, err);
	if (result == 0)
		result = plane_tagged_read(action, &tag, &content, err);
	if (result < 0)
		return result;
	if (strcmp(tag, "Spawn") == 0)
		return read_spawn(content, o, err);
	if (strcmp(tag, "Terminate") == 0)
		return read_terminate(content, o, err);
	return plane_error_set(err, ENOTSUP, "unknown action \"%.40s\"", tag);
}

static int read_renew_response(
	const json_t *json, struct plane_drone_order *o, struct plane_error *err)
{
	json_t *deadlines = NULL;
	int result = plane_json_get_text(json, "backend", PLANE_JSON_REQUIRED, &o->backend, err);
	if (result == 0)
		result = plane_json_get_object(
			json, "deadlines", PLANE_JSON_OPTIONAL, &deadlines, err);
	o->kind = PLANE_ORDER_RENEW_KEY_RESPONSE;
	o->has_deadlines = deadlines != NULL;
	return result < 0 || !deadlines ? result : read_deadlines(deadlines, &o->deadlines, err);
}

static int read_lease_response(
	const json_t *json, struct plane_drone_order *o, struct plane_error *err)
{
	json_t *deadlines = NULL;
	o->kind = PLANE_ORDER_LEASE_RESPONSE;
	int result = read_epoch(json, "epoch", &o->epoch, err);
	if (result == 0)
		result = plane_json_get_int(json, "local_time", PLANE_JSON_REQUIRED, INT64_MIN,
			INT64_MAX, &o->local_time_ms, err);
	if (result == 0)
		result = plane_json_get_object(
			json, "deadlines", PLANE_JSON_OPTIONAL, &deadlines, err);
	o->has_deadlines = deadlines != NULL;
	if (result == 0 && deadlines && o->epoch == 0)
		return plane_error_set(err, EPROTO, "deadlines without an epoch");
	return result < 0 || !deadlines ? result : read_deadlines(deadlines, &o->deadlines, err);
}

static int read_end_backends(
	const json_t *json, struct plane_drone_order *o, struct plane_error *err)
{
	json_t *backends = NULL;
	o->kind = PLANE_ORDER_END_BACKENDS;
	int result = plane_json_get_any(json, "backends", PLANE_JSON_REQUIRED, &backends, err);
	if (result < 0)
		return result;
	if (!json_is_array(backends))
		return plane_error_set(err, EPROTO, "backends: expected an array");
	for (size_t i = 0; i < json_array_size(backends); i++)
		if (!json_is_string(json_array_get(backends, i)))
			return plane_error_set(err, EPROTO, "backends: expected names");
	o->ended = backends;
	return 0;
}

static int read_metrics_request(
	const json_t *json, struct plane_drone_order *o, struct plane_error *err)
{
	o->kind = PLANE_ORDER_METRICS_REQUEST;
	int result = plane_json_get_int(
		json, "interval_ms", PLANE_JSON_REQUIRED, 100, 3600000, &o->interval_ms, err);
	return result < 0 ? result
			  : plane_json_get_int(json, "duration_ms", PLANE_JSON_REQUIRED, 0, 3600000,
				    &o->duration_ms, err);
}

static int read_logs_request(
	const json_t *json, struct plane_drone_order *o, struct plane_error *err)
{
	o->kind = PLANE_ORDER_LOGS_REQUEST;
	int result = plane_json_get_int(
		json, "request_id", PLANE_JSON_REQUIRED, 0, INT64_MAX, &o->request_id, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "backend_id", PLANE_JSON_REQUIRED, &o->backend, err);
	if (result == 0)
		result = plane_json_get_int(
			json, "tail", PLANE_JSON_REQUIRED, -1, INT64_MAX, &o->tail_lines, err);
	if (result == 0)
		result = plane_json_get_bool(
			json, "follow", PLANE_JSON_REQUIRED, &o->is_follow, err);
	return result;
}

static int read_order_content(const char *tag, const json_t *content, struct plane_drone_order *o,
	struct plane_error *err)
{
	if (strcmp(tag, "Action") == 0)
		return read_action(content, o, err);
	if (strcmp(tag, "AckEvent") == 0) {
		o->kind = PLANE_ORDER_ACK_EVENT;
		return plane_json_get_int(
			content, "event_id", PLANE_JSON_REQUIRED, 0, INT64_MAX, &o->event_id, err);
	}
	if (strcmp(tag, "RenewKeyResponse") == 0)
		return read_renew_response(content, o, err);
	if (strcmp(tag, "LeaseResponse") == 0)
		return read_lease_response(content, o, err);
	if (strcmp(tag, "EndBackends") == 0)
		return read_end_backends(content, o, err);
	if (strcmp(tag, "MetricsRequest") == 0)
		return read_metrics_request(content, o, err);
	if (strcmp(tag, "LogsRequest") == 0)
		return read_logs_request(content, o, err);
	if (strcmp(tag, "LogsCancel") == 0) {
		o->kind = PLANE_ORDER_LOGS_CANCEL;
		return plane_json_get_int(content, "request_id", PLANE_JSON_REQUIRED, 0, INT64_MAX,
			&o->request_id, err);
	}
	return plane_error_set(err, ENOTSUP, "unknown message \"%.40s\" from the controller", tag);
}

int plane_drone_order_read(
	const json_t *json, struct plane_drone_order *order, struct plane_error *err)
{
	struct plane_drone_order read = { 0 };
	const char *tag;
	const json_t *content;
	int result = plane_tagged_read(json, &tag, &content, err);
	if (result < 0)
		return result;
	result = read_order_content(tag, content, &read, err);
	if (result == 0)
		*order = read;
	return result == 0 || result == -ENOTSUP ? result : plane_error_prefix(err, "%.40s", tag);
}
