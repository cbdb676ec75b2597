"""HAProxy with the packaged configuration in front of two controllers, whose nodes are played by the test:
what was asked of a controller that is killed, and status streams over many kills."""

import asyncio
import contextlib
import itertools
import json
import random
import re
import signal
import time

import pytest
import websockets

from serve import free_port, request, wait_until
from test_controller import ADDRESS, CLUSTER, VERSION, connect_body, drone
from test_controllers import controllers, in_thread, server  # noqa: F401 (fixtures)
from test_haproxy import Process, haproxy_file, healthy

USERS = 10
STREAMS = 5  # of each backend
EVENTS_BETWEEN_KILLS = 100

pytestmark = [pytest.mark.timeout(240), pytest.mark.fault]


class Balanced:
    """HAProxy before the two controllers of a test that plays their nodes."""

    def __init__(self, directory, controllers, left_out=None, is_blind=False):
        """Without the text `left_out` of the file; when it `is_blind` it looks whether the controllers
        are well once, and not again."""
        self.address = f"127.0.0.1:{free_port()}"
        path = haproxy_file(directory, self.address, [one.address for one in controllers])
        text = path.read_text()
        for old, new in ((left_out, ""), (" inter 1s fastinter 200ms" if is_blind else None, " inter 1h")):
            assert not old or text.count(old) == 1
            text = text.replace(old, new) if old else text
        path.write_text(text)
        self.process = Process(directory, "haproxy", "haproxy", "-db", "-f", path)

    def __enter__(self):
        self.process.start()
        wait_until(lambda: healthy(f"http://{self.address}"), 20, "HAProxy")
        return self

    def __exit__(self, *_):
        self.process.kill()

    def connect(self):
        return request("POST", f"http://{self.address}/ctrl/connect", connect_body())


def waiting(controller):
    """How many connects wait at it."""
    return int(re.search(r"^plane_connects_waiting (\d+)$", controller.get("/metrics").body.decode(), re.M)[1])


@pytest.mark.parametrize("left_out", [None, " empty-response"])
def test_connects_that_a_killed_controller_had_taken_are_answered_by_another(controllers, left_out):
    """With the line of the configuration that does it, and without."""

    async def story():
        here, there = controllers.pair()
        with Balanced(controllers.directory, [here, there], left_out) as balanced:
            async with drone(there) as dr:
                first = (await here.aconnect()).json()["backend_id"]
                await dr.bring_up(first)
                await dr.event(first, {"status": "terminating", "last_status": "ready",
                                       "termination": "soft", "reason": "external"})
                calls = [in_thread(balanced.connect) for _ in range(4)]
                await in_thread(wait_until, lambda: [waiting(one) for one in (here, there)] == [2, 2], 20,
                                "connects wait")
                controllers.kill(here)
                await dr.end(first)
                answers = await asyncio.wait_for(asyncio.gather(*calls), 40)
                if left_out:
                    assert sorted(answer.status for answer in answers) == [200] * 2 + [502] * 2
                    return
                assert [answer.status for answer in answers] == [200] * 4
                links = [answer.json() for answer in answers]
                assert len({link["backend_id"] for link in links} - {first}) == 1
                assert first not in {link["backend_id"] for link in links}

    asyncio.run(story())


@pytest.mark.parametrize("left_out", [None, " conn-failure"])
def test_calls_go_to_another_controller_before_it_is_noticed_that_one_is_gone(controllers, left_out):
    """With the line of the configuration that does it, and without."""

    async def story():
        here, there = controllers.pair()
        with Balanced(controllers.directory, [here, there], left_out, is_blind=True) as balanced:
            async with drone(there) as dr:
                first = (await there.aconnect()).json()["backend_id"]
                await dr.bring_up(first)
                controllers.kill(here)
                answers = [await in_thread(balanced.connect) for _ in range(8)]
                if left_out:
                    assert {answer.status for answer in answers} == {200, 503}
                    return
                assert [answer.json()["backend_id"] for answer in answers] == [first] * 8

    asyncio.run(story())


# ---- status streams over many kills ----


async def call(address, method, path, body=None, headers=""):
    """Status, and reader and writer of what follows the head."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode() if body is not None else b""
    kind = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n" if data else ""
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {address}\r\n{kind}{headers}\r\n".encode() + data)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except BaseException:
        writer.close()
        raise
    return int(head.split()[1]), head, reader, writer


CUT_OFF = (OSError, asyncio.IncompleteReadError, ValueError)


class PlayedDrone:
    """A drone that comes again whenever its connection is cut, and says again what was not acknowledged.
    Its backends go through all states."""

    STATES = [{"status": "loading"}, {"status": "starting"}, {"status": "waiting", "address": ADDRESS},
              {"status": "ready", "address": ADDRESS},
              {"status": "terminating", "last_status": "ready", "termination": "soft", "reason": "swept"},
              {"status": "hard-terminating", "last_status": "ready", "reason": "swept"},
              {"status": "terminated", "last_status": "ready", "termination": "hard", "reason": "swept",
               "exit_code": 0}]

    def __init__(self, address, seed):
        self.url = f"ws://{address}/ctrl/c/{CLUSTER}/drone-socket"
        self.random, self.numbers = random.Random(seed), itertools.count(1)
        self.unacked, self.actions, self.lives, self.ws, self.connections = {}, set(), set(), None, 0

    async def say(self, message):
        if self.ws:
            with contextlib.suppress(websockets.ConnectionClosed):
                await self.ws.send(json.dumps(message))

    async def live(self, backend):
        for state in self.STATES:
            await asyncio.sleep(self.random.uniform(0, 0.5))
            number = next(self.numbers)
            self.unacked[number] = {"BackendEvent": {
                "event_id": number, "backend_id": backend, "state": state, "timestamp": 1}}
            await self.say(self.unacked[number])

    async def beat(self):
        while True:
            await self.say({"Heartbeat": {"local_time": int(time.monotonic() * 1000)}})
            await asyncio.sleep(0.5)

    async def take(self, message):
        if "AckEvent" in message:
            self.unacked.pop(message["AckEvent"]["event_id"], None)
        if "Action" in message:
            action = message["Action"]
            await self.say({"AckAction": {"action_id": action["action_id"]}})
            if "Spawn" in action["action"] and action["action_id"] not in self.actions:
                self.lives.add(asyncio.ensure_future(self.live(action["backend_id"])))
            self.actions.add(action["action_id"])

    async def serve(self):
        async with websockets.connect(self.url, max_size=None) as ws:
            await ws.send(json.dumps({"version": VERSION, "name": "dr-one"}))
            await ws.recv()
            self.ws, self.connections = ws, self.connections + 1
            for message in list(self.unacked.values()):
                await ws.send(json.dumps(message))
            async for text in ws:
                await self.take(json.loads(text))

    async def run(self):
        beats = asyncio.ensure_future(self.beat())
        try:
            while True:
                with contextlib.suppress(OSError, asyncio.TimeoutError, websockets.WebSocketException):
                    await self.serve()
                self.ws = None
                await asyncio.sleep(0.05)
        finally:
            beats.cancel()


class Following:
    """A status stream that is read as browsers do: after its end it is asked for from where it was."""

    def __init__(self, crowd, backend):
        self.crowd, self.path, self.seen, self.resumed = crowd, f"/pub/b/{backend}/status-stream", [], 0

    async def read_once(self):
        headers = f"Last-Event-ID: {self.seen[-1]}\r\n" if self.seen else ""
        status, head, reader, writer = await call(self.crowd.address, "GET", self.path, headers=headers)
        text = b""
        try:
            assert status != 200 or b"chunked" in head.lower()
            while status == 200 and (size := int((await reader.readline()).strip(), 16)):
                text += (await reader.readexactly(size + 2))[:-2]
                *events, text = text.split(b"\n\n")
                for event in events:
                    self.take(event.decode())
        finally:
            writer.close()

    def take(self, event):
        if event.startswith(":"):
            return  # it is alive
        data, number = event.split("\n")
        status = json.loads(data.removeprefix("data: "))["status"]
        assert number == f"id: {status}"
        self.seen.append(status)
        self.crowd.events += 1

    async def read(self):
        while not self.seen or self.seen[-1] != "terminated":
            with contextlib.suppress(*CUT_OFF):
                await self.read_once()
            self.resumed += 1
            await asyncio.sleep(0.05)  # the pause of a browser, in small
        return self


class Crowd:
    """Users who start backends, one after another, and follow what becomes of them."""

    def __init__(self, address):
        self.address, self.events, self.is_over, self.streams = address, 0, False, {}

    async def connect(self, key):
        while True:
            with contextlib.suppress(*CUT_OFF):
                status, head, reader, writer = await call(
                    self.address, "POST", "/ctrl/connect", connect_body(key))
                try:
                    length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
                    answer = json.loads(await reader.readexactly(length)) if status == 200 else None
                finally:
                    writer.close()
                if answer:
                    return answer["backend_id"]
            await asyncio.sleep(0.05)

    async def use(self, user):
        for number in itertools.count():
            if self.is_over:
                return
            backend = await self.connect(f"{user}-{number}")
            self.streams[backend] = await asyncio.gather(
                *(Following(self, backend).read() for _ in range(STREAMS)))


async def kill_in_turn(crowd, pair, seconds):
    """kill -9 of one controller after the other; each starts again when the other has served for a while."""
    until, kills = time.monotonic() + seconds, 0
    while kills < 4 or time.monotonic() < until:
        killed = pair[kills % 2]
        assert await in_thread(killed.stop, signal.SIGKILL) == -signal.SIGKILL
        seen = crowd.events
        deadline = time.monotonic() + 60
        while crowd.events < seen + EVENTS_BETWEEN_KILLS:
            assert time.monotonic() < deadline, f"nothing goes on without {killed.address}"
            await asyncio.sleep(0.02)
        await in_thread(killed.start, killed.address)
        await in_thread(wait_until, lambda at=killed: healthy(f"http://{at.address}"), 30, "it is back")
        kills += 1
    return kills


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.long)])
def test_status_streams_lose_and_repeat_nothing_while_controllers_are_killed(controllers, seconds):
    async def story():
        pair = controllers.pair()
        with Balanced(controllers.directory, pair) as balanced:
            played, crowd = PlayedDrone(balanced.address, 7), Crowd(balanced.address)
            running = asyncio.ensure_future(played.run())
            users = [asyncio.ensure_future(crowd.use(user)) for user in range(USERS)]
            kills = await kill_in_turn(crowd, pair, seconds)
            crowd.is_over = True
            await asyncio.wait_for(asyncio.gather(*users), 60)
            running.cancel()
        resumed = check(controllers, crowd)
        print(f"{kills} kills, {len(crowd.streams)} backends, {len(crowd.streams) * STREAMS} streams, "
              f"{crowd.events} states, resumed {resumed} times")

    asyncio.run(story())


def check(controllers, crowd):
    """Each stream had each state that is stored, once and in order. How often they were resumed."""
    stored = {}
    for backend, status in controllers.execute(
            "SELECT backend, state::jsonb->>'status' FROM backend_state ORDER BY id"):
        stored.setdefault(backend, []).append(status)
    assert stored.keys() == crowd.streams.keys()  # each order was carried out, whoever took it
    for backend, streams in crowd.streams.items():
        assert len(stored[backend]) == len(PlayedDrone.STATES) + 1
        for stream in streams:
            assert stream.seen == stored[backend], backend
    # the last end of a stream is its own
    resumed = sum(stream.resumed - 1 for streams in crowd.streams.values() for stream in streams)
    assert resumed >= STREAMS * USERS
    return resumed
