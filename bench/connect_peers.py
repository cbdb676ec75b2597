"""What bench/connect.py measures with: a drone that takes every order and starts nothing, nginx with
a fixed answer, and the original Plane on a PostgreSQL of its own."""

import base64
import contextlib
import json
import os
import pathlib
import socket
import struct
import subprocess
import threading
import time

from serve import free_port, request, wait_until

POSTGRES = pathlib.Path("/usr/lib/postgresql/15/bin")
VERSION = {"version": "0.5.5", "git_hash": "abca8022"}
ADDRESS = "127.0.0.1:32768"


def is_open(address):
    host, port = address.split(":")
    with contextlib.suppress(OSError):
        socket.create_connection((host, int(port)), timeout=1).close()
        return True
    return False


def wait_open(address):
    wait_until(lambda: is_open(address), 20, f"{address} open")


class Nginx:
    """Answers every request with `text`, from one worker."""

    def __init__(self, directory, text):
        self.directory, self.text = directory / "nginx", text
        self.address = f"127.0.0.1:{free_port()}"

    def __enter__(self):
        self.directory.mkdir()
        path = self.directory / "nginx.conf"
        path.write_text(f"""
            daemon off; master_process off; worker_processes 1; pid {self.directory}/pid;
            error_log /dev/null crit;
            events {{ worker_connections 1024; }}
            http {{ access_log off; keepalive_requests 100000000;
                client_body_temp_path {self.directory}/b; proxy_temp_path {self.directory}/p;
                fastcgi_temp_path {self.directory}/f; uwsgi_temp_path {self.directory}/u;
                scgi_temp_path {self.directory}/s;
                server {{ listen {self.address}; location / {{
                    default_type application/json; return 200 '{self.text}'; }} }} }}""")
        self.process = subprocess.Popen(
            ["nginx", "-c", path, "-p", self.directory],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        wait_open(self.address)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)


class Drone:
    """Speaks for a drone over a socket; what comes is thrown away by a thread, at little cost."""

    def __init__(self, address, cluster):
        host, port = address.split(":")
        self.address, self.cluster, self.events = address, cluster, 0
        self.wire = socket.create_connection((host, int(port)))
        key = base64.b64encode(os.urandom(16)).decode()
        self.wire.sendall(
            (f"GET /ctrl/c/{cluster}/drone-socket HTTP/1.1\r\nHost: {address}\r\n"
             "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             f"Sec-WebSocket-Key: {key}\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.wire.recv(4096)
            assert piece, head
            head += piece
        assert b" 101 " in head, head
        self.send({"version": VERSION, "name": "dr-bench"})
        threading.Thread(target=self.drain, daemon=True).start()

    def __enter__(self):
        self.send({"Heartbeat": {"local_time": int(time.time() * 1000)}})
        wait_until(self.is_eligible, 20, "the drone is ready")
        return self

    def __exit__(self, *_):
        self.wire.close()

    def is_eligible(self):
        state = request("GET", f"http://{self.address}/ctrl/c/{self.cluster}/state")
        return state.status == 200 and any(d["ready"] for d in state.json()["drones"])

    def drain(self):
        buffer = bytearray(1 << 20)
        try:
            while self.wire.recv_into(buffer):
                pass
        except OSError:
            pass  # closed

    def send(self, message):
        """One text frame with a mask of zeros (RFC 6455 section 5.2)."""
        payload = json.dumps(message).encode()
        head = (struct.pack(">BB", 0x81, 0x80 | len(payload)) if len(payload) < 126
                else struct.pack(">BBH", 0x81, 0xfe, len(payload)))
        self.wire.sendall(head + bytes(4) + payload)

    def hold(self, connect):
        """Brings up the backend that `connect` makes."""
        backend = connect()
        for state in ({"status": "loading"}, {"status": "starting"},
                      {"status": "waiting", "address": ADDRESS},
                      {"status": "ready", "address": ADDRESS}):
            self.events += 1
            self.send({"BackendEvent": {"event_id": self.events, "backend_id": backend,
                                        "state": state, "timestamp": int(time.time() * 1000)}})
        status = f"http://{self.address}/pub/b/{backend}/status"
        wait_until(lambda: request("GET", status).json()["status"] == "ready", 20, "it is ready")


class Original:
    """The original's controller, `program`, and a PostgreSQL for it in `directory`."""

    def __init__(self, directory, program, cluster):
        self.directory, self.program, self.cluster = directory / "original", program, cluster

    def as_postgres(self, *words):
        subprocess.run(["runuser", "-u", "postgres", "--", *map(str, words)], check=True,
                       stdout=subprocess.DEVNULL)

    def __enter__(self):
        self.directory.mkdir()
        data = self.directory / "postgres"
        data.mkdir()
        subprocess.run(["chown", "postgres:", data], check=True)
        port = free_port()
        self.as_postgres(POSTGRES / "initdb", "-D", data, "-A", "trust")
        self.as_postgres(POSTGRES / "pg_ctl", "-D", data, "-w", "-l", data / "log", "-o",
                         f"-h 127.0.0.1 -p {port} -k {data}", "start")
        self.data, self.address = data, f"127.0.0.1:{free_port()}"
        url = f"postgres://postgres@127.0.0.1:{port}/postgres"
        with open(self.directory / "controller.log", "wb") as log:
            self.process = subprocess.Popen(
                [self.program, "controller", "--db", url, "--host", "127.0.0.1", "--port",
                 self.address.split(":")[1], "--controller-url", f"http://{self.address}"],
                stdout=log, stderr=log)
        self.pid = self.process.pid
        wait_until(self.is_healthy, 60, "the original serves")
        return self

    def is_healthy(self):
        assert self.process.poll() is None, (self.directory / "controller.log").read_text()
        try:
            return request("GET", f"http://{self.address}/pub/health").status == 200
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.as_postgres(POSTGRES / "pg_ctl", "-D", self.data, "-w", "-m", "fast", "stop")
