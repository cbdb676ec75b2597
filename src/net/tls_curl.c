/* libcurl on OpenSSL, with contexts made by net/tls_context.c. */
#include "net/tls_curl.h"

static CURLcode configure(CURL *easy, void *context, void *data)
{
	struct plane_tls_curl *tls = data;
	(void)easy;
	return plane_tls_configure_client(context, tls->files, &tls->err) < 0
		       ? CURLE_SSL_CERTPROBLEM
		       : CURLE_OK;
}

void plane_tls_curl_set(CURL *easy, struct plane_tls_curl *tls)
{
	bool is_pinned = tls->files && tls->files->pinned;
	tls->err = (struct plane_error){ 0 };
	curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, configure);
	curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, tls);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, is_pinned ? 0L : 2L);
	/* they are in the context already: reading the system's as well would be for nothing */
	curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
}
