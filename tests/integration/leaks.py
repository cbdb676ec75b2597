"""The leak and consistency check: is there anything of an instance that should not be, and do the
controller's store, the drone's journal and reality tell the same? One check a kind; each gives
texts that say what is wrong, none when all is well."""

import collections
import os
import pathlib
import re
import time

import inventory

SETTLE_SECONDS = 10  # within which store, journal and reality must agree after a fault
POOL_SIZE = 16       # sandboxes that are kept parked
LOG_BYTES = (10 << 20) + 65536
DATABASE_FILES = 3   # of one SQLite connection: the database, its log, its index
STORE_CONNECTIONS = 17  # the controller opens one a thread when it is first needed
IMAGES_KEPT = 16         # that the drone holds ready for the next start
ROLES = ("controller", "drone", "proxy")

KNOWN_FILES = [re.compile(pattern) for pattern in (
    r"(serve|roles)\.lock", r"controller", r"drone", r"images", r"drone/(sandboxes|logs|spare|skeleton|places)",
    r"controller/controller\.db(-wal|-shm)?", r"drone/drone\.db(-wal|-shm|\.lock)?",
    r"images/(lock|tmp|index|trees)", r"images/index/[^/]+\.json", r"images/trees/[0-9a-f]{64}",
    r"drone/(sandboxes|spare)/\d+", r"drone/(sandboxes|spare)/\d+/(upper|work|stage)",
    r"drone/skeleton/(proc|sys|dev|etc)",
    r"drone/logs/[a-z0-9]+\.log(\.1)?")]


class Leaks:
    """Looks after one Serve. `baseline` is taken once, when the instance runs and nobody uses it:
    what is compared with the beginning (firewall, descriptors, mounts) is compared with it."""

    looks = found = 0  # of wait_clean in this process: times it looked, times something was left
    role_names, pool_size = ROLES, POOL_SIZE

    def __init__(self, serve):
        self.serve = serve
        self.data = serve.data
        self.slots = set()
        self.is_running = False
        self.baseline = None

    def take_baseline(self):
        self.wait_clean(30)
        self.baseline = self.describe()

    def describe(self):
        """What must stay as it was: the firewall, and each role's descriptors but those that
        come and go with sandboxes."""
        self.look()
        return {"firewall": self.firewall, "mounts": self.mounts,
                "descriptors": {role: self.kinds_of_descriptors(role) for role in self.role_names}}

    # ---- looking ----

    def look(self):
        """One look at everything; the checks judge it."""
        data, instance = self.data, self.serve.instance
        self.claims = inventory.claims(data)
        self.slots.update(self.claims)
        self.slots -= inventory.claims_of_others(data)
        self.roles = {}
        if self.is_up():
            self.roles = {role: self.serve.child(role) for role in self.role_names}
        self.all = {process.pid: process for process in inventory.processes()}
        self.shims, self.inside = collections.defaultdict(list), collections.defaultdict(list)
        for process in self.all.values():
            place = inventory.sandbox_of(process, self.slots)
            if place and process.state != "Z":  # who has to wait for those is looked at below
                (self.shims if place[2] else self.inside)[place[1]].append(process)
        self.records = inventory.records(data)
        self.groups = inventory.cgroups(instance)
        self.links = inventory.links(instance)
        self.neighbours = inventory.neighbours(instance)
        self.firewall = inventory.firewall(instance)
        self.mounts = inventory.mounts_of("self", data)
        self.files = inventory.files(data)
        self.memory = [path for place in inventory.memory(instance)
                       for path in (place, *inventory.tree(place))]
        self.journal = inventory.journal_live(data)
        self.store = inventory.store_live(data)

    def is_up(self):
        return self.serve.process is not None and self.serve.process.poll() is None

    def problems(self):
        """All that is wrong now: [(kind, text)]."""
        self.look()
        return [(kind, text) for kind in self.checks() for text in getattr(self, kind)()]

    def checks(self):
        return RUNNING if self.is_up() else STOPPED

    def wait_clean(self, seconds=SETTLE_SECONDS):
        """Waits until nothing is wrong; fails with what still is."""
        deadline = time.monotonic() + seconds
        Leaks.looks += 1
        while True:
            wrong = self.problems()
            if not wrong:
                return
            if time.monotonic() > deadline:
                Leaks.found += 1
                raise AssertionError(f"{seconds} s later: " + "; ".join(
                    f"{kind}: {text}" for kind, text in wrong))
            time.sleep(0.1)

    # ---- one sandbox, one set of everything ----

    def processes(self):
        """One shim and one init for each sandbox that has a directory, and nothing else."""
        for index in self.shims.keys() | self.inside.keys() | self.records.keys():
            shims, inside = self.shims[index], self.inside[index]
            if index not in self.records:
                yield f"sandbox {index} is gone, its processes {pids(shims + inside)} are not"
            elif self.is_up() and (len(shims) != 1 or not inside):
                yield f"sandbox {index} has shims {pids(shims)} and processes {pids(inside)}"
        strangers = [process for process in self.all.values()
                     if str(self.data) in " ".join(process.words) and process.pid != os.getpid()
                     and not self.is_known(process)]
        if strangers:
            yield f"processes of nobody: {strangers}"
        if self.is_up():
            own = {self.serve.process.pid, *self.roles.values()}
            dead = [process for process in self.all.values()
                    if process.state == "Z" and process.parent in own]
            if dead:
                yield f"ended and not waited for: {dead}"

    def is_known(self, process):
        if self.serve.process and self.serve.process.poll() is None:
            return process.pid in (self.serve.process.pid, *self.roles.values())
        return False

    def pool(self):
        parked = [index for index, backend in self.records.items() if backend is None]
        if len(parked) != self.pool_size:
            yield f"{len(parked)} sandboxes are parked, not {self.pool_size}"

    def namespaces(self):
        for index in self.records:
            members = self.shims[index] + self.inside[index]
            seen = collections.defaultdict(set)
            for process in members:
                for kind, name in inventory.namespaces(process.pid).items():
                    seen[kind].add(name)
            counts = {kind: len(names) for kind, names in seen.items()}
            # shim and init share network and name; the shim has the host's other namespaces
            if counts != {"net": 1, "uts": 1, "mnt": 2, "pid": 2, "user": 2, "ipc": 2}:
                yield f"sandbox {index} has namespaces {counts}"
        for role, pid in self.roles.items():
            held = [name for name in inventory.descriptors(pid)
                    if re.match(r"(net|mnt|pid|user|ipc|uts|cgroup):", name)]
            if held:
                yield f"the {role} holds namespaces {held}"

    def cgroups(self):
        wanted = {"", *(f"s{index}" for index in self.records)}
        for hierarchy, groups in self.groups.items():
            if set(groups) != wanted:
                yield f"{hierarchy}: {sorted(set(groups) ^ wanted)}"
        if not self.groups:
            yield "there is none"

    def network_links(self):
        wanted = {f"pl-{self.serve.instance}",
                  *(f"pl{self.serve.instance[:5]}-{index}" for index in self.records)}
        if self.links != wanted:
            yield f"links {sorted(self.links ^ wanted)}"
        if self.neighbours != set(self.records):
            yield f"neighbours {sorted(self.neighbours ^ set(self.records))}"

    def firewall_rules(self):
        if set(self.firewall) != {f"plane_{self.serve.instance}"}:
            yield f"tables {sorted(self.firewall)}"
        elif self.baseline and self.firewall != self.baseline["firewall"]:
            yield "rules or set elements are others than at the beginning"

    def mount_points(self):
        wanted = self.baseline["mounts"] if self.baseline else []
        if self.mounts != wanted:
            yield f"on the host: {self.mounts}, not {wanted}"
        for role, pid in self.roles.items():
            own = inventory.mounts_of(pid, self.data)
            state = ["/run/plane/state"] if role == "controller" else []
            if own != sorted([*wanted, *state]):
                yield f"of the {role}: {own}"

    def disk(self):
        for name in sorted(self.files):
            if not any(pattern.fullmatch(name) for pattern in KNOWN_FILES):
                yield f"file {name}"
        known = inventory.journal_known(self.data)
        for path in (self.data / "drone" / "logs").glob("*"):
            if path.name.split(".")[0] not in known:
                yield f"log {path.name} of a backend that nobody knows"
            elif path.exists() and path.stat().st_size > LOG_BYTES:
                yield f"log {path.name} has {path.stat().st_size} bytes"

    def memory_files(self):
        """One directory in memory, with one for each sandbox, and the drone's one lease."""
        known = re.compile(r"\d+(/(record|lease|exit|control))?")
        leases = [path for path in self.memory[1:] if path.name.startswith("lease.")]
        yield from (f"{path}, one of several" for path in leases[1:])
        for path in self.memory[1:]:
            name = str(path.relative_to(self.memory[0]))
            if path in leases:
                continue
            if not known.fullmatch(name) or int(path.relative_to(self.memory[0]).parts[0]) \
                    not in self.groups_by_number():
                yield f"{path}"

    def groups_by_number(self):
        return {int(name[1:]) for groups in self.groups.values() for name in groups if name}

    def claim_files(self):
        if len(self.claims) != 1:
            yield f"ranges of user ids {self.claims}"

    def ports(self):
        def port(address):
            return ("tcp", int(str(address).rsplit(":", 1)[1]))
        wanted = {port(self.serve.listen), port(self.serve.proxy),
                  *(port(address) for address in getattr(self.serve, "metrics", []))}
        mine = [process.pid for process in self.all.values()
                if str(self.data) in " ".join(process.words) and process.pid != os.getpid()]
        found = inventory.listening_ports({*mine, *self.roles.values(), self.serve.process.pid,
                                           *(s.pid for group in self.shims.values()
                                             for s in group)})
        if found != wanted:
            yield f"listens on {sorted(found)}, not {sorted(wanted)}"

    # ---- descriptors ----

    def kinds_of_descriptors(self, role):
        """{kind: how many}, without those that belong to a sandbox each."""
        counts = collections.Counter()
        for name in inventory.descriptors(self.roles[role]):
            kind = name.split(":")[0] if not name.startswith("/") else name
            if kind.endswith((".db", ".db-wal", ".db-shm")):
                kind = "database"
            if kind.startswith(str(self.data / "images" / "trees")):
                kind = "image"
            if re.search(r"/lease\.\d+$", kind):  # its number grows
                kind = "lease"
            counts[kind] += 1
        if role == "drone":
            counts["anon_inode"] -= len(self.records)  # a pidfd
            counts["socket"] -= len(self.records)      # the shim's control socket
        if role == "proxy":  # kept for the next request; they have a limit and a time of their own
            counts["socket"] -= inventory.connections_to(self.roles[role], self.serve.instance)
        return dict(counts)

    def role_descriptors(self):
        if not self.baseline:
            return
        for role in self.role_names:
            then, now = dict(self.baseline["descriptors"][role]), self.kinds_of_descriptors(role)
            if role == "drone":
                then["image"] = IMAGES_KEPT
            if role == "controller":
                then["database"] = STORE_CONNECTIONS * DATABASE_FILES
            grown = {kind: (then.get(kind, 0), count) for kind, count in now.items()
                     if count > then.get(kind, 0)}
            if grown:
                yield f"the {role} had and has {grown}"

    # ---- three books ----

    def agreement(self):
        """Store, journal and reality name the same backends, in the same states."""
        told = {name: entry.status for name, entry in self.store.items()}
        if told != self.journal:
            yield f"the store says {told}, the journal {self.journal}"
        real = {backend: index for index, backend in self.records.items() if backend}
        if set(real) != set(self.journal):
            yield f"sandboxes {real}, the journal {self.journal}"
        for backend, index in real.items():
            if not (self.shims[index] and self.inside[index]):
                yield f"backend {backend} has no processes"
            for hierarchy, groups in self.groups.items():
                if groups.get(f"s{index}") == 0 and "unified" not in hierarchy:
                    yield f"backend {backend} has nothing in its group of {hierarchy}"

    def unfinished(self):
        """Reports and orders all have arrived, and no key belongs to a backend that has ended."""
        for database, table, what in (
                (inventory.journal_path, "event", "reports of the drone not taken"),
                (inventory.store_path, "action WHERE acked_at IS NULL", "orders not taken"),
                (inventory.store_path, "backend_key WHERE backend NOT IN "
                 "(SELECT id FROM backend WHERE status < 70)", "keys of ended backends")):
            (count,), = inventory.rows(database(self.data), f"SELECT count(*) FROM {table}") \
                or ((0,),)
            if count:
                yield f"{count} {what}"

    def doubled(self):
        """No key has two live backends, in the store or in what backends themselves noted."""
        keys = collections.Counter(entry.key for entry in self.store.values())
        for key, count in keys.items():
            if count > 1:
                yield f"{count} backends of key {key} in the store"
        base = getattr(self.serve, "mount_base", None)
        for path in pathlib.Path(base).iterdir() if base else ():
            if (path / "doubled").exists():
                yield f"two backends of key {path.name}: {inventory.read(path / 'doubled')}"
            tokens = [int(line.split()[2]) for line in
                      inventory.read(path / "starts").splitlines()]
            if tokens != sorted(set(tokens)):
                yield f"fencing tokens of key {path.name} do not grow: {tokens}"

    # ---- after a stop that ended all ----

    def nothing_left(self):
        left = {"memory": self.memory, "processes": [*self.shims.values(), *self.inside.values()],
                "claims": self.claims, "cgroups": self.groups, "links": sorted(self.links),
                "tables": sorted(self.firewall), "sandboxes": self.records,
                "alive in the journal": self.journal}
        for what, found in left.items():
            if found:
                yield f"{what}: {found}"
        wanted = self.baseline["mounts"] if self.baseline else []
        if self.mounts != wanted:
            yield f"mounts {self.mounts}"


RUNNING = ("processes", "pool", "namespaces", "cgroups", "network_links", "firewall_rules",
           "mount_points", "disk", "memory_files", "claim_files", "ports", "role_descriptors", "agreement",
           "unfinished", "doubled")
STOPPED = ("processes", "disk", "doubled", "nothing_left")


def pids(found):
    return [process.pid for process in found]
