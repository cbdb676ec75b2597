"""What the node sockets of the controller do with what they should not get: each case has an outcome
that is told, to the node or in the log, and the next good message is taken."""

import contextlib
import json
import signal
import socket
import struct
import subprocess
import threading

import pytest

from serve import PLANE, free_port, request, wait_until
from test_controller import ADDRESS, VERSION, Controller
from wire import BINARY, CLOSE, PING, PONG, TEXT, Peer

pytestmark = [pytest.mark.timeout(90), pytest.mark.fault]
CLUSTER = "localhost:9090"
PATHS = {"dr": f"/ctrl/c/{CLUSTER}/drone-socket", "px": f"/ctrl/c/{CLUSTER}/proxy-socket",
         "ns": "/ctrl/dns-socket"}
NORMAL, PROTOCOL_ERROR, TOO_BIG, BAD_TEXT, REFUSED = 1000, 1002, 1009, 1007, 1008


class Node:
    """A node that says what a test wants it to."""

    def __init__(self, controller, name, path=None, handshake=None, is_silent=False):
        self.controller, self.events = controller, 0
        self.peer = Peer.connect(controller.address, path or PATHS[name[:2]])
        if not is_silent:
            good = {"version": VERSION, "name": name}
            self.say(good if handshake is None else handshake)

    def say(self, message):
        self.peer.send(message if isinstance(message, str) else json.dumps(message))

    def hear(self, kind):
        """The content of the next message of `kind` (as in the JSON)."""
        while True:
            message = json.loads(self.peer.receive())
            if kind in message:
                return message[kind]

    def event(self, backend, state):
        self.events += 1
        self.say({"BackendEvent": {"event_id": self.events, "backend_id": backend, "state": state,
                                   "timestamp": 1}})
        while self.hear("AckEvent")["event_id"] != self.events:
            pass

    def is_served(self):
        """Waits for an answer: all before it was taken."""
        kind = self.controller_kind
        if kind == "dr":
            self.event("nobody", {"status": "loading"})
        elif kind == "px":
            self.say({"KeepAlive": "nobody"})
            assert self.hear("BackendRemoved") == {"backend": "nobody"}
        else:
            self.say({"TxtRecordRequest": {"cluster": CLUSTER}})
            assert self.hear("TxtRecordResponse") == {"cluster": CLUSTER, "txt_value": None}
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.peer.close()


@contextlib.contextmanager
def node(controller, name, **more):
    with Node(controller, name, **more) as made:
        made.controller_kind = name[:2]
        assert made.hear("name").startswith("co-")
        if name.startswith("dr-"):
            made.say({"Heartbeat": {"local_time": 1_000_000}})
            made.is_served()
        yield made


@pytest.fixture
def controller(tmp_path):
    started = Controller(tmp_path)
    yield started
    assert started.stop() == 0
    text = log_of(started)
    assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text, text[-4000:]


def log_of(controller):
    return (controller.directory / "controller.log").read_text()


def wait_log(controller, text):
    wait_until(lambda: text in log_of(controller), 20, f"{text} in the log")


# ---- handshakes ----


@pytest.mark.parametrize("handshake, told", [
    ("nonsense", "expected an object"),
    ([], "expected an object"),
    ({}, "name: missing field"),
    ({"name": "dr-x"}, "version: missing field"),
    ({"name": "dr-x", "version": "0.5.5"}, "version: expected an object"),
    ({"name": 5, "version": VERSION}, "name: expected a string"),
    ({"name": "px-x", "version": VERSION}, '"px-x" is not the name of a Drone'),
    ({"name": "ns-x", "version": VERSION}, '"ns-x" is not the name of a Drone'),
    ({"name": "co-x", "version": VERSION}, '"co-x" is not the name of a Drone'),
    ({"name": "", "version": VERSION}, '"" is not the name of a Drone'),
    ({"name": "dr-NOT", "version": VERSION}, "dr-NOT"),
    ({"name": "dr-" + "x" * 43, "version": VERSION}, "45"),
    ({"name": "dr-x", "version": {"version": "x" * 64, "git_hash": ""}}, "version too long"),
    ('{"name":"dr-x","name":"dr-y","version":{"version":"0.5.5","git_hash":""}}', "object"),
    ({"Heartbeat": {"local_time": 1}}, "name: missing field"),
])
def test_a_wrong_handshake_is_refused_and_told_why(controller, handshake, told):
    with Node(controller, "dr-x", handshake=handshake) as made:
        code, reason = made.peer.wait_close()
        assert code == REFUSED and told in reason, reason
    wait_log(controller, "refusing a connection from 127.0.0.1")
    assert controller.get(f"/ctrl/c/{CLUSTER}/state").json() == {"drones": [], "proxies": []}


@pytest.mark.parametrize("path, name", [
    (PATHS["px"], "dr-x"), (PATHS["px"], "ns-x"), (PATHS["ns"], "dr-x"), (PATHS["ns"], "px-x")])
def test_a_node_of_another_kind_is_refused_at_each_socket(controller, path, name):
    with Node(controller, name, path=path) as made:
        code, reason = made.peer.wait_close()
        assert code == REFUSED and "is not the name of a" in reason


def test_a_first_frame_that_is_no_text_is_passed_over(controller):
    with Node(controller, "dr-x", is_silent=True) as made:
        made.peer.send_frame(BINARY, b"\x00\x01")
        made.say({"version": VERSION, "name": "dr-x"})
        assert made.hear("name").startswith("co-")


def test_nodes_that_say_nothing_are_told_to_leave_and_others_are_served(controller):
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(Node(controller, name, is_silent=True)) for name in ("dr-x", "px-x", "ns-x")]
        with node(controller, "dr-x") as made:
            for one in silent:
                assert one.peer.wait_close() == (REFUSED, "no handshake came")
            assert made.is_served()


def test_other_versions_are_served_and_unknown_fields_ignored(controller):
    for name, version in (("dr-old", "0.4.12"), ("dr-new", "9.9.9"), ("dr-odd", "")):
        handshake = {"name": name, "version": {"version": version, "git_hash": "x", "more": 1},
                     "later": {"x": [1]}, "extensions": ["unknown", 5, "logs"]}
        with node(controller, name, handshake=handshake) as made:
            assert made.is_served()
            state = controller.get(f"/ctrl/c/{CLUSTER}/state").json()
            versions = {d["node"]["name"]["Drone"]: d["node"]["plane_version"]
                        for d in state["drones"]}
            assert versions[name] == version


@pytest.mark.parametrize("extensions", [None, "logs", 5, {}, [], ["x"] * 1000])
def test_odd_extensions_are_none(controller, extensions):
    with node(controller, "px-x", handshake={
            "name": "px-x", "version": VERSION, "extensions": extensions}) as made:
        assert made.is_served()


def test_messages_need_not_wait_for_the_answer_to_the_handshake(controller):
    with Node(controller, "px-x") as made:
        for i in range(100):
            made.say({"KeepAlive": f"nobody-{i}"})
        assert made.hear("name").startswith("co-")
        for i in range(100):  # in order
            assert made.hear("BackendRemoved") == {"backend": f"nobody-{i}"}


@pytest.mark.parametrize("name", ["dr-twice", "px-twice"])
def test_of_two_nodes_of_one_name_the_later_is_served(controller, name):
    with node(controller, name) as first, node(controller, name) as second:
        code, reason = first.peer.wait_close()
        assert (code, reason) == (REFUSED, "a node of this name has connected after it")
        assert second.is_served()
        state = controller.get(f"/ctrl/c/{CLUSTER}/state").json()
        assert len(state["drones"]) + len(state["proxies"]) == 1
    wait_log(controller, f"{name} has connected again")


def test_two_dns_servers_of_one_name_are_one_as_well(controller):
    with node(controller, "ns-twice") as first, node(controller, "ns-twice") as second:
        assert first.peer.wait_close()[0] == REFUSED
        assert second.is_served()


# ---- messages ----


ODD_MESSAGES = {
    "dr": [{"Unknown": {}}, "\"Heartbeat\"", {"Heartbeat": {}}, {"Heartbeat": {"local_time": 1.0}},
           {"Heartbeat": {"local_time": "1"}}, {"Heartbeat": {"local_time": None}},
           "{\"Heartbeat\":{\"local_time\":9223372036854775808}}",
           "{\"Heartbeat\":{\"local_time\":1,\"local_time\":2}}",
           {"Heartbeat": {"local_time": 1}, "AckAction": {"action_id": "x"}},
           {"AckAction": {"action_id": 5}}, {"AckAction": {"action_id": "ak-of-nobody"}},
           {"AckAction": {"action_id": "x" * 5000}},
           {"RenewKey": {"backend": "b"}}, {"RenewKey": {"backend": None, "local_time": 1}},
           {"BackendEvent": {"event_id": 1, "backend_id": "b", "state": {}, "timestamp": 1}},
           {"BackendEvent": {"event_id": 1, "backend_id": "b", "timestamp": 1,
                             "state": {"status": "Ready"}}},
           {"BackendEvent": {"event_id": 1, "backend_id": "b", "timestamp": 1,
                             "state": {"status": "terminating", "last_status": "ready",
                                       "reason": "swept"}}},  # without `termination`
           {"BackendMetrics": {"backend_id": "b", "mem_used": -1, "mem_total": 1, "mem_active": 1,
                               "mem_inactive": 1, "mem_unevictable": 1, "mem_limit": 1,
                               "cpu_used": 1, "sys_cpu": 1}},
           {"RouteInfoRequest": {"token": "t"}}],
    "px": [{"Unknown": {}}, {"KeepAlive": {"backend": "b"}}, {"KeepAlive": None},
           {"RouteInfoRequest": "token"}, {"RouteInfoRequest": {}},
           {"CertManagerRequest": "SetTxtRecord"}, {"CertManagerRequest": {"SetTxtRecord": {}}},
           {"CertManagerRequest": "Unknown"}, {"CertManagerRequest": {"CertLeaseRequest": 1}},
           {"Heartbeat": {"local_time": 1}}],
    "ns": [{"Unknown": {}}, {"TxtRecordRequest": {}}, {"TxtRecordRequest": {"cluster": 5}},
           {"TxtRecordRequest": {"cluster": "x" * 300}},
           {"TxtRecordRequest": {"cluster": "a"}, "More": {}}],
}


@pytest.mark.parametrize("kind", ["dr", "px", "ns"])
def test_odd_messages_are_told_in_the_log_and_skipped(controller, kind):
    odd = ["{not json", "", "null", "5", "[]", "{}", "\"\\ud800\"", "[" * 100_000,
           *ODD_MESSAGES[kind]]
    name = f"{kind}-odd"
    with node(controller, name) as made:
        for message in odd:
            made.say(message)
            made.is_served()
    harmless = 2 if kind == "dr" else 0  # acknowledgements of actions that nobody knows
    assert log_of(controller).count(f"skipping a message of {name}: ") == len(odd) - harmless


def test_extra_fields_and_nulls_are_as_the_original_reads_them(controller):
    with node(controller, "dr-x") as drone, node(controller, "px-x") as proxy:
        drone.say({"Heartbeat": {"later": [1, {"x": None}], "local_time": 5_000_000}})
        made = controller.connect().json()
        spawn = drone.hear("Action")["action"]["Spawn"]
        assert 5_030_000 <= spawn["key"]["deadlines"]["renew_at"] < 5_060_000
        drone.event(made["backend_id"], {"address": ADDRESS, "x": 1, "status": "ready"})
        proxy.say({"RouteInfoRequest": {"token": made["token"], "more": {}}})
        assert proxy.hear("RouteInfoResponse")["route_info"]["address"] == ADDRESS
        proxy.say({"CertManagerRequest": {"CertLeaseRequest": None}})
        assert proxy.hear("CertManagerResponse") == {"CertLeaseResponse": {"accepted": True}}
        drone.event(made["backend_id"], {"status": "terminated", "last_status": "ready"})
        entry = controller.get(f"/pub/b/{made['backend_id']}/status").json()
        assert entry["status"] == "terminated" and entry["exit_error"] is False


@pytest.mark.parametrize("address", ["localhost:80", "1.2.3.4", "1.2.3.4:65536", ":80", "[::1:80"])
def test_an_event_with_an_address_that_is_none_is_skipped(controller, address):
    with node(controller, "dr-x") as drone:
        backend = controller.connect().json()["backend_id"]
        drone.say({"BackendEvent": {"event_id": 77, "backend_id": backend, "timestamp": 1,
                                    "state": {"status": "ready", "address": address}}})
        drone.is_served()
        assert controller.get(f"/pub/b/{backend}/status").json()["status"] == "scheduled"
        drone.event(backend, {"status": "ready", "address": "[::1]:80"})
        assert controller.get(f"/pub/b/{backend}/status").json()["status"] == "ready"


def test_a_stale_event_is_acknowledged_and_changes_nothing(controller):
    with node(controller, "dr-x") as drone, node(controller, "px-x") as proxy:
        made = controller.connect().json()
        backend = made["backend_id"]
        drone.event(backend, {"status": "ready", "address": ADDRESS})
        before = controller.get(f"/pub/b/{backend}/status").json()
        for stale in ({"status": "waiting", "address": "9.9.9.9:9"}, {"status": "scheduled"},
                      {"status": "ready", "address": "9.9.9.9:9"}):
            drone.event(backend, stale)
        assert controller.get(f"/pub/b/{backend}/status").json() == before
        proxy.say({"RouteInfoRequest": {"token": made["token"]}})
        assert proxy.hear("RouteInfoResponse")["route_info"]["address"] == ADDRESS
        drone.event(backend, {"status": "terminated", "last_status": "ready"})
        drone.event(backend, {"status": "ready", "address": ADDRESS})  # it does not come back
        assert controller.get(f"/pub/b/{backend}/status").json()["status"] == "terminated"


def test_an_action_acknowledged_twice_or_by_another_is_no_harm(controller):
    with node(controller, "dr-a") as drone, node(controller, "dr-b") as other:
        made = controller.connect().json()
        owner, stranger = (drone, other) if made["drone"] == "dr-a" else (other, drone)
        action = owner.hear("Action")
        ack = {"AckAction": {"action_id": action["action_id"]}}
        stranger.say(ack)
        stranger.is_served()
        assert owner.hear("Action")["action_id"] == action["action_id"]  # it was not for him to say
        for _ in range(2):
            owner.say(ack)
        owner.is_served()
        owner.peer.stream.settimeout(11)  # two rounds of sending again
        with pytest.raises(TimeoutError):
            owner.hear("Action")


def test_a_drone_speaks_for_its_own_backends_only(controller):
    with node(controller, "dr-a") as drone, node(controller, "dr-b") as other:
        made = controller.connect().json()
        backend = made["backend_id"]
        owner, stranger = (drone, other) if made["drone"] == "dr-a" else (other, drone)
        for state in ({"status": "ready", "address": "6.6.6.6:6"},
                      {"status": "terminated", "last_status": "ready"}):
            stranger.event(backend, state)  # acknowledged, so that it is not sent for ever
        stranger.say({"RenewKey": {"backend": backend, "local_time": 1}})
        assert stranger.hear("RenewKeyResponse")["deadlines"] is None
        assert controller.get(f"/pub/b/{backend}/status").json()["status"] == "scheduled"
        assert controller.connect().json()["backend_id"] == backend
        owner.event(backend, {"status": "ready", "address": ADDRESS})
        assert controller.get(f"/pub/b/{backend}/status").json()["status"] == "ready"


# ---- frames ----


def test_binary_frames_are_passed_over_and_pings_answered(controller):
    with node(controller, "px-x") as made:
        made.peer.send_frame(BINARY, b'{"KeepAlive":"binary"}')
        made.peer.send_frame(PING, b"are you there")
        made.peer.send_frame(PONG, b"unasked")
        assert made.peer.read_frame() == (PONG, b"are you there")
        assert made.is_served()


def test_a_message_in_fragments_with_a_ping_between_is_whole(controller):
    with node(controller, "px-x") as made:
        made.peer.send_frame(TEXT, b'{"Keep', first=0)
        made.peer.send_frame(PING, b"x")
        made.peer.send_frame(0, b'Alive":"nobody"', first=0)
        made.peer.send_frame(0, b"}")
        assert made.peer.read_frame() == (PONG, b"x")
        assert made.hear("BackendRemoved") == {"backend": "nobody"}


@pytest.mark.parametrize("frame, code", [
    (dict(opcode=TEXT, payload=b"{", length=(64 << 20) + 1), TOO_BIG),
    (dict(opcode=TEXT, payload=b"\xff\xfe"), BAD_TEXT),
    (dict(opcode=3, payload=b""), PROTOCOL_ERROR),             # no such opcode
    (dict(opcode=TEXT, payload=b"{}", first=0xc0), PROTOCOL_ERROR),  # a reserved bit
    (dict(opcode=0, payload=b"{}"), PROTOCOL_ERROR),           # nothing to continue
    (dict(opcode=PING, payload=b"x" * 126), None),
    (dict(opcode=PING, payload=b"", first=0), None),
])
def test_a_broken_frame_ends_the_connection_with_its_code(controller, frame, code):
    with node(controller, "px-x") as made:
        made.peer.send_frame(**frame)
        assert made.peer.wait_close()[0] == code
    with node(controller, "px-x") as again:
        assert again.is_served()


def test_a_frame_without_a_mask_ends_the_connection(controller):
    with node(controller, "px-x") as made:
        made.peer.stream.sendall(b"\x81\x02{}")
        assert made.peer.wait_close()[0] == PROTOCOL_ERROR


@pytest.mark.parametrize("payload", [b"", struct.pack(">H", 1000), struct.pack(">H", 1001) + b"bye",
                                     struct.pack(">H", 4999)])
def test_a_session_ends_with_any_close(controller, payload):
    with node(controller, "dr-x") as made:
        made.peer.send_frame(CLOSE, payload)
        opcode, answer = made.peer.read_frame()
        assert opcode == CLOSE and answer == payload
        wait_until(lambda: not controller.get(f"/ctrl/c/{CLUSTER}/state").json()["drones"], 20,
                   "the drone is gone")


def test_a_connection_that_breaks_within_a_frame_is_gone(controller):
    with node(controller, "dr-x") as made:
        made.peer.send_frame(TEXT, b'{"Heartbeat"', length=100)
    wait_until(lambda: not controller.get(f"/ctrl/c/{CLUSTER}/state").json()["drones"], 20,
               "the drone is gone")


@pytest.mark.parametrize("headers, status", [
    ({"connection": "keep-alive"}, 400), ({"upgrade": "h2c"}, 400),
    ({"sec-websocket-version": "8"}, 400), ({"sec-websocket-key": None}, 400)])
def test_what_is_no_websocket_is_refused(controller, headers, status):
    host, port = controller.address.split(":")
    good = {"host": "localhost", "connection": "upgrade", "upgrade": "websocket",
            "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    lines = [f"{name}: {value}" for name, value in {**good, **headers}.items() if value]
    for path in PATHS.values():
        with socket.create_connection((host, int(port)), timeout=20) as wire:
            wire.sendall(f"GET {path} HTTP/1.1\r\n".encode() + "\r\n".join(lines).encode()
                         + b"\r\n\r\n")
            assert wire.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())


# ---- our nodes with an odd controller ----


class OddController:
    """Takes connections of a proxy of ours and does to each what the test says."""

    def __init__(self, *acts):
        self.acts, self.connections = list(acts), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self.listener.accept()
                self.connections += 1
                act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
                threading.Thread(target=self.serve, args=(stream, act), daemon=True).start()

    @staticmethod
    def serve(stream, act):
        with contextlib.suppress(OSError, EOFError), stream:
            stream.settimeout(60)
            act(Peer.accept(stream))

    def close(self):
        self.listener.close()


def hold(peer):
    """A good controller: greets, and reads until the other side closes."""
    peer.receive()
    peer.send(json.dumps({"version": VERSION, "name": "co-odd"}))
    while True:
        peer.receive()


def greet_and(*frames):
    def act(peer):
        peer.receive()
        peer.send(json.dumps({"version": VERSION, "name": "co-odd"}))
        for frame in frames:
            peer.send_frame(*frame)
        while True:
            peer.read_frame()
    return act


def answer_with(text):
    def act(peer):
        peer.receive()
        peer.send(text)
        while True:
            peer.read_frame()
    return act


@pytest.mark.parametrize("act, told", [
    (answer_with("nonsense"), "its handshake is wrong"),
    (answer_with('{"version":5,"name":"co-x"}'), "its handshake is wrong: handshake: version"),
    (greet_and((CLOSE, struct.pack(">H", 1008) + b"no more\nroom")), "(1008): no more room"),
    (greet_and((CLOSE, b"")), "it closed the connection"),
    (greet_and((TEXT, b"\xff")), "it broke the WebSocket protocol"),
])
def test_a_node_tells_why_it_lost_the_controller_and_comes_again(tmp_path, act, told):
    controller, port = OddController(act, hold), free_port()
    with proxy_of_ours(tmp_path, controller.url, port) as log:
        wait_until(lambda: told in log(), 20, "the reason in the log")
        wait_until(lambda: is_ready(port), 20, "the proxy is connected")
    controller.close()


def test_a_node_skips_what_it_does_not_understand(tmp_path):
    odd = ["{not json", "null", "[]", '{"Unknown":{}}', '{"RouteInfoResponse":{}}',
           '{"BackendRemoved":"x"}', '{"RouteInfoResponse":{"token":"t","route_info":5}}']
    frames = [(TEXT, text.encode()) for text in odd]
    controller, port = OddController(greet_and((BINARY, b"x"), *frames)), free_port()
    with proxy_of_ours(tmp_path, controller.url, port) as log:
        wait_until(lambda: log().count("skipped a message of the controller") == len(odd), 20,
                   "all are in the log")
        wait_until(lambda: is_ready(port), 20, "the proxy is connected")
        assert controller.connections == 1
    controller.close()


def test_a_node_that_ends_says_that_it_goes_away(tmp_path):
    closes = []

    def act(peer):
        peer.receive()
        peer.send(json.dumps({"version": VERSION, "name": "co-odd"}))
        closes.append(peer.wait_close())

    controller, port = OddController(act), free_port()
    with proxy_of_ours(tmp_path, controller.url, port):
        wait_until(lambda: is_ready(port), 20, "the proxy is connected")
    wait_until(lambda: closes, 20, "a Close frame")
    assert closes == [(1001, "")]  # the one that ends a session of the original's controller
    controller.close()


def is_ready(port):
    with contextlib.suppress(OSError):
        return request("GET", f"http://127.0.0.1:{port}/ready").status == 200
    return False


@contextlib.contextmanager
def proxy_of_ours(directory, url, port):
    path = directory / "proxy.log"
    with open(path, "wb") as log:
        process = subprocess.Popen(
            [str(PLANE), "proxy", "--controller-url", url, "--cluster", CLUSTER, "--host",
             "127.0.0.1", "--http-port", str(port)], stdout=log, stderr=log)
    yield path.read_text
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0, path.read_text()
    assert "ERROR: AddressSanitizer" not in path.read_text()
