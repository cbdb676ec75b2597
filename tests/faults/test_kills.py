"""kill -9 of each process, at rest and at many points of a start: what ran runs on, what was started
runs once or is told to have ended, and nothing is left over."""

import asyncio
import concurrent.futures
import itertools
import os
import signal
import threading
import time

import pytest
import websockets

import inventory
from faults import kill
from serve import echo_once, request, wait_until

pytestmark = pytest.mark.timeout(110)
POINTS = 8  # of a start, at which a process is killed
number = itertools.count()


def settled(plane):
    wait_until(plane.is_ready, 60, "the roles back")
    plane.leaks.wait_clean()


@pytest.mark.parametrize("role", ["controller", "drone", "proxy"])
def test_a_role_killed_at_rest_comes_back_and_nothing_is_lost(plane, role):
    before = plane.run("rest")

    async def hold():
        url = before["url"].replace("http:", "ws:") + "ws"
        async with websockets.connect(url) as socket:
            await asyncio.to_thread(plane.kill_child, role)
            if role != "proxy":  # which had the connection
                assert await echo_once(socket, role) == role
    asyncio.run(hold())
    settled(plane)
    after = plane.run("rest")
    assert after["backend_id"] == before["backend_id"] and not after["spawned"]
    plane.serves(before)
    plane.serves(after)


def test_all_roles_killed_at_once_come_back(plane):
    before = plane.run("rest")
    for role in ("drone", "proxy", "controller"):
        kill(plane.child(role))
    settled(plane)
    assert plane.run("rest")["backend_id"] == before["backend_id"]
    plane.serves(before)


def test_a_role_that_is_killed_again_and_again_comes_back(plane):
    before = plane.run("rest")
    for _ in range(4):
        plane.kill_child("drone")
    settled(plane)
    assert plane.run("rest")["backend_id"] == before["backend_id"]


def test_a_killed_shim_takes_its_backend_and_only_that(plane):
    victim, other = plane.run("victim"), plane.run("other")
    kill(plane.shim_of(victim["backend_id"]))
    plane.wait_status(victim["backend_id"], "terminated")
    plane.serves(other)
    assert plane.run("victim")["backend_id"] != victim["backend_id"]


def processes_of(plane, index):
    groups = inventory.cgroups(plane.instance)
    return max(group.get(f"s{index}", 0) for group in groups.values())


def test_an_end_is_told_when_the_last_process_is_gone(plane):
    """A shim and its backend do not die in one instant: the key stays taken until both are gone."""
    for _ in range(5):
        victim = plane.run("victim")
        backend = victim["backend_id"]
        request("GET", victim["url"] + "fork", timeout=60)
        index = next(index for index, name in inventory.records(plane.data).items()
                     if name == backend)
        assert processes_of(plane, index) > 500
        kill(plane.shim_of(backend))
        while backend in inventory.journal_live(plane.data):
            pass  # as close as can be
        assert processes_of(plane, index) == 0
        plane.wait_status(backend, "terminated")


def test_a_killed_parked_shim_is_replaced(plane):
    plane.leaks.look()
    parked = [index for index, backend in plane.leaks.records.items() if backend is None]
    for index in parked:
        kill(plane.leaks.shims[index][0].pid)
    wait_until(lambda: not any(os.path.exists(f"/proc/{plane.leaks.shims[index][0].pid}/fd/3")
                               for index in parked), 10, "the shims gone")
    plane.serves(plane.run("after"))


def test_a_log_of_a_forgotten_backend_is_removed(plane):
    logs = plane.data / "drone" / "logs"
    kept = plane.run("kept", "print")["backend_id"]
    (logs / "forgotten.log").write_text("x")
    (logs / "forgotten.log.1").write_text("x")
    plane.kill_child("drone")
    wait_until(lambda: not list(logs.glob("forgotten*")), 30, "the log removed")
    assert (logs / f"{kept}.log").exists()


def test_an_address_is_not_used_again_soon(plane):
    """A proxy that has not heard of an end must not lead to somebody else, whoever forgot what."""
    used = []
    for round_ in range(4):
        backend = plane.run(f"address-{round_}")["backend_id"]
        used.append(next(index for index, name in inventory.records(plane.data).items()
                         if name == backend))
        assert plane.end(backend).status == 200
        plane.wait_status(backend, "terminated")
        plane.leaks.wait_clean()
        plane.kill_child("drone")
        wait_until(plane.is_ready, 30, "drone back")
        plane.leaks.wait_clean()
        assert not set(used) & set(plane.leaks.records)


def start_time(plane):
    began = time.monotonic()
    plane.run(f"measured-{next(number)}")
    return time.monotonic() - began


def kill_during_start(plane, pick, point):
    """Kills what `pick` gives, `point` of the way through a start; then all must be in order."""
    key = f"spawn-{next(number)}"
    after_s = start_time(plane) * point
    killer = threading.Timer(after_s, lambda: kill(pick()))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        killer.start()
        made = pool.submit(plane.ask, key)
        killer.join()
        failed = made.exception(30)
    settled(plane)
    final = plane.run(key, wait=None)
    first = made.result() if not failed else None
    if first is not None and first.status == 200:
        entry = plane.status(first.json()["backend_id"])
        assert entry["status"] in ("ready", "terminated"), entry
        assert (entry["status"] == "ready") == (
            final["backend_id"] == first.json()["backend_id"])
    plane.wait_status(final["backend_id"], "ready")
    plane.serves(final)


@pytest.mark.parametrize("point", [
    pytest.param(part / POINTS, marks=[pytest.mark.long] if part % 3 else [])
    for part in range(POINTS)])
@pytest.mark.parametrize("role", ["controller", "drone", "proxy"])
def test_a_role_killed_during_a_start(plane, role, point):
    kill_during_start(plane, lambda: plane.child(role), point)


def journal_says(plane, key, status):
    """The key's backend when the journal has it in that state or a later one."""
    order = ["scheduled", "loading", "starting", "waiting", "ready"]
    for backend, entry in inventory.store_live(plane.data).items():
        if entry.key[1] == key:
            now = inventory.journal_live(plane.data).get(backend)
            if now in order and order.index(now) >= order.index(status):
                return backend
    return None


@pytest.mark.parametrize("status", ["scheduled", pytest.param("starting", marks=pytest.mark.long),
                                    "waiting", pytest.param("ready", marks=pytest.mark.long)])
@pytest.mark.parametrize("victim", ["controller", "drone", "proxy", "serve"])
def test_a_process_killed_when_a_state_is_seen(plane, victim, status):
    key = f"state-{next(number)}"
    first = plane.run(key, wait=None)
    wait_until(lambda: journal_says(plane, key, status), 20, status)
    if victim == "serve":
        plane.process.kill()
        plane.process.wait()
        plane.start()
    else:
        kill(plane.child(victim))
    settled(plane)
    entry = plane.status(first["backend_id"])
    assert entry["status"] in ("ready", "terminated"), entry
    final = plane.run(key)
    assert (final["backend_id"] == first["backend_id"]) == (entry["status"] == "ready")
    plane.serves(final)


def shim_of_record(plane, key):
    """The key's shim as soon as its sandbox is given to it, long before it runs."""
    for backend, entry in inventory.store_live(plane.data).items():
        if entry.key[1] == key:
            for index, name in inventory.records(plane.data).items():
                if name == backend:
                    plane.leaks.look()
                    return plane.leaks.shims[index][0].pid if plane.leaks.shims[index] else None
    return None


@pytest.mark.parametrize("delay_ms", [0, 1, 3, 10])
def test_a_shim_killed_during_a_start(plane, delay_ms):
    key = f"shim-{next(number)}"
    first = plane.run(key, wait=None)
    pid = wait_until(lambda: shim_of_record(plane, key), 20, "its shim")
    time.sleep(delay_ms / 1000)
    kill(pid)
    entry = plane.wait_status(first["backend_id"], "terminated")
    assert entry["exit_error"] is None or not entry.get("exit_code")
    final = plane.run(key)
    assert final["backend_id"] != first["backend_id"]
    plane.serves(final)


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_is_started_at_once_again_takes_over(plane, with_signal):
    """The roles of the killed one are still stopping when the new one starts."""
    before = plane.run("taken-over")
    for _ in range(3):
        plane.process.send_signal(with_signal)
        if with_signal == signal.SIGKILL:
            plane.process.wait()  # the roles have not heard of it yet
        else:
            plane.process.wait(40)
        plane.start()
    settled(plane)
    assert plane.run("taken-over")["backend_id"] == before["backend_id"]
    plane.serves(before)


def test_orders_that_arrive_while_the_drone_stops_are_not_lost(plane):
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        made = [pool.submit(plane.ask, f"order-{index}") for index in range(24)]
        for _ in range(3):
            drone = plane.child("drone")
            kill(drone, signal.SIGTERM)
            wait_until(lambda: plane.child("drone") not in (None, drone), 30, "the next drone")
        answers = [future.result() for future in made]
    settled(plane)
    for index, answer in enumerate(answers):
        if answer.status != 200:
            assert answer.json()["kind"] == "NoDroneAvailable", answer.body
            continue
        entry = plane.status(answer.json()["backend_id"])
        assert entry["status"] in ("ready", "terminated"), entry
        plane.serves(plane.run(f"order-{index}"))
