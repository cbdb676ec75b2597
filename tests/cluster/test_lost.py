"""Faults that are longer than the lease: what was cut off or stopped has ended by its own clock before
its keys are served elsewhere, and all agrees again when it is back."""

import contextlib
import time

import pytest

import witness
from roles import Role

pytestmark = pytest.mark.timeout(170)
LEASE_SECONDS = 5
FLAGS = ["--lease-seconds", str(LEASE_SECONDS)]
LONG_SECONDS = LEASE_SECONDS + 2


@contextlib.contextmanager
def moved(cluster, key):
    """A backend that is going to be lost: inside, its drone and the connection to it. Afterwards
    its key is served by another drone, by a backend that began after it had ended, and those of
    other drones are what they were."""
    connections = cluster.run_everywhere(key)
    lost, *others = connections
    drone = cluster.drone_of(lost)
    yield drone, lost
    now = cluster.run_elsewhere(lost)
    assert cluster.drone_of(now) is not drone
    lives = cluster.lives(lost["key"])
    assert [life.backend for life in lives[-2:]] == [lost["backend_id"], now["backend_id"]]
    for connection in others:
        cluster.serves(connection)


def test_a_dead_machine_s_keys_are_served_elsewhere(cluster):
    with moved(cluster, "dead") as (drone, _):
        drone.die()
    drone.come_back()
    cluster.settle()


@pytest.mark.long
def test_a_machine_cut_off_from_all_ends_its_backends_before_their_keys_move(cluster):
    with moved(cluster, "isolated") as (drone, lost):
        cluster.hosts.isolate(drone.host)
    cluster.wait(lambda: lost["backend_id"] not in drone.running(), "it ended")
    cluster.hosts.heal()
    cluster.settle()


def test_a_drone_without_controllers_ends_backends_that_proxies_still_reach(cluster):
    with moved(cluster, "reachable") as (drone, lost):
        tunnel = cluster.tunnel(lost)
        cluster.hosts.partition([drone.host], [cluster.hosts.balancer])
    tunnel.wait_broken(1)
    cluster.hosts.heal()
    cluster.settle()


@pytest.mark.long
@pytest.mark.parametrize("direction", ["to", "from"])
def test_a_drone_that_only_hears_or_is_only_heard_loses_its_keys_safely(cluster, direction):
    with moved(cluster, f"one-way-{direction}") as (drone, _):
        ends = [drone.host, cluster.hosts.balancer]
        cluster.hosts.mute(*(ends if direction == "to" else reversed(ends)))
    cluster.hosts.heal()
    cluster.settle()


def test_shims_end_backends_of_an_agent_that_stands_still(cluster):
    with moved(cluster, "still") as (drone, lost):
        drone.role.pause()
        cluster.wait(lambda: lost["backend_id"] not in drone.running(), "it ended")
    drone.role.resume()
    cluster.settle()


@pytest.mark.long
def test_shims_end_backends_of_an_agent_that_is_dead(cluster):
    with moved(cluster, "agentless") as (drone, lost):
        drone.role.kill()
        cluster.wait(lambda: lost["backend_id"] not in drone.running(), "it ended")
    drone.role.start()
    cluster.settle()


def test_a_suspended_machine_ends_what_is_too_late_when_it_wakes(cluster):
    """All of it stands still, so nothing can end before the keys move. What runs in the moment of
    waking has an older fencing token, and is over before it is told anything."""
    connections = cluster.run_everywhere("asleep")
    lost = connections[0]
    drone = cluster.drone_of(lost)
    drone.freeze()
    now = cluster.run_elsewhere(lost)
    drone.thaw(but_agent=True)
    cluster.wait(lambda: lost["backend_id"] not in drone.running(), "it ended")
    drone.thaw()
    testimony = witness.take(cluster.keys, lost["key"])
    old, new = list(testimony.lives.values())[-2:]
    assert (old.backend, new.backend) == (lost["backend_id"], now["backend_id"])
    assert old.token < new.token and not new.late
    assert all(problem.startswith((f"{old.backend} (token", f"{new.backend} began while"))
               for problem in testimony.problems), testimony.problems
    cluster.settle()
    cluster.serves(now)


# ---- nobody can renew ----

@contextlib.contextmanager
def ended(cluster, key):
    """Inside nobody can renew a lease, for as long as it takes until no backend runs any more.
    Afterwards their keys are served by new ones."""
    connections = cluster.run_everywhere(key)
    names = {connection["backend_id"] for connection in connections}
    yield lambda: cluster.wait(lambda: not names & cluster.running(), "all ended")
    for connection in connections:
        now = cluster.run_elsewhere(connection)
        lives = [life.backend for life in cluster.lives(connection["key"])]
        assert lives[-2:] == [connection["backend_id"], now["backend_id"]]
    cluster.settle()


@pytest.mark.long
@pytest.mark.parametrize("begin, end", [(Role.kill, Role.start), (Role.pause, Role.resume)])
def test_without_any_controller_all_backends_end_by_themselves(cluster, begin, end):
    with ended(cluster, begin.__name__) as wait:
        for role in cluster.controllers:
            begin(role)
        wait()
        time.sleep(LONG_SECONDS)
        for role in cluster.controllers:
            end(role)


@pytest.mark.parametrize("how", ["paused", *(pytest.param(how, marks=pytest.mark.long)
                                             for how in ("stopped", "cut off"))])
def test_a_database_that_is_away_for_long_loses_leases_and_nothing_else(cluster, how):
    with ended(cluster, how.replace(" ", "-")) as wait:
        database, hosts = cluster.database, cluster.hosts
        begin, end = {
            "stopped": (database.stop, database.start),
            "paused": (database.pause, database.resume),
            "cut off": (lambda: hosts.isolate(database.host), hosts.heal)}[how]
        begin()
        wait()
        time.sleep(LONG_SECONDS)
        end()


@pytest.mark.long
def test_a_balancer_that_is_gone_for_long_costs_the_leases(cluster):
    with ended(cluster, "unbalanced") as wait:
        cluster.balancer.kill()
        wait()
        cluster.balancer.start()


# ---- one of several stands still: nobody else minds ----

@pytest.mark.long
@pytest.mark.parametrize("name", ["px-proxy1", "px-proxy2"])
def test_a_proxy_that_stood_still_for_long_goes_on(cluster, name):
    connections = cluster.run_everywhere("held")
    tunnels = [cluster.tunnel(connection, int(name[-1]) - 1) for connection in connections]
    role = cluster.role(name)
    role.pause()
    time.sleep(LONG_SECONDS)
    role.resume()
    for tunnel in tunnels:
        tunnel.beat()
    cluster.settle()
    for connection in connections:
        cluster.serves(connection)


@pytest.mark.long
def test_a_proxy_cut_off_from_controllers_for_long_serves_what_it_knows(cluster):
    connections = cluster.run_everywhere("known")
    tunnels = [cluster.tunnel(connection) for connection in connections]
    cluster.hosts.partition([cluster.hosts.proxy1], [cluster.hosts.balancer])
    time.sleep(LONG_SECONDS)
    for connection, tunnel in zip(connections, tunnels):
        tunnel.beat()
        cluster.serves(connection)
    cluster.hosts.heal()
    cluster.settle()


@pytest.mark.long
def test_two_of_three_machines_lost_at_once_leave_all_keys_to_the_third(cluster):
    connections = cluster.run_everywhere("crowded")
    dead = cluster.drones[:2]
    for drone in dead:
        drone.die()
    for connection in connections[:2]:
        now = cluster.run_elsewhere(connection)
        assert cluster.drone_of(now) is cluster.drones[2]
    cluster.serves(connections[2])
    for drone in dead:
        drone.come_back()
    cluster.settle()


@pytest.mark.long
def test_a_slow_network_locks_no_drone_out(cluster):
    """Each answer takes longer than the interval between two renewals, and so does each step of a new
    connection."""
    cluster.run_everywhere("before")
    cluster.slow_down("nodes", 550)
    for role in cluster.controllers:
        role.kill()
        role.start()
    cluster.wait(cluster.is_connected, "all are connected", 60)
    connections = cluster.run_everywhere("slow")
    tunnels = [cluster.tunnel(connection) for connection in connections]
    time.sleep(2 * LONG_SECONDS)
    for connection, tunnel in zip(connections, tunnels):
        tunnel.beat()
        assert cluster.run(connection["key"])["backend_id"] == connection["backend_id"]
    cluster.hosts.heal()
