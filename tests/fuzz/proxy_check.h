/* What must hold after every run of the proxy, whatever clients and backends did. */
#ifndef PLANE_TESTS_FUZZ_PROXY_CHECK_H
#define PLANE_TESTS_FUZZ_PROXY_CHECK_H

#include "proxy_world.h"

/** False when somebody sent what is no message: when that is noticed depends on how it comes. */
bool proxy_check(const struct world *world);

/** Two runs with the same bytes, all of them messages, which came in other pieces. */
void proxy_check_same(const struct world *a, const struct world *b);

#endif
