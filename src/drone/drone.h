/* The drone: runs the backends that a controller orders, on this machine. This runs one as a whole
 * process. */
#ifndef PLANE_DRONE_DRONE_H
#define PLANE_DRONE_DRONE_H

#include <stdbool.h>

#include "base/error.h"
#include "drone/capacity.h"
#include "net/controller_url.h"
#include "runtime/native/native.h"

/** Everything is borrowed for the whole run. Start from plane_drone_config_defaults. */
struct plane_drone_config {
	const char *controller_url; /* its user part is the bearer token */
	struct plane_controller_credentials credentials;
	const char *cluster;
	const char *pool;     /* "" for the default one */
	const char *name;     /* "dr-..."; NULL: the one in the journal, made at first start */
	const char *data_dir; /* of this drone alone; absolute */
	const char *db_path;  /* the journal; NULL: <data_dir>/drone.db */
	const char *images_dir;
	const char *mount_base;     /* NULL: mounts are ignored with a warning */
	const char *metrics_listen; /* "ip:port" for GET /metrics; NULL: none */
	enum plane_network_egress egress;
	const struct plane_network_publish *publish; /* NULL: proxies are on this machine */
	unsigned pool_size; /* parked sandboxes; 0: the runtime's own choice */
	struct plane_capacity_config capacity;
	int grace_ms;           /* from SIGTERM to SIGKILL */
	int startup_timeout_ms; /* until a backend answers HTTP */
	bool ends_backends_on_sigint;
	int ready_fd; /* gets "ready <name>\n" once connected and warm; -1: none. Closed then. */
};

extern const struct plane_drone_config plane_drone_config_defaults;

/**
 * Runs until SIGTERM or SIGINT and returns 0. Backends run on, for the next drone with this
 * data_dir to adopt; after SIGINT with ends_backends_on_sigint they are ended first, and nothing of
 * the instance is left on the host. Negative with `err` when it cannot start. Call it on the
 * process's main thread, as root; not reentrant.
 */
int plane_drone_run(const struct plane_drone_config *config, struct plane_error *err);

#endif
