/* Runs a controller from flags, for tests: times that users cannot set can be set here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "controller/controller.h"

static void apply(struct plane_controller_config *config, const char *flag, const char *value)
{
	if (strcmp(flag, "--db") == 0)
		config->db_url = value;
	else if (strcmp(flag, "--listen") == 0)
		config->listen = value;
	else if (strcmp(flag, "--controller-url") == 0)
		config->controller_url = value;
	else if (strcmp(flag, "--default-cluster") == 0)
		config->default_cluster = value;
	else if (strcmp(flag, "--forward-auth") == 0)
		config->forward_auth = value;
	else if (strcmp(flag, "--id") == 0)
		config->id = value;
	else if (strcmp(flag, "--grace-ms") == 0)
		config->termination_grace_ms = atoi(value);
	else if (strcmp(flag, "--lost-ms") == 0)
		config->assume_lost_ms = atoi(value);
	else if (strcmp(flag, "--lease-ms") == 0) {
		int expire_ms = atoi(value);
		config->lease.renew_ms = expire_ms / 2;
		config->lease.soft_terminate_ms = expire_ms * 2 / 3;
		config->lease.hard_terminate_ms = expire_ms * 5 / 6;
		config->lease.expire_ms = expire_ms;
	} else {
		fprintf(stderr, "unknown flag %s\n", flag);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct plane_controller_config config = plane_controller_config_defaults;
	struct plane_error err = { 0 };
	plane_log_init("controller", PLANE_LOG_DEBUG, PLANE_LOG_PRETTY);
	config.ready_fd = dup(STDOUT_FILENO); /* it is closed; the standard streams stay open */
	for (int i = 1; i + 1 < argc; i += 2)
		apply(&config, argv[i], argv[i + 1]);
	if (plane_controller_run(&config, &err) < 0) {
		fprintf(stderr, "error: %s\n", err.message);
		return 1;
	}
	return 0;
}
