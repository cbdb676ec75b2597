#!/usr/bin/python3
"""Requests a second and latency for a 1 KiB answer, and memory for an idle proxied WebSocket: our
proxy beside nginx and HAProxy, each with one worker on a core of its own, same backend, same run.

usage: bench/proxy.py [SECONDS]        (default 5 for each; PLANE_BUILD_DIR names the build)
The last line is one JSON object; bench/results/proxy.json keeps it."""

import contextlib
import json
import os
import pathlib
import platform
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from serve import PLANE, free_port  # noqa: E402
from test_proxy import CLUSTER, TOKEN, FakeController, route  # noqa: E402

TUNNELS = 4000
PATH = f"/{TOKEN}/kib"
PROXY_CORE, OTHER_CORE = "0", "1"
UPGRADE = (f"GET /{TOKEN}/ws HTTP/1.1\r\nHost: {CLUSTER}\r\nConnection: Upgrade\r\n"
           "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")


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


def nginx(directory, core, port, body):
    directory.mkdir()
    path = directory / "nginx.conf"
    path.write_text(f"""
        daemon off; master_process off; worker_processes 1; pid {directory}/pid;
        error_log /dev/null crit;
        events {{ worker_connections 20000; }}
        http {{ access_log off; keepalive_requests 100000000;
            client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;
            fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u;
            scgi_temp_path {directory}/s;
            {body.format(port=port)} }}""")
    return start(core, "nginx", "-c", path, "-p", directory)


def start_backend(directory, port):
    return nginx(directory / "backend", OTHER_CORE, port, """
        server {{ listen 127.0.0.1:{port} backlog=4096; location / {{
            default_type text/plain; return 200 '""" + "x" * 1024 + """'; }} }}""")


def start_plane(directory, backend, port, controller):
    controller.routes[TOKEN] = route(f"127.0.0.1:{backend}")
    return start(PROXY_CORE, PLANE, "proxy", "--controller-url",
                 f"http://127.0.0.1:{controller.port}", "--cluster", CLUSTER, "--host", "127.0.0.1",
                 "--http-port", port, "--workers", "1")


def start_nginx(directory, backend, port, _):
    return nginx(directory / f"nginx-{port}", PROXY_CORE, port, f"""
        map $http_upgrade $how {{{{ default upgrade; '' ''; }}}}
        upstream up {{{{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 100000000; }}}}
        server {{{{ listen 127.0.0.1:{{port}} backlog=4096; location / {{{{ proxy_pass http://up;
            proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $how; proxy_read_timeout 1h; }}}} }}}}""")


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


def load(port, seconds):
    output = subprocess.run(
        ["taskset", "-c", OTHER_CORE, "wrk", "-t1", "-c64", f"-d{seconds}s", "--latency", "-H",
         f"Host: {CLUSTER}", f"http://127.0.0.1:{port}{PATH}"],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "Non-2xx" not in output, output

    def latency(share):
        number, unit = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", output).groups()
        return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    return {"requests_per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1)),
            "p50_ms": latency(50), "p99_ms": latency(99)}


def cpu_seconds(pid):
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def private_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", text, re.M))


class Upgrader:
    """A backend that accepts every upgrade and keeps it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.listener.getsockname()[1]
        self.kept = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                wire, _ = self.listener.accept()
                head = b""
                while b"\r\n\r\n" not in head:
                    head += wire.recv(4096)
                wire.sendall(SWITCH)
                self.kept.append(wire)

    def stop(self):
        self.listener.close()
        for wire in self.kept:
            wire.close()


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
    time.sleep(1)
    used = private_kib(pid) - before
    for wire in wires:
        wire.close()
    return used / TUNNELS


def measure(name, directory, backend, controller, seconds):
    port = free_port()
    process = SIDES[name](directory, backend, port, controller)
    try:
        wait_open(port)
        load(port, 1)  # not counted
        before = cpu_seconds(process.pid)
        result = load(port, seconds)
        spent = cpu_seconds(process.pid) - before
        result["cpu_us_per_request"] = round(
            spent * 1e6 / (result["requests_per_second"] * seconds), 1)
    finally:
        process.terminate()
        process.wait(timeout=20)
    upgrader, port = Upgrader(), free_port()
    process = SIDES[name](directory, upgrader.port, port, controller)
    try:
        wait_open(port)
        result["kib_per_idle_tunnel"] = round(memory_per_tunnel(process.pid, port), 2)
    finally:
        process.terminate()
        process.wait(timeout=20)
        upgrader.stop()
    return result


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    subprocess.run([str(ROOT / "tools" / "packages.sh"), "bench"], check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    controller, backend = FakeController(), free_port()
    with tempfile.TemporaryDirectory(prefix="plane-bench-") as name:
        directory = pathlib.Path(name)
        os.chmod(directory, 0o755)
        server = start_backend(directory, backend)
        try:
            wait_open(backend)
            sides = {side: measure(side, directory, backend, controller, seconds)
                     for side in SIDES}
        finally:
            server.terminate()
            server.wait(timeout=20)
    for side, r in sides.items():
        print(f"{side:8} {r['requests_per_second']:9.0f} requests/s, p50 {r['p50_ms']:.2f} ms, "
              f"p99 {r['p99_ms']:.2f} ms, {r['cpu_us_per_request']} us of CPU a request, "
              f"{r['kib_per_idle_tunnel']} KiB an idle tunnel")
    best = max(sides["nginx"]["requests_per_second"], sides["haproxy"]["requests_per_second"])
    result = {"benchmark": "proxy", **sides, "tunnels": TUNNELS,
              "requests_ratio_to_better_peer": round(
                  sides["plane"]["requests_per_second"] / best, 2),
              "cores": os.cpu_count(), "kernel": platform.release()}
    line = json.dumps(result)
    (ROOT / "bench" / "results" / "proxy.json").write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
