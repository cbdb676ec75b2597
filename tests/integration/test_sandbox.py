"""What a backend cannot do: each attempt to get out of its sandbox ends in a refusal."""

import contextlib
import ctypes
import os
import pathlib
import socket

import pytest

import sandboxes
from archives import write
from machine import INSIDE, OUTSIDE, Machine
from sandboxes import get, instance, start_neighbour
from serve import request, wait_until

pytestmark = pytest.mark.timeout(100)
TRACE_KEY, TRACE_NAME = 0x506C616E, "plane-escapes"  # as in escapes.h
KINDS = ["escapes", "escapes-root"]


@pytest.fixture(scope="module")
def machine():
    with Machine() as machine:
        yield machine


@pytest.fixture(scope="module")
def plane(machine):
    with instance() as serve:
        yield serve


@pytest.fixture(scope="module")
def neighbour(plane):
    return start_neighbour(plane)


@pytest.fixture(scope="module")
def stranger(machine):
    """The same in another instance on the machine."""
    with instance() as serve:
        yield start_neighbour(serve)


@contextlib.contextmanager
def host_objects():
    """What the host itself left with the same names."""
    libc = ctypes.CDLL(None, use_errno=True)
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    abstract.bind("\0" + TRACE_NAME)
    abstract.listen()
    create = 0o1666  # IPC_CREAT, and everybody may
    shared, semaphores = libc.shmget(TRACE_KEY, 4096, create), libc.semget(TRACE_KEY, 1, create)
    queue = libc.mq_open(f"/{TRACE_NAME}".encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
    assert min(shared, semaphores, queue) >= 0
    try:
        yield
    finally:
        libc.shmctl(shared, 0, None)
        libc.semctl(semaphores, 0, 0)
        libc.mq_unlink(f"/{TRACE_NAME}".encode())
        os.close(queue)
        abstract.close()


@pytest.fixture(scope="module")
def targets(machine, plane, neighbour, stranger):
    """What a backend must not reach, and what the host itself left with the same names."""
    with host_objects():
        yield {**sandboxes.targets(machine, plane, neighbour["address"]),
               "TRY_STRANGER": f"{stranger['address']}:{sandboxes.TRACE_TCP_PORT}",
               "TRY_CONTROL": control_socket(plane)}


def control_socket(plane):
    """A path by which the drone reaches a shim; which directory it is depends on the host."""
    path = next(path for place in (f"/run/plane/{plane.instance}", f"/dev/shm/plane-{plane.instance}")
                for path in pathlib.Path(place).glob("*/control"))
    assert path.is_socket()
    return str(path)


@pytest.mark.parametrize("image", KINDS)
def test_every_attempt_is_refused(machine, plane, targets, neighbour, stranger, image):
    connection = plane.connect(image=image, env=targets)
    heard = [get(other, "heard") for other in (neighbour, stranger)]
    machine.sniffed()
    answer = request("GET", connection["url"], timeout=90).json()
    assert len(answer) > 150
    assert {name: how for name, how in answer.items() if not how.startswith("refused: ")} == {}
    assert plane.status(connection["backend_id"])["status"] == "ready"
    assert [get(other, "heard") for other in (neighbour, stranger)] == heard
    assert [pair for pair in machine.sniffed() if pair[1].startswith("169.254.")] == []


@pytest.mark.parametrize("image", KINDS)
def test_what_is_allowed_works(machine, plane, targets, image):
    connection = plane.connect(image=image, env=targets)
    machine.sniffed()
    controls = request("GET", connection["url"] + "controls").json()
    assert controls == {"outside": "ALLOWED", "outside_udp": "ALLOWED"}
    assert (INSIDE, OUTSIDE) in machine.sniffed()


@pytest.mark.parametrize("image", KINDS)
def test_privileges_are_at_most_dockers(plane, image):
    connection = plane.connect(image=image)
    status = dict(line.split(":", 1) for line in get(connection, "status").splitlines())
    docker_default = 0x00000000a80425fb
    assert int(status["NoNewPrivs"]) == 1 and int(status["Seccomp"]) == 2
    for kind in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        assert int(status[kind], 16) & ~docker_default == 0, (kind, status[kind])
    assert int(status["CapInh"], 16) == 0
    assert image == "escapes-root" or int(status["CapEff"], 16) == 0


def queued_signals():
    """Of the host's root: the kernel counts by user."""
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split("SigQ:")[1].split("/")[0])


def test_a_backend_uses_up_only_its_own_share(plane):
    greedy, other = plane.connect(image="escapes-root"), plane.connect(image="escapes-root")
    before = queued_signals()
    taken = request("GET", greedy["url"] + "exhaust").json()
    assert 16 <= taken["inotify"] < 10000 and 1000 < taken["signals"] < 1000000
    assert get(other, "inotify") == "made"
    assert queued_signals() < before + 500
    own = ctypes.CDLL(None, use_errno=True).inotify_init()
    assert own >= 0, os.strerror(ctypes.get_errno())
    os.close(own)


def test_a_tree_of_any_depth_goes_with_its_sandbox(plane):
    connection = plane.connect(image="escapes")
    assert get(connection, "nest") == "2000"
    deep = [path for path in (plane.data / "drone" / "sandboxes").glob("*/upper/tmp/deep")]
    assert len(deep) == 1
    sandbox = deep[0].parents[2]
    number = sandbox.stat().st_ino
    request("POST", f"{plane.api}/ctrl/b/{connection['backend_id']}/hard-terminate")
    plane.wait_status(connection["backend_id"], "terminated")
    wait_until(lambda: not sandbox.exists() or sandbox.stat().st_ino != number, 30, "removal")


def test_a_working_directory_is_no_way_out(plane, tmp_path):
    """CVE-2024-21626: a directory that the runtime left open."""
    image = write(tmp_path, "i.tar", sandboxes.make_image())
    outcomes = []
    for fd in range(3, 16):
        plane.import_image(f"in-{fd}", image, "--user", "root", "--workdir", f"/proc/self/fd/{fd}")
        connection = plane.connect(image=f"in-{fd}", env={"TRY_PATH": str(plane.data)}, wait=False)
        state = wait_until(lambda: plane.status(connection["backend_id"])["status"] in
                           ("ready", "terminated") and plane.status(connection["backend_id"]), 20)
        outcomes.append(state["status"])
        if state["status"] == "ready":
            answer = request("GET", connection["url"], timeout=60).json()
            assert answer["working_directory"].startswith("refused: "), (fd, answer)
    assert "terminated" in outcomes


def test_a_script_cannot_name_the_runtime_as_its_interpreter(plane, tmp_path):
    """CVE-2019-5736: what runs then is the runtime's own program, for others to overwrite."""
    image = write(tmp_path, "i.tar", sandboxes.make_image("/script", b"#!/proc/self/exe\n"))
    plane.import_image("script", image, "--user", "root")
    connection = plane.connect(image="script", wait=False)
    state = plane.wait_status(connection["backend_id"], "terminated")
    assert "execute /script in image script" in state["message"], state
    get(plane.connect(image="escapes"), "inotify")


def test_what_is_planted_in_the_data_mount_hurts_nobody(plane):
    first = plane.connect(image="escapes-root", mount="garden")
    assert get(first, "plant") == "set linked"
    assert (plane.mounts / "garden" / "program").stat().st_mode & 0o4000
    answer = request("GET", first["url"], timeout=90).json()
    assert answer["mount_flags"].startswith("refused: "), answer["mount_flags"]
    second = plane.connect(image="escapes", mount="garden/link", wait=False)
    state = plane.wait_status(second["backend_id"], "terminated")
    assert "mount directory garden/link" in state["message"], state
