/* A store in memory, for tests and the simulator: does what store.h says, and forgets all when the
 * process ends. The suite in tests/unit/store/ holds it to the same as SQLite and PostgreSQL. */
#ifndef PLANE_SIM_MEMORY_STORE_H
#define PLANE_SIM_MEMORY_STORE_H

#include "store/store.h"

/** What stays when a store is closed; any number of stores may be open on it. */
struct memory_database;

/** The clock of the database, which may be set back: the store's time stands still then. */
struct memory_clock {
	int64_t (*now_ms)(void *data);
	void *data;
};

/** Never fails. */
struct memory_database *memory_database_create(const struct memory_clock *clock);
/** After all stores on it are closed. NULL is fine. */
void memory_database_destroy(struct memory_database *database);
/** What is called with the names of backends that were forgotten; NULL: nobody wants to know. */
typedef void (*memory_forgotten_fn)(const char *backend);
/** Another server has taken over, with another clock perhaps, which does not know the backends that
 *  were started in the last `forget_ms` and run: leases are watched from anew, and the store
 *  recovers. */
void memory_database_fail_over(
	struct memory_database *database, int64_t forget_ms, memory_forgotten_fn forgotten);

/** Thread-safe as any store. Never fails. */
struct plane_store *memory_store_open(struct memory_database *database);

/* ---- for invariants: what the database holds ---- */

struct memory_seen_backend {
	const char *name, *key; /* valid until the next change */
	enum plane_backend_status status;
	int64_t lease_epoch, fencing_token; /* token 0: it holds no key any more */
	const char *drone;
	int pending_orders;
	unsigned states; /* that it has had: 1 << (status / 5) */
};
/** All backends, ended ones too, in the order of their making. */
void memory_database_each(struct memory_database *database,
	void (*each)(void *data, const struct memory_seen_backend *backend), void *data);
/** False for one that it does not know. */
bool memory_database_find(
	struct memory_database *database, const char *name, struct memory_seen_backend *backend);

/** The faults that a store may be made to have, so that what finds them can be tested. */
enum memory_fault {
	MEMORY_FAULT_NONE,
	MEMORY_FAULT_RENEW_BROKEN,  /* any epoch is renewed */
	MEMORY_FAULT_DROP_ORDERS,   /* orders count as acknowledged at once */
	MEMORY_FAULT_ANY_STATE,     /* a state may go back */
	MEMORY_FAULT_SAME_TOKEN,    /* fencing tokens do not grow */
	MEMORY_FAULT_STEAL_KEY,     /* a key is given away though its lease is live */
	MEMORY_FAULT_KEEP_TOKENS,   /* tokens of a backend that has ended lead to who has its key */
	MEMORY_FAULT_FORGET_ENDS,   /* reports of ends are taken and not stored */
	MEMORY_FAULT_BREAK_RENEWED, /* a lease is broken though it was renewed meanwhile */
	MEMORY_FAULT_IGNORE_DRAIN,  /* a drone that drains gets what was placed before */
	MEMORY_FAULT_DROP_ENDS,     /* orders to end count as acknowledged at once */
	MEMORY_FAULT_SHORT_HISTORY, /* a backend's history is its last state */
	MEMORY_FAULT_KEEP_REVOKED,  /* revoked tokens stay */
	MEMORY_FAULT_UNTOLD_REVOCATIONS, /* who asks for revocations hears of none */
	MEMORY_FAULT_NO_RECOVERY,        /* nothing waits for what was forgotten */
};
void memory_database_set_fault(struct memory_database *database, enum memory_fault fault);

#endif
