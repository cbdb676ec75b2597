/* Where Plane keeps its data on this machine. */
#ifndef PLANE_CLI_PATHS_H
#define PLANE_CLI_PATHS_H

#include "base/error.h"

/**
 * The data directory: `given`, else $PLANE_DATA_DIR, else /var/lib/plane for root, else
 * $XDG_DATA_HOME/plane or ~/.local/share/plane. Absolute; made with mode 0711 (what is secret below
 * it has modes of its own). NULL on failure; the caller frees it.
 */
char *plane_data_dir(const char *given, struct plane_error *err);

/** Below the data directory; the caller frees them. */
char *plane_images_dir(const char *data_dir);
char *plane_drone_dir(const char *data_dir);
char *plane_controller_dir(const char *data_dir);

#endif
