/* The token file's parser. What it accepts is made of valid entries, each where it says, is the
 * same after it was written again, and is found by its credential and by nothing else. */
#include <string.h>

#include "base/cleanup.h"
#include "controller/token_file.h"
#include "fuzz.h"

static void check_entry(const struct plane_token_file *file, size_t index, size_t len)
{
	const struct plane_token_entry *entry = &file->entries[index];
	struct plane_credential other = entry->credential;
	FUZZ_CHECK(plane_token_name_check(entry->name, NULL) == 0);
	FUZZ_CHECK(entry->scopes && !(entry->scopes & ~PLANE_SCOPES_ALL));
	FUZZ_CHECK(entry->expires_at_ms >= 0 && entry->expires_at_ms % 1000 == 0);
	FUZZ_CHECK(entry->begin < entry->end && entry->end <= len);
	FUZZ_CHECK(index == 0 || file->entries[index - 1].end <= entry->begin);
	FUZZ_CHECK(plane_token_file_find_name(file, entry->name) == entry);
	FUZZ_CHECK(plane_token_file_find(file, &entry->credential) == entry);
	if (other.is_certificate)
		FUZZ_CHECK(plane_common_name_check(other.common_name, NULL) == 0);
	other.is_certificate = !other.is_certificate;
	FUZZ_CHECK(plane_token_file_find(file, &other) == NULL);
}

static void check_again(const struct plane_token_file *file)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	struct plane_token_file again = { 0 };
	struct plane_error err = { 0 };
	for (size_t i = 0; i < file->count; i++)
		plane_token_entry_write(&file->entries[i], &text);
	FUZZ_CHECK(plane_token_file_parse(text.data ? text.data : "", text.len, &again, &err) == 0);
	FUZZ_CHECK(again.count == file->count);
	for (size_t i = 0; i < file->count; i++) {
		const struct plane_token_entry *a = &file->entries[i], *b = &again.entries[i];
		FUZZ_CHECK(strcmp(a->name, b->name) == 0 && a->scopes == b->scopes);
		FUZZ_CHECK(a->expires_at_ms == b->expires_at_ms);
		FUZZ_CHECK(memcmp(&a->credential, &b->credential, sizeof(a->credential)) == 0);
	}
	plane_token_file_finish(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	_cleanup_free_ char *text = fuzz_copy(bytes, len);
	struct plane_token_file file = { 0 };
	struct plane_error err = { 0 };
	int result = plane_token_file_parse(text, len, &file, &err);
	fuzz_check_error(result, &err);
	if (result < 0) {
		FUZZ_CHECK(!file.entries);
		return 0;
	}
	for (size_t i = 0; i < file.count; i++)
		check_entry(&file, i, len);
	check_again(&file);
	plane_token_file_finish(&file);
	return 0;
}
