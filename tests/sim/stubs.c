/* What controllers, drones and proxies link to and the simulator has no use for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/random.h"
#include "base/ready.h"
#include "controller/api.h"
#include "controller/forward_auth.h"
#include "controller/guard.h"
#include "drone/log_reader.h"
#include "drone/metrics.h"
#include "runtime/native/disk.h"
#include "sim.h"

/* ---- randomness of the seed ---- */

void plane_random_bytes(void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((unsigned char *)bytes)[i] = (unsigned char)sim_below(256);
}

uint64_t plane_random_below(uint64_t bound)
{
	return sim_below(bound);
}

void plane_random_alphanumeric(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		text[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[sim_below(36)];
	text[len] = '\0';
}

void plane_random_token(char text[PLANE_RANDOM_TOKEN_SIZE])
{
	plane_random_alphanumeric(text, PLANE_RANDOM_TOKEN_SIZE - 1);
}

/* ---- files ---- */

/* Only the boot id is ever read. */
int plane_file_read(
	const char *path, size_t max_bytes, struct plane_buffer *buffer, struct plane_error *err)
{
	(void)path;
	(void)max_bytes;
	(void)err;
	plane_buffer_addf(buffer, "boot-%d", sim_current()->machine->boot_number);
	return 0;
}

int plane_file_make_directories(const char *path, mode_t mode, struct plane_error *err)
{
	(void)path;
	(void)mode;
	(void)err;
	return 0;
}

int64_t plane_disk_remove_logs(const char *directory, int64_t max_bytes,
	bool (*is_known)(void *data, const char *backend), void *data)
{
	(void)directory;
	(void)max_bytes;
	(void)is_known;
	(void)data;
	return 0;
}

void plane_ready_tell(int owned_fd, const char *text)
{
	(void)owned_fd;
	(void)text;
}

/* ---- drones ---- */

int plane_drone_metrics_open(struct plane_drone_metrics **metrics, uv_loop_t *loop,
	const char *listen, struct plane_error *err)
{
	(void)metrics;
	(void)loop;
	(void)listen;
	(void)err;
	return 0;
}

void plane_drone_metrics_close(struct plane_drone_metrics *metrics)
{
	(void)metrics;
}

void plane_drone_metrics_destroy(struct plane_drone_metrics *metrics)
{
	(void)metrics;
}

void plane_drone_metrics_event(struct plane_drone_metrics *metrics)
{
	(void)metrics;
}

void plane_drone_metrics_set(struct plane_drone_metrics *metrics,
	struct plane_supervisor_counts counts, bool is_connected)
{
	(void)metrics;
	(void)counts;
	(void)is_connected;
}

struct plane_log_reader *plane_log_reader_create(uv_loop_t *loop, const char *path,
	const char *backend, int64_t request_id, int64_t tail_lines, bool is_follow,
	const struct plane_log_reader_listener *listener)
{
	(void)loop;
	(void)path;
	(void)backend;
	(void)request_id;
	(void)tail_lines;
	(void)is_follow;
	(void)listener;
	abort(); /* nobody asks for logs */
}

int64_t plane_log_reader_request_id(const struct plane_log_reader *reader)
{
	(void)reader;
	return 0;
}

void plane_log_reader_destroy(struct plane_log_reader *reader)
{
	(void)reader;
}

/* ---- controllers ---- */

int64_t plane_file_raise_limit(void)
{
	return INT32_MAX;
}

void plane_api_handle(
	const struct plane_http_request *request, struct plane_http_response *response)
{
	(void)request;
	(void)response;
	abort(); /* requests go to the functions behind it */
}

bool plane_api_takes_body(const struct plane_http_request *request, size_t *max_body_bytes,
	struct plane_http_response *response)
{
	(void)request;
	(void)max_body_bytes;
	(void)response;
	abort();
}

int plane_api_lane(const struct plane_http_request *request)
{
	(void)request;
	return 0;
}

int plane_guard_check(const struct plane_controller_config *config, struct plane_error *err)
{
	(void)config;
	(void)err;
	return 0;
}

int plane_guard_open(struct plane_controller *controller, struct plane_error *err)
{
	(void)controller;
	(void)err;
	return 0;
}

void plane_guard_start(struct plane_controller *controller)
{
	(void)controller;
}

void plane_guard_stop(struct plane_controller *controller)
{
	(void)controller;
}

void plane_guard_close(struct plane_controller *controller)
{
	(void)controller;
}

SSL_CTX *plane_guard_tls(struct plane_controller *controller)
{
	(void)controller;
	return NULL;
}

void plane_guard_finish(struct plane_controller *controller)
{
	(void)controller;
}

struct plane_forward_auth *plane_forward_auth_create(
	const char *url, const struct plane_tls_client_files *files, struct plane_error *err)
{
	(void)url;
	(void)files;
	(void)err;
	return NULL;
}

void plane_forward_auth_destroy(struct plane_forward_auth *auth)
{
	(void)auth;
}

void plane_access_destroy(struct plane_access *access)
{
	(void)access;
}

bool plane_access_limits(struct plane_access *access, uint64_t ticket, int64_t now_ms,
	struct plane_node_limits *limits)
{
	(void)access;
	(void)ticket;
	(void)now_ms;
	*limits = (struct plane_node_limits){ 0 };
	return true;
}

bool plane_access_is_valid(struct plane_access *access, uint64_t ticket, int64_t now_ms)
{
	(void)access;
	(void)ticket;
	(void)now_ms;
	return true;
}
