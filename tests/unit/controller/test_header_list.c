/* controller/header_list.c: what is passed on of a caller's headers. */
#include "../cmocka_all.h"

#include <string.h>

#include "controller/header_list.h"

static const char *find(const struct curl_slist *list, const char *line)
{
	for (; list; list = list->next)
		if (strcmp(list->data, line) == 0)
			return list->data;
	return NULL;
}

static struct curl_slist *forward(const struct plane_http_header *headers, size_t count)
{
	static const char *const except[] = { "origin", "x-other", NULL };
	struct plane_http_request request = { .headers = headers, .header_count = count };
	struct curl_slist *list = NULL;
	assert_true(plane_header_list_forward(&list, &request, except));
	return list;
}

static size_t length(const struct curl_slist *list)
{
	size_t count = 0;
	for (; list; list = list->next)
		count++;
	return count;
}

static void what_is_said_about_the_caller_is_passed_on(void **state)
{
	static const struct plane_http_header headers[] = { { "authorization", "Bearer a" },
		{ "cookie", "a=b" }, { "x-forwarded-for", "10.0.0.1" }, { "x-empty", "" },
		{ "x-original", "yes" }, { "x_own", "1" }, { "cookie", "c=d" } };
	(void)state;
	struct curl_slist *list = forward(headers, 7);
	assert_non_null(find(list, "authorization: Bearer a"));
	assert_non_null(find(list, "cookie: a=b"));
	assert_non_null(find(list, "cookie: c=d"));
	assert_non_null(find(list, "x-forwarded-for: 10.0.0.1"));
	assert_non_null(find(list, "x-empty;"));
	assert_non_null(find(list, "x-original: yes"));
	assert_non_null(find(list, "x_own: 1"));
	curl_slist_free_all(list);
}

static void what_a_controller_says_itself_is_not_taken_from_the_caller(void **state)
{
	static const struct plane_http_header headers[] = { { "x-original-path", "/a" },
		{ "x_original_path", "/a" }, { "x-original_path", "/a" },
		{ "x-forwarded-host", "a" }, { "x_forwarded_host", "a" },
		{ "x_forwarded-host", "a" }, { "host", "a" }, { "content-length", "1" },
		{ "content_length", "1" }, { "transfer_encoding", "chunked" },
		{ "proxy_authorization", "a" }, { "origin", "a" }, { "x_other", "a" } };
	(void)state;
	struct curl_slist *none = forward(NULL, 0);
	struct curl_slist *list = forward(headers, sizeof(headers) / sizeof(headers[0]));
	assert_int_equal(length(list), length(none)); /* what libcurl is told not to add */
	curl_slist_free_all(list);
	curl_slist_free_all(none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_said_about_the_caller_is_passed_on),
		cmocka_unit_test(what_a_controller_says_itself_is_not_taken_from_the_caller),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
