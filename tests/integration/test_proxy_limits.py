"""The proxy in want: no files left, peers that vanish, connections that speak out of turn, heads
that come in many pieces."""

import os
import pathlib
import resource
import socket
import subprocess
import threading
import time

import pytest

from test_proxy import (  # noqa: F401  (fixtures)
    CLUSTER, SWITCH, TOKEN, Proxy, Upstream, controller, get, keep_answering, ok, proxy, route,
    serve, upgrade)

pytestmark = pytest.mark.timeout(90)
OTHER = "o" * 43


def files_of(process):
    return [int(fd) for fd in os.listdir(f"/proc/{process.pid}/fd")]


def limit_files(process, count):
    """Descriptors below `count` only."""
    hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (count, hard))


def take_all_files(started):
    """No file is left to the proxy; the connections that were needed for that."""
    used = files_of(started.process)
    limit_files(started.process, max(used) + 1)
    crowd = [started.ask(get("/ready")) for _ in range(max(used) + 1 - len(used))]
    assert all(wire.answer()[0].status == 200 for wire in crowd)
    return crowd


def wait_for(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture
def single(tmp_path, controller):  # noqa: F811
    """A proxy with one worker."""
    started = Proxy(tmp_path, controller, "--workers", "1")
    yield started
    assert started.stop() == 0, started.log_path.read_text()[-4000:]
    text = started.log_path.read_text()
    assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text, text[-4000:]


def test_without_files_the_proxy_waits_and_does_not_spin(single):
    known = single.connect()
    known.send(get("/ready"))
    assert known.answer()[0].status == 200
    crowd = take_all_files(single)
    began = time.monotonic()
    waiting = [single.ask(get("/ready")) for _ in range(3)]

    def refusals():
        return single.log_path.read_text().count("accept a connection")
    wait_for(lambda: refusals() >= 3, "it tries again and again")
    known.send(get("/ready"))
    assert known.answer()[0].status == 200  # who is inside is served
    assert refusals() <= (time.monotonic() - began) / 0.2 + 1  # once for each pause
    limit_files(single.process, max(files_of(single.process)) + 100)
    for wire in waiting:
        assert wire.answer()[0].status == 200
    for wire in crowd:
        wire.sock.close()


def test_idle_connections_to_backends_make_room(single, serve):  # noqa: F811
    serve(keep_answering(lambda head, body: ok(b"one")), backend="bk1")
    serve(keep_answering(lambda head, body: ok(b"two")), token=OTHER, backend="bk2")
    wire = single.connect()

    def ask(token):
        wire.send(get(f"/{token}/"))
        return wire.answer()[1]
    assert ask(TOKEN) == b"one"
    crowd = take_all_files(single)
    assert [ask(OTHER), ask(TOKEN), ask(OTHER)] == [b"two", b"one", b"two"]
    assert single.ask(get("/ready")).answer()[0].status == 200  # also for a new client
    assert "accept a connection" not in single.log_path.read_text()
    for other in crowd:
        other.sock.close()


def test_an_answer_that_nobody_asked_for_goes_to_nobody(single, serve):  # noqa: F811
    go_on, is_said = threading.Event(), threading.Event()

    def handle(wire):
        wire.head()
        wire.send(ok(b"asked"))
        go_on.wait(20)
        wire.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        is_said.set()
        wire.head()
        wire.send(ok(b"asked on a connection that spoke out of turn"))
    upstream = serve(handle)
    wire = single.connect()
    wire.send(get(f"/{TOKEN}/"))
    assert wire.answer()[1] == b"asked"
    go_on.set()
    assert is_said.wait(20)
    wire.send(get(f"/{TOKEN}/"))
    head, body = wire.answer()
    assert (head.status, body, upstream.connections) == (200, b"asked", 2)


def test_a_connection_that_its_backend_closed_is_let_go(single, serve):  # noqa: F811
    def handle(wire):
        wire.head()
        wire.send(ok(b"hi"))
    serve(handle)
    before = len(files_of(single.process))
    wire = single.connect()
    wire.send(get(f"/{TOKEN}/"))
    assert wire.answer()[1] == b"hi"
    wait_for(lambda: len(files_of(single.process)) == before + 1, "only the client's is left")


def test_every_connection_is_probed_for_life(single, serve):  # noqa: F811
    upstream = serve(lambda wire: (wire.head(), wire.send(SWITCH), wire.rest()))
    wire = single.ask(upgrade())
    assert wire.head().status == 101
    ports = {single.address[1]: "sport", int(upstream.address.split(":")[1]): "dport"}
    for port, side in ports.items():
        lines = subprocess.run(["ss", "-tnoH", "state", "established", f"{side} = :{port}"],
                               check=True, capture_output=True, text=True).stdout.splitlines()
        assert len(lines) == 1 and "timer:(keepalive,1min" in lines[0], lines
    wire.sock.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_heads_split_at_every_byte(single, serve, method):  # noqa: F811
    def handle(wire):
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            body = wire.body(wire.head())
            for byte in b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + ok(body + b"!"):
                wire.send(bytes([byte]))
    serve(handle)
    wire = single.connect()
    wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = "" if method == "GET" else "some"
    for _ in range(2):
        text = get(f"/{TOKEN}/", CLUSTER, f"Content-Length: {len(body)}") + body
        for byte in text.replace("GET", method, 1).encode():
            wire.send(bytes([byte]))
        assert wire.head().first == "HTTP/1.1 103 Early"
        assert wire.answer()[1].decode() == body + "!"


def test_a_head_without_end_and_without_lines_is_refused(single):
    wire = single.connect()
    for _ in range(70):
        wire.send(b"x" * 1000)
        time.sleep(0)  # so that it comes in pieces
    assert wire.head().status == 431


def test_what_came_with_a_held_request_goes_with_it(single, controller):  # noqa: F811
    seen = []
    upstream = Upstream(keep_answering(lambda head, body: (seen.append(body), ok(body))[1]))
    wires = [single.ask(f"POST /{TOKEN}/ HTTP/1.1\r\nHost: {CLUSTER}\r\nContent-Length: 9\r\n\r\n"
                        "with ") for _ in range(3)]
    wait_for(lambda: TOKEN in controller.asked, "the route is asked for")
    controller.routes[TOKEN] = route(upstream.address)
    controller.tell_route(TOKEN)
    for wire in wires:
        wire.send("it.." + get(f"/{TOKEN}/"))  # the rest, and one more behind it
        assert wire.answer()[1] == b"with it.."
        assert wire.answer()[1] == b""
    assert sorted(seen) == [b""] * 3 + [b"with it.."] * 3
    upstream.stop()


def test_a_client_that_says_no_more_still_gets_its_answer(single, serve):  # noqa: F811
    serve(keep_answering(lambda head, body: ok(b"late")))
    wire = single.ask(get(f"/{TOKEN}/"))
    wire.sock.shutdown(socket.SHUT_WR)
    assert wire.answer()[1] == b"late"
    assert wire.rest() == b""


def test_vanishing_clients_leave_nothing_behind(single, serve):  # noqa: F811
    """Half of a head, a held answer, a tunnel: cut by the client with a reset at any point."""
    go_on = threading.Event()

    def handle(wire):
        if b"Upgrade" in wire.head().raw:
            wire.send(SWITCH)
            wire.rest()
        else:
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
            go_on.wait(30)
    serve(handle)
    before = len(files_of(single.process))
    wires = [single.ask("GET /x"), single.ask(get("/" + "q" * 43)), single.ask(get(f"/{TOKEN}/")),
             single.ask(upgrade())]
    wires[2].until(b"abc")
    wires[3].head()
    for wire in wires:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wire.sock.close()
    wait_for(lambda: len(files_of(single.process)) == before, "all are closed")
    go_on.set()
    assert single.ask(get("/ready")).answer()[0].status == 200
    assert pathlib.Path(f"/proc/{single.process.pid}").exists()
