#!/usr/bin/python3
"""Connect calls a second, by wrk over kept connections on the same machine:

- on one key that runs, and in turn on new keys whose backends have just been made: each call makes
  a token (`plane serve`, echo backends in sandboxes);
- on keys that nobody has used: each call places and stores a backend (`plane controller` with a
  drone that the benchmark plays: no sandbox is started);
- on a key that runs, with a store that makes each call durable.

Beside, in the same run: nginx that answers the same calls with a fixed text of the same size, the
floor of HTTP on the machine; SQLite that commits the row of one token at a time from one thread, the
floor of a store; and, when PLANE_ORIGINAL names the program of the original Plane, that one on
PostgreSQL with the same drone.

usage: bench/connect.py [SECONDS]      (default 5 for each; PLANE_BUILD_DIR names the build)
The last line is one JSON object; bench/results/connect.json keeps it."""

import contextlib
import json
import os
import pathlib
import platform
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from connect_peers import Drone, Nginx, Original, wait_open  # noqa: E402
from processes import cpu_seconds  # noqa: E402
from serve import EXAMPLES, PLANE, Serve, free_port, request  # noqa: E402

CONNECTIONS = 64
KEYS = 64
COMMITS = 4000
CLUSTER = "localhost:9090"
ORIGINAL = os.environ.get("PLANE_ORIGINAL")


def load(address, seconds, pid, first=0, keys=1, cluster=CLUSTER, fixed=False):
    """wrk's figures for connect calls, and the CPU that process `pid` spent on each."""
    before = cpu_seconds([pid])
    output = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", ROOT / "bench" / "connect.lua",
         f"http://{address}/ctrl/connect", "--", str(first), str(keys), cluster,
         *(["fixed"] if fixed else [])],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    spent = cpu_seconds([pid]) - before
    wrk = json.loads(output.splitlines()[-1])
    assert wrk["requests"] > 0 and not wrk["refused"] and not wrk["broken"], output
    return {"connects_per_second": round(wrk["requests"] * 1e6 / wrk["duration_us"]),
            "p50_ms": wrk["p50_ms"], "p99_ms": wrk["p99_ms"],
            "cpu_us_per_connect": round(spent * 1e6 / wrk["requests"], 1)}, wrk["requests"]


def connect_body(key, cluster):
    return {"key": {"name": key}, "user": "user-0", "auth": {"role": "editor"},
            "spawn_config": {"cluster": cluster, "executable": {"image": "echo"}}}


def connect(address, key, cluster=CLUSTER):
    answer = request("POST", f"http://{address}/ctrl/connect", connect_body(key, cluster))
    assert answer.status == 200, answer.body
    return answer


def tokens_in(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT count(*) FROM token").fetchone()[0]


def measure_serve(directory, seconds):
    """A key that runs; new keys that run; and the text of an answer."""
    plane = Serve(directory / "serve")
    plane.import_image("echo", EXAMPLES / "echo.tar")
    plane.start()
    try:
        for number in range(KEYS + 1):
            made = connect(plane.listen, f"k-{number}", plane.cluster).json()
            plane.wait_status(made["backend_id"], "ready")
        pid, database = plane.child("controller"), plane.data / "controller" / "controller.db"
        text = connect(plane.listen, "k-0", plane.cluster).body
        load(plane.listen, 1, pid, cluster=plane.cluster)  # not counted
        sides = {}
        for name, first, keys in (("held_key", 0, 1), ("new_keys_tokens", 1, KEYS)):
            before = tokens_in(database)
            sides[name], requests = load(plane.listen, seconds, pid, first, keys, plane.cluster)
            assert tokens_in(database) >= before + requests, "a call made no token"
    finally:
        plane.stop()
    return sides, text


@contextlib.contextmanager
def controller(directory, mode):
    """`plane controller` with a drone that takes all orders; key k-0 is held."""
    directory.mkdir()
    address = f"127.0.0.1:{free_port()}"
    with open(directory / "controller.log", "wb") as log:
        process = subprocess.Popen(
            [PLANE, "controller", "--db", f"sqlite:{directory}/plane.db?synchronous={mode}",
             "--host", "127.0.0.1", "--port", address.split(":")[1]], stdout=log, stderr=log)
    try:
        wait_open(address)
        with Drone(address, CLUSTER) as drone:
            drone.hold(lambda: connect(address, "k-0").json()["backend_id"])
            load(address, 1, process.pid)  # not counted
            yield address, process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)


def measure_controller(directory, seconds):
    sides = {}
    with controller(directory / "normal", "normal") as (address, pid):
        sides["new_keys"], _ = load(address, seconds, pid, first=1, keys=0)
    with controller(directory / "full", "full") as (address, pid):
        sides["held_key_durable"], _ = load(address, seconds, pid)
    return sides


def measure_nginx(directory, seconds, text):
    with Nginx(directory, text.decode()) as nginx:
        load(nginx.address, 1, nginx.pid)  # not counted
        return load(nginx.address, seconds, nginx.pid)[0]


def commits_per_second(path, mode):
    """One row of a token in each transaction, with the indexes that such a table has."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={mode}")
        database.executescript("""
            CREATE TABLE token (token TEXT PRIMARY KEY, secret_token TEXT NOT NULL,
                backend TEXT NOT NULL, user TEXT, auth TEXT NOT NULL, expires_at INTEGER NOT NULL
                ) STRICT, WITHOUT ROWID;
            CREATE INDEX token_of ON token (backend, user);
            CREATE INDEX token_expiry ON token (expires_at);""")
        rows = [(secrets.token_urlsafe(32), secrets.token_urlsafe(32), "abcdefghijklmn",
                 f"user-{i}", '{"role": "editor"}', i) for i in range(COMMITS)]
        begin = time.perf_counter()
        for row in rows:
            database.execute("INSERT INTO token VALUES (?, ?, ?, ?, ?, ?)", row)
        return round(COMMITS / (time.perf_counter() - begin))


def measure_original(directory, seconds):
    with Original(directory, ORIGINAL, CLUSTER) as original:
        address = original.address
        with Drone(address, CLUSTER) as drone:
            drone.hold(lambda: connect(address, "k-0").json()["backend_id"])
            load(address, 1, original.pid)  # not counted
            held, _ = load(address, seconds, original.pid)
            new, _ = load(address, seconds, original.pid, first=1, keys=0)
    return {"original_held_key": held, "original_new_keys": new}


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    subprocess.run([str(ROOT / "tools" / "packages.sh"), "bench"], check=True)
    with tempfile.TemporaryDirectory(prefix="plane-bench-") as name:
        directory = pathlib.Path(name)
        os.chmod(directory, 0o755)
        sides, text = measure_serve(directory, seconds)
        sides |= measure_controller(directory, seconds)
        sides["nginx_fixed_answer"] = measure_nginx(directory, seconds, text)
        if ORIGINAL:
            sides |= measure_original(directory, seconds)
        commits = {mode: commits_per_second(directory / f"commits-{mode}.db", mode)
                   for mode in ("normal", "full")}
    result = {"benchmark": "connect", **sides, "sqlite_commits_per_second": commits,
              "connections": CONNECTIONS, "cores": os.cpu_count(), "kernel": platform.release()}
    rate = {side: figures["connects_per_second"] for side, figures in sides.items()}
    for side, r in sides.items():
        print(f"{side:20} {r['connects_per_second']:7} connects/s, p50 {r['p50_ms']:8.3f} ms, "
              f"p99 {r['p99_ms']:8.3f} ms, {r['cpu_us_per_connect']:6.1f} us of CPU each")
    for mode, commits_rate in commits.items():
        print(f"SQLite alone, {mode:6} {commits_rate:7} commits/s")
    result["held_key_to_nginx"] = round(rate["held_key"] / rate["nginx_fixed_answer"], 2)
    result["held_key_to_commits"] = round(rate["held_key"] / commits["normal"], 2)
    result["held_key_durable_to_commits"] = round(rate["held_key_durable"] / commits["full"], 2)
    if ORIGINAL:
        for side in ("held_key", "new_keys"):
            result[f"{side}_to_original"] = round(rate[side] / rate[f"original_{side}"], 1)
    for name in [n for n in result if "_to_" in n]:
        print(f"{name}: {result[name]}")
    line = json.dumps(result)
    (ROOT / "bench" / "results" / "connect.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
