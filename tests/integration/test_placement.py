"""Placement by memory and CPU: drones that are filled, overcommitted, refuse, drain; what their
backends use. Some drones are played by the test, some are real."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess

import pytest
import websockets

from roles import Role
from serve import EXAMPLES, PLANE, free_port, request, wait_until
from test_controller import (CLUSTER, VERSION, Controller, Drone, connect_body, controller, drone, error_of,
                             postgres, read_stream, run, statuses)
from test_drone import FakeController, LeaseController, with_drone

pytestmark = pytest.mark.timeout(120)
MIB = 1 << 20
__all__ = ["controller", "postgres"]  # fixtures


def report(total=100 * MIB, reserved=0, backends=0, token=0, **more):
    return {"memory_total_bytes": total, "memory_allocatable_bytes": total,
            "memory_reserved_bytes": reserved, "memory_available_bytes": total,
            "cpu_total_millis": 4000, "cpu_allocatable_millis": 4000, "cpu_reserved_millis": 0,
            "backend_count": backends, "last_fencing_token": token, **more}


class Sized(Drone):
    """A drone with a lease that says what it has."""

    epoch = None

    async def renew(self, **more):
        await self.send({"RenewLease": {
            "epoch": self.epoch, "last_epoch": self.epoch or 0, "journal": f"jo-{self.name}",
            "local_time": 1_000_000, "resources": report(**more)}})
        answer = await self.expect("LeaseResponse")
        assert answer["deadlines"], answer
        self.epoch = answer["epoch"]

    async def order(self):
        action = await self.expect("Action")
        return action, action["action"]["Spawn"]

    async def refuse(self, action):
        await self.send({"RefuseAction": {"action_id": action["action_id"],
                                          "reason": "no room, it says"}})


@contextlib.asynccontextmanager
async def sized(controller, name, extensions=("drone-lease", "metrics-on-request"), **more):
    uri = f"ws://{controller.address}/ctrl/c/{CLUSTER}/drone-socket"
    async with websockets.connect(uri, max_size=None) as ws:
        await ws.send(json.dumps({"version": VERSION, "name": name, "extensions": list(extensions)}))
        peer = Sized(ws, name)
        await peer.receive()
        await peer.renew(**more)
        yield peer


def ask(controller, key, memory=0, cpu=0, **config):
    return controller.aconnect(key, resources={"memory_bytes": memory, "cpu_millis": cpu}, **config)


# ---- what the controller decides, with drones that are played ----


def test_drones_are_filled_and_no_further_without_a_report_in_between(controller):
    async def story():
        async with sized(controller, "dr-one"), sized(controller, "dr-two"):
            answers = [await ask(controller, f"key-{i}", 50 * MIB) for i in range(4)]
            assert sorted(answer.json()["drone"] for answer in answers) == [
                "dr-one", "dr-one", "dr-two", "dr-two"]
            full = await ask(controller, "key-4", 50 * MIB)
            assert error_of(full) == (500, "NoDroneAvailable", "No active drone available. "
                                      "Without room for 50 MiB of memory: 2.")
            # what asks for nothing has room everywhere
            assert (await ask(controller, "key-5")).status == 200

    run(story())


def test_a_report_that_knows_the_order_counts_and_an_older_one_does_not(controller):
    async def story():
        async with sized(controller, "dr-one") as dr:
            assert (await ask(controller, "first", 60 * MIB)).status == 200
            _, spawn = await dr.order()
            token = spawn["key"]["token"]
            assert spawn["resources"] == {"memory_bytes": 60 * MIB, "cpu_millis": 0}
            await dr.renew(reserved=0, token=token - 1)  # sent before the order came
            assert (await ask(controller, "second", 60 * MIB)).status == 500
            await dr.renew(reserved=0, token=token)  # it came, and has ended since
            assert (await ask(controller, "second", 60 * MIB)).status == 200

    run(story())


def test_what_a_backend_asks_for_is_by_default_what_it_is_limited_to(controller):
    async def story():
        async with sized(controller, "dr-one") as dr:
            await controller.aconnect("limited", executable={"image": "echo", "resource_limits": {
                "memory_limit_bytes": 70 * MIB, "cpu_period_percent": 150}})
            _, spawn = await dr.order()
            assert spawn["resources"] == {"memory_bytes": 70 * MIB, "cpu_millis": 1500}
            too_much = await ask(controller, "cpu", cpu=2501)
            assert "Without room for 2.501 CPUs: 1." in too_much.json()["message"]

    run(story())


@pytest.mark.fault
def test_resources_that_make_no_sense_are_told(controller):
    for resources in ({"memory_bytes": -1}, {"cpu_millis": "1"}, [], {"memory_bytes": 1 << 60}):
        answer = controller.post("/ctrl/connect", connect_body(resources=resources))
        assert answer.status == 422 and "resources" in answer.json()["message"]


def test_why_no_drone_is_available_is_told(controller):
    async def story():
        async with sized(controller, "dr-one", total=10 * MIB), sized(controller, "dr-two"):
            await controller.apost(f"/ctrl/c/{CLUSTER}/d/dr-two/drain")
            answer = await ask(controller, "k", 20 * MIB)
            assert error_of(answer)[2] == ("No active drone available. Draining: 1. "
                                           "Without room for 20 MiB of memory: 1.")
            assert (await ask(controller, "k", 5 * MIB)).json()["drone"] == "dr-one"

    run(story())


def test_a_refused_backend_goes_to_the_next_drone_and_its_link_stays(controller):
    async def story():
        async with sized(controller, "dr-one") as one, sized(controller, "dr-two") as two:
            link = (await ask(controller, "k", 50 * MIB)).json()
            first, next_one = (one, two) if link["drone"] == "dr-one" else (two, one)
            action, spawn = await first.order()
            await first.refuse(action)
            moved, again = await next_one.order()
            assert moved["backend_id"] == link["backend_id"]
            assert moved["action_id"] != action["action_id"]
            assert again["executable"] == spawn["executable"]
            assert again["resources"] == spawn["resources"]
            assert again["lease_epoch"] == next_one.epoch
            assert again["key"]["token"] > spawn["key"]["token"]
            # told twice, as after a lost connection: nothing more happens
            await first.refuse(action)
            # what the first one says of it counts no more
            await first.event(link["backend_id"], {"status": "ready", "address": "6.6.6.6:6"})
            await next_one.send({"AckAction": {"action_id": moved["action_id"]}})
            await next_one.bring_up(link["backend_id"])
            await next_one.silent(0.3)
            status = (await controller.aget(f"/pub/b/{link['backend_id']}/status")).json()
            assert status["status"] == "ready"
            held = (await ask(controller, "k", 50 * MIB)).json()
            assert held["backend_id"] == link["backend_id"] and not held["spawned"]
            text = (await controller.aget("/metrics")).body.decode()
            assert "plane_backends_refused_total 2\n" in text
            assert "plane_backends_moved_total 1\n" in text

    run(story())


def test_a_backend_that_no_drone_takes_ends_and_says_why(controller):
    async def story():
        async with sized(controller, "dr-one") as one, sized(controller, "dr-two") as two:
            link = (await ask(controller, "k", 50 * MIB)).json()
            stream = asyncio.get_running_loop().run_in_executor(
                None, read_stream, controller, link["backend_id"])
            first, last = (one, two) if link["drone"] == "dr-one" else (two, one)
            await first.refuse((await first.order())[0])
            await last.refuse((await last.order())[0])
            assert statuses(await asyncio.wait_for(stream, 20)) == ["scheduled", "terminated"]
            status = (await controller.aget(f"/pub/b/{link['backend_id']}/status")).json()
            assert status["termination_reason"] == "internalerror"
            assert status["message"] == ("no drone has room for it; the last that was asked, "
                                         f"{last.name}: no room, it says")
            # the key is free, and the drones may be asked again
            again = (await ask(controller, "k", 50 * MIB)).json()
            assert again["spawned"] and again["backend_id"] != link["backend_id"]
            log = (controller.directory / "controller.log").read_text()
            assert f"given up: {status['message']}" in log

    run(story())


def test_a_refusal_reaches_a_drone_of_another_controller(postgres, tmp_path):
    async def story(here, there):
        async with sized(here, "dr-one") as one, sized(there, "dr-two") as two:
            link = (await ask(here, "k", 50 * MIB)).json()
            first, last = (one, two) if link["drone"] == "dr-one" else (two, one)
            action, _ = await first.order()
            await first.refuse(action)
            moved, _ = await last.order()
            assert moved["backend_id"] == link["backend_id"]
            await last.send({"AckAction": {"action_id": moved["action_id"]}})
            await last.bring_up(link["backend_id"])
            status = (await here.aget(f"/pub/b/{link['backend_id']}/status")).json()
            assert status["status"] == "ready"

    database = postgres.new_database()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = (Controller(tmp_path / name, db=database) for name in ("here", "there"))
    run(story(here, there))
    assert here.stop() == there.stop() == 0


def test_a_drone_that_is_strained_gets_backends_last(controller):
    async def story():
        async with sized(controller, "dr-one", memory_available_bytes=MIB), \
                sized(controller, "dr-two", reserved=80 * MIB):
            assert (await ask(controller, "k", 10 * MIB)).json()["drone"] == "dr-two"
            assert (await ask(controller, "l", 20 * MIB)).json()["drone"] == "dr-one"

    run(story())


# ---- what backends use ----


def listed(answer):
    return {backend["backend_id"]: backend["metrics"] for backend in answer.json()["backends"]}


def test_what_backends_use_is_measured_for_who_asks_and_written_nowhere(controller):
    async def story():
        async with sized(controller, "dr-one") as dr, drone(controller, "dr-old", pool="old") as old:
            backend = (await ask(controller, "k")).json()["backend_id"]
            other = (await ask(controller, "l", pool="old")).json()["backend_id"]
            assert "metrics" not in (await controller.aget("/ctrl/backends")).json()["backends"][0]
            asked = asyncio.create_task(controller.aget("/ctrl/backends?metrics=true"))
            wish = await dr.expect("MetricsRequest")
            assert wish == {"interval_ms": 10000, "duration_ms": 60000}
            await dr.send({"MetricsReport": {"backends": {backend: [7 * MIB, 64 * MIB, 2_500_000_000]}}})
            used = listed(await asked)
            assert used[backend]["memory_used_bytes"] == 7 * MIB
            assert used[backend]["memory_limit_bytes"] == 64 * MIB
            assert used[backend]["cpu_millis"] is None and used[other] is None
            # one of the original's sends it unasked
            await old.send({"BackendMetrics": {
                "backend_id": other, "mem_used": 5, "mem_total": 6, "mem_active": 1,
                "mem_inactive": 1, "mem_unevictable": 0, "mem_limit": 9, "cpu_used": 10,
                "sys_cpu": 100}})
            await old.event("no-such-backend", {"status": "loading"})
            text = (await controller.aget("/metrics/backends")).body.decode()
            assert (f'plane_backend_memory_bytes{{backend="{backend}",drone="dr-one"}} {7 * MIB}\n'
                    in text)
            assert f'plane_backend_cpu_seconds_total{{backend="{backend}",drone="dr-one"}} 2.500\n' in text
            assert f'plane_backend_memory_limit_bytes{{backend="{other}",drone="dr-old"}} 9\n' in text
            assert "plane_backends_measured 2\n" in text
            of_drones = (await controller.aget("/metrics")).body.decode()
            assert ('plane_drone_memory_bytes{drone="dr-one",cluster="localhost:9090",pool="",'
                    f'kind="total"}} {100 * MIB}\n' in of_drones)
            assert 'plane_drone_cpus{drone="dr-one",cluster="localhost:9090",pool="",kind="total"} 4\n' in of_drones
            assert "plane_backend_memory_bytes" not in of_drones
            # a drone that comes while somebody looks is asked too
            async with sized(controller, "dr-new") as new:
                await new.expect("MetricsRequest")

    run(story())


@pytest.mark.fault
def test_a_malformed_report_or_refusal_is_skipped(controller):
    async def story():
        async with sized(controller, "dr-one") as dr:
            for message in ({"MetricsReport": {"backends": {"a": [1, 2]}}},
                            {"MetricsReport": {"backends": {"a": [1, 2, -3]}}},
                            {"MetricsReport": {"backends": {"A b": [1, 2, 3]}}},
                            {"MetricsReport": {"backends": []}},
                            {"RefuseAction": {"action_id": "ak-none", "reason": "x" * 100000}},
                            {"RefuseAction": {"action_id": 5}}):
                await dr.send(message)
            await dr.renew()
            answer = await controller.aget("/ctrl/backends?metrics=true")
            assert answer.status == 200

    run(story())


# ---- what a drone does, with a controller that is played ----


class Refused(LeaseController):
    """Orders backends that ask for memory."""

    def __init__(self, *extensions):
        super().__init__(600_000)
        self.extensions = ["drone-lease", "metrics-on-request", *extensions]
        self.memory = 0

    def more(self):
        return {**super().more(), "resources": {"memory_bytes": self.memory, "cpu_millis": 0}}

    def refused(self):
        return {refusal["action_id"]: refusal["reason"] for refusal in self.of("RefuseAction")}


SMALL = ("--memory-bytes", str(100 * MIB), "--overcommit-memory", "1.5", "--cpus", "0.5")


def test_a_drone_refuses_what_exceeds_its_factor_and_keeps_to_it():
    async def scenario():
        controller = Refused("refuse-action")

        async def story():
            has = controller.of("RenewLease")[0]["resources"]
            assert has["memory_total_bytes"] == 100 * MIB
            assert has["memory_allocatable_bytes"] == 150 * MIB
            assert has["cpu_total_millis"] == 500 and has["cpu_allocatable_millis"] == 4000
            controller.memory = 80 * MIB
            await controller.spawn("first", 0)
            await controller.order("second", 0)
            await controller.wait(lambda: "ak-second" in controller.refused())
            assert controller.refused()["ak-second"] == (
                "no room for 80 MiB of memory: 80 MiB of memory of 150 MiB of memory and "
                "4.000 CPUs is reserved")
            assert controller.status("second") is None
            # there is room again, but it was told already that it does not take this order
            await controller.send({"Action": {
                "action_id": "ak-end", "backend_id": "first", "drone_id": 1,
                "action": {"Terminate": {"kind": "hard", "reason": "external"}}}})
            await controller.wait(lambda: controller.status("first") == "terminated")
            seen = len(controller.of("RefuseAction"))
            await controller.order("second", 0)
            await controller.wait(lambda: len(controller.of("RefuseAction")) > seen)
            assert "ak-second" not in [ack["action_id"] for ack in controller.of("AckAction")]
            await controller.spawn("third", 0)

        await with_drone(controller, story, *SMALL)

    asyncio.run(scenario())


def test_a_controller_that_knows_no_refusal_is_told_the_end():
    async def scenario():
        controller = Refused()

        async def story():
            controller.memory = 151 * MIB
            await controller.order("huge", 0)
            await controller.wait(lambda: controller.status("huge") == "terminated")
            last = [event["state"] for event in controller.of("BackendEvent")][-1]
            assert last["message"].startswith("no room for 151 MiB of memory")
            assert not controller.of("RefuseAction")

        await with_drone(controller, story, *SMALL)

    asyncio.run(scenario())


class Original(FakeController):
    """Knows nothing but limits."""

    def __init__(self):
        super().__init__(None)
        self.limit = 0

    def more(self):
        return {"executable": {"image": "echo", "resource_limits": {"memory_limit_bytes": self.limit}}}


def test_what_an_original_controller_limits_is_reserved():
    async def scenario():
        controller = Original()

        async def story():
            controller.limit = 100 * MIB
            await controller.spawn("first", 60_000)
            await controller.order("second", 60_000)
            await controller.wait(lambda: controller.status("second") == "terminated")
            controller.limit = 50 * MIB
            await controller.spawn("third", 60_000)

        await with_drone(controller, story, *SMALL)

    asyncio.run(scenario())


def test_a_drone_measures_only_when_it_is_asked():
    async def scenario():
        controller = Refused("refuse-action")

        async def story():
            await controller.spawn("one", 0)
            await controller.spawn("two", 0)
            assert not controller.of("MetricsReport") and not controller.of("BackendMetrics")
            await controller.send({"MetricsRequest": {"interval_ms": 200, "duration_ms": 700}})
            await controller.wait(lambda: len(controller.of("MetricsReport")) > 2)
            uses = controller.of("MetricsReport")[-1]["backends"]
            assert set(uses) == {"one", "two"}
            memory, _, cpu_ns = uses["one"]
            assert 0 < memory < 1 << 30 and cpu_ns > 0
            # each has at most four more: for the time that was asked for
            seen = len(controller.of("RenewLease"))
            await controller.wire.close()  # another connection, another lease request
            await controller.wait(lambda: len(controller.of("RenewLease")) > seen)
            told = len(controller.of("MetricsReport"))
            await controller.spawn("three", 0)
            assert len(controller.of("MetricsReport")) == told

        await with_drone(controller, story, *SMALL)

    asyncio.run(scenario())


# ---- controllers and drones as they are ----


class Here:
    """This machine, as a host of roles.py."""

    def __init__(self):
        self.fd = os.open("/", os.O_PATH)

    def command(self, *words):
        return [str(word) for word in words]


class Cluster:
    """Controllers on one store, and small drones, all on this machine."""

    def __init__(self, directory, db, controllers=1):
        self.directory, self.here, self.roles = directory, Here(), {}
        self.urls = []
        for number in range(controllers):
            port = free_port()
            self.start(f"controller-{number}", "controller", "--db", db, "--port", port)
            self.urls.append(f"http://127.0.0.1:{port}")

    def start(self, name, *words):
        self.roles[name] = Role(self.here, self.directory, name, words).start()
        return self.roles[name]

    def drone(self, name, *flags, controller=0):
        data = self.directory / name
        if not data.exists():
            subprocess.run([PLANE, "image", "import", "echo", EXAMPLES / "echo.tar", "--data-dir",
                            data], check=True, capture_output=True)
        role = self.start(name, "drone", "--controller-url", self.urls[controller], "--cluster",
                          CLUSTER, "--name", name, "--data-dir", data, "--parked", "1",
                          "--end-backends", *flags)
        wait_until(lambda: self.shown(name)["healthy"], 20, f"the first report of {name}")
        return role

    def wait_reserved(self, name, memory):
        wait_until(lambda: self.shown(name)["resources"]["memory_reserved_bytes"] == memory, 20,
                   f"{memory} reserved by {name}")

    def connect(self, key, memory, url=None):
        return request("POST", f"{url or self.urls[0]}/ctrl/connect", {
            "key": {"name": key}, "spawn_config": {
                "cluster": CLUSTER, "executable": {"image": "echo"},
                "resources": {"memory_bytes": memory}}})

    def status(self, backend):
        return request("GET", f"{self.urls[0]}/pub/b/{backend}/status").json()

    def wait_status(self, backend, wanted):
        wait_until(lambda: self.status(backend)["status"] == wanted, 30, f"{backend} {wanted}")

    def ready(self, key, memory):
        answer = self.connect(key, memory)
        assert answer.status == 200, answer.body
        answer = answer.json()
        self.wait_status(answer["backend_id"], "ready")
        return answer

    def shown(self, name):
        return request("GET", f"{self.urls[0]}/ctrl/c/{CLUSTER}/d/{name}").json()

    def admin(self, *words):
        return subprocess.run([PLANE, "admin", "--controller", self.urls[0], *words], check=True,
                              capture_output=True, text=True).stdout

    def stop(self):
        for role in reversed(self.roles.values()):
            assert role.stop(signal.SIGINT) == 0, role.log_text()[-4000:]
            assert "Sanitizer" not in role.log_text(), role.log_text()


@pytest.fixture
def cluster(tmp_path):
    started = Cluster(tmp_path, f"sqlite:{tmp_path}/controller.db")
    yield started
    started.stop()


def test_drones_fill_one_after_the_other_until_none_is_left(cluster):
    size = ("--memory-bytes", str(100 * MIB), "--overcommit-memory", "1")
    for name in ("dr-one", "dr-two", "dr-three"):
        cluster.drone(name, *size)
    placed = [cluster.ready(f"key-{i}", 50 * MIB) for i in range(6)]
    assert sorted(answer["drone"] for answer in placed) == sorted(2 * ["dr-one", "dr-two", "dr-three"])
    full = cluster.connect("key-6", 50 * MIB)
    assert full.json()["kind"] == "NoDroneAvailable"
    assert "Without room for 50 MiB of memory: 3." in full.json()["message"]
    # what the drones report is what was placed
    cluster.wait_reserved("dr-one", 100 * MIB)
    drones = cluster.admin("drones")
    assert "100M/100M" in drones, drones
    backends = cluster.admin("backends", "--alive")
    memory = [line.split()[-3] for line in backends.splitlines()[1:]]
    assert len(memory) == 6 and "-" not in memory, backends
    # an end makes room
    backend = placed[0]["backend_id"]
    request("POST", f"{cluster.urls[0]}/ctrl/b/{backend}/hard-terminate")
    cluster.wait_status(backend, "terminated")
    wait_until(lambda: cluster.connect("key-6", 50 * MIB).status == 200, 20, "room again")


def test_a_restarted_drone_keeps_what_its_backends_asked_for(cluster):
    size = ("--memory-bytes", str(100 * MIB), "--overcommit-memory", "1.2")
    one = cluster.drone("dr-one", *size)
    kept = cluster.ready("kept", 70 * MIB)
    one.kill()
    cluster.drone("dr-one", *size)
    cluster.wait_reserved("dr-one", 70 * MIB)  # until then the list may show the former process
    assert cluster.shown("dr-one")["resources"]["memory_allocatable_bytes"] == 120 * MIB
    assert cluster.connect("more", 51 * MIB).json()["kind"] == "NoDroneAvailable"
    cluster.ready("fits", 50 * MIB)
    assert cluster.status(kept["backend_id"])["status"] == "ready"
    request("POST", f"{cluster.urls[0]}/ctrl/b/{kept['backend_id']}/hard-terminate")
    cluster.wait_status(kept["backend_id"], "terminated")
    cluster.wait_reserved("dr-one", 50 * MIB)


def test_controllers_that_place_at_once_are_put_right_by_the_drones(postgres, tmp_path):
    cluster = Cluster(tmp_path, postgres.new_database(), controllers=2)
    size = ("--memory-bytes", str(100 * MIB), "--overcommit-memory", "1")
    for number, name in enumerate(("dr-one", "dr-two")):
        cluster.drone(name, *size, controller=number)

    async def both():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(
            loop.run_in_executor(None, cluster.connect, f"key-{i}", 50 * MIB, cluster.urls[i % 2])
            for i in range(4)))

    answers = asyncio.run(both())
    assert [answer.status for answer in answers] == [200] * 4
    for answer in answers:
        cluster.wait_status(answer.json()["backend_id"], "ready")
    for name in ("dr-one", "dr-two"):
        cluster.wait_reserved(name, 100 * MIB)
    assert cluster.connect("key-4", 50 * MIB).json()["kind"] == "NoDroneAvailable"
    cluster.stop()


def test_a_drained_drone_is_empty_and_the_other_gets_all(cluster):
    cluster.drone("dr-one")
    cluster.drone("dr-two")
    request("POST", f"{cluster.urls[0]}/ctrl/c/{CLUSTER}/d/dr-one/drain")
    for i in range(4):
        assert cluster.ready(f"key-{i}", MIB)["drone"] == "dr-two"
    assert cluster.shown("dr-one")["backend_count"] == 0
    text = cluster.admin("drain", "--cluster", CLUSTER, "--drone", "dr-one", "--wait")
    assert "already draining" in text
