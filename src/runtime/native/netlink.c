/* Route netlink over libmnl. */
#include "runtime/native/netlink.h"

#include <assert.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

int plane_netlink_open(struct plane_netlink *netlink, struct plane_error *err)
{
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

	if (!socket)
		return plane_error_errno(err, "open a netlink socket");
	if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		plane_error_errno(err, "bind a netlink socket");
		mnl_socket_close(socket);
		return err ? err->code : -EIO;
	}
	netlink->socket = socket;
	netlink->sequence = 0;
	return 0;
}

void plane_netlink_finish(struct plane_netlink *netlink)
{
	if (netlink->socket)
		mnl_socket_close(netlink->socket);
	netlink->socket = NULL;
}

static void complete_last(struct plane_netlink_batch *batch)
{
	if (batch->count > 0) {
		struct nlmsghdr *last = batch->messages[batch->count - 1];
		batch->len = (size_t)((char *)last - batch->bytes) + MNL_ALIGN(last->nlmsg_len);
	}
	assert(batch->len <= sizeof(batch->bytes));
}

struct nlmsghdr *plane_netlink_add(struct plane_netlink_batch *batch, uint16_t type, uint16_t flags)
{
	complete_last(batch);
	assert(batch->count < PLANE_NETLINK_BATCH_MAX);
	assert(batch->len + 512 <= sizeof(batch->bytes)); /* no request of ours is longer */
	struct nlmsghdr *header = mnl_nlmsg_put_header(batch->bytes + batch->len);
	header->nlmsg_type = type;
	header->nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST | NLM_F_ACK);
	batch->messages[batch->count++] = header;
	return header;
}

static ssize_t receive(struct plane_netlink *netlink, char *bytes, size_t size)
{
	ssize_t len;

	do {
		len = mnl_socket_recvfrom(netlink->socket, bytes, size);
	} while (len < 0 && errno == EINTR);
	return len;
}

int plane_netlink_commit(struct plane_netlink *netlink, struct plane_netlink_batch *batch,
	const char *what, struct plane_error *err)
{
	_Alignas(8) char bytes[16384];
	unsigned answers = 0;
	int code = 0;

	complete_last(batch);
	uint32_t first = netlink->sequence + 1;
	for (unsigned i = 0; i < batch->count; i++)
		batch->messages[i]->nlmsg_seq = ++netlink->sequence;
	if (mnl_socket_sendto(netlink->socket, batch->bytes, batch->len) < 0)
		return plane_error_errno(err, "%s: send to netlink", what);
	while (answers < batch->count) {
		ssize_t received = receive(netlink, bytes, sizeof(bytes));
		if (received < 0)
			return plane_error_errno(err, "%s: receive from netlink", what);
		int left = (int)received;
		for (struct nlmsghdr *header = (void *)bytes; mnl_nlmsg_ok(header, left);
			header = mnl_nlmsg_next(header, &left)) {
			/* Anything older is a late answer to a request that failed midway. */
			if (header->nlmsg_type != NLMSG_ERROR ||
				header->nlmsg_seq - first >= batch->count)
				continue;
			const struct nlmsgerr *answer = mnl_nlmsg_get_payload(header);
			answers++;
			if (answer->error && !code)
				code = answer->error;
		}
	}
	if (code)
		return plane_error_set(err, code, "%s: %s", what, strerror(-code));
	return 0;
}

int plane_netlink_ask(struct plane_netlink *netlink, struct nlmsghdr *request, mnl_cb_t answer,
	void *data, const char *what, struct plane_error *err)
{
	_Alignas(8) char bytes[32768];
	int more = MNL_CB_OK;

	request->nlmsg_flags |= NLM_F_REQUEST;
	if (!(request->nlmsg_flags & NLM_F_DUMP))
		request->nlmsg_flags |= NLM_F_ACK;
	request->nlmsg_seq = ++netlink->sequence;
	if (mnl_socket_sendto(netlink->socket, request, request->nlmsg_len) < 0)
		return plane_error_errno(err, "%s: send to netlink", what);
	while (more > MNL_CB_STOP) {
		ssize_t received = receive(netlink, bytes, sizeof(bytes));
		if (received < 0)
			return plane_error_errno(err, "%s: receive from netlink", what);
		more = mnl_cb_run(bytes, (size_t)received, request->nlmsg_seq,
			mnl_socket_get_portid(netlink->socket), answer, data);
	}
	if (more < 0)
		return plane_error_errno(err, "%s", what);
	return 0;
}

int plane_netlink_index(const struct plane_netlink *netlink, const char *name)
{
	struct ifreq request = { 0 };

	if (strlen(name) >= sizeof(request.ifr_name))
		return -ENODEV;
	strcpy(request.ifr_name, name);
	if (ioctl(mnl_socket_get_fd(netlink->socket), SIOCGIFINDEX, &request) < 0)
		return -errno;
	return request.ifr_ifindex;
}
