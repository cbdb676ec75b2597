/* The messages of the typed sockets: one struct each, one reader and one writer each. Texts in a
 * message that was read are borrowed from its JSON. Extensions of ours are sent only to a peer
 * whose handshake lists them. */
#ifndef PLANE_MODEL_MESSAGES_H
#define PLANE_MODEL_MESSAGES_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "model/backend_state.h"
#include "model/resources.h"

/* Extensions in the handshake. */
#define PLANE_EXTENSION_LOGS "logs"     /* drone: LogsRequest, LogsChunk, LogsCancel */
#define PLANE_EXTENSION_REVOKE "revoke" /* proxy: RevokeTokens */
#define PLANE_EXTENSION_REVOKED_SINCE "revoked-since" /* controller: RevokedSince */
#define PLANE_EXTENSION_LEASE "drone-lease"           /* both: RenewLease, LeaseResponse */
#define PLANE_EXTENSION_INVENTORY "inventory"         /* both: Inventory, EndBackends */
#define PLANE_EXTENSION_REFUSE "refuse-action"        /* controller: RefuseAction */
#define PLANE_EXTENSION_METRICS                                                                    \
	"metrics-on-request" /* both: MetricsRequest, MetricsReport; no BackendMetrics */

#define PLANE_EXTENSIONS_MAX 8

/** Where proxies reach the backends of a drone: in its handshake, as "backends". */
struct plane_backend_place {
	bool is_told;   /* false: an original drone, or one of an older version */
	const char *ip; /* NULL: they are reached from the drone's own machine only */
	int first_port, last_port;
};

struct plane_handshake {
	const char *name;
	const char *version;
	const char *git_hash;
	const char
		*extensions[PLANE_EXTENSIONS_MAX]; /* NULL-terminated unless full; may be empty */
	struct plane_backend_place backends;       /* drones */
};

json_t *plane_handshake_write(const char *name, const char *const *extensions);
int plane_handshake_read(
	const json_t *json, struct plane_handshake *handshake, struct plane_error *err);
/** The value of "backends"; `place` is told. */
json_t *plane_backend_place_write(const struct plane_backend_place *place);
bool plane_handshake_has(const struct plane_handshake *handshake, const char *extension);

/** Milliseconds of the drone's own clock. */
struct plane_deadlines {
	int64_t renew_at_ms;
	int64_t soft_terminate_at_ms;
	int64_t hard_terminate_at_ms;
};

/* ---- drone -> controller ---- */

enum plane_drone_message_kind {
	PLANE_DRONE_HEARTBEAT,
	PLANE_DRONE_BACKEND_EVENT,
	PLANE_DRONE_BACKEND_METRICS,
	PLANE_DRONE_ACK_ACTION,
	PLANE_DRONE_RENEW_KEY,
	PLANE_DRONE_RENEW_LEASE,    /* extension; a heartbeat too */
	PLANE_DRONE_INVENTORY,      /* extension */
	PLANE_DRONE_LOGS_CHUNK,     /* extension */
	PLANE_DRONE_REFUSE_ACTION,  /* extension */
	PLANE_DRONE_METRICS_REPORT, /* extension */
};

struct plane_backend_metrics {
	int64_t mem_used, mem_total, mem_active, mem_inactive, mem_unevictable, mem_limit;
	int64_t cpu_used, sys_cpu; /* nanoseconds since the last message */
};

struct plane_drone_message {
	enum plane_drone_message_kind kind;
	const char *backend;                    /* event, metrics, renew key */
	const char *action_id;                  /* ack, refuse action */
	const char *reason;                     /* refuse action: for people */
	bool has_resources;                     /* renew lease */
	struct plane_drone_resources resources; /* renew lease */
	const json_t *backends;           /* metrics report: by name; see plane_backend_use_read */
	int64_t epoch;                    /* renew lease: 0 asks for a new one */
	int64_t last_epoch;               /* renew lease: the greatest it ever held, or 0 */
	const char *journal;              /* renew lease: names the drone's journal */
	int64_t local_time_ms;            /* heartbeat, renew key, renew lease */
	int64_t hard_in_ms;               /* renew lease: how long `epoch` lasts as it is */
	int64_t event_id;                 /* event */
	int64_t timestamp_ms;             /* event */
	struct plane_backend_state state; /* event */
	struct plane_backend_metrics metrics; /* metrics */
	int64_t request_id;                   /* logs: which request this answers */
	const json_t *inventory; /* inventory: what runs, by name; see plane_inventory_epoch */
	bool has_more;           /* inventory: this is not the last of its parts */
	const char *data;        /* logs: whole lines; may be "" */
	bool is_end;             /* logs: nothing more comes */
	const char *error;       /* logs: NULL, or why it ended */
};

/** Backends in one inventory at most; a drone that runs more sends several. */
#define PLANE_INVENTORY_MAX 1000
/** The epoch that an entry of an inventory says, 0 for a lease of its own; and the entry. */
int64_t plane_inventory_epoch(const json_t *entry);
json_t *plane_inventory_entry(int64_t epoch);

/** Backends in one metrics report at most: it must not hold up what is sent behind it. */
#define PLANE_METRICS_REPORT_MAX 1000

/** What one backend uses, as a metrics report has it. */
struct plane_backend_use {
	int64_t memory_bytes, memory_limit_bytes; /* limit 0: none */
	int64_t cpu_ns;                           /* since it was started */
};
json_t *plane_backend_use_write(const struct plane_backend_use *use);
/** An entry of a report that was read. */
struct plane_backend_use plane_backend_use_read(const json_t *entry);

json_t *plane_drone_message_write(const struct plane_drone_message *message);
/** -ENOTSUP for an unknown kind, -EPROTO for a malformed one; both are to be logged and skipped. */
int plane_drone_message_read(
	const json_t *json, struct plane_drone_message *message, struct plane_error *err);

/* ---- controller -> drone ---- */

enum plane_drone_order_kind {
	PLANE_ORDER_SPAWN,     /* Action with Spawn */
	PLANE_ORDER_TERMINATE, /* Action with Terminate */
	PLANE_ORDER_ACK_EVENT,
	PLANE_ORDER_RENEW_KEY_RESPONSE,
	PLANE_ORDER_LEASE_RESPONSE,  /* extension */
	PLANE_ORDER_END_BACKENDS,    /* extension */
	PLANE_ORDER_LOGS_REQUEST,    /* extension */
	PLANE_ORDER_LOGS_CANCEL,     /* extension */
	PLANE_ORDER_METRICS_REQUEST, /* extension */
};

struct plane_drone_order {
	enum plane_drone_order_kind kind;
	const char *action_id;    /* spawn, terminate */
	const char *backend;      /* spawn, terminate, renew response, logs request */
	int64_t drone_id;         /* spawn, terminate */
	const json_t *executable; /* spawn: opaque here, read by plane_executable_read */
	const char *key_name, *key_namespace, *key_tag; /* spawn */
	/* Lease response: whose deadlines these are, 0 for none. Spawn: the epoch of the drone's
	 * lease that covers the backend; 0: its key has a lease of its own. */
	int64_t epoch;
	int64_t local_time_ms;            /* lease response: of the request that it answers */
	bool has_deadlines;               /* renew response, lease response: false is a refusal */
	struct plane_deadlines deadlines; /* spawn, renew response, lease response */
	int64_t fencing_token;            /* spawn */
	/* spawn: what the backend asks for; without it, as from an original controller, or from
	 * ours when it is nothing */
	bool has_resources;
	struct plane_resources resources;
	int64_t interval_ms, duration_ms;        /* metrics request: how often, for how long */
	const char *static_token;                /* spawn; NULL for none */
	enum plane_termination_kind termination; /* terminate */
	enum plane_termination_reason reason;    /* terminate */
	const json_t *ended; /* end backends: names of those that are to be ended */
	int64_t event_id;    /* ack event */
	int64_t request_id;  /* logs */
	int64_t tail_lines;  /* logs request: -1 for all */
	bool is_follow;      /* logs request */
};

json_t *plane_drone_order_write(const struct plane_drone_order *order);
int plane_drone_order_read(
	const json_t *json, struct plane_drone_order *order, struct plane_error *err);

/* ---- proxy -> controller ---- */

enum plane_proxy_message_kind {
	PLANE_PROXY_ROUTE_INFO_REQUEST,
	PLANE_PROXY_KEEP_ALIVE,
	PLANE_PROXY_CERT_LEASE_REQUEST,
	PLANE_PROXY_CERT_SET_TXT,
	PLANE_PROXY_CERT_RELEASE,
	PLANE_PROXY_REVOKED_SINCE, /* extension: answered by a RevokeTokens for each */
};

struct plane_proxy_message {
	enum plane_proxy_message_kind kind;
	const char *token;     /* route info request */
	const char *backend;   /* keep alive */
	const char *txt_value; /* set txt */
	int64_t since_ms; /* revoked since: how long ago a revocation may not have been heard */
};

json_t *plane_proxy_message_write(const struct plane_proxy_message *message);
int plane_proxy_message_read(
	const json_t *json, struct plane_proxy_message *message, struct plane_error *err);

/* ---- controller -> proxy ---- */

enum plane_proxy_order_kind {
	PLANE_ORDER_ROUTE_INFO,
	PLANE_ORDER_CERT_LEASE_RESPONSE,
	PLANE_ORDER_CERT_TXT_RESPONSE,
	PLANE_ORDER_BACKEND_REMOVED,
	PLANE_ORDER_REVOKE_TOKENS, /* extension */
};

struct plane_route_info {
	const char *backend;
	const char *address;
	const char *secret_token; /* "" for a static token */
	const char *cluster;
	const char *user;        /* NULL for none */
	const json_t *user_data; /* NULL for null (static token) */
	const char *subdomain;   /* NULL for none */
};

struct plane_proxy_order {
	enum plane_proxy_order_kind kind;
	const char *token;             /* route info */
	bool has_route;                /* route info */
	struct plane_route_info route; /* route info, if has_route */
	bool is_accepted;              /* certificate answers */
	const char *backend;           /* backend removed, revoke */
	const char *user;              /* revoke */
};

json_t *plane_proxy_order_write(const struct plane_proxy_order *order);
int plane_proxy_order_read(
	const json_t *json, struct plane_proxy_order *order, struct plane_error *err);

/* ---- DNS server -> controller, and back ---- */

/** TxtRecordRequest. Answers are matched by the cluster's name. */
struct plane_dns_message {
	const char *cluster;
};

json_t *plane_dns_message_write(const struct plane_dns_message *message);
int plane_dns_message_read(
	const json_t *json, struct plane_dns_message *message, struct plane_error *err);

/** TxtRecordResponse. */
struct plane_dns_order {
	const char *cluster;
	const char *txt_value; /* NULL for none */
};

json_t *plane_dns_order_write(const struct plane_dns_order *order);
int plane_dns_order_read(
	const json_t *json, struct plane_dns_order *order, struct plane_error *err);

#endif
