/* Writes the rules as text and gives them to libnftables, which sends one netlink batch. */
#include "runtime/native/nft.h"

#include <errno.h>
#include <nftables/libnftables.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cleanup.h"

static void free_context(struct nft_ctx **context)
{
	if (*context)
		nft_ctx_free(*context);
}

static void finish_text(struct plane_buffer *buffer)
{
	plane_buffer_finish(buffer);
}

static int run(const char *commands, const char *what, struct plane_error *err)
{
	_cleanup_(free_context) struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);

	if (!context)
		return plane_error_set(err, -ENOMEM, "%s: no nftables context", what);
	if (nft_ctx_buffer_error(context) || nft_ctx_buffer_output(context))
		return plane_error_set(err, -ENOMEM, "%s: no memory", what);
	if (nft_run_cmd_from_buffer(context, commands) == 0)
		return 0;
	const char *reason = nft_ctx_get_error_buffer(context);
	return plane_error_set(
		err, -EIO, "%s: nftables: %.*s", what, (int)strcspn(reason, "\n"), reason);
}

/* A sandbox's MAC contains its address, and the set pairs them: a packet from any other MAC or
 * address is forged. The bridge port is locked to the MAC. */
static void add_owners(struct plane_buffer *text, const struct plane_nft_rules *rules)
{
	plane_buffer_add_text(text, "set owners { type ether_addr . ipv4_addr; elements = { ");
	for (unsigned i = 0; i < rules->count; i++) {
		uint32_t ip = rules->subnet + rules->first_index + i;
		unsigned a = ip >> 24, b = ip >> 16 & 255, c = ip >> 8 & 255, d = ip & 255;
		plane_buffer_addf(text, "%s02:50:%02x:%02x:%02x:%02x . %u.%u.%u.%u", i ? ", " : "",
			a, b, c, d, a, b, c, d);
	}
	plane_buffer_add_text(text, " }; }\n");
}

static void add_address(struct plane_buffer *text, uint32_t address)
{
	plane_buffer_addf(text, "%u.%u.%u.%u", address >> 24, address >> 16 & 255,
		address >> 8 & 255, address & 255);
}

/* Which port leads to which sandbox follows from the sandbox's number. So nothing changes when one
 * is made or removed: where none is, nobody answers. */
static void add_ports(struct plane_buffer *text, const struct plane_nft_rules *rules)
{
	const struct plane_network_publish *publish = rules->publish;

	plane_buffer_add_text(text, "map ports { type inet_service : ipv4_addr; elements = { ");
	for (unsigned i = 0; i < plane_network_publish_count(publish, rules->count); i++) {
		plane_buffer_addf(text, "%s%u : ", i ? ", " : "", publish->first_port + i);
		add_address(text, rules->subnet + rules->first_index + i);
	}
	plane_buffer_add_text(text, " }; }\n"
				    "set proxies { type ipv4_addr; flags interval; auto-merge; "
				    "elements = { ");
	for (unsigned i = 0; i < publish->allowed_count; i++) {
		plane_buffer_add_text(text, i ? ", " : "");
		add_address(text, publish->allowed[i].address);
		plane_buffer_addf(text, "/%u", publish->allowed[i].prefix);
	}
	plane_buffer_add_text(text, " }; }\n");
}

/* A packet's destination is one of the published ports. */
static void add_published(struct plane_buffer *text, const struct plane_nft_rules *rules)
{
	if (rules->is_own) {
		plane_buffer_add_text(text, "ip daddr ");
		add_address(text, rules->publish->address);
	} else {
		plane_buffer_add_text(text, "fib daddr type local");
	}
	plane_buffer_addf(
		text, " tcp dport %u-%u ", rules->publish->first_port, rules->publish->last_port);
}

/* Proxies of other machines, then those of this one. Backends, of any instance, never. */
static void add_publish(struct plane_buffer *text, const struct plane_nft_rules *rules)
{
	if (!rules->publish)
		return;
	add_ports(text, rules);
	plane_buffer_add_text(text, "chain publish { type nat hook prerouting priority dstnat;\n"
				    "iifname \"pl-*\" return\nip saddr @proxies ");
	add_published(text, rules);
	plane_buffer_addf(text, "dnat ip to tcp dport map @ports:%u\n}\n", rules->backend_port);
	plane_buffer_add_text(text, "chain publish_here { type nat hook output priority -100;\n");
	add_published(text, rules);
	plane_buffer_addf(text, "dnat ip to tcp dport map @ports:%u\n}\n", rules->backend_port);
}

/* Connections that came by a published port, in both directions. And backends must not come to the
 * published ports of other drones, where the addresses of this machine may be allowed. */
static void add_forward_published(struct plane_buffer *text, const struct plane_nft_rules *rules)
{
	const struct plane_network_publish *publish = rules->publish;
	_cleanup_(finish_text) struct plane_buffer origin = { 0 };

	if (!publish)
		return;
	plane_buffer_add_text(&origin, "ct status dnat ");
	if (rules->is_own) {
		plane_buffer_add_text(&origin, "ct original ip daddr ");
		add_address(&origin, publish->address);
	}
	plane_buffer_addf(&origin, " meta l4proto tcp ct original proto-dst %u-%u",
		publish->first_port, publish->last_port);
	plane_buffer_addf(text, "iifname != \"pl-*\" oifname \"%s\" %s accept\n", rules->bridge,
		plane_buffer_text(&origin));
	plane_buffer_addf(text, "iifname \"%s\" ct direction reply %s accept\n", rules->bridge,
		plane_buffer_text(&origin));
	plane_buffer_addf(text, "iifname \"%s\" tcp dport %u-%u drop\n", rules->bridge,
		publish->first_port, publish->last_port);
}

static void add_forward(struct plane_buffer *text, const struct plane_nft_rules *rules)
{
	const char *bridge = rules->bridge;

	plane_buffer_add_text(
		text, "chain forward { type filter hook forward priority -10; policy accept;\n");
	plane_buffer_addf(text, "iifname \"%s\" oifname \"%s\" drop\n", bridge, bridge);
	add_forward_published(text, rules);
	if (!rules->is_nat) {
		plane_buffer_addf(
			text, "iifname \"%s\" drop\noifname \"%s\" drop\n}\n", bridge, bridge);
		return;
	}
	plane_buffer_addf(
		text, "oifname \"%s\" ct state != { established, related } drop\n", bridge);
	plane_buffer_addf(text, "iifname \"%s\" oifname \"pl-*\" drop\n", bridge);
	/* Networks of other tenants of the host (containers, virtual machines) are bridges. */
	if (rules->uplink)
		plane_buffer_addf(text,
			"iifname \"%s\" oifname != \"%s\" meta oifkind \"bridge\" drop\n", bridge,
			rules->uplink);
	else
		plane_buffer_addf(text, "iifname \"%s\" meta oifkind \"bridge\" drop\n", bridge);
	plane_buffer_add_text(text, "}\n");
	plane_buffer_add_text(
		text, "chain postrouting { type nat hook postrouting priority srcnat;\n");
	plane_buffer_add_text(text, "ip saddr ");
	add_address(text, rules->subnet);
	plane_buffer_addf(text, "/%u oifname != \"%s\" masquerade\n}\n", rules->prefix, bridge);
}

int plane_nft_install(const struct plane_nft_rules *rules, struct plane_error *err)
{
	_cleanup_(finish_text) struct plane_buffer text = { 0 };
	const char *bridge = rules->bridge;

	/* "table, delete table, table" replaces it whether it exists or not. */
	plane_buffer_addf(&text,
		"table inet plane_%s\ndelete table inet plane_%s\ntable inet plane_%s {\n",
		rules->instance_id, rules->instance_id, rules->instance_id);
	add_owners(&text, rules);
	plane_buffer_addf(&text,
		"chain prerouting { type filter hook prerouting priority raw; policy accept;\n"
		"iifname != \"%s\" accept\n"
		"meta nfproto ipv6 drop\n"
		"ether saddr . ip saddr != @owners drop\n"
		"ip daddr { 169.254.0.0/16, 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255 } drop\n}\n",
		bridge);
	plane_buffer_addf(&text,
		"chain input { type filter hook input priority -10; policy accept;\n"
		"iifname != \"%s\" accept\n"
		"ct state established accept\n"
		"ct state related meta l4proto icmp accept\ndrop\n}\n",
		bridge);
	add_publish(&text, rules);
	add_forward(&text, rules);
	plane_buffer_add_text(&text, "}\n");
	return run(plane_buffer_text(&text), "install the firewall table", err);
}

int plane_nft_remove(const char *instance_id, struct plane_error *err)
{
	_cleanup_(finish_text) struct plane_buffer text = { 0 };

	plane_buffer_addf(&text, "table inet plane_%s\ndelete table inet plane_%s\n", instance_id,
		instance_id);
	return run(plane_buffer_text(&text), "remove the firewall table", err);
}
