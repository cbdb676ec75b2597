#!/usr/bin/python3
"""What two controllers on one PostgreSQL tell each other:

- revocations: how long after the call at one controller a link is refused and its open WebSocket is
  closed, at a proxy of that controller and at one of the other; with real proxies and a real backend;
- spawns at both, with drones that start nothing: notifications, reads of the log and statements.

usage: bench/controllers.py [REVOCATIONS] [SPAWNS]   (default 100 and 1000; PLANE_BUILD_DIR names the build)
The last line is one JSON object; bench/results/controllers.json keeps it."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import platform
import re
import signal
import statistics
import sys
import tempfile
import time

from cluster_parts import CLUSTER, ROOT, Database, controller, drones, request, until

from test_haproxy import Installation

DRONES = 4
CALLERS = 32


# ---- revocations ----


def milliseconds(times):
    ordered = sorted(times)
    return {"p50": round(statistics.median(ordered) * 1000, 1),
            "p99": round(ordered[int(len(ordered) * 0.99) - 1] * 1000, 1), "max": round(ordered[-1] * 1000, 1)}


class Link:
    """A link at one proxy, over a kept connection."""

    def __init__(self, installation, port, token):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.path, self.headers = f"/{token}/", {"Host": installation.cluster}

    def status(self):
        self.connection.request("GET", self.path, headers=self.headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status

    def until_refused(self):
        """A connection in use is cut; the next one is refused."""
        while True:
            with contextlib.suppress(http.client.HTTPException, OSError):
                if self.status() == 410:
                    return time.monotonic()
                continue
            self.connection.close()


async def until_closed(tunnel):
    await tunnel.wait_closed()
    return time.monotonic()


async def revoke_once(installation, ports, user):
    """Seconds until each of them has it."""
    link = await asyncio.to_thread(installation.connect, "k", user)
    links = {name: Link(installation, port, link["token"]) for name, port in ports.items()}
    async with contextlib.AsyncExitStack() as stack:
        waits = {}
        for name, port in ports.items():
            assert links[name].status() == 200
            tunnel = await stack.enter_async_context(installation.open_tunnel(port, link["token"]))
            await tunnel.send("hello")
            await tunnel.recv()
            waits[f"{name}_websocket"] = asyncio.ensure_future(until_closed(tunnel))
            waits[f"{name}_link"] = asyncio.ensure_future(asyncio.to_thread(links[name].until_refused))
        began = time.monotonic()
        body = {"backend_id": link["backend_id"], "user": user}
        answer = await asyncio.to_thread(
            request, "POST", f"http://127.0.0.1:{installation.ports[0]}/ctrl/b/revoke", body)
        assert answer.status == 200, answer.body
        return {name: await wait - began for name, wait in waits.items()}


async def revoke(installation, ports, count):
    each = [await revoke_once(installation, ports, f"user-{number}") for number in range(count)]
    return {name: milliseconds([one[name] for one in each]) for name in sorted(each[0])}


def measure_revocations(directory, count):
    with contextlib.ExitStack() as stack:
        installation = Installation(directory, stack, Database)
        try:
            installation.start()
            ports = {name: installation.another_proxy(f"{name}-proxy", f"http://127.0.0.1:{port}")
                     for name, port in zip(("same_controller", "other_controller"), installation.ports)}
            installation.wait_status(installation.connect("k")["backend_id"], "ready")
            return asyncio.run(revoke(installation, ports, count))
        finally:
            installation.drone.stop(signal.SIGINT)
            for process in (installation.proxy, *installation.others, *installation.controllers,
                            installation.haproxy):
                process.stop(signal.SIGTERM)


# ---- spawns ----


def spawn(address, key):
    body = {"key": {"name": key}, "spawn_config": {"cluster": CLUSTER, "executable": {"image": "echo"}}}
    answer = request("POST", f"http://{address}/ctrl/connect", body)
    assert answer.status == 200 and answer.json()["spawned"], answer.body


def counters(addresses):
    """Sums over the controllers."""
    names = {"notifications": "plane_notifications_total", "reads": "plane_feed_reads_total",
             "told": "plane_feed_events_total", "statements": "plane_store_statements_total"}
    texts = [request("GET", f"http://{address}/metrics").body.decode() for address in addresses]
    return {key: sum(int(re.search(rf"^{name} (\d+)$", text, re.M)[1]) for text in texts)
            for key, name in names.items()}


def spawn_all(database, name, addresses, prefix, count, callers):
    """`events` are the rows of the logs: states and orders."""
    rows = "SELECT (SELECT count(*) FROM backend_state) + (SELECT count(*) FROM action)"
    ready = "SELECT count(*) FROM backend WHERE status = 50"
    before, events, were_ready = (counters(addresses), database.execute(rows, database=name)[0][0],
                                  database.execute(ready, database=name)[0][0])
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        list(pool.map(lambda number: spawn(addresses[number % 2], f"{prefix}-{number}"), range(count)))
    until(lambda: database.execute(ready, database=name)[0][0] == were_ready + count)
    seconds = time.monotonic() - began
    after = counters(addresses)
    result = {key: after[key] - before[key] for key in after}
    result["events"] = database.execute(rows, database=name)[0][0] - events
    result["spawns_per_second"] = round(count / seconds)
    return result


def measure_spawns(directory, count):
    with Database() as database, contextlib.ExitStack() as stack:
        url = database.new_database()
        addresses = [stack.enter_context(controller(directory, url))[0] for _ in range(2)]
        for number, address in enumerate(addresses):
            stack.enter_context(drones(directory, address, DRONES, f"c{number}"))
        name = url.rsplit("/", 1)[1]
        return {"one_after_another": spawn_all(database, name, addresses, "one", count, 1),
                f"{CALLERS}_at_once": spawn_all(database, name, addresses, "many", count, CALLERS)}


def main():
    revocations = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    spawns = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    result = {"benchmark": "controllers", "revocations": revocations, "spawns": spawns}
    with tempfile.TemporaryDirectory(prefix="plane-bench-") as name:
        os.chmod(name, 0o755)
        directory = pathlib.Path(name)
        result["revocation_ms"] = measure_revocations(directory, revocations)
        for what, figures in result["revocation_ms"].items():
            print(f"{what:28} {json.dumps(figures)[1:-1]}")
        result["spawning"] = measure_spawns(directory, spawns)
        for what, figures in result["spawning"].items():
            print(f"{what:28} {json.dumps(figures)[1:-1]}")
    line = json.dumps({**result, "cores": os.cpu_count(), "kernel": platform.release()})
    (ROOT / "bench" / "results" / "controllers.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
