"""The controller against drones, proxies and DNS servers that are played by the test."""

import asyncio
import concurrent.futures
import contextlib
import http.server
import json
import os
import pathlib
import select
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request

import psycopg2
import pytest
import websockets

from postgres import Postgres, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("PLANE_BUILD_DIR", ROOT / "build")).resolve()
DRIVER = BUILD / "tests" / "integration" / "controller_driver"
CLUSTER = "localhost:9090"
ADDRESS = "127.0.0.1:32768"
VERSION = {"version": "0.5.5", "git_hash": "abca8022"}

pytestmark = pytest.mark.timeout(90)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Controller:
    """A started controller."""

    wrapper = ()  # a program that becomes it

    def __init__(self, directory, *flags, listen="127.0.0.1:0", db=None):
        self.directory, self.flags = directory, list(flags)
        self.db = db or f"sqlite:{directory}/plane.db"
        self.start(listen)

    def start(self, listen):
        self.log = open(self.directory / "controller.log", "ab")
        self.process = subprocess.Popen(
            [*self.wrapper, DRIVER, "--db", self.db, "--listen", listen, *self.flags],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("ready "), (self.directory / "controller.log").read_text()
        self.address = line.split()[1]

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        status = self.process.wait(timeout=20)
        self.process.stdout.close()
        self.log.close()
        return status

    def restart(self):
        self.stop()
        self.start(self.address)

    def request(self, method, path, body=None, headers=None, timeout=60):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        all_headers = {"content-type": "application/json"} if data is not None else {}
        all_headers.update(headers or {})
        call = urllib.request.Request(
            f"http://{self.address}{path}", data=data, method=method, headers=all_headers)
        try:
            with urllib.request.urlopen(call, timeout=timeout) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body, **more)

    def connect(self, key="k", **more):
        return self.post("/ctrl/connect", connect_body(key, **more))

    async def apost(self, path, body=None):
        return await asyncio.get_running_loop().run_in_executor(None, self.post, path, body)

    async def aconnect(self, key="k", **more):
        return await self.apost("/ctrl/connect", connect_body(key, **more))

    async def aget(self, path):
        return await asyncio.get_running_loop().run_in_executor(None, self.get, path)

    def database(self):
        """A connection to the store; closing it is the caller's."""
        if self.db.startswith("sqlite:"):
            return sqlite3.connect(self.db.removeprefix("sqlite:"), timeout=10)
        return psycopg2.connect(self.db)


def connect_body(key="k", tag=None, spawn=True, user=None, auth=None, **config):
    body = {}
    if key is not None:
        body["key"] = {"name": key}
        if tag is not None:
            body["key"]["tag"] = tag
    if spawn:
        body["spawn_config"] = {"cluster": CLUSTER, "executable": {"image": "echo"}, **config}
    if user is not None:
        body["user"] = user
    if auth is not None:
        body["auth"] = auth
    return body


class Node:
    """One side of a typed socket."""

    def __init__(self, ws, name):
        self.ws, self.name, self.unread = ws, name, []

    async def send(self, message):
        await self.ws.send(json.dumps(message))

    async def receive(self, timeout=10):
        return json.loads(await asyncio.wait_for(self.ws.recv(), timeout))

    async def expect(self, kind, timeout=10):
        """The content of the next message of that kind; others are kept for who expects them."""
        for message in self.unread:
            if kind in message:
                self.unread.remove(message)
                return message[kind]
        deadline = time.monotonic() + timeout
        while True:
            message = await self.receive(max(0.01, deadline - time.monotonic()))
            if kind in message:
                return message[kind]
            self.unread.append(message)

    async def silent(self, seconds):
        with pytest.raises(asyncio.TimeoutError):
            raise AssertionError(await self.receive(seconds))


@contextlib.asynccontextmanager
async def node(controller, path, name, extensions=None):
    async with websockets.connect(f"ws://{controller.address}{path}", max_size=None) as ws:
        handshake = {"version": VERSION, "name": name}
        if extensions:
            handshake["extensions"] = extensions
        await ws.send(json.dumps(handshake))
        peer = Node(ws, name)
        answer = await peer.receive()
        assert answer["name"].startswith("co-") and "version" in answer["version"]
        yield peer


class Drone(Node):
    events = 0

    async def heartbeat(self, local_time=1_000_000):
        await self.send({"Heartbeat": {"local_time": local_time}})
        # the next answer comes after the heartbeat was stored: messages are handled in order
        await self.event("no-such-backend", {"status": "loading"})

    async def event(self, backend, state):
        Drone.events += 1
        await self.send({"BackendEvent": {"event_id": Drone.events, "backend_id": backend,
                                          "state": state, "timestamp": 1}})
        while (await self.expect("AckEvent"))["event_id"] != Drone.events:
            pass

    async def action(self, ack=True, timeout=10):
        action = await self.expect("Action", timeout)
        if ack:
            await self.send({"AckAction": {"action_id": action["action_id"]}})
        return action

    async def bring_up(self, backend):
        await self.event(backend, {"status": "loading"})
        await self.event(backend, {"status": "starting"})
        await self.event(backend, {"status": "waiting", "address": ADDRESS})
        await self.event(backend, {"status": "ready", "address": ADDRESS})

    async def end(self, backend, code=0):
        await self.event(backend, {"status": "terminated", "last_status": "ready",
                                   "termination": "soft", "reason": "external", "exit_code": code})


@contextlib.asynccontextmanager
async def drone(controller, name="dr-one", pool=None, extensions=None, local_time=1_000_000):
    query = f"?pool={pool}" if pool else ""
    path = f"/ctrl/c/{CLUSTER}/drone-socket{query}"
    async with node(controller, path, name, extensions) as peer:
        peer = Drone(peer.ws, name)
        await peer.heartbeat(local_time)
        yield peer


def proxy(controller, name="px-one", extensions=None):
    return node(controller, f"/ctrl/c/{CLUSTER}/proxy-socket", name, extensions)


@pytest.fixture(scope="module")
def postgres():
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def controller(tmp_path, request):
    is_postgres = request.param == "postgres"
    db = request.getfixturevalue("postgres").new_database() if is_postgres else None
    started = Controller(tmp_path, "--grace-ms", "2000", "--controller-url",
                         "http://secret@controller.test:1/", db=db)
    yield started
    assert started.stop() == 0, (tmp_path / "controller.log").read_text()[-4000:]
    text = (tmp_path / "controller.log").read_text()
    assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text, text[-4000:]
    assert "secret" not in text


def error_of(answer):
    body = answer.json()
    assert len(body["id"]) == 14
    return answer.status, body["kind"], body["message"]


def run(coroutine):
    asyncio.run(coroutine)


# ---- health, errors, CORS ----


def test_health_and_status_answer_ok(controller):
    assert controller.get("/pub/health").json() == {"status": "ok"}
    status = controller.get("/ctrl/status").json()
    assert status["status"] == "ok" and set(status) == {"status", "version", "hash"}


def test_every_pub_answer_has_cors_headers(controller):
    for answer in (controller.get("/pub/health"), controller.get("/pub/b/nobody/status")):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "origin" in answer.headers["vary"]
    preflight = controller.request("OPTIONS", "/pub/b/x/status")
    assert preflight.status == 200 and preflight.body == b""
    assert preflight.headers["access-control-allow-methods"] == "GET,POST"
    assert preflight.headers["access-control-allow-headers"] == "content-type"
    assert controller.get("/ctrl/status").headers["access-control-allow-origin"] is None


@pytest.mark.fault
def test_unknown_things_are_404(controller):
    missing = (404, "NotFound", "Backend does not exist")
    assert error_of(controller.get("/pub/b/nobody/status")) == missing
    assert error_of(controller.get("/pub/b/nobody/status-stream")) == missing
    assert error_of(controller.get("/ctrl/b/nobody/logs")) == missing
    assert error_of(controller.post("/ctrl/b/nobody/soft-terminate")) == missing
    assert error_of(controller.post("/ctrl/b/nobody/hard-terminate")) == missing
    assert error_of(controller.post("/ctrl/c/x/b/nobody/hard-terminate")) == missing
    for path in ("drain", "undrain"):
        assert error_of(controller.post(f"/ctrl/c/{CLUSTER}/d/dr-x/{path}")) == (
            404, "NotFound", "Drone does not exist")
    assert controller.get("/nothing").status == 404
    assert controller.get("/ctrl/connect").status == 405


@pytest.mark.fault
def test_bad_bodies_are_told_apart(controller):
    def status(body, content_type="application/json"):
        return controller.post("/ctrl/connect", body, headers={"content-type": content_type})

    assert status(b"{nope").status == 400
    assert status(b"").status == 400
    assert status(b"{}", "text/plain").status == 415
    assert status(b"[]").status == 422
    wrong = status(b'{"key":{"name":5}}')
    assert wrong.status == 422 and "name" in wrong.json()["message"]
    assert status(b'{"key":{"name":"k"},"auth":null}').status == 422
    assert status(json.dumps(connect_body(id="Not Allowed")).encode()).status == 422
    assert status(json.dumps(connect_body(subdomain="-x")).encode()).status == 422
    assert status(b'"' + b"x" * (2 << 20) + b'"').status == 413
    many = status(b'{"auth":{"a":[' + b"[]," * 600000 + b"[]]}}")
    assert many.status == 400 and "more than 16384 values" in many.json()["message"]
    assert status(b"{}", "application/vnd.x+json; charset=utf-8").status == 409
    assert controller.post("/ctrl/b/revoke", {"backend_id": "x"}).status == 422


@pytest.mark.fault
def test_connect_errors_have_the_references_words(controller):
    assert error_of(controller.connect()) == (500, "NoDroneAvailable", "No active drone available.")
    assert error_of(controller.connect(spawn=False)) == (
        409, "KeyUnheldNoSpawnConfig", "Lock is unheld but no spawn config was provided.")
    no_cluster = connect_body()
    del no_cluster["spawn_config"]["cluster"]
    assert error_of(controller.post("/ctrl/connect", no_cluster)) == (
        400, "NoClusterProvided", "No cluster provided, and no default cluster for this controller.")


def test_sockets_refuse_what_is_no_websocket_or_no_cluster(controller):
    assert controller.get(f"/ctrl/c/{CLUSTER}/drone-socket").status == 400
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
               "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}

    async def connect():
        with pytest.raises(websockets.InvalidStatusCode) as refused:
            await websockets.connect(f"ws://{controller.address}/ctrl/c/a:b:c/drone-socket")
        assert refused.value.status_code == 400

    assert upgrade
    run(connect())


# ---- connect, actions, events, routes ----


def test_a_connect_spawns_and_a_second_one_reuses(controller):
    async def story():
        async with drone(controller) as dr, proxy(controller) as px:
            first = (await controller.aconnect(user="alice", auth={"a": 1})).json()
            assert first["spawned"] is True and first["status"] == "scheduled"
            assert first["drone"] == "dr-one" and first["subdomain"] is None
            backend, token = first["backend_id"], first["token"]
            assert len(token) == 43 and len(first["secret_token"]) == 43
            assert first["url"] == f"http://{CLUSTER}/{token}/"
            assert first["status_url"] == f"http://controller.test:1/pub/b/{backend}/status"

            action = await dr.action()
            spawn = action["action"]["Spawn"]
            assert action["backend_id"] == backend and isinstance(action["drone_id"], int)
            assert spawn["executable"]["image"] == "echo" and spawn["static_token"] is None
            assert spawn["key"]["key"] == {"name": "k", "namespace": "", "tag": ""}
            assert abs(spawn["key"]["token"] - time.time() * 1000) < 60_000
            deadlines = spawn["key"]["deadlines"]
            assert 1_030_000 <= deadlines["renew_at"] < 1_035_000
            assert deadlines["soft_terminate_at"] - deadlines["renew_at"] == 10_000
            assert deadlines["hard_terminate_at"] - deadlines["renew_at"] == 20_000

            await px.send({"RouteInfoRequest": {"token": token}})
            await px.silent(0.3)
            await dr.bring_up(backend)
            route = await px.expect("RouteInfoResponse")
            assert route == {"token": token, "route_info": {
                "backend_id": backend, "address": ADDRESS, "cluster": CLUSTER,
                "secret_token": first["secret_token"], "user": "alice", "user_data": {"a": 1},
                "subdomain": None}}

            second = (await controller.aconnect(user="bob")).json()
            assert second["backend_id"] == backend and second["spawned"] is False
            assert second["status"] == "ready" and second["drone"] is None
            assert second["token"] != token
            await px.send({"RouteInfoRequest": {"token": second["token"]}})
            route = await px.expect("RouteInfoResponse")
            assert route["route_info"]["user"] == "bob" and route["route_info"]["user_data"] == {}

            entry = (await controller.aget(f"/pub/b/{backend}/status")).json()
            assert entry["status"] == "ready" and set(entry) == {"status", "time"}
            older = (await controller.aget(f"/pub/c/{CLUSTER}/b/{backend}/status")).json()
            assert older == entry

    run(story())


def test_two_hundred_connects_for_one_new_key_give_one_backend(controller):
    async def story():
        async with drone(controller) as dr:
            loop = asyncio.get_running_loop()
            with concurrent.futures.ThreadPoolExecutor(200) as pool:
                answers = await asyncio.gather(*[
                    loop.run_in_executor(pool, controller.connect, "crowd") for _ in range(200)])
            assert [answer.status for answer in answers] == [200] * 200
            bodies = [answer.json() for answer in answers]
            assert len({body["backend_id"] for body in bodies}) == 1
            assert sum(body["spawned"] for body in bodies) == 1
            assert len({body["token"] for body in bodies}) == 200
            await dr.action()
            await dr.silent(1)

    run(story())


def test_another_tag_is_refused_and_namespaces_are_apart(controller):
    async def story():
        async with drone(controller):
            first = (await controller.aconnect(tag="one")).json()
            assert error_of(await controller.aconnect(tag="two")) == (
                409, "KeyHeld", "Lock is held but tag does not match.")
            body = connect_body()
            body["key"]["namespace"] = "elsewhere"
            other = (await controller.apost("/ctrl/connect", body)).json()
            assert other["backend_id"] != first["backend_id"]
            nobody = (await controller.aconnect(key=None)).json()
            assert nobody["spawned"] is True

    run(story())


def test_a_chosen_id_that_exists_is_refused(controller):
    async def story():
        async with drone(controller):
            first = (await controller.aconnect("a", id="chosen")).json()
            assert first["backend_id"] == "chosen"
            assert error_of(await controller.aconnect("b", id="chosen"))[1] == "FailedToAcquireKey"

    run(story())


def test_static_tokens_and_subdomains(controller):
    async def story():
        async with drone(controller) as dr, proxy(controller) as px:
            first = (await controller.aconnect(use_static_token=True, subdomain="abc")).json()
            token = first["token"]
            assert token.startswith("s.") and len(token) == 45 and first["secret_token"] is None
            assert first["url"] == f"http://abc.{CLUSTER}/{token}/"
            action = await dr.action()
            assert action["action"]["Spawn"]["static_token"] == token
            again = (await controller.aconnect()).json()
            assert again["token"] == token and again["subdomain"] == "abc"
            await dr.bring_up(first["backend_id"])
            await px.send({"RouteInfoRequest": {"token": token}})
            route = (await px.expect("RouteInfoResponse"))["route_info"]
            assert route["secret_token"] == "" and route["user"] is None
            assert route["user_data"] is None and route["subdomain"] == "abc"

    run(story())


def test_pools_and_draining_keep_drones_out(controller):
    async def story():
        async with drone(controller, pool="gpu"):
            assert error_of(await controller.aconnect())[1] == "NoDroneAvailable"
            assert (await controller.aconnect(pool="gpu")).status == 200
            drain = f"/ctrl/c/{CLUSTER}/d/dr-one/drain"
            assert (await controller.apost(drain)).json() == {"updated": True}
            assert (await controller.apost(drain)).json() == {"updated": False}
            assert error_of(await controller.aconnect("x", pool="gpu"))[1] == "NoDroneAvailable"
            state = (await controller.aget(f"/ctrl/c/{CLUSTER}/state")).json()
            assert state["drones"][0]["draining"] is True
            undrain = f"/ctrl/c/{CLUSTER}/d/dr-one/undrain"
            assert (await controller.apost(undrain)).json() == {"updated": True}
            assert (await controller.aconnect("x", pool="gpu")).status == 200

    run(story())


def test_an_action_is_sent_again_until_it_is_acked_but_not_in_quick_succession(controller):
    async def story():
        async with drone(controller) as dr:
            await controller.aconnect()
            first = await dr.action(ack=False)
            await dr.silent(3)
            again = await dr.action(ack=True, timeout=12)
            assert again["action_id"] == first["action_id"]
            await dr.silent(11)

    run(story())


def test_an_unacked_action_is_sent_to_a_drone_that_reconnects(controller):
    async def story():
        async with drone(controller) as dr:
            await controller.aconnect()
            first = await dr.action(ack=False)
        async with drone(controller) as dr:
            again = await dr.action(timeout=3)
            assert again["action_id"] == first["action_id"]

    run(story())


def test_routes_of_ended_or_unknown_backends_are_null(controller):
    async def story():
        async with drone(controller) as dr, proxy(controller) as px:
            first = (await controller.aconnect()).json()
            backend = first["backend_id"]
            await px.send({"RouteInfoRequest": {"token": "unknown"}})
            assert (await px.expect("RouteInfoResponse"))["route_info"] is None
            await px.send({"RouteInfoRequest": {"token": first["token"]}})
            await dr.event(backend, {"status": "terminated", "last_status": "loading",
                                     "termination": None, "reason": None, "exit_code": None})
            assert await px.expect("RouteInfoResponse") == {
                "token": first["token"], "route_info": None}
            assert (await px.expect("BackendRemoved")) == {"backend": backend}
            await px.send({"KeepAlive": backend})
            assert (await px.expect("BackendRemoved")) == {"backend": backend}
            await px.send({"KeepAlive": "never-was"})
            assert (await px.expect("BackendRemoved")) == {"backend": "never-was"}

    run(story())


def test_expired_tokens_are_not_routed(controller):
    async def story():
        async with drone(controller) as dr, proxy(controller) as px:
            first = (await controller.aconnect()).json()
            await dr.bring_up(first["backend_id"])
            await px.send({"RouteInfoRequest": {"token": first["token"]}})
            assert (await px.expect("RouteInfoResponse"))["route_info"] is not None
            with contextlib.closing(controller.database()) as db, contextlib.closing(db.cursor()) as cursor:
                cursor.execute("update token set expires_at = 1")
                db.commit()
            await px.send({"RouteInfoRequest": {"token": first["token"]}})
            assert (await px.expect("RouteInfoResponse"))["route_info"] is None

    run(story())


@pytest.mark.parametrize("path", ["/ctrl/b/revoke", "/ctrl/revoke"])
def test_revoking_reaches_store_and_proxies_at_once(controller, path):
    async def story():
        async with drone(controller) as dr, proxy(controller, "px-old") as old, \
                proxy(controller, "px-new", ["revoke"]) as new:
            first = (await controller.aconnect(user="alice")).json()
            await dr.bring_up(first["backend_id"])
            body = {"backend_id": first["backend_id"], "user": "alice"}
            answer = await controller.apost(path, body)
            assert answer.json() == "Token revoked successfully"
            revoked = await new.expect("RevokeTokens")
            assert revoked == {"backend": first["backend_id"], "user": "alice"}
            await new.send({"RouteInfoRequest": {"token": first["token"]}})
            assert (await new.expect("RouteInfoResponse"))["route_info"] is None
            await old.silent(0.3)
            assert (await controller.apost(path, {"backend_id": "x", "user": "y"})).status == 200

    run(story())


def test_a_proxy_that_was_away_is_told_what_was_revoked_meanwhile(controller):
    async def story():
        async with drone(controller) as dr:
            first = (await controller.aconnect(user="alice")).json()
            await dr.bring_up(first["backend_id"])
            for user in ("alice", "bob"):
                await controller.apost("/ctrl/b/revoke",
                                       {"backend_id": first["backend_id"], "user": user})
            # also of one that the store does not know: it may have lost its last writes
            await controller.apost("/ctrl/b/revoke", {"backend_id": "forgotten", "user": "eve"})
            async with proxy(controller, extensions=["revoke"]) as px:
                await px.send({"RevokedSince": {"since_ms": 60_000}})
                for backend, user in ((first["backend_id"], "alice"),
                                      (first["backend_id"], "bob"), ("forgotten", "eve")):
                    assert await px.expect("RevokeTokens") == {"backend": backend, "user": user}
                await px.send({"RevokedSince": {"since_ms": 0}})
                await px.send({"KeepAlive": "never-was"})
                assert await px.receive() == {"BackendRemoved": {"backend": "never-was"}}

    run(story())


def test_a_route_that_waits_is_refused_when_its_user_is_revoked(controller):
    async def story():
        async with drone(controller) as dr, proxy(controller, extensions=["revoke"]) as px:
            alice = (await controller.aconnect(user="alice")).json()
            bob = (await controller.aconnect(user="bob")).json()
            for link in (alice, bob):
                await px.send({"RouteInfoRequest": {"token": link["token"]}})
            # messages are handled in order: both routes wait by then
            await px.send({"KeepAlive": "never-was"})
            await px.expect("BackendRemoved")
            await controller.apost("/ctrl/b/revoke",
                                   {"backend_id": alice["backend_id"], "user": "alice"})
            assert await px.expect("RouteInfoResponse") == {
                "token": alice["token"], "route_info": None}
            await dr.bring_up(alice["backend_id"])
            answer = await px.expect("RouteInfoResponse")
            assert answer["token"] == bob["token"] and answer["route_info"]["address"] == ADDRESS

    run(story())


# ---- the end of backends ----


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_termination_reaches_the_drone(controller, kind):
    async def story():
        async with drone(controller) as dr:
            backend = (await controller.aconnect()).json()["backend_id"]
            await dr.action()
            await dr.bring_up(backend)
            answer = await controller.apost(f"/ctrl/b/{backend}/{kind}-terminate")
            assert answer.status == 200 and answer.json() is None
            action = await dr.action()
            assert action["action"] == {"Terminate": {"kind": kind, "reason": "external"}}
            await dr.end(backend, code=3)
            entry = (await controller.aget(f"/pub/b/{backend}/status")).json()
            assert entry["status"] == "terminated" and entry["exit_error"] is True
            assert entry["termination_kind"] == "soft" and entry["termination_reason"] == "external"

    run(story())


def test_a_connect_to_a_terminating_key_waits_and_spawns_anew(controller):
    async def story():
        async with drone(controller) as dr:
            backend = (await controller.aconnect()).json()["backend_id"]
            await dr.bring_up(backend)
            terminating = {"status": "terminating", "last_status": "ready", "termination": "soft",
                           "reason": "external"}
            await dr.event(backend, terminating)
            held = error_of(await controller.aconnect(spawn=False))
            assert held[:2] == (500, "KeyHeldUnhealthy") and "terminating" in held[2]
            waiting = asyncio.ensure_future(controller.aconnect())
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await dr.end(backend)
            answer = (await waiting).json()
            assert answer["spawned"] is True and answer["backend_id"] != backend

    run(story())


def test_a_connect_does_not_wait_for_ever(controller):
    async def story():
        async with drone(controller) as dr:
            backend = (await controller.aconnect()).json()["backend_id"]
            await dr.event(backend, {"status": "terminating", "last_status": "scheduled",
                                     "termination": "soft", "reason": "external"})
            assert error_of(await controller.aconnect())[:2] == (500, "KeyHeldUnhealthy")

    run(story())


def test_a_burst_of_keep_alives_is_answered_for_each_backend(controller):
    async def story():
        async with drone(controller) as dr, proxy(controller) as px:
            backend = (await controller.aconnect()).json()["backend_id"]
            await dr.action()
            names = [f"never-{i}" for i in range(600)]
            for name in names:
                await px.send({"KeepAlive": name})
                await px.send({"KeepAlive": backend})
            assert [await px.expect("BackendRemoved") for _ in names] == [{"backend": name} for name in names]
            await px.silent(0.5)

    run(story())


def test_idle_backends_are_swept_once_and_kept_while_alive(controller):
    async def story():
        async with drone(controller) as dr, proxy(controller) as px:
            idle = (await controller.aconnect("idle", max_idle_seconds=1)).json()["backend_id"]
            kept = (await controller.aconnect("kept", max_idle_seconds=12)).json()["backend_id"]
            for backend in (idle, kept):
                await dr.action()
                await dr.bring_up(backend)
            swept = await dr.action(timeout=12)
            assert swept["backend_id"] == idle
            assert swept["action"] == {"Terminate": {"kind": "soft", "reason": "swept"}}
            await dr.event(idle, {"status": "terminating", "last_status": "ready",
                                  "termination": "soft", "reason": "swept"})
            await px.send({"KeepAlive": kept})
            await dr.silent(6)

    run(story())


def test_a_renewal_is_answered_also_when_it_is_refused(controller):
    async def story():
        async with drone(controller) as dr, drone(controller, "dr-two") as other:
            answer = (await controller.aconnect()).json()
            owner, thief = (dr, other) if answer["drone"] == "dr-one" else (other, dr)
            backend = answer["backend_id"]
            renew = {"RenewKey": {"backend": backend, "local_time": 2_000_000}}
            await owner.send(renew)
            assert await owner.expect("RenewKeyResponse") == {"backend": backend, "deadlines": {
                "renew_at": 2_030_000, "soft_terminate_at": 2_040_000,
                "hard_terminate_at": 2_050_000}}
            await thief.send(renew)
            assert await thief.expect("RenewKeyResponse") == {"backend": backend, "deadlines": None}
            # nor may it speak for a backend that is not its own
            await thief.event(backend, {"status": "ready", "address": "6.6.6.6:6"})
            entry = (await controller.aget(f"/pub/b/{backend}/status")).json()
            assert entry["status"] == "scheduled"
            await owner.end(backend)
            await owner.send(renew)
            assert (await owner.expect("RenewKeyResponse"))["deadlines"] is None

    run(story())


@pytest.mark.parametrize("extensions", [None, ["logs"]])
def test_extensions_are_told_only_to_a_drone_that_has_some(controller, extensions):
    async def story():
        uri = f"ws://{controller.address}/ctrl/c/{CLUSTER}/drone-socket"
        async with websockets.connect(uri) as ws:
            handshake = {"version": VERSION, "name": "dr-one"}
            await ws.send(json.dumps(handshake | ({"extensions": extensions} if extensions else {})))
            answer = json.loads(await asyncio.wait_for(ws.recv(), 10))
            assert answer.get("extensions") == (
                ["drone-lease", "inventory", "refuse-action", "metrics-on-request"]
                if extensions else None)

    run(story())


# ---- the status stream ----


def read_stream(controller, backend, headers=None, opened=None):
    """All that it says until its end. `opened`: an event that is set once it has begun."""
    call = urllib.request.Request(
        f"http://{controller.address}/pub/b/{backend}/status-stream", headers=headers or {})
    with urllib.request.urlopen(call, timeout=30) as answer:
        if opened:
            opened.set()
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["access-control-allow-origin"] == "*"
        return answer.read().decode()


def statuses(text):
    found = []
    for event in text.strip("\n").split("\n\n"):
        data, name = event.split("\n")
        entry = json.loads(data.removeprefix("data: "))
        assert name == f"id: {entry['status']}"
        found.append(entry["status"])
    return found


def test_the_status_stream_tells_history_then_what_happens_and_ends(controller):
    async def story():
        async with drone(controller) as dr:
            backend = (await controller.aconnect()).json()["backend_id"]
            await dr.event(backend, {"status": "loading"})
            loop = asyncio.get_running_loop()
            stream = loop.run_in_executor(None, read_stream, controller, backend)
            await asyncio.sleep(0.2)
            await dr.event(backend, {"status": "ready", "address": ADDRESS})
            await dr.event(backend, {"status": "starting"})
            await dr.end(backend)
            text = await asyncio.wait_for(stream, 10)
            assert statuses(text) == ["scheduled", "loading", "ready", "terminated"]
            assert ADDRESS not in text
            resumed = await loop.run_in_executor(
                None, read_stream, controller, backend, {"Last-Event-ID": "loading"})
            assert statuses(resumed) == ["ready", "terminated"]
            over = await loop.run_in_executor(
                None, read_stream, controller, backend, {"Last-Event-ID": "terminated"})
            assert over == ""
            nonsense = await loop.run_in_executor(
                None, read_stream, controller, backend, {"Last-Event-ID": "nonsense"})
            assert len(statuses(nonsense)) == 4

    run(story())


# ---- sessions ----


def test_the_same_drone_again_replaces_the_stale_session(controller):
    async def story():
        async with drone(controller) as stale:
            async with drone(controller) as fresh:
                await asyncio.wait_for(stale.ws.wait_closed(), 5)
                backend = (await controller.aconnect()).json()["backend_id"]
                assert (await fresh.action())["backend_id"] == backend
                state = (await controller.aget(f"/ctrl/c/{CLUSTER}/state")).json()
                assert [d["node"]["name"] for d in state["drones"]] == [{"Drone": "dr-one"}]
                assert state["drones"][0]["backend_count"] == 1

    run(story())


def test_a_session_that_closes_leaves_the_cluster(controller):
    async def story():
        async with drone(controller), proxy(controller):
            state = (await controller.aget(f"/ctrl/c/{CLUSTER}/state")).json()
            assert len(state["drones"]) == 1 and len(state["proxies"]) == 1
            seen = state["drones"][0]
            assert seen["ready"] is True and seen["last_heartbeat_age"] <= 5
            assert seen["node"]["plane_version"] == "0.5.5"
        for _ in range(100):
            state = (await controller.aget(f"/ctrl/c/{CLUSTER}/state")).json()
            if state == {"drones": [], "proxies": []}:
                break
            await asyncio.sleep(0.05)
        assert state == {"drones": [], "proxies": []}
        assert error_of(await controller.aconnect())[1] == "NoDroneAvailable"

    run(story())


@pytest.mark.parametrize("first_frame", [
    "nonsense", "{}", '{"version":{"version":"1","git_hash":"x"},"name":"px-wrong"}',
    '{"version":{"version":"1","git_hash":"x"},"name":"dr-NOT-VALID"}'])
def test_a_wrong_handshake_ends_the_connection(controller, first_frame):
    async def story():
        url = f"ws://{controller.address}/ctrl/c/{CLUSTER}/drone-socket"
        async with websockets.connect(url) as ws:
            await ws.send(first_frame)
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(ws.recv(), 5)

    run(story())


def test_nonsense_after_the_handshake_is_skipped(controller):
    async def story():
        async with drone(controller) as dr:
            await dr.ws.send("{not json")
            await dr.send({"Unknown": {}})
            await dr.send({"BackendEvent": {"event_id": "x"}})
            await dr.send([])
            await dr.event("nobody", {"status": "loading"})

    run(story())


@pytest.mark.parametrize("role", ["drone-socket", "proxy-socket"])
def test_a_message_that_is_too_large_ends_only_that_connection(controller, role):
    path = f"/ctrl/c/{CLUSTER}/{role}"
    name = "dr-large" if role == "drone-socket" else "px-large"

    async def cut(peer):
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                await peer.receive()

    async def story():
        async with drone(controller) as other, node(controller, path, name) as peer:
            await peer.ws.send("[" + "[]," * 340000 + "[]]")  # skipped: too many values
            await peer.send({"Unknown": "x" * 900000})
            await other.event("nobody", {"status": "loading"})
            await peer.ws.send(json.dumps({"Unknown": "x" * (1 << 20)}))
            await cut(peer)
            await other.event("nobody", {"status": "loading"})
        async with websockets.connect(f"ws://{controller.address}{path}") as ws:
            await ws.send(json.dumps({"version": VERSION, "name": name, "more": "x" * 16384}))
            await cut(Node(ws, name))

    run(story())
    assert "JSON of more than 16384 values" in (controller.directory / "controller.log").read_text()


def test_a_drone_that_runs_ten_thousand_backends_is_heard(controller):
    """It says so at once, before its handshake is answered."""
    async def story():
        path = f"ws://{controller.address}/ctrl/c/{CLUSTER}/drone-socket"
        names = [f"backend-{number:05}" for number in range(10000)]
        async with websockets.connect(path, max_size=None) as ws:
            await ws.send(json.dumps({"version": VERSION, "name": "dr-many",
                                      "extensions": ["inventory", "drone-lease"]}))
            for first in range(0, len(names), 1000):
                part = {name: 1 << 50 for name in names[first:first + 1000]}
                await ws.send(json.dumps({"Inventory": {"backends": part}}))
            peer, ended = Drone(ws, "dr-many"), []
            while len(ended) < len(names):
                ended += (await peer.expect("EndBackends"))["backends"]
            assert sorted(ended) == sorted(names)

    run(story())


def test_certificate_leases_are_exclusive_and_txt_values_reach_dns(controller):
    async def story():
        async with proxy(controller, "px-a") as a, proxy(controller, "px-b") as b, \
                node(controller, "/ctrl/dns-socket", "ns-one") as dns:
            question = {"TxtRecordRequest": {"cluster": CLUSTER}}
            await dns.send(question)
            assert await dns.expect("TxtRecordResponse") == {"cluster": CLUSTER, "txt_value": None}
            lease = {"CertManagerRequest": "CertLeaseRequest"}
            value = {"CertManagerRequest": {"SetTxtRecord": {"txt_value": "abc"}}}

            async def ask(peer, message, kind):
                await peer.send(message)
                return (await peer.expect("CertManagerResponse"))[kind]["accepted"]

            assert await ask(a, lease, "CertLeaseResponse") is True
            assert await ask(b, lease, "CertLeaseResponse") is False
            assert await ask(b, value, "SetTxtRecordResponse") is False
            assert await ask(a, value, "SetTxtRecordResponse") is True
            await dns.send(question)
            assert (await dns.expect("TxtRecordResponse"))["txt_value"] == "abc"
            await a.send({"CertManagerRequest": "ReleaseCertLease"})
            await a.send({"KeepAlive": "nobody"})
            await a.expect("BackendRemoved")
            assert await ask(b, lease, "CertLeaseResponse") is True

    run(story())


# ---- logs, lists, metrics ----


def test_logs_are_asked_of_the_drone_and_passed_on(controller):
    async def story():
        loop = asyncio.get_running_loop()
        async with drone(controller, extensions=["logs"]) as dr:
            backend = (await controller.aconnect()).json()["backend_id"]
            reader = loop.run_in_executor(
                None, controller.get, f"/ctrl/b/{backend}/logs?follow=true&tail=7")
            request = await dr.expect("LogsRequest")
            assert request["backend_id"] == backend
            assert request["tail"] == 7 and request["follow"] is True
            answer = {"request_id": request["request_id"], "data": "one\n"}
            await dr.send({"LogsChunk": {**answer, "end": False}})
            await dr.send({"LogsChunk": {**answer, "data": "two\n", "end": True}})
            log = await asyncio.wait_for(reader, 10)
            assert log.status == 200 and log.body == b"one\ntwo\n"
            assert log.headers["content-type"].startswith("text/plain")
            bad = await controller.aget(f"/ctrl/b/{backend}/logs?tail=many")
            assert bad.status == 400 and "tail" in bad.json()["message"]
        assert (await controller.aget(f"/ctrl/b/{backend}/logs")).status == 503
        async with drone(controller):
            assert (await controller.aget(f"/ctrl/b/{backend}/logs")).status == 501

    run(story())


def test_a_log_reader_that_leaves_is_cancelled(controller):
    async def story():
        async with drone(controller, extensions=["logs"]) as dr:
            backend = (await controller.aconnect()).json()["backend_id"]
            host, port = controller.address.split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET /ctrl/b/{backend}/logs?follow=1 HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            request = await dr.expect("LogsRequest")
            writer.close()
            assert await dr.expect("LogsCancel") == {"request_id": request["request_id"]}

    run(story())


def test_backends_are_listed_in_pages(controller):
    async def story():
        async with drone(controller) as dr:
            made = [(await controller.aconnect(f"k{i}")).json()["backend_id"] for i in range(5)]
            await dr.bring_up(made[0])
            seen, cursor = [], ""
            while cursor is not None:
                page = (await controller.aget(
                    f"/ctrl/backends?limit=2{'&cursor=' + cursor if cursor else ''}")).json()
                assert len(page["backends"]) <= 2
                seen += [entry["backend_id"] for entry in page["backends"]]
                cursor = page["next_cursor"]
            assert sorted(seen) == sorted(made)
            ready = (await controller.aget("/ctrl/backends?status=ready")).json()["backends"]
            assert [entry["backend_id"] for entry in ready] == [made[0]]
            one = (await controller.aget("/ctrl/backends?key=k3")).json()["backends"]
            assert [entry["backend_id"] for entry in one] == [made[3]]
            assert one[0]["key"]["name"] == "k3" and one[0]["drone"] == "dr-one"
            none = (await controller.aget("/ctrl/backends?cluster=elsewhere")).json()
            assert none == {"backends": [], "next_cursor": None}
            assert (await controller.aget("/ctrl/backends?status=odd")).status == 400
            assert (await controller.aget("/ctrl/backends?limit=0")).status == 400

    run(story())


def test_metrics_count(controller):
    controller.connect()
    text = controller.get("/metrics").body.decode()
    assert 'plane_connects_total{result="failed"} 1' in text
    assert "# TYPE plane_node_sessions gauge" in text


# ---- forward auth, restarts ----


@contextlib.contextmanager
def auth_server(seen, may_answer=None):
    """Says yes to one token; to `x-slow` not before `may_answer` is set."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            seen.append((self.command, [(name.lower(), value) for name, value in self.headers.items()]))
            if "x-slow" in self.headers:
                may_answer.wait()
            is_allowed = self.headers.get("authorization") == "Bearer good"
            self.send_response(200 if is_allowed else 418)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/auth"
    server.shutdown()
    server.server_close()


def test_forward_auth_decides_about_all_that_is_not_public(tmp_path):
    seen = []
    with auth_server(seen) as url:
        controller = Controller(tmp_path, "--forward-auth", url)
        good = {"authorization": "Bearer good"}
        refused = controller.get("/ctrl/status")
        assert (refused.status, refused.body) == (401, b"Unauthorized")
        assert controller.get("/ctrl/status", headers=good).status == 200
        assert controller.post("/ctrl/connect", connect_body(), headers=good).status == 500
        assert controller.get("/pub/health").status == 200
        assert controller.get("/pub/b/unknown/status").status == 404
        method, headers = seen[-1]
        headers = dict(headers)
        assert method == "POST" and headers["x-original-path"] == "/connect"
        assert "content-length" not in headers and len(seen) == 3
        for path in ("/metrics", "/metrics/backends", "/no-such-path"):
            assert controller.get(path).status == 401
            assert dict(seen[-1][1])["x-original-path"] == path
            assert controller.get(path, headers=good).status == (404 if path[1] == "n" else 200)

        async def connect(**more):
            address = f"ws://{controller.address}/ctrl/c/{CLUSTER}/proxy-socket"
            async with websockets.connect(address, **more):
                pass

        run(connect(extra_headers=good))
        with pytest.raises(websockets.InvalidStatusCode) as error:
            run(connect())
        assert error.value.status_code == 401
    broken = controller.get("/ctrl/status", headers=good)
    assert (broken.status, broken.body) == (502, b"Error forwarding auth.")
    assert controller.stop() == 0


def test_forward_auth_hears_from_the_controller_what_was_asked(tmp_path):
    seen = []
    with auth_server(seen) as url:
        controller = Controller(tmp_path, "--forward-auth", url)
        false = {"X-Original-Path": "/public", "X_Original_Path": "/public",
                 "X-Forwarded-Host": "trusted", "X_Forwarded_Host": "trusted"}
        assert controller.get("/ctrl/status", headers=false).status == 401
        said = [(name, value) for name, value in seen[-1][1] if name.startswith("x")]
        assert sorted(said) == [("x-forwarded-host", controller.address),
                                ("x-original-path", "/status")]
        assert controller.stop() == 0


def send_request(controller, path, headers):
    """A connection on which the request was just sent."""
    host, port = controller.address.split(":")
    stream = socket.create_connection((host, int(port)), timeout=60)
    lines = [f"GET {path} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return stream


@pytest.mark.fault
def test_a_slow_server_of_forward_auth_holds_up_nobody_else(tmp_path):
    seen, may_answer, good = [], threading.Event(), {"authorization": "Bearer good"}
    with auth_server(seen, may_answer) as url:
        controller = Controller(tmp_path, "--forward-auth", url)
        streams = [send_request(controller, "/ctrl/status", {**good, "x-slow": "1"})
                   for _ in range(100)]
        first = select.select(streams, [], [], 60)[0][0]
        answer = first.recv(1000)
        streams.remove(first)
        assert answer.startswith(b"HTTP/1.1 503 ") and answer.endswith(b"does not answer. Try again.")
        assert controller.get("/pub/health").status == 200
        until(lambda: len(seen) >= 24)
        assert len(seen) == 24  # and these have no answer yet
        may_answer.set()
        answers = [stream.recv(12) for stream in streams]
        assert set(answers) == {b"HTTP/1.1 200", b"HTTP/1.1 503"} and answers.count(b"HTTP/1.1 200") >= 24
        assert controller.get("/ctrl/status", headers=good).status == 200
        assert controller.stop() == 0


def test_a_burst_is_asked_about_without_refusals(tmp_path):
    with auth_server([]) as url:
        controller = Controller(tmp_path, "--forward-auth", url)
        streams = [send_request(controller, "/ctrl/status", {"authorization": "Bearer good"})
                   for _ in range(200)]
        assert {stream.recv(12) for stream in streams} == {b"HTTP/1.1 200"}
        assert controller.stop() == 0


def test_a_wrong_forward_auth_url_is_told_at_start(tmp_path):
    result = subprocess.run(
        [DRIVER, "--db", f"sqlite:{tmp_path}/db", "--listen", "127.0.0.1:0", "--forward-auth",
         "ftp://x"], capture_output=True, text=True, timeout=30)
    assert result.returncode == 1 and "forward auth" in result.stderr


@pytest.mark.fault
def test_a_port_in_use_is_told(controller, tmp_path):
    result = subprocess.run(
        [DRIVER, "--db", f"sqlite:{tmp_path}/other.db", "--listen", controller.address],
        capture_output=True, text=True, timeout=30)
    assert result.returncode == 1 and controller.address in result.stderr


@pytest.mark.fault
def test_keys_survive_the_controller(controller):
    async def story():
        async with drone(controller) as dr:
            first = (await controller.aconnect()).json()
            await dr.action()
            await dr.bring_up(first["backend_id"])
        await asyncio.get_running_loop().run_in_executor(None, controller.restart)
        async with drone(controller), proxy(controller) as px:
            again = (await controller.aconnect()).json()
            assert again["backend_id"] == first["backend_id"] and again["spawned"] is False
            await px.send({"RouteInfoRequest": {"token": first["token"]}})
            assert (await px.expect("RouteInfoResponse"))["route_info"]["address"] == ADDRESS

    run(story())


@pytest.mark.parametrize("controller", ["sqlite"], indirect=True)
def test_another_program_that_looks_into_the_store_takes_nothing_away(controller):
    async def scenario():
        async with drone(controller) as one:
            made = (await controller.aconnect("before")).json()
            await one.action()
            with contextlib.closing(controller.database()) as look:
                look.execute("SELECT count(*) FROM backend").fetchone()
            # closing the last connection removes the log: the controller's must count
            assert (controller.directory / "plane.db-wal").exists()
            again = (await controller.aconnect("before")).json()
            assert again["backend_id"] == made["backend_id"]
            with contextlib.closing(controller.database()) as look:
                tokens = look.execute("SELECT count(*) FROM token").fetchone()[0]
            assert tokens == 2
    run(scenario())


@pytest.mark.fault
def test_an_expired_key_is_given_away(tmp_path):
    controller = Controller(tmp_path, "--lease-ms", "1000")

    async def story():
        async with drone(controller):
            first = (await controller.aconnect()).json()
            await asyncio.sleep(1.2)
            second = (await controller.aconnect()).json()
            assert second["spawned"] is True and second["backend_id"] != first["backend_id"]

    run(story())
    assert controller.stop() == 0
