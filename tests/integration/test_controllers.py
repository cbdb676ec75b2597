"""Several controllers on one PostgreSQL: what is done at one reaches drones, proxies and callers of the
others. Drones and proxies are played by the test."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import struct
import threading
import urllib.request

import pytest
import websockets

from postgres import Postgres
from serve import free_port
from test_controller import (ADDRESS, CLUSTER, VERSION, Controller, Drone, connect_body, drone, error_of,
                             proxy, read_stream, run, statuses)
from test_security import bearer, create
from test_tls_controller import certs, running  # noqa: F401 (a fixture)

HOUR_MS = "3600000"
# what is repeated now and then is out of the way: only notifications bring news
NOTIFIED_ONLY = ["--tick-ms", HOUR_MS, "--poll-ms", HOUR_MS]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server():
    with Postgres() as started:
        yield started


class Controllers:
    """Some controllers on a database of their own."""

    def __init__(self, server, directory, stack):
        self.server, self.directory, self.stack = server, directory, stack
        self.database = server.new_database()
        self.started = []

    def start(self, *flags, listen="127.0.0.1:0"):
        directory = self.directory / f"controller-{len(self.started)}"
        directory.mkdir()
        one = Controller(directory, "--grace-ms", "10000", *flags, db=self.database, listen=listen)
        self.started.append(one)
        return one

    def pair(self, *flags):
        return self.start(*flags), self.start(*flags)

    def advertised(self, *flags):
        """One that says to the others where it is."""
        address = f"127.0.0.1:{free_port()}"
        return self.start("--advertise-url", f"http://{address}", *flags, listen=address)

    def kill(self, one):
        self.started.remove(one)
        assert one.stop(signal.SIGKILL) == -signal.SIGKILL

    def execute(self, sql, *parameters):
        with contextlib.closing(self.open()) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            rows = cursor.fetchall() if cursor.description else None
            connection.commit()
            return rows

    def open(self):
        return self.started[0].database()

    def stop(self):
        logs = [one.directory / "controller.log" for one in self.started]
        for one in self.started:
            assert one.stop() == 0
        for path in logs:
            text = path.read_text()
            assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text, text[-4000:]


@pytest.fixture
def controllers(server, tmp_path):
    with contextlib.ExitStack() as stack:
        several = Controllers(server, tmp_path, stack)
        yield several
        several.stop()


def in_thread(function, *parameters):
    return asyncio.get_running_loop().run_in_executor(None, function, *parameters)


def revoke_body(link, user):
    return {"backend_id": link["backend_id"], "user": user}


# ---- what is done at one controller reaches the nodes of another ----


def test_a_connect_at_one_controller_starts_a_backend_of_another_s_drone(controllers):
    async def story():
        here, there = controllers.pair(*NOTIFIED_ONLY)
        async with drone(there) as dr:
            for key in ("one", "two", "three"):
                link = (await here.aconnect(key)).json()
                action = await dr.action()
                assert action["backend_id"] == link["backend_id"]
            assert (await there.aconnect("three")).json()["backend_id"] == link["backend_id"]
            await dr.silent(0.3)  # each came once

    run(story())


def test_a_termination_at_one_controller_reaches_another_s_drone(controllers):
    async def story():
        here, there = controllers.pair(*NOTIFIED_ONLY)
        async with drone(there) as dr:
            link = (await here.aconnect()).json()
            await dr.action()
            await here.apost(f"/ctrl/b/{link['backend_id']}/soft-terminate")
            assert (await dr.action())["action"]["Terminate"]["kind"] == "soft"

    run(story())


def test_a_status_stream_tells_what_another_controller_s_drone_reports(controllers):
    async def story():
        here, there = controllers.pair(*NOTIFIED_ONLY)
        async with drone(there) as dr:
            backend = (await here.aconnect()).json()["backend_id"]
            streams = [in_thread(read_stream, one, backend) for one in (here, there)]
            await dr.action()
            await dr.bring_up(backend)
            await dr.end(backend)
            for stream in streams:
                assert statuses(await asyncio.wait_for(stream, 20)) == [
                    "scheduled", "loading", "starting", "waiting", "ready", "terminated"]

    run(story())


def test_a_route_that_waits_at_one_controller_is_answered_when_another_s_drone_is_ready(controllers):
    async def story():
        here, there = controllers.pair(*NOTIFIED_ONLY)
        async with drone(there) as dr, proxy(here) as px:
            first = (await here.aconnect("first")).json()
            second = (await there.aconnect("second")).json()
            for link in (first, second):
                await px.send({"RouteInfoRequest": {"token": link["token"]}})
            await dr.bring_up(first["backend_id"])
            answer = await px.expect("RouteInfoResponse")
            assert answer["token"] == first["token"] and answer["route_info"]["address"] == ADDRESS
            await dr.end(second["backend_id"])
            assert await px.expect("RouteInfoResponse") == {
                "token": second["token"], "route_info": None}
            assert await px.expect("BackendRemoved") == {"backend": second["backend_id"]}

    run(story())


def test_a_connect_that_waits_for_an_end_hears_of_it_from_another_controller(controllers):
    async def story():
        here, there = controllers.pair(*NOTIFIED_ONLY)
        async with drone(there) as dr:
            first = (await here.aconnect()).json()
            await dr.bring_up(first["backend_id"])
            await dr.event(first["backend_id"], {
                "status": "terminating", "last_status": "ready", "termination": "soft",
                "reason": "external"})
            again = asyncio.ensure_future(here.aconnect())
            await asyncio.sleep(0.2)
            assert not again.done()
            await dr.end(first["backend_id"])
            second = (await again).json()
            assert second["spawned"] and second["backend_id"] != first["backend_id"]

    run(story())


def test_a_hundred_connects_at_two_controllers_for_a_new_key_give_one_backend(controllers):
    async def story():
        here, there = controllers.pair(*NOTIFIED_ONLY)
        async with drone(there) as dr:
            answers = await asyncio.gather(*(one.aconnect() for one in (here, there) * 50))
            assert {answer.status for answer in answers} == {200}
            links = [answer.json() for answer in answers]
            assert len({link["backend_id"] for link in links}) == 1
            assert [link["spawned"] for link in links].count(True) == 1
            await dr.action()
            await dr.silent(0.3)

    run(story())


# ---- one connection of a node is the registered one ----


async def registered_at(one):
    """The drone dr-one is connected, as the store has it, and gets backends."""
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        state = (await one.aget(f"/ctrl/c/{CLUSTER}/state")).json()
        if [drone["ready"] for drone in state["drones"]] == [True]:
            return state["drones"][0]["node"]["controller"]
        assert asyncio.get_running_loop().time() < deadline, state
        await asyncio.sleep(0.05)


def test_a_node_that_connects_elsewhere_is_closed_where_it_was(controllers):
    async def story():
        here, there = controllers.start("--id", "co-here"), controllers.start("--id", "co-there")
        async with drone(here) as stale, proxy(here) as stale_px:
            async with drone(there) as dr, proxy(there):
                for old in (stale, stale_px):
                    await asyncio.wait_for(old.ws.wait_closed(), 20)
                    assert old.ws.close_code == 1008 and "connected after" in old.ws.close_reason
                assert await registered_at(here) == "co-there"
                await here.aconnect()
                await dr.action()

    run(story())


def hidden_connection(address, name):
    """The bytes of a drone that connects and says its name, before anybody has read one of them."""
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), 30)
    key = base64.b64encode(os.urandom(16)).decode()
    said = json.dumps({"version": VERSION, "name": name}).encode()
    connection.sendall(
        f"GET /ctrl/c/{CLUSTER}/drone-socket HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket"
        f"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        + struct.pack("!BBI", 0x81, 0x80 | len(said), 0) + said)
    return connection


def read_to_end(connection):
    said = b""
    while more := connection.recv(65536):
        said += more
    return said


@pytest.mark.fault
def test_a_registration_that_comes_late_does_not_keep_a_node_from_its_drone(controllers):
    async def story():
        here, there = controllers.start("--id", "co-here"), controllers.start("--id", "co-there")
        here.process.send_signal(signal.SIGSTOP)
        with contextlib.closing(hidden_connection(here.address, "dr-one")) as late:
            async with drone(there) as dr:
                # now the controller reads what the drone had said before it went to the other one
                here.process.send_signal(signal.SIGCONT)
                await asyncio.wait_for(dr.ws.wait_closed(), 20)
                assert dr.ws.close_code == 1008
            async with drone(there) as dr:  # as a drone does
                assert b"connected after" in await asyncio.wait_for(in_thread(read_to_end, late), 20)
                assert await registered_at(there) == "co-there"
                await there.aconnect()
                await dr.action()

    run(story())


@pytest.mark.fault
def test_a_node_whose_registration_the_store_has_lost_comes_again(controllers):
    async def story():
        here, _ = controllers.pair()
        async with drone(here) as dr:
            controllers.execute("UPDATE node SET controller = NULL")  # as a replica may have it
            await asyncio.wait_for(dr.ws.wait_closed(), 20)
            assert dr.ws.close_code == 1008

    run(story())


@pytest.mark.fault
def test_what_a_drone_s_older_connection_still_says_changes_nothing(controllers):
    """Its controller has not looked yet whether it is the registered one."""

    async def story():
        here, there = controllers.pair(*NOTIFIED_ONLY, "--registrations-ms", HOUR_MS)
        async with drone(here) as stale, proxy(here) as px:
            link = (await here.aconnect()).json()
            backend, first = link["backend_id"], await stale.action()
            await stale.event(backend, {"status": "loading"})
            async with drone(there) as dr:
                await dr.event(backend, {"status": "ready", "address": ADDRESS})
                before = await here.aget(f"/pub/b/{backend}/status")
                for state in ({"status": "starting"}, {"status": "ready", "address": "10.9.9.9:9"}):
                    await stale.event(backend, state)  # acknowledged: it is not to be sent for ever
                assert (await here.aget(f"/pub/b/{backend}/status")).json() == before.json()
                await px.send({"RouteInfoRequest": {"token": link["token"]}})
                assert (await px.expect("RouteInfoResponse"))["route_info"]["address"] == ADDRESS

                def acknowledged():
                    return controllers.execute("SELECT acked_at FROM action WHERE id = %s",
                                               first["action_id"])

                when = acknowledged()
                for one in (dr, stale):  # once more, at both controllers
                    await one.send({"AckAction": {"action_id": first["action_id"]}})
                    await one.heartbeat()  # it was taken
                assert acknowledged() == when and when[0][0]
                await here.apost(f"/ctrl/b/{backend}/soft-terminate")
                assert (await dr.action())["action"]["Terminate"]["kind"] == "soft"
                await dr.end(backend)
                await stale.event(backend, {"status": "ready", "address": ADDRESS})
                assert statuses(await in_thread(read_stream, here, backend)) == [
                    "scheduled", "loading", "ready", "terminated"]

    run(story())


# ---- nodes while the database is away ----


def socket_of(one):
    return websockets.connect(f"ws://{one.address}/ctrl/c/{CLUSTER}/drone-socket", max_size=None)


def said(message):
    return json.dumps(message)


HANDSHAKE = said({"version": VERSION, "name": "dr-one"})


async def why_closed(ws):
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            await asyncio.wait_for(ws.recv(), 30)
    return ws.close_code, ws.close_reason


@pytest.mark.fault
def test_a_node_that_cannot_be_registered_is_told_to_come_again(controllers):
    async def story():
        here = controllers.start()
        controllers.server.stop()
        try:
            async with socket_of(here) as ws:
                await ws.send(HANDSHAKE)
                assert await why_closed(ws) == (1008, "the store could not take it; try again")
        finally:
            controllers.server.start()
        await connected_again(here)

    run(story())


@pytest.mark.fault
@pytest.mark.parametrize("is_registered, count, told", [
    (False, 1500, "too much was sent before the handshake was answered"),
    (True, 5000, "it sends faster than the store takes")])
def test_a_node_that_sends_without_end_while_the_database_stands_still_is_closed(
        controllers, is_registered, count, told):
    async def story():
        here = controllers.start()
        async with socket_of(here) as ws:
            if is_registered:
                await ws.send(HANDSHAKE)
                await ws.recv()
            controllers.server.pause()
            try:
                if not is_registered:
                    await ws.send(HANDSHAKE)
                for number in range(count):
                    with contextlib.suppress(websockets.ConnectionClosed):
                        await ws.send(said({"AckAction": {"action_id": f"ak-{number}"}}))
                assert await why_closed(ws) == (1008, told)
            finally:
                controllers.server.resume()
        await connected_again(here)

    run(story())


async def connected_again(one):
    """A drone comes again until it is taken, as drones do, and gets a backend."""
    for _ in range(100):
        with contextlib.suppress(websockets.ConnectionClosed):
            async with drone(one) as dr:
                answer = await one.aconnect()
                if answer.status == 200:
                    assert (await dr.action())["backend_id"] == answer.json()["backend_id"]
                    return
                # after the database was away drones are told to say again what they run
                await asyncio.wait_for(dr.ws.wait_closed(), 20)
        await asyncio.sleep(0.1)
    raise AssertionError("the drone is not taken")


# ---- logs ----


def test_logs_are_passed_on_from_the_controller_that_the_drone_is_connected_to(controllers):
    async def story():
        here, there = controllers.start(), controllers.advertised("--id", "co-there")
        async with drone(there, extensions=["logs"]) as dr:
            backend = (await here.aconnect()).json()["backend_id"]
            page = {"origin": f"http://{here.address}", "sec-fetch-site": "same-origin"}
            reader = in_thread(lambda: here.get(f"/ctrl/b/{backend}/logs?follow=true&tail=7", headers=page))
            request = await dr.expect("LogsRequest")
            assert request["tail"] == 7 and request["follow"] is True
            answer = {"request_id": request["request_id"], "data": "one\n"}
            await dr.send({"LogsChunk": {**answer, "end": False}})
            big = "x" * 100_000 + "\n"
            for _ in range(30):
                await dr.send({"LogsChunk": {**answer, "data": big, "end": False}})
            await dr.send({"LogsChunk": {**answer, "data": "two\n", "end": True}})
            log = await asyncio.wait_for(reader, 30)
            assert log.status == 200 and log.body == f"one\n{big * 30}two\n".encode()
            assert log.headers["content-type"].startswith("text/plain")
        async with drone(there) as dr:  # an original one
            assert (await here.aget(f"/ctrl/b/{backend}/logs")).status == 501

    run(story())


def test_a_reader_of_logs_that_leaves_is_told_to_the_other_controller_s_drone(controllers):
    async def story():
        here, there = controllers.start(), controllers.advertised()
        async with drone(there, extensions=["logs"]) as dr:
            backend = (await here.aconnect()).json()["backend_id"]
            host, port = here.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET /ctrl/b/{backend}/logs?follow=1 HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            request = await dr.expect("LogsRequest")
            await dr.send({"LogsChunk": {"request_id": request["request_id"], "data": "one\n", "end": False}})
            await asyncio.wait_for(reader.readuntil(b"one\n"), 20)
            writer.close()
            assert await dr.expect("LogsCancel") == {"request_id": request["request_id"]}

    run(story())


@pytest.mark.fault
def test_logs_of_a_drone_that_cannot_be_asked_are_a_clear_answer(controllers):
    async def story():
        here, there = controllers.start(), controllers.start("--id", "co-there")
        away = controllers.advertised("--id", "co-away")
        async with drone(there, extensions=["logs"]):
            backend = (await here.aconnect()).json()["backend_id"]
            assert error_of(await here.aget(f"/ctrl/b/{backend}/logs")) == (
                503, "Other", "The drone of this backend is connected to co-there, which has no "
                "--advertise-url")
        async with drone(away, extensions=["logs"]):
            controllers.kill(away)
            assert error_of(await here.aget(f"/ctrl/b/{backend}/logs")) == (
                503, "Other", "The drone of this backend is connected to co-away, which does not answer")

    run(story())


@pytest.mark.fault
def test_logs_that_are_followed_end_with_the_controller_that_they_come_from(controllers):
    async def story():
        here, there = controllers.start(), controllers.advertised()
        async with drone(there, extensions=["logs"]) as dr:
            backend = (await here.aconnect()).json()["backend_id"]
            reader = in_thread(here.get, f"/ctrl/b/{backend}/logs?follow=true")
            request = await dr.expect("LogsRequest")
            await dr.send({"LogsChunk": {"request_id": request["request_id"], "data": "one\n", "end": False}})
            controllers.kill(there)
            assert (await asyncio.wait_for(reader, 20)).body in (b"one\n", b"")

    run(story())


async def answer_logs(dr):
    """As a drone whose backends have written one line."""
    while True:
        request = await dr.expect("LogsRequest", timeout=60)
        await dr.send({"LogsChunk": {"request_id": request["request_id"], "data": "one\n", "end": True}})


async def ask_for_logs(controller, backend, count):
    """(reader, writer) of so many requests that were just sent."""
    host, port = controller.address.split(":")
    streams = [await asyncio.open_connection(host, int(port)) for _ in range(count)]
    for _, writer in streams:
        writer.write(f"GET /ctrl/b/{backend}/logs HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        await writer.drain()
    return streams


def test_controllers_that_ask_each_other_for_logs_all_answer(controllers):
    async def story():
        one, two = controllers.advertised(), controllers.advertised()
        async with drone(one, "dr-one", pool="one", extensions=["logs"]) as dr_one, \
                drone(two, "dr-two", pool="two", extensions=["logs"]) as dr_two:
            at_one = (await one.aconnect("a", pool="one")).json()["backend_id"]
            at_two = (await one.aconnect("b", pool="two")).json()["backend_id"]
            drones = [asyncio.create_task(answer_logs(dr)) for dr in (dr_one, dr_two)]
            for each in (one, two):  # so that both find all requests at once
                each.process.send_signal(signal.SIGSTOP)
            readers = [reader for asked, backend in ((one, at_two), (two, at_one))
                       for reader, _ in await ask_for_logs(asked, backend, 128)]
            for each in (one, two):
                each.process.send_signal(signal.SIGCONT)
            answers = await asyncio.gather(*[reader.read() for reader in readers])
            for task in drones:
                task.cancel()
        assert [answer for answer in answers
                if not answer.startswith(b"HTTP/1.1 200 ") or b"\r\none\n\r\n" not in answer] == []

    run(story())


@pytest.mark.fault
def test_a_controller_that_hangs_holds_up_readers_of_logs_and_nobody_else(controllers):
    async def story():
        here, there = controllers.start(), controllers.advertised()
        async with drone(there, extensions=["logs"]):
            backend = (await here.aconnect()).json()["backend_id"]
            there.process.send_signal(signal.SIGSTOP)
            readers = await ask_for_logs(here, backend, 100)
            heads = [asyncio.create_task(reader.readline()) for reader, _ in readers]
            async with drone(here, "dr-two"):  # a node is served, too
                assert (await here.aget("/pub/health")).status == 200
                assert (await here.aget("/ctrl/drones")).status == 200
                assert (await here.aconnect("another")).status == 200
            assert sum(head.done() for head in heads) < 50  # the others still wait
            there.process.send_signal(signal.SIGCONT)
            for head, (_, writer) in zip(heads, readers):
                head.cancel()
                writer.close()

    run(story())


def test_logs_are_asked_for_by_tls_and_with_the_caller_s_token(server, tmp_path, certs):
    tokens, address = tmp_path / "tokens", f"127.0.0.1:{free_port()}"
    one, reader = create(tokens, "one", "node,connect"), create(tokens, "two", "read")
    database = server.new_database()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()

    async def story(here, there):
        path = f"/ctrl/c/{CLUSTER}/drone-socket"
        async with there.socket(path, token=one) as ws:
            dr = Drone(ws, "dr-one")
            await dr.send({"version": VERSION, "name": "dr-one", "extensions": ["logs"]})
            await dr.receive()
            await dr.heartbeat()
            call = in_thread(lambda: here.post("/ctrl/connect", connect_body(), headers=bearer(one)))
            backend = (await call).json()["backend_id"]

            def get(token):
                return here.get(f"/ctrl/b/{backend}/logs", headers=bearer(token))

            log = in_thread(get, reader)
            request = await dr.expect("LogsRequest")
            await dr.send({"LogsChunk": {"request_id": request["request_id"], "data": "one\n", "end": True}})
            assert (await log).body == b"one\n"
            assert (await in_thread(get, one)).status == 403

    with running(tmp_path / "there", certs, "--api-token-file", str(tokens), "--advertise-url",
                 f"https://{address}", db=database, listen=address) as there, \
            running(tmp_path / "here", certs, "--api-token-file", str(tokens), "--peer-ca",
                    str(certs / "servers.pem"), db=database) as here:
        run(story(here, there))


# ---- revocations ----


def test_a_revocation_reaches_the_proxies_of_every_controller(controllers):
    async def story():
        here, there = controllers.pair(*NOTIFIED_ONLY)
        async with drone(there) as dr, proxy(here, "px-here", ["revoke"]) as near, \
                proxy(there, "px-there", ["revoke"]) as far:
            link = (await here.aconnect(user="alice")).json()
            await dr.bring_up(link["backend_id"])
            await there.apost("/ctrl/b/revoke", revoke_body(link, "alice"))
            for px in (near, far):
                assert await px.expect("RevokeTokens") == {
                    "backend": link["backend_id"], "user": "alice"}
                await px.send({"RouteInfoRequest": {"token": link["token"]}})
                assert (await px.expect("RouteInfoResponse"))["route_info"] is None
            await near.silent(0.3)  # it came once

    run(story())


@pytest.mark.fault
def test_without_any_notification_a_revocation_still_comes(controllers):
    async def story():
        here, there = controllers.pair()
        async with drone(there), proxy(here, "px-here", ["revoke"]) as near, \
                proxy(there, "px-there", ["revoke"]) as far:
            link = (await here.aconnect(user="alice")).json()
            # stored as a controller does that is killed before it notifies
            controllers.execute("INSERT INTO revocation (backend, username, created_at) "
                                "VALUES (%s, 'alice', now_ms())", link["backend_id"])
            for px in (near, far):
                assert await px.expect("RevokeTokens") == {
                    "backend": link["backend_id"], "user": "alice"}

    run(story())


async def revoke_in_the_end(one, link, user):
    """Again while the connection to the database is lost amid the call: nobody knows what became of it."""
    while (answer := await one.apost("/ctrl/b/revoke", revoke_body(link, user))).status == 503:
        pass
    assert answer.status == 200, answer.body


@pytest.mark.fault
def test_revocations_come_when_the_connections_that_listen_are_killed(controllers):
    """While there is no poll: a connection that is made anew is read at once."""

    async def story():
        here, there = controllers.pair(*NOTIFIED_ONLY)

        def kill_connections():
            killed = controllers.execute(
                "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE datname = "
                "current_database() AND pid <> pg_backend_pid()")
            assert killed[0][0] >= 2

        async with drone(there), proxy(here, "px-here", ["revoke"]) as near, \
                proxy(there, "px-there", ["revoke"]) as far:
            link = (await here.aconnect(user="alice")).json()
            for number in range(20):
                users = {f"{name}-{number}" for name in ("here", "there")}
                await asyncio.gather(in_thread(kill_connections), *(
                    revoke_in_the_end(one, link, f"{name}-{number}")
                    for one, name in ((here, "here"), (there, "there"))))
                for px in (near, far):
                    missing = set(users)
                    while missing:  # what was tried twice may come twice
                        missing.discard((await px.expect("RevokeTokens"))["user"])

    run(story())


@pytest.mark.fault
def test_an_event_of_a_transaction_that_commits_late_is_not_lost(controllers):
    async def story():
        here, there = controllers.pair()
        async with drone(there), proxy(here, "px-here", ["revoke"]) as near:
            link = (await here.aconnect(user="alice")).json()
            with contextlib.closing(controllers.open()) as late, late.cursor() as cursor:
                cursor.execute("INSERT INTO revocation (backend, username, created_at) "
                               "VALUES (%s, 'late', now_ms())", (link["backend_id"],))
                await there.apost("/ctrl/b/revoke", revoke_body(link, "alice"))
                assert (await near.expect("RevokeTokens"))["user"] == "alice"
                await near.silent(2)  # it has looked a few times, and for long enough to give up
                late.commit()
            assert (await near.expect("RevokeTokens"))["user"] == "late"
            await near.silent(1.2)  # and does not come again

    run(story())


# ---- a status stream is whole, whoever stored what ----


@pytest.mark.fault
def test_a_stream_has_states_that_it_was_not_told_of_in_time(controllers):
    async def story():
        here, there = controllers.pair(*NOTIFIED_ONLY)
        async with drone(here) as dr:
            backend = (await here.aconnect()).json()["backend_id"]
            stream = in_thread(read_stream, here, backend)
            await dr.action()
            await dr.event(backend, {"status": "loading"})
            # another controller stores two, and has no time left to notify
            state = '{"status": "%s", "address": "10.0.0.1:80"}'
            for status, number in (("starting", 30), ("waiting", 40)):
                controllers.execute(
                    "WITH changed AS (UPDATE backend SET status = %s, state = %s WHERE id = %s) "
                    "INSERT INTO backend_state (backend, state, created_at) VALUES (%s, %s, now_ms())",
                    number, state % status, backend, backend, state % status)
            await dr.event(backend, {"status": "ready", "address": ADDRESS})
            await dr.end(backend)
            assert statuses(await asyncio.wait_for(stream, 20)) == [
                "scheduled", "loading", "starting", "waiting", "ready", "terminated"]

    run(story())


@pytest.mark.fault
def test_streams_routes_and_waits_go_on_when_the_database_restarts(controllers):
    async def story():
        here, there = controllers.pair()
        async with proxy(here) as px:
            async with drone(there) as dr:
                link = (await here.aconnect()).json()
                backend = link["backend_id"]
                opened = threading.Event()
                stream = in_thread(read_stream, here, backend, None, opened)
                await px.send({"RouteInfoRequest": {"token": link["token"]}})
                await dr.action()
                await dr.event(backend, {"status": "loading"})
                assert await in_thread(opened.wait, 30)
                controllers.server.restart("immediate")
                await asyncio.wait_for(dr.ws.wait_closed(), 30)  # it is to say again what it runs
            async with drone(there) as dr:
                await dr.event(backend, {"status": "ready", "address": ADDRESS})
                assert (await px.expect("RouteInfoResponse", 30))["route_info"]["address"] == ADDRESS
                await dr.end(backend)
                assert statuses(await asyncio.wait_for(stream, 30)) == [
                    "scheduled", "loading", "ready", "terminated"]
                assert (await px.expect("BackendRemoved", 30)) == {"backend": backend}

    run(story())


# ---- the end of a controller ----


@pytest.mark.fault
def test_pending_actions_of_a_killed_controller_reach_the_drone_through_another(controllers):
    async def story():
        here, there = controllers.pair()
        async with drone(here) as dr:
            link = (await here.aconnect()).json()
            first = await dr.action(ack=False)
            controllers.kill(here)
        async with drone(there) as dr:
            again = await dr.action()
            assert again["action_id"] == first["action_id"]
            await dr.bring_up(link["backend_id"])
            same = (await there.aconnect()).json()
            assert same["backend_id"] == link["backend_id"] and same["status"] == "ready"

    run(story())


@pytest.mark.fault
def test_a_stream_of_a_killed_controller_resumes_at_another_without_loss_or_repeat(controllers):
    async def story():
        here, there = controllers.pair()
        async with drone(there) as dr:
            backend = (await here.aconnect()).json()["backend_id"]
            await dr.action()
            call = urllib.request.urlopen(
                f"http://{here.address}/pub/b/{backend}/status-stream", timeout=30)
            await dr.event(backend, {"status": "loading"})
            seen = b""
            while b"id: loading\n\n" not in seen:
                seen += await in_thread(call.readline)
            controllers.kill(here)
            call.close()
            await dr.event(backend, {"status": "ready", "address": ADDRESS})
            await dr.end(backend)
            rest = await in_thread(read_stream, there, backend, {"Last-Event-ID": "loading"})
            assert statuses(seen.decode() + rest) == ["scheduled", "loading", "ready", "terminated"]

    run(story())
