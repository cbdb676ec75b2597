"""The main job, end to end: `plane serve`, a key, a URL, requests and faults."""

import asyncio
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import stat
import subprocess
import tempfile

import pytest
import websockets

import inventory
from serve import EXAMPLES, PLANE, Serve, echo_once, free_port, request, wait_until

pytestmark = pytest.mark.skipif(not (EXAMPLES / "echo.tar").exists(), reason="no examples built")


@pytest.fixture(scope="module")
def plane():
    with tempfile.TemporaryDirectory(prefix="plane-serve-") as directory:
        metrics = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        serve = Serve(directory, ["--drone-metrics", metrics[0], "--proxy-metrics", metrics[1]])
        serve.metrics = [f"http://{address}" for address in metrics]
        serve.import_image("echo", EXAMPLES / "echo.tar")
        serve.start()
        yield serve
        serve.stop()
        assert serve.leftovers() == []


def ws_url(connection, path="ws"):
    return connection["url"].replace("http://", "ws://") + path


def test_a_key_becomes_a_running_backend_behind_a_url(plane):
    connection = plane.connect("hello")
    answer = request("GET", connection["url"] + "some/path?a=b",
                     headers={"x-verified-username": "forged", "x-mine": "kept"})
    assert answer.status == 200
    seen = answer.json()
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert seen["path"].startswith("/some/path")
    assert headers["x-mine"] == "kept"
    assert headers.get("x-verified-username") is None
    assert headers["x-verified-backend"] == connection["backend_id"]
    assert headers["x-verified-secret"] == connection["secret_token"]
    assert answer.headers["x-plane-backend-id"] == connection["backend_id"]
    assert seen["env"]["PORT"] == "8080"
    assert seen["env"]["SESSION_BACKEND_KEY"] == "hello"
    assert int(seen["env"]["SESSION_BACKEND_FENCING_TOKEN"]) > 0


def test_the_command_line_prints_the_lines_of_the_reference(plane):
    first = plane.plane("admin", "connect", "--cluster", plane.cluster, "--image", "echo",
                        "--key", "k1").stdout
    assert re.search(r"^Created backend: \S+$", first, re.M)
    assert re.search(r"^URL: http://\S+/$", first, re.M)
    assert re.search(r"^Status URL: http://\S+/status$", first, re.M)
    assert re.search(r"^Drone: dr-\S+$", first, re.M)
    assert re.search(r"^Status: ready at ", first, re.M)
    again = plane.plane("admin", "connect", "--cluster", plane.cluster, "--image", "echo",
                        "--key", "k1").stdout
    assert re.search(r"^Reusing backend: \S+$", again, re.M)
    url = re.search(r"^URL: (\S+)$", again, re.M).group(1)
    assert request("GET", url).status == 200


def test_a_websocket_echoes_through_the_proxy(plane):
    connection = plane.connect("ws")

    async def talk():
        async with websockets.connect(ws_url(connection)) as socket:
            assert await echo_once(socket, "hello") == "hello"
            assert await echo_once(socket, b"\x00\xff" * 40000) == b"\x00\xff" * 40000
    asyncio.run(talk())


@pytest.mark.fault
def test_two_hundred_connects_for_one_new_key_give_one_backend(plane):
    body = {"key": {"name": "race"}, "spawn_config": {
        "executable": {"image": "echo"}, "cluster": plane.cluster}}

    def connect(_):
        return request("POST", f"{plane.api}/ctrl/connect", body)
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(connect, range(200)))
    assert {answer.status for answer in answers} == {200}
    results = [answer.json() for answer in answers]
    assert len({result["backend_id"] for result in results}) == 1
    assert sum(result["spawned"] for result in results) == 1
    assert len({result["token"] for result in results}) == 200


def test_an_idle_backend_is_swept_but_not_under_an_open_websocket(plane):
    connection = plane.connect("idle", max_idle_seconds=2)

    async def hold():
        async with websockets.connect(ws_url(connection)) as socket:
            deadline = asyncio.get_running_loop().time() + 14
            while asyncio.get_running_loop().time() < deadline:
                assert await echo_once(socket, "still here") == "still here"
                await asyncio.sleep(0.5)
    asyncio.run(hold())
    assert plane.status(connection["backend_id"])["status"] == "ready"
    entry = plane.wait_status(connection["backend_id"], "terminated", 40)
    assert entry["termination_reason"] == "swept"
    assert request("GET", connection["url"]).status == 410


@pytest.mark.fault
def test_killed_drone_and_controller_disturb_neither_backend_nor_socket(plane):
    connection = plane.connect("survivor")

    async def hold():
        async with websockets.connect(ws_url(connection)) as socket:
            for role in ("drone", "controller"):
                await asyncio.to_thread(plane.kill_child, role)
                assert await echo_once(socket, role) == role
            await asyncio.to_thread(wait_until, plane.is_ready, 40, "both back")
            assert await echo_once(socket, "after") == "after"
            again = await asyncio.to_thread(plane.connect, "survivor")
            assert again["backend_id"] == connection["backend_id"]
            assert not again["spawned"]
            assert (await asyncio.to_thread(request, "GET", again["url"])).status == 200
    asyncio.run(hold())


@pytest.mark.fault
def test_an_exit_while_the_drone_is_dead_is_reported_with_its_code(plane):
    connection = plane.connect("exiting")
    backend = connection["backend_id"]
    drone = plane.child("drone")
    os.kill(plane.process.pid, signal.SIGSTOP)  # the supervisor must not restart it too early
    try:
        os.kill(drone, signal.SIGKILL)
        request("GET", connection["url"] + "exit?code=7")
    finally:
        os.kill(plane.process.pid, signal.SIGCONT)
    entry = plane.wait_status(backend, "terminated", 30)
    assert entry["exit_error"] is True
    assert entry["exit_code"] == 7
    wait_until(plane.is_ready, 30, "drone back")


@pytest.mark.parametrize("path, check", [
    ("exit?code=0", lambda e: e["exit_code"] == 0 and e["exit_error"] is False),
    ("exit?code=3", lambda e: e["exit_code"] == 3 and e["exit_error"] is True),
    ("crash", lambda e: e["signal"] in (6, 11) and e["exit_error"] is True),
])
def test_ends_are_told_apart(plane, path, check):
    connection = plane.connect()
    request("GET", connection["url"] + path)
    entry = plane.wait_status(connection["backend_id"], "terminated")
    assert check(entry), entry


@pytest.mark.fault
def test_running_out_of_memory_is_told_apart(plane):
    connection = plane.connect(resource_limits={"memory_limit_bytes": 64 << 20})
    request("GET", connection["url"] + "hog?mb=200")
    entry = plane.wait_status(connection["backend_id"], "terminated")
    assert entry["oom_killed"] is True, entry


@pytest.mark.parametrize("how, kind", [("soft", "soft"), ("hard", "hard")])
def test_termination(plane, how, kind):
    connection = plane.connect()
    backend = connection["backend_id"]
    assert request("POST", f"{plane.api}/ctrl/b/{backend}/{how}-terminate").status == 200
    entry = plane.wait_status(backend, "terminated")
    assert entry["termination_kind"] == kind
    assert entry["termination_reason"] == "external"
    assert request("GET", connection["url"]).status == 410


def test_the_status_stream_tells_each_state_and_ends(plane):
    connection = plane.connect(wait=False)
    backend = connection["backend_id"]
    plane.wait_status(backend, "ready")
    request("POST", f"{plane.api}/ctrl/b/{backend}/hard-terminate")
    stream = request("GET", f"{plane.api}/pub/b/{backend}/status-stream")
    seen = [json.loads(line[6:])["status"] for line in stream.body.decode().splitlines()
            if line.startswith("data: ")]
    assert seen[0] == "scheduled" and seen[-1] == "terminated" and "ready" in seen
    rest = request("GET", f"{plane.api}/pub/b/{backend}/status-stream",
                   headers={"Last-Event-ID": "ready"}).body.decode()
    assert '"scheduled"' not in rest and '"terminated"' in rest


def test_revoking_a_user_works_at_once(plane):
    connection = plane.connect("revoked", user="alice")
    assert request("GET", connection["url"]).status == 200

    async def hold():
        async with websockets.connect(ws_url(connection)) as socket:
            assert await echo_once(socket, "in") == "in"
            await asyncio.to_thread(request, "POST", f"{plane.api}/ctrl/b/revoke",
                                    {"backend_id": connection["backend_id"], "user": "alice"})
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 5)
    asyncio.run(hold())
    assert request("GET", connection["url"]).status == 410


def test_logs_are_served(plane):
    connection = plane.connect()
    request("GET", connection["url"])
    text = plane.plane("admin", "logs", connection["backend_id"]).stdout
    assert isinstance(text, str)
    assert request("GET", f"{plane.api}/ctrl/b/nosuchbackend/logs").status == 404


def test_a_request_cannot_change_the_port(plane):
    connection = plane.connect(env={"PORT": "x"})
    assert request("GET", connection["url"]).json()["env"]["PORT"] == "8080"


@pytest.mark.fault
def test_forty_new_keys_at_once_get_forty_backends(plane):
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        made = list(pool.map(lambda i: plane.connect(f"burst-{i}", wait=False), range(40)))
        answers = list(pool.map(lambda c: request("GET", c["url"], timeout=60), made))
    assert {answer.status for answer in answers} == {200}
    assert len({connection["backend_id"] for connection in made}) == 40
    for connection in made:
        request("POST", f"{plane.api}/ctrl/b/{connection['backend_id']}/hard-terminate")
    for connection in made:
        plane.wait_status(connection["backend_id"], "terminated", 60)


@pytest.fixture(scope="module")
def talker(plane, tmp_path_factory):
    """An image that writes $LINES lines, then a last one each tenth of a second."""
    directory = tmp_path_factory.mktemp("talker")
    root = directory / "root"
    root.mkdir()
    (directory / "talker.c").write_text("""
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        int main(void) {
            int lines = atoi(getenv("LINES"));
            for (int i = 0; i < lines; i++) printf("line number %d of this long log file\\n", i);
            fflush(stdout);
            for (;;) { fprintf(stderr, "still here\\n"); usleep(100000); }
        }""")
    subprocess.run(["gcc", "-static", "-o", root / "talker", directory / "talker.c"], check=True)
    plane.import_image("talker", root, "--entrypoint", "/talker")
    return "talker"


@pytest.mark.fault
def test_a_long_log_is_bounded_and_its_end_is_there(plane, talker):
    backend = plane.connect(image=talker, wait=False, env={"LINES": "600000"})["backend_id"]

    def tail():
        return plane.plane("admin", "logs", "--tail", "5", backend).stdout.splitlines()
    wait_until(lambda: tail()[-1:] == ["still here"], 60, "the log's end")
    assert len(tail()) == 5
    logs = list((plane.data / "drone" / "logs").glob(f"{backend}*"))
    assert len(logs) == 2 and sum(log.stat().st_size for log in logs) < 22 << 20
    whole = plane.plane("admin", "logs", backend).stdout.splitlines()
    numbers = [int(line.split()[2]) for line in whole if line.startswith("line number")]
    assert numbers == list(range(numbers[0], 600000)) and len(numbers) > 100000
    request("POST", f"{plane.api}/ctrl/b/{backend}/hard-terminate")


def test_a_log_is_followed_to_its_end(plane, talker):
    backend = plane.connect(image=talker, wait=False, env={"LINES": "3"})["backend_id"]
    follower = subprocess.Popen([str(PLANE), "admin", "--controller", plane.api, "logs", "--follow",
                                 backend], stdout=subprocess.PIPE, text=True)
    lines = [follower.stdout.readline() for _ in range(6)]
    assert lines[:3] == [f"line number {i} of this long log file\n" for i in range(3)]
    assert lines[5] == "still here\n"
    request("POST", f"{plane.api}/ctrl/b/{backend}/hard-terminate")
    follower.stdout.read()
    assert follower.wait(timeout=20) == 0
    follower.stdout.close()


def test_each_role_has_metrics(plane):
    for url in (plane.api, *plane.metrics):
        answer = request("GET", f"{url}/metrics")
        assert answer.status == 200 and b"# TYPE plane_" in answer.body


@pytest.mark.fault
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_backends_outlive_a_server_that_does_not_end_them(tmp_path, how):
    serve = Serve(tmp_path)
    serve.import_image("echo", EXAMPLES / "echo.tar")
    serve.start()
    connection = serve.connect("kept")
    roles = [serve.child(role) for role in ("controller", "drone", "proxy")]
    serve.stop(how)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in roles), 20, "roles gone")
    assert serve.shim_of(connection["backend_id"])
    serve.start()
    again = serve.connect("kept")
    assert again["backend_id"] == connection["backend_id"] and not again["spawned"]
    assert request("GET", again["url"]).status == 200
    assert request("GET", connection["url"]).status == 200  # the old link too
    serve.stop()
    assert serve.leftovers() == []


@pytest.mark.fault
def test_backends_are_known_to_have_ended_when_something_else_cannot_be_removed(tmp_path):
    serve = Serve(tmp_path)
    serve.import_image("echo", EXAMPLES / "echo.tar")
    serve.start()
    strange = None
    try:
        serve.connect("k")
        memory, = inventory.memory(serve.instance)
        strange = memory / "of-somebody-else"
        strange.touch()
        assert serve.stop() == 0
        assert f"remove {memory}: Directory not empty" in serve.log_text()
        assert inventory.journal_live(serve.data) == {}
    finally:
        serve.stop()
        if strange:
            strange.unlink()
            memory.rmdir()
    assert serve.leftovers() == []


def test_a_tight_umask_takes_nothing_from_roles_and_backends(tmp_path):
    """As service managers and careful shells have it: modes are what the program says."""
    serve = Serve(tmp_path)
    os.chmod(tmp_path, 0o711)
    before = os.umask(0o077)
    try:
        serve.import_image("echo", EXAMPLES / "echo.tar")
        serve.start()
        connection = serve.connect("k")
        assert request("GET", connection["url"]).status == 200
        children = pathlib.Path(f"/proc/{serve.shim_of(connection['backend_id'])}/task")
        root = next(pathlib.Path(f"/proc/{pid}/root") for task in children.iterdir()
                    for pid in (task / "children").read_text().split())
        modes = {name: stat.S_IMODE(os.stat(root / name).st_mode)
                 for name in ("", "etc", "etc/hosts", "etc/resolv.conf")}
        assert modes == {"": 0o755, "etc": 0o755, "etc/hosts": 0o644, "etc/resolv.conf": 0o644}
        assert stat.S_IMODE(serve.data.stat().st_mode) == 0o711  # the controller's user gets through
        assert stat.S_IMODE((serve.data / "drone" / "drone.db").stat().st_mode) == 0o600
    finally:
        os.umask(before)
        serve.stop()
    assert serve.leftovers() == []


@pytest.mark.fault
def test_without_root_it_says_what_is_missing(tmp_path):
    os.chmod(tmp_path, 0o777)
    result = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", str(PLANE), "serve", "--data-dir",
         str(tmp_path / "d")], capture_output=True, text=True, timeout=30)
    assert result.returncode != 0
    assert "root" in result.stderr


@pytest.mark.fault
def test_an_unwritable_data_directory_is_named(tmp_path):
    result = subprocess.run([str(PLANE), "serve", "--data-dir", "/proc/plane-data"],
                            capture_output=True, text=True, timeout=30)
    assert result.returncode != 0
    assert "/proc/plane-data" in result.stderr
