/* Inventories, in messages of limited size. */
#include "drone/inventory.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"

struct listing {
	struct plane_channel *channel;
	json_t *backends; /* of the message that is being filled */
};

static void send_part(struct listing *listing)
{
	_cleanup_json_ json_t *backends = STEAL(listing->backends);
	struct plane_drone_message message = { .kind = PLANE_DRONE_INVENTORY,
		.inventory = backends };
	(void)plane_channel_send(listing->channel, plane_drone_message_write(&message));
}

static void add(void *data, const char *backend, int64_t epoch)
{
	struct listing *listing = data;
	if (!listing->backends)
		listing->backends = json_object();
	(void)json_object_set_new(listing->backends, backend, plane_inventory_entry(epoch));
	if (json_object_size(listing->backends) == PLANE_INVENTORY_MAX)
		send_part(listing);
}

void plane_inventory_send(struct plane_supervisor *supervisor, struct plane_channel *channel)
{
	struct listing listing = { .channel = channel };
	plane_supervisor_list(supervisor, add, &listing);
	if (listing.backends)
		send_part(&listing);
}

void plane_inventory_end(struct plane_supervisor *supervisor, const struct plane_drone_order *order)
{
	for (size_t i = 0; i < json_array_size(order->ended); i++)
		plane_supervisor_disown(
			supervisor, json_string_value(json_array_get(order->ended, i)));
}
