"""HTTPS of the controller itself: what it shows and asks for, what client certificates may do, new
certificates while it runs, and peers that do not mean well."""

import asyncio
import contextlib
import http.client
import http.server
import json
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest
import websockets

from certificates import Authority
from hosts import Hosts
from roles import Role
from serve import EXAMPLES, PLANE, Serve, echo_once, request, wait_until
from test_controller import CLUSTER, DRIVER, VERSION, Answer, Controller, connect_body
from test_security import bearer, create, plane, readable, revoke  # noqa: F401

pytestmark = [pytest.mark.timeout(120),
              pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")]
DRONE_SOCKET = f"/ctrl/c/{CLUSTER}/drone-socket"
HANDSHAKES_MAX = 256  # as in src/net/http_server.c
ENV = {k: v for k, v in os.environ.items() if k != "PLANE_CONTROLLER_TOKEN"}


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """An authority for servers, one for clients, and one that nobody trusts."""
    directory = tmp_path_factory.mktemp("tls")
    servers, clients, strangers = (
        Authority(directory, name) for name in ("servers", "clients", "strangers"))
    for name in ("server", "renewed"):
        servers.issue(name, "DNS:localhost,IP:127.0.0.1", usage="serverAuth")
    for name, subject in (("node-1", "/CN=node-1"), ("reader", "/CN=reader"),
                          ("unlisted", "/CN=unlisted"), ("nameless", "/O=nobody"),
                          ("two-names", "/CN=node-1/CN=reader"), ("strange", "/CN=no de#1")):
        clients.issue(name, None, subject)
    clients.issue("expired", None, "/CN=node-1", expires_in=-86400)
    clients.issue("for-servers", None, "/CN=node-1", usage="serverAuth")
    clients.issue("huge", ",".join(f"DNS:{i:04}{'x' * 50}.test" for i in range(1000)), "/CN=node-1")
    strangers.issue("stranger", None, "/CN=node-1")
    clients.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-aes256", "-pass", "pass:x", "-out", "locked.key")
    (directory / "locked.key").chmod(0o600)
    (directory / "empty.pem").write_text("nothing\n")
    return directory


class Tls(Controller):
    """A controller that speaks HTTPS; its certificate and key are copies that a test may change."""

    def __init__(self, directory, certs, *flags, **more):
        self.certs = certs
        self.cert, self.key = directory / "live.pem", directory / "live.key"
        self.install("server")
        super().__init__(directory, "--tls-cert", str(self.cert), "--tls-key", str(self.key),
                         *flags, **more)

    def install(self, name):
        shutil.copy(self.certs / f"{name}.pem", self.cert)
        shutil.copy(self.certs / f"{name}.key", self.key)

    def context(self, client=None, authority="servers"):
        context = ssl.create_default_context(cafile=self.certs / f"{authority}.pem")
        if client:
            context.load_cert_chain(self.certs / f"{client}.pem", self.certs / f"{client}.key")
        return context

    def request(self, method, path, body=None, headers=None, timeout=60, client=None):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if data is not None else {}
        with contextlib.closing(http.client.HTTPSConnection(
                self.address, timeout=timeout, context=self.context(client))) as connection:
            connection.request(method, path, data, {**kind, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def raw(self):
        host, port = self.address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=60)

    def wrapped(self, client=None, context=None):
        return (context or self.context(client)).wrap_socket(
            self.raw(), server_hostname="localhost")

    def socket(self, path, client=None, token=None):
        return websockets.connect(f"wss://{self.address}{path}", max_size=None,
                                  ssl=self.context(client),
                                  extra_headers=bearer(token) if token else {})

    def log_text(self):
        return (self.directory / "controller.log").read_text(errors="replace")

    def shown(self):
        """The certificate that a new connection is shown, in PEM form."""
        with self.wrapped() as connection:
            return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))


@contextlib.contextmanager
def running(*words, **more):
    controller = Tls(*words, **more)
    try:
        yield controller
    finally:
        status = controller.stop()
    text = controller.log_text()
    assert status == 0, text[-4000:]
    assert "Sanitizer" not in text and "runtime error" not in text, text[-4000:]


@pytest.fixture
def plain_tls(tmp_path, certs):
    with running(tmp_path, certs) as controller:
        yield controller


@pytest.fixture
def guarded(tmp_path, certs):
    """With client certificates, which a token file gives scopes to."""
    tokens = tmp_path / "tokens"
    create(tokens, "one", "node", "--certificate", "node-1")
    create(tokens, "two", "read", "--certificate", "reader")
    with running(tmp_path, certs, "--api-token-file", str(tokens), "--tls-client-ca",
                 str(certs / "clients.pem")) as controller:
        controller.tokens = tokens
        yield controller


async def shake_hands(ws, name="dr-one"):
    await ws.send(json.dumps({"version": VERSION, "name": name}))
    while "version" not in json.loads(await asyncio.wait_for(ws.recv(), 20)):
        pass


async def expect_close(ws, code=1008):
    with pytest.raises(websockets.ConnectionClosed) as closed:
        while True:
            await asyncio.wait_for(ws.recv(), 20)
    assert closed.value.rcvd and closed.value.rcvd.code == code


async def expect_life(ws):
    """The session of a drone goes on: it is answered."""
    await ws.send(json.dumps({"BackendEvent": {
        "event_id": 1, "backend_id": "none", "state": {"status": "loading"}, "timestamp": 1}}))
    while "AckEvent" not in json.loads(await asyncio.wait_for(ws.recv(), 20)):
        pass


async def aside(function, *arguments):
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


# ---- what is spoken ----


def test_the_api_is_served_by_https(plain_tls):
    assert plain_tls.get("/ctrl/status").json()["status"] == "ok"
    answer = plain_tls.connect()
    assert answer.status == 500 and answer.json()["kind"] == "NoDroneAvailable"
    with contextlib.closing(http.client.HTTPSConnection(
            plain_tls.address, context=plain_tls.context())) as connection:
        for _ in range(3):  # one connection
            connection.request("GET", "/pub/health")
            assert connection.getresponse().read() == b'{"status":"ok"}'
        kept = connection.sock
        assert kept is not None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_modern_versions_have_forward_secrecy_and_no_resumption(plain_tls, version):
    context = plain_tls.context()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with plain_tls.wrapped(context=context) as connection:
        assert re.search("GCM|CHACHA20", connection.cipher()[0])
        assert version == ssl.TLSVersion.TLSv1_3 or connection.cipher()[0].startswith("ECDHE")
        assert connection.selected_alpn_protocol() == "http/1.1"
        assert connection.compression() is None
        connection.sendall(b"GET /pub/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.makefile("rb").read().endswith(b'{"status":"ok"}')
        assert connection.session is None or not connection.session.has_ticket


def test_old_versions_and_weak_ciphers_are_refused(plain_tls):
    old = plain_tls.context()
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    weak = plain_tls.context()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA:AES128-SHA:@SECLEVEL=0")
    other = plain_tls.context()
    other.set_alpn_protocols(["h2"])
    for context in (old, weak, other):
        with pytest.raises(ssl.SSLError):
            plain_tls.wrapped(context=context)
    assert plain_tls.get("/pub/health").status == 200


def test_renegotiation_is_refused(plain_tls):
    result = subprocess.run(
        ["openssl", "s_client", "-connect", plain_tls.address, "-tls1_2", "-CAfile",
         plain_tls.certs / "servers.pem"], input="R\n", capture_output=True, text=True, timeout=60)
    assert "RENEGOTIATING" in result.stdout + result.stderr
    assert "no renegotiation" in result.stderr
    assert plain_tls.get("/pub/health").status == 200


@pytest.mark.parametrize("text", [
    b"GET /ctrl/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST /ctrl/connect HTTP/1.1\r\nHost: localhost\r\n"],
    ids=["GET", "POST"])
def test_http_on_the_port_is_told_to_use_https(plain_tls, text):
    with plain_tls.raw() as connection:
        connection.sendall(text)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ") and b"speaks HTTPS" in answer
    assert b"ok" not in answer.split(b"\r\n\r\n")[1]


def test_the_url_of_answers_is_https(plain_tls):
    async def story():
        async with plain_tls.socket(DRONE_SOCKET) as ws:
            await shake_hands(ws)
            await ws.send(json.dumps({"Heartbeat": {"local_time": 1000}}))
            await expect_life(ws)
            answer = await plain_tls.aconnect()
            assert answer.status == 200, answer.body
            assert answer.json()["status_url"].startswith(f"https://{plain_tls.address}/pub/b/")
    asyncio.run(story())


# ---- peers that do not mean well ----


def record(kind, payload):
    return struct.pack(">BHH", kind, 0x0301, len(payload)) + payload


GARBAGE = {
    "nothing": b"", "a NUL": b"\0", "half a record's head": b"\x16\x03\x01",
    "noise": os.urandom(4096), "ones": b"\xff" * 70000,
    "half a hello": record(22, b"\x01\x00\x00\x02\x03\x03"),
    "a hello without end": record(22, b"\x01\xff\xff\xff" + b"x" * 16000),
    "data": record(23, b"x" * 100), "an alert": record(21, b"\x02\x28"),
    "a change of cipher": record(20, b"\x01"), "another method": b"OPTIONS / HTTP/1.1\r\n"}


@pytest.mark.parametrize("send", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_closed(plain_tls, send):
    """Also when the sender says that no more comes, in the middle of a handshake."""
    with plain_tls.raw() as connection:
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            connection.sendall(send)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass
    assert plain_tls.get("/pub/health").status == 200


def test_slow_handshakes_end_and_do_not_keep_others_out(plain_tls):
    """More of them than there is room for, each after a piece of a hello."""
    with contextlib.ExitStack() as stack:
        slow = []
        for _ in range(HANDSHAKES_MAX + 20):
            connection = stack.enter_context(plain_tls.raw())
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")
            slow.append(connection)
        assert plain_tls.get("/pub/health").status == 200
        for connection in (slow[0], slow[-1]):
            with contextlib.suppress(ConnectionError):
                assert connection.recv(100) == b""  # within the socket's minute


def client_hello_in_bytes(plain_tls):
    """What a client sends first, as single bytes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = plain_tls.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return tls, incoming, outgoing


def test_a_handshake_in_single_bytes_is_fine(plain_tls):
    tls, incoming, outgoing = client_hello_in_bytes(plain_tls)
    with plain_tls.raw() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send():
            for byte in outgoing.read():
                connection.sendall(bytes([byte]))
        send()
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(connection.recv(7))
        tls.write(b"GET /pub/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        send()
        text = b""
        while b'{"status":"ok"}' not in text:
            try:
                text += tls.read(1000)
            except ssl.SSLWantReadError:
                incoming.write(connection.recv(7))
        while data := connection.recv(1000):
            incoming.write(data)
        assert tls.read(10) == b""  # the end was told: close_notify


@pytest.mark.parametrize("send", [
    b"GET /pub/health HTT",
    b"POST /ctrl/connect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"],
    ids=["head", "body"])
@pytest.mark.parametrize("is_told", [True, False])
def test_half_a_request_is_no_request(plain_tls, send, is_told):
    with plain_tls.wrapped() as connection:
        connection.sendall(send)
        if is_told:  # close_notify; the answer to it is the server's
            with contextlib.suppress(OSError):
                connection.unwrap()
        else:
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                assert connection.recv(1000) == b""
    assert plain_tls.get("/pub/health").status == 200


def test_records_that_are_changed_on_the_way_end_the_connection(plain_tls):
    tls, incoming, outgoing = client_hello_in_bytes(plain_tls)
    with plain_tls.raw() as connection:
        while True:
            connection.sendall(outgoing.read())
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(connection.recv(65536))
        connection.sendall(outgoing.read())
        tls.write(b"GET /pub/health HTTP/1.1\r\nHost: x\r\n\r\n")
        bad = bytearray(outgoing.read())
        bad[-1] ^= 1
        connection.sendall(bad)
        rest = connection.makefile("rb").read()
        incoming.write(rest)
        with pytest.raises(ssl.SSLError):  # an alert
            tls.read(1000)
    assert plain_tls.get("/pub/health").status == 200


# ---- large and long answers ----


def test_large_bodies_and_answers(plain_tls):
    too_large = plain_tls.post("/ctrl/connect", b"x" * (3 << 20))
    assert too_large.status == 413
    large = plain_tls.post("/ctrl/connect", connect_body(executable={
        "image": "echo", "env": {"A": "x" * (1 << 20)}}))
    assert large.status == 500 and large.json()["kind"] == "NoDroneAvailable"

    async def story():
        async with plain_tls.socket(DRONE_SOCKET) as ws:
            await ws.send(json.dumps({"version": VERSION, "name": "dr-one", "extensions": ["logs"]}))
            await ws.recv()
            await ws.send(json.dumps({"Heartbeat": {"local_time": 1000}}))
            await expect_life(ws)
            answer = await plain_tls.aconnect(executable={
                "image": "echo", "env": {"A": "y" * (1 << 20)}})
            action = json.loads(await asyncio.wait_for(ws.recv(), 20))
            assert "y" * (1 << 20) in json.dumps(action)
            asked = asyncio.ensure_future(
                plain_tls.aget(f"/ctrl/b/{answer.json()['backend_id']}/logs"))
            while True:
                message = json.loads(await asyncio.wait_for(ws.recv(), 20))
                if "LogsRequest" in message:
                    break
            lines = ["z" * 100000 + "\n"] * 30
            for i, line in enumerate(lines):
                await ws.send(json.dumps({"LogsChunk": {
                    "request_id": message["LogsRequest"]["request_id"], "data": line,
                    "end": i == len(lines) - 1}}))
            logs = await asyncio.wait_for(asked, 60)
            assert logs.status == 200 and logs.body == "".join(lines).encode()
    asyncio.run(story())


def test_a_status_stream_comes_as_it_happens_and_ends_whole(plain_tls):
    async def story():
        async with plain_tls.socket(DRONE_SOCKET) as ws:
            await shake_hands(ws)
            await ws.send(json.dumps({"Heartbeat": {"local_time": 1000}}))
            await expect_life(ws)
            backend = (await plain_tls.aconnect()).json()["backend_id"]
            host, port = plain_tls.address.rsplit(":", 1)
            reader, writer = await asyncio.open_connection(
                host, int(port), ssl=plain_tls.context(), server_hostname="localhost")
            writer.write(f"GET /pub/b/{backend}/status-stream HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b'"scheduled"')

            async def event(number, state):
                await ws.send(json.dumps({"BackendEvent": {
                    "event_id": number, "backend_id": backend, "state": state, "timestamp": 1}}))
            await event(2, {"status": "loading"})
            await asyncio.wait_for(reader.readuntil(b'"loading"'), 20)
            await event(3, {"status": "terminated", "last_status": "loading", "termination": "hard",
                            "reason": "external", "exit_code": 1})
            rest = await asyncio.wait_for(reader.read(), 20)  # raises if TLS is cut
            assert b'"terminated"' in rest and rest.endswith(b"0\r\n\r\n")
            writer.close()
    asyncio.run(story())


# ---- client certificates ----


def test_certificates_have_the_scopes_of_their_entries(guarded):
    status = lambda **more: guarded.get("/ctrl/status", **more)  # noqa: E731
    assert status().status == 401
    assert "client certificate" in status().json()["message"]
    assert status(client="reader").status == 200
    lacking = status(client="node-1")
    assert lacking.status == 403 and "certificate does not have" in lacking.json()["message"]
    for name in ("unlisted", "nameless", "two-names", "strange"):
        unknown = status(client=name)
        assert unknown.status == 401, name
        assert "certificate is not known" in unknown.json()["message"]
    # a token decides where there is one
    assert status(client="reader", headers=bearer("plane_x")).status == 401
    assert guarded.get("/pub/health").status == 200

    async def story():
        async with guarded.socket(DRONE_SOCKET, "node-1") as ws:
            await shake_hands(ws)
            await expect_life(ws)
        with pytest.raises(websockets.InvalidStatusCode) as refused:
            async with guarded.socket(DRONE_SOCKET, "reader"):
                pass
        assert refused.value.status_code == 403
    asyncio.run(story())


@pytest.mark.parametrize("name", ["stranger", "expired", "for-servers", "huge"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_cannot_be_trusted_ends_the_connection(guarded, name, version):
    context = guarded.context(name)
    context.minimum_version = context.maximum_version = version
    with pytest.raises(OSError) as refused:  # in TLS 1.3 the client hears of it with the answer
        with guarded.wrapped(context=context) as connection:
            connection.sendall(b"GET /pub/health HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(1000)
    assert isinstance(refused.value, (ssl.SSLError, ConnectionError))
    wait_until(lambda: "TLS handshake" in guarded.log_text(), 20, "the reason in the log")
    assert guarded.get("/ctrl/status", client="reader").status == 200


def test_a_revoked_entry_ends_what_the_certificate_opened(guarded):
    async def story():
        async with guarded.socket(DRONE_SOCKET, "node-1") as ws:
            await shake_hands(ws)
            await aside(revoke, guarded.tokens, "one")
            await expect_close(ws)
        with pytest.raises(websockets.InvalidStatusCode) as refused:
            async with guarded.socket(DRONE_SOCKET, "node-1"):
                pass
        assert refused.value.status_code == 401
    asyncio.run(story())


def test_required_certificates_and_one_authority_without_tokens(tmp_path, certs):
    """The authority's word is enough; what it said is forgotten when it is another's turn."""
    authority = tmp_path / "authority.pem"
    shutil.copy(certs / "clients.pem", authority)
    with running(tmp_path, certs, "--tls-client-ca", str(authority), "--tls-require-client-cert",
                 "yes", listen="0.0.0.0:0") as controller:
        controller.address = controller.address.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(OSError):
            controller.get("/pub/health")
        assert controller.get("/ctrl/status", client="unlisted").status == 200

        async def story():
            async with controller.socket(DRONE_SOCKET, "nameless") as ws:
                await shake_hands(ws)
                shutil.copy(certs / "strangers.pem", authority)
                await expect_close(ws)
        asyncio.run(story())
        with pytest.raises(OSError):
            controller.get("/ctrl/status", client="unlisted")
        assert controller.get("/ctrl/status", client="stranger").status == 200


def test_a_certificate_that_expires_ends_what_it_opened(tmp_path, certs):
    clients = Authority(tmp_path, "brief")
    clients.issue("short", None, "/CN=short", expires_in=8)
    for path in ("short.pem", "short.key"):
        shutil.copy(tmp_path / path, certs / path)
    with running(tmp_path, certs, "--tls-client-ca", str(clients.path)) as controller:
        async def story():
            async with controller.socket(DRONE_SOCKET, "short") as ws:
                await shake_hands(ws)
                await expect_close(ws)
        asyncio.run(story())
        with pytest.raises(OSError):
            controller.get("/ctrl/status", client="short")


# ---- new certificates ----


def test_a_new_certificate_counts_for_new_connections_and_cuts_none(plain_tls):
    old = (plain_tls.certs / "server.pem").read_text().strip()
    new = (plain_tls.certs / "renewed.pem").read_text().strip()

    async def story():
        async with plain_tls.socket(DRONE_SOCKET) as ws:
            await shake_hands(ws)
            assert (await aside(plain_tls.shown)).strip() == old
            plain_tls.install("renewed")
            plain_tls.process.send_signal(signal.SIGHUP)
            await aside(wait_until, lambda: plain_tls.shown().strip() == new, 20, "the new one")
            await expect_life(ws)
    asyncio.run(story())
    text = plain_tls.log_text()
    assert "SIGHUP" in text and text.count("good until") == 2


def test_a_certificate_that_does_not_fit_is_told_and_changes_nothing(plain_tls):
    shown = plain_tls.shown()
    expiry = int(re.search(r"^plane_tls_certificate_expires_timestamp_seconds (\d+)$",
                           plain_tls.get("/metrics").body.decode(), re.M).group(1))
    assert 86400 < expiry - time.time() <= 2 * 86400
    shutil.copy(plain_tls.certs / "renewed.key", plain_tls.key)
    wait_until(lambda: "does not belong" in plain_tls.log_text(), 20, "the reason in the log")
    assert plain_tls.shown() == shown
    plain_tls.key.chmod(0o644)
    wait_until(lambda: "chmod 600" in plain_tls.log_text(), 20, "the reason in the log")
    plain_tls.cert.unlink()
    wait_until(lambda: "No such file" in plain_tls.log_text(), 20, "the reason in the log")
    assert plain_tls.shown() == shown
    assert plain_tls.log_text().count("stays in force") == 3
    plain_tls.key.chmod(0o600)
    plain_tls.install("renewed")
    wait_until(lambda: plain_tls.shown() != shown, 20, "the new one")


# ---- flags ----


@pytest.mark.parametrize("flags, told", [
    (["--tls-cert", "server.pem"], "belong together"),
    (["--tls-client-ca", "clients.pem"], "needs TLS"),
    (["--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-require-client-cert"],
     "--tls-client-ca FILE"),
    (["--tls-cert", "server.pem", "--tls-key", "renewed.key"], "does not belong"),
    (["--tls-cert", "empty.pem", "--tls-key", "server.key"], "no certificate"),
    (["--tls-cert", "server.pem", "--tls-key", "empty.pem"], "empty.pem"),
    (["--tls-cert", "server.pem", "--tls-key", "locked.key"], "passphrase"),
    (["--tls-cert", "missing.pem", "--tls-key", "server.key"], "No such file"),
    (["--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "empty.pem"],
     "no certificate"),
    (["--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "clients.pem",
      "--insecure-no-auth"], "contradicts"),
    (["--tls-cert", "server.pem", "--tls-key", "server.key", "--host", "0.0.0.0"],
     "--tls-client-ca"),
    (["--forward-auth", "https://127.0.0.1:1/", "--forward-auth-ca", "empty.pem"],
     "no certificate")])
def test_wrong_flags_are_told(tmp_path, certs, flags, told):
    (certs / "empty.pem").chmod(0o600)
    result = plane("controller", "--db", f"sqlite:{tmp_path}/db", "--port", "0", *flags, check=False,
                   cwd=certs)
    assert result.returncode == 1 and told in result.stderr, result.stderr


@pytest.mark.parametrize("role, fields, told", [
    ("Controller", {"tls_cert": "server.pem"}, "belong together"),
    ("Controller", {"tls_client_ca": "clients.pem"}, "needs TLS"),
    ("Controller", {"tls_cert": "server.pem", "tls_key": "server.key",
                    "tls_require_client_cert": True}, "--tls-client-ca FILE"),
    ("Controller", {"forward_auth": "https://127.0.0.1:1/", "forward_auth_cert": "reader.pem"},
     "belong together"),
    ("Proxy", {"tls_ca": "servers.pem", "tls_pin": "server.pem"}, "not both"),
    ("Proxy", {"tls_key": "reader.key"}, "belong together"),
    ("Drone", {"tls_cert": "reader.pem"}, "belong together")])
def test_a_configuration_file_has_the_same(tmp_path, certs, role, fields, told):
    common = {"controller_url": "https://127.0.0.1:1"}
    common.update({
        "Controller": {"db_url": f"sqlite:{tmp_path}/db", "bind_addr": "127.0.0.1:0", "id": "co-a",
                       "best_of": 1},
        "Proxy": {"name": "px-a", "cluster": CLUSTER, "port_config": {"http_port": 0}},
        "Drone": {"name": "dr-a", "cluster": CLUSTER, "pool": ""}}[role])
    path = tmp_path / "role.json"
    path.write_text(json.dumps({role: {**common, **fields}}))
    result = plane("run-config", path, check=False, cwd=certs,
                   env={**ENV, "PLANE_DATA_DIR": str(tmp_path)})
    assert result.returncode == 1 and told in result.stderr, result.stderr


def test_a_key_that_others_may_read_is_refused(tmp_path, certs):
    key = tmp_path / "loose.key"
    shutil.copy(certs / "server.key", key)
    key.chmod(0o644)
    server = plane("controller", "--db", f"sqlite:{tmp_path}/db", "--port", "0", "--tls-cert",
                   certs / "server.pem", "--tls-key", key, check=False)
    client = plane("admin", "status", "--controller", "https://127.0.0.1:1", "--tls-cert",
                   certs / "node-1.pem", "--tls-key", key, check=False)
    for result in (server, client):
        assert result.returncode == 1 and "chmod 600" in result.stderr and str(key) in result.stderr


# ---- clients ----


@pytest.mark.parametrize("flags, told", [
    ([], "authority|issuer|self-signed"),
    (["--tls-ca", "clients.pem"], "cannot be trusted"),
    (["--tls-pin", "renewed.pem"], "cannot be trusted(.|\n)*the very one in renewed.pem"),
    (["--tls-pin", "servers.pem"], "cannot be trusted(.|\n)*the very one in servers.pem"),
    (["--tls-ca", "empty.pem"], "no certificate"),
    (["--tls-ca", "servers.pem", "--tls-pin", "server.pem"], "not both"),
    (["--tls-ca", "servers.pem", "--tls-cert", "node-1.pem"], "belong together")])
def test_admin_says_why_it_does_not_trust(plain_tls, flags, told):
    result = plane("admin", "status", "--controller", f"https://{plain_tls.address}", *flags,
                   check=False, cwd=plain_tls.certs, env=ENV)
    assert result.returncode == 1 and re.search(told, result.stderr), result.stderr


def test_admin_talks_by_tls(guarded):
    url = f"https://{guarded.address}"
    for flags in (["--tls-ca", "servers.pem"], ["--tls-pin", "server.pem"]):
        words = ["admin", "backends", "--controller", url, *flags]
        assert plane(*words, "--tls-cert", "reader.pem", "--tls-key", "reader.key",
                     cwd=guarded.certs, env=ENV).returncode == 0
        none = plane(*words, check=False, cwd=guarded.certs, env=ENV)
        assert none.returncode == 1 and "client certificate" in none.stderr
    plain = plane("admin", "status", "--controller", url.replace("https", "http"), check=False,
                  env=ENV)
    assert plain.returncode == 1 and "speaks HTTPS" in plain.stderr
    mixed = plane("admin", "status", "--controller", url.replace("https", "http"), "--tls-ca",
                  "servers.pem", check=False, cwd=guarded.certs, env=ENV)
    assert mixed.returncode == 1 and "begin it with https://" in mixed.stderr


@contextlib.contextmanager
def started(directory, role, *words):
    """A role that runs until the end, and its log."""
    path = directory / f"{role}.log"
    with open(path, "w") as log:
        process = subprocess.Popen([PLANE, role, *map(str, words)], stdout=log, stderr=log, env=ENV)
    try:
        yield path.read_text
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=40)
    assert status == 0, path.read_text()


@pytest.mark.parametrize("url, flags, told", [
    ("https://{}", [], "not trusted"),
    ("wss://{}", ["--tls-ca", "clients.pem"], "not trusted"),
    ("https://{}", ["--tls-pin", "renewed.pem"], "it is not the one that is pinned"),
    ("https://{}", ["--tls-pin", "servers.pem"], "it is not the one that is pinned"),
    ("http://{}", [], "400 This port speaks HTTPS"),
    ("https://{}", ["--tls-ca", "servers.pem"], "401"),
    ("https://{}", ["--tls-ca", "servers.pem", "--tls-cert", "reader.pem", "--tls-key",
                    "reader.key"], "403"),
    ("https://{}", ["--tls-ca", "servers.pem", "--tls-cert", "stranger.pem", "--tls-key",
                    "stranger.key"], "alert unknown ca")])
def test_a_node_says_why_it_cannot_connect(tmp_path, guarded, url, flags, told):
    flags = [str(guarded.certs / word) if "." in word else word for word in flags]
    with started(tmp_path, "proxy", "--controller-url", url.format(guarded.address), "--cluster",
                 CLUSTER, "--host", "127.0.0.1", "--http-port", "0", *flags) as log:
        wait_until(lambda: told in log(), 20, "the reason in the log")


def test_forward_auth_by_tls(tmp_path, certs):
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.connection.getpeercert()["subject"])
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.pem", certs / "server.key")
    context.load_verify_locations(certs / "clients.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True,
                                        do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_address[1]}/"
    show = ["--forward-auth-cert", str(certs / "reader.pem"), "--forward-auth-key",
            str(certs / "reader.key")]
    for authority, flags, status in (("servers", show, 200), ("clients", show, 502),
                                     ("servers", [], 502)):
        with running(tmp_path, certs, "--forward-auth", url, "--forward-auth-ca",
                     str(certs / f"{authority}.pem"), *flags) as controller:
            assert controller.get("/ctrl/status").status == status
    assert seen == [((("commonName", "reader"),),)]
    server.shutdown()
    server.server_close()


# ---- whole clusters ----


def first_line(result):
    return json.loads(result.stdout.splitlines()[0])


def test_drone_and_proxy_of_other_machines_by_tls(tmp_path, certs):
    """Client certificate for the drone, token for the proxy, and a real backend between them."""
    servers = Authority(tmp_path, "authority")
    tokens = tmp_path / "tokens"
    create(tokens, "drone", "node", "--certificate", "node-1")
    (tmp_path / "node.token").touch(0o600)
    (tmp_path / "node.token").write_text(create(tokens, "proxy", "node"))
    create(tokens, "ops", "connect,read", "--certificate", "reader")
    with Hosts("control", "drone", "proxy") as hosts:
        cert, key = servers.issue("control", f"IP:{hosts.control.address}")
        url = f"{hosts.control.address}:8080"
        trust = ["--cluster", CLUSTER, "--tls-ca", servers.path]
        data = tmp_path / "data"
        plane("image", "import", "echo", EXAMPLES / "echo.tar", "--data-dir", data)
        roles = []

        def add(host, name, *words):
            roles.append(Role(host, tmp_path, name, [name, *words]).start())

        def admin(*words, **more):
            with hosts.control.inside():
                return plane("admin", *words, "--controller", f"https://{url}", "--tls-ca",
                             servers.path, "--tls-cert", certs / "reader.pem", "--tls-key",
                             certs / "reader.key", env=ENV, **more)
        try:
            add(hosts.control, "controller", "--db", f"sqlite:{tmp_path}/controller.db", "--host",
                "0.0.0.0", "--port", "8080", "--api-token-file", tokens, "--tls-cert", cert,
                "--tls-key", key, "--tls-client-ca", certs / "clients.pem")
            add(hosts.proxy, "proxy", "--controller-url", f"wss://{url}", *trust, "--host",
                "0.0.0.0", "--http-port", "9090", "--controller-token-file",
                tmp_path / "node.token")
            add(hosts.drone, "drone", "--controller-url", f"https://{url}", *trust, "--tls-cert",
                certs / "node-1.pem", "--tls-key", certs / "node-1.key", "--data-dir", data, "--ip",
                hosts.drone.address, "--proxy-allow", hosts.proxy.address, "--end-backends")
            link = first_line(admin("connect", "--image", "echo", "--cluster", CLUSTER, "--key",
                                    "room", "--json"))
            path = link["url"].split(CLUSTER)[1]

            async def talk():
                async with websockets.connect(f"ws://{CLUSTER}{path}ws", port=9090,
                                              host=str(hosts.proxy.address)) as ws:
                    await echo_once(ws, "by TLS")
                    # a new certificate for the controller, a lost entry for the drone
                    servers.issue("control", f"IP:{hosts.control.address}")
                    revoke(tokens, "drone")
                    wait_until(lambda: "answered 401" in roles[2].log_text(), 40, "the drone's log")
                    await echo_once(ws, "on it goes")  # until the lease ends
                    create(tokens, "drone", "node", "--certificate", "node-1")
            with hosts.control.inside():
                asyncio.run(talk())
            wait_until(lambda: roles[2].log_text().count("connected to controller") >= 2, 40,
                       "the drone is back")
            assert re.search(rf"{link['backend_id']} +ready +room", admin("backends").stdout)
        finally:
            statuses = [role.stop(signal.SIGINT) for role in reversed(roles)]
        texts = [role.log_text() for role in roles]
        assert set(statuses) == {0}, texts
        assert not any("Sanitizer" in text for text in texts), texts


def test_serve_by_tls(readable, certs):
    """Its own roles reach it although the certificate is for another name, and after a new one."""
    user = pwd.getpwnam("nobody")
    with contextlib.suppress(KeyError):
        user = pwd.getpwnam("plane")
    authority = Authority(readable, "authority")
    cert, key = authority.issue("own", "DNS:plane.test")
    tokens = readable / "tokens"
    admin = create(tokens, "ops", "connect,read,admin")
    for path in (tokens, key):
        os.chown(path, user.pw_uid, user.pw_gid)
    clients = shutil.copy(certs / "clients.pem", readable)
    serve = Serve(readable, map(str, ["--api-token-file", tokens, "--tls-cert", cert, "--tls-key",
                                      key, "--tls-client-ca", clients]))
    serve.is_ready = lambda: "connect with" in serve.log_text() and serve.process.poll() is None
    serve.start()
    try:
        assert f"https://{serve.listen}" in serve.log_text()
        (readable / "secret").touch(0o600)
        (readable / "secret").write_text(admin)
        words = ["--controller", f"https://{serve.listen}", "--tls-pin", cert,
                 "--controller-token-file", readable / "secret"]
        serve.import_image("echo", EXAMPLES / "echo.tar")
        link = first_line(plane("admin", "connect", "--image", "echo", "--json", *words))
        assert request("GET", link["url"]).status == 200
        authority.issue("own", "DNS:plane.test")
        os.chown(key, user.pw_uid, user.pw_gid)
        wait_until(lambda: serve.log_text().count("good until") >= 2, 20, "the new certificate")
        for role in ("drone", "proxy", "controller"):
            serve.kill_child(role)

        def is_whole():
            state = plane("admin", "cluster-state", serve.cluster, "--json", *words, check=False)
            with contextlib.suppress(ValueError, OSError):
                return state.returncode == 0 and json.loads(state.stdout)["drones"] \
                    and json.loads(state.stdout)["proxies"] \
                    and request("GET", f"http://{serve.proxy}/ready").status == 200
            return False
        wait_until(is_whole, 40, "all of them connected again")
        assert request("GET", link["url"]).status == 200
    finally:
        serve.stop()
    assert serve.leftovers() == []


def test_serve_needs_a_token_file_for_client_certificates(tmp_path, certs):
    result = plane("serve", "--data-dir", tmp_path / "data", "--tls-cert", certs / "server.pem",
                   "--tls-key", certs / "server.key", "--tls-client-ca", certs / "clients.pem",
                   check=False)
    assert result.returncode == 1 and "--certificate" in result.stderr
    assert not (tmp_path / "data").exists()
