/* Since when a recovery is seen, and for how long it goes on. */
#include "controller/recovery.h"

int64_t plane_recovery_observe(struct plane_recovery *recovery,
	const struct plane_store_leases *leases, int64_t now_ms,
	const struct plane_lease_constants *drone_lease,
	const struct plane_lease_constants *key_lease)
{
	int64_t longest_ms = drone_lease->expire_ms;
	if (leases->recovering_since_ms != recovery->since_ms ||
		leases->incarnation != recovery->incarnation)
		*recovery = (struct plane_recovery){ .incarnation = leases->incarnation,
			.since_ms = leases->recovering_since_ms,
			.seen_at_ms = now_ms };
	if (recovery->since_ms == 0)
		return 0;
	if (leases->has_key_leases && key_lease->expire_ms > longest_ms)
		longest_ms = key_lease->expire_ms;
	for (size_t i = 0; i < leases->count; i++)
		if (leases->entries[i].expire_ms > longest_ms)
			longest_ms = leases->entries[i].expire_ms;
	return recovery->seen_at_ms + longest_ms;
}
