"""The units for systemd: what they say is understood, and each role tells when it is ready."""

import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess

import pytest

from serve import PLANE, ROOT, free_port
from test_controller import Controller

pytestmark = pytest.mark.timeout(90)
UNITS = sorted((ROOT / "packaging/systemd").glob("*.service"))
CLUSTER = "localhost:9090"


def words_of(unit):
    """The command of a unit, without the variable part."""
    line = re.search(r"^ExecStart=/usr/local/bin/plane (.*)$", unit.read_text(), re.MULTILINE)
    return [word for word in shlex.split(line.group(1)) if word != "$FLAGS"]


def test_there_is_a_unit_for_each_way_to_run_it():
    assert {words_of(unit)[0] for unit in UNITS} == {"serve", "controller", "drone", "proxy"}


def test_systemd_understands_the_units(tmp_path):
    copies = []
    for unit in UNITS:
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/usr/local/bin/plane", str(PLANE))
                        .replace("User=plane", "User=daemon").replace("Group=plane\n", ""))
        copies.append(str(copy))
    result = subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no", *copies],
                            capture_output=True, text=True)
    assert result.returncode == 0 and not result.stderr, result.stderr


@pytest.mark.parametrize("unit", ["plane.service", "plane-drone.service"])
def test_stopping_what_runs_backends_kills_no_backend(unit):
    text = (ROOT / "packaging/systemd" / unit).read_text()
    assert "\nKillMode=process\n" in text and "\nOOMPolicy=continue\n" in text


class Manager:
    """What systemd is to a role: a datagram socket that hears of readiness."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(60)
        self.environment = {**os.environ,
                            "NOTIFY_SOCKET": address.replace("\0", "@", 1)}

    def start(self, log, *words):
        return subprocess.Popen([str(PLANE), *map(str, words)], env=self.environment, stdout=log,
                                stderr=log, stdin=subprocess.DEVNULL)


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    is_path = request.param == "path"
    heard = Manager(str(tmp_path / "notify") if is_path else f"\0plane-test-{os.getpid()}")
    yield heard
    heard.socket.close()


def flags_of(role, directory, controller):
    url = f"http://{controller.address}"
    return {
        "controller": ["--db", f"sqlite:{directory}/new.db", "--port", 0],
        "drone": ["--controller-url", url, "--cluster", CLUSTER, "--end-backends", "--data-dir",
                  directory / "drone"],
        "proxy": ["--controller-url", url, "--cluster", CLUSTER, "--host", "127.0.0.1",
                  "--http-port", free_port()],
        "serve": ["--data-dir", directory / "serve", "--listen", f"127.0.0.1:{free_port()}",
                  "--proxy-listen", f"127.0.0.1:{free_port()}"],
    }[role]


@pytest.fixture
def other(tmp_path):
    """The controller of drone and proxy: they are ready when they have one."""
    started = Controller(tmp_path)
    yield started
    assert started.stop() == 0


@pytest.mark.parametrize("role", ["controller", "drone", "proxy", "serve"])
def test_a_role_tells_the_service_manager_once_that_it_is_ready(role, manager, other, tmp_path):
    with open(tmp_path / "log", "wb") as log:
        process = manager.start(log, role, *flags_of(role, tmp_path, other))
        try:
            assert manager.socket.recv(100) == b"READY=1", pathlib.Path(log.name).read_text()
        finally:
            process.send_signal(signal.SIGINT)
            status = process.wait(60)
    assert status == 0, pathlib.Path(log.name).read_text()
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.socket.recv(100)  # the roles of `plane serve` say nothing


def test_a_service_manager_that_is_gone_does_no_harm(tmp_path):
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "nobody")}
    read, write = os.pipe()
    process = subprocess.Popen(
        [str(PLANE), "controller", "--db", f"sqlite:{tmp_path}/c.db", "--port", "0", "--ready-fd",
         str(write)], env=environment, pass_fds=[write], stderr=subprocess.PIPE)
    os.close(write)
    with os.fdopen(read) as ready:
        assert ready.read().startswith("ready ")
    process.send_signal(signal.SIGTERM)
    assert b"tell the service manager" in process.communicate(timeout=30)[1]
    assert process.returncode == 0
