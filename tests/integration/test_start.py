"""How a backend's command is found and started, and what is said when it cannot be."""

import json
import os
import signal
import subprocess
import tempfile

import pytest

from archives import docker_archive, member, tar
from serve import EXAMPLES, PLANE, Serve, free_port, request, wait_until

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def plane():
    with tempfile.TemporaryDirectory(prefix="plane-start-") as directory:
        serve = Serve(directory)
        serve.start()
        yield serve
        serve.stop()


@pytest.fixture(scope="module")
def program():
    return (EXAMPLES / "echo").read_bytes()


def image_of(plane, tmp_path, name, *members, **config):
    path = tmp_path / f"{name}.tar"
    path.write_bytes(docker_archive([tar(*members)], config))
    plane.import_image(name, path)


def end_of(plane, name, **more):
    backend = plane.connect(image=name, wait=False, **more)["backend_id"]
    return plane.wait_status(backend, "terminated")["message"]


@pytest.mark.parametrize("name, where, command, variables", [
    ("default-path", "usr/local/bin/program", "program", []),
    ("own-path", "opt/tools/program", "program", ["PATH=/nowhere:/opt/tools"]),
    ("first-that-works", "b/program", "program", ["PATH=/a:/b"]),
    ("relative", "srv/program", "./program", [])])
def test_a_command_is_found(plane, tmp_path, program, name, where, command, variables):
    others = [member("a/program", b"not executable", mode=0o644), member("srv/file", b"")]
    image_of(plane, tmp_path, name, *others, member(where, program, mode=0o755),
             Entrypoint=[command], Env=variables, WorkingDir="/srv")
    connection = plane.connect(image=name)
    assert request("GET", connection["url"]).status == 200


def test_the_environment_of_the_image_reaches_the_backend(plane, tmp_path, program):
    passwd = member("etc/passwd", b"root:x:0:0::/root:/x\napp:x:1000:1000::/home/app:/x\n")
    image_of(plane, tmp_path, "variables", passwd, member("program", program, mode=0o755),
             Entrypoint=["/program"], User="app",
             Env=["A=image", "B=image", "PORT=1", "SESSION_BACKEND_KEY=forged", "EMPTY="])
    seen = request("GET", plane.connect("its key", image="variables", env={"B": "request"})["url"])
    env = seen.json()["env"]
    assert env["A"] == "image" and env["B"] == "request" and env["EMPTY"] == ""
    assert env["PORT"] == "8080" and env["SESSION_BACKEND_KEY"] == "its key"
    assert env["HOME"] == "/home/app"
    assert env["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    own = request("GET", plane.connect(image="variables", env={"HOME": "/x", "PATH": "/y"})["url"])
    assert own.json()["env"]["HOME"] == "/x" and own.json()["env"]["PATH"] == "/y"


@pytest.mark.parametrize("name, members, config, told", [
    ("missing", [], {"Entrypoint": ["nowhere"]}, "no such command nowhere in image missing"),
    ("not-executable", [member("bin/program", b"text", mode=0o644)],
     {"Entrypoint": ["program"]}, "Permission denied"),
    ("no-program", [member("program", b"\x7fELF but not really", mode=0o755)],
     {"Entrypoint": ["/program"]}, "Exec format error"),
    ("no-interpreter", [member("program", b"#!/bin/nothing\n", mode=0o755)],
     {"Entrypoint": ["/program"]}, "/program"),
    ("a-directory", [member("program/file", b"")], {"Entrypoint": ["/program"]},
     "Permission denied"),
    ("no-workdir", [member("srv", b"a file")], {"Entrypoint": ["/x"], "WorkingDir": "/srv"},
     "work directory"),
    ("closed-workdir", [member("srv/x", b""), member("srv", None, kind=b"5", mode=0o700)],
     {"Entrypoint": ["/x"], "WorkingDir": "/srv", "User": "1000:1000"}, "work directory")])
def test_why_a_command_does_not_start_is_told(plane, tmp_path, name, members, config, told):
    image_of(plane, tmp_path, name, member("etc/x", b""), *members, **config)
    message = end_of(plane, name)
    assert told in message and name in message, message


def test_what_is_too_large_to_start_is_refused(plane, tmp_path, program):
    image_of(plane, tmp_path, "large", member("program", program, mode=0o755),
             Entrypoint=["/program"])
    assert "too" in end_of(plane, "large", env={"A": "x" * 200_000})  # execve(2): 128 KiB a string
    assert "disk" in end_of(plane, "large", resource_limits={"disk_limit_bytes": 1 << 20})
    assert plane.connect(image="large", env={"A": "x" * 100_000})["spawned"]


def test_a_server_on_low_ports_in_a_network_of_its_own(tmp_path):
    """Controller and proxy are unprivileged; the ports below 1024 are theirs all the same."""
    serve = Serve(tmp_path)
    serve.listen, serve.proxy = "127.0.0.1:81", "127.0.0.1:80"
    serve.import_image("echo", EXAMPLES / "echo.tar")
    log = open(tmp_path / "log", "w+")
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"', *serve.command()],
        stdout=log, stderr=log)
    wait_until(lambda: "connect with" in (tmp_path / "log").read_text(), 30, "ready")

    def inside(*words):
        return subprocess.run(["nsenter", f"--net=/proc/{process.pid}/ns/net", *words],
                              capture_output=True, text=True, timeout=60, check=True).stdout
    made = json.loads(inside(str(PLANE), "admin", "--controller", "http://127.0.0.1:81", "connect",
                             "--image", "echo", "--key", "k", "--cluster", serve.cluster,
                             "--json").splitlines()[0])
    path = made["url"].split("/", 3)[3]
    answer = json.loads(inside("curl", "-sf", "-H", f"Host: {serve.cluster}",
                               f"http://127.0.0.1:80/{path}"))
    assert answer["env"]["SESSION_BACKEND_KEY"] == "k"
    children = open(f"/proc/{process.pid}/task/{process.pid}/children").read().split()
    capabilities = {open(f"/proc/{pid}/cmdline").read().split("\0")[1]: [
        line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith("CapEff")][0]
        for pid in children}
    bind_service = f"{1 << 10:016x}"
    assert capabilities["controller"] == capabilities["proxy"] == bind_service
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=40) == 0
    log.close()


def test_drone_and_proxy_from_files(tmp_path):
    """The roles one by one, as somebody runs them without `plane serve`."""
    ports = {"controller": free_port(), "proxy": free_port()}
    cluster, url = f"localhost:{ports['proxy']}", f"http://127.0.0.1:{ports['controller']}"
    environment = {**os.environ, "PLANE_DATA_DIR": str(tmp_path / "data"), "PLANE_CONTROLLER": url}
    roles = {
        "Controller": {"db_url": f"sqlite:{tmp_path}/c.db", "id": "co-one", "controller_url": url,
                       "bind_addr": f"127.0.0.1:{ports['controller']}", "best_of": 1},
        "Proxy": {"name": "px-one", "controller_url": url, "cluster": cluster,
                  "port_config": {"http_port": ports["proxy"]}},
        "Drone": {"name": "dr-one", "controller_url": url, "cluster": cluster, "pool": "blue",
                  "ip": "127.0.0.1",
                  "executor_config": {"docker": {"mount_base": str(tmp_path / "mounts")}}}}
    subprocess.run([str(PLANE), "image", "import", "echo", str(EXAMPLES / "echo.tar")], check=True,
                   env=environment, capture_output=True)
    processes = []
    log = open(tmp_path / "log", "w")
    for role, content in roles.items():
        (tmp_path / f"{role}.json").write_text(json.dumps({role: content}))
        processes.append(subprocess.Popen([str(PLANE), "run-config", str(tmp_path / f"{role}.json")],
                                          env=environment, stdout=log, stderr=log))

    def connect(pool):
        return subprocess.run([str(PLANE), "admin", "connect", "--image", "echo", "--pool", pool,
                               "--cluster", cluster, "--key", "k", "--json"], env=environment,
                              capture_output=True, text=True, timeout=60)
    wait_until(lambda: connect("blue").returncode == 0, 30, "a backend")
    made = json.loads(connect("blue").stdout.splitlines()[0])
    assert request("GET", made["url"]).status == 200
    listed = subprocess.run([str(PLANE), "admin", "backends", "--json"], env=environment,
                            capture_output=True, text=True, timeout=60, check=True).stdout
    assert [json.loads(line)["drone"] for line in listed.splitlines()] == ["dr-one"]
    request("POST", f"{url}/ctrl/b/{made['backend_id']}/hard-terminate")
    subprocess.run([str(PLANE), "admin", "backend-status", made["backend_id"]], env=environment,
                   check=True, capture_output=True, timeout=60)
    assert "NoDroneAvailable" in connect("red").stderr
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) == 0, (tmp_path / "log").read_text()
    log.close()


@pytest.mark.parametrize("content, told", [
    ({"Drone": {"name": "dr-1", "controller_url": "http://127.0.0.1:1", "cluster": "a", "pool": "",
                "executor_config": {"unix_socket": {"socket_path": "/x"}}}}, "unix_socket"),
    ({"Drone": {"name": "dr-1", "controller_url": "http://127.0.0.1:1", "cluster": "a", "pool": "",
                "executor_config": {"docker": {"runtime": "runsc"}}}}, "docker: runtime"),
    ({"Drone": {"name": "dr-1", "controller_url": "http://127.0.0.1:1", "cluster": "a"}}, "pool"),
    ({"Drone": {"name": "dr-1", "controller_url": "http://127.0.0.1:1", "cluster": "a", "pool": "",
                "ip": "0.0.0.0"}}, "no address of a machine"),
    ({"Drone": {"name": "dr-1", "controller_url": "http://127.0.0.1:1", "cluster": "a", "pool": "",
                "ip": "10.1.2.3", "proxy_allow": ["10.1.2.4", "x"]}}, "no IPv4 network"),
    ({"Drone": {"name": "dr-1", "controller_url": "http://127.0.0.1:1", "cluster": "a", "pool": "",
                "ip": "10.1.2.3", "proxy_allow": "10.1.2.4"}}, "proxy_allow"),
    ({"Proxy": {"name": "px-1", "controller_url": "http://127.0.0.1:1", "cluster": "a",
                "port_config": {"http_port": 0}, "cert_path": "/x"}}, "cert_path")])
def test_what_a_file_asks_for_in_vain_is_told(tmp_path, content, told):
    path = tmp_path / "role.json"
    path.write_text(json.dumps(content))
    result = subprocess.run([str(PLANE), "run-config", str(path)], capture_output=True, text=True,
                            timeout=30, env={**os.environ, "PLANE_DATA_DIR": str(tmp_path / "d")})
    assert result.returncode == 1 and told in result.stderr and "role.json" in result.stderr
