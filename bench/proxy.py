#!/usr/bin/python3
"""Requests a second and latency for a 1 KiB answer, messages a second through WebSockets, and
memory for an idle one: our proxy beside nginx and HAProxy, each with one worker on a core of its
own, the same backend and the load on the other core, one after the other in each of several
rounds; figures are medians of the rounds, ratios medians of the rounds' ratios. Runs in a
network namespace of its own, so that no firewall rule of the host counts.

usage: bench/proxy.py [SECONDS [ROUNDS]]   (default 1 and 7; PLANE_BUILD_DIR names the build)
The last line is one JSON object; bench/results/proxy.json keeps it."""

import contextlib
import ctypes
import json
import os
import pathlib
import platform
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from serve import BUILD, PLANE, free_port  # noqa: E402
from test_proxy import CLUSTER, TOKEN, FakeController, route  # noqa: E402

RESPONDER = BUILD / "bench" / "bench-responder"
LOAD = BUILD / "bench" / "bench-proxy-load"
CONNECTIONS = (1, 64, 256)
TUNNELS, BUSY_TUNNELS = 4000, 64
CLONE_NEWNET = 0x40000000
PATH = f"/{TOKEN}/kib"
PROXY_CORE, OTHER_CORE = "0", "1"
UPGRADE = (f"GET /{TOKEN}/ws HTTP/1.1\r\nHost: {CLUSTER}\r\nConnection: Upgrade\r\n"
           "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()


def start(core, *words, **more):
    return subprocess.Popen(["taskset", "-c", core, *map(str, words)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)


def wait_open(port):
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"port {port}")
        time.sleep(0.02)


def start_backend(port):
    return start(OTHER_CORE, RESPONDER, port)


def start_plane(directory, backend, port, controller):
    controller.routes[TOKEN] = route(f"127.0.0.1:{backend}")
    return start(PROXY_CORE, PLANE, "proxy", "--controller-url",
                 f"http://127.0.0.1:{controller.port}", "--cluster", CLUSTER, "--host", "127.0.0.1",
                 "--http-port", port, "--workers", "1")


def start_nginx(directory, backend, port, _):
    home = directory / f"nginx-{port}"
    home.mkdir()
    path = home / "nginx.conf"
    path.write_text(f"""
        daemon off; master_process off; worker_processes 1; pid {home}/pid;
        error_log /dev/null crit;
        events {{ worker_connections 20000; }}
        http {{ access_log off; keepalive_requests 100000000;
            client_body_temp_path {home}/b; proxy_temp_path {home}/p;
            fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
            map $http_upgrade $how {{ default upgrade; '' ''; }}
            upstream up {{ server 127.0.0.1:{backend}; keepalive 512;
                keepalive_requests 100000000; }}
            server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://up;
                proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection $how; proxy_read_timeout 1h; }} }} }}""")
    return start(PROXY_CORE, "nginx", "-c", path, "-p", home)


def start_haproxy(directory, backend, port, _):
    path = directory / f"haproxy-{port}.cfg"
    path.write_text(f"""
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout client 1h
  timeout server 1h
  timeout connect 5s
  timeout tunnel 1h
  http-reuse always
frontend front
  bind 127.0.0.1:{port} backlog 4096
  default_backend back
backend back
  server one 127.0.0.1:{backend}
""")
    return start(PROXY_CORE, "haproxy", "-f", path)


SIDES = {"plane": start_plane, "nginx": start_nginx, "haproxy": start_haproxy}


def load(port, connections, seconds, kind="get"):
    return json.loads(subprocess.run(
        ["taskset", "-c", OTHER_CORE, LOAD, kind, str(port), CLUSTER, PATH, str(connections),
         str(seconds)], check=True, stdout=subprocess.PIPE).stdout)


def cpu_seconds(pid):
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def private_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", text, re.M))


def open_tunnel(port):
    wire = socket.create_connection(("127.0.0.1", port), timeout=20)
    wire.sendall(UPGRADE)
    head = b""
    while b"\r\n\r\n" not in head:
        head += wire.recv(4096)
    assert b" 101 " in head, head
    return wire


def memory_per_tunnel(pid, port):
    wires = [open_tunnel(port) for _ in range(50)]  # what is made once is made now
    before = private_kib(pid)
    wires += [open_tunnel(port) for _ in range(TUNNELS)]
    used = private_kib(pid) - before
    for wire in wires:
        wire.close()
    return used / TUNNELS


class Side:
    """A proxy in front of the backend, or the backend itself (`process` None)."""

    def __init__(self, name, process, port, backend):
        self.name, self.process, self.port, self.backend = name, process, port, backend
        self.rounds = {}

    def measure(self, what, run):
        """Runs a load, and adds what the proxy's core and the other one did."""
        pids = [self.process.pid] if self.process else []
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        before, began = [cpu_seconds(pid) for pid in [self.backend.pid, *pids]], time.monotonic()
        result = run()
        took = time.monotonic() - began
        spent = [cpu_seconds(pid) - was
                 for pid, was in zip([self.backend.pid, *pids], before)]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        loading = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
        if pids:
            result["cpu_us"] = spent[1] * 1e6 / (result["per_second"] * took)
            result["proxy_core_busy"] = spent[1] / took
        result["other_core_busy"] = (spent[0] + loading) / took
        self.rounds.setdefault(what, []).append(result)

    def medians(self, what):
        rounds = self.rounds[what]
        return {key: round(statistics.median(r[key] for r in rounds), 3) for key in rounds[0]}


def run_rounds(sides, seconds, rounds):
    for side in sides:
        load(side.port, 64, 1)  # not counted
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for side in sides:
                side.measure(connections, lambda: load(side.port, connections, seconds))
        for side in sides:
            side.measure("tunnels", lambda: load(side.port, BUSY_TUNNELS, seconds, "tunnel"))


def idle_tunnels(make, directory, backend, controller):
    """In a fresh process: one that has worked takes from what it already has."""
    port = free_port()
    process = make(directory, backend, port, controller)
    try:
        wait_open(port)
        return round(memory_per_tunnel(process.pid, port), 2)
    finally:
        process.terminate()
        process.wait(timeout=20)


def results_of(sides):
    results = {}
    for side in sides:
        results[side.name] = {
            **{f"{n}_connections": side.medians(n) for n in CONNECTIONS},
            "busy_tunnels": side.medians("tunnels")}
    direct = results["direct"]["1_connections"]
    for side in sides[1:]:
        one = results[side.name]["1_connections"]
        for share in ("p50_ms", "p99_ms"):
            results[side.name]["added_" + share] = round(one[share] - direct[share], 3)
    return results


def print_table(results):
    for what in [*(f"{n}_connections" for n in CONNECTIONS), "busy_tunnels"]:
        print(what.replace("_", " "))
        for name, side in results.items():
            r = side[what]
            line = f"  {name:8} {r['per_second']:8.0f}/s, p50 {r['p50_ms']:.3f} ms, p99 {r['p99_ms']:.3f} ms"
            if "cpu_us" in r:
                line += f", {r['cpu_us']:.1f} us of CPU each, its core {r['proxy_core_busy']:.0%}"
            print(line + f", the other core {r['other_core_busy']:.0%}")
    for name, side in results.items():
        if name != "direct":
            print(f"{name:8} adds {side['added_p50_ms'] * 1000:.0f} us at p50, "
                  f"{side['added_p99_ms'] * 1000:.0f} us at p99; "
                  f"{side['kib_per_idle_tunnel']} KiB an idle tunnel")


def ratio(sides, what):
    """Of our rate to the better peer's: the median of the rounds' own."""
    rates = {side.name: [r["per_second"] for r in side.rounds[what]] for side in sides}
    return round(statistics.median(
        ours / max(peers) for ours, *peers in zip(
            rates["plane"], rates["nginx"], rates["haproxy"])), 2)


def own_network():
    """Loopback only."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "a network namespace")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    subprocess.run([str(ROOT / "tools" / "packages.sh"), "bench"], check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    own_network()
    controller, port = FakeController(), free_port()
    with tempfile.TemporaryDirectory(prefix="plane-bench-") as name, contextlib.ExitStack() as ends:
        directory = pathlib.Path(name)
        os.chmod(directory, 0o755)

        def run(process, at):
            ends.callback(process.wait, timeout=20)
            ends.callback(process.terminate)
            wait_open(at)
            return process
        backend = run(start_backend(port), port)
        sides = [Side("direct", None, port, backend)]
        for side, make in SIDES.items():
            at = free_port()
            sides.append(Side(side, run(make(directory, port, at, controller), at), at, backend))
        run_rounds(sides, seconds, rounds)
        results = results_of(sides)
        for side, make in SIDES.items():
            results[side]["kib_per_idle_tunnel"] = idle_tunnels(make, directory, port, controller)
    print_table(results)
    result = {"benchmark": "proxy", **results, "tunnels": TUNNELS, "rounds": rounds,
              "requests_ratio_to_better_peer": ratio(sides, 64),
              "messages_ratio_to_better_peer": ratio(sides, "tunnels"),
              "cores": os.cpu_count(), "kernel": platform.release()}
    line = json.dumps(result)
    (ROOT / "bench" / "results" / "proxy.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
