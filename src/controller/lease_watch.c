/* What was seen of each drone's lease, and since when it has been so. */
#include "controller/lease_watch.h"

#include <stdbool.h>
#include <stdlib.h>

#include <uthash.h>

#include "base/alloc.h"

#define PERIOD_MAX_MS 1000
#define PERIODS_IN_EXPIRY 8

struct watched {
	struct plane_store_lease lease;
	int64_t since_ms;
	uint64_t round; /* the last one in which it was there */
	UT_hash_handle hh;
};

struct plane_lease_watch {
	struct watched *drones;
	int64_t incarnation;
	uint64_t round;
};

struct plane_lease_watch *plane_lease_watch_create(void)
{
	return PLANE_NEW(struct plane_lease_watch);
}

static void forget(struct plane_lease_watch *watch, struct watched *drone)
{
	HASH_DEL(watch->drones, drone);
	free(drone);
}

void plane_lease_watch_destroy(struct plane_lease_watch *watch)
{
	struct watched *drone, *next;
	if (!watch)
		return;
	HASH_ITER (hh, watch->drones, drone, next)
		forget(watch, drone);
	free(watch);
}

static struct watched *find_or_add(struct plane_lease_watch *watch, int64_t drone_id)
{
	struct watched *drone = NULL;
	HASH_FIND(hh, watch->drones, &drone_id, sizeof(drone_id), drone);
	if (!drone) {
		drone = PLANE_NEW(struct watched);
		drone->lease.drone_id = drone_id;
		HASH_ADD(hh, watch->drones, lease.drone_id, sizeof(drone_id), drone);
	}
	return drone;
}

static bool is_same(const struct plane_store_lease *one, const struct plane_store_lease *two)
{
	return one->epoch == two->epoch && one->renewals == two->renewals;
}

size_t plane_lease_watch_observe(struct plane_lease_watch *watch,
	const struct plane_store_leases *leases, int64_t now_ms, int64_t expire_ms,
	struct plane_store_lease *expired)
{
	struct watched *drone, *next;
	size_t count = 0;
	bool is_other_store = leases->incarnation != watch->incarnation;
	watch->incarnation = leases->incarnation;
	watch->round++;
	for (size_t i = 0; i < leases->count; i++) {
		const struct plane_store_lease *lease = &leases->entries[i];
		drone = find_or_add(watch, lease->drone_id);
		bool is_new = drone->round == 0 || is_other_store;
		if (is_new || !is_same(&drone->lease, lease) || now_ms < drone->since_ms)
			drone->since_ms = now_ms;
		drone->lease = *lease;
		drone->round = watch->round;
		int64_t silent_ms = lease->expire_ms > expire_ms ? lease->expire_ms : expire_ms;
		if (now_ms - drone->since_ms >= silent_ms)
			expired[count++] = *lease;
	}
	HASH_ITER (hh, watch->drones, drone, next)
		if (drone->round != watch->round)
			forget(watch, drone);
	return count;
}

int64_t plane_lease_watch_period_ms(int64_t expire_ms)
{
	int64_t period_ms = expire_ms / PERIODS_IN_EXPIRY;
	if (period_ms < 1)
		return 1;
	return period_ms < PERIOD_MAX_MS ? period_ms : PERIOD_MAX_MS;
}
