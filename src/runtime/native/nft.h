/* The nftables table `inet plane_<id>`, replaced as one transaction, in-process. Never touches
 * another table. */
#ifndef PLANE_RUNTIME_NATIVE_NFT_H
#define PLANE_RUNTIME_NATIVE_NFT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "runtime/native/network_publish.h"

struct plane_nft_rules {
	const char *instance_id;
	const char *bridge;
	const char *uplink;    /* interface of the default route, may itself be a bridge; or NULL */
	uint32_t subnet;       /* host byte order */
	unsigned prefix;       /* its length */
	bool is_nat;           /* else nothing leaves */
	unsigned first_index;  /* offset of index 0 in the subnet */
	unsigned count;        /* sandboxes: each may send only from its own MAC and address */
	unsigned backend_port; /* of each sandbox */
	/** NULL: none is reached from other machines. */
	const struct plane_network_publish *publish;
	bool is_own; /* its address is the host's; else it is translated on the way to it */
};

int plane_nft_install(const struct plane_nft_rules *rules, struct plane_error *err);
/** A missing table is fine. */
int plane_nft_remove(const char *instance_id, struct plane_error *err);

#endif
