"""What bench/connect_postgres.py and bench/scale.py measure with: PostgreSQL as it is installed,
controllers on it, drones that start nothing."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("PLANE_BUILD_DIR", ROOT / "build")).resolve()
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from postgres import Postgres, free_port, until  # noqa: E402
from processes import cpu_seconds, descendants, pss_kib  # noqa: E402
from serve import PLANE, request  # noqa: E402

CLUSTER = "localhost:9090"
DRONES = BUILD / "bench" / "bench-drones"


class Database(Postgres):
    """As installed: each commit is synced to the disk. What took the server's time is counted."""

    def __init__(self):
        super().__init__(settings=["fsync=on", "shared_preload_libraries=pg_stat_statements",
                                   "track_io_timing=on"])
        self.execute("CREATE EXTENSION pg_stat_statements")

    def cpu_seconds(self):
        """Of all its processes, those that have ended included."""
        waited_for = pathlib.Path(f"/proc/{self.pid()}/stat").read_text().rsplit(")", 1)[1].split()[13:15]
        return (cpu_seconds([self.pid(), *descendants([self.pid()])])
                + sum(map(int, waited_for)) / os.sysconf("SC_CLK_TCK"))

    def reset(self):
        self.execute("SELECT pg_stat_statements_reset()")

    def rows_written(self, name):
        """Rows inserted, changed and deleted so far, as far as the server has counted them."""
        return self.execute("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables",
                            database=name)[0][0]

    def totals(self):
        """Since the reset: statements, those of them that wrote, bytes of transaction log."""
        return self.execute("""
            SELECT sum(calls)::bigint, coalesce(sum(calls) FILTER (WHERE wal_records > 0 AND query !~* '^ *select'),
                   0)::bigint, sum(wal_bytes)::bigint FROM pg_stat_statements
            WHERE query !~ 'pg_stat|user_tables'""")[0]

    def statements(self, limit=12):
        return self.execute("""
            SELECT calls, round(total_exec_time::numeric, 1), round(mean_exec_time::numeric, 3),
                   wal_records, rows, left(regexp_replace(query, '\\s+', ' ', 'g'), 100)
            FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT %s""", (limit,))


@contextlib.contextmanager
def process(words, log, **more):
    with open(log, "wb") as stream:
        started = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stderr=stream,
                                   **{"stdout": stream, **more})
    try:
        yield started
    finally:
        started.terminate()
        started.wait(timeout=60)
        if started.stdout:
            started.stdout.close()


def answers(address):
    with contextlib.suppress(OSError):
        return request("GET", f"http://{address}/pub/health").status == 200
    return False


@contextlib.contextmanager
def controller(directory, db, program=PLANE, flags=()):
    """Gives its address and its process id."""
    address = f"127.0.0.1:{free_port()}"
    log = directory / f"controller-{address}.log"
    with process([program, "controller", "--db", db, "--host", "127.0.0.1", "--port", address.split(":")[1],
                  *flags], log) as started:
        until(lambda: answers(address) or started.poll() is not None)
        assert started.poll() is None, log.read_text()
        yield address, started.pid


@contextlib.contextmanager
def drones(directory, address, count, prefix, kind="lease", backends=0):
    """Gives the process id, once all are connected and may get backends."""
    log = directory / f"drones-{prefix}.log"
    with process([DRONES, f"http://{address}", CLUSTER, count, prefix, kind, backends], log,
                 stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout.readline() == "connected\n", log.read_text()
        until(lambda: eligible(address, prefix) == count)
        yield started.pid


def eligible(address, prefix):
    state = request("GET", f"http://{address}/ctrl/c/{CLUSTER}/state").json()
    return sum(d["ready"] and d["last_heartbeat_age"] is not None for d in state.get("drones", [])
               if d["node"]["name"].get("Drone", "").startswith(f"dr-{prefix}-"))


def counters(address):
    """The store's statements and round trips so far; empty for a program that does not count."""
    answer = request("GET", f"http://{address}/metrics")
    found = re.findall(r"^plane_store_(statements|round_trips)_total (\d+)$", answer.body.decode(), re.M)
    return {name: int(value) for name, value in found} if answer.status == 200 else {}


class Spent:
    """CPU of groups of processes over a block: lists of process ids, or what tells the seconds."""

    def __init__(self, groups):
        self.groups = groups

    def __enter__(self):
        self.began, self.before = time.monotonic(), self.now()
        return self

    def now(self):
        return {name: group() if callable(group) else cpu_seconds(group) for name, group in self.groups.items()}

    def __exit__(self, *_):
        self.elapsed = time.monotonic() - self.began
        self.seconds = {name: now - self.before[name] for name, now in self.now().items()}

    def percent(self):
        return {name: round(spent / self.elapsed * 100, 2) for name, spent in self.seconds.items()}


__all__ = ["BUILD", "CLUSTER", "Database", "ROOT", "Spent", "controller", "counters", "drones", "pss_kib", "request",
           "until"]
