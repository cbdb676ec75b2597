/* `plane controller`, `plane drone`, `plane proxy`, `plane migrate`: the reference's flags, and
 * ours. */
#include "cli/roles.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "cli/capacity_flags.h"
#include "cli/commands.h"
#include "cli/credentials.h"
#include "cli/flags.h"
#include "cli/paths.h"
#include "cli/times.h"
#include "store/store.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define READY_FD                                                                                   \
	"ready-fd", PLANE_FLAG_INT, &ready_fd, "FD",                                               \
		"write a line \"ready ...\" to this descriptor once it serves", 3, 1023

int plane_role_controller(const struct plane_controller_config *config)
{
	struct plane_error err = { 0 };
	plane_log_start("controller");
	return plane_controller_run(config, &err) < 0 ? plane_fail("%s", err.message) : 0;
}

int plane_role_drone(const struct plane_drone_config *config)
{
	struct plane_error err = { 0 };
	plane_log_start("drone");
	return plane_drone_run(config, &err) < 0 ? plane_fail("%s", err.message) : 0;
}

int plane_role_proxy(const struct plane_proxy_config *config)
{
	struct plane_error err = { 0 };
	plane_log_start("proxy");
	return plane_proxy_run(config, &err) < 0 ? plane_fail("%s", err.message) : 0;
}

int plane_command_controller(int argc, char **argv)
{
	struct plane_controller_config config = plane_controller_config_defaults;
	const char *host = "127.0.0.1";
	struct plane_flag_list token_files = { .count = 0 };
	int64_t port = 8080, min_age = -1, best_of = config.best_of, ready_fd = -1;
	struct plane_time_flags times = PLANE_TIME_FLAGS_NONE;
	const struct plane_flag flags[] = {
		{ "db", PLANE_FLAG_TEXT, &config.db_url, "URL",
			"the store: sqlite:PATH or postgres://...", .is_required = true },
		{ "synchronous-standbys", PLANE_FLAG_BOOL, &config.are_standbys_synchronous, NULL,
			"its standbys are synchronous: no key waits after a failover" },
		{ "host", PLANE_FLAG_TEXT, &host, "IP", "listen on (default: 127.0.0.1)" },
		{ "port", PLANE_FLAG_INT, &port, "PORT", "listen on (default: 8080)", 0, 65535 },
		{ "controller-url", PLANE_FLAG_TEXT, &config.controller_url, "URL",
			"under which clients reach it (default: http://HOST:PORT)" },
		{ "advertise-url", PLANE_FLAG_TEXT, &config.advertise_url, "URL",
			"under which other controllers reach it (default: they do not)" },
		{ "peer-ca", PLANE_FLAG_TEXT, &config.peer_tls.authorities, "FILE",
			"authorities of other controllers' certificates (default: the system's)" },
		{ "peer-cert", PLANE_FLAG_TEXT, &config.peer_tls.certificate, "FILE",
			"client certificate to show to them" },
		{ "peer-key", PLANE_FLAG_TEXT, &config.peer_tls.key, "FILE", "its key" },
		{ "default-cluster", PLANE_FLAG_TEXT, &config.default_cluster, "CLUSTER",
			"for connect requests that name none" },
		{ "cleanup-min-age-days", PLANE_FLAG_INT, &min_age, "DAYS",
			"forget backends that ended so long ago (default: never)", 0, 36500 },
		{ "forward-auth", PLANE_FLAG_TEXT, &config.forward_auth, "URL",
			"ask this URL whether a request may be served" },
		{ "forward-auth-ca", PLANE_FLAG_TEXT, &config.forward_auth_tls.authorities, "FILE",
			"authorities that its certificate may be of (default: the system's)" },
		{ "forward-auth-cert", PLANE_FLAG_TEXT, &config.forward_auth_tls.certificate,
			"FILE", "client certificate to show to it" },
		{ "forward-auth-key", PLANE_FLAG_TEXT, &config.forward_auth_tls.key, "FILE",
			"its key" },
		{ "api-token-file", PLANE_FLAG_LIST, &token_files, "FILE",
			"who may use the API: made by `plane token create`" },
		{ "tls-cert", PLANE_FLAG_TEXT, &config.tls.certificate, "FILE",
			"HTTPS with this certificate and its chain, instead of HTTP" },
		{ "tls-key", PLANE_FLAG_TEXT, &config.tls.key, "FILE", "its key" },
		{ "tls-client-ca", PLANE_FLAG_TEXT, &config.tls.client_authorities, "FILE",
			"authorities of client certificates, which may be shown instead of a "
			"token" },
		{ "tls-require-client-cert", PLANE_FLAG_BOOL,
			&config.tls.requires_client_certificate, NULL,
			"refuse connections without one" },
		{ "allow-host", PLANE_FLAG_TEXT, &config.allowed_hosts, "NAME[,NAME]",
			"at which clients reach it on loopback (default: localhost, and that of "
			"--controller-url)" },
		{ "insecure-no-auth", PLANE_FLAG_BOOL, &config.is_insecure, NULL,
			"let everybody use the API, on any address" },
		{ "best-of", PLANE_FLAG_INT, &best_of, "N",
			"drones drawn for each new backend (default: 2)", 1, 1000 },
		{ "id", PLANE_FLAG_TEXT, &config.id, "co-NAME", "its name (default: random)" },
		PLANE_TIME_FLAGS(times),
		{ READY_FD },
	};
	const struct plane_command command = {
		.usage = "plane controller --db URL [flags]",
		.summary = "Runs a controller: the HTTP API, keys, placement.",
		.examples = "  plane controller --db sqlite:/var/lib/plane/controller.db "
			    "--default-cluster localhost:9090\n",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_command_parse(&command, argc, argv, NULL);
	if (status >= 0)
		return status;
	_cleanup_free_ char *listen =
		plane_strdupf(strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, (int)port);
	config.listen = listen;
	config.cleanup_min_age_days = (int)min_age;
	config.best_of = (int)best_of;
	config.api_token_files = token_files.values;
	plane_times_apply(&times, &config);
	config.ready_fd = (int)ready_fd;
	return plane_role_controller(&config);
}

static int read_egress(const char *text, enum plane_network_egress *egress)
{
	if (strcmp(text, "nat") == 0)
		*egress = PLANE_NETWORK_EGRESS_NAT;
	else if (strcmp(text, "none") == 0)
		*egress = PLANE_NETWORK_EGRESS_NONE;
	else
		return -EINVAL;
	return 0;
}

/* Directories of the drone that were not given. */
struct drone_directories {
	char *data_dir, *drone_dir, *images_dir;
};

static int find_directories(struct plane_drone_config *config, const char *data_dir,
	struct drone_directories *found, struct plane_error *err)
{
	found->data_dir = plane_data_dir(data_dir, err);
	if (!found->data_dir)
		return err->code;
	found->drone_dir = plane_drone_dir(found->data_dir);
	found->images_dir = plane_images_dir(found->data_dir);
	config->data_dir = found->drone_dir;
	if (!config->images_dir)
		config->images_dir = found->images_dir;
	return 0;
}

static void directories_finish(struct drone_directories *directories)
{
	free(directories->data_dir);
	free(directories->drone_dir);
	free(directories->images_dir);
}

/* What the drone's flags say in words. */
struct drone_words {
	const char *data_dir, *egress, *ip, *ports;
	struct plane_flag_list proxies;
	struct plane_capacity_words capacity;
};

static int run_drone(struct plane_drone_config *config, const struct drone_words *words)
{
	struct plane_error err = { 0 };
	struct drone_directories directories = { 0 };
	struct plane_network_publish publish;
	bool is_published;
	int status;
	if (read_egress(words->egress, &config->egress) < 0)
		return plane_fail("--egress: expected nat or none");
	if (plane_network_publish_read(words->ip, words->ports, words->proxies.values, &publish,
		    &is_published, &err) < 0)
		return plane_fail("--ip, --backend-ports, --proxy-allow: %s", err.message);
	config->publish = is_published ? &publish : NULL;
	if (plane_capacity_words_read(&words->capacity, &config->capacity, &err) < 0)
		return plane_fail("%s", err.message);
	if (find_directories(config, words->data_dir, &directories, &err) < 0)
		status = plane_fail("%s", err.message);
	else
		status = plane_role_drone(config);
	directories_finish(&directories);
	return status;
}

int plane_command_drone(int argc, char **argv)
{
	struct plane_drone_config config = plane_drone_config_defaults;
	struct drone_words words = { .egress = "nat" };
	int64_t pool_size = 0, ready_fd = -1, grace = config.grace_ms / 1000;
	const struct plane_flag flags[] = {
		{ "controller-url", PLANE_FLAG_TEXT, &config.controller_url, "URL",
			"of the controller; its user part is the bearer token, if there is one",
			.is_required = true },
		PLANE_CREDENTIAL_FLAGS(&config.credentials),
		{ "cluster", PLANE_FLAG_TEXT, &config.cluster, "CLUSTER", "that it belongs to",
			.is_required = true },
		{ "name", PLANE_FLAG_TEXT, &config.name, "dr-NAME",
			"its name (default: made once, kept in the journal)" },
		{ "pool", PLANE_FLAG_TEXT, &config.pool, "POOL", "that it belongs to" },
		{ "data-dir", PLANE_FLAG_TEXT, &words.data_dir, "DIR",
			"journal, logs, images (default: $PLANE_DATA_DIR or /var/lib/plane)" },
		{ "db", PLANE_FLAG_TEXT, &config.db_path, "FILE",
			"the journal (default: in the data directory)" },
		{ "mount-base", PLANE_FLAG_TEXT, &config.mount_base, "DIR",
			"where the directories of backends that ask for one live" },
		{ "egress", PLANE_FLAG_TEXT, &words.egress, "nat|none",
			"what backends may reach outside (default: nat)" },
		{ "ip", PLANE_FLAG_TEXT, &words.ip, "IP",
			"address or name of this machine at which proxies of others reach backends "
			"(default: 127.0.0.1, proxies of this machine only)" },
		{ "backend-ports", PLANE_FLAG_TEXT, &words.ports, "FIRST-LAST",
			"ports of --ip, one for each backend; the same on all drones "
			"(default: " PLANE_NETWORK_PORTS_DEFAULT ")" },
		{ "proxy-allow", PLANE_FLAG_LIST, &words.proxies, "NETWORK",
			"from where these ports may be reached, as 10.1.2.3 or 10.1.0.0/16; may be "
			"given several times (default: private networks)" },
		PLANE_CAPACITY_FLAGS(words.capacity),
		{ "parked", PLANE_FLAG_INT, &pool_size, "N",
			"sandboxes kept ready for the next starts", 1, 256 },
		{ "grace-seconds", PLANE_FLAG_INT, &grace, "S",
			"from SIGTERM to SIGKILL (default: 30)", 0, 3600 },
		{ "metrics-listen", PLANE_FLAG_TEXT, &config.metrics_listen, "IP:PORT",
			"serve GET /metrics here" },
		{ "end-backends", PLANE_FLAG_BOOL, &config.ends_backends_on_sigint, NULL,
			"on SIGINT end all backends and leave nothing on the host" },
		{ READY_FD },
	};
	const struct plane_command command = {
		.usage = "plane drone --controller-url URL --cluster CLUSTER [flags]",
		.summary =
			"Runs a drone: the agent that runs backends on this machine. Needs root.\n"
			"Backends outlive it: a new drone with the same data directory adopts "
			"them.",
		.examples = "  plane drone --controller-url http://127.0.0.1:8080 --cluster "
			    "localhost:9090\n"
			    "  plane drone --controller-url http://10.1.0.2:8080 --cluster "
			    "plane.example.com --ip 10.1.0.7 --proxy-allow 10.1.0.3\n",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_command_parse(&command, argc, argv, NULL);
	if (status >= 0)
		return status;
	plane_credentials_complete(&config.credentials);
	config.pool_size = (unsigned)pool_size;
	config.grace_ms = (int)grace * 1000;
	config.ready_fd = (int)ready_fd;
	return run_drone(&config, &words);
}

int plane_command_proxy(int argc, char **argv)
{
	struct plane_proxy_config config = plane_proxy_config_defaults;
	int64_t port = 9090, workers = config.workers, ready_fd = -1;
	int64_t connections = config.max_connections, head = config.header_timeout_ms / 1000;
	int64_t stall = config.stall_timeout_ms / 1000;
	const char *host = "0.0.0.0";
	const struct plane_flag flags[] = {
		{ "controller-url", PLANE_FLAG_TEXT, &config.controller_url, "URL",
			"of the controller; its user part is the bearer token, if there is one",
			.is_required = true },
		PLANE_CREDENTIAL_FLAGS(&config.credentials),
		{ "cluster", PLANE_FLAG_TEXT, &config.cluster, "CLUSTER", "that it serves",
			.is_required = true },
		{ "name", PLANE_FLAG_TEXT, &config.name, "px-NAME", "its name (default: random)" },
		{ "host", PLANE_FLAG_TEXT, &host, "IP", "listen on (default: 0.0.0.0)" },
		{ "http-port", PLANE_FLAG_INT, &port, "PORT", "listen on (default: 9090)", 0,
			65535 },
		{ "root-redirect-url", PLANE_FLAG_TEXT, &config.root_redirect_url, "URL",
			"where requests for / are sent" },
		{ "workers", PLANE_FLAG_INT, &workers, "N", "threads (default: one a CPU)", 1, 64 },
		{ "max-connections", PLANE_FLAG_INT, &connections, "N",
			"of clients; more get 503 (default: 100000, or as open files allow)", 1,
			10000000 },
		{ "header-timeout-seconds", PLANE_FLAG_INT, &head, "S",
			"for a request's head (default: 30)", 1, 3600 },
		{ "stall-timeout-seconds", PLANE_FLAG_INT, &stall, "S",
			"for a side that neither takes nor sends what it owes (default: 60)", 1,
			86400 },
		{ "metrics-listen", PLANE_FLAG_TEXT, &config.metrics_listen, "IP:PORT",
			"serve GET /metrics here" },
		{ READY_FD },
	};
	const struct plane_command command = {
		.usage = "plane proxy --controller-url URL --cluster CLUSTER [flags]",
		.summary = "Runs a proxy: takes HTTP and WebSocket and passes them on to backends.",
		.examples = "  plane proxy --controller-url http://127.0.0.1:8080 --cluster "
			    "localhost:9090\n",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_command_parse(&command, argc, argv, NULL);
	if (status >= 0)
		return status;
	_cleanup_free_ char *listen =
		plane_strdupf(strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, (int)port);
	plane_credentials_complete(&config.credentials);
	config.listen = listen;
	config.workers = (int)workers;
	config.max_connections = (int)connections;
	config.header_timeout_ms = (int)head * 1000;
	config.stall_timeout_ms = (int)stall * 1000;
	config.ready_fd = (int)ready_fd;
	return plane_role_proxy(&config);
}

int plane_command_migrate(int argc, char **argv)
{
	const char *url = NULL;
	struct plane_error err = { 0 };
	const struct plane_flag flags[] = {
		{ "db", PLANE_FLAG_TEXT, &url, "URL", "the store: sqlite:PATH or postgres://...",
			.is_required = true },
	};
	const struct plane_command command = {
		.usage = "plane migrate --db URL",
		.summary =
			"Brings a store's schema to this version. A controller does so by itself.",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_command_parse(&command, argc, argv, NULL);
	if (status >= 0)
		return status;
	plane_log_start("migrate");
	struct plane_store *store = plane_store_open(url, &err);
	int result = store ? plane_store_migrate(store, &err) : -1;
	plane_store_close(store);
	return result < 0 ? plane_fail("%s", err.message) : 0;
}
