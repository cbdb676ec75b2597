/* The controller: decides, keeps nothing outside its store. This runs one as a whole process. */
#ifndef PLANE_CONTROLLER_CONTROLLER_H
#define PLANE_CONTROLLER_CONTROLLER_H

#include <stdbool.h>

#include "base/error.h"
#include "controller/deadlines.h"
#include "net/tls_context.h"

/** Everything is borrowed for the whole run. Start from plane_controller_config_defaults. */
struct plane_controller_config {
	const char *db_url; /* "sqlite:PATH" or "postgres://...": as plane_store_open takes it */
	bool are_standbys_synchronous; /* its own: a failover forgets nothing */
	const char *listen;            /* "ip:port"; port 0: chosen by the kernel */
	const char *controller_url;    /* in answers (`status_url`); NULL: from the bound address */
	const char *advertise_url;   /* under which other controllers reach it; NULL: they do not */
	const char *default_cluster; /* NULL: none */
	const char *forward_auth;    /* URL; NULL: none */
	const char *id;              /* "co-..."; NULL: random */
	struct plane_tls_server_files tls;              /* HTTPS instead of HTTP */
	struct plane_tls_client_files forward_auth_tls; /* for an https URL of forward_auth */
	struct plane_tls_client_files peer_tls; /* for other controllers that advertise one */
	const char *const *api_token_files;     /* paths or "fd:N", NULL-terminated; NULL: none */
	const char
		*allowed_hosts; /* names, with commas between, at which it is reached; NULL: none */
	bool is_insecure;       /* may stand open to everybody on other addresses than loopback */
	int cleanup_min_age_days; /* -1: backends are kept for ever */
	int cleanup_batch_size;
	int best_of;  /* drones drawn at random for each new backend; at least 1 */
	int ready_fd; /* gets "ready <ip:port>\n" once requests are served; -1: none. Closed then.
		       */
	struct plane_lease_constants lease;       /* of single keys, for original drones */
	struct plane_lease_constants drone_lease; /* of whole drones */
	int heartbeat_ms;                         /* how often it tells the store that it runs */
	int unhealthy_ms; /* drones and controllers silent for so long get no new backends */
	int termination_grace_ms; /* how long a drone lets a softly terminated backend live */
	/* an original drone silent for so long is lost, and its backends */
	int assume_lost_ms;
	int action_tick_ms; /* how often a drone's pending actions are looked at */
	int feed_poll_ms;   /* how often other controllers' doings are looked at unless notified */
	int registrations_check_ms; /* how often it asks which of its nodes have gone elsewhere */
};

extern const struct plane_controller_config plane_controller_config_defaults;

/**
 * Serves until SIGTERM or SIGINT, then closes everything and returns 0. Negative with `err` when it
 * cannot start: wrong configuration, the store, the address. Call it on the process's main thread
 * before other threads are started; not reentrant.
 */
int plane_controller_run(const struct plane_controller_config *config, struct plane_error *err);

#endif
