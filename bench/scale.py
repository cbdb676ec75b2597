#!/usr/bin/python3
"""What idle backends cost a controller and its store: 10, 1,000 and 100,000 of them on 1, 10 and 100
drones. The controller and PostgreSQL are real; drones are simulated over real sockets and send what
idle drones send:

- lease: our drones, one renewal for all keys of a drone;
- keys: the original's, a heartbeat and a renewal for each key.

The rows of the backends are put into the store directly. Measured over some seconds: rows written,
statements and transaction log of the store, CPU of the controller and of PostgreSQL, the controller's
memory.

usage: bench/scale.py [SECONDS]    (default 20 for each; PLANE_BUILD_DIR names the build;
PLANE_BENCH_VERBOSE=1 shows which statements took the server's time)
The last line is one JSON object; bench/results/scale.json keeps it."""

import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

from cluster_parts import CLUSTER, ROOT, Database, Spent, controller, drones, pss_kib

SIZES = [(1, 10), (10, 1000), (100, 100_000)]
IS_VERBOSE = bool(os.environ.get("PLANE_BENCH_VERBOSE"))

# Backends that became ready a minute ago, as their drones' spawns and reports leave them. Keys that
# are leased one by one run out at different times, so that a part of them is renewed at any moment.
FILL = """
WITH made AS (
  SELECT n.name || '-' || number AS id, d.id AS drone_id, CASE WHEN %(has_leases)s THEN d.lease_epoch END AS epoch,
         number, now_ms() AS now FROM drone d JOIN node n USING (id), generate_series(0, %(each)s - 1) number),
backends AS (
  INSERT INTO backend (id, cluster, drone_id, lease_epoch, key_namespace, key_name, key_tag, status, state, state_at,
                       created_at, last_keepalive_at, max_idle_ms)
  SELECT id, %(cluster)s, drone_id, epoch, '', id, '', 50, '{"status":"ready","address":"127.0.0.1:9"}', now - 60000,
         now - 60000, now, 3600000 FROM made),
keys AS (
  INSERT INTO backend_key SELECT '', id, '', id, drone_id, epoch, now + 60000, number + 1 FROM made),
states AS (
  INSERT INTO backend_state (backend, state, created_at)
  SELECT id, '{"status":"ready","address":"127.0.0.1:9"}', now - 60000 FROM made)
INSERT INTO action (id, backend, drone_id, kind, message, acked_at)
SELECT 'ak-' || id, id, drone_id, 'spawn', '{"Action":{}}', now - 60000 FROM made"""


def fill(database, name, each, has_leases):
    connection = database.connect(name)
    try:
        with connection.cursor() as cursor:
            cursor.execute(FILL, {"has_leases": has_leases, "each": each, "cluster": CLUSTER})
            cursor.execute("ANALYZE")
            cursor.execute("CHECKPOINT")
    finally:
        connection.close()


def watch(database, name, pid, seconds):
    """What is spent on doing nothing."""
    rows_before = database.rows_written(name)
    database.reset()
    with Spent({"controller": [pid], "postgres": database.cpu_seconds}) as spent:
        time.sleep(seconds)  # the measured time itself
        statements, writes, log_bytes = database.totals()
    if IS_VERBOSE:
        for row in database.statements():
            print("   ", *row)
    rows = database.rows_written(name) - rows_before
    cpu = spent.percent()
    return {"rows_written_per_second": round(rows / spent.elapsed, 2),
            "write_statements_per_second": round(writes / spent.elapsed, 2),
            "statements_per_second": round(statements / spent.elapsed, 2),
            "log_bytes_per_second": round(log_bytes / spent.elapsed),
            "controller_cpu_percent": cpu["controller"], "postgres_cpu_percent": cpu["postgres"],
            "controller_kib": pss_kib([pid])}


def measure(database, directory, kind, drone_count, backends, seconds):
    url = database.new_database()
    name, each = url.rsplit("/", 1)[1], backends // drone_count
    with controller(directory, url) as (address, pid):
        if kind == "keys":  # only the nodes; who renews keys does not wait for them to be there
            with drones(directory, address, drone_count, "s", kind):
                pass
            fill(database, name, each, False)
        with drones(directory, address, drone_count, "s", kind, each):
            if kind == "lease":
                fill(database, name, each, True)
            time.sleep(5)  # a round of all that is periodic
            figures = watch(database, name, pid, seconds)
    left = database.execute("SELECT count(*) FROM backend WHERE status = 50", database=name)[0][0]
    assert left == backends, f"{backends - left} of {backends} backends were lost"
    return figures


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    subprocess.run([str(ROOT / "tools" / "packages.sh"), "bench"], check=True)
    sides = {}
    with tempfile.TemporaryDirectory(prefix="plane-bench-") as directory, Database() as database:
        for drone_count, backends in SIZES:
            for kind in ("lease", "keys"):
                side = measure(database, pathlib.Path(directory), kind, drone_count, backends, seconds)
                sides[f"{kind}_{backends}_backends_{drone_count}_drones"] = side
                print(f"{backends:7} backends on {drone_count:3} drones, {kind:5}:",
                      json.dumps(side)[1:-1].replace('"', ""), flush=True)
    line = json.dumps({"benchmark": "scale", **sides, "seconds": seconds, "cores": os.cpu_count(),
                       "kernel": platform.release()})
    (ROOT / "bench" / "results" / "scale.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
