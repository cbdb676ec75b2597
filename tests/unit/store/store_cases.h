/* What suites of the store share: an empty store of one of its kinds for each case, with one
 * controller, and short ways to use it. All of it fails the case when it cannot be done. */
#ifndef TESTS_UNIT_STORE_STORE_CASES_H
#define TESTS_UNIT_STORE_STORE_CASES_H

#include "../cmocka_all.h"

#include "sim/memory_store.h"
#include "store/store.h"

#define LONG_MS 3600000 /* nothing in these cases takes so long */

enum implementation { SQLITE, POSTGRES, MEMORY };

extern enum implementation implementation; /* of the cases that are run next */
extern struct plane_store *store;
extern struct memory_database *database; /* of MEMORY */
extern char store_directory[64];         /* for files; SQLite's is "db" there */

/** For POSTGRES the server must run. */
void set_up_store(void);
/** The teardown of a case. */
int tear_down_store(void **state);
/** Opens the store that there is, after plane_store_close. */
void open_store(void);

/** Of cluster c:1, without pool, at controller co-a; gives its id. `connection` may be NULL. */
int64_t connect_drone_as(const char *name, bool has_lease, int64_t *connection);
int64_t connect_drone(const char *name); /* without leases */
/** Asks for a lease, whatever comes of it; `last_epoch` is `epoch`. */
struct plane_store_renewal ask(int64_t drone, int64_t epoch, const char *journal);
/** The epoch that is granted. */
int64_t granted(int64_t drone, int64_t epoch, const char *journal);
/** As it is; zeros when none is held. */
struct plane_store_lease lease_of(int64_t drone);
bool break_lease(const struct plane_store_lease *lease);

/** Needs backend, key_name, drone_id, lease_epoch, lease_ms; action and the rest are filled in. The
 *  caller frees the message. */
int spawn_as(struct plane_store_spawn order, struct plane_store_spawned *spawned);
/** A connect without a token; plane_store_drones_finish frees it. `key` NULL: none. */
struct plane_store_connection look(const char *key, int64_t lease_healthy_ms);
bool is_live(const char *key);
/** How many orders there are for the drone. */
size_t pending(int64_t drone);
/** False when it is no step forward. */
bool reports(int64_t drone, const char *backend, enum plane_backend_status status);

#endif
