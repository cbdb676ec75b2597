/* Route netlink: batches of requests sent with one system call, lookups and dumps. */
#ifndef PLANE_RUNTIME_NATIVE_NETLINK_H
#define PLANE_RUNTIME_NATIVE_NETLINK_H

#include <libmnl/libmnl.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

/** One socket, bound to the network namespace in which it was opened. One thread at a time. */
struct plane_netlink {
	struct mnl_socket *socket;
	uint32_t sequence;
};

int plane_netlink_open(struct plane_netlink *netlink, struct plane_error *err);
/** Zeroed is fine. */
void plane_netlink_finish(struct plane_netlink *netlink);

#define PLANE_NETLINK_BATCH_MAX 8

/** Up to 8 small requests. Zeroed is empty. */
struct plane_netlink_batch {
	unsigned count;
	size_t len;
	struct nlmsghdr *messages[PLANE_NETLINK_BATCH_MAX];
	_Alignas(8) char bytes[4096];
};

/** A new request (NLM_F_REQUEST and NLM_F_ACK are added) behind the others, now complete. */
struct nlmsghdr *plane_netlink_add(
	struct plane_netlink_batch *batch, uint16_t type, uint16_t flags);

/**
 * Sends all and waits for all answers. The kernel works through the batch even when a request
 * fails; the first failure is reported as "`what`: reason" with the kernel's code.
 */
int plane_netlink_commit(struct plane_netlink *netlink, struct plane_netlink_batch *batch,
	const char *what, struct plane_error *err);

/** Sends one lookup or dump and gives each answer to `answer`. */
int plane_netlink_ask(struct plane_netlink *netlink, struct nlmsghdr *request, mnl_cb_t answer,
	void *data, const char *what, struct plane_error *err);

/** Index of the interface in the socket's namespace, or a negative code (-ENODEV). */
int plane_netlink_index(const struct plane_netlink *netlink, const char *name);

#endif
