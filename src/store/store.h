#ifndef W
#define W
#include <stdbool.h>
#include <jansson.h>
#include "base/error.h"
#include "model/backend_state.h"
#include "model/messages.h"
#include "model/names.h"
struct plane_store;
struct plane_store *plane_store_open(const char *url, struct plane_error *err);
int plane_store_migrate(struct plane_store *, struct plane_error *err);
void plane_store_close(struct plane_store *);
int plane_store_ping(struct plane_store *, struct plane_error *err);
int plane_store_controller_heartbeat(struct plane_store *, const char *name, struct plane_error *err);
int plane_store_controller_offline(struct plane_store *, const char *name, struct plane_error *err);
int plane_store_node_disconnected(struct plane_store *, int64_t node, int64_t connection, struct plane_error *err);
struct plane_store_node { enum plane_node_kind kind; const char *name,*cluster,*controller,*version,*git_hash,*ip,*pool; };
int plane_store_node_connected(struct plane_store *, const struct plane_store_node *, int64_t *node_id, int64_t *connection, struct plane_error *err);
int plane_store_drone_heartbeat(struct plane_store *, int64_t node, int64_t local, struct plane_error *err);
int plane_store_backend_update(struct plane_store *, const char *backend, int64_t node, const struct plane_backend_state *, bool *changed, int64_t *time_ms, struct plane_error *err);
int plane_store_action_ack(struct plane_store *, const char *action, int64_t node, struct plane_error *err);
int plane_store_key_renew(struct plane_store *, const char *backend, int64_t node, int64_t lease_ms, bool *renewed, struct plane_error *err);
struct plane_store_route { bool x; struct plane_backend_state state; char *backend,*secret_token,*cluster,*user,*subdomain; json_t *auth; };
int plane_store_route_find(struct plane_store *, const char *token, bool *found, struct plane_store_route *, struct plane_error *err);
void plane_store_route_finish(struct plane_store_route *);
int plane_store_backend_keep_alive(struct plane_store *, const char *, bool *alive, struct plane_error *);
int plane_store_cert_lease(struct plane_store *, const char *cluster, int64_t node, int64_t ms, bool *, struct plane_error *);
int plane_store_cert_set_txt(struct plane_store *, const char *cluster, int64_t node, const char *, bool *, struct plane_error *);
int plane_store_cert_release(struct plane_store *, const char *cluster, int64_t node, struct plane_error *);
int plane_store_cert_get_txt(struct plane_store *, const char *cluster, char **, struct plane_error *);
struct plane_store_history { size_t count; struct { struct plane_backend_state state; int64_t time_ms; } *entries; };
int plane_store_backend_history(struct plane_store *, const char *, struct plane_store_history *, struct plane_error *);
void plane_store_history_finish(struct plane_store_history *);
struct plane_store_token { const char *token,*secret_token,*backend,*user; const json_t *auth; int64_t lifetime_ms; };
int plane_store_token_create(struct plane_store *, const struct plane_store_token *, struct plane_error *);
struct plane_store_held_key { bool is_found,is_live; char tag[256],backend[46],cluster[256],subdomain[64],static_token[PLANE_TOKEN_SIZE]; enum plane_backend_status status; };
int plane_store_key_find(struct plane_store *, const char *, const char *, struct plane_store_held_key *, struct plane_error *);
int plane_store_key_remove_expired(struct plane_store *, const char *, bool *, struct plane_error *);
struct plane_store_drone { int64_t id; char name[46]; int64_t backend_count, last_local_time_ms; };
struct plane_store_drones { size_t count; struct plane_store_drone *entries; };
int plane_store_drones_eligible(struct plane_store *, const char *, const char *, int64_t, struct plane_store_drones *, struct plane_error *);
void plane_store_drones_finish(struct plane_store_drones *);
struct plane_store_spawn { const char *backend,*cluster; int64_t drone_id; const char *key_name,*key_namespace,*key_tag; int64_t lifetime_limit_seconds,max_idle_seconds; const char *subdomain,*static_token,*action_id; const json_t *executable; struct plane_deadlines deadlines; int64_t lease_ms; };
int plane_store_spawn(struct plane_store *, const struct plane_store_spawn *, char **, int64_t *, struct plane_error *);
struct plane_store_backend { struct plane_backend_state state; int64_t state_time_ms, drone_id; };
int plane_store_backend_find(struct plane_store *, const char *, struct plane_store_backend *, struct plane_error *);
int plane_store_token_revoke(struct plane_store *, const char *, const char *, struct plane_error *);
int plane_store_drone_drain(struct plane_store *, const char *, const char *, bool, bool *, struct plane_error *);
struct plane_store_actions { size_t count; struct { char action_id[46]; char *message; } *entries; };
int plane_store_actions_pending(struct plane_store *, int64_t, size_t, struct plane_store_actions *, struct plane_error *);
void plane_store_actions_finish(struct plane_store_actions *);
int plane_store_terminate(struct plane_store *, const char *backend, const char *action_id, enum plane_termination_kind, enum plane_termination_reason, int64_t *drone, char **message, struct plane_error *);
int plane_store_cleanup_tokens(struct plane_store *, int64_t *, struct plane_error *);
int plane_store_cleanup_backends(struct plane_store *, int, int, int64_t *, struct plane_error *);
struct plane_store_sweep_entry { char backend[46]; enum plane_backend_status status; int64_t in_status_ms; bool is_due, has_pending_soft, has_pending_hard; };
struct plane_store_sweep { size_t count; struct plane_store_sweep_entry *entries; };
int plane_store_sweep_candidates(struct plane_store *, int64_t, struct plane_store_sweep *, struct plane_error *);
void plane_store_sweep_finish(struct plane_store_sweep *);
struct plane_store_lost { size_t count; struct { char backend[46]; struct plane_backend_state state; int64_t time_ms; } *entries; };
int plane_store_mark_lost(struct plane_store *, int64_t, struct plane_store_lost *, struct plane_error *);
void plane_store_lost_finish(struct plane_store_lost *);
#endif
