/* Small parsers of texts: names, clusters, addresses, URLs, image names, routes, flags. What one
 * accepts must be fit for where it goes (paths, header fields, commands), and must be the same
 * after it was written again. */
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "cli/flags.h"
#include "controller/public_url.h"
#include "controller/router.h"
#include "fuzz.h"
#include "model/names.h"
#include "net/address.h"
#include "net/controller_url.h"
#include "net/http_server.h"
#include "proxy/target.h"
#include "runtime/image/image.h"
#include "runtime/image/names.h"

static bool is_made_of(const char *text, const char *more)
{
	for (; *text; text++)
		if (!isalnum((unsigned char)*text) && !strchr(more, *text))
			return false;
	return true;
}

static bool has_controls(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return true;
	return false;
}

static void check_names(const char *text)
{
	struct plane_error err = { 0 };
	enum plane_node_kind kind;
	int result = plane_name_check(text, NULL, &err);
	fuzz_check_error(result, &err);
	if (result == 0)
		FUZZ_CHECK(is_made_of(text, "-") && strlen(text) < PLANE_NAME_SIZE && text[0]);
	if (plane_name_check(text, "dr", NULL) == 0)
		FUZZ_CHECK(
			result == 0 && plane_node_kind_of(text, &kind) && kind == PLANE_NODE_DRONE);
	result = plane_subdomain_check(text, &err);
	fuzz_check_error(result, &err);
	if (result == 0)
		FUZZ_CHECK(is_made_of(text, "-") && strlen(text) <= 63 && text[0] != '-');
	result = plane_text_check(text, "text", &err);
	fuzz_check_error(result, &err);
	if (result == 0)
		FUZZ_CHECK(!has_controls(text) && strlen(text) <= PLANE_TEXT_MAX);
	(void)plane_token_is_static(text, strlen(text)); /* any text is one or the other */
}

/* A cluster becomes a part of URLs, and a Host must be able to name it. */
static void check_cluster(const char *text)
{
	struct plane_error err = { 0 };
	int result = plane_cluster_check(text, &err);
	fuzz_check_error(result, &err);
	if (result < 0)
		return;
	struct plane_slice host = { text, strlen(text) };
	FUZZ_CHECK(is_made_of(text, ".-_:[]") && text[0] && host.len <= PLANE_TEXT_MAX);
	FUZZ_CHECK(plane_target_check_host(host, text, NULL) == 0);
	FUZZ_CHECK(plane_target_check_host(host, text, "") == 0);
	FUZZ_CHECK(plane_target_check_host(host, text, "sub") == 403);
	_cleanup_free_ char *below = plane_strdupf("sub.%s", text);
	struct plane_slice sub = { below, strlen(below) };
	FUZZ_CHECK(plane_target_check_host(sub, text, "sub") == 0);
	_cleanup_free_ char *other = plane_strdupf("sub%s", text);
	struct plane_slice evil = { other, strlen(other) };
	FUZZ_CHECK(plane_target_check_host(evil, text, NULL) == 403);
	(void)plane_cluster_is_https(text); /* either */
}

static void check_address(const char *text)
{
	struct sockaddr_storage address = { 0 }, again = { 0 };
	struct plane_error err = { 0 };
	int result = plane_address_parse(text, &address, &err);
	fuzz_check_error(result, &err);
	if (result < 0)
		return;
	_cleanup_free_ char *written = plane_address_format(&address);
	FUZZ_CHECK(plane_address_parse(written, &again, &err) == 0);
	FUZZ_CHECK(memcmp(&address, &again, sizeof(address)) == 0);
}

/* What goes into a request of ours must not end the line. */
static void check_urls(const char *text)
{
	struct plane_controller_url url = { 0 };
	struct plane_error err = { 0 };
	int result = plane_controller_url_parse(text, &url, &err);
	fuzz_check_error(result, &err);
	if (result == 0) {
		FUZZ_CHECK(url.host[0] && !has_controls(url.host) && !strchr(url.host, ' '));
		FUZZ_CHECK(!has_controls(url.authority) && !strchr(url.authority, ' '));
		FUZZ_CHECK(!url.bearer || (!has_controls(url.bearer) && !strchr(url.bearer, ' ')));
		FUZZ_CHECK(url.port >= 1 && url.port <= 65535);
		plane_controller_url_finish(&url);
	}
	_cleanup_free_ char *public = plane_public_url(text, &err);
	FUZZ_CHECK(!public || (is_made_of(public, ":/?#[]@!$&'()*+,;=-._~%") &&
				      strncmp(public, "http", 4) == 0));
}

static void check_image_name(const char *text)
{
	struct plane_error err = { 0 };
	char file[PLANE_IMAGE_FILE_SIZE];
	_cleanup_free_ char *decoded = plane_image_name_from_file(text);
	_cleanup_free_ char *full = plane_image_full_name(text, &err);
	if (decoded) { /* the index has one file a name */
		plane_image_name_to_file(decoded, file);
		FUZZ_CHECK(strcmp(file, text) == 0);
	}
	if (!full) {
		fuzz_check_error(-1, &err);
		return;
	}
	_cleanup_free_ char *again = plane_image_full_name(full, &err);
	FUZZ_CHECK(again && strcmp(full, again) == 0);
	plane_image_name_to_file(full, file);
	FUZZ_CHECK(strlen(file) < sizeof(file) && !strchr(file, '/') && file[0] != '.');
	_cleanup_free_ char *back = plane_image_name_from_file(file);
	FUZZ_CHECK(back && strcmp(back, full) == 0);
}

/* The target of a request, for the proxy and for the controller's router. */
static void check_target(const char *text)
{
	static const char *const patterns[] = { "/ctrl/connect", "/pub/b/:/status",
		"/ctrl/c/:/d/:/drain", "/:" };
	struct plane_slice slice = { text, strlen(text) };
	struct plane_target target = plane_target_read(slice);
	if (target.kind == PLANE_TARGET_TOKEN) {
		FUZZ_CHECK(target.token.len >= PLANE_PROXY_TOKEN_MIN);
		FUZZ_CHECK(target.token.len <= PLANE_PROXY_TOKEN_MAX);
		FUZZ_CHECK(!memchr(target.token.data, '/', target.token.len));
		FUZZ_CHECK(target.forwarded.data + target.forwarded.len == text + slice.len);
	}
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		struct plane_route_params params;
		if (!plane_route_match(patterns[i], text, &params))
			continue;
		for (size_t j = 0; j < params.count; j++)
			FUZZ_CHECK(params.values[j][0] && !strchr(params.values[j], '/'));
	}
	struct plane_http_request request = { .query = text };
	_cleanup_free_ char *value = plane_http_request_query(&request, "a");
	FUZZ_CHECK(!value || strlen(value) <= slice.len);
}

static void check_number(const char *text)
{
	int64_t number;
	if (!plane_text_parse_int(text, INT64_MIN, INT64_MAX, &number))
		return;
	FUZZ_CHECK(is_made_of(text, "-"));
	_cleanup_free_ char *written = plane_strdupf("%lld", (long long)number);
	int64_t again;
	FUZZ_CHECK(plane_text_parse_int(written, INT64_MIN, INT64_MAX, &again));
	FUZZ_CHECK(again == number);
	FUZZ_CHECK(!plane_text_parse_int(text, number, number, &again) || again == number);
}

static void check_utf8(const char *text)
{
	_cleanup_free_ char *made = plane_strdup(text);
	plane_text_make_utf8(made);
	FUZZ_CHECK(strlen(made) == strlen(text) && plane_text_is_utf8(made, strlen(made)));
	if (plane_text_is_utf8(text, strlen(text)))
		FUZZ_CHECK(strcmp(made, text) == 0);
}

/* A line is an argument. What is printed about mistakes goes nowhere. */
static void check_flags(const char *text)
{
	const char *given = NULL, *words[PLANE_COMMAND_WORDS_MAX + 1] = { NULL };
	int64_t number = -1;
	bool is_on = false;
	struct plane_flag_list list = { 0 };
	const struct plane_flag flags[] = {
		{ "text", PLANE_FLAG_TEXT, &given, "T", "a text" },
		{ "int", PLANE_FLAG_INT, &number, "N", "a number", .min = 0, .max = 100 },
		{ "on", PLANE_FLAG_BOOL, &is_on, NULL, "on" },
		{ "list", PLANE_FLAG_LIST, &list, "L", "texts" },
	};
	const struct plane_command command = { .usage = "fuzz",
		.summary = "A command.",
		.flags = flags,
		.flag_count = 4,
		.max_words = 2 };
	char *argv[80];
	int argc = 0;
	_cleanup_free_ char *copy = plane_strdup(text);
	for (char *at = copy; at && argc < 80;)
		argv[argc++] = strsep(&at, "\n");
	static FILE *nowhere;
	FILE *out = stdout, *errors = stderr;
	if (!nowhere)
		nowhere = fopen("/dev/null", "w");
	stdout = stderr = nowhere;
	int status = plane_command_parse(&command, argc, argv, words);
	stdout = out;
	stderr = errors;
	FUZZ_CHECK(status == -1 || status == 0 || status == 2);
	FUZZ_CHECK(number >= -1 && number <= 100 && list.count <= PLANE_FLAG_LIST_MAX);
	if (status == -1)
		FUZZ_CHECK(!words[0] || !words[1] || !words[2]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	_cleanup_free_ char *text = fuzz_text(bytes, len);
	check_names(text);
	check_cluster(text);
	check_address(text);
	check_urls(text);
	check_image_name(text);
	check_target(text);
	check_number(text);
	check_utf8(text);
	check_flags(text);
	return 0;
}
