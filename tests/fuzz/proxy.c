/* The whole path of requests through the proxy: clients, its worker, hostile backends. The bytes of
 * an input go to the proxy from client 0, until a byte 0xff; the byte behind it says what follows:
 *
 *   0 1 2  bytes of that client           a b    bytes of the newest backend, of the one before
 *   s c p  the last client sends no more, closes, pauses or goes on reading
 *   f k q  the newest backend sends no more, closes, pauses or goes on reading
 *   t      time passes: each byte that follows stands for so many half seconds
 *   h n r  tokens are asked for in vain; are answered: there are none; are answered rightly
 *   u v    the user's tokens are revoked; the backends are gone
 *   x y z  connections to backends are refused, hang, work again
 *   l      sockets are small from now on      w  the proxy is told to stop
 *
 * Each step is taken when the proxy has nothing left to do. Everything is run twice, the second
 * time with the bytes in small pieces: that makes no difference to anybody. */
#include <stdlib.h>
#include <string.h>

#include "proxy/worker.h"
#include "proxy_check.h"

#define ESCAPE 0xff
#define PIECE 5

struct script {
	struct fuzz_input input;
	size_t piece; /* how many bytes at most go in one step */
	uint8_t command;
	size_t client;
	struct world_peer *backend; /* that the bytes behind the command go to */
};

/* The bytes up to the next command, at most one piece of them; time passes at once. */
static size_t plain_bytes(const struct script *script)
{
	const uint8_t *at = script->input.at;
	size_t len = script->input.left;
	if (script->command != 't' && len > script->piece)
		len = script->piece;
	const uint8_t *escape = len ? memchr(at, ESCAPE, len) : NULL;
	return escape ? (size_t)(escape - at) : len;
}

static void toggle(struct world *world, struct world_peer *peer)
{
	world->has_paused = true;
	if (peer)
		peer->is_paused = !peer->is_paused;
}

static void revoke(struct world *world, bool is_user)
{
	static const char *const backends[] = { "b-with-user", "b-static", "b-anonymous" };
	for (size_t i = 0; i < 3; i++)
		plane_routes_remove(world->shared.routes, backends[i], is_user ? WORLD_USER : NULL);
	if (is_user)
		plane_worker_revoke(world->worker, backends[0], WORLD_USER);
}

static void set_connections(struct world *world, uint8_t command)
{
	world->refuses_connections = command == 'x';
	world->hangs_connections = command == 'y';
}

/* A command that needs no bytes behind it. */
static void do_command(struct world *world, struct script *script)
{
	struct world_peer *client = &world->clients[script->client];
	switch (script->command) {
	case '0':
	case '1':
	case '2':
		script->client = script->command - '0';
		break;
	case 'a':
	case 'b':
		script->backend = world_backend(world, script->command == 'b');
		break;
	case 's':
		world_peer_shut(client);
		break;
	case 'c':
		world_peer_close(client);
		break;
	case 'p':
		toggle(world, client);
		break;
	case 'f':
		world_peer_shut(world_backend(world, 0));
		break;
	case 'k':
		world_peer_close(world_backend(world, 0));
		break;
	case 'q':
		toggle(world, world_backend(world, 0));
		break;
	case 'h':
		world->holds_routes = true;
		break;
	case 'n':
	case 'r':
		world_answer_routes(world, script->command == 'r');
		world->holds_routes = false;
		break;
	case 'u':
	case 'v':
		revoke(world, script->command == 'u');
		break;
	case 'x':
	case 'y':
	case 'z':
		set_connections(world, script->command);
		break;
	case 'l':
		world->has_small_buffers = true;
		break;
	case 'w':
		world->is_stopping = true;
		plane_worker_stop(world->worker);
		break;
	default: /* t: about the bytes that follow */
		break;
	}
}

static void do_bytes(struct world *world, struct script *script, const uint8_t *bytes, size_t len)
{
	int64_t half_seconds = 0;
	switch (script->command) {
	case 'a':
	case 'b':
		if (script->backend)
			world_peer_send(script->backend, bytes, len);
		break;
	case 't':
		for (size_t i = 0; i < len; i++)
			half_seconds += bytes[i];
		world_pass_time(world, half_seconds * 500);
		break;
	case '0':
	case '1':
	case '2':
		world_client_send(world, script->client, bytes, len);
		break;
	default: /* commands without bytes: what follows says nothing */
		break;
	}
}

static bool step(struct world *world, void *data)
{
	struct script *script = data;
	if (!script->input.left)
		return false;
	size_t len = plain_bytes(script);
	if (len) {
		const uint8_t *bytes = script->input.at;
		script->input.at += len;
		script->input.left -= len;
		do_bytes(world, script, bytes, len);
		return true;
	}
	(void)fuzz_byte(&script->input); /* the escape */
	script->command = fuzz_byte(&script->input);
	do_command(world, script);
	return true;
}

static bool run(struct world *world, const uint8_t *bytes, size_t len, size_t piece)
{
	struct script script = { .input = { bytes, len }, .piece = piece, .command = '0' };
	*world = (struct world){ 0 };
	world_run(world, step, &script);
	if (getenv("FUZZ_SHOW"))
		world_show(world);
	return proxy_check(world);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct world whole, pieces;
	bool is_well_formed = run(&whole, bytes, len, SIZE_MAX);
	is_well_formed = run(&pieces, bytes, len, PIECE) && is_well_formed;
	/* how much a socket keeps for somebody who does not read is the kernel's to say */
	if (is_well_formed && !whole.has_paused)
		proxy_check_same(&whole, &pieces);
	world_finish(&whole);
	world_finish(&pieces);
	return 0;
}
