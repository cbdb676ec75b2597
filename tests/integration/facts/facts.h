/* What a container may do, as facts in JSON: run as a backend of Plane and under Docker's default,
 * and compared by test_docker_comparison.py. Looks only; changes nothing that outlives it. */
#ifndef TESTS_INTEGRATION_FACTS_FACTS_H
#define TESTS_INTEGRATION_FACTS_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buffer.h"

/** Which system calls the filter lets through to the kernel; none of them is executed. */
void facts_system_calls(struct web_buffer *json);
/** Files below /proc and /sys, devices, mounts and their flags. */
void facts_files(struct web_buffer *json);

#endif
