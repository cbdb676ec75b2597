/* The same trust for libcurl as for our own connections. */
#ifndef PLANE_NET_TLS_CURL_H
#define PLANE_NET_TLS_CURL_H

#include <curl/curl.h>

#include "net/tls_context.h"

struct plane_tls_curl {
	const struct plane_tls_client_files *files;
	struct plane_error
		err; /* after a failure: of reading them; code 0: it was something else */
};

/** Makes requests of the handle go by the files, which are read for each connection. `tls` must be
 *  there until the request's end. */
void plane_tls_curl_set(CURL *easy, struct plane_tls_curl *tls);

#endif
