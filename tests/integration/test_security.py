"""Who may use the control API: tokens and their scopes, and what becomes of those that are taken
away. Every endpoint is tried with every scope; the list of endpoints is the controller's own."""

import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess

import pytest
import websockets

from serve import PLANE, Serve, free_port, request, wait_until
from test_controller import (CLUSTER, DRIVER, Controller, VERSION, auth_server, connect_body, drone,
                             node, proxy, run)

pytestmark = pytest.mark.timeout(90)
SCOPES = ("connect", "admin", "node", "read")
ROUTES = [tuple(line.split()) for line in subprocess.run(
    [DRIVER, "--routes"], capture_output=True, text=True, check=True).stdout.splitlines()]
DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


def plane(*words, check=True, **more):
    result = subprocess.run([str(PLANE), *map(str, words)], capture_output=True, text=True,
                            timeout=60, **more)
    assert not check or result.returncode == 0, result.stderr
    return result


def create(path, name, scopes, *flags):
    return plane("token", "create", "--name", name, "--scope", scopes, "--file", path,
                 *flags).stdout.strip()


def revoke(path, name):
    plane("token", "revoke", name, "--file", path)


def bearer(token):
    return {"authorization": f"Bearer {token}"}


class Guarded(Controller):
    """A controller with a token file, in which is one token for each scope."""

    def __init__(self, directory, *flags, **more):
        self.tokens = directory / "tokens"
        self.secrets = {scope: create(self.tokens, scope, scope) for scope in SCOPES}
        super().__init__(directory, "--api-token-file", str(self.tokens), *flags, **more)

    def add(self, name, scopes, *flags):
        """A token more, once the controller knows it."""
        token = create(self.tokens, name, scopes, *flags)
        wait_until(lambda: self.get("/ctrl/status", headers=bearer(token)).status != 401, 20,
                   "the new token")
        return token

    def log_text(self):
        return (self.directory / "controller.log").read_text(errors="replace")

    def socket(self, path, token=None):
        return websockets.connect(f"ws://{self.address}{path}", max_size=None,
                                  extra_headers=bearer(token) if token else {})


@pytest.fixture
def guarded(tmp_path):
    controller = Guarded(tmp_path)
    yield controller
    assert controller.stop() == 0, controller.log_text()[-4000:]
    text = controller.log_text()
    assert "ERROR: AddressSanitizer" not in text and "runtime error" not in text, text[-4000:]
    for secret in controller.secrets.values():
        assert secret not in text and secret not in controller.tokens.read_text()


def fill(pattern):
    """A path of the route for which there is nothing: the answer shows that it was let in."""
    filled = pattern.replace("/c/:", f"/c/{CLUSTER}").replace("/d/:", "/d/dr-none")
    return filled.replace("/:", "/none")


def upgrade_status(controller, path, token):
    """What a WebSocket handshake is answered; 101 when it is one."""
    async def attempt():
        try:
            async with controller.socket(path, token):
                return 101
        except websockets.InvalidStatusCode as refused:
            return refused.status_code
    return asyncio.run(attempt())


# ---- every endpoint with every scope ----


def test_the_routes_are_the_ones_that_were_looked_at():
    assert len(ROUTES) >= 22 and len(set(ROUTES)) == len(ROUTES)
    assert {scope for _, _, scope in ROUTES} == {"public", *SCOPES}
    for _, pattern, scope in ROUTES:
        assert (scope == "public") == pattern.startswith("/pub/")


@pytest.mark.parametrize("scope", ["none", "unknown", *SCOPES])
def test_each_endpoint_takes_its_scope_and_no_other(guarded, scope):
    token = {"none": None, "unknown": "plane_" + "x" * 43}.get(scope, guarded.secrets.get(scope))
    headers = bearer(token) if token else {}
    for method, pattern, needed in ROUTES:
        path = fill(pattern)
        answer = guarded.request(method, path, {} if method == "POST" else None, headers=headers)
        place = f"{method} {path} with {scope}"
        if needed in ("public", scope):
            assert answer.status not in (401, 403), place
            if needed == "node":
                assert answer.status == 400, place  # no WebSocket
                assert upgrade_status(guarded, path, token) == 101, place
            continue
        expected = 403 if scope in SCOPES else 401
        assert answer.status == expected, place
        body = answer.json()
        assert body["kind"] == "Other" and len(body["id"]) == 14, place
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith("Bearer"), place
        if expected == 403:
            assert f'error="insufficient_scope", scope="{needed}"' in challenge, place
            assert f'"{needed}"' in body["message"], place
        else:
            assert ('error="invalid_token"' in challenge) == (scope == "unknown"), place
        if needed == "node":
            assert upgrade_status(guarded, path, token) == expected, place
        if method == "GET":
            assert guarded.request("HEAD", path, headers=headers).status == expected, place


def test_what_is_no_route_tells_nothing_without_a_token(guarded):
    for method, path in (("GET", "/ctrl/nothing"), ("GET", "/"), ("GET", "/ctrl/connect"),
                         ("POST", "/metrics"), ("GET", "/ctrl%2Fstatus"), ("GET", "//ctrl/status"),
                         ("GET", "/pub/../ctrl/status"), ("GET", "/ctrl/status/"),
                         ("OPTIONS", "/ctrl/connect"), ("GET", "/publish")):
        bare = guarded.request(method, path)
        known = guarded.request(method, path, headers=bearer(guarded.secrets["node"]))
        if path.startswith("/pub/"):
            assert (bare.status, known.status) == (404, 404), path
        else:
            assert bare.status == 401 and known.status in (404, 405), path


def test_other_schemes_and_second_headers_do_not_help(guarded):
    good = guarded.secrets["read"]
    for value in (f"Basic {good}", good, f"Bearer {good}x", f"Bearer {good[:-1]}", "Bearer",
                  f"Bearer {hashlib.sha256(good.encode()).hexdigest()}", f"Bearer {good} {good}"):
        answer = guarded.get("/ctrl/status", headers={"authorization": value})
        assert answer.status == 401, value
    assert guarded.get(f"/ctrl/status?access_token={good}").status == 401
    assert guarded.get("/ctrl/status", headers={"authorization": f"bearer {good}"}).status == 200


def test_who_may_not_ask_is_refused_before_its_body_is_read(guarded):
    host, port = guarded.address.rsplit(":", 1)

    def answer(path, length, scope=None, more=()):
        """What comes when a body is announced and not sent."""
        lines = [f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json",
                 f"Content-Length: {length}", *more]
        if scope:
            lines.append(f"Authorization: Bearer {guarded.secrets[scope]}")
        with socket.create_connection((host, int(port)), timeout=20) as stream:
            stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            return stream.recv(4096).decode().split("\r\n")[0]

    assert answer("/ctrl/connect", 2 << 20) == "HTTP/1.1 401 Unauthorized"
    assert answer("/ctrl/connect", 2 << 20, "admin") == "HTTP/1.1 403 Forbidden"
    assert answer("/ctrl/nothing", 100) == "HTTP/1.1 401 Unauthorized"
    wait = ["Expect: 100-continue"]
    assert answer("/ctrl/connect", 2 << 20, "connect", wait) == "HTTP/1.1 100 Continue"
    large = "HTTP/1.1 413 Content Too Large"
    assert answer("/ctrl/connect", (2 << 20) + 1, "connect", wait) == large
    assert answer("/ctrl/b/revoke", 100000, "admin") == large
    assert answer("/pub/health", 5000) == "HTTP/1.1 405 Method Not Allowed"  # not read
    text = guarded.get("/metrics", headers=bearer(guarded.secrets["read"])).body.decode()
    refused, = re.findall(r"^plane_auth_refused_total (\d+)$", text, re.MULTILINE)
    assert int(refused) == 3


def test_the_manual_shows_the_scopes_that_are_needed():
    """docs/api.md names for each path below /ctrl and for /metrics the scope of the route."""
    rows = re.findall(r"^\| `([^|]+)\| (\w+) \|", (DOCS / "api.md").read_text(), re.M)
    documented = set()
    for paths, scope in rows:
        method, first = re.match(r"(\w+) ([^`?]+)`?", paths).groups()
        first = re.sub(r"\b[A-Z]{4,}\b", ":", first)
        documented.add((method, first, scope))
        for other in re.findall(r"`…/([\w-]+)`", paths):
            documented.add((method, first.rsplit("/", 1)[0] + "/" + other, scope))
        for method_too, path_too in re.findall(r", `(GET|POST) ([^`?]+)", paths):
            documented.add((method_too, re.sub(r"\b[A-Z]{4,}\b", ":", path_too), scope))
    old = {("POST", "/ctrl/revoke"), ("POST", "/ctrl/c/:/b/:/soft-terminate"),
           ("POST", "/ctrl/c/:/b/:/hard-terminate"), ("GET", "/pub/c/:/b/:/status"),
           ("GET", "/pub/c/:/b/:/status-stream")}
    assert documented == {route for route in ROUTES if route[:2] not in old}


# ---- nodes and streams whose token is taken away ----


def test_a_revoked_token_ends_the_sessions_that_used_it(guarded):
    other = guarded.add("other-node", "node")

    async def story():
        path = f"/ctrl/c/{CLUSTER}/drone-socket"
        async with guarded.socket(path, guarded.secrets["node"]) as gone, \
                guarded.socket(path, other) as kept:
            for ws, name in ((gone, "dr-gone"), (kept, "dr-kept")):
                await ws.send(json.dumps({"version": VERSION, "name": name}))
                assert json.loads(await ws.recv())["name"].startswith("co-")
            revoke(guarded.tokens, "node")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(gone.recv(), 20)
            assert closed.value.rcvd.code == 1008
            assert upgrade_status_soon(path, guarded.secrets["node"]) == 401
            # the other one goes on: it is answered
            await kept.send(json.dumps({"BackendEvent": {
                "event_id": 1, "backend_id": "none", "state": {"status": "loading"},
                "timestamp": 1}}))
            while "AckEvent" not in json.loads(await asyncio.wait_for(kept.recv(), 20)):
                pass

    def upgrade_status_soon(path, token):
        headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
                   "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", **bearer(token)}
        return guarded.get(path, headers=headers).status

    asyncio.run(story())

    def connected():
        headers = bearer(guarded.secrets["read"])
        return guarded.get(f"/ctrl/c/{CLUSTER}/state", headers=headers).json()["drones"]
    wait_until(lambda: not connected(), what="neither is connected any more")
    assert "dr-gone disconnected" in guarded.log_text()


def test_a_node_whose_token_is_revoked_says_so_and_comes_again_when_it_is_valid(guarded, tmp_path):
    port, secret, path = free_port(), guarded.secrets["node"], tmp_path / "proxy.log"

    def ready():
        with contextlib.suppress(OSError):
            return request("GET", f"http://127.0.0.1:{port}/ready").status == 200
        return False

    def told(text):
        wait_until(lambda: text in path.read_text(), 20, f"{text} in the log")

    with open(path, "wb") as log:
        process = subprocess.Popen(
            [str(PLANE), "proxy", "--controller-url", f"http://{secret}@{guarded.address}", "--cluster",
             CLUSTER, "--host", "127.0.0.1", "--http-port", str(port)], stdout=log, stderr=log)
    try:
        wait_until(ready, 20, "the proxy is connected")
        valid = guarded.tokens.read_text()
        revoke(guarded.tokens, "node")
        told("(1008): ")
        wait_until(lambda: not ready(), 20, "the proxy says that it is not connected")
        told("401")
        guarded.tokens.write_text(valid)
        wait_until(ready, 20, "the proxy is connected again")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0, path.read_text()
    assert "ERROR: AddressSanitizer" not in path.read_text() and secret not in path.read_text()


def test_a_revoked_token_ends_a_log_that_is_followed(guarded):
    async def story():
        path = f"/ctrl/c/{CLUSTER}/drone-socket"
        async with guarded.socket(path, guarded.secrets["node"]) as ws:
            async def send(message):
                await ws.send(json.dumps(message))

            async def expect(kind):
                while True:
                    message = json.loads(await asyncio.wait_for(ws.recv(), 20))
                    if kind in message:
                        return message[kind]

            await send({"version": VERSION, "name": "dr-one", "extensions": ["logs"]})
            await ws.recv()
            await send({"Heartbeat": {"local_time": 1000}})
            loop = asyncio.get_running_loop()

            def connect():
                answer = guarded.post("/ctrl/connect", connect_body(),
                                      headers=bearer(guarded.secrets["connect"]))
                return answer.json()["backend_id"] if answer.status == 200 else None
            backend = None
            while not backend:
                backend = await loop.run_in_executor(None, connect)

            reader, writer = await asyncio.open_connection(*guarded.address.split(":"))
            writer.write((f"GET /ctrl/b/{backend}/logs?follow=true HTTP/1.1\r\nHost: x\r\n"
                          f"Authorization: Bearer {guarded.secrets['read']}\r\n\r\n").encode())
            await reader.readuntil(b"\r\n\r\n")
            asked = await expect("LogsRequest")
            await send({"LogsChunk": {"request_id": asked["request_id"], "data": "one line\n",
                                      "end": False}})
            await reader.readuntil(b"one line\n")
            revoke(guarded.tokens, "read")
            rest = await asyncio.wait_for(reader.read(), 20)
            assert not rest.endswith(b"0\r\n\r\n")  # cut, and so that the reader sees it
            assert (await expect("LogsCancel"))["request_id"] == asked["request_id"]
            writer.close()

    asyncio.run(story())


class FewFiles(Guarded):
    wrapper = ("prlimit", "--nofile=128:600")


def test_connections_do_not_take_the_files_that_a_revocation_needs(tmp_path):
    controller = FewFiles(tmp_path)
    host, port = controller.address.rsplit(":", 1)
    limits = pathlib.Path(f"/proc/{controller.process.pid}/limits").read_text()
    assert re.search(r"Max open files +600 +600 ", limits), limits
    assert "no more than 344 connections" in controller.log_text()
    files = f"/proc/{controller.process.pid}/fd"
    with contextlib.ExitStack() as silent:
        for _ in range(450):
            silent.enter_context(socket.create_connection((host, int(port)), timeout=20))
        wait_until(lambda: len(os.listdir(files)) > 344, 20, "all the connections that may be")
        revoke(controller.tokens, "read")
        headers = bearer(controller.secrets["read"])
        wait_until(lambda: controller.get("/ctrl/status", headers=headers).status == 401, 30,
                   "the end of the token")
        assert len(os.listdir(files)) < 600
    assert controller.stop() == 0
    assert "Too many open files" not in controller.log_text()


def test_an_expired_token_ends_what_was_opened_with_it(guarded):
    short = guarded.add("short", "node", "--expires-in", "3s")
    path = f"/ctrl/c/{CLUSTER}/proxy-socket"

    async def story():
        async with guarded.socket(path, short) as ws:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(ws.recv(), 20)
            assert closed.value.rcvd.code == 1008

    asyncio.run(story())
    late = guarded.get("/ctrl/status", headers=bearer(short))
    assert late.status == 401 and "expired" in late.json()["message"]


def test_a_changed_scope_counts_for_open_sessions_too(guarded):
    async def story():
        async with guarded.socket("/ctrl/dns-socket", guarded.secrets["node"]) as ws:
            text = guarded.tokens.read_text()
            guarded.tokens.write_text(text.replace("node node ", "node read "))
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(ws.recv(), 20)

    asyncio.run(story())
    assert guarded.get("/ctrl/status", headers=bearer(guarded.secrets["node"])).status == 200


# ---- reload ----


def test_new_tokens_count_soon_and_at_once_after_sighup(guarded):
    late = guarded.add("late", "read")
    guarded.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "SIGHUP" in guarded.log_text(), 20, "the line in the log")
    assert guarded.get("/ctrl/status", headers=bearer(late)).status == 200


def test_a_file_that_breaks_keeps_what_it_had_and_says_so(guarded):
    good = bearer(guarded.secrets["read"])
    text = guarded.tokens.read_text()
    guarded.tokens.write_text(text + "what is this\n")
    wait_until(lambda: "stays in force" in guarded.log_text(), 20, "the reason in the log")
    assert "line 5" in guarded.log_text()
    assert guarded.get("/ctrl/status", headers=good).status == 200
    guarded.tokens.unlink()
    wait_until(lambda: "No such file" in guarded.log_text(), 20, "the reason in the log")
    assert guarded.get("/ctrl/status", headers=good).status == 200
    guarded.tokens.write_text("")
    guarded.tokens.chmod(0o600)
    wait_until(lambda: guarded.get("/ctrl/status", headers=good).status == 401, 20, "no tokens")


# ---- the command ----


def test_a_token_is_made_listed_and_revoked(tmp_path):
    path = tmp_path / "tokens"
    secret = create(path, "web", "connect,read", "--expires-in", "30d")
    assert re.fullmatch(r"plane_[\w-]{43}", secret)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    line = path.read_text()
    digest = hashlib.sha256(secret.encode()).hexdigest()
    assert re.fullmatch(rf"web connect,read sha256:{digest} expires:20\d\d-\S+Z\n", line)
    assert create(path, "drone", "node", "--certificate", "drone-1") == ""
    listed = plane("token", "list", "--file", path).stdout
    assert re.search(r"web +connect,read +20\d\d-", listed) and "drone-1" in listed
    assert digest not in listed and secret not in listed
    again = plane("token", "create", "--name", "web", "--scope", "read", "--file", path, check=False)
    assert again.returncode == 1 and "already" in again.stderr and again.stdout == ""
    revoke(path, "web")
    assert path.read_text() == "drone node certificate:drone-1\n"
    missing = plane("token", "revoke", "web", "--file", path, check=False)
    assert missing.returncode == 1 and 'no entry "web"' in missing.stderr


@pytest.mark.parametrize("flags, told", [
    (["--name", "-x", "--scope", "read"], "--name"),
    (["--name", "x", "--scope", "all"], "--scope"),
    (["--name", "x", "--scope", "read", "--expires-in", "soon"], "--expires-in"),
    (["--name", "x", "--scope", "read", "--expires-in", "0d"], "--expires-in"),
    (["--name", "x", "--scope", "read", "--expires-in", "99999999999d"], "--expires-in"),
    (["--name", "x", "--scope", "read", "--certificate", "a b"], "--certificate")])
def test_wrong_flags_are_told_and_nothing_is_written(tmp_path, flags, told):
    result = plane("token", "create", *flags, "--file", tmp_path / "tokens", check=False)
    assert result.returncode == 1 and told in result.stderr and result.stdout == ""
    assert list(tmp_path.iterdir()) == []


# ---- closed by default ----


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_open_controller_on_other_addresses_is_refused(tmp_path, address):
    result = plane("controller", "--db", f"sqlite:{tmp_path}/db", "--host", address, "--port", "0",
                   check=False)
    assert result.returncode == 1 and not (tmp_path / "db").exists()
    for flag in ("--api-token-file", "--forward-auth", "--insecure-no-auth", "127.0.0.1"):
        assert flag in result.stderr


def test_an_open_serve_on_other_addresses_is_refused(tmp_path):
    result = plane("serve", "--data-dir", tmp_path / "data", "--listen", "0.0.0.0:0", check=False)
    assert result.returncode == 1 and "--insecure-no-auth" in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.1.2.3:0", "[::1]:0"])
def test_loopback_needs_no_authentication(tmp_path, listen):
    controller = Controller(tmp_path, listen=listen)
    assert request("GET", f"http://{controller.address}/ctrl/status").status == 200
    assert controller.stop() == 0


def test_what_opens_other_addresses(tmp_path):
    tokens = tmp_path / "tokens"
    create(tokens, "a", "read")
    for flags, status in ((["--insecure-no-auth", "yes"], 200),
                          (["--api-token-file", str(tokens)], 401),
                          (["--forward-auth", "http://127.0.0.1:1/"], 502)):
        controller = Controller(tmp_path, *flags, listen="0.0.0.0:0")
        url = "http://127.0.0.1:" + controller.address.rsplit(":", 1)[1]
        assert request("GET", f"{url}/ctrl/status").status == status
        assert controller.stop() == 0


@pytest.mark.parametrize("prepare, told", [
    (lambda path: None, "No such file"),
    (lambda path: path.write_text("a read certificate:x\n"), "chmod 600"),
    (lambda path: (path.touch(0o600), path.write_text("a read\n")), "line 1")])
def test_a_bad_token_file_is_told_at_start(tmp_path, prepare, told):
    path = tmp_path / "tokens"
    old = os.umask(0o022)
    prepare(path)
    os.umask(old)
    result = plane("controller", "--db", f"sqlite:{tmp_path}/db", "--port", "0",
                   "--api-token-file", path, check=False)
    assert result.returncode == 1 and told in result.stderr and str(path) in result.stderr


def test_contradicting_flags_are_refused(tmp_path):
    result = plane("controller", "--db", f"sqlite:{tmp_path}/db", "--port", "0", "--api-token-file",
                   tmp_path / "tokens", "--insecure-no-auth", check=False)
    assert result.returncode == 1 and "contradicts" in result.stderr


def test_tokens_come_before_forward_auth(tmp_path):
    seen = []
    with auth_server(seen) as url:
        controller = Guarded(tmp_path, "--forward-auth", url)
        read = bearer(controller.secrets["read"])
        assert controller.get("/ctrl/status").status == 401
        assert controller.get("/ctrl/backends", headers=bearer("good")).status == 401
        assert controller.post("/ctrl/b/x/soft-terminate", headers=read).status == 403
        assert seen == []  # nothing was asked for them
        refused = controller.get("/ctrl/status", headers=read)  # the token is known, but not there
        assert (refused.status, refused.body) == (401, b"Unauthorized")
        assert len(seen) == 1
        # one that both know
        digest = hashlib.sha256(b"good").hexdigest()
        with open(controller.tokens, "a") as file:
            file.write(f"good read sha256:{digest}\n")
        wait_until(lambda: controller.get("/ctrl/status", headers=bearer("good")).status == 200, 20,
                   "a token that both know")
        assert controller.stop() == 0


# ---- a whole cluster ----


def words_and_environments(pids):
    for pid in pids:
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                yield pathlib.Path(f"/proc/{pid}/{name}").read_bytes()


@pytest.fixture
def readable(tmp_path):
    """A directory whose files the unprivileged roles can reach."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory != pathlib.Path("/tmp") and str(directory).startswith("/tmp"):
            directory.chmod(directory.stat().st_mode | 0o055)
    return tmp_path


def test_serve_gives_its_own_roles_a_token(readable):
    import pwd
    tokens = readable / "tokens"
    admin = create(tokens, "ops", "connect,read,admin")
    try:
        user = pwd.getpwnam("plane")
    except KeyError:
        user = pwd.getpwnam("nobody")
    os.chown(tokens, user.pw_uid, user.pw_gid)
    serve = Serve(readable, ["--api-token-file", str(tokens)])
    serve.is_ready = lambda: "connect with" in serve.log_text() and serve.process.poll() is None
    serve.start()
    try:
        url = f"{serve.api}/ctrl/c/{serve.cluster}/state"
        assert request("GET", url).status == 401
        state = request("GET", url, headers=bearer(admin)).json()
        assert len(state["drones"]) == 1 and len(state["proxies"]) == 1
        pids = [serve.child(role) for role in ("controller", "drone", "proxy")]
        assert all(b"plane_" not in text and b"sha256" not in text
                   for text in words_and_environments([*pids, serve.process.pid]))
        for role in ("drone", "proxy", "controller"):
            serve.kill_child(role)  # a new one has the token too

        def is_whole():
            with contextlib.suppress(OSError):
                answer = request("GET", url, headers=bearer(admin))
                return answer.status == 200 and answer.json()["drones"] \
                    and answer.json()["proxies"] \
                    and request("GET", f"http://{serve.proxy}/ready").status == 200
            return False
        wait_until(is_whole, 40, "all of them connected again")
        # the admin's program: token from a file, from the environment, from the URL
        secret = readable / "secret"
        secret.write_text(admin + "\n")
        secret.chmod(0o600)
        words = ["admin", "cluster-state", serve.cluster, "--controller"]
        clean = {k: v for k, v in os.environ.items() if k != "PLANE_CONTROLLER_TOKEN"}
        assert "dr-" in plane(*words, serve.api, "--controller-token-file", secret,
                              env=clean).stdout
        assert "dr-" in plane(*words, serve.api, env={**clean,
                                                      "PLANE_CONTROLLER_TOKEN": admin}).stdout
        assert "dr-" in plane(*words, serve.api.replace("//", f"//{admin}@"), env=clean).stdout
        none = plane(*words, serve.api, env=clean, check=False)
        assert none.returncode == 1 and "needs a token" in none.stderr and "401" in none.stderr
        secret.chmod(0o644)
        loose = plane(*words, serve.api, "--controller-token-file", secret, env=clean, check=False)
        assert loose.returncode == 1 and "chmod 600" in loose.stderr
        assert admin not in serve.log_text()
    finally:
        serve.stop()
    assert serve.leftovers() == []
