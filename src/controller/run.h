/* What the parts of a controller ask of its run. Loop thread. */
#ifndef PLANE_CONTROLLER_RUN_H
#define PLANE_CONTROLLER_RUN_H

struct plane_controller;

/** A node session is gone for good; the run ends when the last one is. */
void plane_controller_session_freed(struct plane_controller *controller);

#endif
