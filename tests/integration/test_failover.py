"""A drone that is lost: its keys are served by another one, after its backends have ended. Real processes,
short leases. Each backend holds a lock on a file that all backends of its key share, as long as
one of its processes lives, and writes there that it has started, or that it has found another one."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time

import pytest

import inventory
from postgres import Postgres, Standby
from roles import Role
from serve import BUILD, PLANE, free_port, request, wait_until

pytestmark = pytest.mark.timeout(150)
CLUSTER = "localhost:9090"
HOSTILE = BUILD / "tests" / "faults" / "hostile.tar"
LEASE_SECONDS = 3
HARD_SECONDS = LEASE_SECONDS * 4 / 5


class Here:
    """This machine, as roles know machines."""

    def __init__(self):
        self.fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)

    def command(self, *words):
        return [str(word) for word in words]


class Site:
    """A controller and drones, which share the directories of keys."""

    def __init__(self, directory, db=None):
        self.directory, self.here, self.port = directory, Here(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.keys = directory / "keys"
        self.keys.mkdir()
        self.drones = {}
        self.controller = Role(self.here, directory, "controller", [
            "controller", "--db", db or f"sqlite:{directory}/controller.db", "--port", self.port,
            "--lease-seconds", LEASE_SECONDS])

    def add_drone(self, name, place=None):
        """`place`: its directory, when that is not the one of its name."""
        place = place or name
        data = self.directory / place
        subprocess.run([PLANE, "image", "import", "hostile", HOSTILE, "--user", "root",
                        "--data-dir", data], check=True, capture_output=True)
        self.drones[place] = Role(self.here, self.directory, place, [
            "drone", "--controller-url", self.url, "--cluster", CLUSTER, "--name", f"dr-{name}",
            "--data-dir", data, "--mount-base", self.keys, "--parked", 2, "--end-backends"])
        return self.drones[place]

    def stop(self):
        for place, drone in self.drones.items():
            if not drone.is_running():
                drone.start()  # what it left is ended by its next process
            assert drone.stop(signal.SIGINT) == 0, drone.log_text()[-4000:]
            instance = inventory.instance_id(self.directory / place)
            assert inventory.firewall(instance) == {} and inventory.links(instance) == set()
        assert self.controller.stop() == 0, self.controller.log_text()[-4000:]
        for role in (self.controller, *self.drones.values()):
            assert "Sanitizer" not in role.log_text() and "runtime error" not in role.log_text()
        os.close(self.here.fd)

    # ---- keys ----

    def connect(self, key):
        return request("POST", f"{self.url}/ctrl/connect", {
            "key": {"name": key}, "spawn_config": {
                "executable": {"image": "hostile", "mount": True}, "cluster": CLUSTER}})

    def status(self, backend):
        return request("GET", f"{self.url}/pub/b/{backend}/status").json()["status"]

    def drone_of(self, connection):
        with contextlib.closing(sqlite3.connect(self.directory / "controller.db")) as store:
            return store.execute("SELECT name FROM node JOIN backend ON drone_id = node.id WHERE "
                                 "backend.id = ?", (connection["backend_id"],)).fetchone()[0]

    def run(self, key):
        """A ready backend of the key; the connect's answer."""
        def served():
            answer = self.connect(key)
            return answer.json() if answer.status == 200 else None
        connection = wait_until(served, 20, "a connection")
        wait_until(lambda: self.status(connection["backend_id"]) == "ready", 20, "ready")
        return connection

    def run_again(self, key, first):
        """The key's next backend, once there is one, and when it was given away."""
        def moved():
            try:
                answer = self.connect(key)
            except OSError:
                return None
            return answer.status == 200 and answer.json()["backend_id"] != first["backend_id"]
        wait_until(moved, 30, "another backend")
        given_at = time.monotonic()
        return self.run(key), given_at

    def unacknowledged(self, place):
        """How many reports the drone would repeat."""
        path = self.directory / place / "drone" / "drone.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
            return journal.execute("SELECT count(*) FROM event").fetchone()[0]

    def end(self, connection):
        answer = request("POST", f"{self.url}/ctrl/b/{connection['backend_id']}/hard-terminate")
        assert answer.status == 200, answer.body
        wait_until(lambda: self.status(connection["backend_id"]) == "terminated", 20, "its end")

    def starts(self, key):
        """The backends of the key, in the order in which they started, as they say themselves."""
        assert not (self.keys / key / "doubled").exists(), (self.keys / key / "doubled").read_text()
        lines = [line.split() for line in (self.keys / key / "starts").read_text().splitlines()]
        tokens = [int(token) for _, _, token in lines]
        assert tokens == sorted(set(tokens))
        return [backend for _, backend, _ in lines]


@pytest.fixture
def site(tmp_path):
    started = Site(tmp_path)
    started.controller.start()
    yield started
    started.stop()


def moves(site, lose):
    """The key's backend runs on the first drone, which `lose` takes away; the second one gets it."""
    first = site.add_drone("first").start()
    one = site.run("k")
    second = site.add_drone("second").start()
    lost_at = time.monotonic()
    lose(first)
    two, given_at = site.run_again("k", one)
    assert site.drone_of(two) == "dr-second"
    # never before the first one's own clock has said so; its last renewal was before `lost_at`
    assert given_at - lost_at > LEASE_SECONDS - LEASE_SECONDS / 5 - 0.1
    assert site.starts("k") == [one["backend_id"], two["backend_id"]]
    assert site.status(one["backend_id"]) == "terminated"
    return first, second, one, two


def is_back(drone):
    """It has a lease again, and backends."""
    wait_until(lambda: "begins" in drone.log_text().split("is broken")[-1] and
               "is broken" in drone.log_text(), 30, "a new lease")


def test_a_killed_drones_key_is_served_elsewhere_once_its_shims_have_ended_it(site):
    first, _, one, two = moves(site, Role.kill)
    first.start()
    is_back(first)
    assert site.run("k")["backend_id"] == two["backend_id"]
    assert site.starts("k") == [one["backend_id"], two["backend_id"]]


def test_a_drone_that_stood_still_resurrects_nothing(site):
    first, _, one, two = moves(site, Role.pause)
    first.resume()
    is_back(first)
    wait_until(lambda: "terminated" in first.log_text().split(one["backend_id"])[-1][:200], 20, "its end")
    assert site.run("k")["backend_id"] == two["backend_id"]
    assert site.starts("k") == [one["backend_id"], two["backend_id"]]


def test_a_controller_that_was_away_gives_nothing_away_early(site):
    site.add_drone("first").start()
    one = site.run("k")
    site.controller.kill()
    time.sleep(HARD_SECONDS / 3)  # shorter than the lease
    site.controller.start()
    assert site.run("k")["backend_id"] == one["backend_id"]
    # longer than it: the backend ends by itself first, and nobody has broken the lease
    site.controller.kill()
    ended = site.keys / "k" / "alive"
    wait_until(lambda: not is_locked(ended), 20, "the end of the backend")
    site.controller.start()
    started_at = time.monotonic()
    two, _ = site.run_again("k", one)
    assert site.starts("k") == [one["backend_id"], two["backend_id"]]
    assert site.drone_of(two) == "dr-first" and time.monotonic() - started_at < 20
    assert "is broken" not in site.drones["first"].log_text()


def test_a_restored_store_has_backends_ended_that_it_does_not_know(site):
    drone = site.add_drone("first").start()
    kept, ended, store = site.run("kept"), site.run("ended"), site.directory / "controller.db"
    subprocess.run(["sqlite3", store, f".backup {store}.backup"], check=True)
    forgotten = site.run("forgotten")
    site.end(ended)
    wait_until(lambda: not site.unacknowledged("first"), 20, "all reports acknowledged")
    assert site.controller.stop() == 0
    for name in site.directory.glob("controller.db-*"):
        name.unlink()
    (site.directory / "controller.db.backup").rename(store)
    site.controller.start()
    wait_until(lambda: not is_locked(site.keys / "forgotten" / "alive"), 20, "the end of the unknown")
    assert f"{forgotten['backend_id']}" in drone.log_text().split("does not know it any more")[0].splitlines()[-1]
    again = site.run("forgotten")
    assert site.starts("forgotten") == [forgotten["backend_id"], again["backend_id"]]
    assert site.run("kept")["backend_id"] == kept["backend_id"]
    assert site.starts("kept") == [kept["backend_id"]]
    # and the end that it has forgotten is reported again when it is asked for
    assert site.status(ended["backend_id"]) == "ready"
    site.end(ended)
    assert site.run("ended")["backend_id"] != ended["backend_id"]


@pytest.fixture
def servers():
    with Postgres() as primary, Standby(primary) as standby:
        yield primary, standby


def test_what_a_standby_has_forgotten_has_ended_before_its_key_is_given_away(tmp_path, servers):
    primary, standby = servers
    site = Site(tmp_path, standby.urls())
    site.controller.start()
    drone = site.add_drone("first").start()
    kept = site.run("kept")
    standby.wait_caught_up()
    standby.stop_receiving()
    forgotten = site.run("forgotten")
    primary.kill()
    standby.promote()
    answers, failed_over_at = [], time.monotonic()

    def given_again():
        answers.append(site.connect("forgotten"))
        return answers[-1].status == 200
    wait_until(given_again, 30, "the key")
    assert time.monotonic() - failed_over_at > LEASE_SECONDS
    assert answers[-1].json()["spawned"] and answers[-1].json()["backend_id"] != forgotten["backend_id"]
    kinds = {answer.json()["kind"] for answer in answers[:-1]}
    assert "DatabaseRecovering" in kinds and kinds <= {"DatabaseRecovering", "DatabaseError"}
    again = site.run("forgotten")
    assert site.starts("forgotten") == [forgotten["backend_id"], again["backend_id"]]
    assert "does not know it any more" in drone.log_text()
    assert site.run("kept")["backend_id"] == kept["backend_id"] and site.starts("kept") == [kept["backend_id"]]
    site.stop()


def is_locked(path):
    return subprocess.run(["flock", "--nonblock", "--exclusive", path, "true"],
                          check=False).returncode != 0


def test_a_second_drone_of_the_same_name_gets_nothing_before_the_first_ones_lease_is_over(site):
    first = site.add_drone("first").start()
    one = site.run("k")
    site.add_drone("first", "twin").start()
    # they take the connection from each other; the lease stays where it was
    wait_until(lambda: "another process of this name has its lease" in site.controller.log_text(), 20, "refusal")
    assert site.run("k")["backend_id"] == one["backend_id"]
    lost_at = time.monotonic()
    first.kill()
    two, given_at = site.run_again("k", one)
    assert given_at - lost_at > LEASE_SECONDS - LEASE_SECONDS / 5 - 0.1
    assert site.starts("k") == [one["backend_id"], two["backend_id"]]
    assert two["backend_id"] in site.drones["twin"].log_text()
