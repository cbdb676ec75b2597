/* To which addresses a drone may have proxies sent: whoever has a drone's machine must not have
 * them connect anywhere. Pure. */
#ifndef PLANE_CONTROLLER_BACKEND_RULES_H
#define PLANE_CONTROLLER_BACKEND_RULES_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/error.h"
#include "model/messages.h"

/** Zeroed: of an original drone elsewhere, which has not told an address yet. */
struct plane_backend_rules {
	bool is_own_machine;        /* the drone's is the controller's */
	bool has_ip;                /* the only one that it may tell */
	bool is_registered;         /* it told it itself, with the ports: nobody else may */
	struct sockaddr_storage ip; /* without a port */
	int first_port, last_port;
};

/**
 * Rules for a drone whose handshake says `place`. `only_ip` (an IP address; NULL: none) is what its
 * token is good for. -EACCES with the reason when it may not register there: an address that is
 * nobody's own, loopback or none from another machine, another than `only_ip`. -EINVAL for what is
 * no IP address.
 */
int plane_backend_rules_set(struct plane_backend_rules *rules,
	const struct plane_backend_place *place, bool is_own_machine, const char *only_ip,
	struct plane_error *err);

/**
 * May the drone's backends be at `address`? -EACCES with the reason. It must be where the drone has
 * registered. One that has registered nothing, elsewhere: the first IP address that it tells is
 * the only one from then on. Loopback is for drones of the controller's own machine.
 */
int plane_backend_rules_check(struct plane_backend_rules *rules,
	const struct sockaddr_storage *address, struct plane_error *err);

/** Nothing but the rules says that the address is its own: others may have registered it. */
bool plane_backend_rules_is_unsure(const struct plane_backend_rules *rules);

#endif
