/* The drone's backends: takes orders, drives each backend through its life in the runtime, records
 * every state in the journal before it is told. Loop thread only. */
#ifndef PLANE_DRONE_SUPERVISOR_H
#define PLANE_DRONE_SUPERVISOR_H

#include <stdbool.h>

#include "drone/capacity.h"
#include "drone/journal.h"
#include "drone/lease_keeper.h"
#include "drone/local_clock.h"
#include "model/messages.h"
#include "runtime/runtime.h"

struct plane_supervisor;

struct plane_supervisor_listener {
	void *data;
	/** A state was recorded, as event `id` of the journal. */
	void (*on_event)(void *data, int64_t id, const char *backend,
		const struct plane_backend_state *state, int64_t timestamp_ms);
	/** States wait to be recorded: plane_supervisor_settle is to be called within milliseconds.
	 */
	void (*on_gathered)(void *data);
	/** The lease of a backend's key is to be renewed. Asked again until
	 *  plane_supervisor_renewed. */
	void (*on_renew)(void *data, const char *backend);
};

struct plane_supervisor_config {
	struct plane_journal *journal; /* borrowed, as the clock */
	const struct plane_local_clock *clock;
	struct plane_supervisor_listener listener;
	struct plane_capacity_config capacity;
	int64_t grace_ms;           /* from SIGTERM to SIGKILL */
	int64_t startup_timeout_ms; /* until it answers HTTP */
};

struct plane_supervisor *plane_supervisor_create(const struct plane_supervisor_config *config);
/** After the runtime was closed: no callback of it may come any more. */
void plane_supervisor_destroy(struct plane_supervisor *supervisor);

/** What the runtime is to be created with. */
struct plane_runtime_listener plane_supervisor_runtime_listener(
	struct plane_supervisor *supervisor);

/** Takes over what a former drone left in journal and runtime. `runtime` is borrowed. */
int plane_supervisor_start(struct plane_supervisor *supervisor, struct plane_runtime *runtime,
	struct plane_error *err);

/**
 * Orders of the controller. 0: recorded, or done before; it may be acknowledged once the journal is
 * durable. Negative: it could not be recorded and must not be acknowledged.
 *
 * A backend that there is no room for is refused if that is allowed: -ENOSPC with the reason, which
 * may be told once the journal is durable; the same order is never taken any more. Else it is
 * taken, and ends at once.
 */
int plane_supervisor_spawn(struct plane_supervisor *supervisor,
	const struct plane_drone_order *given, bool may_refuse, struct plane_error *err);
int plane_supervisor_terminate(struct plane_supervisor *supervisor,
	const struct plane_drone_order *order, struct plane_error *err);

/** Fills the request for the drone's own lease if one is due now; see plane_lease_keeper_ask. */
bool plane_supervisor_ask_lease(
	struct plane_supervisor *supervisor, struct plane_drone_message *message);
void plane_supervisor_lease_answered(
	struct plane_supervisor *supervisor, const struct plane_drone_order *order);
/** How long the request for it has been without any answer. */
int64_t plane_supervisor_lease_waiting_ms(const struct plane_supervisor *supervisor);
/** Between two requests. */
int64_t plane_supervisor_lease_interval_ms(const struct plane_supervisor *supervisor);

void plane_supervisor_renewed(struct plane_supervisor *supervisor, const char *backend,
	const struct plane_deadlines *deadlines);
/** The controller is connected anew: renewals that were asked for may be lost. */
void plane_supervisor_ask_again(struct plane_supervisor *supervisor);

/** Ends all backends: the drone goes for good, and the runtime removes them next. */
void plane_supervisor_end_all(struct plane_supervisor *supervisor);

/** The runtime has removed everything: what had not ended by then, has now. */
void plane_supervisor_all_ended(struct plane_supervisor *supervisor);

/**
 * Records what was gathered. States on the way to `ready` are for those who watch, not for those
 * who wait: they are recorded and told together, with the next one that somebody waits for or a
 * moment later. A drone that dies in between finds the backend in the journal and in the runtime.
 */
void plane_supervisor_settle(struct plane_supervisor *supervisor);

/** Looks at leases, grace times and unrecorded states: several times a second. */
void plane_supervisor_tick(struct plane_supervisor *supervisor);

/** Is the backend here, and has it not ended? */
bool plane_supervisor_has(struct plane_supervisor *supervisor, const char *backend);

/** Calls for each backend that has not ended, with the epoch that it is under; 0: none. */
void plane_supervisor_list(struct plane_supervisor *supervisor,
	void (*each)(void *data, const char *backend, int64_t epoch), void *data);

/** The controller knows nothing of this backend: it is ended hard. No such one is fine. */
void plane_supervisor_disown(struct plane_supervisor *supervisor, const char *backend);

struct plane_supervisor_counts {
	int64_t running, ending;
};
struct plane_supervisor_counts plane_supervisor_count(const struct plane_supervisor *supervisor);

/** Calls for each running backend with its metrics since the last call. */
void plane_supervisor_metrics(struct plane_supervisor *supervisor,
	void (*each)(void *data, const char *backend, const struct plane_backend_metrics *metrics),
	void *data);

/** Begins a round of measuring. */
void plane_supervisor_uses_begin(struct plane_supervisor *supervisor);
/** Calls for at most `max` running backends that this round has not measured yet with what they
 * use; returns for how many. Reads some small files for each. */
size_t plane_supervisor_uses(struct plane_supervisor *supervisor, size_t max,
	void (*each)(void *data, const char *backend, const struct plane_backend_use *use),
	void *data);

#endif
