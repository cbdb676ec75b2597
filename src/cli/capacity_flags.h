/* Flags that say how much a drone's backends may ask for. */
#ifndef PLANE_CLI_CAPACITY_FLAGS_H
#define PLANE_CLI_CAPACITY_FLAGS_H

#include "base/error.h"
#include "drone/capacity.h"

/** As they were given; NULL where they were not. */
struct plane_capacity_words {
	const char *memory_bytes, *cpus, *overcommit_memory, *overcommit_cpu;
};

#define PLANE_CAPACITY_FLAGS(words)                                                                \
	{ "memory-bytes", PLANE_FLAG_TEXT, &(words).memory_bytes, "BYTES",                         \
		"memory for backends (default: what there is)" },                                  \
		{ "cpus", PLANE_FLAG_TEXT, &(words).cpus, "N",                                     \
			"CPUs for backends, as 4 or 1.5 (default: what there is)" },               \
		{ "overcommit-memory", PLANE_FLAG_TEXT, &(words).overcommit_memory, "FACTOR",      \
			"backends may ask for so many times the memory (default: 2)" },            \
	{                                                                                          \
		"overcommit-cpu", PLANE_FLAG_TEXT, &(words).overcommit_cpu, "FACTOR",              \
			"backends may ask for so many times the CPUs (default: 8)"                 \
	}

/** Reads them into `config`, which keeps its defaults for the others. The error names the flag. */
int plane_capacity_words_read(const struct plane_capacity_words *words,
	struct plane_capacity_config *config, struct plane_error *err);

#endif
