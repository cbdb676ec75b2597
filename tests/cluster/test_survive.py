"""Faults that are shorter than the lease: nothing that runs is disturbed, and no open WebSocket."""

import time

import pytest

pytestmark = pytest.mark.timeout(170)
LEASE_SECONDS = 30
FLAGS = ["--lease-seconds", str(LEASE_SECONDS)]
SHORT_SECONDS = 8  # of a fault; the lease would let backends go on for 18 s
HOUR = 3600
# whose death disturbs no connection; a proxy's ends those that it carries
NO_DISTURBANCE = ["co-control1", "co-control2", "balancer", "dr-drone1", "dr-drone2", "dr-drone3"]


def first_of(values, count=1):
    """Parameters of which only the first ones are for `make test`."""
    return [*values[:count], *(pytest.param(*(value if isinstance(value, tuple) else (value,)),
                                            marks=pytest.mark.long) for value in values[count:])]


@pytest.fixture
def open_sockets(cluster):
    """A WebSocket to a backend of each drone through each proxy. They must live as long as the
    test, and the same backends must serve in the end."""
    clock, connections = cluster.clock_seconds(), cluster.run_everywhere("kept")
    tunnels = [cluster.tunnel(connection, proxy) for connection in connections for proxy in (0, 1)]
    yield tunnels
    cluster.settle()
    beat(tunnels)
    for connection in connections:
        now = cluster.run(connection["key"])
        assert now["backend_id"] == connection["backend_id"]
        # a link is good for an hour of the database's clock
        cluster.serves(connection if cluster.clock_seconds() - clock < HOUR - 300 else now)
        assert cluster.lives(connection["key"])[-1].backend == connection["backend_id"]


def beat(tunnels):
    for tunnel in tunnels:
        tunnel.beat()


def test_every_key_is_served_through_every_proxy_by_one_backend(cluster, open_sockets):
    cluster.run("another")
    assert len(cluster.lives("another")) == 1


@pytest.mark.parametrize("name", first_of(["co-control1", "dr-drone1", "balancer", "co-control2",
                                           "dr-drone2", "dr-drone3"], 2))
def test_a_killed_role_breaks_no_socket(cluster, open_sockets, name):
    role = cluster.role(name)
    role.kill()
    beat(open_sockets)
    role.start()


@pytest.mark.parametrize("name", first_of(["co-control1", "co-control2"]))
def test_without_one_controller_everything_goes_on(cluster, open_sockets, name):
    cluster.role(name).kill()
    cluster.run(f"without-{name}")
    cluster.settle()  # its nodes have come to the other one


def test_all_agents_killed_at_once_break_no_socket(cluster, open_sockets):
    agents = [role for role in cluster.roles if role.name in NO_DISTURBANCE]
    for role in agents:
        role.kill()
    beat(open_sockets)
    for role in agents:
        role.start()


@pytest.mark.long
@pytest.mark.parametrize("name", NO_DISTURBANCE)
def test_a_role_that_stands_still_for_a_while_breaks_no_socket(cluster, open_sockets, name):
    role = cluster.role(name)
    role.pause()
    time.sleep(SHORT_SECONDS)
    beat(open_sockets)
    role.resume()


@pytest.mark.long
@pytest.mark.parametrize("name", ["co-control1", "co-control2"])
def test_what_stands_still_for_longer_than_the_lease_is_done_without(cluster, open_sockets, name):
    role = cluster.role(name)
    role.pause()
    time.sleep(LEASE_SECONDS + 3)
    beat(open_sockets)
    role.resume()


@pytest.mark.parametrize("name", first_of(["proxy1", "proxy2"]))
def test_a_killed_proxy_is_replaced_by_the_other_and_by_the_next(cluster, name):
    connections = cluster.run_everywhere("beside")
    number = int(name[-1]) - 1
    carried = [cluster.tunnel(connection, number) for connection in connections]
    others = [cluster.tunnel(connection, 1 - number) for connection in connections]
    cluster.proxies[number].kill()
    for tunnel in carried:
        tunnel.wait_broken(20)
    beat(others)
    cluster.proxies[number].start()
    for connection in connections:
        cluster.serves(connection)
    beat(others)
    cluster.settle()


# ---- the network ----

# pairs of machines that have something to say to each other, or must not mind that they have not
PARTITIONS = [("drone1", "balancer"), ("control1", "balancer"), ("control2", "balancer"),
              ("control1", "database1"), ("control2", "database1"), ("proxy1", "balancer"),
              ("balancer", "client"), ("control1", "control2"), ("drone1", "drone2"),
              ("drone1", "control1"), ("proxy1", "proxy2"), ("drone1", "database1")]


@pytest.mark.parametrize("one, other", first_of(PARTITIONS))
def test_a_short_partition_breaks_no_socket(cluster, open_sockets, one, other):
    hosts = cluster.hosts.all
    cluster.hosts.partition([hosts[one]], [hosts[other]])
    time.sleep(SHORT_SECONDS)
    beat(open_sockets)
    cluster.hosts.heal()


@pytest.mark.long
@pytest.mark.parametrize("proxy", ["proxy1", "proxy2"])
def test_a_proxy_cut_off_from_a_drone_goes_on_where_it_was(cluster, open_sockets, proxy):
    hosts = cluster.hosts.all
    cluster.hosts.partition([hosts[proxy]], [hosts["drone1"]])
    time.sleep(SHORT_SECONDS)
    cluster.hosts.heal()
    beat(open_sockets)


@pytest.mark.long
def test_a_controller_that_has_lost_the_database_gives_its_nodes_away(cluster, open_sockets):
    hosts = cluster.hosts
    cluster.hosts.partition([hosts.control1], [hosts.database1])

    def is_left():
        return not cluster.query("SELECT name FROM node WHERE controller = 'co-control1'")
    cluster.wait(is_left, "nodes left co-control1")
    cluster.run("meanwhile")
    beat(open_sockets)
    cluster.hosts.heal()


@pytest.mark.long
def test_three_of_ten_packets_lost_break_no_socket(cluster, open_sockets):
    everybody = list(cluster.hosts.all.values())
    cluster.hosts.lose(everybody, everybody, 30)
    cluster.run("lossy", seconds=90)
    time.sleep(SHORT_SECONDS)
    cluster.hosts.heal()


@pytest.mark.long
@pytest.mark.parametrize("place, milliseconds", [("nodes", 500), ("database", 250)])
def test_delay_breaks_no_socket(cluster, open_sockets, place, milliseconds):
    """In each direction. And nodes that have lost their controller come back in spite of it."""
    cluster.slow_down(place, milliseconds)
    cluster.run(f"slow-{place}", seconds=90)
    time.sleep(SHORT_SECONDS)
    beat(open_sockets)
    for role in cluster.controllers:
        role.kill()
        cluster.wait(cluster.is_connected, "all have come to the other one")
        role.start()
    beat(open_sockets)
    cluster.hosts.heal()


# ---- the database ----

@pytest.mark.parametrize("mode", first_of(["immediate", "fast"]))
def test_a_restart_of_the_database_breaks_no_socket(cluster, open_sockets, mode):
    cluster.database.restart(mode)
    beat(open_sockets)


@pytest.mark.long
def test_a_database_that_stands_still_breaks_no_socket(cluster, open_sockets):
    cluster.database.pause()
    time.sleep(SHORT_SECONDS)
    beat(open_sockets)
    cluster.database.resume()


@pytest.mark.parametrize("clock_seconds", first_of([5 * HOUR, 0, -5 * HOUR]))
def test_a_replica_takes_over_whatever_its_clock_says(cluster, open_sockets, clock_seconds):
    held = cluster.run("held")
    cluster.fail_over(clock_seconds)
    beat(open_sockets)
    assert abs(cluster.clock_seconds() - clock_seconds) < 60
    assert cluster.run("held")["backend_id"] == held["backend_id"]
    cluster.run(f"new-{clock_seconds}")


@pytest.mark.long
@pytest.mark.parametrize("clock_seconds", [3 * HOUR, -3 * HOUR, 0])
def test_a_wall_clock_that_jumps_ends_nothing(cluster, open_sockets, clock_seconds):
    cluster.database.set_clock(clock_seconds)
    cluster.wait(lambda: abs(cluster.clock_seconds() - clock_seconds) < 60, "the clock has jumped")
    time.sleep(SHORT_SECONDS)
    beat(open_sockets)
    cluster.run(f"jumped-{clock_seconds}")
