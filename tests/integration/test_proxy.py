"""The proxy between raw sockets: a controller and backends that are played by the test."""

import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import queue
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
import websockets

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("PLANE_BUILD_DIR", ROOT / "build")).resolve()
PLANE = BUILD / "plane"
CLUSTER = "localhost:9090"
TOKEN = "t" * 43

pytestmark = pytest.mark.timeout(90)


class FakeController:
    """Answers route requests from `routes`; a token that is missing there is held. `missed`: whose
    tokens a proxy is told when it asks which were revoked; None: a controller that is not to be asked."""

    def __init__(self):
        self.routes, self.asked, self.kept_alive = {}, [], queue.Queue()
        self.missed, self.since_ms = None, queue.Queue()
        self.loop, self.sockets = asyncio.new_event_loop(), set()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        assert self.started.wait(10)

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.listen())
        self.loop.run_forever()

    async def listen(self):
        self.server = await websockets.serve(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.started.set()

    async def serve(self, ws, *_):
        hello = json.loads(await ws.recv())
        assert hello["name"].startswith("px-")
        mine = {"version": {"version": "0.5.5", "git_hash": "x"}, "name": "co-fake"}
        if self.missed is not None:
            mine["extensions"] = ["revoked-since"]
        await ws.send(json.dumps(mine))
        self.sockets.add(ws)
        try:
            async for text in ws:
                await self.answer(ws, json.loads(text))
        except websockets.exceptions.ConnectionClosed:
            pass
        finally:
            self.sockets.discard(ws)

    async def answer(self, ws, message):
        if "KeepAlive" in message:
            self.kept_alive.put(message["KeepAlive"])
        elif "RevokedSince" in message:
            self.since_ms.put(message["RevokedSince"]["since_ms"])
            for user in self.missed:
                await ws.send(json.dumps({"RevokeTokens": {"backend": "bk", "user": user}}))
        elif "RouteInfoRequest" in message:
            token = message["RouteInfoRequest"]["token"]
            self.asked.append(token)
            if token in self.routes:
                await ws.send(json.dumps({"RouteInfoResponse": {
                    "token": token, "route_info": self.routes[token]}}))

    def send(self, message):
        async def to_all():
            for ws in list(self.sockets):
                await ws.send(json.dumps(message))
        asyncio.run_coroutine_threadsafe(to_all(), self.loop).result(10)

    def tell_route(self, token):
        self.send({"RouteInfoResponse": {"token": token, "route_info": self.routes[token]}})

    def drop(self):
        async def close():
            for ws in list(self.sockets):
                await ws.close()
        asyncio.run_coroutine_threadsafe(close(), self.loop).result(10)

    def stop(self):
        async def close():
            self.server.close()
            await self.server.wait_closed()
        asyncio.run_coroutine_threadsafe(close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


class Upstream:
    """A backend: `handle(connection)` is run in a thread for each connection."""

    def __init__(self, handle):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.handle, self.connections = handle, 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError, EOFError):
            self.handle(Wire(connection))

    def stop(self):
        self.listener.close()


class Wire:
    """A socket with a buffer."""

    def __init__(self, sock):
        self.sock, self.data = sock, b""
        sock.settimeout(20)

    def fill(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError
        self.data += piece

    def until(self, mark):
        while mark not in self.data:
            self.fill()
        end = self.data.index(mark) + len(mark)
        taken, self.data = self.data[:end], self.data[end:]
        return taken

    def exactly(self, count):
        while len(self.data) < count:
            self.fill()
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def rest(self):
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                self.fill()
        taken, self.data = self.data, b""
        return taken

    def head(self):
        return Head(self.until(b"\r\n\r\n"))

    def body(self, head):
        if head.get("transfer-encoding") == "chunked":
            whole = b""
            while True:
                size = int(self.until(b"\r\n").split(b";")[0], 16)
                if size == 0:
                    self.trailers = self.until(b"\r\n") if self.peek_end() else self.until(
                        b"\r\n\r\n")
                    return whole
                whole += self.exactly(size)
                self.exactly(2)
        if "content-length" in head.fields:
            return self.exactly(int(head.get("content-length")))
        return b""

    def peek_end(self):
        while len(self.data) < 2:
            self.fill()
        return self.data.startswith(b"\r\n")

    def answer(self):
        head = self.head()
        return head, self.body(head)

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())


class Head:
    def __init__(self, raw):
        lines = raw.decode("latin-1").split("\r\n")
        self.first, self.fields, self.raw = lines[0], {}, raw
        for line in lines[1:]:
            if line:
                name, value = line.split(":", 1)
                self.fields[name.lower()] = value.strip()

    def get(self, name):
        return self.fields.get(name)

    @property
    def status(self):
        return int(self.first.split()[1])


class Proxy:
    def __init__(self, tmp_path, controller, *flags):
        self.log_path = tmp_path / "proxy.log"
        self.log = open(self.log_path, "ab")
        read_end, write_end = os.pipe()
        self.process = subprocess.Popen(
            [str(PLANE), "proxy", "--controller-url", f"http://127.0.0.1:{controller.port}",
             "--cluster", CLUSTER, "--host", "127.0.0.1", "--http-port", "0", "--workers", "2",
             "--ready-fd", str(write_end), *flags],
            stderr=self.log, stdout=self.log, pass_fds=[write_end])
        os.close(write_end)
        with os.fdopen(read_end) as ready:
            line = ready.readline()
            ready.read()  # until it has closed its end: it has its files then
        assert line.startswith("ready "), self.log_path.read_text()
        host, port = line.split()[1].rsplit(":", 1)
        self.address = (host, int(port))

    def connect(self):
        return Wire(socket.create_connection(self.address, timeout=20))

    def ask(self, request):
        wire = self.connect()
        wire.send(request)
        return wire

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        status = self.process.wait(timeout=30)
        self.log.close()
        return status


@pytest.fixture
def controller():
    fake = FakeController()
    yield fake
    fake.stop()


@pytest.fixture
def proxy(tmp_path, controller):
    started = Proxy(tmp_path, controller)
    yield started
    assert started.stop() == 0, started.log_path.read_text()[-4000:]
    text = started.log_path.read_text()
    assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text, text[-4000:]
    assert TOKEN not in text


def route(address, backend="bk", **more):
    return {"backend_id": backend, "address": address, "secret_token": "sec", "cluster": CLUSTER,
            "user": None, "user_data": {}, "subdomain": None, **more}


@pytest.fixture
def serve(controller):
    """serve(handle, **route) starts a backend and gives it the token."""
    upstreams = []

    def start(handle, token=TOKEN, **more):
        upstream = Upstream(handle)
        upstreams.append(upstream)
        controller.routes[token] = route(upstream.address, **more)
        return upstream
    yield start
    for upstream in upstreams:
        upstream.stop()


def get(path, host="localhost:9090", *lines):
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", ""])


def ok(body=b"hi", *lines):
    head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *lines, "", ""])
    return head.encode() + body


def keep_answering(make):
    """A handler that answers each request of a connection by make(head, body)."""
    def handle(wire):
        while True:
            head = wire.head()
            wire.send(make(head, wire.body(head)))
    return handle


def echo_head(head, body):
    return ok(head.raw)


def test_its_own_answers(proxy, serve, controller):
    controller.routes["n" * 43] = None
    for path, status in [("/ready", 200), ("/", 400), ("//x", 400), ("/short/", 410),
                         ("/" + "n" * 43 + "/a", 410)]:
        head, _ = proxy.ask(get(path)).answer()
        assert head.status == status, path
        assert head.get("server").startswith("Plane/")
        assert head.get("access-control-allow-origin") == "*"
        assert head.get("x-plane-backend-id") is None


def test_what_a_backend_sees_and_a_client_gets(proxy, serve):
    serve(keep_answering(echo_head), user="alice", user_data={"b": 1, "a": [True]})
    wire = proxy.ask(get(f"/{TOKEN}/a/b?c=d", "localhost:9090", "X-Verified-Username: mallory",
                         "x_verified_secret: x", "X-Forwarded-For: 9.9.9.9", "X-Mine: kept",
                         "Connection: keep-alive, x-hop", "X-Hop: gone"))
    head, body = wire.answer()
    seen = Head(body)
    assert seen.first == "GET /a/b?c=d HTTP/1.1"
    assert seen.get("host") == "localhost:9090" and seen.get("x-mine") == "kept"
    assert seen.get("x-verified-username") == "alice"
    assert seen.get("x-verified-user-data") == '{"a":[true],"b":1}'
    assert seen.get("x-verified-path") == f"/{TOKEN}/a/b"
    assert seen.get("x-verified-backend") == "bk" and seen.get("x-verified-secret") == "sec"
    assert seen.get("x-forwarded-for") == "127.0.0.1"
    assert seen.get("x-forwarded-proto") == "http"
    assert b"mallory" not in body and b"x_verified" not in body and seen.get("x-hop") is None
    assert head.get("x-plane-backend-id") == "bk" and head.get("server").startswith("Plane/")
    assert head.get("access-control-allow-headers") == "*, Authorization"


def test_cors_headers_of_a_backend_stay_alone(proxy, serve):
    serve(keep_answering(lambda h, b: ok(b"", "Access-Control-Allow-Methods: PUT", "Server: me")))
    head, _ = proxy.ask(get(f"/{TOKEN}/")).answer()
    assert head.get("access-control-allow-methods") == "PUT"
    assert head.get("access-control-allow-origin") is None
    assert head.get("server").startswith("Plane/")


def test_paths_without_and_with_a_static_token(proxy, serve):
    serve(keep_answering(echo_head))
    static = "s." + "q" * 43
    serve(keep_answering(echo_head), token=static, secret_token="", user_data=None)
    assert Head(proxy.ask(get(f"/{TOKEN}")).answer()[1]).first == "GET / HTTP/1.1"
    assert Head(proxy.ask(get(f"/{TOKEN}?x")).answer()[1]).first == "GET /?x HTTP/1.1"
    seen = Head(proxy.ask(get(f"/{static}/p")).answer()[1])
    assert seen.first == f"GET /{static}/p HTTP/1.1"
    assert seen.get("x-verified-secret") == "" and seen.get("x-verified-user-data") is None


def test_hosts_are_checked(proxy, serve):
    serve(keep_answering(echo_head))
    sub = "u" * 43
    serve(keep_answering(echo_head), token=sub, subdomain="abc")
    for token, host, status in [(TOKEN, "localhost:9090", 200), (TOKEN, "x.localhost:9090", 200),
                                (TOKEN, "evil.com", 403), (TOKEN, "evillocalhost:9090", 403),
                                (sub, "abc.localhost:9090", 200), (sub, "localhost:9090", 403),
                                (sub, "abd.localhost:9090", 403)]:
        assert proxy.ask(get(f"/{token}/", host)).answer()[0].status == status, host
    assert proxy.ask(f"GET /{TOKEN}/ HTTP/1.1\r\n\r\n").answer()[0].status == 400


def test_large_bodies_pass_both_ways(proxy, serve):
    size = 100 << 20
    block = os.urandom(1 << 20)

    def handle(wire):
        head = wire.head()
        digest, left = hashlib.sha256(), int(head.get("content-length"))
        while left:
            if not wire.data:
                wire.fill()
            digest.update(wire.data)
            left -= len(wire.data)
            wire.data = b""
        wire.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size + 64}\r\n\r\n{digest.hexdigest()}")
        for _ in range(size // len(block)):
            wire.send(block)

    serve(handle)
    wire = proxy.ask(f"POST /{TOKEN}/ HTTP/1.1\r\nHost: {CLUSTER}\r\nContent-Length: {size}\r\n\r\n")
    for _ in range(size // len(block)):
        wire.send(block)
    wire.head()
    wanted = hashlib.sha256(block * 100).hexdigest()
    assert wire.exactly(64).decode() == wanted
    digest, left = hashlib.sha256(), size
    while left:
        if not wire.data:
            wire.fill()
        digest.update(wire.data)
        left -= len(wire.data)
        wire.data = b""
    assert digest.hexdigest() == wanted


def kernel_buffer_max(name):
    """How much the kernel lets one TCP socket of the host keep, of tcp_rmem or tcp_wmem."""
    return int(pathlib.Path(f"/proc/sys/net/ipv4/{name}").read_text().split()[2])


def test_a_slow_reader_does_not_fill_memory(proxy, serve):
    sent, is_stuck = [], threading.Event()

    def handle(wire):
        wire.head()
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        wire.sock.settimeout(2)
        with contextlib.suppress(TimeoutError):
            while True:
                sent.append(wire.sock.send(b"x" * 65536))
        is_stuck.set()
    serve(handle)
    wire = proxy.ask(get(f"/{TOKEN}/"))
    wire.head()
    assert is_stuck.wait(20)
    # what four sockets' buffers may take, and a little in the proxy
    in_kernel = 2 * (kernel_buffer_max("tcp_rmem") + kernel_buffer_max("tcp_wmem"))
    assert sum(sent) < min(in_kernel + (1 << 20), 500 << 20)
    wire.sock.close()


def test_chunks_and_trailers_pass(proxy, serve):
    def answer(head, body):
        assert head.get("transfer-encoding") == "chunked" and body == b"hello world"
        return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
    serve(keep_answering(answer))
    wire = proxy.ask(f"POST /{TOKEN}/ HTTP/1.1\r\nHost: {CLUSTER}\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n")
    wire.send("0\r\n\r\n")
    head, body = wire.answer()
    assert body == b"hello" and b"X-Sum: 1" in wire.trailers
    wire.send(get(f"/{TOKEN}/")[:10])  # the connection lives on


def test_trailers_of_requests_are_dropped(proxy, serve):
    seen = queue.Queue()

    def handle(wire):
        wire.body(wire.head())
        seen.put(wire.trailers)
        wire.send(ok(b""))
    serve(handle)
    proxy.ask(f"POST /{TOKEN}/ HTTP/1.1\r\nHost: {CLUSTER}\r\nTransfer-Encoding: chunked\r\n\r\n"
              "1\r\na\r\n0\r\nx-verified-username: mallory\r\nx-sum: 1\r\n\r\n").answer()
    assert seen.get(timeout=20) == b"\r\n"


@pytest.mark.parametrize("version, rest", [("1.1", b"\r\nhalf"),
                                           ("1.0", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")])
def test_an_answer_that_breaks_off_ends_in_a_reset(proxy, serve, version, rest):
    may_break = threading.Event()

    def handle(wire):
        wire.head()
        wire.send(b"HTTP/1.1 200 OK\r\n" + rest)
        may_break.wait(20)
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    serve(handle)
    wire = proxy.ask(f"GET /{TOKEN}/ HTTP/{version}\r\nHost: {CLUSTER}\r\n\r\n")
    wire.head()
    assert wire.exactly(4) == b"half"
    may_break.set()
    with pytest.raises(ConnectionResetError):
        wire.fill()


def test_chunks_split_at_every_byte(proxy, serve):
    serve(keep_answering(lambda head, body: ok(body)))
    text = (f"POST /{TOKEN}/ HTTP/1.1\r\nHost: {CLUSTER}\r\nTransfer-Encoding: chunked\r\n\r\n"
            "a\r\n0123456789\r\n3\r\nabc\r\n0\r\n\r\n")
    wire = proxy.connect()
    wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for letter in text:
        wire.send(letter)
    assert wire.answer()[1] == b"0123456789abc"


def test_an_http10_client_gets_no_chunks(proxy, serve):
    serve(keep_answering(lambda h, b: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                         b"5\r\nhello\r\n3\r\n...\r\n0\r\n\r\n"))
    wire = proxy.ask(f"GET /{TOKEN}/ HTTP/1.0\r\nHost: {CLUSTER}\r\n\r\n")
    head = wire.head()
    assert head.get("transfer-encoding") is None
    assert wire.rest() == b"hello..."


def test_an_answer_until_close(proxy, serve):
    def handle(wire):
        wire.head()
        wire.send("HTTP/1.1 200 OK\r\n\r\nall of it")
    serve(handle)
    wire = proxy.ask(get(f"/{TOKEN}/"))
    assert wire.head().get("connection") == "close"
    assert wire.rest() == b"all of it"


def test_pipelined_requests_are_answered_in_order(proxy, serve):
    serve(keep_answering(lambda head, body: ok(head.first.encode() + body)))
    wire = proxy.ask("".join(get(f"/{TOKEN}/{i}") for i in range(20)) +
                     f"POST /{TOKEN}/p HTTP/1.1\r\nHost: {CLUSTER}\r\nContent-Length: 3\r\n\r\nabc" +
                     get(f"/{TOKEN}/last"))
    for i in range(20):
        assert wire.answer()[1] == f"GET /{i} HTTP/1.1".encode()
    assert wire.answer()[1] == b"POST /p HTTP/1.1abc"
    assert wire.answer()[1] == b"GET /last HTTP/1.1"


def test_connections_to_backends_are_used_again(proxy, serve):
    upstream = serve(keep_answering(lambda head, body: ok(b"")))
    wire = proxy.connect()
    for _ in range(10):
        wire.send(get(f"/{TOKEN}/"))
        assert wire.answer()[0].status == 200
    assert upstream.connections == 1


def test_a_stale_connection_is_replaced_without_an_error(proxy, serve):
    def handle(wire):
        wire.head()
        wire.send(ok(b"once"))
        wire.head()  # takes the second request and goes away
    upstream = serve(handle)
    wire = proxy.connect()
    for _ in range(3):
        wire.send(get(f"/{TOKEN}/"))
        assert wire.answer()[1] == b"once"
    assert upstream.connections >= 2


def test_expect_continue(proxy, serve):
    def handle(wire):
        head = wire.head()
        assert head.get("expect") == "100-continue"
        wire.send("HTTP/1.1 100 Continue\r\n\r\n")
        wire.send(ok(wire.body(head)))
    serve(handle)
    wire = proxy.ask(f"POST /{TOKEN}/ HTTP/1.1\r\nHost: {CLUSTER}\r\nContent-Length: 2\r\n"
                     "Expect: 100-continue\r\n\r\n")
    assert wire.head().status == 100
    wire.send("ok")
    head, body = wire.answer()
    assert head.status == 200 and body == b"ok"


def test_head_and_statuses_without_body(proxy, serve):
    def answer(head, body):
        if head.first.startswith("HEAD"):
            return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        return b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
    serve(keep_answering(answer))
    wire = proxy.ask(get(f"/{TOKEN}/").replace("GET", "HEAD", 1))
    assert wire.head().get("content-length") == "5"
    wire.send(get(f"/{TOKEN}/"))
    assert wire.head().status == 304
    wire.send(get("/ready"))
    assert wire.head().status == 200


@pytest.mark.fault
@pytest.mark.parametrize("request_text", [
    "POST {t} HTTP/1.1\r\nHost: {h}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST {t} HTTP/1.1\r\nHost: {h}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST {t} HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST {t} HTTP/1.1\r\nHost: {h}\r\nContent-Length: +5\r\n\r\nhello",
    "GET {t} HTTP/1.1\r\nHost: {h}\r\nX: a\r\n b\r\n\r\n",
    "GET {t} HTTP/1.1\r\nHost: {h}\r\nX: a\rb\r\n\r\n",
    "GET {t} HTTP/1.1\r\nHost: {h}\r\nX : a\r\n\r\n",
    "GET {t} HTTP/1.1\r\nHost: {h}\r\nHost: other\r\n\r\n",
    "GET  {t} HTTP/1.1\r\nHost: {h}\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
])
def test_ambiguous_requests_are_refused_and_the_connection_ends(proxy, serve, request_text):
    upstream = serve(keep_answering(echo_head))
    wire = proxy.ask(request_text.format(t=f"/{TOKEN}/", h=CLUSTER) + get("/ready"))
    answer = wire.rest()
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1
    assert upstream.connections == 0


@pytest.mark.parametrize("chunk", ["5x\r\nhello\r\n", "-1\r\n", "5\nhello\r\n", "5\r\nhelloX\r\n",
                                   "fffffffffffffffff\r\n"])
def test_broken_chunks_end_the_connection(proxy, serve, chunk):
    serve(keep_answering(echo_head))
    wire = proxy.ask(f"POST /{TOKEN}/ HTTP/1.1\r\nHost: {CLUSTER}\r\n"
                     f"Transfer-Encoding: chunked\r\n\r\n{chunk}")
    assert wire.rest().startswith(b"HTTP/1.1 400 ")


def test_heads_that_are_too_large(proxy, serve):
    serve(keep_answering(echo_head))
    wire = proxy.ask(get(f"/{TOKEN}/", CLUSTER, *[f"X-{i}: 1" for i in range(200)]))
    assert wire.head().status == 431
    wire = proxy.ask(get(f"/{TOKEN}/", CLUSTER, "X: " + "y" * 100000))
    assert wire.head().status == 431


@pytest.mark.fault
@pytest.mark.parametrize("answer", [
    b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100000])
def test_backends_that_break_give_502(proxy, serve, answer):
    def handle(wire):
        wire.head()
        wire.send(answer)
    serve(handle)
    head, _ = proxy.ask(get(f"/{TOKEN}/")).answer()
    assert head.status == 502 and head.get("x-plane-backend-id") == "bk"


@pytest.mark.fault
def test_a_backend_that_refuses_gives_502(proxy, controller):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = "127.0.0.1:%d" % closed.getsockname()[1]
    controller.routes[TOKEN] = route(address)
    assert proxy.ask(get(f"/{TOKEN}/")).answer()[0].status == 502


def test_an_answer_that_is_cut_off_is_cut_off_for_the_client(proxy, serve):
    def handle(wire):
        wire.head()
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    serve(handle)
    wire = proxy.ask(get(f"/{TOKEN}/"))
    assert wire.head().status == 200
    assert wire.rest() == b"only this"


def test_a_request_is_held_until_its_backend_is_ready(proxy, controller):
    upstream = Upstream(keep_answering(lambda head, body: ok(b"at last")))
    wires = [proxy.ask(get(f"/{TOKEN}/")) for _ in range(20)]
    deadline = time.monotonic() + 10
    while TOKEN not in controller.asked and time.monotonic() < deadline:
        time.sleep(0.01)
    assert controller.asked.count(TOKEN) == 1
    controller.routes[TOKEN] = route(upstream.address)
    controller.tell_route(TOKEN)
    for wire in wires:
        assert wire.answer()[1] == b"at last"
    upstream.stop()


def test_a_held_request_survives_a_new_controller_connection(proxy, controller):
    upstream = Upstream(keep_answering(lambda head, body: ok(b"at last")))
    wire = proxy.ask(get(f"/{TOKEN}/"))
    while not controller.asked:
        time.sleep(0.01)
    controller.routes[TOKEN] = route(upstream.address)
    controller.drop()
    assert wire.answer()[1] == b"at last"
    upstream.stop()


def test_ready_follows_the_connection_and_known_links_go_on(proxy, serve, controller):
    serve(keep_answering(lambda head, body: ok(b"x")))
    assert proxy.ask(get(f"/{TOKEN}/")).answer()[0].status == 200
    controller.stop()
    deadline = time.monotonic() + 10
    controller_gone = False
    while not controller_gone and time.monotonic() < deadline:
        controller_gone = proxy.ask(get("/ready")).answer()[0].status == 503
    assert controller_gone
    assert proxy.ask(get(f"/{TOKEN}/")).answer()[0].status == 200
    controller.stop = lambda: None


def upgrade(path=f"/{TOKEN}/ws"):
    return get(path, CLUSTER, "Connection: Upgrade", "Upgrade: thing")


SWITCH = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: thing\r\n\r\n"


def test_an_upgrade_becomes_a_tunnel_with_half_close(proxy, serve):
    def handle(wire):
        head = wire.head()
        assert head.get("upgrade") == "thing"
        wire.send(SWITCH + "early")
        got = wire.rest()
        wire.send(b"after your end: " + got)
    serve(handle)
    wire = proxy.ask(upgrade() + "sent at once ")
    assert wire.head().status == 101
    assert wire.exactly(5) == b"early"
    wire.send("and more")
    wire.sock.shutdown(socket.SHUT_WR)
    assert wire.rest() == b"after your end: sent at once and more"


def test_a_refused_upgrade_keeps_its_answer(proxy, serve):
    serve(keep_answering(lambda head, body: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nnot so"))
    head, body = proxy.ask(upgrade()).answer()
    assert head.status == 403 and body == b"not so"


def test_a_tunnel_carries_much_both_ways(proxy, serve):
    size = 20 << 20

    def handle(wire):
        wire.head()
        wire.send(SWITCH)
        while True:
            if not wire.data:
                wire.fill()
            data, wire.data = wire.data, b""
            wire.send(data)
    serve(handle)
    wire = proxy.ask(upgrade())
    wire.head()
    payload = os.urandom(1 << 20)
    thread = threading.Thread(target=lambda: [wire.send(payload) for _ in range(size >> 20)])
    thread.start()
    for _ in range(size >> 20):
        assert wire.exactly(1 << 20) == payload
    thread.join()


def test_use_is_told_and_goes_on_while_a_tunnel_or_an_answer_lasts(proxy, serve, controller):
    go_on = threading.Event()

    def handle(wire):
        head = wire.head()
        if head.get("upgrade"):
            wire.send(SWITCH)
            wire.rest()
        else:
            wire.send("HTTP/1.1 200 OK\r\n\r\nfirst")
            go_on.wait(30)
    serve(handle)
    wire = proxy.ask(get(f"/{TOKEN}/"))
    assert controller.kept_alive.get(timeout=5) == "bk"
    for _ in range(2):
        assert controller.kept_alive.get(timeout=10) == "bk"
    go_on.set()
    wire.rest()


def test_a_removed_backend_is_asked_for_again(proxy, serve, controller):
    serve(keep_answering(lambda head, body: ok(b"x")))
    assert proxy.ask(get(f"/{TOKEN}/")).answer()[0].status == 200
    controller.routes[TOKEN] = None
    controller.send({"BackendRemoved": {"backend": "bk"}})
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if proxy.ask(get(f"/{TOKEN}/")).answer()[0].status == 410:
            break
    assert proxy.ask(get(f"/{TOKEN}/")).answer()[0].status == 410


def echo_tunnel(wire):
    wire.head()
    wire.send(SWITCH)
    while True:
        if not wire.data:
            wire.fill()
        data, wire.data = wire.data, b""
        wire.send(data)


def two_tunnels(proxy, serve):
    """Of alice, by TOKEN, and of bob."""
    bob = "b" * 43
    serve(echo_tunnel, user="alice")
    serve(echo_tunnel, token=bob, user="bob")
    hers, his = proxy.ask(upgrade()), proxy.ask(upgrade(f"/{bob}/ws"))
    assert hers.head().status == 101 and his.head().status == 101
    return hers, his


def test_a_proxy_that_was_away_asks_what_was_revoked_and_cuts_that(proxy, serve, controller):
    hers, his = two_tunnels(proxy, serve)
    controller.drop()
    his.send("still")  # nothing is asked of a controller that does not say that it knows how
    assert his.exactly(5) == b"still"
    while not controller.sockets:
        time.sleep(0.01)
    controller.missed = ["alice"]
    controller.drop()
    assert hers.rest() == b""
    # the one before may not have known of what was revoked long before the connection was lost
    assert controller.since_ms.get(timeout=10) >= 600_000 and controller.since_ms.empty()
    his.send("there")
    assert his.exactly(5) == b"there"


def test_revoking_cuts_that_users_tunnels_only(proxy, serve, controller):
    hers, his = two_tunnels(proxy, serve)
    controller.routes[TOKEN] = None
    controller.send({"RevokeTokens": {"backend": "bk", "user": "alice"}})
    assert hers.rest() == b""
    his.send("still")
    assert his.exactly(5) == b"still"
    assert proxy.ask(get(f"/{TOKEN}/")).answer()[0].status == 410


def test_shutdown_lets_a_slow_request_finish(tmp_path, controller, serve):
    began, go_on = threading.Event(), threading.Event()

    def handle(wire):
        wire.head()
        began.set()
        go_on.wait(20)
        wire.send(ok(b"slow"))
    serve(handle)
    proxy = Proxy(tmp_path, controller)
    wire = proxy.ask(get(f"/{TOKEN}/"))
    assert began.wait(10)
    proxy.process.send_signal(signal.SIGTERM)
    with pytest.raises(ConnectionError):  # it takes nothing new any more
        while True:
            proxy.connect().sock.close()
    go_on.set()
    assert wire.answer()[1] == b"slow"
    assert proxy.process.wait(timeout=15) == 0
    proxy.log.close()


@pytest.fixture
def strict(tmp_path, controller):
    """A proxy with little patience and little room."""
    started = Proxy(tmp_path, controller, "--max-connections", "10", "--header-timeout-seconds",
                    "1", "--stall-timeout-seconds", "1")
    yield started
    assert started.stop() == 0, started.log_path.read_text()[-4000:]


def test_slow_clients_are_cut(strict, serve):
    serve(keep_answering(lambda head, body: ok(body)))
    head = strict.ask("GET /ready HTTP/1.1\r\nHost:")
    assert head.answer()[0].status == 408 and head.rest() == b""
    silent = strict.connect()
    assert silent.rest() == b""
    body = strict.ask(f"POST /{TOKEN}/ HTTP/1.1\r\nHost: {CLUSTER}\r\nContent-Length: 5\r\n\r\nab")
    assert body.rest() == b""


def test_a_client_that_reads_nothing_is_cut(strict, serve):
    ended = threading.Event()

    def handle(wire):
        wire.head()
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                wire.sock.sendall(b"x" * 65536)
        except OSError:
            ended.set()
    serve(handle)
    wire = strict.ask(get(f"/{TOKEN}/"))
    assert ended.wait(20)
    wire.sock.close()


def test_a_crowd_is_refused_and_room_comes_back(strict):
    crowd = [strict.ask(get("/ready")) for _ in range(10)]
    assert {wire.answer()[0].status for wire in crowd} == {200}
    assert strict.connect().answer()[0].status == 503
    for wire in crowd:
        wire.sock.close()
    deadline = time.monotonic() + 10
    while strict.ask(get("/ready")).answer()[0].status != 200:
        assert time.monotonic() < deadline


def test_many_half_closed_tunnels_after_a_pause(proxy, serve):
    # their deadline is further away than the wheel of deadlines is long, and the wheel has to catch
    # up with the pause: it must not meet them again and again
    go_on = threading.Event()

    def handle(wire):
        wire.head()
        wire.send(SWITCH)
        go_on.wait(30)
    serve(handle)
    wires = [proxy.ask(upgrade()) for _ in range(100)]
    assert {wire.head().status for wire in wires} == {101}
    time.sleep(1.5)  # nothing happens, and the proxy does not wake
    proxy.process.send_signal(signal.SIGSTOP)
    for wire in wires:
        wire.sock.shutdown(socket.SHUT_WR)
    proxy.process.send_signal(signal.SIGCONT)
    for _ in range(20):  # both workers
        assert proxy.ask(get("/ready")).answer()[0].status == 200
    go_on.set()


@pytest.mark.fault
def test_garbage_does_not_disturb_others(proxy, serve):
    serve(keep_answering(lambda head, body: ok(b"fine")))
    for length in (1, 10, 1000, 100000):
        with contextlib.suppress(OSError):
            proxy.ask(os.urandom(length)).sock.close()
    assert proxy.ask(get(f"/{TOKEN}/")).answer()[1] == b"fine"


@pytest.mark.fault
def test_a_port_in_use_is_told(tmp_path, controller, proxy):
    result = subprocess.run(
        [str(PLANE), "proxy", "--controller-url", f"http://127.0.0.1:{controller.port}",
         "--cluster", CLUSTER, "--host", "127.0.0.1", "--http-port", str(proxy.address[1])],
        capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert "in use" in result.stderr
