/* Matching request paths to routes. Pure. */
#ifndef PLANE_CONTROLLER_ROUTER_H
#define PLANE_CONTROLLER_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

#define PLANE_ROUTE_PARAMS_MAX 3
#define PLANE_ROUTE_PARAM_SIZE 256

struct plane_route_params {
	/* percent-decoded, in the pattern's order; a parameter is never empty */
	char values[PLANE_ROUTE_PARAMS_MAX][PLANE_ROUTE_PARAM_SIZE];
	size_t count;
};

/**
 * Does `path` ("/ctrl/b/x/logs") match `pattern` ("/ctrl/b/:/logs", ":" stands for any one
 * segment)? A parameter that is empty, longer than 255 bytes, or that decodes to a NUL, a slash or
 * nonsense does not match.
 */
bool plane_route_match(const char *pattern, const char *path, struct plane_route_params *params);

#endif
