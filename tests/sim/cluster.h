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
	int64_t not_before; /* it is not started again sooner */
	bool is_under_fault;
	struct plane_controller_config controller;
	struct plane_drone_config drone;
	struct plane_proxy_config proxy;
	struct plane_proxy_shared *shared; /* of the running proxy */
};

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

/* faults.c */
void sim_faults_start(void);
/** One drone or controller at a time. */
void sim_faults_start_scale(void);
/** Heals all. */
void sim_faults_end(void);

#endif
