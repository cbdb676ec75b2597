/* The drone's side of its channel to the controller: orders in, events out until they are
 * acknowledged, heartbeats, renewals of leases, metrics, logs (reference 2.3). Loop thread only. */
#ifndef PLANE_DRONE_AGENT_H
#define PLANE_DRONE_AGENT_H

#include <uv.h>

#include "drone/supervisor.h"
#include "net/controller_url.h"

struct plane_agent;

struct plane_agent_config {
	uv_loop_t *loop;
	const char *controller_url, *cluster, *pool, *name; /* pool "" for the default one */
	const struct plane_controller_credentials *credentials;
	struct plane_journal *journal; /* borrowed, as all of these */
	const struct plane_local_clock *clock;
	struct plane_runtime *runtime; /* for the logs' paths */
	struct plane_supervisor *supervisor;
	/** Where proxies reach backends: told to the controller. */
	struct plane_backend_place backends;
	/** Called once, when the first connection is there. */
	void (*on_connected)(void *data);
	void *data;
};

struct plane_agent *plane_agent_create(
	const struct plane_agent_config *config, struct plane_error *err);
/** The drone stops: orders from now on are neither taken nor acknowledged, and so reach the next
 *  drone. All else goes on until plane_agent_close. */
void plane_agent_refuse_orders(struct plane_agent *agent);
/** `on_closed` is called when the memory is gone. */
void plane_agent_close(struct plane_agent *agent, void (*on_closed)(void *data), void *data);

bool plane_agent_is_connected(const struct plane_agent *agent);

/** An event was recorded (see the supervisor's listener). */
void plane_agent_event(struct plane_agent *agent, int64_t id, const char *backend,
	const struct plane_backend_state *state, int64_t timestamp_ms);
/** Asks for the drone's own lease when it is time to: several times a second. */
void plane_agent_tick(struct plane_agent *agent);
/** The lease of a backend's key is to be renewed. */
void plane_agent_renew(struct plane_agent *agent, const char *backend);

#endif
