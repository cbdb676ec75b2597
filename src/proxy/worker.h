/* One worker: a thread with an epoll loop, a listening socket of its own and the connections that
 * it accepted there. Nothing but the route table is shared between workers. */
#ifndef PLANE_PROXY_WORKER_H
#define PLANE_PROXY_WORKER_H

#include <pthread.h>

#include "proxy/shared.h"

struct plane_worker;

/** Listens on `address` (port 0: `*bound` says which one; another worker's port otherwise). */
struct plane_worker *plane_worker_create(struct plane_proxy_shared *shared,
	const struct sockaddr_storage *address, struct plane_error *err);
/** Only when it does not run. */
void plane_worker_destroy(struct plane_worker *worker);

void plane_worker_address(const struct plane_worker *worker, struct sockaddr_storage *address);

int plane_worker_start(struct plane_worker *worker, struct plane_error *err);
/** No new connections; returns at once. The thread ends when requests are done, or at the end of
 *  the grace time. Any thread. */
void plane_worker_stop(struct plane_worker *worker);
void plane_worker_join(struct plane_worker *worker);

/** Cuts what `user` has open at `backend`. Any thread; takes effect at once. */
void plane_worker_revoke(struct plane_worker *worker, const char *backend, const char *user);

#endif
