/* Runs a target on each file of its corpus, as one test case each: what a fuzzer found once is
 * looked at again by every test run, without clang. Prints what cmocka prints. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "fuzz.h"

#define INPUT_MAX ((size_t)16 << 20)

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* A failing input ends the process: its name is the last line that says RUN. */
static int replay(const char *directory, const char *name)
{
	struct plane_error err = { 0 };
	_cleanup_(plane_buffer_finish) struct plane_buffer content = { 0 };
	_cleanup_free_ char *path = plane_strdupf("%s/%s", directory, name);
	printf("[ RUN      ] %s\n", name);
	fflush(stdout);
	if (plane_file_read(path, INPUT_MAX, &content, &err) < 0) {
		printf("%s\n[  FAILED  ] %s\n", err.message, name);
		return 1;
	}
	/* exactly as long as the input, as libFuzzer gives it */
	_cleanup_free_ char *exact = fuzz_copy(content.data, content.len);
	(void)LLVMFuzzerTestOneInput((const uint8_t *)exact, content.len); /* it aborts on faults */
	printf("[       OK ] %s\n", name);
	return 0;
}

int main(int argc, char **argv)
{
	struct dirent **entries;
	int failed = 0;
	if (argc != 2) {
		fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
		return 2;
	}
	(void)LLVMFuzzerInitialize(&argc, &argv); /* always 0 */
	int count = scandir(argv[1], &entries, is_file, alphasort);
	if (count < 0) {
		perror(argv[1]);
		return 1;
	}
	for (int i = 0; i < count; i++) {
		failed += replay(argv[1], entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return failed > 0 || count == 0;
}
