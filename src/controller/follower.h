/* Follows what other controllers do, and notifies them of what this one does: a thread beside the
 * loop, with the store's feed. What it reads goes into the hub as if it had happened here. */
#ifndef PLANE_CONTROLLER_FOLLOWER_H
#define PLANE_CONTROLLER_FOLLOWER_H

#include "controller/hub.h"
#include "controller/metrics.h"
#include "store/store.h"

struct plane_follower;

/**
 * Follows `store`, which is shared, from now on, for the controller of this name; whatever is
 * published in `hub` from now on is notified. It looks every `poll_ms` even when nobody notifies:
 * notifications can be lost. All are borrowed until it is destroyed. NULL with `err` when the store
 * cannot be followed.
 */
struct plane_follower *plane_follower_create(struct plane_store *store, const char *controller,
	int poll_ms, struct plane_hub *hub, struct plane_metrics *metrics, struct plane_error *err);
/** Ends the thread; waits for a call on the store that it is in. NULL is fine. */
void plane_follower_destroy(struct plane_follower *follower);

#endif
