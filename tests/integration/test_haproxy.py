"""HAProxy in front of two controllers on one PostgreSQL, with a real drone, proxy and backends: callers,
status streams, nodes and open WebSockets while controllers are killed."""

import asyncio
import contextlib
import http.client
import json
import signal
import subprocess
import threading
import time
import urllib.request

import pytest
import websockets

from postgres import Postgres
from serve import EXAMPLES, PLANE, ROOT, Serve, echo_once, free_port, request, wait_until

CONFIGURATION = ROOT / "packaging" / "haproxy" / "plane.cfg"
STREAMS = 8  # of each backend
# HAProxy's own answer, when a controller's end came as a reset: it had not read the request yet. A client
# repeats the connect, once.
CUT = 502

pytestmark = [pytest.mark.timeout(240), pytest.mark.fault]


class Process:
    """A process with a log, which may be started again."""

    def __init__(self, directory, name, *words):
        self.words, self.log_path = [str(word) for word in words], directory / f"{name}.log"
        self.name, self.process = name, None

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, number):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(40)

    def count(self, text):
        """How often it has logged this."""
        return self.log_path.read_text(errors="replace").count(text)

    def log(self):
        return self.log_path.read_text(errors="replace")[-6000:]


def haproxy_file(directory, api, controllers):
    """The packaged file, with the test's addresses and nothing else changed."""
    text = CONFIGURATION.read_text()
    for old, new in (("127.0.0.1:8080", api.removeprefix("http://")), ("10.0.0.11:8080", controllers[0]),
                     ("10.0.0.12:8080", controllers[1])):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = directory / "haproxy.cfg"
    path.write_text(text)
    return path


class Installation:
    """PostgreSQL, two controllers, HAProxy with the packaged configuration, a drone and a proxy."""

    def __init__(self, directory, stack, postgres=Postgres):
        self.directory = directory
        self.postgres = stack.enter_context(postgres())
        self.api = f"http://127.0.0.1:{free_port()}"
        self.cluster = f"127.0.0.1:{free_port()}"
        self.ports = [free_port(), free_port()]
        self.controllers = [
            Process(directory, name, PLANE, "controller", "--db", self.postgres.url(), "--id", name,
                    "--port", port, "--controller-url", self.api, "--advertise-url",
                    f"http://127.0.0.1:{port}")
            for name, port in zip(("co-one", "co-two"), self.ports)]
        self.haproxy = Process(directory, "haproxy", "haproxy", "-db", "-f", haproxy_file(
            directory, self.api, [f"127.0.0.1:{port}" for port in self.ports]))
        place = Serve(directory)  # only its directory: no server is started
        place.import_image("echo", EXAMPLES / "echo.tar")
        self.leaks, self.others = place.leaks, []
        node = ["--controller-url", self.api, "--cluster", self.cluster]
        self.drone = Process(directory, "drone", PLANE, "drone", *node, "--data-dir", place.data,
                             "--parked", "2", "--end-backends")
        host, port = self.cluster.split(":")
        self.proxy = Process(directory, "proxy", PLANE, "proxy", *node, "--host", host, "--http-port",
                             port, "--workers", "1")

    def start(self):
        for controller, port in zip(self.controllers, self.ports):
            controller.start()
            wait_until(lambda at=port: healthy(f"http://127.0.0.1:{at}"), 30, "a controller")
        self.haproxy.start()
        wait_until(lambda: healthy(self.api), 20, "HAProxy")
        self.drone.start()
        self.proxy.start()
        wait_until(self.nodes, 30, "drone and proxy connected")
        self.leaks.look()

    def stop(self):
        """The nodes first: the drone ends its backends, and says so."""
        self.drone.stop(signal.SIGINT)
        for process in (self.proxy, *self.others, *self.controllers, self.haproxy):
            process.stop(signal.SIGTERM)
        for process in (self.drone, self.proxy, *self.others, *self.controllers):
            assert process.process.returncode == 0, f"{process.name}:\n{process.log()}"
            assert "ERROR: AddressSanitizer" not in process.log(), process.log()

    def nodes(self, controllers=("co-one", "co-two")):
        """Drone and proxy are connected to one of these controllers."""
        with contextlib.suppress(OSError):
            state = request("GET", f"{self.api}/ctrl/c/{self.cluster}/state").json()
            nodes = [drone["node"] for drone in state["drones"] if drone["last_heartbeat_age"] is not None]
            nodes += state["proxies"]
            return len(nodes) == 2 and all(node["controller"] in controllers for node in nodes)
        return False

    def connect(self, key, user=None):
        body = {"key": {"name": key}, "user": user, "spawn_config": {
            "cluster": self.cluster, "executable": {"image": "echo"}}}
        answer = request("POST", f"{self.api}/ctrl/connect", body)
        if answer.status == CUT:
            answer = request("POST", f"{self.api}/ctrl/connect", body)
        assert answer.status == 200, answer.body
        return answer.json()

    def another_proxy(self, name, controller_url):
        """Its port; it talks to this controller only."""
        port = free_port()
        process = Process(self.directory, name, PLANE, "proxy", "--controller-url", controller_url,
                          "--cluster", self.cluster, "--host", "127.0.0.1", "--http-port", port,
                          "--workers", "1")
        self.others.append(process)
        process.start()
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/ready", 200), 30, name)
        return port

    def open_link(self, port, token, status):
        """A proxy at this port answers a request for the link so."""
        return answers(f"http://127.0.0.1:{port}/{token}/", status, {"Host": self.cluster})

    def open_tunnel(self, port, token):
        return websockets.connect(f"ws://{self.cluster}/{token}/ws", host="127.0.0.1", port=port)

    def wait_status(self, backend, status):
        wait_until(lambda: request("GET", f"{self.api}/pub/b/{backend}/status").json()["status"] == status,
                   30, f"{backend} {status}")

    def kill_and_replace(self, index, condition):
        """kill -9 of one controller; once `condition` holds without it, it is started again, until HAProxy
        has seen that."""
        killed, other = self.controllers[index], self.controllers[1 - index]
        server = f"Server controllers/{('one', 'two')[index]} is"
        came_back = self.haproxy.count(f"{server} UP")
        killed.kill()
        wait_until(lambda: self.nodes([other.name]), 40, f"nodes at {other.name}")
        wait_until(condition, 40, "work without one controller")
        wait_until(lambda: self.haproxy.count(f"{server} DOWN") > came_back, 20, "HAProxy misses it")
        killed.start()
        wait_until(lambda: self.haproxy.count(f"{server} UP") > came_back, 40, "the controller again")


def answers(url, status, headers=None):
    with contextlib.suppress(OSError):
        return request("GET", url, headers=headers).status == status
    return False


def healthy(url):
    return answers(f"{url}/pub/health", 200)


class Stream(threading.Thread):
    """A status stream that is read as browsers do: after its end it is asked for from where it was."""

    def __init__(self, installation, backend):
        super().__init__(daemon=True)
        self.url = f"{installation.api}/pub/b/{backend}/status-stream"
        self.seen, self.resumed = [], 0

    def run(self):
        while not self.seen or self.seen[-1] != "terminated":
            headers = {"Last-Event-ID": self.seen[-1]} if self.seen else {}
            with contextlib.suppress(OSError, http.client.HTTPException):
                call = urllib.request.Request(self.url, headers=headers)
                with urllib.request.urlopen(call, timeout=60) as answer:
                    self.read(answer)
            self.resumed += 1
            time.sleep(0.05)  # the pause of a browser, in small

    def read(self, answer):
        status = None
        for line in answer:
            if line.startswith(b"data: "):
                status = json.loads(line.removeprefix(b"data: "))["status"]
            elif line.startswith(b"id: "):
                assert line.decode().split()[1] == status
            elif line == b"\n" and status:
                self.seen.append(status)  # it is whole only now
                status = None


class Caller(threading.Thread):
    """Connects to held and new keys, one after another, until it is told to stop."""

    def __init__(self, installation, held):
        super().__init__(daemon=True)
        self.installation, self.held = installation, held
        self.is_stopping, self.count, self.new, self.failures = False, 0, [], []

    def run(self):
        while not self.is_stopping:
            self.count += 1
            try:
                if self.count % 40 == 0:
                    self.new.append(self.installation.connect(f"new-{self.count}")["backend_id"])
                else:
                    key = list(self.held)[self.count % len(self.held)]
                    link = self.installation.connect(key)
                    assert link["backend_id"] == self.held[key] and not link["spawned"]
            except Exception as failure:  # all of them are shown at the end
                self.failures.append(repr(failure))

    def at_least(self, more):
        wanted = self.count + more
        return lambda: self.count >= wanted or self.failures


@pytest.fixture
def installation(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        started = Installation(tmp_path_factory.mktemp("haproxy"), stack)
        try:
            started.start()
            yield started
            started.stop()
            assert started.leaks.problems() == []
        except BaseException:
            for process in (*started.controllers, started.haproxy, started.drone, started.proxy):
                print(f"---- {process.name}\n{process.log() if process.process else ''}")
            raise
        finally:
            for process in (started.drone, started.proxy, *started.others, *started.controllers,
                            started.haproxy):
                process.stop(signal.SIGINT if process is started.drone else signal.SIGKILL)


def test_callers_streams_nodes_and_tunnels_outlive_each_controller(installation):
    async def story():
        held = {f"held-{i}": installation.connect(f"held-{i}")["backend_id"] for i in range(2)}
        for backend in held.values():
            installation.wait_status(backend, "ready")
        streams = {backend: [Stream(installation, backend) for _ in range(STREAMS)]
                   for backend in held.values()}
        caller = Caller(installation, held)
        for thread in (caller, *sum(streams.values(), [])):
            thread.start()
        link = installation.connect("held-0")["url"]
        async with websockets.connect(link.replace("http", "ws", 1) + "ws") as tunnel:
            assert await echo_once(tunnel, "before") == "before"
            for index in (0, 1, 0):
                work = caller.at_least(100)
                await in_thread(installation.kill_and_replace, index, work)
                assert caller.failures == []
                assert await echo_once(tunnel, f"after {index}") == f"after {index}"
        caller.is_stopping = True
        await in_thread(caller.join, 40)
        assert not caller.is_alive() and caller.failures == [] and caller.new
        for backend in caller.new:  # each order reached the drone, whoever took it
            await in_thread(installation.wait_status, backend, "ready")
        for backend in held.values():
            assert request("POST", f"{installation.api}/ctrl/b/{backend}/soft-terminate").status == 200
        await in_thread(check_streams, installation, streams)

    asyncio.run(story())


def check_streams(installation, streams):
    for backend, readers in streams.items():
        for reader in readers:
            reader.join(60)
            assert not reader.is_alive(), f"{backend}: {reader.seen}"
        stored = installation.postgres.execute(
            "SELECT state::jsonb->>'status' FROM backend_state WHERE backend = %s ORDER BY id", (backend,))
        for reader in readers:
            assert reader.seen == [status for status, in stored]
        # each of them was cut at least once: they did not all sit at one that was never killed
        assert all(reader.resumed >= 2 for reader in readers)


def test_logs_are_there_whichever_controller_is_asked(installation):
    backend = installation.connect("k")["backend_id"]
    installation.wait_status(backend, "ready")
    addresses = [installation.api, *(f"http://127.0.0.1:{port}" for port in installation.ports)]
    logs = [request("GET", f"{address}/ctrl/b/{backend}/logs") for address in addresses]
    assert [answer.status for answer in logs] == [200] * 3


def test_a_revoked_link_stops_working_at_the_proxies_of_every_controller(installation):
    proxies = [installation.another_proxy(f"{name}-proxy", f"http://127.0.0.1:{port}")
               for name, port in zip(("one", "two"), installation.ports)]

    async def story():
        link = installation.connect("k", "alice")
        installation.wait_status(link["backend_id"], "ready")
        unused, others = installation.connect("k", "alice"), installation.connect("k", "bob")
        async with contextlib.AsyncExitStack() as stack:
            tunnels = {}
            for port in proxies:
                assert installation.open_link(port, link["token"], 200)  # known there from now on
                for owner, token in (("alice", link["token"]), ("bob", others["token"])):
                    tunnels[port, owner] = await stack.enter_async_context(
                        installation.open_tunnel(port, token))
                    assert await echo_once(tunnels[port, owner], "hello") == "hello"
            revocation = {"backend_id": link["backend_id"], "user": "alice"}
            assert request("POST", f"{installation.api}/ctrl/b/revoke", revocation).status == 200
            for port in proxies:
                await asyncio.wait_for(tunnels[port, "alice"].wait_closed(), 20)
                for token in (link["token"], unused["token"]):
                    assert installation.open_link(port, token, 410)
                assert await echo_once(tunnels[port, "bob"], "still") == "still"
                assert installation.open_link(port, others["token"], 200)

    asyncio.run(story())


def in_thread(function, *parameters):
    return asyncio.get_running_loop().run_in_executor(None, function, *parameters)
