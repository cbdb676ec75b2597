"""Faults at random, several at once and while clients use the cluster. After each round everything is
repaired, and all books agree. The seed says which faults; what the machine makes of their timing it
does not."""

import collections
import contextlib
import random
import threading
import time

import pytest

pytestmark = pytest.mark.timeout(400)
LEASE_SECONDS = 5
FLAGS = ["--lease-seconds", str(LEASE_SECONDS)]
ROUNDS = 4
FAULTS_AT_ONCE = 3
LONGEST_SECONDS = 2 * LEASE_SECONDS  # of a fault
KEYS = [f"chaos-{number}" for number in range(8)]
HOUR = 3600

Fault = collections.namedtuple("Fault", "name begin can_be_joined", defaults=[False])


class Clients:
    """Threads that connect to keys and look who answers."""

    def __init__(self, cluster, count=3):
        self.cluster, self.wrong, self.served = cluster, [], 0
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.live, args=(number,))
                        for number in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def live(self, number):
        dice = random.Random(number)
        while not self.is_over.is_set():
            try:
                answer = self.cluster.try_page(dice.choice(KEYS), dice.randrange(2))
            except Exception as error:  # nothing but a refused call may come to a client
                self.wrong.append(repr(error))
                return
            if answer:
                connection, page = answer
                self.served += page.status == 200
                if page.status == 200 and page.body.decode() != connection["backend_id"]:
                    self.wrong.append(f"{connection} was answered by {page.body}")
            time.sleep(0.05)


class Chaos:
    def __init__(self, cluster, seed):
        self.cluster, self.dice = cluster, random.Random(seed)
        self.done = []

    def draw(self):
        """One fault; Cluster.repair undoes all of them."""
        dice, cluster, hosts = self.dice, self.cluster, self.cluster.hosts
        role = dice.choice(cluster.roles)
        drone = dice.choice(cluster.drones)
        one, other = dice.sample([host for host in hosts.all.values()
                                  if host is not hosts.database2], 2)
        everybody = list(hosts.all.values())
        hours = dice.choice([-5, -1, 1, 5])
        database = cluster.database
        return dice.choice([
            Fault(f"kill {role.name}", role.kill),
            Fault(f"pause {role.name}", role.pause),
            Fault(f"death of {drone.name}", drone.die),
            Fault("restart of the database", lambda: database.restart("immediate")),
            Fault("pause of the database", database.pause),
            Fault(f"partition {one} | {other}", lambda: hosts.partition([one], [other]), True),
            Fault(f"mute {one} > {other}", lambda: hosts.mute(one, other), True),
            Fault(f"isolate {drone.name}", lambda: hosts.isolate(drone.host), True),
            Fault("loss", lambda: hosts.lose(everybody, everybody, 30), True),
            Fault(f"clock {hours:+d} h", lambda: database.set_clock(hours * HOUR), True)])

    def draw_several(self):
        """One that stops a process at most: another one may need it."""
        faults = []
        while len(faults) < FAULTS_AT_ONCE:
            fault = self.draw()
            if fault.can_be_joined or all(other.can_be_joined for other in faults):
                faults.append(fault)
        return faults

    def one_round(self):
        for fault in self.draw_several():
            self.done.append(fault.name)
            fault.begin()
            time.sleep(self.dice.uniform(0, 1))
        time.sleep(self.dice.uniform(0, LONGEST_SECONDS))
        self.cluster.repair()


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long)
                                       for seed in range(2, 9))])
def test_faults_at_random_leave_one_backend_a_key_and_books_that_agree(cluster, seed):
    chaos = Chaos(cluster, seed)
    for _ in range(ROUNDS):
        with Clients(cluster) as clients:
            for key in KEYS:
                cluster.run(key)
            chaos.one_round()
            for key in KEYS:
                cluster.run(key)
        assert clients.wrong == [] and clients.served > 0, chaos.done
        with context(chaos):
            cluster.settle()
            for key in KEYS:
                cluster.lives(key)


@contextlib.contextmanager
def context(chaos):
    """A failure tells what had been done."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"after {chaos.done}: {error}") from error
