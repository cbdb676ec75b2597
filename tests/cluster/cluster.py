"""A whole cluster of real processes, each role on a machine of its own (hosts.py): drones, proxies,
controllers behind HAProxy, PostgreSQL, and a client. What can happen to it are verbs; after each,
settle() waits until all books agree again and says what does not."""

import collections
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import time

import psycopg2

import inventory
import witness
from databases import Database, Replica
from leaks import RUNNING, STOPPED, Leaks
from roles import Role
from serve import BUILD, PLANE, ROOT, request, wait_until
from tunnels import Tunnel

CLUSTER = "localhost:9090"
API_PORT, PROXY_PORT = 8080, 9090
FIRST_PORT, LAST_PORT = 20000, 20063
PARKED = 2
DRONES = ("drone1", "drone2", "drone3")
PROXIES = ("proxy1", "proxy2")
CONTROLLERS = ("control1", "control2")
DATABASES = ("database1", "database2")
MACHINES = (*DRONES, *PROXIES, *CONTROLLERS, *DATABASES, "balancer", "client")
# no two machines have run for the same time
UPTIMES = {name: number * 86_413 for number, name in enumerate(MACHINES)}
IMAGE = BUILD / "tests" / "cluster" / "witness.tar"
HAPROXY = ROOT / "packaging" / "haproxy" / "plane.cfg"
SETTLE_SECONDS = 40  # after a fault, beyond the lease
# a call that found nobody, or was cut off
NOT_HERE = (OSError, ValueError, http.client.HTTPException, psycopg2.OperationalError)

Row = collections.namedtuple("Row", "backend drone status key")


class DroneLeaks(Leaks):
    """What of a drone there is on its machine, beside what the store knows of it."""

    role_names, pool_size = ("drone",), PARKED

    def __init__(self, machine):
        super().__init__(machine)
        self.machine = machine

    def look(self, at_store=True):
        with self.machine.host.inside():
            super().look()
        if at_store:
            self.store = {row.backend: inventory.Backend(row.status, row.key)
                          for row in self.machine.cluster.live()
                          if row.drone == self.machine.name}

    def checks(self):
        # listening ports are looked up elsewhere; doubles are the witnesses' to tell
        return [kind for kind in (RUNNING if self.is_up() else STOPPED)
                if kind not in ("ports", "doubled")]


class Drone:
    """A machine with a drone; its directory outlives the processes."""

    def __init__(self, cluster, host):
        self.cluster, self.host, self.name = cluster, host, f"dr-{host.name}"
        self.data = cluster.directory / self.name
        self.role = Role(host, cluster.directory, self.name, [
            "drone", "--controller-url", cluster.url, "--cluster", CLUSTER, "--name", self.name,
            "--data-dir", self.data, "--ip", host.address, "--egress", "none", "--parked", PARKED,
            "--backend-ports", f"{FIRST_PORT}-{LAST_PORT}", "--mount-base", cluster.keys,
            "--end-backends"])
        self.leaks = DroneLeaks(self)

    @property
    def process(self):
        return self.role.process

    @property
    def instance(self):
        return inventory.instance_id(self.data)

    def child(self, role):
        return self.role.process.pid if role == "drone" and self.role.is_running() else None

    def pids(self):
        """Every process of the machine: the drone, shims, backends and parked ones."""
        self.leaks.look(at_store=False)
        groups = (*self.leaks.shims.values(), *self.leaks.inside.values())
        own = [self.role.process.pid] if self.role.is_running() else []
        return own + [process.pid for group in groups for process in group]

    def signal_all(self, number):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def die(self):
        """The machine is gone from one moment to the next: its link first, then all that ran."""
        self.cluster.hosts.pull_cable(self.host)
        while True:  # a start that was under way makes more
            self.signal_all(signal.SIGKILL)
            if self.role.process:
                self.role.process.wait()
            if not self.pids():
                break
        self.role.forget_pipe()

    def come_back(self):
        """The machine was started again."""
        self.cluster.hosts.plug_cable(self.host)
        self.role.start()

    def freeze(self):
        """Nothing on it goes on, as on a suspended machine."""
        self.signal_all(signal.SIGSTOP)

    def thaw(self, but_agent=False):
        for pid in self.pids():
            if not (but_agent and pid == self.role.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def running(self):
        """Backends of which a process lives on the machine, whatever anybody believes."""
        self.leaks.look(at_store=False)
        return {backend for index, backend in self.leaks.records.items()
                if backend and self.leaks.inside[index]}


class Balancer(Role):
    """HAProxy with the packaged configuration, but for the addresses."""

    def __init__(self, cluster, host):
        super().__init__(host, cluster.directory, "balancer", [])
        text = HAPROXY.read_text()
        for old, new in (("127.0.0.1:8080", f"{host.address}:{API_PORT}"),
                         ("10.0.0.11:8080", f"{cluster.hosts.control1.address}:{API_PORT}"),
                         ("10.0.0.12:8080", f"{cluster.hosts.control2.address}:{API_PORT}")):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        self.configuration = cluster.directory / "haproxy.cfg"
        self.configuration.write_text(text)

    def start(self, wait=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.host.command("haproxy", "-db", "-f", self.configuration), stdout=log,
                stderr=log, stdin=subprocess.DEVNULL)
        return self

    def stop(self, number=signal.SIGKILL):
        """It keeps nothing, and its end is not ours to test."""
        if self.is_running():
            self.kill()
        return 0


class Cluster:
    """`flags` are added to those of each controller; `drones`: names of their machines; `image`: name
    and archive of what backends run."""

    def __init__(self, directory, hosts, flags=(), drones=DRONES, image=("witness", IMAGE)):
        self.directory, self.hosts, self.flags = directory, hosts, list(flags)
        self.image = image
        self.keys = directory / "keys"
        self.keys.mkdir()
        self.url = f"http://{hosts.balancer.address}:{API_PORT}"
        self.database = Database(hosts.database1)
        self.db_name = "plane"
        self.database.execute(f"CREATE DATABASE {self.db_name}")
        self.controllers = [self.make_controller(hosts.all[name]) for name in CONTROLLERS]
        self.balancer = Balancer(self, hosts.balancer)
        self.proxies = [self.make_proxy(hosts.all[name]) for name in PROXIES]
        self.drones = [Drone(self, hosts.all[name]) for name in drones]
        self.tunnels, self.read_until = [], {}

    def make_controller(self, host):
        places = ",".join(f"{self.hosts.all[name].address}:5432" for name in DATABASES)
        return Role(host, self.directory, f"co-{host}", [
            "controller", "--db", f"postgres://postgres@{places}/{self.db_name}?connect_timeout=2",
            "--id", f"co-{host}", "--host", host.address, "--port", API_PORT, "--controller-url",
            self.url, "--insecure-no-auth", *self.flags])

    def make_proxy(self, host):
        return Role(host, self.directory, f"px-{host}", [
            "proxy", "--controller-url", self.url, "--cluster", CLUSTER, "--name", f"px-{host}",
            "--host", host.address, "--http-port", PROXY_PORT, "--workers", 1])

    @property
    def roles(self):
        return [*self.controllers, self.balancer, *self.proxies,
                *(drone.role for drone in self.drones)]

    def start(self):
        for drone in self.drones:
            # root in its sandbox: it writes into the directory of its key
            subprocess.run([PLANE, "image", "import", *self.image, "--user", "root", "--data-dir",
                            drone.data], check=True, capture_output=True)
        for role in self.roles:
            role.start(wait=False)
        for role in self.roles:
            if role.ready_pipe is not None:
                role.wait_ready()
        wait_until(self.is_connected, 60, "all are connected")
        for drone in self.drones:
            drone.leaks.take_baseline()
        return self

    def is_connected(self):
        with contextlib.suppress(*NOT_HERE):
            return not list(self.unconnected())
        return False

    def stop(self):
        """Everything ends in order, the nodes first; nothing of it is left."""
        self.close_tunnels()
        wrong = []
        try:
            for role in reversed(self.roles):
                wrong += self.stop_role(role)
            for drone in self.drones:
                wrong += [f"{drone.name}: {what}" for what in drone.leaks.problems()]
        finally:
            self.database.close()
        assert not wrong, "\n".join(wrong)

    def stop_role(self, role):
        """What was wrong with its end, or in its log."""
        try:
            status = role.stop(signal.SIGINT)
        except AssertionError as error:
            return [str(error)]
        text = role.log_text()
        if re.search(r"ERROR: \w+Sanitizer|runtime error:", text):
            return [f"{role.name}:\n{text[-6000:]}"]
        return [f"{role.name} ended with {status}:\n{text[-3000:]}"] if status != 0 else []

    # ---- what clients do ----

    def call(self, method, path, body=None, timeout=30):
        with self.hosts.client.inside():
            return request(method, self.url + path, body, timeout=timeout)

    def ask(self, key, timeout=30, mount=True, **spawn):
        """POST /ctrl/connect, as it comes: an Answer."""
        return self.call("POST", "/ctrl/connect", {
            "key": {"name": key}, "spawn_config": {
                "cluster": CLUSTER, "executable": {"image": self.image[0], "mount": mount},
                **spawn}}, timeout)

    def get(self, connection, proxy=0, timeout=30):
        """GET / of the connection's URL through one of the proxies."""
        with self.hosts.client.inside():
            path = connection["url"].split(CLUSTER)[1]
            return request("GET", f"http://{self.proxies[proxy].host.address}:{PROXY_PORT}{path}",
                           headers={"host": CLUSTER}, timeout=timeout)

    def try_page(self, key, proxy=0, former=None, **spawn):
        """A connection to the key and what its `/` answers through the proxy; None when there is none
        for now, or it leads to the backend of the `former` connection."""
        with contextlib.suppress(*NOT_HERE):
            answer = self.ask(key, timeout=10, **spawn)
            if answer.status == 200:
                connection = {**answer.json(), "key": key}
                if not former or connection["backend_id"] != former["backend_id"]:
                    return connection, self.get(connection, proxy, timeout=10)
        return None

    def try_serve(self, key, proxy=0, former=None, **spawn):
        """A connection to the key whose backend answers, or None for now."""
        answer = self.try_page(key, proxy, former, **spawn)
        return answer[0] if answer and self.is_served(*answer) else None

    def is_served(self, connection, page):
        """A witness says which one it is; of others the link says so."""
        return page.status == 200 and (self.image[0] != "witness"
                                       or page.body.decode() == connection["backend_id"])

    def run(self, key, proxy=0, seconds=SETTLE_SECONDS, **spawn):
        """Asks until a backend of the key answers; the connection."""
        return wait_until(lambda: self.try_serve(key, proxy, **spawn), seconds, f"{key} served")

    def run_everywhere(self, prefix):
        """A backend on each drone: connections in their order. Keys are drawn until each has one."""
        found = {}
        for number in range(60):
            connection = self.run(f"{prefix}-{number}")
            found.setdefault(self.drone_of(connection), connection)
            if len(found) == len(self.drones):
                return [found[drone] for drone in self.drones]
        raise AssertionError(f"60 keys, and all are on {[drone.name for drone in found]}")

    def run_elsewhere(self, connection, proxy=0, seconds=SETTLE_SECONDS):
        """Asks until another backend of its key answers."""
        return self.run(connection["key"], proxy, seconds, former=connection)

    def serves(self, connection):
        """The very backend answers, through every proxy."""
        for proxy in range(len(self.proxies)):
            page = self.get(connection, proxy)
            assert self.is_served(connection, page), (page.status, page.body, connection)

    def tunnel(self, connection, proxy=0):
        path = connection["url"].split(CLUSTER)[1]
        tunnel = Tunnel(self.hosts.client, f"ws://{CLUSTER}{path}ws",
                        self.proxies[proxy].host.address, PROXY_PORT)
        self.tunnels.append(tunnel)
        return tunnel

    def close_tunnels(self):
        for tunnel in self.tunnels:
            tunnel.close()
        self.tunnels = []

    # ---- what the books say ----

    def query(self, sql, *parameters):
        return self.database.execute(sql, parameters, self.db_name)

    def live(self):
        """Backends that have not ended, in the store: Rows."""
        return [Row(backend, drone, json.loads(state)["status"], key) for backend, drone, state, key
                in self.query("SELECT backend.id, node.name, state, key_name FROM backend JOIN node "
                              "ON node.id = drone_id WHERE status < 70")]

    def drone_of(self, connection):
        name, = self.query("SELECT name FROM node JOIN backend ON node.id = drone_id "
                           "WHERE backend.id = %s", connection["backend_id"])[0]
        return next(drone for drone in self.drones if drone.name == name)

    def state_of(self, connection):
        """(status, reason) in the store."""
        state, = self.query("SELECT state FROM backend WHERE id = %s", connection["backend_id"])[0]
        state = json.loads(state)
        return state["status"], state.get("termination", {}).get("reason", state.get("reason"))

    def running(self):
        return set().union(*(drone.running() for drone in self.drones))

    def role(self, name):
        return next(role for role in self.roles if role.name == name)

    def unconnected(self):
        """Which nodes that run are not connected to a controller that runs."""
        controllers = {role.name for role in self.controllers if role.is_running()}
        known = dict(self.query("SELECT name, controller FROM node"))
        nodes = [*(drone.role for drone in self.drones), *self.proxies]
        for role in nodes:
            if role.is_running() and known.get(role.name) not in controllers:
                yield f"{role.name} is connected to {known.get(role.name)}"
        for name, is_granted in self.query(
                "SELECT node.name, is_lease_granted FROM drone JOIN node USING (id)"):
            role = next(role for role in nodes if role.name == name)
            if role.is_running() and not is_granted:
                yield f"{name} has no lease"

    def unfinished(self):
        (orders, keys), = self.query(
            "SELECT (SELECT count(*) FROM action WHERE acked_at IS NULL), (SELECT count(*) FROM "
            "backend_key JOIN backend ON backend.id = backend WHERE status = 70)")
        if orders:
            yield f"{orders} orders not taken"
        if keys:
            yield f"{keys} keys of ended backends"

    def disagreements(self):
        """All that is wrong now, in the books and on the machines that run."""
        found = [*self.unconnected(), *self.unfinished(), *witness.problems(self.keys)]
        for drone in self.drones:
            if drone.role.is_running():
                found += [f"{drone.name}: {kind}: {text}"
                          for kind, text in drone.leaks.problems()]
        return found

    def settle(self, seconds=SETTLE_SECONDS):
        """Waits until nothing is wrong; fails with what still is."""
        Leaks.looks += 1
        last = []

        def agrees():
            try:
                last[:] = self.disagreements()
            except NOT_HERE as error:
                last[:] = [f"the database: {error}"]
            return not last
        try:
            wait_until(agrees, seconds, "agreement")
        except AssertionError:
            Leaks.found += 1
            raise AssertionError(f"{seconds} s later: " + "; ".join(last)) from None

    def lives(self, key):
        """What the key's backends wrote down: they never overlapped; in their order."""
        testimony = witness.read(self.keys)[key]
        assert testimony.problems == []
        return list(testimony.lives.values())

    def beats(self, key):
        """How many lines the key's backends have written so far."""
        return sum(life.lines for life in witness.read(self.keys)[key].lives.values())

    def clock_seconds(self):
        """How far the database's wall clock is ahead of this machine's."""
        now, = self.query("SELECT extract(epoch FROM clock_timestamp())::float")[0]
        return now - time.time()

    def wait(self, condition, what, seconds=SETTLE_SECONDS):
        return wait_until(condition, seconds, what)

    # ---- faults beyond those of hosts and roles ----

    def end_all(self):
        for row in self.live():
            self.call("POST", f"/ctrl/b/{row.backend}/hard-terminate")
        wait_until(lambda: not self.live(), SETTLE_SECONDS, "all backends ended")

    def slow_down(self, place, milliseconds):
        """Each packet of the nodes and the clients, or to and from the database, takes so long."""
        machines = self.hosts.all
        controllers = [machines[name] for name in CONTROLLERS]
        outside = [machines[name] for name in (*DRONES, *PROXIES, "client")]
        if place == "nodes":
            self.hosts.delay(outside, [*outside, self.hosts.balancer], milliseconds)
        else:
            self.hosts.delay(controllers, [machines[name] for name in DATABASES], milliseconds)

    def fail_over(self, clock_seconds=0):
        """The database's machine dies; a replica, which has everything, takes over."""
        other = next(self.hosts.all[name] for name in DATABASES
                     if self.hosts.all[name] is not self.database.host)
        replica = Replica(other, self.database, clock_seconds)
        return self.take_over(replica)

    def take_over(self, replica):
        old, self.database = self.database, replica
        self.hosts.pull_cable(old.host)
        old.kill()
        replica.promote()
        old.close()
        self.hosts.plug_cable(old.host)

    def repair(self):
        """Undoes all faults: nothing is cut, everything that was stopped or killed runs."""
        self.hosts.heal()
        for host in self.hosts.all.values():
            self.hosts.plug_cable(host)
        if not self.database.is_running():
            self.database.start()
        self.database.resume()
        for drone in self.drones:
            drone.thaw()
        for role in self.roles:
            if role.is_running():
                role.resume()
            else:
                role.start()
        wait_until(self.is_connected, SETTLE_SECONDS, "all are connected")

    # ---- when a test failed ----

    def logs(self):
        """What all wrote since this was asked for last: [(name, text)]."""
        found = []
        paths = [role.log_path for role in self.roles] + [self.database.log]
        for path in paths:
            text = path.read_text(errors="replace") if path.exists() else ""
            since = self.read_until.get(path, 0)
            self.read_until[path] = len(text)
            found.append((path.stem, text[since:]))
        return found
