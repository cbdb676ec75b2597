"""Backends of a drone on another machine than the proxy: each has a port of the drone's address, open
to where proxies are, and to nobody else; what a backend may reach stays as it is."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sqlite3
import subprocess

import pytest
import websockets

import inventory
from archives import write
from hosts import Hosts
from machine import can_reach, enter, own_namespace
from roles import Role
from sandboxes import make_image
from serve import EXAMPLES, PLANE, request, wait_until

pytestmark = pytest.mark.timeout(100)
CLUSTER = "localhost:9090"
FIRST, LAST = 20000, 20015
MACHINES = ("control", "proxy", "drone", "other", "stranger")


class Published:
    """Controller, proxy, drone and a second drone, on a machine each, and a machine of a stranger.
    The second drone takes the first one for a machine of proxies: what backends there could reach
    of it they would reach as that."""

    def __init__(self, directory, hosts):
        self.directory, self.hosts = directory, hosts
        self.url = f"http://{hosts.control.address}:8080"
        self.roles = {}
        self.image = write(directory, "escapes.tar", make_image())

    def start(self, egress="nat"):
        hosts = self.hosts
        self.add(hosts.control, "controller", "controller", "--db",
                 f"sqlite:{self.directory}/controller.db", "--host", "0.0.0.0", "--port", "8080",
                 "--insecure-no-auth")
        self.add(hosts.proxy, "proxy", "proxy", "--controller-url", self.url, "--cluster", CLUSTER,
                 "--host", "0.0.0.0", "--http-port", "9090")
        self.add_drone(hosts.drone, "first", egress, hosts.proxy.address)
        self.add_drone(hosts.other, "second", egress, str(hosts.drone.address))

    def add(self, host, name, *words):
        self.roles[name] = Role(host, self.directory, name, words).start()

    def add_drone(self, host, pool, egress, *allowed):
        data = self.directory / pool
        for name, path, *flags in (("echo", EXAMPLES / "echo.tar"), ("escapes", self.image),
                                   ("escapes-root", self.image, "--user", "root")):
            subprocess.run([PLANE, "image", "import", name, path, *flags, "--data-dir", data],
                           check=True, capture_output=True)
        self.add(host, pool, "drone", "--controller-url", self.url, "--cluster", CLUSTER, "--pool",
                 pool, "--data-dir", data, "--parked", "2", "--ip", host.address,
                 "--backend-ports", f"{FIRST}-{LAST}", "--egress", egress, "--end-backends",
                 *(word for network in allowed for word in ("--proxy-allow", network)))

    def stop(self):
        for role in reversed(self.roles.values()):
            status = role.stop(signal.SIGINT)
            text = role.log_text()
            assert status == 0 and "Sanitizer" not in text, text

    def kill(self):
        """Those that still run, after a failure: the drones still end their backends, since else these, the
        range of user ids and the links stay."""
        for role in reversed(self.roles.values()):
            with contextlib.suppress(AssertionError):
                role.stop(signal.SIGINT)

    def connect(self, image="echo", pool="first", env=None, **more):
        """A ready backend; the connect's answer, with its address."""
        with self.hosts.control.inside():
            answer = request("POST", f"{self.url}/ctrl/connect", {"spawn_config": {
                "executable": {"image": image, "env": env or {}}, "cluster": CLUSTER,
                "pool": pool}, **more})
            assert answer.status == 200, answer.body
            backend = answer.json()["backend_id"]
            wait_until(lambda: self.status(backend) == "ready", 20, "backend ready")
        path = answer.json()["url"].split(CLUSTER)[1]
        return {**answer.json(), "url": f"http://{self.hosts.proxy.address}:9090{path}",
                "address": self.address(backend)}

    def status(self, backend):
        return request("GET", f"{self.url}/pub/b/{backend}/status").json()["status"]

    def address(self, backend):
        with contextlib.closing(sqlite3.connect(
                self.directory / "controller.db")) as store:
            text, = store.execute("SELECT state FROM backend WHERE id = ?", (backend,)).fetchone()
        return re.search(r'"address":"([^"]+)"', text).group(1)

    def get(self, connection, path=""):
        with self.hosts.control.inside():
            return request("GET", connection["url"] + path,
                           headers={"host": CLUSTER}, timeout=90)


@pytest.fixture(scope="module")
def hosts():
    with Hosts(*MACHINES) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def published(hosts, tmp_path_factory):
    cluster = Published(tmp_path_factory.mktemp("published"), hosts)
    try:
        cluster.start()
        yield cluster
        cluster.stop()
    finally:
        cluster.kill()
    for pool, host in (("first", hosts.drone), ("second", hosts.other)):
        with host.inside():  # all of it is gone, and the machine forwards no more
            instance = inventory.instance_id(cluster.directory / pool)
            assert inventory.firewall(instance) == {} and inventory.links(instance) == set()
        assert not host.forwarding("eth0")


def open_socket(hosts, connection):
    """A WebSocket of the echo backend, by the proxy."""
    path = connection["url"].split(":9090")[1]
    return websockets.connect(f"ws://{CLUSTER}{path}ws", host=hosts.proxy.address, port=9090)


def split(address):
    ip, port = address.rsplit(":", 1)
    return ip, int(port)


def reaches(host, address):
    with host.inside():
        return can_reach(*split(address), seconds=0.7)


@contextlib.contextmanager
def inside_backend(published, connection):
    """The calling thread is in the backend's network namespace."""
    environment = f"SESSION_BACKEND_ID={connection['backend_id']}\0".encode()
    pid = next(entry for entry in os.listdir("/proc") if entry.isdigit()
               and environment in read_bytes(f"/proc/{entry}/environ"))
    before, there = own_namespace(), os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    enter(there)
    try:
        yield
    finally:
        enter(before)
        os.close(before)
        os.close(there)


def read_bytes(path):
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""


def inner_address(published, connection):
    """Where the backend is on its drone's own network."""
    with inside_backend(published, connection):
        text = subprocess.run(["ip", "-o", "-4", "addr", "show", "eth0"], check=True,
                              capture_output=True, text=True).stdout
    return re.search(r"inet ([\d.]+)/", text).group(1)


def test_a_proxy_on_another_machine_reaches_the_backend(published, hosts):
    connection = published.connect()
    ip, port = split(connection["address"])
    assert ip == hosts.drone.address and FIRST <= port <= LAST
    assert published.get(connection).status == 200

    async def talk():
        async with open_socket(hosts, connection) as wire:
            await wire.send("hello")
            assert await asyncio.wait_for(wire.recv(), 10) == "hello"

    with hosts.control.inside():
        asyncio.run(talk())


def test_only_machines_of_proxies_reach_the_ports(published, hosts):
    connection = published.connect()
    assert reaches(hosts.proxy, connection["address"])
    assert reaches(hosts.drone, connection["address"])  # a proxy beside the drone
    assert not reaches(hosts.stranger, connection["address"])
    assert not reaches(hosts.other, connection["address"])


@pytest.mark.parametrize("who", ["proxy", "stranger"])
def test_nobody_gets_behind_the_ports(published, hosts, who):
    """A machine beside the drone that sends to the backend's own address by way of the drone."""
    connection, host = published.connect(), getattr(hosts, who)
    inner = inner_address(published, connection)
    host.run("ip", "route", "add", f"{inner}/32", "via", hosts.drone.address)
    try:
        assert not reaches(host, f"{inner}:8080")
    finally:
        host.run("ip", "route", "del", f"{inner}/32")


def test_a_port_without_a_backend_does_not_answer(published, hosts):
    taken = split(published.connect()["address"])[1]
    assert reaches(hosts.proxy, f"{hosts.drone.address}:{taken}")
    assert not reaches(hosts.proxy, f"{hosts.drone.address}:{LAST + 1}")
    assert not reaches(hosts.proxy, f"{hosts.drone.address}:{LAST}")


def test_a_backend_reaches_no_other_by_the_ports(published, hosts):
    """Not on its own drone, nor on another one, which allows the machine of this one."""
    first, second = published.connect(), published.connect()
    far = published.connect(pool="second")
    assert reaches(hosts.drone, far["address"])
    with inside_backend(published, first):
        for target in (second, far, first):
            assert not can_reach(*split(target["address"]), seconds=0.7), target["address"]


def test_what_a_backend_reaches_outside_stays_as_it_was(published, hosts):
    connection = published.connect()
    with hosts.stranger.inside():
        listening = socket.create_server(("0.0.0.0", 8443))
    with listening, inside_backend(published, connection):
        assert can_reach(hosts.stranger.address, 8443)


def test_escapes_fail_where_backends_are_published(published, hosts):
    neighbour = published.connect(image="escapes-root", env={"LEAVE": "1"})
    far = published.connect(image="escapes-root", pool="second", env={"LEAVE": "1"})
    inner = inner_address(published, neighbour)
    gateway = f"{inner.rsplit('.', 1)[0]}.1"
    with hosts.drone.inside():
        listening = socket.create_server(("0.0.0.0", 0))
    port = listening.getsockname()[1]
    heard = published.get(neighbour, "heard").body
    with listening:
        connection = published.connect(image="escapes-root", env={
            "TRY_HOST": f"{gateway}:{port}", "TRY_HOST_OTHER": f"{hosts.drone.address}:{port}",
            "TRY_NEIGHBOUR": neighbour["address"], "TRY_STRANGER": far["address"],
            "TRY_CONTROLLER": f"{inner}:8080", "TRY_PROXY": f"{hosts.drone.address}:{LAST}"})
        answer = published.get(connection).json()
    assert len(answer) > 150
    # what was not given an address to try says so, and is tried in test_sandbox.py
    tried = {name: how for name, how in answer.items() if "Destination address required" not in how}
    assert {"neighbour", "neighbour_other_instance", "host_port", "host_other_address",
            "controller_port", "proxy_port"} <= tried.keys()
    assert {name: how for name, how in tried.items() if not how.startswith("refused: ")} == {}
    assert published.get(neighbour, "heard").body == heard


def test_connections_survive_the_drones_death(published, hosts):
    connection = published.connect()
    drone = published.roles["first"]

    async def story():
        async with open_socket(hosts, connection) as wire:
            for word in ("before", "dead", "again"):
                if word == "dead":
                    drone.kill()
                if word == "again":
                    drone.start()
                await wire.send(word)
                assert await asyncio.wait_for(wire.recv(), 10) == word

    with hosts.control.inside():
        asyncio.run(story())
    assert published.get(connection).status == 200
    assert published.address(connection["backend_id"]) == connection["address"]


def test_a_drone_whose_ports_were_changed_says_so(published, hosts):
    connection = published.connect()
    drone = published.roles["first"]
    drone.kill()
    words = drone.words
    drone.words = [f"{FIRST + 100}-{LAST + 100}" if word == f"{FIRST}-{LAST}" else word
                   for word in words]
    drone.start()
    assert f"proxies were told {connection['address']}" in drone.log_text()
    drone.kill()
    drone.words = words
    drone.start()
    assert published.get(connection).status == 200


def test_without_egress_backends_are_reached_and_reach_nothing(tmp_path):
    """And the address need not be the machine's own: somebody on the way may translate it."""
    with Hosts(*MACHINES) as hosts:
        cluster = Published(tmp_path, hosts)
        try:
            without_egress(cluster, hosts)
        finally:
            cluster.kill()


def without_egress(cluster, hosts):
    elsewhere = "203.0.113.9"
    for host in (hosts.drone, hosts.other):
        host.run("ip", "route", "replace", "default", "via", hosts.stranger.address)
    hosts.proxy.run("nft", "-f", "-", text=f"""table ip way {{ chain out {{
        type nat hook output priority -100; ip daddr {elsewhere} dnat to {hosts.drone.address}
        }}
        }}""")
    hosts.proxy.run("ip", "route", "add", elsewhere, "via", hosts.drone.address)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hosts.drone, "address", elsewhere)
        cluster.start(egress="none")
    connection = cluster.connect()
    assert connection["address"].startswith(f"{elsewhere}:")
    assert cluster.get(connection).status == 200
    assert not reaches(hosts.stranger, f"{hosts.drone.address}:{split(connection['address'])[1]}")
    with hosts.stranger.inside():
        listening = socket.create_server(("0.0.0.0", 8443))
    with listening, inside_backend(cluster, connection):
        assert not can_reach(hosts.stranger.address, 8443, 0.7)
    cluster.stop()
    assert not hosts.drone.forwarding("eth0")


@pytest.mark.parametrize("flags, told", [
    (["--ip", "no.such.host.invalid"], "no.such.host.invalid"),
    (["--ip", "0.0.0.0"], "no address of a machine"),
    (["--ip", "10.1.2.3", "--backend-ports", "20000"], "no range of ports"),
    (["--ip", "10.1.2.3", "--backend-ports", "20000-19999"], "no range of ports"),
    (["--ip", "10.1.2.3", "--backend-ports", "80-100"], "no range of ports"),
    (["--ip", "10.1.2.3", "--proxy-allow", "10.1.0.0/8"], "bits behind the prefix"),
    (["--ip", "10.1.2.3", "--proxy-allow", "10.1.0.0/33"], "no network"),
    (["--ip", "10.1.2.3", "--proxy-allow", "fd00::/8"], "no IPv4 network")])
def test_flags_that_are_wrong_are_told(tmp_path, flags, told):
    result = subprocess.run([PLANE, "drone", "--controller-url", "http://127.0.0.1:1", "--cluster",
                             CLUSTER, "--data-dir", tmp_path, *flags], capture_output=True,
                            text=True, timeout=30)
    assert result.returncode == 1 and told in result.stderr, result.stderr


def test_an_address_of_nowhere_is_told(hosts, tmp_path):
    role = Role(hosts.stranger, tmp_path, "drone", [
        "drone", "--controller-url", "http://127.0.0.1:1", "--cluster", CLUSTER, "--data-dir",
        tmp_path, "--ip", "203.0.113.9"])
    role.start(wait=False)
    assert role.process.wait(20) == 1
    assert "of no interface here" in role.log_text()
