"""The original Plane beside ours: its program, what its drone runs backends with, and a relay that
keeps every frame between a node and a controller."""

import asyncio
import contextlib
import http.server
import json
import os
import pathlib
import socket
import struct
import subprocess
import threading

import websockets

from serve import free_port, request, wait_until


class Process:
    """A program with its output in `directory`; ended by SIGTERM."""

    def __init__(self, directory, name, *words, env=None):
        self.log_path = pathlib.Path(directory) / f"{name}.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([str(word) for word in words], stdout=log, stderr=log,
                                            env={**os.environ, **(env or {})})

    def log(self):
        return self.log_path.read_text(errors="replace")

    def is_running(self):
        assert self.process.poll() is None, self.log()
        return True

    def stop(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout=20)
        self.process.kill()
        return self.process.wait()


def start_controller(directory, program, *flags):
    """A controller of the original's or of ours; it and its address."""
    address = f"127.0.0.1:{free_port()}"
    process = Process(directory, "controller", program, "controller", "--host", "127.0.0.1",
                      "--port", address.split(":")[1], *flags)
    wait_healthy(address, process)
    return process, address


def start_nodes(directory, program, url, cluster, zone, executor, proxy_port, dns_port):
    """A drone, a proxy and a DNS server of the original."""
    return [
        Process(directory, "drone", program, "drone", "--controller-url", url, "--cluster", cluster,
                "--executor-socket", executor),
        Process(directory, "proxy", program, "proxy", "--controller-url", url, "--cluster", cluster,
                "--http-port", proxy_port),
        Process(directory, "dns", program, "dns", "--controller-url", url, "--zone", zone, "--port",
                dns_port)]


def wait_healthy(address, process):
    def is_healthy():
        process.is_running()
        try:
            return request("GET", f"http://{address}/pub/health").status == 200
        except OSError:
            return False
    wait_until(is_healthy, 60, "the controller serves")


class Executor:
    """What an original drone runs backends with (`--executor-socket`): each is a web server of this
    process."""

    def __init__(self, path):
        self.path, self.backends, self.listener = path, {}, socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                self.wire, _ = self.listener.accept()
            except OSError:
                return
            for line in self.wire.makefile("rb"):
                asked = json.loads(line)
                (kind, content), = asked["message"].items()
                self.say(asked["id"], getattr(self, kind)(content))
                if kind == "Terminate":
                    self.end(content[0], 137 if content[1] else 0)

    def say(self, request_id, message):
        line = json.dumps({"id": request_id, "message": message}) + "\n"
        self.wire.sendall(line.encode())

    def Prepare(self, config):
        is_good = config["image"] != "missing"
        return {"PrepareResult": {"Ok": None} if is_good else {"Err": "there is no such image"}}

    def Spawn(self, content):
        backend, _, key, _ = content

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = json.dumps({"path": self.path, "token": key["token"]}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = answer

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.backends[backend] = server
        return {"SpawnResult": {"Ok": {"container_id": backend, "port": server.server_port}}}

    def WaitForBackend(self, _):
        return {"WaitForBackendResult": {"Ok": None}}

    def Terminate(self, content):
        return {"TerminateResult": {"Ok": content[0] in self.backends}}

    def end(self, backend, code):
        server = self.backends.pop(backend, None)
        if server:
            server.shutdown()
            server.server_close()
            self.say(None, {"TerminateEvent": {"backend_id": backend, "exit_code": code}})

    def tell_metrics(self, backend):
        self.say(None, {"MetricsMessage": {
            "backend_id": backend, "mem_used": 1048576, "mem_total": 2097152,
            "mem_active": 524288, "mem_inactive": 262144, "mem_unevictable": 0,
            "mem_limit": 67108864, "cpu_used": 1500000, "sys_cpu": 1000000000}})

    def stop(self):
        self.listener.close()
        for server in self.backends.values():
            server.shutdown()
            server.server_close()


class Relay:
    """Between nodes and a controller: passes WebSocket frames on and keeps them."""

    def __init__(self, upstream):
        self.upstream, self.frames, self.upgrades = upstream, [], []
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self.run, args=(started,), daemon=True).start()
        started.wait(10)

    def run(self, started):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(
            websockets.serve(self.serve, "127.0.0.1", 0, max_size=None))
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        self.loop.run_forever()
        server.close()
        self.loop.run_until_complete(server.wait_closed())

    async def serve(self, node):
        headers = dict(node.request_headers.raw_items())
        self.upgrades.append((node.path, headers))
        kind = node.path.split("?")[0].split("/")[-1]
        more = {name: value for name, value in headers.items() if name.lower() == "authorization"}
        async with websockets.connect(f"ws://{self.upstream}{node.path}", max_size=None,
                                      extra_headers=more) as controller:
            ways = [self.pass_on(node, controller, kind, "to-controller"),
                    self.pass_on(controller, node, kind, "from-controller")]
            _, open_ways = await asyncio.wait(
                [asyncio.ensure_future(way) for way in ways],
                return_when=asyncio.FIRST_COMPLETED)
            for way in open_ways:
                way.cancel()

    async def pass_on(self, source, target, kind, direction):
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in source:
                self.frames.append((kind, direction, text))
                await target.send(text)

    def seen(self, kind, direction):
        return [text for k, d, text in list(self.frames) if (k, d) == (kind, direction)]

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)


def ask_txt(port, name, timeout=2):
    """The TXT value that the DNS server on `port` has for `name`, None for none, or its error."""
    labels = b"".join(struct.pack("B", len(label)) + label.encode() for label in name.split("."))
    query = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 16, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.settimeout(timeout)
        wire.sendto(query, ("127.0.0.1", port))
        answer = wire.recv(4096)
    _, flags, _, count, _, _ = struct.unpack(">HHHHHH", answer[:12])
    if flags & 15:
        return f"error {flags & 15}"
    if not count:
        return None
    at = len(query)  # the question is repeated; then the answer's name, whole or as a pointer
    while answer[at]:
        at += 2 if answer[at] & 0xc0 else answer[at] + 1
        if answer[at - 2] & 0xc0 == 0xc0:
            at -= 1
            break
    at += 1 + 10  # type, class, TTL and length
    return answer[at + 1:at + 1 + answer[at]].decode()
