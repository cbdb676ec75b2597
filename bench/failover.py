#!/usr/bin/python3
"""Failover: from the death of a drone's machine (its link is cut and every process on it killed at
one moment) until a connect to a key that it held answers with a new backend, and that one serves
through the proxy. Machines are network namespaces: six drones, two proxies, two controllers behind
HAProxy, PostgreSQL, a client. Four drones die in each round, each at a random moment of its own, and
are started again. With the default lease and with a short one.

usage: bench/failover.py [COUNT]      (default 20; PLANE_BUILD_DIR names the build)
The last line is one JSON object; bench/results/failover.json keeps it."""

import concurrent.futures
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "integration"), str(ROOT / "tests" / "cluster")]

from cluster import MACHINES, UPTIMES, Cluster  # noqa: E402
from hosts import Hosts  # noqa: E402
from serve import EXAMPLES, wait_until  # noqa: E402

DRONES = tuple(f"drone{number}" for number in range(1, 7))
DYING = 4                 # at once; the others take over
POLL_SECONDS = 0.02
SPREAD_SECONDS = 2        # within which they die: the default interval between two renewals
SETTINGS = {"default": [], "short": ["--lease-seconds", "3"]}


def failover_seconds(cluster, connection, dice):
    """Kills the machine that runs the connection's backend, and asks until another one serves."""
    drone = cluster.drone_of(connection)
    time.sleep(dice.uniform(0, SPREAD_SECONDS))
    began = time.monotonic()
    killer = threading.Thread(target=drone.die)
    killer.start()
    while not cluster.try_serve(connection["key"], former=connection):
        time.sleep(POLL_SECONDS)
    seconds = time.monotonic() - began
    killer.join()
    return seconds


def one_round(cluster, name, count, dice):
    """One key on each drone; so many of them die. Seconds of each."""
    connections = cluster.run_everywhere(name)
    dying = connections[:count]
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        seconds = list(pool.map(lambda connection: failover_seconds(
            cluster, connection, random.Random(dice.random())), dying))
    for drone in cluster.drones:
        if not drone.role.is_running():
            drone.come_back()
    wait_until(cluster.is_connected, 60, "all are connected")
    cluster.end_all()
    return seconds


def measure(flags, count, dice):
    machines = (*DRONES, *(name for name in MACHINES if not name.startswith("drone")))
    seconds = []
    with tempfile.TemporaryDirectory(prefix="plane-bench-") as directory, \
            Hosts(*machines, uptimes=UPTIMES) as hosts:
        cluster = Cluster(pathlib.Path(directory), hosts, flags, DRONES,
                          ("echo", EXAMPLES / "echo.tar"))
        try:
            cluster.start()
            while len(seconds) < count:
                seconds += one_round(cluster, f"round-{len(seconds)}",
                                     min(DYING, count - len(seconds)), dice)
        finally:
            cluster.stop()
    return seconds


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    subprocess.run([str(ROOT / "tools" / "packages.sh"), "bench"], check=True)
    dice = random.Random(4)
    result = {"benchmark": "failover"}
    for name, flags in SETTINGS.items():
        times = measure(flags, count, dice)
        result[name] = {"flags": " ".join(flags), "count": len(times),
                        "p50_s": round(statistics.median(times), 2),
                        "min_s": round(min(times), 2), "max_s": round(max(times), 2)}
        print(f"{name:8} {len(times):3} machines: p50 {statistics.median(times):5.2f} s, "
              f"max {max(times):5.2f} s", flush=True)
    result.update(cores=os.cpu_count(), kernel=platform.release())
    line = json.dumps(result)
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "failover.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
