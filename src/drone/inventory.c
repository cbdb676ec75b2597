/* Inventories, in messages of limited size. */
#include "drone/inventory.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"

struct listing {
	struct plane_channel *channel;
	json_t *backends; /* of the message that is being filled */
};

static void send_part(struct listing *listing, bool has_more)
{
	_cleanup_json_ json_t *backends = STEAL(listing->backends);
	struct plane_drone_message message = {
		.kind = PLANE_DRONE_INVENTORY, .inventory = backends, .has_more = has_more
	};
	(void)plane_channel_send(listing->channel, plane_drone_message_write(&message));
}

static void add(void *data, const char *backend, int64_t epoch)
{
	struct listing *listing = data;
	if (json_object_size(listing->backends) == PLANE_INVENTORY_MAX) {
		send_part(listing, true);
		listing->backends = json_object();
	}
	(void)json_object_set_new(listing->backends, backend, plane_inventory_entry(epoch));
}

void plane_inventory_send(struct plane_inventory *inventory)
{
	struct listing listing = { .channel = inventory->channel, .backends = json_object() };
	plane_inventory_finish(inventory);
	plane_supervisor_list(inventory->supervisor, add, &listing);
	send_part(&listing, false); /* also of nothing: that nothing runs has to be known */
}

void plane_inventory_update(struct plane_inventory *inventory)
{
	const json_t *disowned = inventory->disowned;
	for (size_t i = 0; i < json_array_size(disowned); i++)
		if (plane_supervisor_has(
			    inventory->supervisor, json_string_value(json_array_get(disowned, i))))
			return;
	if (disowned)
		plane_inventory_send(inventory);
}

void plane_inventory_end(struct plane_inventory *inventory, const struct plane_drone_order *order)
{
	plane_inventory_finish(inventory);
	inventory->disowned = json_incref((json_t *)order->ended);
	for (size_t i = 0; i < json_array_size(order->ended); i++)
		plane_supervisor_disown(
			inventory->supervisor, json_string_value(json_array_get(order->ended, i)));
	plane_inventory_update(inventory);
}

void plane_inventory_finish(struct plane_inventory *inventory)
{
	json_decref(STEAL(inventory->disowned));
}
