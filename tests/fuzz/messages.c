/* model/: any JSON as each message of the typed sockets. What is read and written again must say
 * nothing that the original did not, must be read the same a second time, and an error must say
 * why. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "fuzz.h"
#include "model/messages.h"

/* Is everything that `written` says in `original` too? A field that is written may have been absent
 * when it says nothing: null, false, 0, "". */
static bool is_part_of(const json_t *written, const json_t *original)
{
	const char *name;
	json_t *value;
	if (json_is_string(written) && json_is_object(original)) /* a tag without content */
		return json_object_size(original) == 1 &&
		       json_is_null(json_object_get(original, json_string_value(written)));
	if (!json_is_object(written))
		return json_equal(written, original);
	json_object_foreach ((json_t *)written, name, value) {
		json_t *other = json_object_get(original, name);
		bool says_nothing = json_is_null(value) || json_is_false(value) ||
				    (json_is_string(value) && !json_string_length(value));
		if ((!other || json_is_null(other)) ? !says_nothing : !is_part_of(value, other))
			return false;
	}
	return true;
}

/* `written` is what was made of `json`; a bare string stands for an object without content. */
static void check_written(const json_t *json, const json_t *written)
{
	FUZZ_CHECK(written);
	FUZZ_CHECK(is_part_of(written, json));
}

/* Reads a message of one type, writes it, reads and writes that: both texts must be equal. */
#define CHECK_TYPE(name)                                                                           \
	static void check_##name(const json_t *json)                                               \
	{                                                                                          \
		struct plane_##name message = { 0 }, again = { 0 };                                \
		struct plane_error err = { 0 };                                                    \
		int result = plane_##name##_read(json, &message, &err);                            \
		fuzz_check_error(result, &err);                                                    \
		if (result < 0)                                                                    \
			return;                                                                    \
		_cleanup_json_ json_t *written = plane_##name##_write(&message);                   \
		check_written(json, written);                                                      \
		FUZZ_CHECK(plane_##name##_read(written, &again, &err) == 0);                       \
		_cleanup_json_ json_t *rewritten = plane_##name##_write(&again);                   \
		FUZZ_CHECK(json_equal(written, rewritten));                                        \
		_cleanup_free_ char *text = plane_json_dump(written);                              \
		_cleanup_json_ json_t *parsed = plane_json_parse(text, strlen(text), &err);        \
		FUZZ_CHECK(parsed &&json_equal(parsed, written));                                  \
	}

CHECK_TYPE(drone_message)
CHECK_TYPE(drone_order)
CHECK_TYPE(proxy_message)
CHECK_TYPE(proxy_order)
CHECK_TYPE(dns_message)
CHECK_TYPE(dns_order)
CHECK_TYPE(backend_state)

static void check_handshake(const json_t *json)
{
	struct plane_handshake handshake = { 0 };
	struct plane_error err = { 0 };
	int result = plane_handshake_read(json, &handshake, &err);
	fuzz_check_error(result, &err);
	if (result < 0)
		return;
	FUZZ_CHECK(handshake.name && handshake.version && handshake.git_hash);
	for (size_t i = 0; i < PLANE_EXTENSIONS_MAX && handshake.extensions[i]; i++)
		FUZZ_CHECK(plane_handshake_has(&handshake, handshake.extensions[i]));
	const char *extensions[PLANE_EXTENSIONS_MAX + 1] = { NULL };
	memcpy(extensions, handshake.extensions, sizeof(handshake.extensions));
	_cleanup_json_ json_t *written = plane_handshake_write(handshake.name, extensions);
	FUZZ_CHECK(plane_handshake_read(written, &handshake, &err) == 0);
}

/* Never with an address: the entry is public. */
static void check_status_entry(const json_t *json)
{
	struct plane_backend_state state;
	if (plane_backend_state_read(json, &state, NULL) < 0)
		return;
	_cleanup_json_ json_t *entry = plane_backend_status_entry(&state, 1);
	FUZZ_CHECK(entry && !json_object_get(entry, "address"));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct plane_error err = { 0 };
	_cleanup_json_ json_t *json = plane_json_parse((const char *)bytes, len, &err);
	if (!json) {
		fuzz_check_error(-1, &err);
		return 0;
	}
	check_drone_message(json);
	check_drone_order(json);
	check_proxy_message(json);
	check_proxy_order(json);
	check_dns_message(json);
	check_dns_order(json);
	check_backend_state(json);
	check_handshake(json);
	check_status_entry(json);
	return 0;
}
