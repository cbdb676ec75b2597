/* Numbers with decimals, which flags otherwise do not have. */
#include "cli/capacity_flags.h"

#include <errno.h>

#include "base/text.h"

#define FACTOR_MAX_MILLIS 1000000

static int read_millis(
	const char *flag, const char *text, int64_t max, int64_t *millis, struct plane_error *err)
{
	if (!text || plane_text_parse_millis(text, 1, max, millis))
		return 0;
	return plane_error_set(err, EINVAL,
		"%s: \"%.40s\" is no number from 0.001 to %lld, as 4 or 1.5", flag, text,
		(long long)max / 1000);
}

int plane_capacity_words_read(const struct plane_capacity_words *words,
	struct plane_capacity_config *config, struct plane_error *err)
{
	const char *memory = words->memory_bytes;
	if (memory &&
		!plane_text_parse_int(memory, 1, PLANE_MEMORY_BYTES_MAX, &config->memory_bytes))
		return plane_error_set(err, EINVAL,
			"--memory-bytes: \"%.40s\" is no number from 1 to %lld", memory,
			(long long)PLANE_MEMORY_BYTES_MAX);
	int result =
		read_millis("--cpus", words->cpus, PLANE_CPU_MILLIS_MAX, &config->cpu_millis, err);
	if (result == 0)
		result = read_millis("--overcommit-memory", words->overcommit_memory,
			FACTOR_MAX_MILLIS, &config->overcommit_memory_millis, err);
	if (result == 0)
		result = read_millis("--overcommit-cpu", words->overcommit_cpu, FACTOR_MAX_MILLIS,
			&config->overcommit_cpu_millis, err);
	return result;
}
