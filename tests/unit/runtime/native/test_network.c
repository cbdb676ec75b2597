/* The instance's network on the real kernel: needs root. Makes and removes its own names only. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "runtime/native/network.h"

struct fixture {
	char id[9];
	struct plane_network *network;
	int netns[2];
	char address[2][PLANE_NETWORK_ADDRESS_SIZE];
};

static int enter(int netns)
{
	int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(own >= 0);
	assert_int_equal(setns(netns, CLONE_NEWNET), 0);
	return own;
}

static void leave(int own)
{
	assert_int_equal(setns(own, CLONE_NEWNET), 0);
	close(own);
}

/* A listener in the namespace (-1: the host) on a port that the kernel chose. */
static int listen_in(int netns, uint16_t *port)
{
	int own = netns >= 0 ? enter(netns) : -1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in name = { .sin_family = AF_INET };
	socklen_t len = sizeof(name);
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &len), 0);
	*port = ntohs(name.sin_port);
	if (own >= 0)
		leave(own);
	return fd;
}

static bool reaches(int netns, const char *ip, uint16_t port)
{
	int own = netns >= 0 ? enter(netns) : -1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(port) };
	assert_int_equal(inet_pton(AF_INET, ip, &peer.sin_addr), 1);
	int code = connect(fd, (struct sockaddr *)&peer, sizeof(peer)) < 0 ? errno : 0;
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(code);
	bool is_connected = code == 0;
	if (code == EINPROGRESS && poll(&wait, 1, 300) == 1)
		is_connected = getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) == 0 && code == 0;
	close(fd);
	if (own >= 0)
		leave(own);
	return is_connected;
}

/* What must work may take its time on a busy machine. */
static bool reaches_soon(int netns, const char *ip, uint16_t port)
{
	for (int tries = 0; tries < 20; tries++)
		if (reaches(netns, ip, port))
			return true;
	return false;
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct plane_error err = { 0 };
	snprintf(
		fixture->id, sizeof(fixture->id), "%08x", (unsigned)plane_random_below(1ull << 32));
	fixture->network = plane_network_create(fixture->id, PLANE_NETWORK_EGRESS_NAT, NULL, &err);
	if (!fixture->network)
		print_error("%s\n", err.message);
	assert_non_null(fixture->network);
	for (unsigned i = 0; i < 2; i++) {
		fixture->netns[i] = plane_netns_create(&err);
		assert_true(fixture->netns[i] >= 0);
		assert_int_equal(plane_network_attach(fixture->network, fixture->netns[i], i,
					 fixture->address[i], &err),
			0);
	}
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	struct plane_error err = { 0 };
	char bridge[IFNAMSIZ], command[96];

	plane_network_destroy(fixture->network);
	int code = plane_network_remove(fixture->id, &err);
	for (unsigned i = 0; i < 2; i++)
		close(fixture->netns[i]);
	snprintf(bridge, sizeof(bridge), "pl-%s", fixture->id);
	snprintf(command, sizeof(command), "nft list table inet plane_%s 2>/dev/null", fixture->id);
	bool is_left = if_nametoindex(bridge) != 0 || system(command) == 0;
	free(fixture);
	return code < 0 || is_left ? -1 : 0;
}

static void host_reaches_backends_and_they_reach_nobody_on_the_host(void **state)
{
	struct fixture *fixture = *state;
	uint16_t port[2], host_port;
	int listeners[3] = { listen_in(fixture->netns[0], &port[0]),
		listen_in(fixture->netns[1], &port[1]), listen_in(-1, &host_port) };
	char gateway[PLANE_NETWORK_ADDRESS_SIZE];

	assert_true(reaches_soon(-1, fixture->address[0], port[0]));
	assert_true(reaches_soon(-1, fixture->address[1], port[1]));
	assert_true(reaches_soon(-1, "127.0.0.1", host_port));
	assert_false(reaches(fixture->netns[0], fixture->address[1], port[1]));
	assert_false(reaches(fixture->netns[1], fixture->address[0], port[0]));
	snprintf(gateway, sizeof(gateway), "%s", fixture->address[0]);
	gateway[strlen(gateway) - 1] = '1'; /* x.y.z.2 is the first sandbox */
	assert_true(reaches_soon(-1, gateway, host_port));
	assert_false(reaches(fixture->netns[0], gateway, host_port));
	assert_false(reaches(fixture->netns[0], "169.254.169.254", host_port));
	for (int i = 0; i < 3; i++)
		close(listeners[i]);
}

static void a_restarted_drone_finds_its_network_again(void **state)
{
	struct fixture *fixture = *state;
	struct plane_error err = { 0 };
	bool in_use[PLANE_NETWORK_MAX_SANDBOXES];
	char address[PLANE_NETWORK_ADDRESS_SIZE];
	uint16_t port;
	int listener = listen_in(fixture->netns[0], &port);

	plane_network_destroy(fixture->network);
	fixture->network = plane_network_create(fixture->id, PLANE_NETWORK_EGRESS_NONE, NULL, &err);
	assert_non_null(fixture->network);
	assert_int_equal(plane_network_address(fixture->network, 0, address), 0);
	assert_string_equal(address, fixture->address[0]);
	assert_int_equal(plane_network_list(fixture->network, in_use, &err), 0);
	assert_true(in_use[0] && in_use[1] && !in_use[2]);
	assert_true(reaches_soon(-1, address, port));
	assert_int_equal(plane_network_detach(fixture->network, 0, &err), 0);
	assert_int_equal(plane_network_detach(fixture->network, 0, &err), 0);
	assert_int_equal(plane_network_list(fixture->network, in_use, &err), 0);
	assert_false(in_use[0]);
	close(listener);
}

static void bad_ids_and_indexes_are_refused(void **state)
{
	struct fixture *fixture = *state;
	struct plane_error err = { 0 };
	char address[PLANE_NETWORK_ADDRESS_SIZE];

	assert_null(plane_network_create("../x", PLANE_NETWORK_EGRESS_NAT, NULL, &err));
	assert_int_equal(err.code, -EINVAL);
	assert_int_equal(plane_network_remove("ABCDEF01", &err), -EINVAL);
	assert_int_equal(plane_network_attach(fixture->network, fixture->netns[0],
				 PLANE_NETWORK_MAX_SANDBOXES, address, &err),
		-ERANGE);
	assert_int_equal(
		plane_network_attach(fixture->network, fixture->netns[0], 1, address, &err),
		-EEXIST);
}

static void run_command(const char *command)
{
	assert_int_equal(system(command), 0);
}

static bool is_forwarding(const char *link)
{
	char path[96], text[2] = "";
	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/forwarding", link);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, 1), 1);
	close(fd);
	return text[0] == '1';
}

/* A machine whose default route and whose address for proxies are at different interfaces. */
static void interfaces_forward_as_long_as_an_instance_needs_them(void **state)
{
	int made = plane_netns_create(NULL), own = enter(made);
	struct plane_network_publish publish = { .address = 0xc0000201, /* 192.0.2.1 */
		.first_port = 20000,
		.last_port = 21022,
		.allowed_count = 1 };
	struct plane_network *network[2];

	run_command("ip link add up0 type bridge && ip link add home0 type bridge && "
		    "ip link add other0 type bridge && ip addr add 198.51.100.2/24 dev up0 && "
		    "ip addr add 192.0.2.1/24 dev home0 && ip link set up0 up && "
		    "ip link set home0 up && ip route add default via 198.51.100.1");
	network[0] = plane_network_create("00000001", PLANE_NETWORK_EGRESS_NAT, &publish, NULL);
	assert_non_null(network[0]);
	assert_true(is_forwarding("up0") && is_forwarding("home0") && !is_forwarding("other0"));
	network[1] = plane_network_create("00000002", PLANE_NETWORK_EGRESS_NAT, NULL, NULL);
	assert_non_null(network[1]);
	/* a drone that starts again finds its own notes */
	plane_network_destroy(network[0]);
	network[0] = plane_network_create("00000001", PLANE_NETWORK_EGRESS_NAT, &publish, NULL);
	assert_non_null(network[0]);

	plane_network_destroy(network[0]);
	assert_int_equal(plane_network_remove("00000001", NULL), 0);
	assert_true(is_forwarding("up0") && is_forwarding("home0")); /* another's duty now */
	plane_network_destroy(network[1]);
	assert_int_equal(plane_network_remove("00000002", NULL), 0);
	assert_false(is_forwarding("up0") || is_forwarding("home0"));
	leave(own);
	close(made);
}

static void backends_have_a_port_each_of_the_published_address(void **state)
{
	int made = plane_netns_create(NULL), own = enter(made);
	struct plane_network_publish publish = {
		.address = 0xc0000201, .first_port = 65530, .last_port = 65535, .allowed_count = 1
	};
	char endpoint[PLANE_NETWORK_ENDPOINT_SIZE], inside[PLANE_NETWORK_ENDPOINT_SIZE];

	run_command("ip link add home0 type bridge && ip addr add 192.0.2.1/24 dev home0");
	struct plane_network *network =
		plane_network_create("00000001", PLANE_NETWORK_EGRESS_NONE, &publish, NULL);
	assert_non_null(network);
	assert_int_equal(plane_network_count(network), 6);
	plane_network_published(network, 5, endpoint);
	assert_string_equal(endpoint, "192.0.2.1:65535");
	plane_network_endpoint(network, 5, inside);
	assert_memory_equal(inside, "10.", 3);
	assert_non_null(strstr(inside, ":8080"));
	plane_network_destroy(network);
	assert_int_equal(plane_network_remove("00000001", NULL), 0);

	network = plane_network_create("00000001", PLANE_NETWORK_EGRESS_NONE, NULL, NULL);
	assert_non_null(network);
	assert_int_equal(plane_network_count(network), PLANE_NETWORK_MAX_SANDBOXES);
	plane_network_published(network, 5, endpoint);
	plane_network_endpoint(network, 5, inside);
	assert_string_equal(endpoint, inside);
	plane_network_destroy(network);
	assert_int_equal(plane_network_remove("00000001", NULL), 0);
	leave(own);
	close(made);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			host_reaches_backends_and_they_reach_nobody_on_the_host, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_restarted_drone_finds_its_network_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bad_ids_and_indexes_are_refused, set_up, tear_down),
		cmocka_unit_test(interfaces_forward_as_long_as_an_instance_needs_them),
		cmocka_unit_test(backends_have_a_port_each_of_the_published_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
