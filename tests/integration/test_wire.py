"""Nodes and controllers of the original, played down to the byte with what was recorded from them,
against ours. Our messages are theirs with the keys in order; what else differs is written here."""

import concurrent.futures
import contextlib
import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading

import pytest

from serve import EXAMPLES, PLANE, Serve, free_port, request, wait_until
from test_controller import connect_body
from test_security import Guarded, bearer, create
from test_tls import Front, certificates  # noqa: F401  (a fixture)
from wire import Peer, filled, fixture, ordered

pytestmark = pytest.mark.timeout(90)
CLUSTER = "plane.test"
TOKEN = "-3qhsD7DTdFFXMnXyN1a9J0YGdemrj32RZNSK6G-2YM"  # the recorded ones
STATIC = "s.TOses3vHyaSvaZrUGfGZpjId2geKmD3RdP9IAt5c6vQ"


@pytest.fixture(params=["ws", "wss"])
def scheme(request):  # noqa: F811
    return request.param


# ---- the original's nodes with our controller ----


class Nodes:
    """Connects the original's nodes to a controller of ours; the token is in their URL."""

    def __init__(self, controller, token, front, trust):
        self.controller, self.front, self.trust = controller, front, trust
        self.headers = bearer(token)

    @contextlib.contextmanager
    def connect(self, kind, path):
        address = f"localhost:{self.front.port}" if self.front else self.controller.address
        with Peer.connect(address, path, self.headers.items(), self.trust) as peer:
            peer.send(fixture(kind, "to-controller", "handshake"))
            answer = json.loads(peer.expect("handshake"))
            # an original node is told of no extension
            assert set(answer) == {"version", "name"}
            assert set(answer["version"]) == {"version", "git_hash"}
            yield Said(peer, kind)

    def post(self, path, body=None):
        answer = self.controller.post(path, body, headers=self.headers)
        assert answer.status == 200, answer.body
        return answer.json()

    def status(self, backend):
        return self.controller.get(f"/pub/b/{backend}/status").json()

    def connect_key(self, key, **config):
        body = connect_body(key, user="alice", auth={"b": 2, "a": 1}, **config)
        body["key"].update(namespace="space", tag="tag")
        body["spawn_config"].update(
            cluster=CLUSTER, executable={"image": "image", "env": {"B": "2", "A": "1"}})
        return self.post("/ctrl/connect", body)


class Said:
    """A connection to a controller of ours: says and expects what was recorded."""

    def __init__(self, peer, kind):
        self.peer, self.kind = peer, kind

    def say(self, name, **values):
        self.peer.send(filled(fixture(self.kind, "to-controller", name), **values))

    def hear(self, name, *unknown, **values):
        """The next message of that name: the fixture's with `values`, and with what it says itself
        for the fields in `unknown`; these are returned."""
        return compare(self.peer.expect(name), fixture(self.kind, "from-controller", name), unknown,
                       values)


def compare(text, expected, unknown, values, additions=()):
    """`additions` are fields of ours that no original has."""
    message, found = json.loads(text), {}

    def look(value):
        if isinstance(value, dict):
            for name in additions:
                value.pop(name, None)
            for name, inner in value.items():
                if name in unknown:
                    found[name] = inner
                look(inner)

    look(message)
    plain = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
    assert additions or plain == text
    assert plain == ordered(filled(expected, **{**found, **values}))
    return found


@pytest.fixture
def nodes(tmp_path, scheme, certificates):  # noqa: F811
    controller = Guarded(tmp_path)
    token = create(controller.tokens, "original", "connect,admin,node")
    wait_until(lambda: controller.get("/ctrl/status", headers=bearer(token)).status == 403, 20,
               "the controller knows the token")
    front, trust = None, None
    if scheme == "wss":
        front = Front(controller.address, certificates, "localhost")
        trust = ssl.create_default_context(cafile=certificates / "ca.pem")
    yield Nodes(controller, token, front, trust)
    if front:
        front.stop()
    assert controller.stop() == 0
    text = (tmp_path / "controller.log").read_text()
    assert "ERROR: AddressSanitizer" not in text and "skipping" not in text, text


def test_a_drone_of_the_original_lives_with_our_controller(nodes):
    backend = "9i21g2lacio6h5"  # the recorded one
    with nodes.connect("drone-socket", f"/ctrl/c/{CLUSTER}/drone-socket") as drone:
        beat = 1795610606922
        drone.say("heartbeat")
        drone.say("backend-event-loading", event_id=1, backend_id="nobody")
        drone.hear("ack-event", event_id=1)  # so the heartbeat is stored
        nodes.connect_key("one", id=backend)
        times = ("renew_at", "soft_terminate_at", "hard_terminate_at")
        spawn = drone.hear("action-spawn", "action_id", "drone_id", *times, "token",
                           backend_id=backend)
        assert beat + 30_000 <= spawn["renew_at"] < beat + 40_000
        assert spawn["soft_terminate_at"] == spawn["renew_at"] + 10_000
        # the original sends the soft deadline once more, so that its drone knows no soft end
        assert spawn["hard_terminate_at"] == spawn["renew_at"] + 20_000
        assert abs(spawn["drone_id"]) < 1 << 31
        drone.say("ack-action", action_id=spawn["action_id"])
        for event_id, status in enumerate(["scheduled", "loading", "starting", "waiting", "ready"],
                                          2):
            drone.say(f"backend-event-{status}", event_id=event_id, backend_id=backend)
            drone.hear("ack-event", event_id=event_id)
        drone.say("backend-metrics", backend_id=backend)
        drone.say("renew-key", backend=backend)
        drone.hear("renew-key-response", backend=backend)
        drone.say("renew-key", backend="of-nobody")  # the original gives no answer
        drone.hear("renew-key-response-null", backend="of-nobody")
        for kind, event_id in (("soft", 10), ("hard", 20)):
            nodes.post(f"/ctrl/b/{backend}/{kind}-terminate")
            terminate = drone.hear(f"action-terminate-{kind}", "action_id", "drone_id",
                                   backend_id=backend)
            assert terminate["drone_id"] == spawn["drone_id"]
            drone.say("ack-action", action_id=terminate["action_id"])
            state = "terminating" if kind == "soft" else "hard-terminating"
            drone.say(f"backend-event-{state}", event_id=event_id, backend_id=backend)
            drone.hear("ack-event", event_id=event_id)
        drone.say("backend-event-terminated-hard", event_id=30, backend_id=backend)
        drone.hear("ack-event", event_id=30)
        entry = nodes.status(backend)
        assert entry["status"] == "terminated" and entry["termination_kind"] == "hard"
        assert entry["exit_error"] is True


def test_a_static_token_and_a_failed_start_of_the_original(nodes):
    backend = "wfu6che8sewg27"
    with nodes.connect("drone-socket", f"/ctrl/c/{CLUSTER}/drone-socket") as drone:
        drone.say("heartbeat")
        drone.say("backend-event-loading", event_id=1, backend_id="nobody")
        drone.hear("ack-event", event_id=1)
        made = nodes.connect_key("two", id=backend, use_static_token=True)
        drone.hear("action-spawn-static", "action_id", "drone_id", "renew_at", "soft_terminate_at",
                   "hard_terminate_at", "token", backend_id=backend, static_token=made["token"])
        drone.say("backend-event-terminated-no-kind", event_id=2, backend_id=backend)
        drone.hear("ack-event", event_id=2)
        entry = nodes.status(backend)
        assert entry["exit_error"] is False and "termination_kind" not in entry


def test_a_proxy_of_the_original_lives_with_our_controller(nodes):
    with nodes.connect("drone-socket", f"/ctrl/c/{CLUSTER}/drone-socket") as drone, \
            nodes.connect("proxy-socket", f"/ctrl/c/{CLUSTER}/proxy-socket") as proxy:
        drone.say("heartbeat")
        drone.say("backend-event-loading", event_id=1, backend_id="nobody")
        drone.hear("ack-event", event_id=1)
        made = nodes.connect_key("one")
        static = nodes.connect_key("two", use_static_token=True, subdomain="sub")
        proxy.say("route-info-request", token=made["token"])  # before it is ready
        for event_id, backend in enumerate([made["backend_id"], static["backend_id"]], 2):
            drone.say("backend-event-ready", event_id=event_id, backend_id=backend)
        proxy.hear("route-info-response", token=made["token"], backend_id=made["backend_id"],
                   secret_token=made["secret_token"])
        proxy.say("route-info-request", token=static["token"])
        proxy.hear("route-info-response-static", token=static["token"], address="127.0.0.1:37275",
                   backend_id=static["backend_id"])
        proxy.say("route-info-request", token="no-such-token")
        proxy.hear("route-info-response-null")
        proxy.peer.send(json.dumps({"KeepAlive": made["backend_id"]}))
        drone.say("backend-event-terminated-soft", event_id=9, backend_id=made["backend_id"])
        proxy.hear("backend-removed", backend=made["backend_id"])
        proxy.say("keep-alive")  # of a backend that nobody knows
        proxy.hear("backend-removed")


def test_certificates_and_the_dns_server_of_the_original(nodes):
    with nodes.connect("proxy-socket", f"/ctrl/c/{CLUSTER}/proxy-socket") as proxy, \
            nodes.connect("dns-socket", "/ctrl/dns-socket") as dns:
        proxy.say("set-txt-record")
        proxy.hear("set-txt-record-response", accepted=False)  # it has no lease
        proxy.say("cert-lease-request")
        proxy.hear("cert-lease-response")
        proxy.say("set-txt-record")
        proxy.hear("set-txt-record-response")
        dns.say("txt-record-request")
        dns.hear("txt-record-response")
        dns.say("txt-record-request", cluster="other.test")
        dns.hear("txt-record-response-null")
        proxy.say("release-cert-lease")
        proxy.say("cert-lease-request")
        proxy.hear("cert-lease-response")


# ---- our nodes with the original's controller ----


class PlayedController:
    """Listens as an original controller; takes one node's connection at a time."""

    def __init__(self, scheme, certificates):  # noqa: F811
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(30)
        self.tls = None
        if scheme == "wss":
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificates / "localhost.pem", certificates / "localhost.key")
        self.environment = {"SSL_CERT_FILE": str(certificates / "ca.pem"),
                            "SSL_CERT_DIR": "/nonexistent"}
        port = self.listener.getsockname()[1]
        self.authority = f"localhost:{port}"
        self.url = f"{scheme}://bearer%20token@{self.authority}/ignored/path"

    @contextlib.contextmanager
    def accept(self, kind, name, path, extensions):
        stream, _ = self.listener.accept()
        stream.settimeout(30)
        if self.tls:
            stream = self.tls.wrap_socket(stream, server_side=True)
        with Peer.accept(stream) as peer:
            assert peer.head.startswith(f"GET {path} HTTP/1.1\r\n"), peer.head
            assert peer.header("host") == self.authority
            assert peer.header("authorization") == "Bearer bearer%20token"
            assert peer.header("sec-websocket-version") == "13"
            assert peer.header("sec-websocket-protocol") is None
            handshake = json.loads(peer.expect("handshake"))
            # an original controller ignores the fields that it does not know
            assert handshake.pop("extensions") == extensions
            assert handshake.pop("backends", None) == ({"ip": None} if name[:3] == "dr-" else None)
            assert handshake["name"] == name and set(handshake) == {"version", "name"}
            assert set(handshake["version"]) == {"version", "git_hash"}
            peer.send(fixture(kind, "from-controller", "handshake"))
            yield Ordered(peer, kind)

    def close(self):
        self.listener.close()


class Ordered:
    """A connection from a node of ours: orders what was recorded, and expects what was recorded."""

    def __init__(self, peer, kind):
        self.peer, self.kind = peer, kind

    def order(self, name, **values):
        self.peer.send(filled(fixture(self.kind, "from-controller", name), **values))

    def hear(self, name, *unknown, additions=(), **values):
        return compare(self.peer.expect(name), fixture(self.kind, "to-controller", name), unknown,
                       values, additions)


@pytest.fixture
def played(scheme, certificates):  # noqa: F811
    controller = PlayedController(scheme, certificates)
    yield controller
    controller.close()


@contextlib.contextmanager
def node(played, log_path, *words):
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            [str(PLANE), *words], stdout=log, stderr=log, env={**os.environ, **played.environment})
    try:
        yield
    except BaseException:
        print(log_path.read_text(errors="replace"))
        raise
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=40)
    text = log_path.read_text(errors="replace")
    assert status == 0 and "ERROR: AddressSanitizer" not in text, text
    assert "bearer" not in text and "skipped a message" not in text, text


def test_our_drone_lives_with_a_controller_of_the_original(played):
    backend = "9i21g2lacio6h5"
    with tempfile.TemporaryDirectory(prefix="plane-wire-") as directory:
        place = Serve(directory)  # only its directory: no server is started
        place.import_image("echo", EXAMPLES / "echo.tar")
        with node(played, place.log_path, "drone", "--controller-url", played.url, "--cluster",
                  CLUSTER, "--name", "dr-test", "--pool", "a b", "--data-dir", str(place.data),
                  "--parked", "2", "--end-backends"), \
                played.accept("drone-socket", "dr-test", f"/ctrl/c/{CLUSTER}/drone-socket?pool=a%20b",
                              ["logs", "drone-lease", "inventory", "metrics-on-request"]) as drone:
            now = drone.hear("heartbeat", "local_time")["local_time"]
            spawn = {"image": "echo", "renew_at": now + 3000, "soft_terminate_at": now + 600_000,
                     "hard_terminate_at": now + 600_000, "backend_id": backend}
            drone.order("action-spawn", **spawn)
            drone.order("action-spawn", **spawn)  # as an original controller sometimes does
            last = 0
            for status in ("loading", "starting", "waiting", "ready"):
                more = ["address"] if status in ("waiting", "ready") else []
                event = drone.hear(f"backend-event-{status}", "event_id", "timestamp", *more,
                                   backend_id=backend)
                assert event["event_id"] > last
                last = event["event_id"]
                drone.order("ack-event", event_id=last)
            for _ in range(2):
                drone.hear("ack-action", action_id="ak-wh6g36gbw0ejab")
            asked = drone.hear("renew-key", "local_time", backend=backend)
            assert asked["local_time"] >= now + 3000
            drone.order("renew-key-response", backend=backend, renew_at=now + 300_000,
                        soft_terminate_at=now + 600_000, hard_terminate_at=now + 610_000)
            numbers = ("mem_used", "mem_total", "mem_active", "mem_inactive", "mem_unevictable",
                       "mem_limit", "cpu_used", "sys_cpu")
            used = drone.hear("backend-metrics", *numbers, backend_id=backend)
            assert used["mem_total"] > 0 and used["mem_limit"] > 0
            drone.order("action-terminate-soft", backend_id=backend)
            drone.hear("backend-event-terminating", "event_id", "timestamp", backend_id=backend)
            drone.hear("ack-action", action_id="ak-94ef9i12o9m2wb")
            # beside the original's fields it says which signal ended the backend
            drone.hear("backend-event-terminated-soft", "event_id", "timestamp", "exit_code",
                       backend_id=backend, additions=("signal", "oom_killed", "message"))
            drone.order("action-terminate-hard", backend_id="never-heard-of")
            lost = json.loads(drone.peer.expect("backend-event-terminated-no-kind"))["BackendEvent"]
            assert lost["backend_id"] == "never-heard-of" and lost["state"]["reason"] == "lost"


class Backend(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"path": self.path, **{
            name.lower(): value for name, value in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def backend_address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_our_proxy_lives_with_a_controller_of_the_original(played, tmp_path, backend_address):
    port = free_port()

    def get(path, host=CLUSTER):
        return request("GET", f"http://127.0.0.1:{port}{path}", headers={"host": host})

    with node(played, tmp_path / "proxy.log", "proxy", "--controller-url", played.url, "--cluster",
              CLUSTER, "--name", "px-test", "--host", "127.0.0.1", "--http-port", str(port)), \
            concurrent.futures.ThreadPoolExecutor() as threads, \
            played.accept("proxy-socket", "px-test", f"/ctrl/c/{CLUSTER}/proxy-socket",
                          ["revoke"]) as proxy:
        wait_until(lambda: get("/ready").status == 200, 20, "the proxy is ready")
        answer = threads.submit(get, f"/{TOKEN}/path?q=1")
        proxy.hear("route-info-request", token=TOKEN)
        proxy.order("route-info-response", token=TOKEN, address=backend_address)
        seen = answer.result(20).json()
        assert seen["path"] == "/path?q=1" and seen["x-verified-username"] == "alice"
        assert seen["x-verified-user-data"] == '{"a":1,"b":2}'
        assert seen["x-verified-secret"] == "OlVgzYN78HxT7MJku0FlYE4yJ2PwTutev-pXaX9K-dc"
        proxy.hear("keep-alive")
        answer = threads.submit(get, f"/{STATIC}/path", f"sub.{CLUSTER}")
        proxy.hear("route-info-request", token=STATIC)
        proxy.order("route-info-response-static", token=STATIC, address=backend_address)
        seen = answer.result(20).json()
        assert seen["path"] == f"/{STATIC}/path" and seen["x-verified-secret"] == ""
        assert "x-verified-username" not in seen and "x-verified-user-data" not in seen
        proxy.order("cert-lease-response")  # was not asked for
        proxy.order("route-info-response", token="unasked-but-long-enough")  # nor was this
        proxy.order("backend-removed")
        for token in (TOKEN[::-1], TOKEN):  # one that nobody knows, and one that is known no more
            answer = threads.submit(get, f"/{token}")
            proxy.hear("route-info-request", token=token)
            proxy.order("route-info-response-null", token=token)
            assert answer.result(20).status == 410
