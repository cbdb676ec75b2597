"""`plane admin` as an operator uses it: what it prints, what it refuses, what it waits for."""

import json
import re
import subprocess
import tempfile

import pytest

from serve import EXAMPLES, PLANE, Serve, free_port, request

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def plane():
    with tempfile.TemporaryDirectory(prefix="plane-admin-") as directory:
        serve = Serve(directory)
        serve.import_image("echo", EXAMPLES / "echo.tar")
        serve.start()
        yield serve
        serve.stop()


def admin(plane, *words):
    return plane.plane("admin", *words).stdout


def refused(plane, *words):
    result = plane.plane("admin", *words, check=False)
    assert result.returncode == 1 and "error: " in result.stderr, result
    return result.stderr


def the_drone(plane):
    state = json.loads(admin(plane, "cluster-state", plane.cluster, "--json"))
    return state["drones"][0]["node"]["name"]["Drone"]


def test_status_names_both_versions(plane):
    lines = admin(plane, "status").splitlines()
    assert lines[0] == "Status: ok"
    assert re.fullmatch(r"Version: (\S+) \(client: \1\)", lines[1])
    assert re.fullmatch(r"Hash: (\S+) \(client: \1\)", lines[2])


def test_the_state_of_a_cluster(plane):
    drones, proxies = admin(plane, "cluster-state", plane.cluster).split("\n\n")
    assert re.match(r"DRONE .*\ndr-\S+ +localhost:\d+ +- +ready +\d+ ", drones)
    assert re.match(r"PROXY .*\npx-\S+ +localhost:\d+ +co-\S+ +\d+s ", proxies)
    assert refused(plane, "cluster-state", "not a cluster")
    elsewhere = admin(plane, "cluster-state", "elsewhere:1").splitlines()
    assert [line.split()[:1] for line in elsewhere] == [["DRONE"], [], ["PROXY"]]


def test_a_drained_drone_gets_no_backend_until_it_is_undrained(plane):
    drone = the_drone(plane)
    where = ["--cluster", plane.cluster, "--drone", drone]
    kept = plane.connect("kept")
    assert admin(plane, "drain", *where) == f"Drone {drone} draining initiated.\n"
    assert admin(plane, "drain", *where) == f"Drone {drone} was already draining.\n"
    assert json.loads(admin(plane, "drain", *where, "--json")) == {"updated": False}
    assert "drone" in refused(plane, "connect", "--image", "echo", "--key", "new")
    assert "Reusing backend" in admin(plane, "connect", "--image", "echo", "--key", "kept")
    assert request("GET", kept["url"]).status == 200
    assert " draining " in admin(plane, "cluster-state", plane.cluster)
    assert admin(plane, "undrain", *where) == f"Drone {drone} takes backends again.\n"
    assert admin(plane, "undrain", *where) == f"Drone {drone} was not draining.\n"
    assert "Created backend" in admin(plane, "connect", "--image", "echo", "--key", "new")
    assert "Drone does not exist" in refused(plane, "drain", "--cluster", plane.cluster,
                                             "--drone", "dr-nobody")


def test_backends_are_listed_by_what_is_asked(plane):
    first, second = plane.connect("list-1"), plane.connect("list-2")
    admin(plane, "terminate", second["backend_id"])
    head, *rows = admin(plane, "backends").splitlines()
    assert head.split() == ["BACKEND", "STATUS", "KEY", "CLUSTER", "DRONE", "MEMORY", "CPU", "SINCE"]
    row = next(row.split() for row in rows if row.startswith(first["backend_id"]))
    assert row[1:5] == ["ready", "list-1", plane.cluster, the_drone(plane)]
    column = head.index("STATUS")
    assert all(row[column - 1] == " " and row[column] != " " for row in rows)
    by_key = admin(plane, "backends", "--key", "list-2", "--json").splitlines()
    assert [json.loads(line)["backend_id"] for line in by_key] == [second["backend_id"]]
    ready = admin(plane, "backends", "--status", "ready", "--cluster", plane.cluster)
    assert first["backend_id"] in ready and second["backend_id"] not in ready
    assert len(admin(plane, "backends", "--key", "no such & key").splitlines()) == 1
    assert "status" in refused(plane, "backends", "--status", "nonsense")


def test_terminating_waits_for_the_end_unless_told_otherwise(plane):
    backend = plane.connect("end-soft")["backend_id"]
    lines = admin(plane, "terminate", backend).splitlines()
    assert lines[0] == f"Sent termination signal: {backend}"
    assert lines[-1].startswith("Status: terminated at ")
    backend = plane.connect("end-hard")["backend_id"]
    lines = admin(plane, "terminate", "--hard", "--json", backend).splitlines()
    assert json.loads(lines[-1])["termination_kind"] == "hard"
    backend = plane.connect("end-later")["backend_id"]
    assert admin(plane, "terminate", "--immediate", backend).count("\n") == 1
    plane.wait_status(backend, "terminated")
    assert "Backend does not exist" in refused(plane, "terminate", "no-such-backend")


def test_the_states_of_a_backend_are_printed_until_its_end(plane):
    backend = plane.connect("followed")["backend_id"]
    follower = subprocess.Popen(
        [str(PLANE), "admin", "--controller", plane.api, "backend-status", backend],
        stdout=subprocess.PIPE, text=True)
    seen = []
    while not any(line.startswith("Status: ready") for line in seen):
        seen.append(follower.stdout.readline())
        assert seen[-1], seen
    request("GET", f"{plane.connect('followed')['url']}exit?code=7")
    rest = follower.stdout.read()
    assert follower.wait(timeout=20) == 0
    follower.stdout.close()
    assert rest.splitlines()[-1].startswith("Status: terminated at ")
    assert "exit code 7" in rest
    assert refused(plane, "backend-status", "no-such-backend")


def test_the_flags_of_connect_reach_the_backend(plane):
    text = admin(plane, "connect", "--image", "echo", "--key", "flags", "--namespace", "ns",
                 "--tag", "t1", "--id", "chosen-id", "--env", "A=1=2", "--env", "EMPTY",
                 "--memory-mib", "64", "--user", "alice", "--lifetime-limit-seconds", "600")
    assert "Created backend: chosen-id\n" in text
    url = re.search(r"^URL: (\S+)$", text, re.M).group(1)
    seen = request("GET", url).json()
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert headers["x-verified-username"] == "alice"
    assert seen["env"]["A"] == "1=2" and seen["env"]["EMPTY"] == ""
    assert seen["env"]["SESSION_BACKEND_KEY"] == "flags"
    assert "tag" in refused(plane, "connect", "--image", "echo", "--key", "flags",
                            "--namespace", "ns", "--tag", "other")
    assert request("GET", f"{url}hog?mb=256").status != 200
    assert "memory" in plane.wait_status("chosen-id", "terminated")["message"]
    assert "No active drone" in refused(plane, "connect", "--image", "echo", "--pool", "nowhere")


def test_a_static_link_stays_the_same(plane):
    words = ["connect", "--image", "echo", "--key", "static", "--static-token", "--json",
             "--immediate"]
    first, second = (json.loads(admin(plane, *words)) for _ in range(2))
    assert first["url"] == second["url"] and second["spawned"] is False


@pytest.mark.parametrize("flag", [b"--key", b"--env", b"--env=A", b"--mount", b"--image", b"--id",
                                  b"--user"])
def test_text_that_is_not_utf8_is_refused_and_starts_nothing(plane, flag):
    def names():
        return [json.loads(line)["backend_id"]
                for line in admin(plane, "backends", "--json").splitlines()]
    before = names()
    words = [flag + b"=\xff"] if b"=" in flag else [flag, b"\xff"]
    image = [] if flag == b"--image" else [b"--image", b"echo"]
    result = subprocess.run([str(PLANE).encode(), b"admin", b"--controller", plane.api.encode(),
                             b"connect", *image, *words], capture_output=True, timeout=30)
    assert result.returncode == 1 and b"UTF-8" in result.stderr
    assert names() == before


def test_a_txt_value_is_set_by_one_proxy_at_a_time(plane):
    words = ["put-dummy-dns", "--cluster", "dns.test"]
    assert re.fullmatch(r'Set the TXT value of dns\.test to "Dummy message from px-\S+"\n',
                        admin(plane, *words))
    assert "lease" in refused(plane, *words)


def test_a_controller_that_is_none_is_told(plane):
    nobody = f"http://127.0.0.1:{free_port()}"
    for words in (["put-dummy-dns", "--cluster", "a"], ["backends"],
                  ["backend-status", "x"], ["cluster-state", "a"]):
        result = subprocess.run([str(PLANE), "admin", "--controller", nobody, *words],
                                capture_output=True, text=True, timeout=60)
        assert result.returncode == 1 and "error: " in result.stderr, words
    wrong = subprocess.run([str(PLANE), "admin", "--controller", f"http://{plane.proxy}", "status"],
                           capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 1 and wrong.stdout == ""


def test_images_are_listed_shown_and_removed(plane):
    plane.import_image("second", EXAMPLES / "echo.tar")
    data = ["--data-dir", str(plane.data)]
    rows = plane.plane("image", "list", *data).stdout.splitlines()
    assert any(row.split()[0].endswith("second:latest") or row.split()[0] == "second"
               for row in rows[1:]), rows
    shown = plane.plane("image", "show", "second", *data).stdout
    assert "/echo" in shown and "1000" in shown
    assert plane.plane("image", "remove", "second", *data).returncode == 0
    for words in (["show", "second"], ["remove", "second"]):
        result = plane.plane("image", *words, *data, check=False)
        assert result.returncode == 1 and "second" in result.stderr
    assert plane.connect("after-removal")["spawned"] is True
