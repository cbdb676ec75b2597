"""What one Plane instance has: on the host (processes, namespaces, mounts, cgroups, links, firewall,
claims), on its disk, and in the books of controller and drone. It only looks, and it decides
nothing; what is wrong about it says leaks.py."""

import collections
import contextlib
import hashlib
import ipaddress
import json
import os
import pathlib
import re
import sqlite3
import subprocess

CLAIMS = pathlib.Path("/run/plane/uids")
FIRST_ID = 0x10000000
IDS_OF_SANDBOX = 65536
IDS_OF_INSTANCE = 1024 * IDS_OF_SANDBOX
PREFIX = 20  # of an instance's network
NAMESPACES = ("net", "mnt", "pid", "user", "ipc", "uts")

Process = collections.namedtuple("Process", "pid parent state uid words")
Backend = collections.namedtuple("Backend", "status key")


def instance_id(data):
    """Names on the host come from the drone's directory."""
    return hashlib.sha256(os.path.realpath(data / "drone").encode()).hexdigest()[:8]


def read(path):
    """The file's text, "" when it went away meanwhile."""
    with contextlib.suppress(OSError):
        return pathlib.Path(path).read_text(errors="replace")
    return ""


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def processes():
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        status = dict(line.split(":\t", 1) for line in read(entry / "status").splitlines()
                      if ":\t" in line)
        if "PPid" in status and "Uid" in status:
            words = read(entry / "cmdline").split("\0")
            found.append(Process(int(entry.name), int(status["PPid"]), status["State"][0],
                                 int(status["Uid"].split()[0]), words))
    return found


def claims(data):
    """The ranges of user ids that the instance holds: numbers of files."""
    directory = os.path.realpath(data / "drone")
    if not CLAIMS.is_dir():
        return []
    return sorted(int(path.name) for path in CLAIMS.iterdir()
                  if path.name.isdigit() and read(path) == directory)


def claims_of_others(data):
    """Ranges that other instances hold now: one that is given back is soon somebody else's."""
    if not CLAIMS.is_dir():
        return set()
    own = claims(data)
    return {int(path.name) for path in CLAIMS.iterdir()
            if path.name.isdigit() and int(path.name) not in own}


def sandbox_of(process, slots):
    """(slot, index, is_shim) of a process of a sandbox, or None."""
    is_shim = process.words[0] == "plane-shim" and process.uid == 0
    number = int(process.words[1]) if is_shim else process.uid
    slot, rest = divmod(number - FIRST_ID, IDS_OF_INSTANCE)
    return (slot, rest // IDS_OF_SANDBOX, is_shim) if slot in slots else None


def descriptors(pid):
    """What a process has open, as /proc names it: list of texts."""
    found = []
    for entry in pathlib.Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(entry))
    return found


def namespaces(pid):
    found = {}
    for kind in NAMESPACES:
        with contextlib.suppress(OSError):
            found[kind] = os.readlink(f"/proc/{pid}/ns/{kind}")
    return found


def listening_ports(pids):
    """TCP ports on which one of the processes listens, and UDP ports that one has bound."""
    sockets = {name for pid in pids for name in descriptors(pid) if name.startswith("socket:")}
    ports = set()
    for table, states in (("tcp", ("0A",)), ("tcp6", ("0A",)), ("udp", ("07",)),
                          ("udp6", ("07",))):
        for line in read(f"/proc/net/{table}").splitlines()[1:]:
            fields = line.split()
            if fields[3] in states and f"socket:[{fields[9]}]" in sockets:
                ports.add((table[:3], int(fields[1].split(":")[1], 16)))
    return ports


def connections_to(pid, instance):
    """How many TCP connections the process has into the instance's network."""
    own = re.search(r"inet (\S+?)/", run("ip", "-o", "addr", "show", f"pl-{instance}"))
    prefix = ipaddress.ip_network(f"{own.group(1)}/{PREFIX}", strict=False) if own else None
    sockets = set(descriptors(pid))
    count = 0
    for line in read("/proc/net/tcp").splitlines()[1:]:
        fields = line.split()
        remote = ipaddress.ip_address(int.from_bytes(bytes.fromhex(fields[2][:8]), "little"))
        count += bool(prefix) and remote in prefix and f"socket:[{fields[9]}]" in sockets
    return count


def cgroups(instance):
    """{hierarchy: {name of the group: how many processes}}; the instance's own is ""."""
    found = {}
    for hierarchy in pathlib.Path("/sys/fs/cgroup").iterdir():
        for top in hierarchy.glob(f"plane-{instance}*"):
            groups = found.setdefault(hierarchy.name + "/" + top.name, {})
            for directory, _, _ in os.walk(top):
                name = os.path.relpath(directory, top)
                groups["" if name == "." else name] = len(
                    read(pathlib.Path(directory) / "cgroup.procs").split())
    return found


def links(instance):
    names = re.findall(r"^\d+: ([^:@]+)", run("ip", "-o", "link"), re.M)
    return {name for name in names
            if name.startswith((f"pl-{instance}", f"pl{instance[:5]}-"))}


def neighbours(instance):
    """Numbers of the sandboxes to which the host has a permanent neighbour entry."""
    bridge = f"pl-{instance}"
    own = re.search(r"inet (\d+)\.(\d+)\.(\d+)\.(\d+)/", run("ip", "-o", "addr", "show", bridge))
    listed = run("ip", "-o", "neigh", "show", "dev", bridge, "nud", "permanent")
    if not own:
        return set()

    def number(parts):
        return sum(int(part) << shift for part, shift in zip(parts, (24, 16, 8, 0)))
    return {number(parts) - number(own.groups()) - 1
            for parts in re.findall(r"^(\d+)\.(\d+)\.(\d+)\.(\d+) ", listed, re.M)}


def firewall(instance):
    """{name of the table: its content without handles and counters}."""
    listed = run("nft", "list", "tables")
    found = {}
    for name in re.findall(rf"table inet (plane_{instance}\w*)", listed):
        text = run("nft", "-j", "list", "table", "inet", name)
        content = json.loads(text)["nftables"] if text else []
        found[name] = json.dumps([without_handles(item) for item in content
                                  if "metainfo" not in item], sort_keys=True)
    return found


def without_handles(value):
    if isinstance(value, dict):
        return {name: without_handles(part) for name, part in value.items() if name != "handle"}
    if isinstance(value, list):
        parts = [without_handles(part) for part in value]
        is_set = all(isinstance(part, dict) and "concat" in part
                     or isinstance(part, list) and len(part) == 2 for part in parts)
        return sorted(parts, key=json.dumps) if is_set else parts  # a set's order is the kernel's
    return value


def mounts_of(pid, data):
    """Mount points below the data directory and Plane's own, in the process's namespace."""
    points = [line.split()[4] for line in read(f"/proc/{pid}/mountinfo").splitlines()]
    return sorted(point for point in points
                  if point.startswith((str(data) + "/", "/run/plane")))


def tree(top):
    """Everything below a directory in which others make and remove files meanwhile."""
    return [pathlib.Path(directory) / name for directory, names, leaves in os.walk(top)
            for name in (*names, *leaves)]


def files(data):
    """Everything below the data directory but the contents of image trees and of sandboxes."""
    found = set()
    for directory, names, leaves in os.walk(data):
        where = pathlib.Path(os.path.relpath(directory, data))
        found.update(str(where / name) for name in (*names, *leaves))
        if re.fullmatch(r"images/trees|drone/(sandboxes|spare)/[^/]+|drone/skeleton", str(where)):
            names[:] = []
    return found


def memory(instance):
    """Directories in memory that the instance has: where its sandboxes' records are."""
    return [path for path in (pathlib.Path("/run/plane") / instance,
                              pathlib.Path("/dev/shm") / f"plane-{instance}") if path.exists()]


def records(data):
    """{number of the sandbox: name of its backend, None when it is parked}, of all that have a
    directory in memory or on disk."""
    places = [*memory(instance_id(data)), data / "drone" / "sandboxes"]
    found = {}
    for path in (path for place in places for path in place.glob("*")):
        text = read(path / "record")
        with contextlib.suppress(ValueError):
            backend = json.loads(text)["backend"] if text else None
            found[int(path.name)] = found.get(int(path.name)) or backend
    return found


def rows(path, query):
    """Rows of a database that others write to; [] when there is none."""
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        db.execute("PRAGMA busy_timeout=5000")
        return db.execute(query).fetchall()


def journal_path(data):
    return data / "drone" / "drone.db"


def store_path(data):
    return data / "controller" / "controller.db"


def journal_live(data):
    """{backend: status} of those that the drone believes to be alive."""
    query = "SELECT backend_id, state FROM lease JOIN backend ON backend.id = backend_id"
    return {name: json.loads(state)["status"] for name, state in rows(journal_path(data), query)}


def journal_known(data):
    return {name for name, in rows(journal_path(data), "SELECT id FROM backend")}


def store_live(data):
    """{backend: Backend} of those that the controller believes to be alive."""
    query = "SELECT id, state, key_namespace, key_name FROM backend WHERE status < 70"
    return {name: Backend(json.loads(state)["status"], (space, key))
            for name, state, space, key in rows(store_path(data), query)}
