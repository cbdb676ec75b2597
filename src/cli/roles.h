/* From flags or a configuration file to a running role. */
#ifndef PLANE_CLI_ROLES_H
#define PLANE_CLI_ROLES_H

#include "controller/controller.h"
#include "drone/drone.h"
#include "proxy/proxy.h"

/** Each starts the log, runs the role to its end and returns the exit status. */
int plane_role_controller(const struct plane_controller_config *config);
int plane_role_drone(const struct plane_drone_config *config);
int plane_role_proxy(const struct plane_proxy_config *config);

#endif
