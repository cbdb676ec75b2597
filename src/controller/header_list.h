/* Headers of a request that the controller makes for a caller, as libcurl takes them. Any thread.
 */
#ifndef PLANE_CONTROLLER_HEADER_LIST_H
#define PLANE_CONTROLLER_HEADER_LIST_H

#include <stdbool.h>

#include <curl/curl.h>

#include "net/http_server.h"

/** False without memory; the caller frees `*list` in any case. */
bool plane_header_list_add(struct curl_slist **list, const char *name, const char *value);
/** Adds all that is said about the caller, his credentials too, and nothing that is said about his
 *  connection, his request's body or its host, nor what a controller says itself (x-original-path,
 *  x-forwarded-host), '_' for '-' included. Nor what is in `except`: names, and NULL after
 *  them. */
bool plane_header_list_forward(struct curl_slist **list, const struct plane_http_request *request,
	const char *const *except);

#endif
