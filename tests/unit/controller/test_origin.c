/* controller/origin.c: which requests a web page made a browser send. */
#include "../cmocka_all.h"

#include "controller/origin.h"

#define URL "https://plane-api.example.com"

/* Headers as pairs of texts, NULL at the end. */
static enum plane_origin origin_of(const char *const *pairs, const struct plane_origin_rules *rules)
{
	struct plane_http_header headers[8];
	size_t count = 0;
	for (; pairs[2 * count]; count++)
		headers[count] = (struct plane_http_header){ (char *)pairs[2 * count],
			(char *)pairs[2 * count + 1] };
	struct plane_http_request request = { .headers = headers, .header_count = count };
	return plane_origin_of(&request, rules);
}

#define PAIRS(...)                                                                                 \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

static const struct plane_origin_rules open_rules = { .public_url = URL };
static const struct plane_origin_rules loopback_rules = {
	.public_url = URL, .is_host_checked = true, .hosts = "plane,api.internal"
};

static void what_is_no_browser_says_nothing_about_a_page(void **state)
{
	assert_int_equal(origin_of(PAIRS("host", "127.0.0.1:8080"), &open_rules), PLANE_ORIGIN_OWN);
	assert_int_equal(origin_of(PAIRS("accept", "*/*"), &loopback_rules), PLANE_ORIGIN_OWN);
	/* `fetch` of Node.js */
	assert_int_equal(origin_of(PAIRS("host", "localhost:8080", "sec-fetch-mode", "cors"),
				 &loopback_rules),
		PLANE_ORIGIN_OWN);
}

static void a_page_of_another_origin_is_foreign(void **state)
{
	static const char *const origins[] = { "https://evil.example", "null", "", "evil",
		"http://127.0.0.1", "http://127.0.0.1:9090", "http://127.0.0.1:8080.evil.example",
		"http://localhost:8080", "http://plane-api.example.com",
		"https://plane-api.example.com:8443" };
	for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++) {
		const char *const *pairs = PAIRS("host", "127.0.0.1:8080", "origin", origins[i]);
		assert_int_equal(origin_of(pairs, &open_rules), PLANE_ORIGIN_FOREIGN);
		assert_int_equal(origin_of(pairs, &loopback_rules), PLANE_ORIGIN_FOREIGN);
	}
	assert_int_equal(origin_of(PAIRS("host", "127.0.0.1:8080", "origin",
					   "http://127.0.0.1:8080", "origin", "http://evil"),
				 &open_rules),
		PLANE_ORIGIN_FOREIGN);
	assert_int_equal(origin_of(PAIRS("origin", "http://evil.example"), &open_rules),
		PLANE_ORIGIN_FOREIGN);
	static const char *const sites[] = { "cross-site", "same-site", "other" };
	for (size_t i = 0; i < sizeof(sites) / sizeof(sites[0]); i++)
		assert_int_equal(
			origin_of(PAIRS("host", "127.0.0.1:8080", "sec-fetch-site", sites[i]),
				&open_rules),
			PLANE_ORIGIN_FOREIGN);
}

static void pages_of_the_controllers_own_origin_are_not(void **state)
{
	assert_int_equal(
		origin_of(PAIRS("host", "127.0.0.1:8080", "origin", "http://127.0.0.1:8080",
				  "sec-fetch-site", "same-origin"),
			&loopback_rules),
		PLANE_ORIGIN_OWN);
	assert_int_equal(origin_of(PAIRS("host", "[::1]:8080", "origin", "http://[::1]:8080"),
				 &loopback_rules),
		PLANE_ORIGIN_OWN);
	/* behind a server that does not pass Host on */
	assert_int_equal(origin_of(PAIRS("host", "127.0.0.1:8080", "origin", URL), &loopback_rules),
		PLANE_ORIGIN_OWN);
	/* typed into the address bar */
	assert_int_equal(origin_of(PAIRS("host", "localhost:8080", "sec-fetch-site", "none"),
				 &loopback_rules),
		PLANE_ORIGIN_OWN);
}

static void on_loopback_a_name_must_be_known(void **state)
{
	static const char *const known[] = { "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:1",
		"localhost", "LOCALHOST:8080", "plane-api.example.com",
		"plane-api.example.com:8080", "plane", "Plane:80", "api.internal:8080",
		"0.0.0.0:8080" };
	static const char *const unknown[] = { "", ":8080", "rebind.evil.example:8080",
		"127.0.0.1.evil.example", "localhost.evil.example", "localhost.", "[::1",
		"[evil.example]:80", "127.1", "2130706433", "plan", "plane2", "plane,api.internal",
		"internal", "::1", "example.com", "[127.0.0.1]" };
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (origin_of(PAIRS("host", known[i]), &loopback_rules) != PLANE_ORIGIN_OWN)
			fail_msg("%s", known[i]);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		if (origin_of(PAIRS("host", unknown[i]), &loopback_rules) != PLANE_ORIGIN_HOST)
			fail_msg("%s", unknown[i]);
		assert_int_equal(
			origin_of(PAIRS("host", unknown[i]), &open_rules), PLANE_ORIGIN_OWN);
	}
	struct plane_origin_rules bare = { .is_host_checked = true };
	assert_int_equal(origin_of(PAIRS("host", "plane"), &bare), PLANE_ORIGIN_HOST);
	/* a page that has the name of its own domain lead to us */
	assert_int_equal(
		origin_of(PAIRS("host", "evil.example:8080", "origin", "http://evil.example:8080",
				  "sec-fetch-site", "same-origin"),
			&loopback_rules),
		PLANE_ORIGIN_HOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_browser_says_nothing_about_a_page),
		cmocka_unit_test(a_page_of_another_origin_is_foreign),
		cmocka_unit_test(pages_of_the_controllers_own_origin_are_not),
		cmocka_unit_test(on_loopback_a_name_must_be_known),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
