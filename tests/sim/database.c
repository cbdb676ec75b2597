/* The database as controllers see it: the store in memory, behind a network. A call takes its time
 * on the way there and back; in an outage it fails, done or not done, as store.h allows. Only what
 * controllers call in the simulator is here. */
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "invariants.h"
#include "sim.h"
#include "store/postgres.h"
#include "store/sqlite.h"
#include "store/store_impl.h"
#include "threads.h"

#define TIMEOUT (5 * SIM_SECOND) /* of a call, as the product has it */

struct remote {
	struct plane_store base;
	struct plane_store *store;
	struct sim_process *process;
};

static struct {
	struct memory_database *memory;
	int64_t clock_offset_ms;
	bool is_down, is_slow;
	int64_t down_since; /* also of past outages: 0 never */
} database;

static int64_t database_now(void *data)
{
	(void)data;
	return INT64_C(1700000000000) + database.clock_offset_ms + sim_now() / SIM_MS;
}

void sim_database_start(void)
{
	struct memory_clock clock = { database_now, NULL };
	database.memory = memory_database_create(&clock);
}

struct memory_database *sim_database(void)
{
	return database.memory;
}

void sim_database_set_down(bool is_down)
{
	database.is_down = is_down;
	if (is_down)
		database.down_since = sim_now();
}

void sim_database_set_slow(bool is_slow)
{
	database.is_slow = is_slow;
}

void sim_database_fail_over(int64_t clock_jump_ms, int64_t forget_ms)
{
	database.down_since = sim_now();
	database.clock_offset_ms += clock_jump_ms;
	memory_database_fail_over(database.memory, forget_ms, sim_check_forgotten);
}

static bool is_cut_off(int machine)
{
	return database.is_down || sim_network_is_cut(machine, SIM_DATABASE) ||
	       sim_network_is_cut(SIM_DATABASE, machine);
}

bool sim_database_is_settled(int machine)
{
	return !is_cut_off(machine) && !database.is_slow;
}

static bool is_away(const struct remote *remote)
{
	return is_cut_off(remote->process->machine->index);
}

static int64_t trip(void)
{
	if (database.is_slow && sim_chance(300))
		return sim_between(SIM_MS, 3 * SIM_SECOND);
	return sim_between(50, SIM_MS);
}

/* The way of a request or of its answer. */
static int travel(struct remote *remote, struct plane_error *err)
{
	int64_t began = sim_now();
	if (!is_away(remote))
		sim_sleep(trip());
	if (!is_away(remote) && (database.down_since == 0 || database.down_since < began))
		return 0;
	sim_sleep(sim_between(0, TIMEOUT / 2));
	return plane_error_set(err, -EAGAIN, "the database does not answer");
}

static const struct plane_store_impl remote_store;

static struct plane_store *open_remote(void)
{
	struct remote *remote = PLANE_NEW(struct remote);
	remote->base.impl = &remote_store;
	remote->process = sim_current();
	remote->store = memory_store_open(database.memory);
	return &remote->base;
}

struct plane_store *plane_postgres_store_open(const char *url, struct plane_error *err)
{
	(void)url;
	(void)err;
	return open_remote();
}

struct plane_store *plane_sqlite_store_open(
	const char *path, const struct plane_store_clock *clock, struct plane_error *err)
{
	(void)path;
	(void)clock;
	(void)err;
	return open_remote();
}

static void close_remote(struct plane_store *store)
{
	struct remote *remote = (struct remote *)store;
	plane_store_close(remote->store);
	free(remote);
}

/* There and back with `work` in between; when it does not come back, `undo` frees what was to be
 * handed out. Outputs are local until the answer has come. */
#define CALL(store, err, work, undo)                                                               \
	do {                                                                                       \
		struct remote *remote_ = (struct remote *)(store);                                 \
		if (travel(remote_, (err)) < 0)                                                    \
			return (err)->code;                                                        \
		struct plane_store *inner = remote_->store;                                        \
		int done_ = (work);                                                                \
		if (travel(remote_, (err)) < 0) {                                                  \
			if (done_ == 0)                                                            \
				undo; /* NOLINT(bugprone-macro-parentheses): a statement */        \
			return (err)->code;                                                        \
		}                                                                                  \
		if (done_ < 0)                                                                     \
			return done_;                                                              \
	} while (0)
#define NOTHING (void)0

static int migrate(struct plane_store *store, struct plane_error *err)
{
	CALL(store, err, plane_store_migrate(inner, err), NOTHING);
	return 0;
}

static int sync_store(struct plane_store *store, struct plane_error *err)
{
	CALL(store, err, plane_store_sync(inner, err), NOTHING);
	if (sim_chance(50)) /* a disk that is full for a moment */
		return plane_error_set(err, -EIO, "not synced");
	return 0;
}

static int controller_heartbeat(
	struct plane_store *store, const char *name, struct plane_error *err)
{
	CALL(store, err, plane_store_controller_heartbeat(inner, name, err), NOTHING);
	return 0;
}

static int controller_offline(struct plane_store *store, const char *name, struct plane_error *err)
{
	CALL(store, err, plane_store_controller_offline(inner, name, err), NOTHING);
	return 0;
}

static int node_connected(struct plane_store *store, const struct plane_store_node *node,
	int64_t *node_id, int64_t *connection_id, struct plane_error *err)
{
	int64_t id = 0, connection = 0;
	CALL(store, err, plane_store_node_connected(inner, node, &id, &connection, err), NOTHING);
	*node_id = id;
	*connection_id = connection;
	return 0;
}

static int node_disconnected(
	struct plane_store *store, int64_t node_id, int64_t connection_id, struct plane_error *err)
{
	CALL(store, err, plane_store_node_disconnected(inner, node_id, connection_id, err),
		NOTHING);
	return 0;
}

static int address_owner(struct plane_store *store, int64_t node_id, const char *ip, int first_port,
	int last_port, int64_t healthy_ms, char **name, struct plane_error *err)
{
	char *found = NULL;
	CALL(store, err,
		plane_store_address_owner(
			inner, node_id, ip, first_port, last_port, healthy_ms, &found, err),
		free(found));
	*name = found;
	return 0;
}

static int drone_heartbeat(
	struct plane_store *store, int64_t node_id, int64_t local_time_ms, struct plane_error *err)
{
	CALL(store, err, plane_store_drone_heartbeat(inner, node_id, local_time_ms, err), NOTHING);
	return 0;
}

static int drone_drain(struct plane_store *store, const char *cluster, const char *name,
	bool is_draining, bool *is_changed, struct plane_error *err)
{
	bool changed = false;
	CALL(store, err, plane_store_drone_drain(inner, cluster, name, is_draining, &changed, err),
		NOTHING);
	*is_changed = changed;
	return 0;
}

static int member_list(struct plane_store *store, const struct plane_store_member_filter *filter,
	struct plane_store_members *members, struct plane_error *err)
{
	struct plane_store_members found = { 0 };
	CALL(store, err, plane_store_member_list(inner, filter, &found, err),
		plane_store_members_finish(&found));
	*members = found;
	return 0;
}

static int leases_find(
	struct plane_store *store, struct plane_store_leases *leases, struct plane_error *err)
{
	struct plane_store_leases found = { 0 };
	CALL(store, err, plane_store_leases_find(inner, &found, err),
		plane_store_leases_finish(&found));
	*leases = found;
	return 0;
}

static int recovery_end(
	struct plane_store *store, int64_t since_ms, bool *is_over, struct plane_error *err)
{
	bool over = false;
	CALL(store, err, plane_store_recovery_end(inner, since_ms, &over, err), NOTHING);
	*is_over = over;
	return 0;
}

static int drone_reconciled(
	struct plane_store *store, int64_t node_id, int64_t connection_id, struct plane_error *err)
{
	CALL(store, err, plane_store_drone_reconciled(inner, node_id, connection_id, err), NOTHING);
	return 0;
}

static int leases_renew(struct plane_store *store, struct plane_store_renewal *renewals,
	size_t count, struct plane_error *err)
{
	_cleanup_free_ struct plane_store_renewal *work =
		plane_alloc_zero(count + 1, sizeof(*work));
	for (size_t i = 0; i < count; i++)
		work[i] = renewals[i];
	CALL(store, err, plane_store_leases_renew(inner, work, count, err), NOTHING);
	for (size_t i = 0; i < count; i++)
		renewals[i] = work[i];
	return 0;
}

static int lease_break(struct plane_store *store, const struct plane_store_lease *lease,
	bool *is_broken, struct plane_error *err)
{
	bool broken = false;
	CALL(store, err, plane_store_lease_break(inner, lease, &broken, err), NOTHING);
	*is_broken = broken;
	return 0;
}

static int connect_key(struct plane_store *store, const struct plane_store_connect *request,
	struct plane_store_connection *connection, struct plane_error *err)
{
	struct plane_store_connection found = { 0 };
	CALL(store, err, plane_store_connect(inner, request, &found, err),
		plane_store_drones_finish(&found.drones));
	*connection = found;
	return 0;
}

static int keys_renew(struct plane_store *store, const char *const *backends, size_t count,
	int64_t node_id, int64_t lease_ms, bool *is_renewed, struct plane_error *err)
{
	_cleanup_free_ bool *renewed = plane_alloc_zero(count + 1, sizeof(*renewed));
	if (sim_options.mutant == SIM_MUTANT_SHORT_KEY_LEASES)
		lease_ms /= 2;
	CALL(store, err,
		plane_store_keys_renew(inner, backends, count, node_id, lease_ms, renewed, err),
		NOTHING);
	for (size_t i = 0; i < count; i++)
		is_renewed[i] = renewed[i];
	return 0;
}

static int token_create(
	struct plane_store *store, const struct plane_store_token *token, struct plane_error *err)
{
	CALL(store, err, plane_store_token_create(inner, token, err), NOTHING);
	return 0;
}

static int token_revoke(
	struct plane_store *store, const char *backend, const char *user, struct plane_error *err)
{
	CALL(store, err, plane_store_token_revoke(inner, backend, user, err), NOTHING);
	return 0;
}

static int revocations(struct plane_store *store, int64_t since_ms,
	struct plane_store_revocations *list, struct plane_error *err)
{
	struct plane_store_revocations found = { 0 };
	CALL(store, err, plane_store_revocations(inner, since_ms, &found, err),
		plane_store_revocations_finish(&found));
	*list = found;
	return 0;
}

/* A thread that has its answer does nothing for a while, in which the store may become another
 * one. */
static void stand_still(void)
{
	if (!sim_options.is_scale && sim_chance(60))
		sim_sleep(sim_between(0, 10 * SIM_SECOND));
}

static int spawn_checked(struct plane_store *inner, const struct plane_store_spawn *order,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	int result = plane_store_spawn(inner, order, spawned, err);
	if (result == 0)
		sim_check_placed(order->backend);
	return result;
}

static int spawn(struct plane_store *store, const struct plane_store_spawn *order,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	struct plane_store_spawned made = { 0 };
	CALL(store, err, spawn_checked(inner, order, &made, err), free(made.message));
	stand_still();
	*spawned = made;
	return 0;
}

static int refused_find(struct plane_store *store, int64_t drone_id, const char *action_id,
	struct plane_store_refused *refused, struct plane_error *err)
{
	struct plane_store_refused found = { 0 };
	CALL(store, err, plane_store_refused_find(inner, drone_id, action_id, &found, err),
		plane_store_refused_finish(&found));
	*refused = found;
	return 0;
}

static int move_checked(struct plane_store *inner, const struct plane_store_move *order,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	int result = plane_store_move(inner, order, spawned, err);
	if (result == 0)
		sim_check_placed(order->order->backend);
	return result;
}

static int move(struct plane_store *store, const struct plane_store_move *order,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	struct plane_store_spawned made = { 0 };
	CALL(store, err, move_checked(inner, order, &made, err), free(made.message));
	*spawned = made;
	return 0;
}

static int registrations_check(struct plane_store *store,
	struct plane_store_registration *registrations, size_t count, struct plane_error *err)
{
	_cleanup_free_ struct plane_store_registration *work =
		plane_alloc_zero(count + 1, sizeof(*work));
	for (size_t i = 0; i < count; i++)
		work[i] = registrations[i];
	CALL(store, err, plane_store_registrations_check(inner, work, count, err), NOTHING);
	for (size_t i = 0; i < count; i++)
		registrations[i] = work[i];
	return 0;
}

static int backend_find(struct plane_store *store, const char *backend,
	struct plane_store_backend *found, struct plane_error *err)
{
	struct plane_store_backend one;
	CALL(store, err, plane_store_backend_find(inner, backend, &one, err), NOTHING);
	*found = one;
	return 0;
}

static int backend_update(struct plane_store *store, int64_t node_id,
	struct plane_store_report *reports, size_t count, struct plane_error *err)
{
	_cleanup_free_ struct plane_store_report *work = plane_alloc_zero(count + 1, sizeof(*work));
	for (size_t i = 0; i < count; i++)
		work[i] = reports[i];
	CALL(store, err, plane_store_backend_update(inner, node_id, work, count, err), NOTHING);
	for (size_t i = 0; i < count; i++)
		reports[i] = work[i];
	return 0;
}

static int running_check(struct plane_store *store, int64_t node_id,
	struct plane_store_running *list, size_t count, struct plane_error *err)
{
	_cleanup_free_ struct plane_store_running *work =
		plane_alloc_zero(count + 1, sizeof(*work));
	for (size_t i = 0; i < count; i++)
		work[i] = list[i];
	CALL(store, err, plane_store_running_check(inner, node_id, work, count, err), NOTHING);
	for (size_t i = 0; i < count; i++)
		list[i] = work[i];
	return 0;
}

static int backends_keep_alive(struct plane_store *store, const char *const *backends, size_t count,
	bool *is_alive, struct plane_error *err)
{
	_cleanup_free_ bool *alive = plane_alloc_zero(count + 1, sizeof(*alive));
	CALL(store, err, plane_store_backends_keep_alive(inner, backends, count, alive, err),
		NOTHING);
	for (size_t i = 0; i < count; i++)
		is_alive[i] = alive[i];
	return 0;
}

static int backend_history(struct plane_store *store, const char *backend,
	struct plane_store_history *history, struct plane_error *err)
{
	struct plane_store_history found = { 0 };
	CALL(store, err, plane_store_backend_history(inner, backend, &found, err),
		plane_store_history_finish(&found));
	*history = found;
	return 0;
}

static int route_find(struct plane_store *store, const char *token, bool *is_found,
	struct plane_store_route *route, struct plane_error *err)
{
	struct plane_store_route one = { 0 };
	bool found = false;
	CALL(store, err, plane_store_route_find(inner, token, &found, &one, err),
		plane_store_route_finish(&one));
	*is_found = found;
	if (found)
		*route = one;
	return 0;
}

static int actions_pending(struct plane_store *store, int64_t node_id, size_t limit,
	struct plane_store_actions *actions, struct plane_error *err)
{
	struct plane_store_actions found = { 0 };
	CALL(store, err, plane_store_actions_pending(inner, node_id, limit, &found, err),
		plane_store_actions_finish(&found));
	*actions = found;
	return 0;
}

static int actions_ack(struct plane_store *store, const char *const *action_ids, size_t count,
	int64_t node_id, struct plane_error *err)
{
	CALL(store, err, plane_store_actions_ack(inner, action_ids, count, node_id, err), NOTHING);
	return 0;
}

static int terminate(struct plane_store *store, const char *backend, const char *action_id,
	enum plane_termination_kind kind, enum plane_termination_reason reason, int64_t *drone_id,
	char **message, struct plane_error *err)
{
	_cleanup_free_ char *text = NULL;
	int64_t drone = 0;
	CALL(store, err,
		plane_store_terminate(inner, backend, action_id, kind, reason, &drone, &text, err),
		NOTHING);
	*drone_id = drone;
	*message = STEAL(text);
	return 0;
}

static int sweep_candidates(struct plane_store *store, int64_t node_id,
	struct plane_store_sweep *sweep, struct plane_error *err)
{
	struct plane_store_sweep found = { 0 };
	CALL(store, err, plane_store_sweep_candidates(inner, node_id, &found, err),
		plane_store_sweep_finish(&found));
	*sweep = found;
	return 0;
}

static int mark_lost(struct plane_store *store, int64_t silent_ms, struct plane_store_lost *lost,
	struct plane_error *err)
{
	struct plane_store_lost found = { 0 };
	CALL(store, err, plane_store_mark_lost(inner, silent_ms, &found, err),
		plane_store_lost_finish(&found));
	*lost = found;
	return 0;
}

static int mark_broken(
	struct plane_store *store, struct plane_store_lost *lost, struct plane_error *err)
{
	struct plane_store_lost found = { 0 };
	CALL(store, err, plane_store_mark_broken(inner, &found, err),
		plane_store_lost_finish(&found));
	*lost = found;
	return 0;
}

static int cleanup_nodes(struct plane_store *store, int64_t min_age_ms, int batch, int64_t *removed,
	struct plane_error *err)
{
	int64_t count = 0;
	CALL(store, err, plane_store_cleanup_nodes(inner, min_age_ms, batch, &count, err), NOTHING);
	*removed = count;
	return 0;
}

static int cleanup_tokens(
	struct plane_store *store, int batch, int64_t *removed, struct plane_error *err)
{
	int64_t count = 0;
	CALL(store, err, plane_store_cleanup_tokens(inner, batch, &count, err), NOTHING);
	*removed = count;
	return 0;
}

static int cleanup_revocations(
	struct plane_store *store, int batch, int64_t *removed, struct plane_error *err)
{
	int64_t count = 0;
	CALL(store, err, plane_store_cleanup_revocations(inner, batch, &count, err), NOTHING);
	*removed = count;
	return 0;
}

/* ---- the feed: on a connection of its own, with the same faults ---- */

struct remote_feed {
	struct plane_store_feed base;
	struct plane_store_feed *feed;
	struct remote remote;            /* for the faults only */
	struct plane_store_events later; /* committed late, or to come once more */
};

/* An event of which nothing is shared with `event`. */
static void append(struct plane_store_events *events, const struct plane_store_event *event)
{
	events->entries =
		plane_realloc(events->entries, (events->count + 1) * sizeof(events->entries[0]));
	struct plane_store_event *copy = &events->entries[events->count++];
	*copy = *event;
	copy->message = plane_strdup(event->message);
	copy->user = plane_strdup(event->user);
}

/* What transactions have drawn a number for may be seen after what came later, and twice: both are
 * in the contract. */
static void shuffle(struct remote_feed *feed, struct plane_store_events *events)
{
	struct plane_store_events read = *events, held = feed->later;
	feed->later = (struct plane_store_events){ 0 };
	events->entries = NULL;
	events->count = 0;
	for (size_t i = 0; i < read.count; i++) {
		bool is_late = sim_chance(50), is_lost = false;
		if (sim_options.mutant == SIM_MUTANT_LOST_NEWS)
			is_lost = sim_chance(100);
		if (!is_late && !is_lost)
			append(events, &read.entries[i]);
		if ((is_late || sim_chance(50)) && !is_lost)
			append(&feed->later, &read.entries[i]);
	}
	for (size_t i = 0; i < held.count; i++)
		append(events, &held.entries[i]);
	plane_store_events_finish(&read);
	plane_store_events_finish(&held);
}

static int feed_read(
	struct plane_store_feed *base, struct plane_store_events *events, struct plane_error *err)
{
	struct remote_feed *feed = (struct remote_feed *)base;
	int result = travel(&feed->remote, err);
	if (result == 0) /* an answer that is lost is read again: the cursor is the reader's */
		result = plane_store_feed_read(feed->feed, events, err);
	if (result == 0 && !sim_options.is_scale)
		shuffle(feed, events);
	if (result == 0)
		sim_sleep(trip());
	return result;
}

static int feed_wait(struct plane_store_feed *base, int wake_fd, int timeout_ms, bool *is_notified,
	struct plane_error *err)
{
	(void)base;
	(void)err;
	*is_notified = false;
	sim_wait_readable(wake_fd, timeout_ms * SIM_MS);
	return 0;
}

static int feed_notify(struct plane_store_feed *base, struct plane_error *err)
{
	return travel(&((struct remote_feed *)base)->remote, err);
}

static void feed_close(struct plane_store_feed *base)
{
	struct remote_feed *feed = (struct remote_feed *)base;
	feed->remote.process->feed = NULL;
	plane_store_events_finish(&feed->later);
	plane_store_feed_close(feed->feed);
	free(feed);
}

static const struct plane_store_feed_impl remote_feed = {
	.close = feed_close, .wait = feed_wait, .read = feed_read, .notify = feed_notify
};

static struct plane_store_feed *feed_open(
	struct plane_store *store, const char *controller, struct plane_error *err)
{
	struct remote *remote = (struct remote *)store;
	if (travel(remote, err) < 0)
		return NULL;
	struct remote_feed *feed = PLANE_NEW(struct remote_feed);
	feed->base.impl = &remote_feed;
	feed->remote = *remote;
	feed->feed = plane_store_feed_open(remote->store, controller, err);
	remote->process->feed = feed->feed;
	return &feed->base;
}

void sim_database_process_died(struct sim_process *process)
{
	if (process->feed)
		plane_store_feed_close(process->feed);
	process->feed = NULL;
}

static const struct plane_store_impl remote_store = {
	.close = close_remote,
	.migrate = migrate,
	.sync = sync_store,
	.controller_heartbeat = controller_heartbeat,
	.controller_offline = controller_offline,
	.node_connected = node_connected,
	.node_disconnected = node_disconnected,
	.address_owner = address_owner,
	.drone_heartbeat = drone_heartbeat,
	.drone_drain = drone_drain,
	.member_list = member_list,
	.leases_find = leases_find,
	.recovery_end = recovery_end,
	.drone_reconciled = drone_reconciled,
	.leases_renew = leases_renew,
	.lease_break = lease_break,
	.connect = connect_key,
	.keys_renew = keys_renew,
	.token_create = token_create,
	.token_revoke = token_revoke,
	.revocations = revocations,
	.spawn = spawn,
	.refused_find = refused_find,
	.move = move,
	.registrations_check = registrations_check,
	.backend_find = backend_find,
	.backend_update = backend_update,
	.running_check = running_check,
	.backends_keep_alive = backends_keep_alive,
	.backend_history = backend_history,
	.route_find = route_find,
	.actions_pending = actions_pending,
	.actions_ack = actions_ack,
	.terminate = terminate,
	.sweep_candidates = sweep_candidates,
	.mark_lost = mark_lost,
	.mark_broken = mark_broken,
	.feed_open = feed_open,
	.cleanup_nodes = cleanup_nodes,
	.cleanup_tokens = cleanup_tokens,
	.cleanup_revocations = cleanup_revocations,
};
