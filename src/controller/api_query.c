/* Parameters of a request's query that several routes have. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "controller/api.h"
#include "controller/error_body.h"

#define LIMIT_DEFAULT 100
#define LIMIT_MAX 1000

char *plane_api_query(struct plane_api_call *call, const char *name)
{
	char *text = plane_http_request_query(call->request, name);
	if (text && text[0])
		return text;
	free(text);
	return NULL;
}

bool plane_api_query_limit(struct plane_api_call *call, int *limit)
{
	_cleanup_free_ char *text = plane_http_request_query(call->request, "limit");
	int64_t value = LIMIT_DEFAULT;
	if (text && !plane_text_parse_int(text, 1, LIMIT_MAX, &value)) {
		plane_api_fail(call->response, PLANE_API_INVALID_QUERY,
			"limit: expected a number from 1 to 1000");
		return false;
	}
	*limit = (int)value;
	return true;
}

bool plane_api_query_flag(struct plane_api_call *call, const char *name, bool *is_set)
{
	_cleanup_free_ char *text = plane_api_query(call, name);
	char message[64];
	*is_set = text && strcmp(text, "true") == 0;
	if (!text || *is_set || strcmp(text, "false") == 0)
		return true;
	snprintf(message, sizeof(message), "%s: expected true or false", name);
	plane_api_fail(call->response, PLANE_API_INVALID_QUERY, message);
	return false;
}
