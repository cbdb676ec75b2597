/* The controller's URL as callers see it. Pure. */
#ifndef PLANE_CONTROLLER_PUBLIC_URL_H
#define PLANE_CONTROLLER_PUBLIC_URL_H

#include "base/error.h"

/**
 * "https://TOKEN@host:1/prefix/" becomes "https://host:1": without user part and path (the
 * reference joins absolute paths); ws and wss become http and https. The caller frees it. NULL with
 * `err` for anything else.
 */
char *plane_public_url(const char *controller_url, struct plane_error *err);

#endif
