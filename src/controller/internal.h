/* What the parts of a running controller share. Private to controller/. */
#ifndef PLANE_CONTROLLER_INTERNAL_H
#define PLANE_CONTROLLER_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "controller/access.h"
#include "controller/controller.h"
#include "controller/drone_registry.h"
#include "controller/forward_auth.h"
#include "controller/guard.h"
#include "controller/hub.h"
#include "controller/metrics.h"
#include "controller/placements.h"
#include "controller/recovery.h"
#include "controller/strand.h"
#include "controller/usage.h"
#include "net/http_server.h"
#include "store/store.h"

struct plane_drone_session;
struct plane_follower;
struct plane_lease_renewals;
struct plane_lease_watch;
struct plane_node_session;

struct plane_controller {
	const struct plane_controller_config *config;
	char name[PLANE_NAME_SIZE];
	char *public_url;    /* without user part and trailing slash */
	char *advertise_url; /* the same; NULL: none */
	atomic_int relay_count;

	/* thread-safe parts, for pool threads too */
	struct plane_store *store;
	struct plane_hub *hub;
	struct plane_follower *follower; /* NULL: the store is not shared */
	struct plane_drone_registry *drones;
	struct plane_placements *placements;
	struct plane_lease_watch *watch;  /* one thread at a time */
	int64_t store_incarnation;        /* as the last round saw it; 0: none was */
	struct plane_recovery recovery;   /* one thread at a time, as the watch */
	atomic_llong recovery_ends_at_ms; /* boot clock; at the earliest. 0: the store is whole */
	atomic_bool is_store_changed;     /* since the loop has looked */
	atomic_bool has_broken_leases;    /* the same: whose backends are to be given up */
	struct plane_forward_auth *auth;  /* NULL: nobody else is asked */
	struct plane_access *access;      /* NULL: everybody may */
	struct plane_metrics metrics;
	struct plane_usage *usage;
	uv_async_t usage_wake; /* drones are to be asked */
	struct plane_http_server *server;

	/* loop thread only */
	uv_loop_t loop;
	struct plane_http_pool *workers;       /* of all strands but: */
	struct plane_http_pool *lease_workers; /* what must never wait behind other work */
	struct plane_strand *strand;           /* the controller's own store work */
	struct plane_strand *lease_strand;     /* its heartbeat, and the rounds that break leases */
	struct plane_lease_renewals *renewals;
	struct plane_node_session *sessions;
	struct plane_drone_session *drone_sessions; /* those that serve, by the drone's id */
	struct plane_guard guard;
	uv_signal_t signals[2];
	uv_timer_t heartbeat_timer, cleanup_timer, lost_timer, acks_timer;
	uv_timer_t lease_timer, renewals_timer, registrations_timer;
	int open_sessions; /* not freed yet */
	bool is_stopping, is_server_closed, is_finishing;
	bool is_checking_registrations;
};

#endif
