"""The network of the cluster tests does to packets what it says, and nothing else."""

import contextlib
import socket
import statistics
import threading
import time

import pytest

from hosts import Hosts
from serve import wait_until

PACKETS = 2000
MILLISECONDS = 150
SO_RCVBUFFORCE = 33


@pytest.fixture
def hosts():
    with Hosts("one", "two", "three", uptimes={"two": 86_400}) as hosts:
        yield hosts


def udp_socket(host):
    with host.inside():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host.address, 9000))
    made.settimeout(10)
    return made


def reaches(source, target):
    """Does a packet come through?"""
    with udp_socket(source) as sender, udp_socket(target) as receiver:
        receiver.settimeout(0.3)
        sender.sendto(b"x", (target.address, 9000))
        try:
            return receiver.recv(10) == b"x"
        except TimeoutError:
            return False


@contextlib.contextmanager
def connection(source, target):
    """Both ends of a TCP connection."""
    with target.inside():
        listening = socket.create_server((target.address, 9001))
    with listening, source.inside(), socket.create_connection((target.address, 9001)) as sender:
        receiver, _ = listening.accept()
        with receiver:
            receiver.settimeout(20)
            yield sender, receiver


def round_trip_s(source, target):
    def answer():
        data, address = receiver.recvfrom(10)
        receiver.sendto(data, address)
    with udp_socket(source) as sender, udp_socket(target) as receiver:
        thread = threading.Thread(target=answer)
        thread.start()
        began = time.monotonic()
        sender.sendto(b"x", (target.address, 9000))
        sender.recv(10)
        thread.join()
        return time.monotonic() - began


def test_a_partition_cuts_one_pair_in_both_directions_until_it_is_healed(hosts):
    one, two, three = hosts.all.values()
    hosts.partition([one], [two])
    assert not reaches(one, two) and not reaches(two, one)
    assert reaches(one, three) and reaches(three, two)
    hosts.heal()
    assert reaches(one, two) and reaches(two, one)


def test_a_muted_machine_still_hears(hosts):
    one, two, three = hosts.all.values()
    hosts.mute(one, two)
    assert not reaches(one, two) and reaches(two, one) and reaches(one, three)


def test_an_isolated_machine_reaches_only_itself(hosts):
    one, two, three = hosts.all.values()
    hosts.isolate(one)
    assert not reaches(one, two) and not reaches(three, one) and reaches(two, three)


def test_a_pulled_cable_cuts_off_until_it_is_plugged_in(hosts):
    one, two, three = hosts.all.values()
    hosts.pull_cable(one)
    assert not reaches(one, two) and not reaches(three, one) and reaches(two, three)
    hosts.plug_cable(one)
    wait_until(lambda: reaches(one, two) and reaches(three, one), 20, "the link is up again")


def test_a_connection_survives_a_partition(hosts):
    one, two, _ = hosts.all.values()
    with connection(one, two) as (sender, receiver):
        hosts.partition([one], [two])
        sender.sendall(b"late")
        hosts.heal()
        assert receiver.recv(10) == b"late"


@pytest.mark.parametrize("percent", [10, 30])
def test_the_share_of_packets_that_was_asked_for_is_lost(hosts, percent):
    one, two, _ = hosts.all.values()
    hosts.lose([one], [two], percent)
    with udp_socket(one) as sender, udp_socket(two) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        for _ in range(PACKETS):
            sender.sendto(b"x", (two.address, 9000))
        receiver.settimeout(0.3)
        came = 0
        try:
            while True:
                receiver.recv(10)
                came += 1
        except TimeoutError:
            pass
    lost = 100 * (PACKETS - came) / PACKETS
    assert abs(lost - percent) < 6  # five times its standard deviation
    hosts.heal()
    assert all(reaches(one, two) for _ in range(20))


def test_packets_take_as_long_as_was_asked_for_in_each_direction(hosts):
    one, two, three = hosts.all.values()
    hosts.delay([one], [two], MILLISECONDS)
    times = [round_trip_s(one, two) for _ in range(5)]
    assert min(times) >= 2 * MILLISECONDS / 1000
    assert statistics.median(times) < 4 * MILLISECONDS / 1000
    assert round_trip_s(one, three) < MILLISECONDS / 1000
    hosts.heal()
    assert round_trip_s(one, two) < MILLISECONDS / 1000


def test_slow_packets_keep_their_order_and_connections_live_on(hosts):
    one, two, _ = hosts.all.values()
    with connection(one, two) as (sender, receiver):
        hosts.delay([one], [two], MILLISECONDS)
        sent = bytes(range(256)) * 400
        thread = threading.Thread(target=sender.sendall, args=(sent,))
        thread.start()
        came = b""
        while len(came) < len(sent):
            came += receiver.recv(65536)
        thread.join()
        assert came == sent
        hosts.heal()
        sender.sendall(b"again")
        assert receiver.recv(10) == b"again"


def test_a_machine_may_have_run_for_longer_than_another(hosts):
    program = "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME))"
    one, two = (float(host.run("/usr/bin/python3", "-c", program))
                for host in (hosts.one, hosts.two))
    assert 86_400 <= two - one < 86_460
