/* Runs a controller from flags, for tests: times that users cannot set can be set here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "controller/api.h"
#include "controller/controller.h"

#define TOKEN_FILES_MAX 4

static const char *token_files[TOKEN_FILES_MAX + 1];
static int token_file_count;

static void apply(struct plane_controller_config *config, const char *flag, const char *value)
{
	if (strcmp(flag, "--db") == 0)
		config->db_url = value;
	else if (strcmp(flag, "--listen") == 0)
		config->listen = value;
	else if (strcmp(flag, "--controller-url") == 0)
		config->controller_url = value;
	else if (strcmp(flag, "--advertise-url") == 0)
		config->advertise_url = value;
	else if (strcmp(flag, "--default-cluster") == 0)
		config->default_cluster = value;
	else if (strcmp(flag, "--forward-auth") == 0)
		config->forward_auth = value;
	else if (strcmp(flag, "--api-token-file") == 0)
		token_files[token_file_count < TOKEN_FILES_MAX ? token_file_count++ : 0] = value;
	else if (strcmp(flag, "--forward-auth-ca") == 0)
		config->forward_auth_tls.authorities = value;
	else if (strcmp(flag, "--forward-auth-cert") == 0)
		config->forward_auth_tls.certificate = value;
	else if (strcmp(flag, "--forward-auth-key") == 0)
		config->forward_auth_tls.key = value;
	else if (strcmp(flag, "--peer-ca") == 0)
		config->peer_tls.authorities = value;
	else if (strcmp(flag, "--peer-cert") == 0)
		config->peer_tls.certificate = value;
	else if (strcmp(flag, "--peer-key") == 0)
		config->peer_tls.key = value;
	else if (strcmp(flag, "--tls-cert") == 0)
		config->tls.certificate = value;
	else if (strcmp(flag, "--tls-key") == 0)
		config->tls.key = value;
	else if (strcmp(flag, "--tls-client-ca") == 0)
		config->tls.client_authorities = value;
	else if (strcmp(flag, "--tls-require-client-cert") == 0)
		config->tls.requires_client_certificate = strcmp(value, "yes") == 0;
	else if (strcmp(flag, "--allow-host") == 0)
		config->allowed_hosts = value;
	else if (strcmp(flag, "--insecure-no-auth") == 0)
		config->is_insecure = strcmp(value, "yes") == 0;
	else if (strcmp(flag, "--synchronous-standbys") == 0)
		config->are_standbys_synchronous = strcmp(value, "yes") == 0;
	else if (strcmp(flag, "--id") == 0)
		config->id = value;
	else if (strcmp(flag, "--grace-ms") == 0)
		config->termination_grace_ms = atoi(value);
	else if (strcmp(flag, "--tick-ms") == 0)
		config->action_tick_ms = atoi(value);
	else if (strcmp(flag, "--poll-ms") == 0)
		config->feed_poll_ms = atoi(value);
	else if (strcmp(flag, "--registrations-ms") == 0)
		config->registrations_check_ms = atoi(value);
	else if (strcmp(flag, "--lost-ms") == 0)
		config->assume_lost_ms = atoi(value);
	else if (strcmp(flag, "--drone-lease-ms") == 0)
		config->drone_lease = plane_lease_constants_scale(atoi(value));
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

/* "METHOD PATTERN SCOPE", one a line. */
static int print_routes(void)
{
	size_t count;
	const struct plane_api_route *routes = plane_api_routes(&count);
	for (size_t i = 0; i < count; i++) {
		const char *scope = routes[i].scopes == PLANE_API_PUBLIC
					    ? "public"
					    : plane_scope_text(routes[i].scopes);
		printf("%s %s %s\n", routes[i].method, routes[i].pattern, scope ? scope : "?");
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct plane_controller_config config = plane_controller_config_defaults;
	struct plane_error err = { 0 };
	plane_log_init("controller", PLANE_LOG_DEBUG, PLANE_LOG_PRETTY);
	config.ready_fd = dup(STDOUT_FILENO); /* it is closed; the standard streams stay open */
	if (argc == 2 && strcmp(argv[1], "--routes") == 0)
		return print_routes();
	for (int i = 1; i + 1 < argc; i += 2)
		apply(&config, argv[i], argv[i + 1]);
	config.api_token_files = token_files;
	if (plane_controller_run(&config, &err) < 0) {
		fprintf(stderr, "error: %s\n", err.message);
		return 1;
	}
	return 0;
}
