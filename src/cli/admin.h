/* What the commands of `plane admin` share: the controller and how to ask it. */
#ifndef PLANE_CLI_ADMIN_H
#define PLANE_CLI_ADMIN_H

#include <stdbool.h>

#include <jansson.h>

#include "base/buffer.h"
#include "base/error.h"
#include "cli/flags.h"
#include "net/controller_url.h"

/** Flags that each command has, and where they go. */
struct plane_admin {
	const char *controller; /* URL; its user part is the bearer token */
	struct plane_controller_credentials credentials;
	bool as_json;
};

/** Parses the command's flags and those of every admin command; -1 to go on. `--controller` may
 *  stand before the command too: plane_admin_defaults has it then. */
int plane_admin_parse(struct plane_admin *admin, const struct plane_command *command, int argc,
	char **argv, const char *words[PLANE_COMMAND_WORDS_MAX + 1]);

/**
 * One request; `body` may be NULL. The answer's JSON, which the caller decrefs, or NULL after an
 * error, which was told on stderr: message, status and id of the controller's error body.
 */
json_t *plane_admin_request(
	const struct plane_admin *admin, const char *method, const char *path, const json_t *body);

/** The same, and the error is the caller's to tell. -EAGAIN: the controller does not answer, or not
 *  now; -EPROTO: it refused. */
json_t *plane_admin_fetch(const struct plane_admin *admin, const char *method, const char *path,
	const json_t *body, struct plane_error *err);

/**
 * A GET whose answer is taken as it comes. `on_text` gets pieces and returns false to end it. 0, or
 * 1 after an error, which was told.
 */
int plane_admin_stream(const struct plane_admin *admin, const char *path,
	bool (*on_text)(void *data, const char *text, size_t len), void *data);

/** A path's segment, percent-encoded. The caller frees it. */
char *plane_admin_encode(const char *text);

/** Appends "&name=value", encoded, to a path; nothing when `value` is NULL. */
void plane_admin_add_query(struct plane_buffer *path, const char *name, const char *value);

/** A text of an object; "" when there is none. */
const char *plane_admin_text(const json_t *object, const char *name);

/** Prints JSON in one line. */
void plane_admin_print_json(const json_t *json);

/** Follows a backend's states and prints them, until one is `until` or later. */
int plane_admin_follow_status(const struct plane_admin *admin, const char *backend, int until);

/* The commands. */
int plane_admin_connect(int argc, char **argv);
int plane_admin_terminate(int argc, char **argv);
int plane_admin_backend_status(int argc, char **argv);
int plane_admin_backends(int argc, char **argv);
int plane_admin_logs(int argc, char **argv);
int plane_admin_status(int argc, char **argv);
int plane_admin_cluster_state(int argc, char **argv);
int plane_admin_drones(int argc, char **argv);
int plane_admin_proxies(int argc, char **argv);
int plane_admin_keys(int argc, char **argv);
int plane_admin_drain(int argc, char **argv);
int plane_admin_undrain(int argc, char **argv);
int plane_admin_put_dummy_dns(int argc, char **argv);

#endif
