/* The simulator: the real controllers, drones and proxies of one cluster in one thread, in virtual
 * time. All that is not decision - clocks, threads, sockets, disks, processes, the database - is
 * replaced when the program is linked, and behaves as badly as the seed says. The same seed is the
 * same run, to the last message. */
#ifndef PLANE_SIM_SIM_H
#define PLANE_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "memory_store.h"
#include "model/names.h"

#define SIM_MS INT64_C(1000) /* virtual time is in microseconds */
#define SIM_SECOND (1000 * SIM_MS)
#define SIM_MEMORY_BYTES (INT64_C(1) << 30) /* of each machine */

/* ---- chance: world.c ---- */

void sim_seed(uint64_t seed);
/** Uniform in [0, bound). */
uint64_t sim_below(uint64_t bound);
int64_t sim_between(int64_t least, int64_t most);
bool sim_chance(unsigned permille);

/* ---- events ---- */

/** What events belong to. They wait while it, or its parent, stands still, and never come any more
 *  once it is gone. */
struct sim_owner {
	struct sim_owner *parent;
	struct sim_process *process; /* whose code the events run; NULL: the simulator's own */
	struct sim_event *deferred, *deferred_last;
	bool is_paused, is_gone;
};

struct sim_event;
int64_t sim_now(void);
/** Runs `run` in `delay` microseconds of true time. `owner` NULL: whatever happens. */
struct sim_event *sim_after(
	struct sim_owner *owner, int64_t delay, void (*run)(void *data), void *data);
/** NULL is fine; not after it has run. */
void sim_cancel(struct sim_event *event);
void sim_pause(struct sim_owner *owner);
void sim_resume(struct sim_owner *owner);
/** Runs all that is due until then. */
void sim_run_until(int64_t time);
/** How many events have run. */
int64_t sim_event_count(void);

/* ---- machines and processes: processes.c ---- */

struct sim_process;
struct sim_sandbox;
struct sim_journal;
struct sim_lease_file;

struct sim_machine {
	struct sim_owner owner;
	char name[16];
	int index;
	int64_t booted_at, boot_offset_us; /* the boot clock */
	int64_t drift_ppm;
	int64_t wall_offset_ms;
	int boot_number;
	int64_t resumed_at; /* after it was suspended; 0: it never was */
	bool is_off;
	/* the disk: */
	struct sim_journal *journal; /* as the processes see it */
	struct sim_journal *durable; /* as it is after a power cut */
	/* runtime.c: */
	struct sim_sandbox *sandboxes;
	struct sim_lease_file *leases;
	int next_address;
};

enum sim_role { SIM_CONTROLLER, SIM_DRONE, SIM_PROXY };

/** One run of a role's program. Its memory is never freed when it is killed: nobody reads it any
 *  more, and the simulator's own process ends with the seed. */
struct sim_process {
	struct sim_owner owner;
	enum sim_role role;
	struct sim_machine *machine;
	char name[32];
	void (*main)(struct sim_process *process);
	uv_loop_t *loop;
	struct sim_fiber *runner; /* waits in uv_run */
	uv_signal_t *signals[2];  /* SIGTERM, SIGINT */
	void *server;             /* controllers: what serves connections */
	void *feed;               /* controllers: of the database */
	void *runtime;            /* drones */
	bool is_original;         /* speaks as the original's nodes do: without extensions */
	bool has_ended;           /* its main function has returned */
	void *node;               /* who started it */
};

struct sim_machine *sim_machine_create(const char *name, int64_t drift_ppm);
int64_t sim_boot_us(const struct sim_machine *machine);
/** True time until the machine's clock has gone on by that. */
int64_t sim_true_us(const struct sim_machine *machine, int64_t boot_us);
struct sim_process *sim_process_start(struct sim_machine *machine, enum sim_role role,
	const char *name, void (*main)(struct sim_process *process), void *node);
/** kill -9. */
void sim_process_kill(struct sim_process *process);
void sim_process_signal(struct sim_process *process, int number);
bool sim_process_is_alive(const struct sim_process *process); /* NULL is not */
/** The process whose code runs now. Aborts when it is none's. */
struct sim_process *sim_current(void);
/** Calls what listens to the signal; uv.c. */
void sim_uv_give_signal(void *handle);
/** Runs a function in the name of a process. */
void sim_enter(struct sim_process *process, void (*run)(void *data), void *data);

/* ---- threads of a process ---- */

/** Runs `run` on a thread of the process until it first waits. */
void sim_fiber_start(struct sim_process *process, void (*run)(void *data), void *data);
/** In a fiber only. */
void sim_sleep(int64_t delay);
struct sim_fiber *sim_fiber_current(void);
/** Waits until sim_fiber_wake, which may come from anywhere, or for `limit` (-1: for ever). */
void sim_fiber_wait(int64_t limit);
void sim_fiber_wake(struct sim_fiber *fiber);
/** It waits now, and never goes on. */
void sim_fiber_abandon(struct sim_fiber *fiber);

/* ---- the network: network.c ---- */

/** What is on its way from one machine to another stays there. */
void sim_network_cut(int from, int to, bool is_cut);
bool sim_network_is_cut(int from, int to);
/** All that is cut. */
void sim_network_heal(void);
/** Breaks a connection, of proxies only if that is wanted; if there is any. */
void sim_network_break_one(bool is_proxys);
/** Those that it opened: it hears nothing more on them, and what it said comes late. */
void sim_network_lose_own(struct sim_process *client);
/** A request: runs on a thread of the controller's server, with its struct plane_controller. False,
 *  and nothing runs, when it does not serve. */
bool sim_network_call(
	struct sim_process *process, void (*run)(void *controller, void *data), void *data);
void sim_network_set_slow(bool is_slow);
/** Of a message, now. */
int64_t sim_network_latency(void);
/** Has its connection, whose controller answers and reaches the database, and nothing is slow. */
bool sim_network_is_settled(const struct sim_process *client);
void sim_network_process_died(struct sim_process *process, bool is_told);
#define SIM_MACHINES_MAX 1100
/** The index in cuts of the database. */
#define SIM_DATABASE (SIM_MACHINES_MAX - 1)

/* ---- the database: database.c ---- */

struct memory_database *sim_database(void);
void sim_database_start(void);
void sim_database_set_down(bool is_down);
void sim_database_set_slow(bool is_slow);
/** Can be reached from a machine, and is not slow. */
bool sim_database_is_settled(int machine);
void sim_database_fail_over(int64_t clock_jump_ms, int64_t forget_ms);
void sim_database_process_died(struct sim_process *process);

/* ---- answers that are streams: streams.c ---- */

/** Its server ends them. */
void sim_streams_close(const struct sim_process *server);
void sim_streams_process_died(const struct sim_process *server);

/* ---- disks and sandboxes: journal.c, runtime.c ---- */

/** The disk loses what was not synced, and what ran has ended. */
void sim_journal_power_cut(struct sim_machine *machine);
/** A new disk. */
void sim_journal_lose(struct sim_machine *machine);
bool sim_journal_has_events(const struct sim_machine *machine);
void sim_runtime_power_cut(struct sim_machine *machine);
void sim_runtime_process_died(struct sim_process *process);
/** The machine goes on after standing still. */
void sim_runtime_resumed(struct sim_machine *machine);
/** A process in a sandbox ends by itself. */
void sim_runtime_crash_one(struct sim_machine *machine);
int sim_runtime_running(const struct sim_machine *machine);
bool sim_runtime_is_running(const char *backend);
/** The key of the running backend at an address; NULL: nobody is there. */
const char *sim_runtime_key_at(const char *address);

/* ---- what must hold: invariants.c ---- */

void sim_check_started(
	struct sim_machine *machine, const char *backend, const char *key, int64_t fencing_token);
/** The store has put a backend on a drone, newly or after a refusal. */
void sim_check_placed(const char *backend);
/** May act from now on: at most one of a key may. */
void sim_check_acting(const struct sim_sandbox *sandbox);
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool sim_is_tracing(void);

/* ---- options and broken variants: main.c ---- */

enum sim_mutant {
	SIM_MUTANT_NONE,
	SIM_MUTANT_NO_MARGIN,
	SIM_MUTANT_BREAKS_EARLY,
	SIM_MUTANT_COUNTS_FROM_ANSWER,
	SIM_MUTANT_UNSYNCED_ACK,
	SIM_MUTANT_FORGETFUL_JOURNAL,
	SIM_MUTANT_DROPPED_EVENTS,
	SIM_MUTANT_IDLE_SHIM,
	SIM_MUTANT_FORGOTTEN_ID,
	SIM_MUTANT_LOST_NEWS,
	SIM_MUTANT_FORGOTTEN_REFUSALS,
	SIM_MUTANT_SHORT_KEY_LEASES,
	SIM_MUTANT_RENEWS_BROKEN,
	SIM_MUTANT_DROPPED_ORDERS,
	SIM_MUTANT_ANY_STATE,
	SIM_MUTANT_SAME_TOKEN,
	SIM_MUTANT_STOLEN_KEY,
	SIM_MUTANT_KEPT_TOKENS,
	SIM_MUTANT_FORGOTTEN_ENDS,
	SIM_MUTANT_BREAKS_RENEWED,
	SIM_MUTANT_PLACES_ON_DRAINED,
	SIM_MUTANT_DROPPED_ENDS,
	SIM_MUTANT_SHORT_HISTORY,
	SIM_MUTANT_KEPT_REVOKED,
	SIM_MUTANT_UNTOLD_REVOCATIONS,
	SIM_MUTANT_NO_RECOVERY,
	SIM_MUTANT_COUNT,
};

struct sim_options {
	uint64_t seed;
	bool is_tracing, is_scale;
	enum sim_mutant mutant;
	int controllers, drones, proxies, keys;
	int64_t faults_until; /* virtual time */
	bool has_power_cuts;
	bool has_originals; /* some drones speak as the original's do, at times */
};
extern struct sim_options sim_options;

/* cluster.c: who is there */
void sim_cluster_run(void);
/** A hundred times as many nodes and a hundred thousand times as many keys, and few faults. */
void sim_cluster_run_scale(void);
/** A controller that connections may go to, by chance, or NULL. */
struct sim_process *sim_cluster_pick_controller(void);

#endif
