/* Shared by cluster.c, users.c and faults.c. */
#ifndef PLANE_SIM_CLUSTER_H
#define PLANE_SIM_CLUSTER_H

#include "controller/controller.h"
#include "drone/drone.h"
#include "proxy/shared.h"
#include "sim.h"

struct sim_node {
	enum sim_role role;
	char name[16];
	struct sim_machine *machine;
	struct sim_process *process;
	int64_t not_before;               /* it is not started again sooner */
	bool is_original;                 /* drones: from the next start on */
	struct sim_process *drain_caller; /* drones: the controller that is asked to (un)drain it */
	int64_t unsettled_at;             /* proxies: when it last was not as it should be */
	struct plane_controller_config controller;
	struct plane_drone_config drone;
	struct plane_proxy_config proxy;
	struct plane_proxy_shared *shared; /* of the running proxy */
};

/* After the faults links are followed and revoked for so long, and proxies lose their connections.
 */
#define SIM_CLUSTER_PROBING (30 * SIM_SECOND)

struct sim_cluster {
	struct sim_node *nodes; /* controllers, drones, proxies */
	int count;
	bool is_quiet; /* the faults are over, and nobody asks for anything new */
};
extern struct sim_cluster sim_cluster;

/** One of a role, by chance; NULL when there is none. */
struct sim_node *sim_cluster_pick(enum sim_role role);

/* users.c */
void sim_users_start(void);
/** Each key is connected to once until then. */
void sim_users_start_scale(int64_t until);
/** Orders the end of all backends. */
void sim_users_end_all(void);

/* links.c */
/** One was given out just now. `user` must last. */
void sim_links_add(const char *token, const char *backend, const char *key, const char *user);
/** The backend of one that was given out, by chance; NULL: there is none. */
const char *sim_links_pick(void);
/** Somebody follows one, through a proxy. */
void sim_links_follow(void);
/** The links of one's user to its backend are revoked. */
void sim_links_revoke(void);
/** A proxy was told so. */
void sim_links_cut(struct sim_node *node, const char *backend, const char *user);
/** Several times a second: revoked links are not used for long. */
void sim_links_check(void);

/* streams.c */
/** Somebody looks on at it until its end. */
void sim_streams_watch(const char *backend);
/** Nobody waits for what is in the store. */
void sim_streams_check(void);

/* faults.c */
void sim_faults_start(void);
/** One drone or controller at a time. */
void sim_faults_start_scale(void);
/** Heals all. */
void sim_faults_end(void);

#endif
