#!/usr/bin/python3
"""Connect calls a second on PostgreSQL, by wrk over kept connections, with drones that start nothing:

- on one held key: each call stores a token;
- on keys that nobody has used: each call stores a backend, and the drone reports it ready;

with one controller and with two on the same database. All is on this machine: PostgreSQL with its
settings as installed (each commit is synced), the controllers, the drones, wrk.

Beside, in the same run: the statement of a held key alone, by pgbench with as many connections as a
controller has, which is the floor of the store; the same on SQLite with full durability; and, when
PLANE_ORIGINAL names the program of the original Plane, that one on the same PostgreSQL.

Each is the middle one of three rounds.

usage: bench/connect_postgres.py [SECONDS]    (default 4 for each round; PLANE_BUILD_DIR names the build;
PLANE_BENCH_VERBOSE=1 shows which statements took the server's time)
The last line is one JSON object; bench/results/connect-postgres.json keeps it."""

import contextlib
import json
import os
import pathlib
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile

from cluster_parts import CLUSTER, ROOT, Database, Spent, controller, counters, drones, request, until

from postgres import BINARIES

CONNECTIONS = 64
DRONES = 4
ROUNDS = 3
ORIGINAL = os.environ.get("PLANE_ORIGINAL")
IS_VERBOSE = bool(os.environ.get("PLANE_BENCH_VERBOSE"))


def connect_body(key):
    return {"key": {"name": key}, "user": "user-0", "auth": {"role": "editor"},
            "spawn_config": {"cluster": CLUSTER, "executable": {"image": "echo"}}}


def hold(address, key):
    answer = request("POST", f"http://{address}/ctrl/connect", connect_body(key))
    assert answer.status == 200, answer.body
    status = f"http://{address}/pub/b/{answer.json()['backend_id']}/status"
    until(lambda: request("GET", status).json()["status"] == "ready")


def load(addresses, seconds, first, keys):
    """wrk's figures, one for each controller."""
    each = [subprocess.Popen(
        ["wrk", "-t1", f"-c{CONNECTIONS // len(addresses)}", f"-d{seconds}s", "-s", ROOT / "bench" / "connect.lua",
         f"http://{address}/ctrl/connect", "--", str(first + number * 10_000_000), str(keys), CLUSTER],
        stdout=subprocess.PIPE, text=True) for number, address in enumerate(addresses)]
    outputs = [wrk.communicate()[0] for wrk in each]
    figures = [json.loads(output.splitlines()[-1]) for output in outputs]
    for one in figures:
        assert one["requests"] > 0 and not one["refused"] and not one["broken"], outputs
    return figures


class Side:
    """Controllers on one database with their drones; key k-0 is held."""

    def __init__(self, addresses, groups, count_ready, database=None):
        self.addresses, self.groups, self.count_ready, self.database = addresses, groups, count_ready, database

    def measure(self, seconds, first, keys):
        if self.database:
            self.database.reset()
        before, ready = [counters(address) for address in self.addresses], self.count_ready()
        with Spent(self.groups) as spent:
            figures = load(self.addresses, seconds, first, keys)
            reported = self.count_ready() - ready
        after = [counters(address) for address in self.addresses]
        if self.database and IS_VERBOSE:
            for row in self.database.statements():
                print("   ", *row)
        requests = sum(one["requests"] for one in figures)
        result = {"connects_per_second": round(requests * 1e6 / max(one["duration_us"] for one in figures)),
                  "p50_ms": max(one["p50_ms"] for one in figures), "p99_ms": max(one["p99_ms"] for one in figures),
                  "cpu_us_per_connect": {name: round(used * 1e6 / requests) for name, used in spent.seconds.items()}}
        for name in before[0] if self.database else []:
            result[f"{name}_per_connect"] = round(
                sum(now[name] - then[name] for now, then in zip(after, before)) / requests, 2)
        if keys == 0:
            result["ready_per_second"] = round(reported / spent.elapsed)
        return result

    def held(self, seconds):
        return self.measure(seconds, 0, 1)


@contextlib.contextmanager
def side(directory, db, controllers, database=None, program=None, kind="lease"):
    """`database`: PostgreSQL that `db` is in; None for SQLite."""
    flags = {"program": program} if program else {}
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(controller(directory, db, **flags)) for _ in range(controllers)]
        players = [stack.enter_context(drones(directory, address, DRONES, f"c{number}", kind))
                   for number, (address, _) in enumerate(started)]
        hold(started[0][0], "k-0")
        groups = {"controllers": [pid for _, pid in started], "drones": players}
        if database:
            groups["postgres"] = database.cpu_seconds
        name = db.rsplit("/", 1)[1]

        def count_ready():
            ready = "SELECT count(*) FROM backend WHERE " + ("last_status = 'ready'" if program else "status = 50")
            if database:
                return database.execute(ready, database=name)[0][0]
            with contextlib.closing(sqlite3.connect(db.removeprefix("sqlite:"), timeout=10)) as connection:
                return connection.execute(ready).fetchone()[0]

        yield Side([address for address, _ in started], groups, count_ready, database)


def pgbench(database, directory, url, seconds):
    """The insertion of a token for a held key, 16 connections, prepared."""
    name = url.rsplit("/", 1)[1]
    script = directory / "token.sql"
    script.write_text("\\set n random(1, 1000000000000)\n"
                      "INSERT INTO token SELECT :n || '-' || random()::text, 'abcdefghijklmnopqrstuvwx', b.id, 'user-0', "
                      "'{\"role\":\"editor\"}', 0 FROM backend_key k JOIN backend b ON b.id = k.backend WHERE "
                      "k.namespace = '' AND k.name = 'k-0';\n")
    output = subprocess.run(
        [BINARIES / "pgbench", "-n", "-M", "prepared", "-c", "16", "-j", "1", "-T", str(seconds), "-f", script,
         "-h", database.directory, "-p", str(database.port), "-U", "postgres", name],
        check=True, capture_output=True, text=True).stdout
    return {"connects_per_second": round(float(re.search(r"tps = ([\d.]+)", output)[1]))}


def median(rounds):
    """The round with the middle rate."""
    return sorted(rounds, key=lambda one: one["connects_per_second"])[len(rounds) // 2]


def rounds(running, seconds, name):
    running.held(1)  # not counted
    held = median([running.held(seconds) for _ in range(ROUNDS)])
    # one after another: keys are new each time
    new = median([running.measure(seconds, 1 + number * 1_000_000, 0) for number in range(ROUNDS)])
    return {name.format("held_key"): held, name.format("new_keys"): new}


def measure(directory, seconds):
    sides = {}
    with Database() as database:
        url = database.new_database()
        with side(directory, url, 1, database) as running:
            sides |= rounds(running, seconds, "{}")
        sides["pgbench"] = median([pgbench(database, directory, url, seconds) for _ in range(ROUNDS)])
        with side(directory, database.new_database(), 2, database) as running:
            sides |= rounds(running, seconds, "{}_two_controllers")
        if ORIGINAL:
            with side(directory, database.new_database(), 1, database, ORIGINAL, "keys") as running:
                sides |= rounds(running, seconds, "original_{}")
    with side(directory, f"sqlite:{directory}/plane.db", 1) as running:
        sides |= rounds(running, seconds, "sqlite_{}")
    return sides


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    subprocess.run([str(ROOT / "tools" / "packages.sh"), "bench"], check=True)
    with tempfile.TemporaryDirectory(prefix="plane-bench-") as name:
        sides = measure(pathlib.Path(name), seconds)
    for side_name, figures in sides.items():
        more = {key: value for key, value in figures.items() if key != "connects_per_second"}
        print(f"{side_name:26} {figures['connects_per_second']:6} connects/s", json.dumps(more)[1:-1].replace('"', ""))
    result = {"benchmark": "connect-postgres", **sides, "connections": CONNECTIONS, "rounds": ROUNDS, "cores": os.cpu_count(),
              "kernel": platform.release()}
    rate = {side_name: figures["connects_per_second"] for side_name, figures in sides.items()}
    result["held_key_to_pgbench"] = round(rate["held_key"] / rate["pgbench"], 2)
    if ORIGINAL:
        for key in ("held_key", "new_keys"):
            result[f"{key}_to_original"] = round(rate[key] / rate[f"original_{key}"], 1)
    for key in [key for key in result if "_to_" in key]:
        print(f"{key}: {result[key]}")
    line = json.dumps(result)
    (ROOT / "bench" / "results" / "connect-postgres.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
