/* `plane run-config FILE.json`: one role as a JSON file says (reference section 8). */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/capacity_flags.h"
#include "cli/commands.h"
#include "cli/credentials.h"
#include "cli/flags.h"
#include "cli/paths.h"
#include "cli/roles.h"

#define MAX_FILE ((size_t)1 << 20)

/* What cannot be done is an error, not a silence: a proxy without the TLS that the file asks for
 * would be a surprise. */
static int refuse_if_set(const json_t *object, const char *name, struct plane_error *err)
{
	const json_t *value = json_object_get(object, name);
	if (!value || json_is_null(value))
		return 0;
	return plane_error_set(err, ENOTSUP, "%s: this version has no support for it", name);
}

struct file_field {
	const char *name;
	const char **target;
};

static int read_files(
	const json_t *json, const struct file_field *fields, size_t count, struct plane_error *err)
{
	int result = 0;
	for (size_t i = 0; result == 0 && i < count; i++)
		result = plane_json_get_text(
			json, fields[i].name, PLANE_JSON_OPTIONAL, fields[i].target, err);
	return result;
}

static int read_credentials(const json_t *json, struct plane_controller_credentials *credentials,
	struct plane_error *err)
{
	const struct file_field fields[] = {
		{ "controller_token_file", &credentials->token_file },
		{ "tls_ca", &credentials->tls.authorities },
		{ "tls_pin", &credentials->tls.pinned },
		{ "tls_cert", &credentials->tls.certificate },
		{ "tls_key", &credentials->tls.key },
	};
	return read_files(json, fields, sizeof(fields) / sizeof(fields[0]), err);
}

static int read_server_tls(
	const json_t *json, struct plane_controller_config *config, struct plane_error *err)
{
	const struct file_field fields[] = {
		{ "tls_cert", &config->tls.certificate },
		{ "tls_key", &config->tls.key },
		{ "tls_client_ca", &config->tls.client_authorities },
		{ "forward_auth_ca", &config->forward_auth_tls.authorities },
		{ "forward_auth_cert", &config->forward_auth_tls.certificate },
		{ "forward_auth_key", &config->forward_auth_tls.key },
		{ "advertise_url", &config->advertise_url },
		{ "allow_host", &config->allowed_hosts },
		{ "peer_ca", &config->peer_tls.authorities },
		{ "peer_cert", &config->peer_tls.certificate },
		{ "peer_key", &config->peer_tls.key },
	};
	int result = read_files(json, fields, sizeof(fields) / sizeof(fields[0]), err);
	return result < 0
		       ? result
		       : plane_json_get_bool(json, "tls_require_client_cert", PLANE_JSON_OPTIONAL,
				 &config->tls.requires_client_certificate, err);
}

static int run_controller(const json_t *json, struct plane_error *err)
{
	struct plane_controller_config config = plane_controller_config_defaults;
	int64_t min_age = -1, batch = config.cleanup_batch_size, best_of = 0;
	const char *token_file = NULL;
	int result = plane_json_get_text(json, "db_url", PLANE_JSON_REQUIRED, &config.db_url, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "bind_addr", PLANE_JSON_REQUIRED, &config.listen, err);
	if (result == 0)
		result = plane_json_get_text(json, "id", PLANE_JSON_REQUIRED, &config.id, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "controller_url", PLANE_JSON_REQUIRED, &config.controller_url, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "default_cluster", PLANE_JSON_OPTIONAL, &config.default_cluster, err);
	if (result == 0)
		result = plane_json_get_int(
			json, "cleanup_min_age_days", PLANE_JSON_OPTIONAL, 0, 36500, &min_age, err);
	if (result == 0)
		result = plane_json_get_int(
			json, "cleanup_batch_size", PLANE_JSON_OPTIONAL, 1, 100000, &batch, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "forward_auth", PLANE_JSON_OPTIONAL, &config.forward_auth, err);
	if (result == 0)
		result = plane_json_get_int(
			json, "best_of", PLANE_JSON_REQUIRED, 1, 1000, &best_of, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "api_token_file", PLANE_JSON_OPTIONAL, &token_file, err);
	if (result == 0)
		result = plane_json_get_bool(
			json, "insecure_no_auth", PLANE_JSON_OPTIONAL, &config.is_insecure, err);
	if (result == 0)
		result = read_server_tls(json, &config, err);
	if (result < 0)
		return result;
	config.cleanup_min_age_days = (int)min_age;
	config.cleanup_batch_size = (int)batch;
	config.best_of = (int)best_of;
	const char *token_files[] = { token_file, NULL };
	config.api_token_files = token_files;
	return plane_role_controller(&config);
}

/* The settings of Docker that mean something to sandboxes of our own. */
static int read_executor(
	const json_t *json, struct plane_drone_config *config, struct plane_error *err)
{
	json_t *executor = NULL, *docker = NULL;
	int result =
		plane_json_get_object(json, "executor_config", PLANE_JSON_OPTIONAL, &executor, err);
	if (result < 0 || (result = refuse_if_set(executor, "unix_socket", err)) < 0)
		return result;
	result = executor ? plane_json_get_object(
				    executor, "docker", PLANE_JSON_OPTIONAL, &docker, err)
			  : plane_json_get_object(
				    json, "docker_config", PLANE_JSON_OPTIONAL, &docker, err);
	if (result < 0 || !docker)
		return result;
	if ((result = refuse_if_set(docker, "runtime", err)) < 0 ||
		(result = refuse_if_set(docker, "log_config", err)) < 0)
		return plane_error_prefix(err, "docker");
	return plane_json_get_text(
		docker, "mount_base", PLANE_JSON_OPTIONAL, &config->mount_base, err);
}

/* "ip" is the original's; "backend_ports" and "proxy_allow" (a list of texts) are ours. */
static int read_publish(const json_t *json, struct plane_network_publish *publish,
	bool *is_published, struct plane_error *err)
{
	const char *ip = NULL, *ports = NULL, *allowed[PLANE_NETWORK_ALLOWED_MAX + 2] = { 0 };
	json_t *list = NULL, *item;
	size_t i;
	int result = plane_json_get_text(json, "ip", PLANE_JSON_OPTIONAL, &ip, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "backend_ports", PLANE_JSON_OPTIONAL, &ports, err);
	if (result == 0)
		result = plane_json_get_any(json, "proxy_allow", PLANE_JSON_OPTIONAL, &list, err);
	if (result < 0)
		return result;
	if (list && !json_is_array(list))
		return plane_error_set(err, EINVAL, "proxy_allow: expected a list of networks");
	json_array_foreach (list, i, item) {
		if (i > PLANE_NETWORK_ALLOWED_MAX)
			break; /* one too many is told by who reads them */
		allowed[i] = json_string_value(item);
		if (!allowed[i])
			return plane_error_set(err, EINVAL, "proxy_allow: expected texts");
	}
	return plane_network_publish_read(ip, ports, allowed, publish, is_published, err);
}

/* Ours, as texts: "memory_bytes", "cpus", "overcommit_memory", "overcommit_cpu". */
static int read_capacity(
	const json_t *json, struct plane_drone_config *config, struct plane_error *err)
{
	struct plane_capacity_words words = { 0 };
	const struct {
		const char *name;
		const char **text;
	} fields[] = { { "memory_bytes", &words.memory_bytes }, { "cpus", &words.cpus },
		{ "overcommit_memory", &words.overcommit_memory },
		{ "overcommit_cpu", &words.overcommit_cpu } };
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (plane_json_get_text(
			    json, fields[i].name, PLANE_JSON_OPTIONAL, fields[i].text, err) < 0)
			return err->code;
	return plane_capacity_words_read(&words, &config->capacity, err);
}

static int run_drone(const json_t *json, struct plane_error *err)
{
	struct plane_drone_config config = plane_drone_config_defaults;
	struct plane_network_publish publish;
	bool is_published = false;
	int result = plane_json_get_text(json, "name", PLANE_JSON_REQUIRED, &config.name, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "controller_url", PLANE_JSON_REQUIRED, &config.controller_url, err);
	if (result == 0)
		result = read_credentials(json, &config.credentials, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "cluster", PLANE_JSON_REQUIRED, &config.cluster, err);
	if (result == 0)
		result = plane_json_get_text(json, "pool", PLANE_JSON_REQUIRED, &config.pool, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "db_path", PLANE_JSON_OPTIONAL, &config.db_path, err);
	if (result == 0)
		result = read_executor(json, &config, err);
	if (result == 0)
		result = read_publish(json, &publish, &is_published, err);
	if (result == 0)
		result = read_capacity(json, &config, err);
	if (result < 0)
		return result;
	config.publish = is_published ? &publish : NULL;
	_cleanup_free_ char *data_dir = plane_data_dir(NULL, err);
	if (!data_dir)
		return err->code;
	_cleanup_free_ char *drone_dir = plane_drone_dir(data_dir);
	_cleanup_free_ char *images_dir = plane_images_dir(data_dir);
	plane_credentials_complete(&config.credentials);
	config.data_dir = drone_dir;
	config.images_dir = images_dir;
	return plane_role_drone(&config);
}

static int run_proxy(const json_t *json, struct plane_error *err)
{
	struct plane_proxy_config config = plane_proxy_config_defaults;
	json_t *ports = NULL;
	int64_t port = 0;
	int result = plane_json_get_text(json, "name", PLANE_JSON_REQUIRED, &config.name, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "controller_url", PLANE_JSON_REQUIRED, &config.controller_url, err);
	if (result == 0)
		result = read_credentials(json, &config.credentials, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "cluster", PLANE_JSON_REQUIRED, &config.cluster, err);
	if (result == 0)
		result = plane_json_get_text(json, "root_redirect_url", PLANE_JSON_OPTIONAL,
			&config.root_redirect_url, err);
	if (result == 0)
		result = plane_json_get_object(
			json, "port_config", PLANE_JSON_REQUIRED, &ports, err);
	if (result == 0)
		result = plane_json_get_int(
			ports, "http_port", PLANE_JSON_REQUIRED, 0, 65535, &port, err);
	if (result == 0)
		result = refuse_if_set(ports, "https_port", err);
	if (result == 0)
		result = refuse_if_set(json, "acme_config", err);
	if (result == 0)
		result = refuse_if_set(json, "cert_path", err);
	if (result < 0)
		return result;
	plane_credentials_complete(&config.credentials);
	_cleanup_free_ char *listen = plane_strdupf("0.0.0.0:%d", (int)port);
	config.listen = listen;
	return plane_role_proxy(&config);
}

static int run_role(const json_t *json, struct plane_error *err)
{
	static const struct {
		const char *tag;
		int (*run)(const json_t *json, struct plane_error *err);
	} roles[] = { { "Controller", run_controller }, { "Drone", run_drone },
		{ "Proxy", run_proxy } };
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		const json_t *content = json_object_get(json, roles[i].tag);
		if (content && json_object_size(json) == 1 && json_is_object(content)) {
			int result = roles[i].run(content, err);
			return result < 0 ? plane_error_prefix(err, "%s", roles[i].tag) : result;
		}
	}
	return plane_error_set(err, EINVAL,
		"expected one object: {\"Controller\": {...}}, {\"Drone\": {...}} or "
		"{\"Proxy\": {...}}");
}

static int run_file(const char *path)
{
	struct plane_error err = { 0 };
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	if (plane_file_read(path, MAX_FILE, &text, &err) < 0)
		return plane_fail("%s", err.message);
	_cleanup_json_ json_t *json = plane_json_parse(plane_buffer_text(&text), text.len, &err);
	int result = json ? run_role(json, &err) : err.code;
	return result < 0 ? plane_fail("%s: %s", path, err.message) : result;
}

int plane_command_run_config(int argc, char **argv)
{
	const char *words[PLANE_COMMAND_WORDS_MAX + 1];
	const struct plane_command command = {
		.usage = "plane run-config FILE.json",
		.summary = "Runs one role as a JSON file says. The drone's data directory is "
			   "$PLANE_DATA_DIR or the default one.",
		.examples = "  {\"Proxy\": {\"name\": \"px-1\", \"controller_url\": "
			    "\"http://127.0.0.1:8080\",\n"
			    "             \"cluster\": \"localhost:9090\", \"port_config\": "
			    "{\"http_port\": 9090}}}\n",
		.min_words = 1,
		.max_words = 1,
	};
	int status = plane_command_parse(&command, argc, argv, words);
	if (status >= 0)
		return status;
	if (!plane_text_ends_with(words[0], ".json"))
		return plane_fail("%s: the file's name must end in .json", words[0]);
	return run_file(words[0]);
}
