/* Names and tokens: their form, and making random ones. Pure except for the random ones. */
#ifndef PLANE_MODEL_NAMES_H
#define PLANE_MODEL_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/random.h"

#define PLANE_NAME_MAX 45 /* bytes, prefix included */
#define PLANE_NAME_SIZE (PLANE_NAME_MAX + 1)
#define PLANE_TEXT_MAX 255 /* key names, namespaces, tags, users, clusters, pools: bytes */
#define PLANE_TOKEN_SIZE (2 + PLANE_RANDOM_TOKEN_SIZE)

enum plane_node_kind { PLANE_NODE_PROXY, PLANE_NODE_DRONE, PLANE_NODE_DNS, PLANE_NODE_CONTROLLER };

/** "px", "dr", "ns", "co". */
const char *plane_node_prefix(enum plane_node_kind kind);
/** "Proxy", "Drone", "AcmeDnsServer", "Controller": as in ClusterState and the store. */
const char *plane_node_kind_text(enum plane_node_kind kind);
/** Reads the kind of a node from its name's prefix (px, dr, ns); false for others. */
bool plane_node_kind_of(const char *name, enum plane_node_kind *kind);

/** Checks prefix (may be NULL for backends), length and characters, in this order; the error says
 *  which rule was broken. An empty backend name is refused. */
int plane_name_check(const char *name, const char *prefix, struct plane_error *err);

/** `prefix` ("dr", or NULL for backends), a dash, and 14 random characters. */
void plane_name_random(const char *prefix, char name[PLANE_NAME_SIZE]);

/** Dynamic connection token (43 characters) or static one ("s." in front). */
void plane_token_random(bool is_static, char token[PLANE_TOKEN_SIZE]);
bool plane_token_is_static(const char *token, size_t len);

/** host or host:port (IPv4, DNS name or bracketed IPv6). */
int plane_cluster_check(const char *cluster, struct plane_error *err);
/** HTTPS exactly when there is no port or the port is 443. */
bool plane_cluster_is_https(const char *cluster);

/** ASCII letters, digits, '-', not first or last; 1..63 characters. */
int plane_subdomain_check(const char *subdomain, struct plane_error *err);

/** Free text of a request (`what` names the field): at most PLANE_TEXT_MAX bytes, no controls. */
int plane_text_check(const char *text, const char *what, struct plane_error *err);

#endif
